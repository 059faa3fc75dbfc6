"""Values that come from the host, and go there: requests on the control channel, answered while a cell runs, too.

Decided here: each request is worked on by a thread of its own, so that a long one keeps nobody waiting, and what a
value's own code does there asks nothing. What came is bound at once, all of it or nothing. What it was is kept as
digests of how this kernel pickles it, and where its memory is: see `Delivered`. Runs in the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

from .needed import closed, needs
from .parcels import HEAD_BYTES, Arrived, GoneError, Layout, address_of, digest_of, fits_in_memory, opened, was_written
from .pickling import StoppedError, packed, packed_together
from .unpickling import CODE_FORM, Unpickler, problem_of

BASELINE_BYTES = 32 * 1024 * 1024
BASELINE_S = 1.0
"""Streams up to this size are pickled again on delivery, to know later what was delivered, if it takes no longer."""
LOOK_S = 3.0
"""How long it is looked whether a value is still the same: it may have grown."""
BEHIND = "_agent"
"""What the kernel's own variable gets behind its name, when the host's takes that."""
HASHED_BYTES = 64 * 1024 * 1024
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})

Content = dict[str, Any]
Respond = Callable[[Content], None]


class Delivered:
    """What a variable was when it was bound. What cannot be told for sure counts as changed."""

    def __init__(self, value: Any, sha256: str) -> None:
        self.sha256 = sha256
        """The host's digest of it."""
        self.id = id(value)
        self.same: Callable[[], Any] | None = None
        with contextlib.suppress(TypeError):
            self.same = weakref.ref(value)
        self.stream = ""
        """A digest; empty while it is not known."""
        self.buffers: list[tuple[int, int, Any, str]] = []
        """Where each begins, its length, the memory that it is a part of, its digest."""

    def take_down(self, value: Any, arrived: Arrived | None = None, digests: list[str] | None = None) -> None:
        """How it is now; `digests` are those of what it arrived in. Raises whatever pickling raises."""
        memory = weakref.ref(arrived.memory) if arrived is not None and arrived.mapped else None
        buffers = arrived.buffers if arrived is not None else []
        sent = {(address_of(view), view.nbytes): digest for view, digest in zip(buffers, digests or [], strict=True)}
        ranges = [(begin, begin + length) for begin, length in sent]
        end = time.monotonic() + BASELINE_S
        found = packed(value, stopped=lambda: time.monotonic() > end)
        try:
            for view in found.buffers:
                begin, length = address_of(view), view.nbytes
                inside = any(start <= begin and begin + length <= stop for start, stop in ranges)
                digest = sent.get((begin, length), "")
                if not digest and length <= HASHED_BYTES:
                    digest = memory_digest(view)
                self.buffers.append((begin, length, memory if inside else None, digest))
            self.stream = stream_digest(found)
        finally:
            found.release()

    def is_still(self, value: Any) -> bool:
        """Whether a value is that object, and nothing of it was changed. Raises whatever pickling raises."""
        if not self.stream or id(value) != self.id or (self.same is not None and self.same() is not value):
            return False
        end = time.monotonic() + LOOK_S
        found = packed(value, stopped=lambda: time.monotonic() > end)
        try:
            if stream_digest(found) != self.stream or len(found.buffers) != len(self.buffers):
                return False
            return all(same_memory(view, *known) for view, known in zip(found.buffers, self.buffers, strict=True))
        finally:
            found.release()


def still(known: Delivered | None, value: Any) -> bool:
    with contextlib.suppress(BaseException):  # it is gone, or cannot be pickled any more
        return known is not None and known.is_still(value)
    return False


def same_memory(view: memoryview, begin: int, length: int, memory: Any, digest: str) -> bool:
    if view.nbytes != length:
        return False
    if memory is not None and memory() is not None and address_of(view) == begin:
        try:
            return not was_written(begin, length)
        except OSError:  # then it is read
            pass
    return digest != "" and memory_digest(view) == digest


def stream_digest(found: Any) -> str:
    whole = hashlib.sha256()
    for data in found.stream:
        whole.update(data)
    return whole.hexdigest()


def memory_digest(view: memoryview) -> str:
    """As the host has it of what it sent."""
    digests: dict[tuple[int, int], str] = {}
    one = type("One", (), {"stream": (), "buffers": (view,)})
    digest_of(one, digests)
    return next(iter(digests.values()))


class Sharing:
    """The requests, and what was delivered."""

    def __init__(self, shell: Any, own_threads: set[int | None]) -> None:
        self.shell, self.own_threads = shell, own_threads
        self.delivered: dict[str, Delivered] = {}
        self.fetched: dict[str, Delivered] = {}
        """What was sent to the host last."""
        self.working: dict[str, threading.Event] = {}
        """By the request's id: set when nobody waits for it any more."""

    def answering(self, work: Callable[[Content, Callable[[], bool]], Content]) -> Callable[[Content, Respond], None]:
        """A handler that has `work` done on a thread of its own."""

        def run(content: Content, respond: Respond, stop: threading.Event) -> None:
            self.own_threads.add(threading.get_ident())
            try:
                respond({"python": sys.version.split()[0], "code_form": CODE_FORM, **work(content, stop.is_set)})
            except (GoneError, FullError) as error:
                kind = "gone" if isinstance(error, GoneError) else "full"
                respond({"status": "error", "problem": {"kind": kind, "message": str(error)}})
            except BaseException as error:  # said, so that nobody waits
                respond({"status": "error", "problem": problem_of(error)})
            finally:
                self.working.pop(content.get("id", ""), None)
                self.own_threads.discard(threading.get_ident())

        def handle(content: Content, respond: Respond) -> None:
            stop = self.working[content.get("id", "")] = threading.Event()
            threading.Thread(target=run, args=(content, respond, stop), name="lash_nb values", daemon=True).start()

        return handle

    def forget(self, content: Content, respond: Respond) -> None:
        """Nobody waits for a request any more."""
        stop = self.working.get(content["id"])
        if stop is not None:
            stop.set()

    # -- from the host -------------------------------------------------------------------------------------------------

    def push(self, content: Content, stopped: Callable[[], bool]) -> Content:
        arrived = Arrived(content)
        made: dict[str, Any] = {}
        failed: dict[str, Content] = {}
        for names, together, (begin, _, numbers) in zip(
            content["names"], content["together"], content["streams"], strict=True
        ):
            try:
                value = Unpickler(
                    arrived.stream(begin),
                    buffers=[arrived.buffers[number] for number in numbers],
                    live=self.shell.user_ns,
                    renewed=content["renewed"],
                    code_form=content["code_form"],
                ).load()
                made.update(zip(names, value, strict=True) if together else {names[0]: value})
            except BaseException as error:  # also SystemExit: it is the value's own
                failed.update(dict.fromkeys(names, problem_of(error)))
        kept = {}
        if content["bind"] and not failed:
            kept = self.bind(made, arrived, content, stopped)
        return {"status": "ok", "failed": failed, "kept": kept}

    def bind(
        self, made: dict[str, Any], arrived: Arrived, content: Content, stopped: Callable[[], bool]
    ) -> dict[str, str]:
        """All names at once; what they were is taken down before code can change it. Which went on as what."""
        cheap = sum(length for _, length, _ in content["streams"]) <= BASELINE_BYTES
        delivered = {}
        for name, value in made.items():
            known = delivered[name] = Delivered(value, content["sha256"][name])
            if cheap:
                with contextlib.suppress(BaseException):  # then it counts as changed
                    known.take_down(value, arrived, content["digests"])
        if stopped():
            raise StoppedError("nobody waits for it any more")
        namespace, hidden = self.shell.user_ns, self.shell.user_ns_hidden
        kept = {}
        for name in content["keep"]:
            if name in namespace and name in made:
                kept[name] = free(f"{name}{BEHIND}", {**namespace, **made})
                namespace[kept[name]] = namespace[name]
        before = [namespace.get(name) for name in made]  # their finalizers run when all is bound
        namespace.update(made)
        for name in (*made, *kept.values()):
            hidden.pop(name, None)
            self.delivered.pop(name, None)
            self.fetched.pop(name, None)
        self.delivered.update(delivered)
        del before
        return kept

    def held(self, content: Content, stopped: Callable[[], bool]) -> Content:
        """What is bound under some names: the digest of what came under each last, whether it still is that, or what
        was fetched last; and what functions and classes there need."""
        found: dict[str, tuple[str, bool, bool]] = {}
        needed: dict[str, list[str]] = {}
        for name in content["names"]:
            if name in self.shell.user_ns:
                value = self.shell.user_ns[name]
                if isinstance(value, (types.FunctionType, type)):
                    with contextlib.suppress(Exception):
                        needed[name] = sorted(needs(value))
                came, went = self.delivered.get(name), self.fetched.get(name)
                same, given = (content["look"] and still(one, value) for one in (came, went))
                found[name] = (came.sha256 if came is not None else "", same, given)
        return {"status": "ok", "held": found, "needs": needed}

    # -- to the host ---------------------------------------------------------------------------------------------------

    def pull(self, content: Content, stopped: Callable[[], bool]) -> Content:
        namespace = self.shell.user_ns
        failed: dict[str, Content] = {name: {"kind": "name"} for name in content["names"] if name not in namespace}
        values = {name: namespace[name] for name in content["names"] if name not in failed}
        along = {name: namespace[name] for name in closed(list(values), self.users()) if name not in content["have"]}
        parcels: list[tuple[list[str], Any]] = []
        try:
            if content["together"]:
                try:
                    parcels = [
                        ([*values, *along], packed_together([*values.values(), *along.values()], stopped=stopped))
                    ]
                except StoppedError:
                    raise
                except BaseException:
                    good = self.alone({**values, **along}, failed, stopped, keep=False)
                    names = [name for name in (*values, *along) if name in good]
                    both = {**values, **along}
                    parcels = [(names, packed_together([both[name] for name in names], stopped=stopped))]
            else:
                parcels = [([name], one) for name, one in self.alone(values, failed, stopped, keep=True).items()]
            layout = Layout([one for _, one in parcels])
            place, told = self.written(layout, content["places"], stopped), layout.told()
        finally:
            for _, one in parcels:
                one.release()
        for name in values.keys() - failed.keys():
            known = self.fetched[name] = Delivered(values[name], "")
            with contextlib.suppress(BaseException):  # then it counts as changed
                known.take_down(values[name])
        return {
            "status": "ok",
            "names": [names for names, _ in parcels],
            "together": content["together"],
            "along": list(along),
            "failed": {name: problem for name, problem in failed.items() if name in content["names"]},
            "place": place,
            **told,
        }

    def users(self) -> dict[str, Any]:
        """The namespace without what IPython has put there."""
        hidden, absent = self.shell.user_ns_hidden, object()
        return {name: one for name, one in self.shell.user_ns.copy().items() if hidden.get(name, absent) is not one}

    def alone(
        self, values: dict[str, Any], failed: dict[str, Content], stopped: Callable[[], bool], *, keep: bool
    ) -> dict[str, Any]:
        """Each for itself; what cannot be pickled is in `failed` then."""
        found = {}
        for name, value in values.items():
            try:
                found[name] = packed(value, stopped=stopped)
                if not keep:
                    found[name].release()
            except StoppedError:
                raise
            except BaseException as error:
                message = problem_of(error).get("message") or f"{type(error).__name__}: {error}"
                failed[name] = {"kind": "pickle", "message": message}
        return found

    def written(self, layout: Layout, places: list[Content], stopped: Callable[[], bool]) -> int:
        """Into the first place where there is room; which one."""
        for number, told in enumerate(places):
            last = number == len(places) - 1
            if not last and not fits_in_memory(layout.size):
                continue
            fd = opened(told, os.O_RDWR)
            try:
                layout.write(fd, stopped=stopped)
                return number
            except OSError as error:
                if error.errno not in FULL:
                    raise
                os.ftruncate(fd, HEAD_BYTES)
                if last:
                    raise FullError(str(error)) from error
            finally:
                os.close(fd)
        raise AssertionError("there is no place")


def free(name: str, namespace: dict[str, Any]) -> str:
    """The name, with a number behind it if it is taken."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain((name,), numbered) if one not in namespace)


class FullError(Exception):
    """There is no room for it."""


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_push_request`, `lash_pull_request` and `lash_held_request` on the control channel."""
    sharing = Sharing(shell, inside.watch.own_threads)
    inside.handlers["lash_push_request"] = sharing.answering(sharing.push)
    inside.handlers["lash_pull_request"] = sharing.answering(sharing.pull)
    inside.handlers["lash_held_request"] = sharing.answering(sharing.held)
    inside.handlers["lash_values_forget"] = sharing.forget
