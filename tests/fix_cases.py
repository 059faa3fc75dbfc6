"""Broken cells, what a model says to them, and what the corrected cell gives: for `%lash fix`.

Corrections and what they give are written by hand. Replies are right at once, wrong first, or lean on what was left.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIX_CASES", "FixCase", "reply"]


def reply(code: str, prose: str = "I try this.") -> str:
    """A reply with a cell."""
    return f"{prose}\n<lash-cell>\n{code}\n</lash-cell>"


@dataclass(frozen=True, kw_only=True)
class FixCase:
    """A cell that needs `set_up`, fails with `error`, and gives `gives` once it is `corrected`."""

    set_up: str
    broken: str
    error: str
    """The type of it; empty: it runs, and `said` says what is wrong."""
    corrected: str
    gives: str
    tried: tuple[str, ...] = ()
    """Cells that the model runs before the corrected one."""
    told: str = ""
    """What the model is told of the last of those when it answers behind it, too."""
    said: str = ""
    """What stands behind `%lash fix`."""

    @property
    def replies(self) -> tuple[str, ...]:
        answer = "I corrected what was wrong."
        early = (answer,) if self.told else ()
        return (*map(reply, self.tried), *early, reply(self.corrected), answer)


_ALONE = "The corrected cell fails where it is run alone"
_UNLIKE = "does not look like the user's cell"
_SALES = """\
import pandas as pd
sales = pd.DataFrame({"city": ["Oslo", "Rome", "Oslo"], "amount": [10, 20, 30]})"""
_TWO = """\
import pandas as pd
left = pd.DataFrame({"id": [1, 2], "a": [5, 6]})
right = pd.DataFrame({"id": ["2", "1"], "b": [7, 8]})"""

_NAMES = {
    "a misspelled variable": FixCase(
        set_up="rows = [3, 4]",
        broken="# all of it\ntotal = sum(row)\nprint(total)",
        error="NameError",
        corrected="# all of it\ntotal = sum(rows)\nprint(total)",
        gives="7",
    ),
    "a misspelled column": FixCase(
        set_up=_SALES,
        broken='by_city = sales.groupby("town")["amount"].sum()\nprint(by_city["Oslo"])',
        error="KeyError",
        tried=("print(list(sales.columns))",),
        corrected='by_city = sales.groupby("city")["amount"].sum()\nprint(by_city["Oslo"])',
        gives="40",
    ),
    "a misspelled method": FixCase(
        set_up="title = 'north and south'",
        broken="title.capitalized()",
        error="AttributeError",
        corrected="title.capitalize()",
        gives="'North and south'",
    ),
    "a key that is not there": FixCase(
        set_up="prices = {'apple': 3, 'pear': 4}",
        broken="basket = ['apple', 'pears']\nprint(sum(prices[one] for one in basket))",
        error="KeyError",
        corrected="basket = ['apple', 'pear']\nprint(sum(prices[one] for one in basket))",
        gives="7",
    ),
    "a misspelled target": FixCase(
        set_up="rows = [3, 4]",
        broken="totals = sum(rows)\nprint(total)",
        error="NameError",
        tried=("print(len(rows))",),
        corrected="total = sum(rows)\nprint(total)",
        gives="7",
    ),
    "an argument of another name": FixCase(
        set_up="def scaled(values, factor=1):\n    return [value * factor for value in values]",
        broken="scaled([1, 2], scale=3)",
        error="TypeError",
        corrected="scaled([1, 2], factor=3)",
        gives="[3, 6]",
    ),
}

_TYPES = {
    "a number added to a text": FixCase(
        set_up="count = 3",
        broken="print('found ' + count)",
        error="TypeError",
        corrected="print('found ' + str(count))",
        gives="found 3",
    ),
    "texts that are to be numbers": FixCase(
        set_up="values = ['1', '2', '39']",
        broken="sum(values)",
        error="TypeError",
        tried=("sum(int(values))",),
        corrected="sum(int(value) for value in values)",
        gives="42",
    ),
    "a list that is taken for a text": FixCase(
        set_up="lines = ['a b', 'c d']",
        broken="words = lines.split()\nprint(words)",
        error="AttributeError",
        tried=("words = lines[0].split()\nprint(words",),
        corrected="words = [word for line in lines for word in line.split()]\nprint(words)",
        gives="['a', 'b', 'c', 'd']",
    ),
    "lists in a set": FixCase(
        set_up="pairs = [[1, 2], [1, 2], [3, 4]]",
        broken="len(set(pairs))",
        error="TypeError",
        corrected="len(set(map(tuple, pairs)))",
        gives="2",
    ),
    "keys of two types": FixCase(
        set_up=_TWO,
        broken='both = left.merge(right, on="id")\nprint(both["b"].tolist())',
        error="ValueError",
        tried=("left.dtypes, right.dtypes",),
        corrected='both = left.merge(right.astype({"id": int}), on="id")\nprint(both["b"].tolist())',
        gives="[8, 7]",
    ),
    "the mean of texts": FixCase(
        set_up=_SALES,
        broken='print(sales[["city", "amount"]].mean()["amount"])',
        error="TypeError",
        corrected='print(sales[["city", "amount"]].mean(numeric_only=True)["amount"])',
        gives="20.0",
    ),
}

_SHAPES = {
    "matrices that do not fit": FixCase(
        set_up="import numpy as np\na = np.ones((2, 3))\nb = np.ones((2, 3))",
        broken="product = a @ b\nprint(product.shape)",
        error="ValueError",
        corrected="product = a @ b.T\nprint(product.shape)",
        gives="(2, 2)",
    ),
    "another number of elements": FixCase(
        set_up="import numpy as np\nflat = np.arange(12)",
        broken="grid = flat.reshape(3, 5)\nprint(grid[-1, -1])",
        error="ValueError",
        corrected="grid = flat.reshape(3, 4)\nprint(grid[-1, -1])",
        gives="11",
    ),
    "a column of another length": FixCase(
        set_up=_SALES,
        broken='sales["tax"] = [amount / 10 for amount in sales["amount"][1:]]\nprint(sales["tax"].sum())',
        error="ValueError",
        corrected='sales["tax"] = [amount / 10 for amount in sales["amount"]]\nprint(sales["tax"].sum())',
        gives="6.0",
    ),
    "too much to unpack": FixCase(
        set_up="point = (1, 2, 3)",
        broken="x, y = point\nprint(x + y)",
        error="ValueError",
        corrected="x, y, _ = point\nprint(x + y)",
        gives="3",
    ),
}

_OFF_BY_ONE = {
    "one index too many": FixCase(
        set_up="rows = [3, 4, 5]",
        broken="total = 0\nfor i in range(len(rows) + 1):\n    total += rows[i]\nprint(total)",
        error="IndexError",
        corrected="total = 0\nfor i in range(len(rows)):\n    total += rows[i]\nprint(total)",
        gives="12",
    ),
    "a row behind the last one": FixCase(
        set_up=_SALES,
        broken='last = sales.iloc[len(sales)]\nprint(last["amount"])',
        error="IndexError",
        corrected='last = sales.iloc[len(sales) - 1]\nprint(last["amount"])',
        gives="30",
    ),
    "a sum that lacks its end, in words": FixCase(
        set_up="n = 10",
        broken="# 1 to n\ntotal = sum(range(n))\nprint(total)",
        error="",
        said="the total is too low: n itself is to be in it",
        corrected="# 1 to n\ntotal = sum(range(n + 1))\nprint(total)",
        gives="55",
    ),
}

_DEPRECATED = {
    "append": FixCase(
        set_up=_SALES,
        broken='sales = sales.append({"city": "Bari", "amount": 5}, ignore_index=True)\nprint(len(sales))',
        error="AttributeError",
        tried=('more = sales.concat([{"city": "Bari", "amount": 5}])\nprint(len(more))',),
        corrected=(
            'sales = pd.concat([sales, pd.DataFrame([{"city": "Bari", "amount": 5}])], ignore_index=True)\n'
            "print(len(sales))"
        ),
        gives="4",
    ),
    "ix": FixCase(
        set_up=_SALES,
        broken='print(sales.ix[1, "city"])',
        error="AttributeError",
        corrected='print(sales.loc[1, "city"])',
        gives="Rome",
    ),
    "iteritems": FixCase(
        set_up=_SALES,
        broken="for name, column in sales.iteritems():\n    print(name, len(column))",
        error="AttributeError",
        corrected="for name, column in sales.items():\n    print(name, len(column))",
        gives="city 3\namount 3",
    ),
    "an axis by its place": FixCase(
        set_up=_SALES,
        broken='slim = sales.drop("city", 1)\nprint(list(slim))',
        error="TypeError",
        corrected='slim = sales.drop("city", axis=1)\nprint(list(slim))',
        gives="['amount']",
    ),
    "mad": FixCase(
        set_up=_SALES,
        broken='spread = sales["amount"].mad()\nprint(round(spread, 2))',
        error="AttributeError",
        corrected=('spread = (sales["amount"] - sales["amount"].mean()).abs().mean()\nprint(round(spread, 2))'),
        gives="6.67",
    ),
}

_IMPORTS = {
    "a module": FixCase(
        set_up="angle = 0.0",
        broken="print(math.cos(angle))",
        error="NameError",
        corrected="import math\n\nprint(math.cos(angle))",
        gives="1.0",
    ),
    "a module where a class is meant": FixCase(
        set_up="import datetime\nwhen = '2026-03-01'",
        broken="day = datetime.fromisoformat(when)\nprint(day.year)",
        error="AttributeError",
        corrected="day = datetime.datetime.fromisoformat(when)\nprint(day.year)",
        gives="2026",
    ),
    "what an earlier try imported": FixCase(
        set_up="text = '{\"a\": 1}'",
        broken="found = json.loads(text)\nprint(found)",
        error="NameError",
        tried=("import json\nprint(json.loads(text))", "found = json.loads(text)\nprint(found)"),
        told=_ALONE,
        corrected="import json\n\nfound = json.loads(text)\nprint(found)",
        gives="{'a': 1}",
    ),
}

_SYNTAX = {
    "a bracket that is not closed": FixCase(
        set_up="rows = [1, 2]",
        broken="print(sum(rows)\nprint(len(rows))",
        error="SyntaxError",
        corrected="print(sum(rows))\nprint(len(rows))",
        gives="3\n2",
    ),
    "a colon that is missing": FixCase(
        set_up="rows = [1, 2]",
        broken="for row in rows\n    print(row)",
        error="SyntaxError",
        corrected="for row in rows:\n    print(row)",
        gives="1\n2",
    ),
    "a line too far right": FixCase(
        set_up="rows = [1, 2]",
        broken="total = 0\n  total += sum(rows)\nprint(total)",
        error="IndentationError",
        corrected="total = 0\ntotal += sum(rows)\nprint(total)",
        gives="3",
    ),
    "a text that is not ended": FixCase(
        set_up="name = 'Ada'",
        broken="print('hello, ' + name + '!)",
        error="SyntaxError",
        corrected="print('hello, ' + name + '!')",
        gives="hello, Ada!",
    ),
    "an assignment for a comparison": FixCase(
        set_up="level = 3",
        broken="if level = 3:\n    print('three')",
        error="SyntaxError",
        tried=("if level is = 3:\n    print('three')",),
        corrected="if level == 3:\n    print('three')",
        gives="three",
    ),
}

_OTHERS = {
    "what an earlier try defined": FixCase(
        set_up="orders = [('EUR', 10), ('USD', 20)]",
        broken="worth = sum(rates[unit] * amount for unit, amount in orders)\nprint(worth)",
        error="NameError",
        tried=(
            "rates = {'EUR': 1, 'USD': 2}\nprint(rates)",
            "worth = sum(rates[unit] * amount for unit, amount in orders)\nprint(worth)",
        ),
        told=_ALONE,
        corrected=(
            "rates = {'EUR': 1, 'USD': 2}\nworth = sum(rates[unit] * amount for unit, amount in orders)\nprint(worth)"
        ),
        gives="50",
    ),
    "a look around at the end": FixCase(
        set_up=_SALES,
        broken='top = sales.nlargest(1, "amounts")\nprint(top["city"].tolist())',
        error="KeyError",
        tried=(
            'top = sales.nlargest(1, "amount")\nprint(top["city"].tolist())',
            "print(list(sales.columns))",
        ),
        told=_UNLIKE,
        corrected='top = sales.nlargest(1, "amount")\nprint(top["city"].tolist())',
        gives="['Oslo']",
    ),
    "a mean where a sum is meant, in words": FixCase(
        set_up=_SALES,
        broken='per_city = sales.groupby("city")["amount"].mean()\nprint(per_city.to_dict())',
        error="",
        said="these are no totals: Oslo's is 40",
        tried=('per_city = sales.groupby("city")["amount"].mean()\nprint(per_city.to_dict())',),
        told="they say that it is wrong",
        corrected='per_city = sales.groupby("city")["amount"].sum()\nprint(per_city.to_dict())',
        gives="{'Oslo': 40, 'Rome': 20}",
    ),
    "a check that the first correction does not hold": FixCase(
        set_up="values = [4, None, 6]",
        broken="mean = sum(values) / len(values)\nprint(mean)",
        error="TypeError",
        said='--check "mean == 5" what is missing does not count',
        tried=("mean = sum(value or 0 for value in values) / len(values)\nprint(mean)",),
        told="`mean == 5`",
        corrected=(
            "known = [value for value in values if value is not None]\nmean = sum(known) / len(known)\nprint(mean)"
        ),
        gives="5.0",
    ),
    "below a magic": FixCase(
        set_up="rows = [3, 4]",
        broken="%%capture said\nprint(sum(rowz))",
        error="NameError",
        corrected="%%capture said\nprint(sum(rows))",
        gives="",
    ),
    "what had half happened": FixCase(
        set_up="queue = [1, 2, 3]",
        broken="first = queue.pop(0)\nprint(first + lines[0])",
        error="NameError",
        corrected="first = queue.pop(0)\nprint(first + queue[0])",
        gives="5",
    ),
    "within a function of the cell": FixCase(
        set_up="words = ['one', 'three']",
        broken="def longest(words):\n    return max(words, key=length)\n\n\nlongest(words)",
        error="NameError",
        corrected="def longest(words):\n    return max(words, key=len)\n\n\nlongest(words)",
        gives="'three'",
    ),
    "what is not awaited": FixCase(
        set_up="import asyncio\n\n\nasync def fetched(n):\n    await asyncio.sleep(0)\n    return n",
        broken="sum([await asyncio.gather(fetched(1), fetched(2))])",
        error="TypeError",
        corrected="sum(await asyncio.gather(fetched(1), fetched(2)))",
        gives="3",
    ),
    "a file of another name": FixCase(
        set_up="from pathlib import Path\n\nsize = Path('data.csv').write_text('a,b')",
        broken="with open('date.csv') as file:\n    print(file.readline().strip())",
        error="FileNotFoundError",
        tried=("import os\nprint(sorted(name for name in os.listdir() if name.endswith('.csv')))",),
        corrected="with open('data.csv') as file:\n    print(file.readline().strip())",
        gives="a,b",
    ),
}

FIX_CASES: dict[str, FixCase] = {
    **_NAMES, **_TYPES, **_SHAPES, **_OFF_BY_ONE, **_DEPRECATED, **_IMPORTS, **_SYNTAX, **_OTHERS,
}  # fmt: skip
"""By what is wrong."""
