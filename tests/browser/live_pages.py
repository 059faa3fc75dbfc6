"""The live view on a plain page, without a kernel or a frontend: each turn in an article, and a marker behind each.

The model of each view is ours: `documents[AT]` is what it has, `sent[AT]` is what it was sent, in the page's window.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files

from lash_nb.views.document import Document

__all__ = ["page_of"]

_HEAD = """<!DOCTYPE html><html lang="en"><head><title>ours</title><style>
body { margin: 8px; font: 14px sans-serif }
STYLE
</style><script type="module">
SCRIPT
const documents = DOCUMENTS;
window.sent = documents.map(() => []);
documents.forEach((one, at) => {
  const model = {
    get: name => (name === "document" ? one : undefined),
    on() {},
    off() {},
    send: content => window.sent[at].push(content),
  };
  const widget = frontend();
  widget.initialize({ model });
  widget.render({ model, el: document.querySelectorAll("article")[at] });
});
window.drawn = true;
</script></head><body>"""


def page_of(documents: Sequence[Document]) -> str:
    """Their page; `window.drawn` says that they are there."""
    whole = [
        {"number": 0, "elapsed_s": 0.0, "blocks": [[key, dict(fields)] for key, fields in one.items()]}
        for one in documents
    ]
    script, exports = re.subn(r"^export default ", "const frontend = ", _static("turn.js"), flags=re.MULTILINE)
    assert exports == 1
    head = _HEAD.replace("STYLE", _static("turn.css")).replace("SCRIPT", script)
    head = head.replace("DOCUMENTS", json.dumps(whole).replace("<", "\\u003c"))
    parts = [f'<article></article><aside id="behind-{number}">behind {number}</aside>' for number in range(len(whole))]
    return head + "\n".join(parts) + "</body></html>"


def _static(name: str) -> str:
    return (files("lash_nb.views") / "static" / name).read_text(encoding="utf-8")
