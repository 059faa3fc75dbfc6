"""What `%lash tools` says and does: which tools there are, functions of the notebook and MCP servers added and removed.

Decided here: a word that stands alone and is a tool's name is that tool, also `add`, `remove` and `mcp`. A server that
does not start is not added. What a server says of itself is printed without what a terminal would obey.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import InputError, UnknownNameError
from .machine.wire import dumps
from .toolkits import Tool, ToolPolicy, ToolSource
from .trust import looks_secret
from .views.pieces import clean

if TYPE_CHECKING:
    from .notebook_tools import NotebookTools
    from .sessions import NotebookSessions

__all__ = ["tools_word"]

_OPTIONS = ("--approve", "--env", "--header")
_ADD = "`%lash tools add NAME...` makes tools of functions, `%lash tools mcp NAME COMMAND...` starts an MCP server"
_SERVER = "`%lash tools mcp NAME COMMAND...` or `%lash tools mcp NAME https://...`"
_LINE_CHARS = 100
_DEPTH = 4
"""Of a schema, that is told."""


def tools_word(line: str, sessions: NotebookSessions) -> None:
    """Do what `%lash tools LINE` says. Raises InputError, LashError."""
    tools = sessions.tools
    for told in tools.follow():
        print(told)
    tools.configure()
    word, _, rest = line.partition(" ")
    known = _known(sessions)
    if word in known and not rest.strip():
        print(_details(known[word], tools))
    elif word == "add":
        _add(rest.split(), tools)
    elif word == "remove":
        _remove(rest.split(), tools)
    elif word == "mcp":
        _mcp(rest.strip(), tools)
    elif line:
        print("\n\n".join(_details(_named(name, known, tools), tools) for name in line.split()))
    else:
        print(_listed(known, tools, native=_native(sessions)))


def _native(sessions: NotebookSessions) -> bool:
    return sessions.protocol == "tools"


def _known(sessions: NotebookSessions) -> Mapping[str, Tool]:
    """All that the agent may call now; by native calls alone what ships with lash_nb."""
    known = sessions.tools.catalogue.tools
    if not _native(sessions):
        return known
    from .toolkits.shipped import shipped_tools

    return {**{tool.name: tool for tool in shipped_tools(directory=sessions.home, store=None)}, **known}


def _named(name: str, known: Mapping[str, Tool], tools: NotebookTools) -> Tool:
    if name in known:
        return known[name]
    if tools.has_function(name):
        raise UnknownNameError(f"{name} is a function of yours and no tool yet: `%lash tools add {name}` makes it one")
    near = difflib.get_close_matches(name, [*known, "add", "remove", "mcp"], n=1)
    guess = f"did you mean `%lash tools {near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
    raise UnknownNameError(f"there is no tool {name}; {guess}")


# ------------------------------------------------------------------------------------------------------------- listing


def _listed(known: Mapping[str, Tool], tools: NotebookTools, *, native: bool) -> str:
    sources = tools.catalogue.sources
    if not known and not sources:
        return f"no tools; {_ADD}"
    lines = [f"{len(known)} {'tool' if len(known) == 1 else 'tools'}:"]
    for tool in known.values():
        about = _about(tool)
        lines.append(f"  {_signature(tool)}" + (f": {about}" if about else ""))
        lines.append(f"      {', '.join([tools.whence(tool), *_policy(tool.policy)])}")
    if sources:
        lines += ["servers:", *(f"  {_server(source)}" for source in sources)]
    how = ", and by native calls" if native else "; native calls: %config Lash.protocol = 'tools'"
    return "\n".join([*lines, f"The agent calls them in its cells, as tools.NAME(...){how}"])


def _signature(tool: Tool) -> str:
    return f"{tool.name}{clean(tool.signature)}"


def _about(tool: Tool) -> str:
    """Its description in one line."""
    text = tool.description
    if tool.source.startswith("mcp:"):  # whose words they are stands before them, and is said beside it here
        text = text.partition("\n")[2] or text
    line = " ".join(clean(text).strip().partition("\n")[0].split())
    return line if len(line) <= _LINE_CHARS else f"{line[: _LINE_CHARS - 1]}…"


def _policy(policy: ToolPolicy) -> list[str]:
    """What of it is not as usual."""
    usual, told = ToolPolicy(), []
    if policy.approve != usual.approve:
        told.append(f"approve {policy.approve}")
    if policy.safe:
        told.append("safe to repeat" + (f", up to {policy.retries} times" if policy.retries else ""))
    if policy.timeout_s is not None:
        told.append(f"at most {policy.timeout_s:g} s")
    if policy.max_chars != usual.max_chars:
        told.append(f"results up to {policy.max_chars:,} characters")
    return told


def _server(source: ToolSource) -> str:
    return f"{source.name}: {clean(source.state)}"


def _details(tool: Tool, tools: NotebookTools) -> str:
    lines = [_signature(tool), f"  {', '.join([tools.whence(tool), *_policy(tool.policy)])}"]
    lines += [f"  {line}".rstrip() for line in clean(tool.description).strip().splitlines()]
    schema: Any = tool.input_schema if isinstance(tool.input_schema, Mapping) else {}
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, Mapping) and properties:
        needed = required if isinstance(required, list) else []
        lines.append("  parameters:")
        lines += [f"    {_parameter(name, about, name in needed)}" for name, about in properties.items()]
    return "\n".join(lines)


def _parameter(name: str, about: Any, needed: bool) -> str:
    if not isinstance(about, Mapping):
        return clean(name)
    usual = "" if needed else f" = {dumps(about['default'])}" if "default" in about else ", optional"
    said = " ".join(str(about.get("description", "")).split())
    return clean(f"{name}: {_type(about)}{usual}" + (f" ({said})" if said else ""))


def _type(schema: Any, depth: int = 0) -> str:
    """A JSON Schema in a few words."""
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return "anything"
    if isinstance(schema.get("enum"), list) or "const" in schema:
        return " | ".join(dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if isinstance(schema.get("$ref"), str):
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if isinstance(schema.get(several), list):
            return " | ".join(_type(one, depth + 1) for one in schema[several])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " | ".join(map(str, kind))
    return f"array of {_type(schema['items'], depth + 1)}" if kind == "array" and schema.get("items") else str(kind)


# ----------------------------------------------------------------------------------------------------------- functions


def _add(words: list[str], tools: NotebookTools) -> None:
    """`NAME...`, or `NAME as OTHER`: all of them, or none."""
    if not words:
        raise InputError("which function? `%lash tools add NAME...` makes tools of functions of the notebook")
    renamed = len(words) == 3 and words[1] == "as"
    if "as" in words and not renamed:
        raise InputError("`%lash tools add NAME as OTHER` takes one function, and what to call the tool")
    wanted = {words[0]: words[2]} if renamed else dict.fromkeys(words)
    before = tools.catalogue.tools
    for tool in tools.add_functions(wanted):
        instead = before.get(tool.name)
        others = "" if instead is None or instead.source == tool.source else f", in the place of {instead.source}'s"
        print(f"{'changed' if instead is not None and not others else 'added'}: {_signature(tool)}{others}")


def _remove(names: list[str], tools: NotebookTools) -> None:
    if not names:
        raise InputError("which one? `%lash tools remove NAME...` removes tools and MCP servers")
    for name in names:
        tools.remove(name)
        print(f"removed: {name}")


# ------------------------------------------------------------------------------------------------------------- servers


def _mcp(line: str, tools: NotebookTools) -> None:
    sources = {source.name: source for source in tools.catalogue.sources}
    if not line:
        print("\n".join(map(_server, sources.values())) or f"no MCP servers; {_SERVER} adds one")
        return
    name, settings = _settings(line)
    if not settings:
        if name not in sources:
            raise UnknownNameError(f"there is no MCP server {name}; {_SERVER} adds one")
        print(_server(sources[name]))
        _print_tools(sources[name].tools)
        return
    for variable in _written_out({**settings.get("env", {}), **settings.get("headers", {})}):
        print(f"note: {variable} stands in the notebook; `{variable}=$NAME` would take it from the environment")
    behind = [word for word in settings.get("args", ()) if word.partition("=")[0] in _OPTIONS]
    if behind:
        print(f"note: {', '.join(behind)} goes to the command; options of `%lash tools mcp` stand before it")
    source, told = tools.add_server(name, settings)
    print(f"added: {_server(source)}")
    _print_tools(source.tools)
    for sentence in told:
        print(clean(sentence))


def _print_tools(tools: Iterable[Tool]) -> None:
    for tool in tools:
        about = _about(tool)
        print(f"  {_signature(tool)}" + (f": {about}" if about else ""))


def _settings(line: str) -> tuple[str, dict[str, Any]]:
    """The server's name, and its settings; these are empty where only its name stands. Raises InputError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InputError(f"`%lash tools mcp {line}`: {str(error).lower()}") from None
    settings: dict[str, Any] = {}
    names: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            names.append(word)
            if len(names) == 2 and not _is_url(word):
                settings |= {"command": word, "args": words}
                break  # what follows is the command's own
            continue
        option, given, value = word.partition("=")
        if option not in _OPTIONS:
            raise InputError(f"`%lash tools mcp` has no {option}; it has {', '.join(_OPTIONS)}, before the command")
        if not given and not words:
            raise InputError(f"{option}: there is nothing behind it")
        _set(settings, option, value if given else words.pop(0))
    if not names:
        raise InputError(f"which server? {_SERVER} adds one")
    if len(names) > 2:
        raise InputError(f"`%lash tools mcp {names[0]}` has no use for {' '.join(names[2:])}")
    if len(names) == 2 and "command" not in settings:
        settings["url"] = names[1]
    if settings and len(names) == 1:
        raise InputError(f"what is {names[0]}? {_SERVER} says it")
    return names[0], settings


def _is_url(word: str) -> bool:
    return word.startswith(("http://", "https://"))


def _set(settings: dict[str, Any], option: str, value: str) -> None:
    if option == "--approve":
        settings["approve"] = value
        return
    key, sign, said = value.partition("=" if option == "--env" or ":" not in value.partition("=")[0] else ":")
    if not sign or not key.strip():
        raise InputError(
            f"{option} {value}: it takes NAME=VALUE; $VARIABLE in a value stands for one of the environment"
        )
    kind = "env" if option == "--env" else "headers"
    settings.setdefault(kind, {})[key.strip()] = re.sub(r"\$(\w+)", r"${\1}", said.strip())


def _written_out(values: Mapping[str, str]) -> list[str]:
    """Those that look like secrets, and stand there themselves."""

    def secret(name: str, value: str) -> bool:
        return name.casefold() == "authorization" or looks_secret(name.replace("-", "_"), value)

    return [name for name, value in values.items() if "${" not in value and secret(name, value)]
