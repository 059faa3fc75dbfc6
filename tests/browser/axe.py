"""What axe-core finds wrong with a page for people who do not see it, or use no mouse."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

__all__ = ["violations"]

_GRAVE = ("serious", "critical")

_RUN = """async selector => {
  const { violations } = await axe.run(selector, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(node => [impact, id, node.target.join(" "), node.html]));
}"""


def violations(page: Page, selector: str) -> list[str]:
    """`RULE: PLACE: MARKUP` of each serious or critical one within what `selector` finds."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[list[str]] = page.evaluate(_RUN, selector)
    return [f"{rule}: {place}: {markup[:300]}" for impact, rule, place, markup in found if impact in _GRAVE]
