"""What may stand in the settings of MCP servers, and what is said of anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError

from lash_nb.errors import InputError
from lash_nb.settings import Settings
from lash_nb.toolkits.mcp import server_of, servers_of
from lash_nb.toolkits.mcp_settings import ServerSettings, filled, settings_of


def test_a_server_that_is_started() -> None:
    given = {"command": "npx", "args": ["-y", "x"], "env": {"A": "b"}, "cwd": "here", "type": "stdio"}
    assert settings_of("files", given, base_dir="/base") == ServerSettings(
        name="files", command="npx", args=("-y", "x"), env={"A": "b"}, cwd="/base/here"
    )
    assert settings_of("files", given).kind == "stdio"
    assert settings_of("files", {"command": "x"}, base_dir=Path("/base")).cwd == "/base"


def test_a_server_at_an_address() -> None:
    given = {"url": "https://board.example/mcp?x=1", "headers": {"X-Key": "${KEY}"}, "type": "http", "timeout_s": 5}
    settings = settings_of("board", given, base_dir="/base")
    assert settings == ServerSettings(
        name="board", url="https://board.example/mcp?x=1", headers={"X-Key": "${KEY}"}, timeout_s=5.0
    )
    assert settings.kind == "http"


def test_our_own_keys() -> None:
    own = {"approve": "never", "timeout_s": 1.5, "safe": ["a"], "tools": ["a", "b"], "prefix": "my"}
    settings = settings_of("s", {"command": "x", **own})
    assert (settings.approve, settings.timeout_s, settings.prefix) == ("never", 1.5, "my")
    assert (settings.safe, settings.tools) == (frozenset({"a"}), frozenset({"a", "b"}))
    assert settings_of("a-b.c", {"command": "x", "prefix": True}).prefix == "a_b_c"
    plain = settings_of("s", {"command": "x"})
    assert (plain.approve, plain.timeout_s, plain.prefix, plain.tools) == ("effects", 120.0, "", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "its settings are an object"),
        ({}, "give either a 'command' to start it or a 'url' where it is"),
        ({"command": "x", "url": "http://x"}, "give either a 'command'"),
        ({"command": "x", "autoApprove": []}, "'autoApprove' is no setting of it; there are: command, args"),
        ({"url": "http://x", "args": []}, "'args' is no setting of it; there are: url, headers"),
        ({"url": "http://x", "type": "sse"}, "type 'sse' is not known"),
        ({"url": "http://x", "type": "stdio"}, "a server of type 'stdio' has a 'command'"),
        ({"command": ""}, "command has to be a text"),
        ({"command": 5}, "command has to be a text"),
        ({"command": "x", "args": "a b"}, "args has to be a list of texts"),
        ({"command": "x", "args": [1]}, "args has to be a list of texts"),
        ({"command": "x", "env": ["A=b"]}, "env has to be an object of texts by name"),
        ({"command": "x", "env": {"A": 1}}, "env.A has to be a text"),
        ({"command": "x", "env": {"A=": "b"}}, "env cannot have the name 'A='"),
        ({"url": "ftp://x"}, "url has to be an address that begins with http:// or https://"),
        ({"url": "http://"}, "url has to be an address"),
        ({"url": "http://x y"}, "url has to be an address"),
        ({"url": "http://x:port"}, "url has to be an address"),
        ({"url": "http://u:p@x"}, "url holds a user or a password: give a header, with ${VARIABLE} in it"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "headers cannot have the name 'a b'"),
        ({"url": "http://x", "headers": {"Host": "c"}}, "headers.Host is set by the protocol itself"),
        ({"command": "x", "approve": "sometimes"}, "approve has to be one of all, effects, every, never"),
        ({"command": "x", "timeout_s": 0}, "timeout_s has to be a number of seconds above 0"),
        ({"command": "x", "timeout_s": True}, "timeout_s has to be a number of seconds above 0"),
        ({"command": "x", "timeout_s": float("inf")}, "timeout_s has to be a number of seconds above 0"),
        ({"command": "x", "safe": "a"}, "safe has to be a list of texts"),
        ({"command": "x", "tools": {"a": 1}}, "tools has to be a list of texts"),
        ({"command": "x", "prefix": "a-b"}, "prefix has to be true, false, or letters, digits and _"),
    ],
)
def test_what_cannot_be_used_is_named(given: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        settings_of("s", given)
    assert str(caught.value).startswith("the MCP server 's': ")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 41, "a\n"])
def test_names(name: str) -> None:
    with pytest.raises(InputError, match="an MCP server cannot be called"):
        settings_of(name, {"command": "x"})


def test_no_secret_is_told() -> None:
    with pytest.raises(InputError) as caught:
        settings_of("s", {"url": "http://user:hunter22@x"})
    assert "hunter22" not in str(caught.value)


def test_several_servers() -> None:
    given = {"a": {"command": "x"}, "b": {"url": "http://x"}}
    assert [server.name for server in servers_of(given)] == ["a", "b"]
    assert [server.name for server in servers_of({"mcpServers": given})] == ["a", "b"]
    assert servers_of({}) == ()
    with pytest.raises(InputError, match="MCP servers are given by name"):
        servers_of([])  # type: ignore[arg-type]
    assert server_of("a", {"command": "x"}).state == "not started"


def test_variables_are_filled_in() -> None:
    env = {"KEY": "abc", "EMPTY": ""}
    given = {
        "a": "Bearer ${KEY}",
        "b": "${KEY}${KEY}",
        "c": "${NONE:-x}",
        "d": "$KEY",
        "e": "${EMPTY}",
        "f": "${KEY:-x}",
    }
    assert filled(given, env, place="env") == {
        "a": "Bearer abc",
        "b": "abcabc",
        "c": "x",
        "d": "$KEY",
        "e": "",
        "f": "abc",
    }
    with pytest.raises(InputError, match=r"env\.a needs the environment variable NONE, which is not set"):
        filled({"a": "${NONE}"}, env, place="env")


MISSING = """
import asyncio, sys
sys.modules["mcp"] = None
from lash_nb.errors import MissingExtraError
from lash_nb.toolkits.mcp import McpServer, server_of
from lash_nb.toolkits.mcp_settings import settings_of
try:
    server_of("s", {"command": "x"})
except MissingExtraError as error:
    print(error)
server = McpServer(settings_of("s", {"command": "x"}))
print(*asyncio.run(server.refresh()), server.state, sep="\\n")
"""
BROKEN = MISSING.replace(
    'sys.modules["mcp"] = None',
    'import types; sys.modules["mcp"] = m = types.ModuleType("mcp"); m.__spec__ = sys.__spec__',
).replace('server_of("s", {"command": "x"})', "pass")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_extra() -> None:
    wanted = "MCP servers need a package that is not installed: pip install 'lash-nb[mcp]'"
    assert run_python(MISSING).splitlines() == [
        wanted,
        f"The MCP server 's' is not there: {wanted}.",
        f"failed: {wanted}",
    ]


def test_with_another_package_of_that_name() -> None:
    said = run_python(BROKEN)
    assert said.startswith("The MCP server 's' is not there: the package mcp that is installed cannot be used (")
    assert "pip install 'lash-nb[mcp]'" in said


def test_the_sdk_is_imported_when_a_server_is_started() -> None:
    code = (
        "import sys, lash_nb.toolkits.mcp; print(*sorted({'mcp', 'mcp_types', 'httpx2', 'anyio'} & set(sys.modules)))"
    )
    assert run_python(code).split() == []


@pytest.mark.parametrize("wrong", [{"x": {}}, {"x": {"command": "a", "url": "b"}}, {"x": 1}, {"x": {"command": 1}}])
def test_settings_that_are_none_are_refused_as_a_traitlet(wrong: dict[str, Any]) -> None:
    settings = Settings()
    with pytest.raises(TraitError, match="'x'"):
        settings.mcp_servers = wrong
    assert settings.mcp_servers == {}
