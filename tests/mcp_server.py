"""A real MCP server for the tests: `python mcp_server.py` talks over stdio, with a port it listens there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("genes")


@server.tool()
def lookup(gene: str, n: int = 1) -> str:
    """What is known of a gene."""
    return f"{gene} is {'very ' * n}well known"


@server.tool()
def secret() -> str:
    """Whether a variable came through."""
    return f"{os.environ.get('GENES_TOKEN', 'none')} {os.environ.get('OTHER_TOKEN', 'none')} {Path.cwd().name}"


@server.tool()
def broken() -> str:
    """Fail."""
    raise ValueError("no such table")


@server.tool()
def die() -> str:
    """End the server in the middle of a call."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Never answer."""
    time.sleep(3600)
    return ""


@server.tool()
def huge() -> str:
    """Much."""
    return "x" * 500_000 + "\x1b[2J end"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
