"""A copy of one variable for the host: pickled into a private file of the runtime directory. Runs in the kernel.

What `__main__` defines goes by value where there is cloudpickle; without it the standard pickle is used, which sends
names. It is done on a thread of its own, so that a long one keeps nobody waiting, and code of the variable's class that
runs there asks nothing. A variable that changes at that moment is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

PROTOCOL = 5
TRIES = 3
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MAX_CHARS = 500


def pickler(file: Any) -> Any:
    """One that sends functions and classes of `__main__` whole, if it can be had."""
    try:
        return importlib.import_module("cloudpickle").Pickler(file, PROTOCOL)
    except ImportError:
        return pickle.Pickler(file, PROTOCOL)


def write(value: Any, path: str) -> int:
    """Its bytes in a new file of this user's alone; how many. Nothing is left when it raises."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            pickler(file).dump(value)
            return file.tell()
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


def sent(value: Any, path: str) -> dict[str, Any]:
    """The reply; whatever the value's own code raises is said in it."""
    for left in reversed(range(TRIES)):
        try:
            return {"status": "ok", "bytes": write(value, path)}
        except RuntimeError as error:  # it changed while it was walked, or recurses without an end
            if left and not isinstance(error, RecursionError):
                continue
            return problem("pickle", f"{type(error).__name__}: {error}")
        except OSError as error:
            full = error.errno in FULL
            return problem("full" if full else "pickle", f"{type(error).__name__}: {error}")
        except BaseException as error:
            return problem("pickle", f"{type(error).__name__}: {error}")
    raise AssertionError


def problem(kind: str, message: str) -> dict[str, Any]:
    return {"status": "error", "problem": kind, "message": message[:MAX_CHARS]}


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_value_request` on the control channel."""
    directory = os.environ["LASH_NB_RUNTIME_DIR"]
    own_threads = inside.watch.own_threads

    def send(name: str, path: str, respond: Callable[[dict[str, Any]], None]) -> None:
        own_threads.add(threading.get_ident())
        try:
            value = shell.user_ns[name]
            respond(sent(value, path))
        except KeyError:
            respond(problem("name", ""))
        finally:
            own_threads.discard(threading.get_ident())

    def lash_value_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        path = os.path.join(directory, os.path.basename(str(content["file"])))
        args = (str(content["name"]), path, respond)
        threading.Thread(target=send, args=args, name="lash_nb value", daemon=True).start()

    inside.handlers["lash_value_request"] = lash_value_request
