"""Which texts on a page cannot be read: less contrast to their background than WCAG's AA asks for."""

from __future__ import annotations

from playwright.sync_api import Locator

__all__ = ["unreadable"]

_SCRIPT = """outputs => {
  const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const luminance = colour => {
    const [r, g, b] = channels(colour).slice(0, 3).map(c => {
      c /= 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0.5) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const output of outputs) {
    const texts = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const element = text.parentElement;
      if (!text.data.trim() || !element.checkVisibility()) continue;
      const [dark, light] = [luminance(getComputedStyle(element).color), luminance(background(element))]
        .sort((a, b) => a - b);
      const contrast = (light + 0.05) / (dark + 0.05);
      if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${text.data.trim()}`);
    }
  }
  return found;
}"""


def unreadable(outputs: Locator) -> list[str]:
    """`CONTRAST: TEXT` of each such text in these outputs."""
    found: list[str] = outputs.evaluate_all(_SCRIPT)
    return found
