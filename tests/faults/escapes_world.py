"""A host's things around a sandboxed kernel: files, sockets, a process; and whether an attack touched them.

Everything is made for one run, in directories of a name of its own, and is removed at its end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lash_nb import kernels
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.sandbox import Sandbox
from lash_nb.stores.blobs import BlobStore

__all__ = ["MOST_PROCESSES", "World", "a_world"]

_PLACES = ("/tmp", "/var/tmp", "/run", "/var/lib", "/opt", "/srv", "/mnt", "/media", "/dev/shm", "/home", "/root")
MOST_PROCESSES = 100
_VICTIM = """
import ctypes, sys, time
held = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())
print(ctypes.addressof(held), flush=True)
time.sleep(1000)
"""


class World:
    """The host's things around a sandbox, which nobody may touch from inside, and who looks after them."""

    def __init__(self, base: Path) -> None:
        self.base, self.secret, self.word = base, secrets.token_hex(16), f"lash-nb-escape-{secrets.token_hex(4)}"
        self.got = secrets.token_hex(16)
        self.hits: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()
        self._ends = contextlib.ExitStack()
        self.cwd, self.home, self.state = base / "work", base / "home", base / "work" / "notes" / "state"
        self.touched = base / "touched"

    def __enter__(self) -> World:
        with contextlib.ExitStack() as ends:
            self._fill_files()
            self.places = [self.base / "outside", *self._places(ends)]
            for place in self.places:
                self._fill(place)
            self._listen(ends)
            self._environment(ends)
            self._victim(ends)
            self._before = self._seen()
            watching = threading.Thread(target=self._watch, daemon=True)
            watching.start()
            ends.callback(watching.join)
            ends.callback(self._stopped.set)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()

    def _places(self, ends: contextlib.ExitStack) -> Iterator[Path]:
        for root in _PLACES:
            if os.access(root, os.W_OK | os.X_OK):
                place = Path(root, self.word)
                ends.callback(shutil.rmtree, place, ignore_errors=True)
                place.mkdir(0o755)
                yield place

    def _fill_files(self) -> None:
        for path in (".ssh/id_rsa", ".netrc", ".aws/credentials", ".config/gh/hosts.yml"):
            self._write(self.home / path, self.secret)
        self._write(self.state / "journal", self.secret)
        for path in (".git/hooks/post-checkout", ".git/config", "env/pyvenv.cfg", "env/bin/python"):
            self._write(self.cwd / path, "as it was")
        (self.cwd / "link").symlink_to(self.base / "outside")

    def _fill(self, place: Path) -> None:
        self._write(place / "canary", "as it was")
        self._write(place / "secret", self.secret)
        os.mkfifo(place / "pipe", 0o666)

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def _listen(self, ends: contextlib.ExitStack) -> None:
        self.tcp = self._listening(ends, socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))[1]
        self.udp = self._listening(ends, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))[1]
        self.tcp6 = 9
        if socket.has_ipv6:
            with contextlib.suppress(OSError):
                self.tcp6 = self._listening(ends, socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))[1]
        stream, datagrams = socket.SOCK_STREAM, socket.SOCK_DGRAM
        self._listening(ends, socket.AF_UNIX, stream, "\0" + self.word)
        self._listening(ends, socket.AF_UNIX, stream, str(self.home / "agent"))
        self._listening(ends, socket.AF_UNIX, stream, str(self.cwd / "socket"))
        for place in self.places:
            self._listening(ends, socket.AF_UNIX, stream, str(place / "socket"))
            self._listening(ends, socket.AF_UNIX, stream, os.fsencode(place) + b"/so \xff cket")
            self._listening(ends, socket.AF_UNIX, datagrams, str(place / "datagrams"))
            self._relative(ends, place)
            fd = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
            ends.callback(os.close, fd)
            self._selector.register(fd, selectors.EVENT_READ, str(place / "pipe"))

    def _listening(self, ends: contextlib.ExitStack, family: int, kind: int, address: Any) -> Any:
        listener = ends.enter_context(socket.socket(family, kind))
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, f"{address!r}")
        return listener.getsockname()

    def _relative(self, ends: contextlib.ExitStack, place: Path) -> None:
        """A socket of another process, bound by a relative path there, which tells of what comes."""
        code = (
            "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('relative'); s.listen()\n"
            "print('up', flush=True)\nwhile True: s.accept(); print('hit', flush=True)"
        )
        popen = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], cwd=place, stdout=subprocess.PIPE)
        ends.callback(popen.communicate)
        ends.callback(popen.kill)
        assert popen.stdout is not None
        popen.stdout.readline()
        os.set_blocking(popen.stdout.fileno(), False)
        self._selector.register(popen.stdout.fileno(), selectors.EVENT_READ, f"{place}/relative")

    def _watch(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.05):
                with contextlib.suppress(OSError):
                    if self._came(key.fileobj):
                        self.hits.append(key.data)

    def _came(self, watched: Any) -> bool:
        if not isinstance(watched, int):
            stream = watched.type == socket.SOCK_STREAM
            _ = watched.accept()[0].close() if stream else watched.recv(4096)
            return True
        if os.read(watched, 4096):
            return True
        self._selector.unregister(watched)  # who had it open has closed it
        return False

    def _environment(self, ends: contextlib.ExitStack) -> None:
        made = {
            "HOME": str(self.home),
            "SSH_AUTH_SOCK": str(self.home / "agent"),
            "OPENAI_API_KEY": self.secret,
            "DB_PASSWORD": self.secret,
        }
        for name, value in made.items():
            before = os.environ.get(name)
            ends.callback(partial(_set, name, before))
            os.environ[name] = value

    def _victim(self, ends: contextlib.ExitStack) -> None:
        env = {**os.environ, "VICTIM": self.secret}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.victim = subprocess.Popen([sys.executable, "-I", "-c", _VICTIM], env=env, text=True, **pipes)  # type: ignore[call-overload]
        ends.callback(self.victim.communicate)
        ends.callback(self.victim.kill)
        self.victim.stdin.write(self.secret + "\n")
        self.victim.stdin.flush()
        self.address = int(self.victim.stdout.readline())
        libc = ctypes.CDLL(None)
        self.shm = int(self.word[-6:], 16)
        number = libc.shmget(self.shm, 16, 0o1600)
        ends.callback(libc.shmctl, number, 0, None)

    def told(self, kernel: ManagedKernel) -> dict[str, object]:
        """What the attacker knows."""
        assert kernel.connection_file is not None
        return {
            "got": self.got,
            "word": self.word,
            "places": [str(place) for place in self.places],
            "home": str(self.home),
            "homes": [str(place) for place in self.places if place.parent.name in ("home", "root")],
            "agent": str(self.home / "agent"),
            "abstract": self.word,
            "tcp": self.tcp,
            "tcp6": self.tcp6,
            "udp": self.udp,
            "addresses": _addresses(),
            "cwd": str(self.cwd),
            "state": str(self.state),
            "touched": str(self.touched),
            "runtime": str(kernel.connection_file.parent),
            "running": [sys.executable, sys.prefix + "/pyvenv.cfg", json.__file__],
            "package": [kernels.__file__, str(Path(kernels.__file__).with_name("guardian.py"))],
            "victim": self.victim.pid,
            "host": os.getpid(),
            "guardian": kernel.pid,
            "address": self.address,
            "shm": self.shm,
        }

    def kernel(self) -> ManagedKernel:
        """One that is to be attacked."""
        return ManagedKernel(
            cwd=self.cwd,
            sandbox=Sandbox(hide=(str(self.state),)),
            store=BlobStore(self.state / "blobs"),
            resources=ResourceLimits(processes=MOST_PROCESSES),
        )

    def _seen(self) -> dict[str, object]:
        """The host's files as they are: what they hold, what else is beside them."""
        found: dict[str, object] = {}
        roots = [*self.places, self.home, self.state, self.cwd / ".git", self.cwd / "env"]
        for root in roots:
            found[str(root)] = sorted(path.name for path in root.iterdir() if path.name != "blobs")
            for path in root.rglob("*"):
                if "blobs" not in path.parts and path.is_file() and not path.is_symlink():
                    found[str(path)] = (path.read_bytes(), path.stat().st_mode)
        return found

    def records(self, kernel: ManagedKernel) -> dict[str, bytes]:
        """The files of the kernel's runtime directory that are the host's alone."""
        assert kernel.connection_file is not None
        return {path.name: path.read_bytes() for path in kernel.connection_file.parent.iterdir() if path.is_file()}

    def breached(self, said: str) -> str:
        """What an attempt got, after all that it said; "" for nothing."""
        time.sleep(0.06 if not self.hits else 0)  # connections are taken on a thread
        for word, what in ((self.secret, "it told the secret"), (self.got, "it was let"), ("root:$", "a password")):
            if word in said:
                return what
        if self.hits:
            return f"it reached {self.hits.pop()}"
        if self.touched.exists():
            self.touched.unlink()
            return "the host ran it"
        if (now := self._seen()) != self._before:
            changed = sorted(key for key in {*now, *self._before} if now.get(key) != self._before.get(key))
            self._before = now
            return f"it changed {', '.join(changed)}"
        if self.victim.poll() is not None or _state(self.victim.pid) != "S":
            return "the victim was harmed"
        if os.path.exists("/" + self.word):
            return "the root was written"
        return ""


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _state(pid: int) -> str:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0]


def _addresses() -> list[str]:
    with contextlib.suppress(OSError):
        return [str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return []


@contextlib.contextmanager
def a_world() -> Iterator[World]:
    """Beside the working directories of other tests: in the user's home, which a sandbox hides."""
    with tempfile.TemporaryDirectory(prefix=".lash-nb-escapes-", dir=Path.home()) as base, World(Path(base)) as world:
        yield world
