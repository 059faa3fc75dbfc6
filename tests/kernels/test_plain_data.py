"""What comes back as data, and what is more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import ValueNotSentError
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome

from .suite import fresh

DATA = {
    "plain": "[1, 2.5, 'x', b'y', None, True, {1, 2}, {'a': (1, 2)}, 3+4j, range(3), slice(1, 2)]",
    "dates": "[datetime.datetime(2026, 1, 2), datetime.timedelta(3), zoneinfo.ZoneInfo('Europe/Paris')]",
    "numbers": "[decimal.Decimal('1.5'), fractions.Fraction(1, 3), uuid.UUID(int=7)]",
    "paths": "pathlib.PurePosixPath('a/b')",
    "kept": "collections.OrderedDict(a=collections.Counter('aab'), b=collections.deque([1]))",
    "array": "np.arange(6.0).reshape(2, 3)",
    "view": "np.arange(60_000.0)[::2]",
    "scalar": "np.float64(2.5)",
    "structured": "np.zeros(2, dtype=[('a', 'i4'), ('b', 'U3')])",
    "masked": "np.ma.array([1, 2], mask=[0, 1])",
    "frame": "pd.DataFrame({'a': [1, None], 'b': ['x', 'y'], 'c': pd.to_datetime(['2026-01-01', None])})",
    "series": "pd.Series(pd.Categorical(['a', 'b']), name='s')",
    "index": "pd.MultiIndex.from_product([[1, 2], ['x']])",
    "stamp": "pd.Timestamp('2026-01-01', tz='UTC')",
    "period": "pd.period_range('2026-01', periods=2, freq='M')",
    "nothing": "[pd.NA, pd.NaT, np.nan, ...]",
}
MORE = {
    "function": "lambda: 1",
    "instance": "Own()",
    "system": "Reduced(os.system, 'touch RAN')",
    "evaluated": "Reduced(eval, '1 + 1')",
    "mapped": "Reduced(np.memmap, 'RAN', 'u1', 'w+', 0, (1,))",
    "read": "Reduced(pd.read_pickle, 'RAN')",
    "imported": "Reduced(__import__, 'this')",
    "got": "Reduced(getattr, np.ndarray.tofile, '__call__')",
    "started": "Reduced(subprocess.Popen, ['touch', 'RAN'])",
}
SETUP = """
import collections, datetime, decimal, fractions, os, pathlib, subprocess, uuid, zoneinfo
import numpy as np, pandas as pd
class Own: pass
class Reduced:
    def __init__(self, *what): self.what = what
    def __reduce__(self): return self.what[0], self.what[1:]
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagedKernel]:
    code = SETUP + "\n".join(f"{name} = {made}" for name, made in {**DATA, **MORE}.items())

    async def begin() -> ManagedKernel:
        kernel = ManagedKernel(cwd=tmp_path_factory.mktemp("kernel"))
        await kernel.start()
        assert (await kernel.run(fresh(), code)).outcome is CellOutcome.OK
        return kernel

    kernel = asyncio.run(begin())
    yield kernel
    asyncio.run(kernel.shutdown())


@pytest.mark.parametrize("name", DATA)
async def test_data_comes_as_it_does_otherwise(kernel: ManagedKernel, name: str) -> None:
    assert repr(await kernel.value(name, data_only=True)) == repr(await kernel.value(name))


@pytest.mark.parametrize("name", MORE)
def test_what_is_more_than_data_does_not_come_and_nothing_of_it_runs(
    kernel: ManagedKernel, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueNotSentError, match="more than data"):
        asyncio.run(kernel.value(name, data_only=True))
    assert list(tmp_path.iterdir()) == []
