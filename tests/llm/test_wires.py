"""The three wires, spoken by the real SDKs: one request in, one completion out, the same for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from fake_provider import FakeProvider, ok, refusal, structured, tools, truncated
from llm_helpers import KEY, Desk, say

from agent.errors import ConfigError
from agent.llm.connect import connect
from agent.llm.gateway import Llm
from agent.llm.types import Message, ModelRequest, ToolSpec

SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "number", "minimum": 0}, "note": {"type": "string", "maxLength": 80}},
    "required": ["x"],
}
SEARCH = ToolSpec("search", "Find it.", {"type": "object", "properties": {"q": {"type": "string"}}})

only_anthropic = pytest.mark.parametrize("wire", ["anthropic"], indirect=True)


async def ask(llm: Llm, request: ModelRequest) -> Any:
    return await llm.complete(request, role="propose", scope="test")


async def test_a_text_goes_in_and_a_text_comes_out(provider: FakeProvider, llm: Llm) -> None:
    provider.script(ok("the answer"))
    reply = await ask(llm, say("the question", system="be brief"))
    assert (reply.text, reply.stop, reply.model, reply.tool_calls) == ("the answer", "end", "fake-1", ())
    sent = json.dumps(provider.requests[0].body)
    assert "the question" in sent and "be brief" in sent
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_cached_tokens_are_part_of_the_input_on_every_wire(provider: FakeProvider, llm: Llm) -> None:
    provider.script(ok(input=100, cached=60, written=30, output=20, reasoning=5))
    usage = (await ask(llm, say())).usage
    assert (usage.input, usage.cached, usage.cache_written, usage.output, usage.reasoning) == (100, 60, 30, 20, 5)


async def test_nothing_is_kept_at_the_provider(provider: FakeProvider, llm: Llm, wire: str) -> None:
    await ask(llm, say())
    body = provider.requests[0].body
    assert body.get("store", False) is False
    if wire == "openai-responses":
        assert body["store"] is False
    assert not {"previous_response_id", "conversation"} & body.keys()


async def test_a_truncated_reply_says_so(provider: FakeProvider, llm: Llm) -> None:
    provider.script(truncated("it begins"))
    reply = await ask(llm, say())
    assert (reply.stop, reply.text) == ("length", "it begins")


async def test_a_refusal_says_so(provider: FakeProvider, llm: Llm) -> None:
    provider.script(refusal("no"))
    reply = await ask(llm, say())
    assert (reply.stop, reply.text) == ("refusal", "no")


async def test_a_schema_is_sent_in_strict_form_and_left_as_it_was(provider: FakeProvider, llm: Llm, wire: str) -> None:
    provider.script(structured({"x": 1.5, "note": None}))
    mine = deepcopy(SCHEMA)
    reply = await llm.structured(say(), role="propose", scope="test", schema=mine)
    assert mine == SCHEMA
    assert reply.parsed == {"x": 1.5}  # null stood for "left out"
    body = provider.requests[0].body
    sent = {
        "openai-responses": lambda: body["text"]["format"]["schema"],
        "openai-chat": lambda: body["response_format"]["json_schema"]["schema"],
        "anthropic": lambda: body["output_config"]["format"]["schema"],
    }[wire]()
    assert sent["required"] == ["x", "note"]
    assert sent["additionalProperties"] is False
    assert sent["properties"]["note"]["anyOf"][1] == {"type": "null"}
    number = sent["properties"]["x"]
    if wire == "anthropic":  # which enforces no bounds: the model can at least read them
        assert "minimum" not in number and "minimum: 0" in number["description"]
    else:
        assert number["minimum"] == 0


async def test_a_schema_with_free_keys_is_not_lost(provider: FakeProvider, llm: Llm, wire: str) -> None:
    free = {"type": "object", "additionalProperties": {"type": "number"}}
    provider.script(structured({"anything": 1}))
    assert (await llm.structured(say(), role="propose", scope="test", schema=free)).parsed == {"anything": 1}
    body = provider.requests[0].body
    if wire == "anthropic":
        assert json.dumps(free) in body["system"]
    elif wire == "openai-chat":
        assert body["response_format"]["json_schema"]["strict"] is False
    else:
        assert body["text"]["format"]["strict"] is False


async def test_tools_are_called_in_parallel_and_their_results_go_back(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("search", {"q": "a"}), ("search", {"q": "b"})), ok("done"))
    request = say(tools=(SEARCH,))
    reply = await ask(llm, request)
    assert reply.stop == "tool"
    assert [call.arguments for call in reply.tool_calls] == [{"q": "a"}, {"q": "b"}]
    results = tuple(
        Message("tool", f"found {i}", tool_call_id=call.id, is_error=i == 1) for i, call in enumerate(reply.tool_calls)
    )
    asked = ModelRequest((*request.messages, reply.as_message(), *results), tools=(SEARCH,))
    assert (await ask(llm, asked)).text == "done"
    sent = json.dumps(provider.requests[1].body)
    assert all(text in sent for text in ("found 0", "found 1", "call_0", "call_1"))


@only_anthropic
async def test_anthropic_gets_all_results_of_tools_in_one_turn(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("search", {"q": "a"}), ("search", {"q": "b"})), ok())
    reply = await ask(llm, say(tools=(SEARCH,)))
    results = [Message("tool", "r", tool_call_id=call.id, is_error=True) for call in reply.tool_calls]
    await ask(
        llm, ModelRequest((*say().messages, reply.as_message(), *results, Message("user", "go on")), tools=(SEARCH,))
    )
    turns = provider.requests[1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [block["type"] for block in turns[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert turns[2]["content"][0]["is_error"] is True


@pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
async def test_arguments_that_are_not_json_are_kept_as_they_came(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("search", '{"q": "a')))
    call = (await ask(llm, say(tools=(SEARCH,)))).tool_calls[0]
    assert call.arguments is None
    assert call.raw == '{"q": "a'


async def test_arguments_that_were_cut_off_are_not_made_up(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("search", '{"q": "a'), stop="length"))
    reply = await ask(llm, say(tools=(SEARCH,)))
    assert reply.stop == "length"
    assert reply.tool_calls[0].arguments is None


async def test_signed_reasoning_is_handed_back_word_for_word(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk, wire: str
) -> None:
    llm = make(desk, using={"profile": {"effort": True}})
    provider.script(tools(("search", {"q": "a"}), thought="c2lnbmVk"), ok())
    reply = await ask(llm, say(tools=(SEARCH,)))
    result = Message("tool", "found", tool_call_id=reply.tool_calls[0].id)
    await ask(llm, ModelRequest((*say().messages, reply.as_message(), result), tools=(SEARCH,)))
    sent = json.dumps(provider.requests[1].body)
    assert ("c2lnbmVk" in sent) is (wire != "openai-chat")  # which has no place for it
    assert "rs_1" not in sent  # an id would be looked up, and nothing is stored


async def test_temperature_effort_and_seed_go_only_where_they_are_taken(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk, wire: str
) -> None:
    request = say(temperature=0.7, effort="low")
    takes = {"temperature": True, "effort": True, "seed": True, "adaptive": False}
    await ask(make(desk, using={"profile": takes}), request)
    await ask(make(desk, using={"profile": dict.fromkeys(takes, False)}), request)
    taken, refused = (item.body for item in provider.requests)
    assert taken["temperature"] == 0.7
    assert ("seed" in taken) is (wire == "openai-chat")
    assert '"low"' in json.dumps(taken)
    assert not {"temperature", "seed", "reasoning", "reasoning_effort", "output_config"} & refused.keys()


@only_anthropic
async def test_thinking_is_switched_on_where_that_must_be_asked_for(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk
) -> None:
    await ask(make(desk, model="claude-opus-5"), say(effort="high"))
    body = provider.requests[0].body
    assert body["thinking"] == {"type": "adaptive"} and body["output_config"] == {"effort": "high"}


async def test_a_large_limit_of_output_tokens_is_no_problem(provider: FakeProvider, llm: Llm) -> None:
    assert (await ask(llm, say(max_output_tokens=100_000))).text == "fine"
    assert 100_000 in provider.requests[0].body.values()


async def test_the_limit_of_output_tokens_is_what_the_model_can_at_most(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk
) -> None:
    await ask(make(desk, using={"profile": {"max_output": 50}}), say(max_output_tokens=100_000))
    assert 50 in provider.requests[0].body.values()
    assert desk.started[0].request["max_output_tokens"] == 50


async def test_tools_are_refused_before_anything_is_sent_to_a_model_without(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk
) -> None:
    with pytest.raises(ConfigError, match="takes no tools"):
        await ask(make(desk, using={"profile": {"tools": False}}), say(tools=(SEARCH,)))
    assert provider.calls == 0


async def test_without_schema_support_the_prompt_carries_the_schema(
    provider: FakeProvider, make: Callable[..., Llm], desk: Desk
) -> None:
    llm = make(desk, using={"profile": {"schema": False}})
    provider.script(ok('Sure:\n```json\n{"x": 2}\n```'))
    reply = await llm.structured(say(system="be brief"), role="propose", scope="test", schema=SCHEMA)
    assert reply.parsed == {"x": 2}
    sent = json.dumps(provider.requests[0].body)
    assert "be brief" in sent and "maxLength" in sent
    assert not {"text", "response_format", "output_config"} & provider.requests[0].body.keys()


async def test_a_client_that_was_handed_in_is_used_and_stays_open(
    provider: FakeProvider, options: dict[str, Any], wire: str
) -> None:
    import httpx2

    seen: list[str] = []

    async def note(request: httpx2.Request) -> None:
        seen.append(request.url.path)

    async with httpx2.AsyncClient(event_hooks={"request": [note]}) as client:
        model = connect(f"{wire}:m", options=options | {"http_client": client})
        assert (await model.complete(say(), seed=None)).text == "fine"
        await model.close()
        assert len(seen) == 1 and not client.is_closed
