"""Log-probabilities of the first token: asked for on the wires that have them, refused on the one that has not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_provider import FakeProvider, ok
from llm_helpers import Desk, say

from agent.errors import ConfigError
from agent.llm.gateway import Llm
from agent.llm.types import Completion, Message, ModelRequest
from agent.llm.wire import first_token

TOLD = (("1", -0.25), ("0", -1.75), (" one", -4.0))

on_openai = pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
on_anthropic = pytest.mark.parametrize("wire", ["anthropic"], indirect=True)


async def ask(llm: Llm, request: ModelRequest) -> Completion:
    return await llm.complete(request, role="propose", scope="test")


@on_openai
async def test_the_likeliest_first_tokens_come_with_their_log_probabilities(
    provider: FakeProvider, llm: Llm, wire: str
) -> None:
    provider.script(ok("1", logprobs=TOLD[::-1]))
    reply = await ask(llm, say(logprobs=3))
    assert reply.logprobs == TOLD, "likeliest first"
    body = provider.requests[0].body
    assert body["top_logprobs"] == 3
    if wire == "openai-chat":
        assert body["logprobs"] is True
    else:
        assert body["include"] == ["message.output_text.logprobs"]


@on_openai
async def test_nothing_is_asked_for_when_nobody_wants_them(provider: FakeProvider, llm: Llm) -> None:
    provider.script(ok("1", logprobs=TOLD))
    assert (await ask(llm, say())).logprobs == ()
    assert not {"logprobs", "top_logprobs", "include"} & provider.requests[0].body.keys()


@on_openai
async def test_a_server_that_keeps_them_to_itself_is_no_error(provider: FakeProvider, llm: Llm) -> None:
    assert (await ask(llm, say(logprobs=3))).logprobs == ()


@on_anthropic
async def test_where_there_are_none_nothing_is_sent(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    with pytest.raises(ConfigError, match="gives no log-probabilities") as caught:
        await ask(llm, say(logprobs=3))
    assert caught.value.hint and provider.calls == 0
    assert [end.reply for end in desk.ended] == [None]


@on_openai
async def test_they_are_recorded_with_the_reply(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(ok("1", logprobs=TOLD))
    reply = await ask(llm, say(logprobs=3))
    again = Completion.from_json(desk.ended[0].reply)  # type: ignore[arg-type]
    assert again.logprobs == reply.logprobs == TOLD


def test_requests_without_them_keep_the_hash_they_had() -> None:
    request = ModelRequest((Message("user", "hello"),))
    assert "logprobs" not in request.to_json()
    assert request.key("m") != ModelRequest((Message("user", "hello"),), logprobs=5).key("m")


@pytest.mark.parametrize(
    "tokens",
    [
        None,
        [],
        {},
        "no",
        [None],
        [{}],
        [{"top_logprobs": None}],
        [{"top_logprobs": [None, {}, {"token": "1"}, {"token": "1", "logprob": "high"}]}],
        [{"top_logprobs": [{"token": "1", "logprob": math.nan}, {"token": "0", "logprob": -math.inf}]}],
    ],
)
def test_what_a_server_makes_of_them_is_not_trusted(tokens: Any) -> None:
    assert first_token(tokens) == ()
