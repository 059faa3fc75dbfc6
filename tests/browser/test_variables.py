"""A person's own table, named in plain words: the agent works on a copy, and gives a table back."""

from __future__ import annotations

from .frontend import IN_LAB, Frontend, OpenNotebook
from .provider import Provider
from .shots import shot

pytestmark = IN_LAB

TIDIES = "I drop the gaps.\n\n<lash-cell>\ntidy = df.dropna()\ndf['gone'] = 0\nprint(len(tidy), 'rows')\n</lash-cell>"
OWN = "import pandas as pd\ndf = pd.DataFrame({'n': [1, None, 3], 's': list('abc')})"


def sees_all(notebook: OpenNotebook, number: int, *texts: str) -> None:
    for text in texts:
        notebook.sees(number, text)


def test_a_table_goes_over_and_a_result_comes_back(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[TIDIES], ["`tidy` has two rows."]]
    cells = [
        f"%load_ext lash_nb\n%lash model {provider.model}",
        OWN,
        "%%lash\nDrop the rows of df that have gaps, as `tidy`.",
        "print(len(tidy), list(df))",
        "del tidy",
        "tidy",
    ]
    with frontend.opened(cells) as notebook:
        notebook.run(0)
        notebook.run(1)
        notebook.run(2)
        sees_all(notebook, 2, "2 rows", "shared: df", "tidy: a copy of the agent's tidy")
        notebook.run(3)
        notebook.sees(3, "2 ['n', 's']")
        shot(notebook.page, f"{frontend.ui}-variables")
        notebook.run(4)
        notebook.run(5)
        notebook.sees(5, "tidy is in the agent's kernel: `%lash pull tidy`")
        asked = provider.asked[0]
        assert "columns n float64, s str" in asked or "columns n float64, s object" in asked
        assert "df = pd.DataFrame" in asked, "the cells above are told"
        assert "into the user's notebook: tidy." in asked
        assert notebook.errors == []
