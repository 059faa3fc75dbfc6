"""Whether code awaits the call that it makes, as the code itself tells it: in every form that a call has."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from lash_nb.kernels.inside.awaiting import is_awaited


class Probe:
    """Something to call that is awaitable when the call is awaited; keeps what each call was taken for."""

    def __init__(self) -> None:
        self.taken: list[bool] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.taken.append(is_awaited(sys._getframe(1)))
        return self.value() if self.taken[-1] else 1

    async def value(self) -> int:
        return 1


AWAITED = [
    "await f()",
    "await f(1, x=2)",
    "await f(*[1], **{'x': 2})",
    "await o.f(1)",
    "await o.f(*[1], x=2)",
    "await (f())",
    "x = [await f() for _ in range(1)]",
    "x = {n: await f() for n in range(1)}",
    "x = [x async for x in each(f)]",
    "await (f() if o else None)",
    "await (None if not o else f())",
    "await (o and f())",
    "await (await nothing() or f())",
    "await ( \n f( \n 1 \n ) \n )",
    "await o \\\n .f(1)",
    "await functools.partial(f, 1)()",
    "await (lambda: f())()",
    "await (lambda: (lambda: f())())()",
    "await returns(f)",
    "await next(map(f, [1]))",
    "await eval('f()')",
    "g = f; await g()",
    "x = (yielded := await f())",
    "return await f()",
    "try: await f()\n    finally: await nothing()",
    "async with o: await f()",
    "await asyncio.gather(f())",
    "await asyncio.gather(nothing(), f(1), f(2))",
    "await asyncio.gather(*[f(n) for n in range(2)])",
    "await asyncio.gather(*(f(n) for n in range(2)), return_exceptions=True)",
    "await asyncio.gather(*[f(n) if n else f() for n in range(2)])",
    "await asyncio.gather(*[g() for g in [lambda: f()]])",
    "await asyncio.gather(*map(f, range(3)))",
    "await gather(f(), *[f()])",
    "x = asyncio.gather(f()); await x",
    "await asyncio.create_task(f())",
    "x = asyncio.get_running_loop().create_task(f()); await x",
    "await asyncio.wait_for(f(), 20)",
    "await asyncio.shield(f())",
    "await asyncio.wait({asyncio.ensure_future(f())})",
    "x = [await one for one in asyncio.as_completed([f(), f()])]",
    "async with asyncio.TaskGroup() as group: group.create_task(f())",
]
NOT = [
    "f()",
    "x = f()",
    "x = [f() for _ in range(2)]",
    "return f()",
    "await nothing(f())",
    "await nothing(*[f()])",
    "await nothing(f(), x=f())",
    "await nothing((f(), 1))",
    "x = f(); await nothing()",
    "await asyncio.gather(nothing(f()))",
    "await asyncio.wait_for(nothing(), f())",
    "await o.gather(f())",
    "exec('x = f()')",
    "await nothing() or f()",
    "await nothing(key=lambda: f()) or (lambda: f())()",
    "x = sorted([1, 2], key=f)",
    "await nothing(sorted([1, 2], key=f))",
    "await keeps(f)",
    "x = await calls(f)",
    "await nothing(f'{f()}')",
    "print(f(), end='')",
    "assert f()",
    "if f(): pass",
    "for _ in range(f()): pass",
    "await asyncio.to_thread(f)",
    "await asyncio.to_thread(lambda: f())",
]
MODULE = """
import asyncio, functools
from asyncio import gather

class Anything:
    def __init__(self, f): self.f = f
    async def gather(self, *values): return values
    async def __aenter__(self): return self
    async def __aexit__(self, *error): return None

async def nothing(*args, **kwargs): return None
async def each(f): yield await f()
def returns(f): return f()
async def calls(f): return f()
async def keeps(f):
    kept = f()
    return kept

async def run(f):
    o = Anything(f)
    CODE
"""


def coroutine(code: str, probe: Probe, *, directory: Path | None) -> Coroutine[Any, Any, None]:
    """Of a module in a file, or of code that has no source."""
    source = MODULE.replace("CODE", code)
    if directory is None:
        namespace: dict[str, Any] = {}
        exec(compile(source, "<string>", "exec"), namespace)
        found: Coroutine[Any, Any, None] = namespace["run"](probe)
        return found
    file = directory / "some.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("some", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run(probe)  # type: ignore[no-any-return]


@pytest.mark.parametrize("code", AWAITED)
async def test_what_is_awaited(tmp_path: Path, code: str) -> None:
    probe = Probe()
    await coroutine(code, probe, directory=tmp_path)
    assert probe.taken
    assert all(probe.taken)


@pytest.mark.parametrize("code", NOT)
async def test_what_is_not(tmp_path: Path, code: str) -> None:
    probe = Probe()
    await coroutine(code, probe, directory=tmp_path)
    assert probe.taken
    assert not any(probe.taken)


@pytest.mark.parametrize("code", [code for code in AWAITED if "asyncio" not in code and "gather" not in code])
async def test_an_await_needs_no_source(code: str) -> None:
    probe = Probe()
    await coroutine(code, probe, directory=None)
    assert probe.taken
    assert all(probe.taken)


async def test_without_source_an_argument_is_a_value() -> None:
    probe = Probe()
    with pytest.raises(TypeError, match="awaitable"):
        await coroutine("await asyncio.gather(*[f() for _ in range(2)])", probe, directory=None)
    assert probe.taken == [False, False]


def test_under_a_tracer_and_when_it_has_run_often(tmp_path: Path) -> None:
    probe = Probe()

    async def often() -> None:
        for _ in range(100):
            await coroutine("await f(1); f(1)", probe, directory=None)
        run = coroutine("for _ in range(100): await f(1); f(2)", probe, directory=None)
        await run

    before = sys.gettrace()
    asyncio.run(often())
    sys.settrace(lambda frame, event, argument: None)
    try:
        asyncio.run(often())
    finally:
        sys.settrace(before)
    assert probe.taken == [True, False] * 400


def test_no_frame_is_not_awaited() -> None:
    assert not is_awaited(None)
