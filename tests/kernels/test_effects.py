"""What of Python's audit events is an effect, and how it is written; no kernel."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from lash_nb.kernels.inside.effects import Effect, Places, command_line, on_files, places_for_all
from lash_nb.kernels.inside.hosts import Hosts, own_port

WRITES = os.O_WRONLY | os.O_CREAT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With `work`, which is free, and `data`, which is not."""
    for name in ("work", "data"):
        (tmp_path / name).mkdir()
    return tmp_path.resolve()


def asked(home: Path, event: str, *args: Any) -> list[tuple[str, str]]:
    found = on_files(event, args, Places([str(home / "work")]))
    return [(kind, os.path.relpath(target, home)) for kind, target, _ in found]


def test_what_is_opened_for_writing(home: Path) -> None:
    assert asked(home, "open", str(home / "work/x"), "w", WRITES) == []
    assert asked(home, "open", home / "data/x", None, WRITES) == [("write", "data/x")]
    assert asked(home, "open", os.fsencode(home / "data/x"), None, WRITES) == [("write", "data/x")]
    assert asked(home, "open", str(home / "work/../data/x"), "w", WRITES) == [("write", "data/x")]
    assert asked(home, "open", str(home / "workshop"), "w", WRITES) == [("write", "workshop")]
    assert asked(home, "open", 7, "w", WRITES) == []
    assert asked(home, "open", "/dev/null", "w", WRITES) == []


def test_links_are_what_they_lead_to(home: Path) -> None:
    (home / "work/out").symlink_to(home / "data")
    (home / "data/in").symlink_to(home / "work")
    (home / "work/file").symlink_to(home / "data/file")
    assert asked(home, "open", str(home / "work/out/x"), "w", WRITES) == [("write", "data/x")]
    assert asked(home, "open", str(home / "work/file"), "w", WRITES) == [("write", "data/file")]
    assert asked(home, "open", str(home / "data/in/x"), "w", WRITES) == []
    assert asked(home, "os.remove", str(home / "work/file"), -1) == []
    assert asked(home, "os.remove", str(home / "data/in"), -1) == [("delete", "data/in")]
    assert asked(home, "os.symlink", "anywhere", str(home / "data/new"), -1) == [("write", "data/new")]


def test_what_is_not_there_cannot_be_deleted_and_what_is_cannot_be_made(home: Path) -> None:
    assert asked(home, "os.remove", str(home / "data/none"), -1) == []
    assert asked(home, "os.mkdir", str(home / "data"), 0o777, -1) == []
    assert asked(home, "os.mkdir", str(home / "data/new"), 0o777, -1) == [("write", "data/new")]
    assert asked(home, "os.rmdir", str(home / "data"), -1) == [("delete", "data")]


def test_both_ends_of_a_move_and_changes_of_what_is_there(home: Path) -> None:
    (home / "data/a").touch()
    assert asked(home, "os.rename", str(home / "data/a"), str(home / "work/a"), -1, -1) == [("write", "data/a")]
    assert asked(home, "os.rename", str(home / "work/a"), str(home / "data/a"), -1, -1) == [("write", "data/a")]
    assert asked(home, "os.chmod", str(home / "data/a"), 0o600, -1) == [("write", "data/a")]
    assert asked(home, "os.utime", str(home / "data/a"), None, None, -1) == [("write", "data/a")]
    assert asked(home, "os.truncate", str(home / "data/a"), 0) == [("write", "data/a")]
    assert asked(home, "os.chmod", 5, 0o600, -1) == []


def test_names_relative_to_a_directory_that_is_open(home: Path) -> None:
    (home / "data/a").touch()
    folder = os.open(home / "data", os.O_RDONLY)
    try:
        assert asked(home, "os.remove", "a", folder) == [("delete", "data/a")]
        assert asked(home, "os.mkdir", "d", 0o777, folder) == [("write", "data/d")]
        assert asked(home, "open", "a", None, WRITES, folder) == [("write", "data/a")]
        assert asked(home, "os.mkfifo", "p", folder) == [("write", "data/p")]
    finally:
        os.close(folder)


def test_devices_are_free_to_write_to_and_not_to_remove(home: Path) -> None:
    os.mkfifo(home / "data/pipe")
    (home / "data/null").symlink_to("/dev/null")
    assert asked(home, "open", str(home / "data/pipe"), "w", WRITES) == []
    assert asked(home, "open", str(home / "data/null"), "w", WRITES) == []
    assert asked(home, "os.remove", str(home / "data/pipe"), -1) == [("delete", "data/pipe")]
    assert asked(home, "os.remove", str(home / "data/null"), -1) == [("delete", "data/null")]
    assert asked(home, "os.rename", str(home / "data/pipe"), str(home / "work/p"), -1, -1) == [("write", "data/pipe")]
    assert asked(home, "os.mkfifo", str(home / "data/pipe"), None) == []
    assert asked(home, "os.mknod", str(home / "data/new"), None) == [("write", "data/new")]


@pytest.mark.parametrize(
    ("database", "wanted"),
    [
        (":memory:", []),
        ("", []),
        ("file:{}/x.db?mode=ro", []),
        ("file::memory:?cache=shared&mode=memory", []),
        ("{}/x.db", [("write", "data/x.db")]),
        ("file:{}/a%20b.db", [("write", "data/a b.db")]),
        ("file://{}/x.db?mode=rwc", [("write", "data/x.db")]),
    ],
)
def test_databases(home: Path, database: str, wanted: list[tuple[str, str]]) -> None:
    assert asked(home, "sqlite3.connect", database.format(home / "data")) == wanted


def test_what_libraries_keep_is_free() -> None:
    places = Places(places_for_all({"XDG_CACHE_HOME": "/home/u/cache", "MPLCONFIGDIR": "/home/u/mpl"}))
    assert places.free("/home/u/cache/pip/x")
    assert places.free("/home/u/mpl/fontlist.json")
    assert places.free("/usr/lib/python3/__pycache__/a.cpython-311.pyc.1234")
    assert places.free("/tmp")
    assert not places.free("/tmpfile")
    assert not places.free("/home/u/data")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["git", "commit", "-m", "a b"], "git commit -m 'a b'"),
        (["/bin/sh", "-c", "ls | wc -l"], "ls | wc -l"),
        (["/bin/sh", "-c", "echo $0", "x"], "/bin/sh -c 'echo $0' x"),
        (b"make all", "make all"),
        ([sys.executable, "-m", "pip", "install", "x"], "python -m pip install x"),
        (f"{shlex.quote(sys.executable)} -m pip install x", "python -m pip install x"),
        ([Path("a"), b"b"], "a b"),
    ],
)
def test_command_lines(argv: Any, said: str) -> None:
    assert command_line(argv) == said


def test_a_long_command_line_is_cut_and_stays_its_own() -> None:
    first, second = (command_line(["echo", "x" * 5_000 + tail + "y" * 5_000]) for tail in "12")
    assert len(first) < 2_000
    assert first.startswith("echo xxx")
    assert first.endswith("yyy")
    assert "characters, sha256" in first
    assert first != second


def test_another_program_under_the_name_is_said() -> None:
    assert command_line(["ls", "x"], "/bin/rm") == "/bin/rm x"
    assert command_line(["ls", "x"], "/bin/ls") == "ls x"


def reached(hosts: Hosts, address: Any, family: int = socket.AF_INET) -> list[Effect]:
    with socket.socket(family) as sock:
        return hosts.reached(sock, address, Places(["/tmp"]))


def test_hosts_have_the_names_that_were_looked_up() -> None:
    hosts = Hosts()
    assert hosts.looked_up(("Example.com.", 443, 0, 0, 0)) == [Effect("connect to", "example.com:443")]
    assert hosts.looked_up((b"example.com", "https", 0, 0, 0)) == [Effect("connect to", "example.com:443")]
    assert hosts.looked_up(("example.com",)) == [Effect("connect to", "example.com")]
    hosts.learn("Example.com", [(2, 1, 6, "", ("192.0.2.7", 443)), (10, 1, 6, "", ("2001:db8::7", 443, 0, 0))])
    assert reached(hosts, ("192.0.2.7", 443)) == [Effect("connect to", "example.com:443")]
    assert reached(hosts, ("192.0.2.8", 443)) == [Effect("connect to", "192.0.2.8:443")]
    assert reached(hosts, ("2001:db8::7", 443), socket.AF_INET6) == [Effect("connect to", "example.com:443")]
    assert reached(hosts, ("2001:db8::8", 443), socket.AF_INET6) == [Effect("connect to", "[2001:db8::8]:443")]


@pytest.mark.parametrize("name", [None, "", "localhost", "x.localhost", "127.0.0.1", "::1", "192.0.2.7"])
def test_addresses_and_this_machine_need_no_look_up(name: str | None) -> None:
    assert Hosts().looked_up((name, 80, 0, 0, 0)) == []


def test_what_this_process_listens_on_is_its_own() -> None:
    hosts = Hosts()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        port, other = server.getsockname()[1], datagrams.getsockname()[1]
        assert own_port(port, socket.SOCK_STREAM)
        assert own_port(other, socket.SOCK_DGRAM)
        assert not own_port(other, socket.SOCK_STREAM)
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):
            assert reached(hosts, (host, port)) == []
        assert reached(hosts, ("192.0.2.7", port)) == [Effect("connect to", f"192.0.2.7:{port}")]
    assert reached(hosts, ("127.0.0.1", port)) == [Effect("connect to", f"127.0.0.1:{port}")]


def test_unix_sockets() -> None:
    hosts = Hosts()
    assert reached(hosts, b"\0abstract", socket.AF_UNIX) == []
    assert reached(hosts, "/tmp/s", socket.AF_UNIX) == []
    assert reached(hosts, "/srv/docker.sock", socket.AF_UNIX) == [Effect("connect to", "unix:/srv/docker.sock")]
