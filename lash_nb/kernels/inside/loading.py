"""Loads everything inside from the file that the host wrote for it. Sent as source; runs in the kernel.

The file holds code that the host's Python has compiled, so that no kernel spends its start on that: a Python of another
version cannot use it, and one elsewhere cannot read it. Both say so, and are sent the sources.
"""

from __future__ import annotations

import importlib.util
import marshal
from typing import Any

NAME = "LashBoot"


def load(given: dict[str, Any]) -> None:
    """Run `boot` with what the file holds, or report that it cannot be used."""
    try:
        with open(given["file"], "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    magic = importlib.util.MAGIC_NUMBER
    if not data.startswith(magic):
        from IPython.core.getipython import get_ipython

        shell: Any = get_ipython()
        shell.payload_manager.write_payload({"source": NAME, "report": None})
        return
    codes = marshal.loads(data[len(magic) :])
    exec(codes.pop("boot"), {"__name__": "lash_nb_boot", "GIVEN": {**given, "codes": codes}})


if "GIVEN" in globals():
    load(globals()["GIVEN"])
