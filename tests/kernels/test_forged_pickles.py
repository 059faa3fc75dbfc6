"""Pickles that somebody who is not trusted made by hand: what they would change or make is refused."""

from __future__ import annotations

import collections
import pickle
from io import BytesIO

import pytest

from lash_nb.kernels.inside.unpickling import CannotBeMadeError
from lash_nb.kernels.plain_data import SandboxedUnpickler

COUNTER = b"\x80\x04ccollections\nCounter\n"
FORGED = {
    "a class gets an attribute": COUNTER + b"N}\x8c\x07changedK\x01s\x86b.",
    "a class gets an item": COUNTER + b"K\x01K\x02s.",
    "a class gets items": COUNTER + b"(K\x01K\x02u.",
    "an array by __new__": b"\x80\x04cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\n\x8c\x01O\x85RC\x08AAAAAAAAt\x81.",
    "an instance of Python 2": b"(icollections\nCounter\n.",
    "a name with dots": b"\x80\x04\x8c\x0bcollections\x8c\x10Counter.__init__\x93.",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_pickle_is_refused(name: str) -> None:
    with pytest.raises(CannotBeMadeError):
        SandboxedUnpickler(BytesIO(FORGED[name]), buffers=[], live={}).load()
    assert not hasattr(collections.Counter, "changed")


def test_an_honest_pickle_is_not() -> None:
    value = {"a": [1, (2.5, None)], "b": {3}, "c": b"d"}
    assert SandboxedUnpickler(BytesIO(pickle.dumps(value, 5)), buffers=[], live={}).load() == value
