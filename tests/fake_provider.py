"""A model provider on this machine: real HTTP for the real SDKs, and no model behind it.

It speaks OpenAI Responses, OpenAI Chat and Anthropic Messages (as a stream of server-sent events), and both Batch
APIs (`batches`), does what its script says, and keeps its own account of calls and billed tokens, against which ours
is checked.

    async with FakeProvider() as provider:
        provider.script(rate_limited(seconds=2), ok("fine"))
        ... provider.url, provider.requests, provider.calls, provider.tokens
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests of the models know these files by their bare names

from fake_batches import Batches, Drop
from fake_wires import (
    CUT,
    HANG,
    HTML,
    JSON,
    MALFORMED,
    OVERLOAD,
    Behaviour,
    anthropic_events,
    chat,
    drop,
    embeddings,
    error,
    ok,
    rate_limited,
    refusal,
    responses,
    spend_stop,
    structured,
    tools,
    truncated,
)

__all__ = [
    "CUT",
    "HANG",
    "HTML",
    "MALFORMED",
    "OVERLOAD",
    "Behaviour",
    "FakeProvider",
    "Request",
    "drop",
    "error",
    "ok",
    "rate_limited",
    "refusal",
    "spend_stop",
    "structured",
    "tools",
    "truncated",
]


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: JSON
    method: str = "POST"
    query: str = ""
    raw: bytes = b""


class FakeProvider:
    """The server; `script` says what to do with the requests in the order of their arrival."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tokens = 0
        self.most_at_once = 0
        self.answer: Callable[[Request], Behaviour] = lambda _: ok()
        self._script: list[Behaviour] = []
        self._open: set[asyncio.Task[None]] = set()
        self.batches = Batches(lambda request: self._script.pop(0) if self._script else self.answer(request))

    @property
    def calls(self) -> int:
        return len(self.requests)

    def script(self, *behaviours: Behaviour) -> None:
        """What comes next; after the last one, `answer` decides."""
        self._script += behaviours

    async def __aenter__(self) -> FakeProvider:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            request = await _read(reader)
            if request is not None and self.batches.knows(request):
                await self._batch(request, writer)
            elif request is not None:
                self.requests.append(request)
                self.most_at_once = max(self.most_at_once, len(self._open))
                await self._do(self._script.pop(0) if self._script else self.answer(request), request, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _batch(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            status, body, headers = self.batches.do(request, self.url)
        except Drop:
            writer.transport.abort()
            return
        await _send(writer, status, body if isinstance(body, bytes) else json.dumps(body), headers)

    async def _do(self, act: Behaviour, request: Request, writer: asyncio.StreamWriter) -> None:
        if act.kind == "hang":
            await asyncio.Event().wait()
        if act.kind == "error":
            body = act.text or json.dumps({"type": "error", "error": act.error})
            await _send(writer, act.status, body, act.headers)
        elif act.kind == "html":
            await _send(writer, 200, "<html>captive portal</html>", {"content-type": "text/html"})
        elif act.kind == "malformed" and not request.body.get("stream"):
            await _send(writer, 200, '{"choices": [', {})
        elif act.kind == "drop" and act.stop == "before":
            writer.transport.abort()
        else:
            self.tokens += act.input + act.output
            await self._reply(act, request, writer)

    async def _reply(self, act: Behaviour, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/messages"):
            await self._stream(anthropic_events(act), act, writer)
            return
        if request.path.endswith("/embeddings"):
            await _send(writer, 200, json.dumps(embeddings(act, request.body["input"])), act.headers)
            return
        render = responses if request.path.endswith("/responses") else chat
        await asyncio.sleep(act.gap)
        body = json.dumps(render(act if request.body.get("top_logprobs") else replace(act, logprobs=())))
        await _send(writer, 200, body, act.headers, cut=act.kind in ("drop", "cut"))

    async def _stream(self, events: list[JSON], act: Behaviour, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"} | act.headers))
        if act.kind == "overload":
            events[2:] = [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}]
        for event in events[:-2] if act.kind in ("drop", "cut") else events:
            data = (
                "{not json" if act.kind == "malformed" and event["type"] == "content_block_delta" else json.dumps(event)
            )
            piece = f"event: {event['type']}\ndata: {data}\n\n".encode()
            await asyncio.sleep(act.gap)
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if act.kind == "drop":
            writer.transport.abort()
            return
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split()
    path, _, query = target.partition("?")
    plain = {} if "multipart" in headers.get("content-type", "") else json.loads(body or b"{}")
    return Request(path, headers, plain, method, query, body)


def _head(status: int, headers: JSON) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{k}: {v}" for k, v in {"connection": "close", **headers}.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: str | bytes, headers: JSON, cut: bool = False) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    writer.write(_head(status, {"content-type": "application/json", "content-length": len(data)} | headers))
    writer.write(data[: len(data) // 2] if cut else data)
    await writer.drain()
    if cut:
        await asyncio.sleep(0.01)  # let the half arrive before the connection is reset
        writer.transport.abort()
