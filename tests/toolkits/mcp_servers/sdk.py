"""A well-behaved server, of the SDK: `sdk.py stdio`, or `sdk.py http 0`, which says its port on stdout."""

from __future__ import annotations

import base64
import os
import socket
import sys

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import EmbeddedResource, ImageContent, ResourceLink, TextContent, TextResourceContents

server = MCPServer("test", instructions="Only for tests.")
PIXEL = base64.b64encode(b"\x89PNG not really").decode()


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def say(text: str) -> str:
    """Say it."""
    return text


@server.tool()
def where() -> dict[str, object]:
    """The process."""
    return {"pid": os.getpid(), "cwd": os.getcwd(), "env": sorted(os.environ), "token": os.environ.get("TOKEN", "")}


@server.tool()
def fails(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool(structured_output=False)
def show() -> list[object]:
    """All kinds of parts."""
    return [
        TextContent(text="a picture:"),
        ImageContent(data=PIXEL, mime_type="image/png"),
        ResourceLink(name="more", uri="test://more"),
        EmbeddedResource(resource=TextResourceContents(uri="test://text", text="inside")),
    ]


@server.tool()
async def slow(place: str, seconds: float) -> str:
    """Take a while; say in a file what became of it."""
    await anyio.Path(place).write_text("begun")
    try:
        await anyio.sleep(seconds)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.Path(place).write_text("cancelled")
        raise
    await anyio.Path(place).write_text("done")
    return "done"


@server.tool()
async def grow(name: str, ctx: Context) -> str:
    """Have another tool, and say so."""
    server.add_tool(say, name=name, description="New.")
    await ctx.session.send_tool_list_changed()
    return name


def serve_http() -> None:
    """On a port of this machine; 0 is a free one."""
    listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(json_response="json" in sys.argv), log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    serve_http() if sys.argv[1] == "http" else server.run("stdio")
