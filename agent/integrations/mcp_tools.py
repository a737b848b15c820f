"""Tools of servers that speak the Model Context Protocol, for the proposer `agentic`.

A server is a program that is started here and talks over its standard streams (stdio), or one that listens at a URL
(streamable HTTP). What it offers is recorded at the begin of each conversation, so that a run which is resumed or
replayed starts a server only when a call is made that is not on record. The
official SDK, extra `mcp`, does the talking.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, PrerequisiteError
from agent.proposers.conversation import NAME
from agent.tools.base import Desk, Tool, ToolError
from agent.tools.shared import marked
from agent.untrusted import cleaned

if TYPE_CHECKING:
    from mcp import Client

    from agent.proposers.base import Context

START_SECONDS = 60.0
"""How long a server may take to start and to say what it offers."""
STOP_SECONDS = 10.0
TOOLS = 32
"""Tools of one server that are offered."""
DESCRIPTION = 1500
"""Characters of a tool's description that the model is shown."""
WORDS = 500
"""Of what a server that fails wrote to its error stream: the last bytes."""
SCHEMA = 6000
"""Characters of a schema; a tool with a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as it stands under [[proposer.options.mcp]].

    Args:
        name: How the names of its tools begin.
        command: The program, for a server that is started here; runs in the problem's folder.
        args: Its arguments.
        env: Names of variables that it is given of this process's environment. Their values are never written down.
        url: Of a server that listens.
        token: Name of the variable with the bearer token for the URL.
        only: Names of its tools that are offered; all by default.
    """

    name: str
    command: str = ""
    args: Sequence[str] = ()
    env: Sequence[str] = ()
    url: str = ""
    token: str = ""
    only: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        place = f"proposer.options.mcp: the server {str(self.name)[:80]!r}"
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,23}", self.name):
            raise ConfigError(f"{place} needs a short name of letters, digits and _")
        texts = (self.command, self.url, self.token, *self.args, *self.env, *self.only)
        lists = (self.args, self.env, self.only)
        if not all(isinstance(item, (list, tuple)) for item in lists) or not all(isinstance(t, str) for t in texts):
            raise ConfigError(f"{place}: args, env and only are lists of texts, everything else is a text")
        if bool(self.command) == bool(self.url):
            raise ConfigError(f"{place} needs a command or a url", hint="give one of them")
        missing = [name for name in (*self.env, *([self.token] if self.token else [])) if name not in os.environ]
        if missing:
            raise ConfigError(
                f"{place}: there is no variable {missing[0]} in the environment",
                hint=f"export {missing[0]}=…, or leave it out; the problem file names variables and holds no values",
            )


def check(given: Sequence[Mapping[str, Any]]) -> list[Server]:
    """The servers that a user named.

    Raises:
        ConfigError: An entry is wrong.
        PrerequisiteError: The SDK is not installed.
    """
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, Mapping) for item in given):
        raise ConfigError(
            "proposer.options.mcp: a list of tables is needed", hint='[[proposer.options.mcp]] name = "…"'
        )
    names = Server.__dataclass_fields__
    for item in given:
        for key in item:
            if key not in names:
                raise ConfigError(f"proposer.options.mcp.{key}: unknown, allowed is one of {', '.join(names)}")
        if "name" not in item:
            raise ConfigError("proposer.options.mcp: a server has no name", hint='give it one: name = "files"')
    servers = [Server(**item) for item in given]
    if len({server.name for server in servers}) < len(servers):
        raise ConfigError("proposer.options.mcp: two servers have the same name")
    if importlib.util.find_spec("mcp") is None:
        raise PrerequisiteError("MCP servers need the package mcp", fix="pip install 'truegain[mcp]'")
    return servers


@asynccontextmanager
async def opened(given: Sequence[Mapping[str, Any]], context: Context) -> AsyncIterator[list[Tool]]:
    """The tools of all servers, for one conversation. A server that does not answer is told of, and left out."""
    connections = [Connection(server, context.problem.folder) for server in check(given)]
    try:
        tools: list[Tool] = []
        for index, connection in enumerate(connections):
            text, error = await context.step(NAME, 0, index, f"mcp:{connection.server.name}", {}, connection.offer)
            if error:
                context.reject(text, "agentic:mcp")
            else:
                tools += [connection.tool(item) for item in json.loads(text)]
        yield tools
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


class Connection:
    """A server, connected when it is first needed.

    The SDK's client must be left by the task that entered it, while calls come from many; so it lives in a task of
    its own.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._owner: asyncio.Task[None] | None = None
        self._client: asyncio.Future[Client] | None = None
        self._leave = asyncio.Event()

    async def offer(self, _: str) -> tuple[str, bool]:
        """What the server offers, as JSON, or why that cannot be known."""
        try:
            async with asyncio.timeout(START_SECONDS):
                client = await self._connected()
                found: list[Any] = []
                cursor: str | None = None
                while len(found) < TOOLS:
                    page = await client.list_tools(cursor=cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        break
        except TimeoutError:
            return f"the server {self.server.name} did not answer within {START_SECONDS:g} seconds", True
        except Exception as error:
            return cleaned(f"the server {self.server.name} cannot be used: {_cause(error)}", 1000), True
        wanted = [item for item in found if not self.server.only or item.name in self.server.only][:TOOLS]
        listed = [
            {
                "name": item.name,
                "description": cleaned(item.description or item.title or item.name, DESCRIPTION),
                "schema": dict(item.input_schema),
            }
            for item in wanted
        ]
        kept = [item for item in listed if len(json.dumps(item["schema"])) <= SCHEMA]
        return json.dumps(kept, ensure_ascii=False), False

    def tool(self, item: Mapping[str, Any]) -> Tool:
        """A tool that the server offers, under a name that every provider takes."""
        theirs = str(item["name"])
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.server.name}_{theirs}")[:64]

        async def run(desk: Desk, /, **given: Any) -> str:
            client = await self._connected()
            result = await client.call_tool(theirs, given)
            text = "\n".join(_text(block) for block in result.content)
            if not text and result.structured_content is not None:
                text = json.dumps(result.structured_content, ensure_ascii=False)
            if result.is_error:
                raise ToolError(cleaned(text) or "the server says no more")
            return marked(desk, text) if text else ""

        schema = {"properties": {}, **item["schema"], "type": "object"}
        return Tool(name, str(item["description"]), schema, run)

    async def close(self) -> None:
        """Disconnect, and end the server when it was started here."""
        if self._owner is None:
            return
        self._leave.set()
        _, running = await asyncio.wait({self._owner}, timeout=STOP_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(self._owner, return_exceptions=True)

    async def _connected(self) -> Client:
        if self._client is None:
            self._client = asyncio.get_running_loop().create_future()
            self._owner = asyncio.create_task(self._own(self._client))
        return await asyncio.shield(self._client)

    async def _own(self, ready: asyncio.Future[Client]) -> None:
        try:
            async with self._made() as client:
                ready.set_result(client)
                await self._leave.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(ToolError(f"the server {self.server.name} cannot be used: {_cause(error)}"))
                ready.exception()  # seen, even when nobody waits any more
            if not isinstance(error, Exception):
                raise

    @asynccontextmanager
    async def _made(self) -> AsyncIterator[Client]:
        from mcp import Client, StdioServerParameters

        server = self.server
        if server.command:
            from mcp.client.stdio import get_default_environment, stdio_client

            env = get_default_environment() | {name: os.environ[name] for name in server.env}
            there = StdioServerParameters(
                command=server.command, args=list(server.args), env=env, cwd=str(self._folder)
            )
            with tempfile.TemporaryFile("w+") as said:  # not between the lines that people watch
                try:
                    async with Client(stdio_client(there, errlog=said)) as client:
                        yield client
                except Exception as error:
                    said.seek(0, os.SEEK_END)
                    said.seek(max(0, said.tell() - WORDS))
                    raise ToolError(f"{_cause(error)}; it said: {said.read().strip() or 'nothing'}") from error
        elif not server.token:
            async with Client(server.url) as client:
                yield client
        else:
            import httpx2
            from mcp.client.streamable_http import streamable_http_client

            headers = {"authorization": f"Bearer {os.environ[server.token]}"}
            async with (
                httpx2.AsyncClient(headers=headers) as http,
                Client(streamable_http_client(server.url, http_client=http)) as client,
            ):
                yield client


def _text(block: Any) -> str:
    """A piece of a server's answer; what is no text is named."""
    text = getattr(block, "text", None)
    return text if isinstance(text, str) else f"[{getattr(block, 'type', 'something')}, not shown]"


def _cause(error: BaseException) -> str:
    """The innermost words of an error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ToolError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
