"""From a small model's raw text to the cell that is run: what is read as code, and what is put around it."""

from __future__ import annotations

import pytest

from lash_nb.machine.execution import NamespaceSummary, VariableSummary
from lash_nb.machine.wire import Json
from lash_nb.protocols.snippet_cells import MAX_CODE_CHARS, finished_cell, finishes, read_cell

LIVE = NamespaceSummary(
    variables=(
        VariableSummary(name="df", type="DataFrame", columns=(("price", "float64"), ("day", "int64"))),
        VariableSummary(name="other", type="DataFrame", columns=(("day", "int64"), ("json", "object"))),
        VariableSummary(name="pd", type="module"),
        VariableSummary(name="xs", type="list"),
    )
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("len(df)", "len(df)"),
        (" len(df)\n", "len(df)"),
        ("```python\nlen(df)\n```", "len(df)"),
        ("```\nlen(df)", "len(df)"),
        ("~~~py\nlen(df)\n~~~\nDone.", "len(df)"),
        ("len(df)\n```", "len(df)"),
        ("`len(df)`", "len(df)"),
        ("python\nlen(df)", "len(df)"),
        ("Answer:\nlen(df)", "len(df)"),
        ("Here is the code:\n\nlen(df)\n\nIt counts the rows.", "len(df)"),
        ("Sure, this works:\n```python\nlen(df)\n```\n```python\nother\n```", "len(df)"),
        (">>> len(df)\n12\n", "len(df)"),
        (">>> for x in xs:\n...     print(x)\n1", "for x in xs:\n    print(x)"),
        ("In [3]: len(df)", "len(df)"),
        ("len(df)\n\n# request: something else\nother()", "len(df)"),
        ("# request: rows\nlen(df)", "len(df)"),
        ("a = 1\nb = a + 1\nb", "a = 1\nb = a + 1\nb"),
        ("def f(x):\n    y = x\n\n    return y\n\nf(1)", "def f(x):\n    y = x\n\n    return y\n\nf(1)"),
        ("  for x in xs:\n      print(x)", "for x in xs:\n    print(x)"),
        ("len(df)\r\nlen(xs)\r\n", "len(df)\nlen(xs)"),
        ("print(len(df))", "print(len(df))"),
        ('"\\d"', '"\\d"'),
        ("len(df)  # the rows", "len(df)  # the rows"),
    ],
)
def test_what_is_code_in_a_reply(text: str, code: str) -> None:
    assert read_cell(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\n",
        "# only a comment",
        "I am sorry, I cannot do that.",
        "df.head(",
        "%timeit len(df)",
        "!pip install x",
        "x = '\x00'",
        "(" * 500,
        "x" * (MAX_CODE_CHARS + 1),
        "```python\n```",
    ],
)
def test_what_is_none(text: str) -> None:
    assert read_cell(text) is None


@pytest.mark.parametrize(
    ("code", "cell"),
    [
        ("math.sqrt(2)", "import math\nmath.sqrt(2)"),
        ("np.mean(xs)", "import numpy as np\nnp.mean(xs)"),
        ("pd.DataFrame()", "pd.DataFrame()"),
        ("import numpy as np\nnp.mean(xs)", "import numpy as np\nnp.mean(xs)"),
        ("[re for re in xs]", "[re for re in xs]"),
        ("datetime.now()", "from datetime import datetime\ndatetime.now()"),
        ("datetime.date.today()", "import datetime\ndatetime.date.today()"),
        ("Counter(xs)", "from collections import Counter\nCounter(xs)"),
        ("unknown(xs)", "unknown(xs)"),
    ],
)
def test_well_known_names_are_imported_when_the_kernel_lacks_them(code: str, cell: str) -> None:
    assert finished_cell(code, LIVE) == cell


@pytest.mark.parametrize(
    ("code", "cell"),
    [
        ("price.mean()", 'df["price"].mean()'),
        ("sum(price) / len(price)", 'sum(df["price"]) / len(df["price"])'),
        ('"é" + price', '"é" + df["price"]'),
        ("day.max()", "day.max()"),
        ("price = 3\nprice + 1", "price = 3\nprice + 1"),
        ("json.dumps(xs)", "import json\njson.dumps(xs)"),
    ],
)
def test_a_column_alone_is_a_column_of_its_only_frame(code: str, cell: str) -> None:
    assert finished_cell(code, LIVE) == cell


@pytest.mark.parametrize(
    ("code", "cell"),
    [
        ("top = df.head()", "top = df.head()\ntop"),
        ("a, b = 1, 2", "a, b = 1, 2\na, b"),
        ("n: int = 3", "n: int = 3\nn"),
        ("n: int", "n: int"),
        ("xs += [1]", "xs += [1]\nxs"),
        ('df["half"] = df["price"] / 2', 'df["half"] = df["price"] / 2\ndf.head()'),
        ("df.loc[0, 'price'] = 1", "df.loc[0, 'price'] = 1\ndf.head()"),
        ("xs[0] = 1", "xs[0] = 1\nxs"),
        ("xs.sort()", "xs.sort()\nxs"),
        ("df.drop(columns=['day'], inplace=True)", "df.drop(columns=['day'], inplace=True)\ndf"),
        ("df.plot()", "df.plot();"),
        ("df['price'].plot.bar()", "df['price'].plot.bar();"),
        ("for x in xs:\n    print(x)", "for x in xs:\n    print(x)"),
        ("print(1)", "print(1)"),
        ("df.sort_values('price')", "df.sort_values('price')"),
    ],
)
def test_the_value_is_shown(code: str, cell: str) -> None:
    assert finished_cell(code, LIVE) == cell


TO_LIST = (
    'finish(_result if hasattr(_result, "columns") else _result.tolist() '
    'if hasattr(_result, "tolist") else list(_result))'
)


@pytest.mark.parametrize(
    ("code", "kind", "cell"),
    [
        ("len(df)", "integer", "finish(len(df))"),
        ("print(len(df))", "integer", "finish(len(df))"),
        ("n = len(df)", "integer", "n = len(df)\nfinish(n)"),
        ("a, b = 1, 2", "string", "a, b = 1, 2\nfinish((a, b))"),
        ("a = 1; a + 1", "integer", "a = 1\nfinish(a + 1)"),
        ("sum(\n    xs\n)", "number", "finish(sum(\n    xs\n))"),
        ("xs.sort()", "number", "xs.sort()\nfinish(xs)"),
        ("xs", "array", f"_result = xs\n{TO_LIST}"),
        ("df", "object", '_result = df\nfinish(_result.to_dict() if hasattr(_result, "to_dict") else _result)'),
        ("finish(3)", "integer", "finish(3)"),
        ("price.max()", "number", 'finish(df["price"].max())'),
    ],
)
def test_a_value_that_is_required_is_finished_with(code: str, kind: str, cell: str) -> None:
    schema: Json = {"type": kind}
    assert finished_cell(code, LIVE, value_required=True, schema=schema) == cell
    assert finishes(cell)


def test_without_a_schema_or_a_namespace_the_value_is_taken_as_it_is() -> None:
    assert finished_cell("xs", None, value_required=True) == "finish(xs)"
    assert finished_cell("df['a'] = 1", None) == "df['a'] = 1\ndf"
    assert not finishes(finished_cell("for x in xs:\n    x", None, value_required=True))


def test_a_program_that_is_none_stays_as_it_is() -> None:
    assert finished_cell("df.head(", LIVE) == "df.head("
    assert not finishes("df.head(")


# -- what must not be touched ------------------------------------------------------------------------------------------

CUT = NamespaceSummary(variables=LIVE.variables, omitted=2_800)
"""A kernel with more variables than its summary lists: any name may be one of them."""


def test_a_variable_that_the_summary_left_out_is_not_overwritten() -> None:
    assert finished_cell("date * 2", CUT) == "date * 2"
    assert finished_cell("json.loads(text)", CUT) == "json.loads(text)"
    assert finished_cell("price * 2", CUT) == "price * 2"
    assert finished_cell("np.arange(3)", CUT) == "import numpy as np\nnp.arange(3)"


def test_a_column_within_an_f_string_is_left_alone() -> None:
    """Its quotes would end the string, before Python 3.12."""
    code = 'print(f"total: {price.sum()}")'
    assert finished_cell(code, LIVE) == code


def test_a_variable_that_hides_finish_is_taken_away_where_a_value_is_required() -> None:
    hidden = NamespaceSummary(variables=(*LIVE.variables, VariableSummary(name="finish", type="int")))
    note = "del finish  # a variable of that name hides what ends the turn"
    assert finished_cell("6 * 7", hidden, value_required=True).split("\n")[0] == note
    assert finished_cell("6 * 7", hidden) == "6 * 7"
    assert not finishes("finish = 5")
    assert finishes("finish(5)")


@pytest.mark.parametrize("value_required", [False, True])
def test_a_tree_that_is_too_deep_to_be_written_out_is_left_as_it_is(value_required: bool) -> None:
    for dots in (330, 900, 2_000):
        code = "df" + ".b" * dots + " = 1"
        assert code in finished_cell(code, LIVE, value_required=value_required)
