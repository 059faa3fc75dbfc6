"""Which names of the notebook a cell uses: the rule, case by case."""

from __future__ import annotations

import sys
import textwrap

import pytest

from lash_nb.used_names import used_names

_OURS = frozenset({"df", "a", "b", "c", "e", "x", "n", "limit", "T", "_A__df"})
"""The notebook's variables in these cases; what else is used is of no interest."""


def _used(code: str) -> str:
    return " ".join(sorted(used_names(textwrap.dedent(code)) & _OURS))


# ------------------------------------------------------------------------------------------------- hand-written

_STATEMENTS = [
    ("df.head()", "df"),
    ("df = load(); df.head()", ""),
    ("df = df.dropna()", "df"),
    ("df += 1", "df"),
    ("df.x = 1", "df"),
    ("df['a'] = 1", "df"),
    ("df['a'] += 1", "df"),
    ("del df", "df"),
    ("df = 1\ndel df\ndf = 2", ""),
    ("del df['a'], a.b", "a df"),
    ("a = b = 1\nprint(a, b)", ""),
    ("a, (b, *c) = f()\nprint(a, b, c)", ""),
    ("a, b = b, a", "a b"),
    ("x: int = 1\nx", ""),
    ("x: int\nx", "x"),
    ("x: df = 1", "df"),
    ("from __future__ import annotations\nx: df = 1\ndef f(a: b) -> c: pass", ""),
    ("print(f'{df}')", "df"),
    ("print(f'{x:>{n}}')", "n x"),
    ("'df'", ""),
    ("# df", ""),
    ("g.df(df=1)", ""),
    ("assert df, a", "a df"),
    ("raise df", "df"),
    ("return_value = await df", "df"),
    ("async with df as a:\n    a\nasync for x in b: x", "b df"),
    ("import df\ndf", ""),
    ("import df.sub\ndf", ""),
    ("import a.b as c\nc, a", "a"),
    ("from m import df as a\na, df", "df"),
    ("from m import *\ndf", "df"),
    ("print, len", ""),
    ("df(a)(b).c[n].x", "a b df n"),
]

_WAYS = [
    ("if x: df = 1\ndf", "df x"),
    ("if f(): df = 1\nelse: df = 2\ndf", ""),
    ("if f(): df = 1\nelif g(): df = 2\nelse: raise E\ndf", ""),
    ("if f(): df = 1\nelif g(): df = 2\ndf", "df"),
    ("if True: df = 1\ndf", ""),
    ("if 0: df", ""),
    ("if (a := f()) and (b := g()): a, b\na, b", "b"),
    ("if not (f() or (a := g())): a", ""),
    ("f() and (a := 1)\na", "a"),
    ("(a := 1) if f() else (a := 2)\na", ""),
    ("(a := 1) if f() else 2\na", "a"),
    ("x + (x := 1)", "x"),
    ("(x := 1) + x", ""),
    ("f() < (a := 1) < (b := 2)\na, b", "b"),
    ("while f(): df = 1\ndf", "df"),
    ("while True:\n    df = 1\n    if f(): break\ndf", ""),
    ("while True:\n    if f(): break\n    df = 1\ndf", "df"),
    ("while f(): pass\nelse: df = 1\ndf", ""),
    ("while f():\n    if g(): break\nelse: df = 1\ndf", "df"),
    ("for x in f(): df = 1\nx, df", "df x"),
    ("for x in [1, 2]: df = 1\nx, df", ""),
    ("for x in range(3): a = 1\nx, a", ""),
    ("for x in range(n): a = 1\na", "a n"),
    ("for x in [1, 2]:\n    if f(): continue\n    a = 1\na", "a"),
    ("for x in []: pass\nelse: a = 1\na", ""),
    ("for df.x in f(): pass", "df"),
    ("for x in x: pass", "x"),
    ("try: df = f()\nexcept E: pass\ndf", "df"),
    ("try: df = f()\nexcept E: df = None\ndf", ""),
    ("try: df = f()\nexcept E: raise\ndf", ""),
    ("try: f()\nexcept E as e: e\ne", "e"),
    ("try: f()\nexcept x: pass", "x"),
    ("try: f()\nexcept E: pass\nelse: df = 1\ndf", "df"),
    ("try: df = f()\nfinally: df", "df"),
    ("try: f()\nfinally: df = 1\ndf", ""),
    ("try: f()\nexcept* E as e: e", ""),
    ("with open(x) as a: df = 1\na, df", "x"),
    ("with suppress(E) as a: df = 1\na, df", "df"),
    ("with f() as (a, b): c = 1\na, b, c", "a b c"),
    ("with f() as df: df", ""),
    ("match f():\n    case [a, *b]: a, b\n    case {'k': c, **x}: c, x", ""),
    ("match f():\n    case df.x: 1\n    case T(a=b): b", "T df"),
    ("match f():\n    case 1: a = 1\n    case _: a = 2\na", ""),
    ("match f():\n    case 1: a = 1\na", "a"),
    ("match f():\n    case a if a > n: 1\na", "a n"),
]

_SCOPES = [
    ("def f(): return df\n", "df"),
    ("def f(): return n\nn = 1\nf()", ""),
    ("def f(): return n\nf()\nn = 1", "n"),
    ("def f(): return n\ng()\nn = 1", "n"),
    ("n = 1\ndef f(): return n\nf()", ""),
    ("def f(df): return df", ""),
    ("def f(*a, b=1, **c): return a, b, c", ""),
    ("def f(a=df, *, b=x): pass", "df x"),
    ("def f(a: df) -> x: pass", "df x"),
    ("@df\ndef f(): pass", "df"),
    ("@g\ndef n(): return n", "n"),
    ("def n(): return n()", ""),
    ("def f():\n    df = 1\n    def g(): return df", ""),
    ("def f():\n    def g(): return df\n    df = 1\n    return g", ""),
    ("def f():\n    if g(): df = 1\n    return df", ""),
    ("def f():\n    global df\n    df = 1\n    return df", ""),
    ("def f():\n    global df\n    return df", "df"),
    ("def f():\n    global df\n    df = 1\nf()\ndf", "df"),
    ("def f():\n    x = 1\n    def g():\n        global x\n        def h(): return x", "x"),
    ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x += 1", ""),
    ("lambda x: x + n", "n"),
    ("lambda x=n: x", "n"),
    ("f = lambda: n\nn = 1", ""),
    ("class A:\n    x = x\n    def g(self): return n", "n x"),
    ("class A:\n    n = 1\n    n\n    def g(self): return n", "n"),
    ("class A:\n    n = 1\n    del n\n    n", "n"),
    ("class A:\n    if f(): n = 1\n    n", "n"),
    ("class A(df, metaclass=x): pass", "df x"),
    ("class A:\n    def f(self): return n\nn = 1", ""),
    ("class A(B):\n    def f(self): return n\nn = 1", "n"),
    ("class A:\n    def f(self): return __df", "_A__df"),
    ("class A:\n    a: df = 1", "df"),
    ("[x for x in df if x > n]", "df n"),
    ("[x for x in x]", "x"),
    ("x = 1\n[a for a in b for b in c]", "b c"),
    ("{a: b for a, b in df}", "df"),
    ("[a for x in f() if (a := x)]\na", "a"),
    ("sum(x * n for x in df)", "df n"),
    ("class A:\n    n = 1\n    b = [n for x in range(3)]", "n"),
    ("class A:\n    df = [1]\n    b = [x for x in df]", ""),
]

_STRINGS = [
    ("eval('df + n')", "df n"),
    ("exec('a = df\\nprint(a)')", "df"),
    ("exec(f'a = {n} + df')", "a df n"),
    ("compile('df', '', 'eval')", "df"),
    ("eval('df +')", "df"),
    ("def f(df): return eval('df + n')", "n"),
    ("g.query('a > @limit and b < @n')", "limit n"),
    ("g.eval('c = a + @x')", "x"),
    ("pd.eval('a + b')", "a b"),
    ("duckdb.sql('select a from df join b using (n)')", "b df"),
    ("globals()['df']", "df"),
    ("locals()['df']; vars()['n']", "df n"),
    ("globals()['df'] = 1", ""),
    ("globals().get('df')", "df"),
    ("if 'df' in globals(): pass", "df"),
    ("if 'df' not in dir(): df = 1", "df"),
    ("vars(g)['df']", ""),
]

_MAGICS = [
    ("%who\ndf.head()", "df"),
    ("%time df = f(n)\ndf.head()", "n"),
    ("%time --no-raise-error df = f()\ndf", "df"),
    ("%timeit -n 10 -r3 df.sum(x)", "df x"),
    ("%timeit a = 1\na", "a"),
    ("%prun -s cumulative f(df)", "df"),
    ("%lprun -f df g(n)", "df n"),
    ("a = %timeit -o df.sum()", "df"),
    ("def f(df):\n    %time df.sum()", ""),
    ("%%time\ndf.sum()", "df"),
    ("%%time\ndf = f()\ndf.sum()", ""),
    ("%%timeit a = n\na + b", "b n"),
    ("%%capture a\nprint(df)", "df"),
    ("%%bash\necho $df {n}", ""),
    ("%%bash -s {n}\necho $1", "n"),
    ("%%R -i df -o a\nx", "a df"),
    ("%%sql a <<\nselect n from df", "a df"),
    ("%store df", "df"),
    ("%run script.py {x}", "x"),
    ("%pip install df", ""),
    ("!ls {df.path} $n", "df n"),
    ("!ls {x!r} {n:>3}", "n x"),
    ("a = !cat $x\na", "x"),
    ("if f():\n    !ls {n}", "n"),
    ("df?", "df"),
    ("df.head??", "df"),
    ("?df", "df"),
    ("get_ipython().run_line_magic('time', 'df')", "df"),
    (">>> df.head()", "df"),
    ("x = 5\n% time", ""),
]

_TYPE_PARAMETERS = [
    ("def f[T: df](a: T) -> T: return a", "df"),
    ("class A[T](list[T]):\n    a: T", ""),
    ("type x = list[x] | df", "df"),
    ("type a = df\ndf = 1", ""),
    ("def f[T](a: n = df): return x", "df n x"),
]
if sys.version_info >= (3, 12):
    _SCOPES += _TYPE_PARAMETERS

_NOT_CODE = ["df +", "def f(", "df = (", "  df\n a", "x = 'df", "\x00df", "\ud800 = df", "df" + "(" * 300]


@pytest.mark.parametrize(
    ("code", "expected"), [*_STATEMENTS, *_WAYS, *_SCOPES, *_STRINGS, *_MAGICS], ids=lambda text: text[:40] or "-"
)
def test_the_rule_case_by_case(code: str, expected: str) -> None:
    assert _used(code) == expected


@pytest.mark.parametrize("code", _NOT_CODE, ids=lambda text: repr(text[:12]))
def test_what_does_not_parse_uses_nothing(code: str) -> None:
    assert used_names(code) == frozenset()


def test_an_empty_cell_uses_nothing() -> None:
    assert used_names("") == used_names("\n\n# nothing") == frozenset()


def test_builtins_are_told_and_ipython_itself_only_where_it_is_named() -> None:
    assert used_names("print(df)") == {"print", "df"}
    assert used_names("!ls") == frozenset()
    assert used_names("get_ipython()") == {"get_ipython"}


# ----------------------------------------------------------------------------------------------- size and depth


def test_long_chains_and_many_branches_are_followed_all_the_same() -> None:
    calls = "df" + "".join(f".assign(c{i}=1)" for i in range(400))
    sums = " + ".join(["1"] * 800) + " + n"
    branches = "if f(): a = 0\n" + "".join(f"elif x == {i}: a = {i}\n" for i in range(400)) + "else: a = 0\na"
    assert used_names(f"b = 1\n{calls}") == {"df"}
    assert used_names(f"b = 1\n{sums}") == {"n"}
    assert used_names(branches) == {"f", "x"}


def test_code_that_is_nested_too_deeply_uses_its_words() -> None:
    deep = "b = 1\na = " + "-" * 4_000 + "df\nb"
    assert {"a", "b", "df"} <= used_names(deep)


def test_strings_of_code_in_strings_of_code_come_to_an_end() -> None:
    code = "df"
    for _ in range(8):
        code = f"eval({code!r})"
    assert "df" in used_names(code)
    assert "df" in used_names("%time " * 5_000 + "df")


def test_magics_in_a_long_cell_are_found_as_in_a_short_one() -> None:
    filler = "".join(f"v{i} = ('%s'\n    % i{i})\nif v{i}:\n    !echo {{w{i}}}\n" for i in range(300))
    names = used_names(f"%time df = f(n)\n{filler}\na = !cat \\\n  $b\ndf?\ndf.sum()\nx")
    assert names == {"f", "n", "b", "x", *(f"i{i}" for i in range(300)), *(f"w{i}" for i in range(300))}


def test_a_doubtful_escape_is_no_error_and_no_news() -> None:
    assert used_names("re.match('\\d', df)") == {"re", "df"}
