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
import math
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.errors import ConfigError, PrerequisiteError
from agent.proposers.conversation import NAME
from agent.tools.base import Desk, Tool, ToolError
from agent.tools.shared import marked

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
DEEP = 16
"""Levels of a schema."""
LONGEST = 200
"""Characters of a tool's own name."""
STARTS = 2
"""Times that a server is started in a conversation."""
CLOSED = -32000
"""The SDK's code for a connection that was closed."""


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
            raise ConfigError(
                f"{place} needs a short name of letters, digits and _", hint="a letter first, 24 characters at most"
            )
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
        raise ConfigError(
            "proposer.options.mcp: two servers have the same name", hint="its tools are called by it: give each its own"
        )
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
                for item in json.loads(text):
                    if "reason" in item:
                        where = f"the tool {item['name']!r} of the server {connection.server.name}"
                        context.reject(f"{where} is left out: {item['reason']}", "agentic:mcp")
                    else:
                        tools.append(connection.tool(item))
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
        self._starts = 0

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
            wanted = [item for item in found if not self.server.only or item.name in self.server.only][:TOOLS]
            return json.dumps([_offered(item) for item in wanted], ensure_ascii=False), False
        except TimeoutError:
            return f"the server {self.server.name} did not answer within {START_SECONDS:g} seconds", True
        except ToolError as error:
            return cleaned(error.message, 1000), True
        except Exception as error:
            return cleaned(f"the server {self.server.name} cannot be used: {_cause(error)}", 1000), True

    def tool(self, item: Mapping[str, Any]) -> Tool:
        """A tool that the server offers, under a name that every provider takes."""
        theirs = str(item["name"])
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.server.name}_{theirs}")[:64]

        async def run(desk: Desk, /, **given: Any) -> str:
            client = await self._connected()
            try:
                result = await client.call_tool(theirs, given)
            except Exception as error:
                if not _closed(error):
                    raise
                await self._ended(client)
                again = self._starts < STARTS
                raise ToolError(
                    f"the server {self.server.name} has ended; nobody knows what became of the call",
                    hint="it is started once more when it is called again" if again else "go on without its tools",
                ) from None
            text = "\n".join(_text(block) for block in result.content)
            if not text and result.structured_content is not None:
                text = json.dumps(result.structured_content, ensure_ascii=False)
            if result.is_error:
                raise ToolError(cleaned(text) or "the server says no more")
            return marked(desk, text, origin="is what a server answered") if text else ""

        return Tool(name, str(item["description"]), {**item["schema"], "type": "object"}, run)

    async def close(self) -> None:
        """Disconnect, and end the server when it was started here."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        self._leave.set()
        _, running = await asyncio.wait({owner}, timeout=STOP_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(owner, return_exceptions=True)

    async def _connected(self) -> Client:
        if self._client is None:
            if self._starts >= STARTS:
                raise ToolError(f"the server {self.server.name} has ended", hint="go on without its tools")
            self._starts += 1
            self._client = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            self._owner = asyncio.create_task(self._own(self._client, self._leave))
        return await asyncio.shield(self._client)

    async def _ended(self, client: Client) -> None:
        """The connection was closed by the other side; of several calls that see it, the first one clears up."""
        ready = self._client
        if ready is not None and ready.done() and not ready.exception() and ready.result() is client:
            self._client = None
            await self.close()

    async def _own(self, ready: asyncio.Future[Client], leave: asyncio.Event) -> None:
        try:
            async with self._made() as client:
                ready.set_result(client)
                await leave.wait()
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


def _offered(item: Any) -> dict[str, Any]:
    """A tool of a server as it is recorded: name, description and schema; or name and the reason that it is left out.

    A server may be written by anybody, so that nothing of what it says is taken to be what the protocol promises.
    """
    name = getattr(item, "name", None)
    shown = cleaned(str(name), LONGEST)
    try:
        if not isinstance(name, str) or not name.strip() or name != shown:
            raise ValueError("it has no name that can be shown")
        words = next((text for text in (item.description, item.title) if isinstance(text, str) and text), name)
        schema = _schema(item.input_schema)
        if len(json.dumps(schema)) > SCHEMA:
            raise ValueError(f"its schema has more than {SCHEMA} characters")
    except Exception as error:
        said = str(error) if isinstance(error, ValueError) else f"it cannot be read: {_cause(error)}"
        return {"name": shown, "reason": cleaned(said, LONGEST)}
    return {"name": name, "description": cleaned(words, DESCRIPTION), "schema": schema}


def _schema(given: Any) -> dict[str, Any]:
    """A tool's schema, cleaned.

    Raises:
        ValueError: It is none of an object's, or holds what JSON does not have.
    """
    schema = _plain(given, DEEP)
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ValueError("its schema is not that of an object")
    fields, required = schema.setdefault("properties", {}), schema.get("required", [])
    if not isinstance(fields, dict) or not all(isinstance(field, dict) for field in fields.values()):
        raise ValueError("the properties of its schema are no objects")
    if not isinstance(required, list) or not all(isinstance(field, str) for field in required):
        raise ValueError("what its schema requires is no list of names")
    return schema


def _plain(given: Any, levels: int) -> Any:
    if isinstance(given, (Mapping, list)) and not levels:
        raise ValueError(f"its schema has more than {DEEP} levels")
    if isinstance(given, Mapping):
        if not all(isinstance(key, str) and key == cleaned(key, LONGEST) for key in given):
            raise ValueError("its schema has a name that cannot be shown")
        return {key: _plain(item, levels - 1) for key, item in given.items()}
    if isinstance(given, list):
        return [_plain(item, levels - 1) for item in given]
    if isinstance(given, str):
        return cleaned(given, DESCRIPTION)
    if given is None or isinstance(given, (bool, int)) or (isinstance(given, float) and math.isfinite(given)):
        return given
    raise ValueError("its schema holds what JSON does not have")


def _closed(error: BaseException) -> bool:
    """Whether the other side is gone."""
    gone = ("ClosedResourceError", "BrokenResourceError", "EndOfStream")
    return getattr(error, "code", None) == CLOSED or type(error).__name__ in gone


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
