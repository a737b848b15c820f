"""Calls that can wait go through the provider's Batch API: sent once, paid half, and every result finds its call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from batch_helpers import IN_BATCHES, agrees, answers, ask, counts, echo, kinds, texts
from fake_provider import FakeProvider, error, ok, refusal, structured, tools, truncated
from llm_helpers import PRICE, WIRES, Desk, say

from agent.errors import BudgetExceeded, ConfigError, ProviderError
from agent.ledger import Budget
from agent.llm.gateway import Llm
from agent.llm.openai_batches import OpenAIBatches
from agent.llm.prices import Prices
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ToolSpec, Usage

Make = Callable[..., Llm]
SCHEMA = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": False}
OPENAI = pytest.mark.parametrize("wire", WIRES[:2])


@pytest.fixture
def llm(make: Make, desk: Desk, provider: FakeProvider) -> Llm:
    provider.answer = echo
    return make(desk, **IN_BATCHES)


# What is sent and recorded.


async def test_many_requests_are_one_batch_and_come_back_in_order(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    assert texts(await ask(llm, 5)) == answers(5)
    assert len(provider.batches.all) == 1 and provider.calls == 0
    assert kinds(desk) == [
        *["call.started"] * 5,
        "batch.started",
        "batch.submitted",
        *["call.ended"] * 5,
        "batch.ended",
    ]
    assert counts(desk) == {"succeeded": 5}
    assert desk.ledger.waiting() == [] and desk.ledger.to_json()["possibly_spent"]["calls"] == 0
    agrees(provider, desk)
    assert provider.batches.calls == 5


async def test_calls_asked_for_one_by_one_share_a_batch(provider: FakeProvider, llm: Llm) -> None:
    asked = [llm.complete(say(f"question {i}"), role="propose", scope=f"proposal-{i}") for i in range(3)]
    assert texts(list(await asyncio.gather(*asked))) == answers()
    assert len(provider.batches.all) == 1


async def test_each_step_is_durable_before_the_next(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    seen: dict[str, list[str]] = {}
    real = provider.batches.do

    def spy(request: Any, url: str) -> Any:
        what = f"{request.method} {request.path.removeprefix('/v1').removeprefix('/messages').split('_')[0]}"
        seen.setdefault(what, [event.type for event in desk.events[: desk.durable]])
        return real(request, url)

    provider.batches.do = spy  # type: ignore[method-assign]
    await ask(llm, 2)
    assert seen["POST /batches"] == ["call.started"] * 2 + ["batch.started"]
    assert seen["GET /batches/batch"] == ["call.started"] * 2 + ["batch.started", "batch.submitted"]


async def test_a_batch_costs_half(llm: Llm, desk: Desk, make: Make) -> None:
    (reply,) = await ask(llm, 1)
    plain = Desk()
    (full,) = await ask(make(plain), 1)
    assert isinstance(reply, Completion) and isinstance(full, Completion)
    assert reply.usd and full.usd and reply.usd == pytest.approx(full.usd / 2)
    assert desk.started[0].reserved["usd"] == pytest.approx(plain.started[0].reserved["usd"] / 2)
    assert (desk.started[0].batch, plain.started[0].batch) == (True, False)


def test_published_prices_know_batches() -> None:
    usage = Usage(input=1000, output=500)
    for model in ("openai:gpt-4.1", "anthropic:claude-haiku-4-5"):
        full, half = Prices().usd(model, usage), Prices().usd(model, usage, batch=True)
        assert full and half == pytest.approx(full / 2)
    own = Prices({"anthropic:m": PRICE})
    assert own.worst("anthropic:m", 100, 100, batch=True) == pytest.approx(1.5e-4)
    assert Prices().usd("openai:nobody-knows", usage, batch=True) is None


async def test_limits_hold_for_batches(provider: FakeProvider, make: Make) -> None:
    provider.answer = echo
    desk = Desk(Budget(calls=2))
    replies = await ask(make(desk, **IN_BATCHES), 4)
    assert texts(replies)[:2] == answers(2)
    assert all(isinstance(reply, BudgetExceeded) for reply in replies[2:])
    assert provider.batches.calls == 2


@OPENAI
@pytest.mark.parametrize(("limit", "value", "sizes"), [("most", 2, [2, 2, 1]), ("room", 700, [1, 1, 1, 1, 1])])
async def test_what_is_too_much_for_one_batch_is_divided(
    provider: FakeProvider,
    llm: Llm,
    wire: str,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    sizes: list[int],
) -> None:
    monkeypatch.setattr(OpenAIBatches, limit, value)
    assert texts(await ask(llm, 5)) == answers(5)
    assert [len(batch.names) for batch in provider.batches.all] == sizes


async def test_all_at_once_without_batches_too(provider: FakeProvider, make: Make, desk: Desk) -> None:
    provider.answer = lambda request: error(400) if "question 1" in str(request.body) else echo(request)
    replies = await ask(make(desk), 3)
    assert (texts(replies)[0], texts(replies)[2]) == ("answer 0", "answer 2")
    assert isinstance(replies[1], ProviderError) and replies[1].status == 400
    assert not provider.batches.all and provider.calls == 3


# Replies are what they are without batches.


async def test_a_repair_goes_into_the_next_batch(provider: FakeProvider, llm: Llm) -> None:
    provider.script(structured({"x": "many"}), structured({"x": 1}), structured({"x": 3}))
    replies = await ask(llm, 2, schema=SCHEMA)
    assert [reply.parsed for reply in replies if isinstance(reply, Completion)] == [{"x": 3}, {"x": 1}]
    assert [len(batch.names) for batch in provider.batches.all] == [2, 1]


async def test_tools_truncation_and_refusals(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("look", {"at": 1})), truncated("half"), refusal("no"))
    spec = ToolSpec("look", "looks", {"type": "object", "properties": {"at": {"type": "integer"}}})
    asked = [say(f"question {i}", tools=(spec,)) for i in range(3)]
    called, cut, refused = await llm.complete_all(asked, role="propose", scope="s")
    assert isinstance(called, Completion) and called.tool_calls[0].arguments == {"at": 1}
    assert isinstance(cut, Completion) and (cut.stop, cut.text) == ("length", "half")
    assert isinstance(refused, Completion) and (refused.stop, refused.text) == ("refusal", "no")


async def test_texts_with_every_line_end_stay_whole(provider: FakeProvider, llm: Llm) -> None:
    odd = "one\u2028two\u0085three\x0bfour\nfive"
    provider.script(ok(odd))
    assert texts(await ask(llm, 1)) == [odd]


# Where there is no Batch API.


@pytest.mark.parametrize("name", ["local:tiny", "scripted:x"])
def test_models_on_this_machine_have_none(name: str, desk: Desk) -> None:
    llm = Llm(desk, {"propose": name}, lambda _: Scripted(["x"]), batch=("propose",))
    with pytest.raises(ConfigError, match="has no Batch API"):
        llm.check()


async def test_a_server_without_one_is_found_out_before_anything_is_spent(
    provider: FakeProvider, llm: Llm, desk: Desk
) -> None:
    provider.batches.absent = True
    with pytest.raises(ConfigError, match=rf"the server {provider.url}.* has no Batch API"):
        await llm.start()
    provider.batches.absent = False
    await llm.start()
    assert not desk.events and not provider.batches.all
