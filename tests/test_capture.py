"""Model calls of a traced program, made by the real SDKs against canned wire bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from agent.errors import ConfigError
from agent.texts import Text
from agent.trace import op, param, record
from agent.tracing.capture import capture
from agent.tracing.spans import Span, Trace
from tests.fake_wires import anthropic_events, chat, message, ok, responses, tools

prompt = param("prompt", Text("Answer in one word, please."))


def wire(request: httpx2.Request) -> httpx2.Response:
    """What a provider sends; the word "fail" in the request is an error, "tool" gets a tool call."""
    asked = request.content.decode()
    body = json.loads(asked)
    act = tools(("look_up", {"q": "Oslo"})) if "tool" in asked else ok("Oslo it is")
    if "fail" in asked:
        return httpx2.Response(400, json={"error": {"type": "invalid", "message": "no such thing"}})
    kind = request.url.path.rpartition("/")[2]
    if not body.get("stream"):
        made = {"completions": chat, "responses": responses, "messages": message}[kind](act)
        return httpx2.Response(200, json=made)
    if kind == "messages":
        events = anthropic_events(act)
        text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    elif kind == "responses":
        done = responses(act)
        calls = [item for item in done["output"] if item["type"] == "function_call"]
        last = [{"type": "response.output_item.done", "output_index": n, "item": item, "sequence_number": 8}
                for n, item in enumerate(calls)]  # fmt: skip
        parts = [{"type": "response.output_text.delta", "delta": d, "item_id": "i", "output_index": 0,
                  "content_index": 0, "logprobs": [], "sequence_number": 1} for d in ("Oslo ", "it is")]  # fmt: skip
        events = [*(last or parts), {"type": "response.completed", "response": done, "sequence_number": 9}]
        text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    else:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        said = [{"content": d} for d in ("Oslo ", "it is")]
        if act.tools:
            said = [{"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": f}]} for f in (
                {"name": "look_up", "arguments": '{"q": '}, {"arguments": '"Oslo"}'})]  # fmt: skip
        deltas: list[Any] = [{"index": 0, "delta": d, "finish_reason": None} for d in said]
        chunks = [{**head, "choices": [d]} for d in deltas]
        chunks.append(
            {**head, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
        )
        text = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    return httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})


def client(kind: Any) -> Any:
    web: Any = httpx2.AsyncClient if "Async" in kind.__name__ else httpx2.Client
    transport = httpx2.MockTransport(wire)
    return capture(kind(api_key="k", max_retries=0, http_client=web(transport=transport), base_url="http://x"))


def asks(made: Any, way: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    said = [{"role": "user", "content": "Where?"}]
    if way == "chat":
        told = [{"role": "system", "content": prompt.value}, *said]
        return made.chat.completions.create, {"model": "m1", "messages": told}
    if way == "responses":
        return made.responses.create, {"model": "m1", "instructions": prompt.value, "input": "Where?"}
    return made.messages.create, {"model": "m1", "max_tokens": 9, "system": prompt.value, "messages": said}


def only(trace: Trace, text: str = "Oslo it is") -> Span:
    (span,) = trace.spans
    assert (span.kind, span.name, span.raised) == ("llm", "m1", None)
    assert trace.values[span.output].text == text and span.tokens[0] > 0 and span.tokens[1] > 0
    return span


WAYS = [("OpenAI", "chat"), ("OpenAI", "responses"), ("Anthropic", "messages")]


@pytest.mark.parametrize(("maker", "way"), WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_a_span_with_messages_reply_and_tokens(maker: str, way: str, stream: bool) -> None:
    made = client(getattr(openai if maker == "OpenAI" else anthropic, maker))
    with record() as run:
        method, given = asks(made, way)
        result = method(**given, stream=stream)
        if stream:
            assert len(list(result)) > 1
    span = only(run.trace)
    said = {name.rpartition(".")[2]: run.trace.values[key].text for name, key in span.inputs.items()}
    assert prompt.value in said.values() and "Where?" in said.values() and span.reads == ("prompt",)


@pytest.mark.parametrize(("maker", "way"), WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_async_clients_too(maker: str, way: str, stream: bool) -> None:
    made = client(getattr(openai if maker == "OpenAI" else anthropic, f"Async{maker}"))

    async def main() -> Trace:
        with record() as run:
            method, given = asks(made, way)
            result = await method(**given, stream=stream)
            if stream:
                async with result as chunks:
                    assert len([chunk async for chunk in chunks]) > 1
        return run.trace

    only(asyncio.run(main()))


def test_the_stream_helpers_of_both_kits() -> None:
    given: dict[str, Any] = {"model": "m1", "max_tokens": 9, "messages": [{"role": "user", "content": "Where?"}]}
    with record() as run, client(anthropic.Anthropic).messages.stream(**given) as stream:
        assert "".join(stream.text_stream) == "Oslo it is"
    only(run.trace)

    async def main() -> Trace:
        made = client(anthropic.AsyncAnthropic)
        with record() as run:
            async with made.messages.stream(**given) as stream:
                assert await stream.get_final_text() == "Oslo it is"
        return run.trace

    only(asyncio.run(main()))
    del given["max_tokens"]
    with record() as run, client(openai.OpenAI).chat.completions.stream(**given) as stream:
        assert list(stream)
    only(run.trace)


def test_a_stream_left_early_is_ended_with_what_came() -> None:
    made = client(openai.OpenAI)
    with (
        record() as run,
        made.chat.completions.create(
            model="m1", messages=[{"role": "user", "content": "Where?"}], stream=True
        ) as stream,
    ):
        assert next(stream).choices[0].delta.content == "Oslo "
    (span,) = run.trace.spans
    assert run.trace.values[span.output].text == "Oslo " and span.notes == ("the stream was closed before its end",)
    with record() as run:
        stream = made.chat.completions.create(model="m1", messages=[{"role": "user", "content": "Where?"}], stream=True)
        next(stream)
        stream.close()
        with client(anthropic.Anthropic).messages.stream(
            model="m1", max_tokens=9, messages=[{"role": "user", "content": "Where?"}]
        ) as managed:
            next(iter(managed.text_stream))
    assert [span.notes for span in run.trace.spans] == 2 * [("the stream was closed before its end",)]


def test_a_raw_response_is_read_where_that_takes_nothing_from_the_user() -> None:
    given: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "Where?"}]}
    completions = client(openai.OpenAI).chat.completions
    with record() as run:
        raw = completions.with_raw_response.create(**given)
        assert raw.parse().choices[0].message.content == "Oslo it is"
    only(run.trace)
    with record() as run:
        with completions.with_streaming_response.create(**given) as open_response:
            assert open_response.parse().choices[0].message.content == "Oslo it is"
        assert len(list(completions.with_raw_response.create(**given, stream=True).parse())) > 1
    texts = [run.trace.values[span.output].text for span in run.trace.spans]
    assert texts == 2 * ["(raw response, not read)"]

    async def main() -> Trace:
        with record() as run:
            made = client(anthropic.AsyncAnthropic)
            raw = await made.messages.with_raw_response.create(**given, max_tokens=9)
            assert (await raw.parse()).content[0].text == "Oslo it is"
        return run.trace

    only(asyncio.run(main()))

    async def streams() -> Trace:
        with record() as run:
            made = client(anthropic.AsyncAnthropic).messages.with_streaming_response
            async with made.create(**given, max_tokens=9) as raw:
                assert (await raw.parse()).content[0].text == "Oslo it is"
            raw = await client(openai.AsyncOpenAI).chat.completions.with_raw_response.create(**given)
            assert raw.parse().choices[0].message.content == "Oslo it is"
        return run.trace

    trace = asyncio.run(streams())
    texts = [trace.values[span.output].text for span in trace.spans]
    assert texts == ["(raw response, not read)", "Oslo it is"]


@pytest.mark.parametrize(("maker", "way"), WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_shown(maker: str, way: str, stream: bool) -> None:
    made = client(getattr(openai if maker == "OpenAI" else anthropic, maker))
    method, given = asks(made, way)
    with record() as run:
        result = method(**{**given, "model": "m1"}, metadata={"user_id": "tool"}, stream=stream)
        if stream:
            assert list(result)
    kind = {"chat": "function", "responses": "function_call", "messages": "tool_use"}[way]
    (span,) = run.trace.spans
    assert run.trace.values[span.output].text == f'[{kind} look_up {{"q": "Oslo"}}]' and not span.notes


def test_an_error_is_a_failed_span_at_the_users_line() -> None:
    made = client(openai.OpenAI)

    @op
    def answer(text: str) -> Any:
        return made.responses.create(model="m1", input=text)

    with record() as run, pytest.raises(openai.BadRequestError):
        answer("fail")
    outer, inner = run.trace.spans
    assert inner.kind == "llm" and inner.parent == outer.id and inner.raised and outer.raised
    assert inner.raised.type == "BadRequestError" and inner.raised.line == 0
    assert outer.raised.text == 'return made.responses.create(model="m1", input=text)'


def test_without_a_recorder_the_sdk_is_as_it_was() -> None:
    made = client(openai.OpenAI)
    assert capture(made) is made
    assert made.responses.create(model="m1", input="Where?").output_text == "Oslo it is"
    chunks = made.chat.completions.create(model="m1", messages=[], stream=True)
    assert type(chunks) is openai.Stream
    with record() as run:
        made.responses.create(model="m1", input="Where?")
    assert len(run.trace.spans) == 1, "wrapped once"


def test_the_reply_feeds_what_takes_it() -> None:
    @op
    def upper(text: str) -> str:
        return text.upper()

    with record() as run:
        reply = client(openai.OpenAI).chat.completions.create(
            model="m1", messages=[{"role": "user", "content": "Where?"}]
        )
        upper(reply.choices[0].message.content)
    assert run.trace.spans[1].feeds == ((0, True),)


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="no client"):
        capture(object())
