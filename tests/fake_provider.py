"""A model provider on this machine: real HTTP for the real SDKs, and no model behind it.

It speaks OpenAI Responses, OpenAI Chat and Anthropic Messages (as a stream of server-sent events), does
what its script says, and keeps its own account of calls and billed tokens, against which ours is checked.

    async with FakeProvider() as provider:
        provider.script(rate_limited(seconds=2), ok("fine"))
        ... provider.url, provider.requests, provider.calls, provider.tokens
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """What to do with one request."""

    kind: str = "reply"  # reply, error, drop, cut, overload, malformed, html, hang
    text: str = ""
    tools: tuple[tuple[str, Any], ...] = ()
    stop: str = "end"  # end, length, refusal
    input: int = 11
    cached: int = 0
    written: int = 0
    output: int = 7
    reasoning: int = 0
    thought: str = ""  # opaque reasoning that the client must hand back
    usage: bool = True
    logprobs: tuple[tuple[str, float], ...] = ()  # of the first token, for those who ask
    gap: float = 0.0  # seconds before each piece of a stream, or before the body
    status: int = 200
    error: JSON = field(default_factory=dict)
    headers: JSON = field(default_factory=dict)


def ok(text: str = "fine", **more: Any) -> Behaviour:
    return Behaviour(text=text, **more)


def structured(value: Any, **more: Any) -> Behaviour:
    return Behaviour(text=json.dumps(value), **more)


def tools(*calls: tuple[str, Any], **more: Any) -> Behaviour:
    """Tool calls in parallel: (name, arguments); arguments as text are sent as they are."""
    return Behaviour(tools=calls, **more)


def truncated(text: str, **more: Any) -> Behaviour:
    return Behaviour(text=text, stop="length", **more)


def refusal(text: str = "I will not do that.", **more: Any) -> Behaviour:
    return Behaviour(text=text, stop="refusal", **more)


def error(status: int, kind: str = "some_error", code: str | None = None, **headers: str) -> Behaviour:
    detail = {"type": kind, "code": code, "message": f"the server says {kind}"}
    return Behaviour("error", status=status, error=detail, headers={k.replace("_", "-"): v for k, v in headers.items()})


def rate_limited(*, seconds: float | str | None = None, ms: float | None = None) -> Behaviour:
    headers = {} if seconds is None else {"retry_after": str(seconds)}
    return error(429, "rate_limit_error", **headers, **({} if ms is None else {"retry_after_ms": str(ms)}))


def spend_stop() -> Behaviour:
    """Looks like a rate limit, and is not: on both wires the code alone tells."""
    found = error(429, "insufficient_quota", "insufficient_quota")
    found.error["details"] = {"error_code": "enforced_spend_limit_reached"}
    return found


def drop(when: str = "middle") -> Behaviour:
    """Break the connection, before the answer or in the middle of it (where it is billed)."""
    return Behaviour("drop", text="half of an answer", stop=when)


MALFORMED = Behaviour("malformed", text="half of an answer")
HTML = Behaviour("html")
HANG = Behaviour("hang")
CUT = Behaviour("cut", text="half of an answer")
OVERLOAD = Behaviour("overload", text="half of an answer")  # an error event inside of a stream


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: JSON


class FakeProvider:
    """The server; `script` says what to do with the requests in the order of their arrival."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tokens = 0
        self.most_at_once = 0
        self.answer: Callable[[Request], Behaviour] = lambda _: ok()
        self._script: list[Behaviour] = []
        self._open: set[asyncio.Task[None]] = set()

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
            if request is not None:
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

    async def _do(self, act: Behaviour, request: Request, writer: asyncio.StreamWriter) -> None:
        if act.kind == "hang":
            await asyncio.Event().wait()
        if act.kind == "error":
            await _send(writer, act.status, json.dumps({"type": "error", "error": act.error}), act.headers)
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
            await self._stream(_anthropic_events(act), act, writer)
            return
        render = _responses if request.path.endswith("/responses") else _chat
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
    return Request(first.split()[1].partition("?")[0], headers, json.loads(body or b"{}"))


def _head(status: int, headers: JSON) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{k}: {v}" for k, v in {"connection": "close", **headers}.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: str, headers: JSON, cut: bool = False) -> None:
    data = body.encode()
    writer.write(_head(status, {"content-type": "application/json", "content-length": len(data)} | headers))
    writer.write(data[: len(data) // 2] if cut else data)
    await writer.drain()
    if cut:
        await asyncio.sleep(0.01)  # let the half arrive before the connection is reset
        writer.transport.abort()


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _token(act: Behaviour) -> list[JSON]:
    told = [{"token": token, "bytes": list(token.encode()), "logprob": value} for token, value in act.logprobs]
    return [{**told[0], "top_logprobs": told}] if told else []


def _chat(act: Behaviour) -> JSON:
    message: JSON = {"role": "assistant", "content": act.text or None}
    if act.stop == "refusal":
        message = {"role": "assistant", "content": None, "refusal": act.text}
    if act.tools:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": _text(given)}}
            for i, (name, given) in enumerate(act.tools)
        ]
    reason = "length" if act.stop == "length" else "tool_calls" if act.tools else "stop"
    choice: JSON = {"index": 0, "message": message, "finish_reason": reason}
    if act.logprobs:
        choice["logprobs"] = {"content": _token(act), "refusal": None}
    out: JSON = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-1",
        "choices": [choice],
    }
    if act.usage:
        out["usage"] = {
            "prompt_tokens": act.input,
            "completion_tokens": act.output,
            "total_tokens": act.input + act.output,
            "prompt_tokens_details": {"cached_tokens": act.cached, "cache_write_tokens": act.written},
            "completion_tokens_details": {"reasoning_tokens": act.reasoning},
        }
    return out


def _responses(act: Behaviour) -> JSON:
    output: list[JSON] = []
    if act.thought:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": act.thought})
    if act.text:
        kind = (
            {"type": "refusal", "refusal": act.text}
            if act.stop == "refusal"
            else {"type": "output_text", "text": act.text, "logprobs": _token(act)}
        )
        output.append({"type": "message", "id": "msg_1", "role": "assistant", "content": [kind | {"annotations": []}]})
    output += [
        {"type": "function_call", "id": f"fc_{i}", "call_id": f"call_{i}", "name": name, "arguments": _text(given)}
        for i, (name, given) in enumerate(act.tools)
    ]
    out: JSON = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "fake-1",
        "status": "incomplete" if act.stop == "length" else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if act.stop == "length" else None,
        "output": output,
    }
    if act.usage:
        out["usage"] = {
            "input_tokens": act.input,
            "output_tokens": act.output,
            "total_tokens": act.input + act.output,
            "input_tokens_details": {"cached_tokens": act.cached, "cache_write_tokens": act.written},
            "output_tokens_details": {"reasoning_tokens": act.reasoning},
        }
    return out


def _anthropic_events(act: Behaviour) -> list[JSON]:
    blocks: list[tuple[JSON, list[JSON]]] = []
    if act.thought:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((start, [{"type": "signature_delta", "signature": act.thought}]))
    if act.text:
        half = len(act.text) // 2
        parts = [{"type": "text_delta", "text": part} for part in (act.text[:half], act.text[half:])]
        blocks.append(({"type": "text", "text": ""}, parts))
    for i, (name, given) in enumerate(act.tools):
        start = {"type": "tool_use", "id": f"call_{i}", "name": name, "input": {}}
        blocks.append((start, [{"type": "input_json_delta", "partial_json": _text(given)}]))
    # Their input count leaves out what was read from or written to the cache.
    plain = act.input - act.cached - act.written
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": act.cached,
        "cache_creation_input_tokens": act.written,
        "output_tokens": 1,
    }
    final = {"output_tokens": act.output, "output_tokens_details": {"thinking_tokens": act.reasoning}}
    if not act.usage:
        usage, final = {"input_tokens": 0, "output_tokens": 0}, {"output_tokens": 0}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake-1", "content": [], "usage": usage}
    events: list[JSON] = [{"type": "message_start", "message": message}]
    for index, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = {"length": "max_tokens", "refusal": "refusal"}.get(act.stop, "tool_use" if act.tools else "end_turn")
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": final})
    return [*events, {"type": "message_stop"}]
