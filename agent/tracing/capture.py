"""Model calls of the traced program as spans: `client = capture(OpenAI())`, or Anthropic, sync or async.

The client stays what it is; its methods that ask a model record a span of kind "llm" while something records, with
the messages, the reply as text and the tokens. It knows Chat Completions, Responses and Messages, their streams,
`parse`, and Anthropic's `messages.stream()`. No SDK is imported. A copy made by `with_options` is another client.
A raw response is read where it has been read already (`with_raw_response`), and else left alone and said to be.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import CoroutineType
from typing import Any, TypeVar

from agent.errors import ConfigError
from agent.tracing.recorder import Open, Recorder
from agent.tracing.scopes import SCOPE, current

C = TypeVar("C")
METHODS = (
    "chat.completions.create",
    "chat.completions.parse",
    "responses.create",
    "responses.parse",
    "messages.create",
    "messages.parse",
    "messages.stream",
)
RAW_HEADER = "X-Stainless-Raw-Response"
"""How the wrappers of both SDKs ask for one."""
RAW = "(raw response, not read)"
EARLY = "the stream was closed before its end"
LAST = ("message_stop", "response.completed", "response.incomplete", "response.failed")
"""Types of the event that ends a reply; Chat Completions say a reason in a choice."""


def capture(client: C) -> C:
    """Have a client's model calls recorded; calling it twice changes nothing more.

    Args:
        client: Of the OpenAI or the Anthropic SDK, sync or async.

    Returns:
        The same client.

    Raises:
        ConfigError: It has none of the methods that ask a model.
    """
    known = False
    for path in METHODS:
        *parts, name = path.split(".")
        resource: Any = client
        for part in parts:
            resource = getattr(resource, part, None)
        method = getattr(resource, name, None)
        if callable(method):
            known = True
            if not hasattr(method, "captured"):
                setattr(resource, name, _recorded(method))
    if not known:
        raise ConfigError(
            f"capture: {type(client).__name__} is no client of OpenAI or Anthropic",
            hint="give it the client itself, such as capture(OpenAI()); calls of others are recorded with @op",
        )
    return client


class _Call:
    """A model call that is being recorded.

    Args:
        recorder: That gets the span.
        span: Of the call.
        given: Arguments of the call.
    """

    def __init__(self, recorder: Recorder, span: Open, given: Mapping[str, Any]) -> None:
        self.recorder, self.span = recorder, span
        self.streams = bool(given.get("stream"))
        headers = given.get("extra_headers")
        self.raw = str(headers.get(RAW_HEADER, "")) if isinstance(headers, Mapping) else ""
        """Which raw response is wanted: one that has been read, or "stream"; or ""."""
        self.texts: dict[int, list[str]] = {}
        """What came, by number of the choice."""
        self.tools: dict[tuple[int, int], list[str]] = {}
        """Kinds, names and arguments of the tools called, by choice and number."""
        self.whole = False
        self.open = True

    def end(self, text: str) -> None:
        if self.open:
            self.open = False
            self.recorder.end(self.span, text)

    def result(self, result: Any) -> None:
        """A whole reply."""
        self.tokens(getattr(result, "usage", None))
        self.end(_reply(result))

    def streamed(self) -> None:
        """The stream has ended, or was left."""
        if self.open:
            tools = (f"[{kind} {name} {given}]" for _, (kind, name, given) in sorted(self.tools.items()))
            said = ["".join(texts) for _, texts in sorted(self.texts.items())]
            if not self.whole:
                self.recorder.note(self.span, EARLY)
            self.end("\n".join(filter(None, (*said, *tools))))

    def raw_result(self, made: Any) -> None:
        """What a raw response comes to; None where it was not read."""
        if made is None or isinstance(made, CoroutineType):
            self.end(RAW)
        else:
            self.result(made)

    def fail(self, error: BaseException) -> None:
        if self.open:
            self.open = False
            self.recorder.fail(self.span, error, True)  # the failing line of the user's own is around the call

    def tokens(self, usage: Any) -> None:
        used, written = self.span.tokens
        for name in ("prompt_tokens", "input_tokens"):
            used = max(used, _whole(getattr(usage, name, 0)))
        for name in ("completion_tokens", "output_tokens"):
            written = max(written, _whole(getattr(usage, name, 0)))
        self.span.tokens = used, written

    def chunk(self, chunk: Any) -> None:
        """A part of a streamed reply, of any of the three kinds of stream."""
        delta, kind = getattr(chunk, "delta", None), getattr(chunk, "type", "")
        self.whole = self.whole or kind in LAST
        for choice in getattr(chunk, "choices", None) or ():
            self._choice(choice)
        if kind == "response.output_text.delta":
            self._text(delta)
        elif kind == "response.output_item.done" and getattr(chunk.item, "type", "") == "function_call":
            self.tools[0, chunk.output_index] = ["function_call", chunk.item.name, chunk.item.arguments]
        elif kind == "content_block_start" and getattr(chunk.content_block, "type", "") == "tool_use":
            self.tools[0, chunk.index] = ["tool_use", chunk.content_block.name, ""]
        elif kind == "content_block_delta" and (0, chunk.index) in self.tools:
            self.tools[0, chunk.index][2] += getattr(delta, "partial_json", None) or ""
        elif kind == "content_block_delta":
            self._text(getattr(delta, "text", None))
        for holder in (chunk, getattr(chunk, "response", None), getattr(chunk, "message", None)):
            self.tokens(getattr(holder, "usage", None))

    def _choice(self, choice: Any) -> None:
        number, delta = _whole(getattr(choice, "index", 0)), choice.delta
        self.whole = self.whole or bool(getattr(choice, "finish_reason", None))
        self._text(getattr(delta, "content", None), number)
        for tool in getattr(delta, "tool_calls", None) or ():
            made = self.tools.setdefault((number, _whole(getattr(tool, "index", 0))), ["function", "", ""])
            called = getattr(tool, "function", None)
            made[1] += getattr(called, "name", None) or ""
            made[2] += getattr(called, "arguments", None) or ""

    def _text(self, text: Any, choice: int = 0) -> None:
        if isinstance(text, str) and text:
            self.texts.setdefault(choice, []).append(text)


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def captured(*args: Any, **kwargs: Any) -> Any:
        scope = current()
        recorder = scope.recorder if scope is not None else None
        if scope is None or recorder is None or recorder.ended or (scope.span is not None and scope.span.kind == "llm"):
            return method(*args, **kwargs)
        span, inside = recorder.begin(scope, "llm", str(kwargs.get("model", "")), _inputs(kwargs))
        call = _Call(recorder, span, kwargs)
        SCOPE.set(inside)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            SCOPE.set(scope)
        return _later(call, result) if isinstance(result, CoroutineType) else _kept(call, result)

    captured.captured = True  # type: ignore[attr-defined]
    return captured


async def _later(call: _Call, waiting: Any) -> Any:
    try:
        result = await waiting
    except BaseException as error:
        call.fail(error)
        raise
    if hasattr(result, "http_response") and isinstance(made := _read(call, result), CoroutineType):
        try:
            call.raw_result(await made)
        except Exception:  # the user will see it too
            call.end(RAW)
    return _kept(call, result)


def _kept(call: _Call, result: Any) -> Any:
    """The result; a stream is followed to its end."""
    if hasattr(result, "http_response"):
        if call.open:
            call.raw_result(_read(call, result))
        return result
    if hasattr(result, "usage") or hasattr(result, "choices"):
        call.result(result)
        return result
    if any(hasattr(result, name) for name in ("__next__", "__anext__", "__enter__", "__aenter__")):
        return _Stream(call, result)
    call.result(result)
    return result


def _read(call: _Call, result: Any) -> Any:
    """What the SDK makes of a raw response; kept in it, so that the user gets the same object. May be a coroutine."""
    try:
        return None if call.raw in ("", "stream") or call.streams else result.parse()
    except Exception:  # the user will see it too
        return None


class _Stream:
    """A stream of the SDK, or the manager of one, that is read as before."""

    def __init__(self, call: _Call, source: Any) -> None:
        self._call, self._source, self._inner = call, source, source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            for chunk in self._source:
                self._call.chunk(chunk)
                yield chunk
            self._call.whole = True
        except Exception as error:
            self._call.fail(error)
            raise
        finally:
            self._end()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for chunk in self._source:
                self._call.chunk(chunk)
                yield chunk
            self._call.whole = True
        except Exception as error:
            self._call.fail(error)
            raise
        finally:
            self._end()

    def __next__(self) -> Any:
        try:
            chunk = next(self._source)
        except BaseException as error:
            self._stop(error, StopIteration)
            raise
        self._call.chunk(chunk)
        return chunk

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._source)
        except BaseException as error:
            self._stop(error, StopAsyncIteration)
            raise
        self._call.chunk(chunk)
        return chunk

    def close(self) -> Any:
        """Leave it; of an async one this is to be awaited."""
        self._end()
        return self._source.close()

    def __enter__(self) -> Any:
        try:
            self._inner = self._source.__enter__()
        except BaseException as error:
            self._call.fail(error)
            raise
        return self if self._inner is self._source else self._inner

    async def __aenter__(self) -> Any:
        try:
            self._inner = await self._source.__aenter__()
        except BaseException as error:
            self._call.fail(error)
            raise
        return self if self._inner is self._source else self._inner

    def __exit__(self, kind: Any, error: Any, place: Any) -> Any:
        self._leave(error)
        return self._source.__exit__(kind, error, place)

    async def __aexit__(self, kind: Any, error: Any, place: Any) -> Any:
        self._leave(error)
        return await self._source.__aexit__(kind, error, place)

    def _leave(self, error: BaseException | None) -> None:
        if error is not None:
            self._call.fail(error)
        self._end()

    def _stop(self, error: BaseException, last: type[BaseException]) -> None:
        if isinstance(error, last):
            self._call.whole = True
            self._end()
        else:
            self._call.fail(error)

    def _end(self) -> None:
        try:
            whole = getattr(self._inner, "current_message_snapshot", None)
        except Exception:  # nothing has come yet
            whole = None
        if whole is not None and not self._call.texts:
            if not getattr(whole, "stop_reason", None):
                self._call.recorder.note(self._call.span, EARLY)
            self._call.result(whole)
        self._call.streamed()


def _inputs(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the model is told, each message by itself, so that a prompt is seen to be a parameter's value."""
    out = [(name, given[name]) for name in ("system", "instructions") if given.get(name)]
    messages = given.get("messages", given.get("input", ()))
    if isinstance(messages, str):
        return [*out, ("input", messages)]
    for number, message in enumerate(messages if isinstance(messages, (list, tuple)) else ()):
        known = isinstance(message, Mapping)
        role = str(message.get("role") or message.get("type", "")) if known else type(message).__name__
        content = message["content"] if known and "content" in message else message
        if isinstance(content, list) and len(content) == 1 and isinstance(content[0], Mapping) and "text" in content[0]:
            content = content[0]["text"]
        out.append((f"{number}.{role}", content))
    return out


def _reply(result: Any) -> str:
    """The reply as text: the text itself, or else the tools that the model calls."""
    parts: list[Any] = []
    for choice in getattr(result, "choices", None) or ():
        message = choice.message
        parts += [getattr(message, "content", None) or "", *(getattr(message, "tool_calls", None) or ())]
    parts += [getattr(result, "output_text", None) or ""]
    for item in getattr(result, "output", None) or ():
        parts += [item] if getattr(item, "type", "") == "function_call" else []
    for block in getattr(result, "content", None) or ():
        parts += [block.text if isinstance(getattr(block, "text", None), str) else block]
    texts = [part if isinstance(part, str) else _tool(part) for part in parts]
    texts = [text for text in texts if text]
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def _tool(part: Any) -> str:
    kind = getattr(part, "type", "")
    called = getattr(part, "function", part)
    name, arguments = getattr(called, "name", None), getattr(called, "arguments", getattr(called, "input", None))
    if name is None:
        return ""
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
    return f"[{kind or 'tool'} {name} {said}]"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
