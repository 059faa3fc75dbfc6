"""What the cells of a plain notebook need in the place of lash_nb: a cell before the first one, in plain Python.

Decided here: `finish` gives what the kernel's own one gave (`kernels.inside.json_values`), but refuses nothing: a value
that could not be given is none that a turn ended with.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shim"]


@dataclass(slots=True, kw_only=True)
class Shim:
    """What the cells need from a cell before them."""

    finish: bool = False
    raises: bool = False
    """Whether `finish` has to end cells."""
    turn: bool = False

    @property
    def source(self) -> str:
        """That cell; empty when nothing is needed."""
        parts = []
        if self.finish:
            parts += [_PLAIN, _FINISH_ENDS if self.raises else _FINISH]
        if self.turn:
            parts.append(_TURN)
        imports = ["import json"] * self.finish + ["from types import SimpleNamespace"] * self.turn
        return "\n\n\n".join(["\n".join([_WHAT, *imports]), *parts]) if parts else ""


_WHAT = "# Stands in for what lash_nb gave to the cells below; made by `lash-nb eject`."

_PLAIN = """\
def _plain(value):
    if value is None or isinstance(value, (int, float, str)):
        return json.loads(json.dumps(value))
    if isinstance(value, dict):
        keys = {key: _plain(key) for key in value}
        return {k if isinstance(k, str) else json.dumps(k): _plain(value[key]) for key, k in keys.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item) for item in value]
        return items if isinstance(value, (list, tuple)) else sorted(items)
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if hasattr(value, "to_frame") or hasattr(value, "columns"):
        return _table(value)
    if hasattr(value, "tolist") and type(value).__name__ != "datetime64":
        items = value.tolist()
        return [_entry(item) for item in items] if isinstance(items, list) else _plain(items)
    if hasattr(value, "total_seconds"):
        sign, whole = ("-", -value) if value.total_seconds() < 0 else ("", value)
        part = f".{whole.microseconds:06}".rstrip("0") if whole.microseconds else ""
        return f"{sign}P{whole.days}DT{whole.seconds}{part}S"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(type(value), "__members__"):
        return _plain(value.value)
    return None if str(value) == "NaT" else str(value)


def _entry(item):
    item = _plain(item)
    return None if isinstance(item, float) and item != item else item


def _table(table):
    if not hasattr(table, "iloc"):  # an index, or of polars
        return [_entry(item) for item in (table.to_dicts() if hasattr(table, "to_dicts") else table.to_list())]
    index = table.index
    labelled = index.nlevels > 1 or index.name is not None or index.dtype.kind not in "iu"
    if not hasattr(table, "columns") and index.nlevels == 1:
        items = [_entry(item) for item in table.tolist()]
        return _plain(dict(zip(index.tolist(), items))) if labelled else items
    table = table if hasattr(table, "columns") else table.to_frame()
    table = table.reset_index() if labelled else table
    columns = [[_entry(item) for item in table.iloc[:, at].tolist()] for at in range(table.shape[1])]
    return [_plain(dict(zip(table.columns, row))) for row in zip(*columns)]"""

_FINISH = """\
def finish(value=None):
    finish.value = _plain(value)
    return finish.value"""

_FINISH_ENDS = """\
class Finished(BaseException):
    pass


def finish(value=None):
    finish.value = _plain(value)
    display(finish.value)
    raise Finished


get_ipython().set_custom_exc((Finished,), lambda *about, **more: None)"""

_TURN = """\
class Turn(SimpleNamespace):
    def __str__(self):
        return self.text

    def _ipython_display_(self):
        pass"""
