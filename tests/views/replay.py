"""What a frontend does with the numbered differences of a live view, written down by itself."""

from __future__ import annotations

from typing import Any

__all__ = ["Replay"]


class Replay:
    """A document, and the order of what each block holds."""

    def __init__(self) -> None:
        self.blocks: dict[str, dict[str, Any]] = {}
        self.held: dict[str, list[str]] = {"": []}
        self.number = 0

    def take(self, whole: Any) -> None:
        """The whole document, as the widget's state has it."""
        self.blocks, self.held, self.number = {}, {"": []}, whole["number"]
        for key, fields in whole["blocks"]:
            self._put(key, fields, len(self.held[fields["in"]]))

    def hear(self, message: Any) -> None:
        """One difference; none may be missing."""
        assert message["number"] == self.number + 1
        self.number += 1
        for operation in message["operations"]:
            self.apply(operation)

    def apply(self, operation: Any) -> None:
        match operation:
            case ["add", key, after, fields]:
                siblings = self.held[fields["in"]]
                self._put(key, fields, siblings.index(after) + 1 if after else 0)
            case ["del", key]:
                self._drop(key)
            case ["set", key, fields]:
                self.blocks[key].update(fields)
                for name in [name for name, value in fields.items() if value is None]:
                    del self.blocks[key][name]
            case ["edit", key, name, start, stop, text]:
                units = self.blocks[key][name].encode("utf-16-le")
                edited = units[: 2 * start] + text.encode("utf-16-le") + units[2 * stop :]
                self.blocks[key][name] = edited.decode("utf-16-le")
            case _:
                raise AssertionError(f"no such operation: {operation}")

    def _put(self, key: str, fields: Any, place: int) -> None:
        assert key not in self.blocks
        self.blocks[key] = {name: value for name, value in fields.items() if value is not None}
        self.held[fields["in"]].insert(place, key)
        self.held[key] = []

    def _drop(self, key: str) -> None:
        for inner in list(self.held[key]):
            self._drop(inner)
        self.held[self.blocks.pop(key)["in"]].remove(key)
        del self.held[key]

    @property
    def flat(self) -> list[tuple[str, dict[str, Any]]]:
        """All blocks, each before what it holds."""
        return list(self._under(""))

    def _under(self, key: str) -> Any:
        for inner in self.held[key]:
            yield inner, self.blocks[inner]
            yield from self._under(inner)
