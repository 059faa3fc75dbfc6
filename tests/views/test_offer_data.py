"""What is shown of an offered cell, and what a page is told of it."""

from __future__ import annotations

import json

import pytest

from lash_nb.views.offer_data import OFFER_MIME, offer_bundle

from .hostile_strings import HOSTILE

BEFORE = "# the means\ndf['x'].mean()\n"
SOURCE = "# the means\ndf['a'].mean()\n"
DIFFERENCE = """\
--- before
+++ after
@@ -1,2 +1,2 @@
 # the means
-df['x'].mean()
+df['a'].mean()"""


def test_it_shows_the_cell_and_what_changes() -> None:
    bundle = offer_bundle(title="Cell [3]", source=SOURCE, before=BEFORE, cell_id="c1", note="It is `a`, **not** x.")
    assert bundle["text/plain"] == (
        "── Cell [3] ──\n\nIt is `a`, **not** x.\n\n# the means\ndf['a'].mean()\n\n── What changes ──\n\n" + DIFFERENCE
    )
    assert bundle["text/markdown"] == (
        "#### Cell \\[3\\]\n\nIt is `a`, **not** x.\n\n```python\n# the means\ndf['a'].mean()\n```\n\nWhat changes:\n\n"
        f"```diff\n{DIFFERENCE}\n```"
    )
    page = str(bundle["text/html"])
    assert "<h4>Cell [3]</h4>\n<p>It is <code>a</code>, <strong>not</strong> x.</p>" in page
    assert "<pre><code># the means\ndf[&#x27;a&#x27;].mean()</code></pre>" in page
    assert "<summary>What changes</summary>" in page
    assert "\n\n" not in page
    assert bundle[OFFER_MIME] == {"version": 1, "source": SOURCE, "before": BEFORE, "cell_id": "c1"}
    assert offer_bundle(title="Cell [3]", source=SOURCE, before=BEFORE, cell_id="c1", note="It is `a`, **not** x.") == (
        bundle
    )


def test_without_a_note_and_a_cell_before_it_is_the_cell_alone() -> None:
    bundle = offer_bundle(title="A cell", source="1 + 1", before="", cell_id=None)
    assert bundle["text/plain"] == "── A cell ──\n\n1 + 1"
    assert bundle[OFFER_MIME] == {"version": 1, "source": "1 + 1", "before": "", "cell_id": None}
    assert "What changes" not in str(offer_bundle(title="A cell", source="1", before="1", cell_id="c"))


def test_what_cannot_be_seen_and_what_is_too_long_is_said() -> None:
    unseen = offer_bundle(title="A cell", source="a = 1", before="a = 1\x07", cell_id="c")
    assert str(unseen["text/plain"]).endswith("[only what cannot be seen is different]")
    long = offer_bundle(title="A cell", source="\n" * 1001 + "1", before="0\n" * 1001 + "1", cell_id="c")
    assert "of cells with more than 1,000 lines the difference is not shown" in str(long["text/html"])


def test_what_is_large_has_no_buttons_and_what_no_file_can_hold_is_replaced() -> None:
    assert OFFER_MIME in offer_bundle(title="A cell", source="#" * 200_000, before="1", cell_id="c")
    large = offer_bundle(title="A cell", source="#" * 200_000, before="#" * 100_000, cell_id="c")
    assert OFFER_MIME not in large
    assert len(str(large)) < 100_000
    odd = offer_bundle(title="\ud800", source="'\ud800'", before="'\udfff'", cell_id="c", note="\ud800")
    assert json.dumps(odd, ensure_ascii=False).encode("utf-8")
    assert odd[OFFER_MIME] == {"version": 1, "source": "'?'", "before": "'?'", "cell_id": "c"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_title_is_one_line_and_nothing_steers_the_terminal(text: str) -> None:
    bundle = offer_bundle(title=f"a{text}\n\nb", source=text, before=f"{text}1", cell_id="c", note=text)
    first = str(bundle["text/plain"]).split("\n")[0]
    assert first.startswith("── a")
    assert first.endswith(" ──")
    assert "\n" not in str(bundle["text/html"]).partition("<h4>")[2].partition("</h4>")[0]
    assert not set(str(bundle["text/plain"])) & set("\x1b\x07\x9b\u202e\x00")
    assert "<script" not in str(bundle["text/html"]).lower()
