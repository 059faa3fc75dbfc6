"""The model of the nights: a server on loopback that writes code, and repairs it, by what its requests say.

It speaks OpenAI's chat completions. Which turn it is asked in it knows by the request that came last, what went wrong
by what came behind its own last words, or behind those of the kept code.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.models.openai_server import chunk, events, finish

__all__ = ["CHECKS", "REQUESTS", "Asked", "NightsModel"]

REQUESTS = {
    "load": "Load orders.csv into orders: columns region and amount, without rows that have no amount.",
    "total": "What is the total of the amounts in orders? Keep it as total.",
    "table": "Make by_region: the amounts by region, with the targets from targets.csv (0 where there are none).",
}
CHECKS = {
    "load": ("len(orders) > 0", "list(orders.columns) == ['region', 'amount']"),
    "total": ("total > 0",),
    "table": ("abs(by_region['amount'].sum() - total) < 1e-6", "by_region['target'].notna()"),
}

_LOAD = """\
import pandas as pd

orders = pd.read_csv("orders.csv")
{more}orders["amount"] = pd.to_numeric({amount}, errors="coerce")
orders = orders.dropna(subset=["amount"])[["region", "amount"]]
len(orders)"""
_VALUE = 'orders = orders.rename(columns={"value": "amount"})\n'
_BOTH = 'orders = orders.rename(columns={"value": "amount", "area": "region"})\n'
_PLAIN, _WORDS = 'orders["amount"]', 'orders["amount"].astype(str).str.removesuffix(" EUR")'
_TABLE = """\
by_region = orders.groupby("region", as_index=False)["amount"].sum()
{targets}
by_region = by_region.merge(targets, on="region", how="left").fillna({{"target": 0}})
by_region"""
_READ = 'targets = pd.read_csv("targets.csv")'
_TRIED = """\
try:
    targets = pd.read_csv("targets.csv")
except FileNotFoundError:
    targets = pd.DataFrame({"region": pd.Series(dtype=str), "target": pd.Series(dtype=float)})"""

_FIRST = {
    "load": _LOAD.format(more="", amount=_PLAIN),
    "total": 'total = float(orders["amount"].sum())\nfinish(total)',
    "table": _TABLE.format(targets=_READ),
}
_REPAIRS = {
    ("load", "KeyError: 'amount'"): _LOAD.format(more=_VALUE, amount=_PLAIN),
    ("load", "not in index"): _LOAD.format(more=_BOTH, amount=_PLAIN),
    ("load", "`len(orders) > 0`"): _LOAD.format(more=_BOTH, amount=_WORDS),
    ("table", "FileNotFoundError"): _TABLE.format(targets=_TRIED),
}
"""By the turn and what is said to have gone wrong; each copes with what came before, too."""
_SAID = {"load": "The orders are loaded.", "total": "That is the total.", "table": "The table is made."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of the model."""

    turn: str
    """The key in `REQUESTS`; empty: it did not know what is asked."""
    why: str
    """`first`, `end`, or what went wrong."""


class NightsModel:
    """The server, while it is entered; `name` is what opens it."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def __enter__(self) -> NightsModel:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="the nights' model")
        self._thread.start()
        self.name = f"openai:m@http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any]) -> str:
        """What it says to a request."""
        texts = [(message["role"], _text(message["content"])) for message in body["messages"]]
        at, turn = max(
            (number, turn)
            for turn, request in REQUESTS.items()
            for number, (role, text) in enumerate(texts)
            if role == "user" and request in text
        )
        mine = [number for number, (role, _) in enumerate(texts) if role == "assistant" and number > at]
        if not mine:
            return self._says(turn, "first", _cell("I write it.", _FIRST[turn]))
        since = "\n".join(text for _, text in texts[mine[-1] + 1 :])
        for (of, sign), code in _REPAIRS.items():
            if of == turn and sign in since:
                return self._says(turn, sign, _cell("The data has changed.", code))
        return self._says(turn, "end", _SAID[turn])

    def _says(self, turn: str, why: str, text: str) -> str:
        self.asked.append(Asked(turn=turn, why=why))
        return text


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content)


def _cell(prose: str, code: str) -> str:
    return f"{prose}\n<lash-cell>\n{code}\n</lash-cell>"


def _handler(model: NightsModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = model.answer(body)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"".join(events([chunk({"content": said}), *finish()])))

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what was asked is in `asked`."""

    return Handler
