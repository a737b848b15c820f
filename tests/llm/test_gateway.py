"""The one door to the models: what is journalled, what is paid, what is replayed, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_provider import (
    HANG,
    Behaviour,
    FakeProvider,
    Request,
    drop,
    error,
    ok,
    rate_limited,
    refusal,
    spend_stop,
    structured,
    tools,
    truncated,
)
from llm_helpers import KEY, PRICE, Desk, Sleep, say
from pydantic import BaseModel

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid, PrerequisiteError, ProviderError
from agent.events import CallEnded, CallRetried, CallStarted
from agent.ledger import Budget
from agent.llm.gateway import Llm
from agent.llm.retry import Patience
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest

Make = Callable[..., Llm]
SCHEMA = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": False}


async def ask(llm: Llm, request: ModelRequest | None = None, scope: str = "proposal-1") -> Completion:
    return await llm.complete(request or say(), role="propose", scope=scope)


async def fit(llm: Llm, schema: Any = SCHEMA, scope: str = "proposal-1", **more: Any) -> Completion:
    return await llm.structured(say(**more), role="propose", scope=scope, schema=schema)


# What is written, and when.


async def test_the_reservation_is_durable_before_anything_is_sent(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    seen: list[int] = []
    provider.answer = lambda _: (seen.append(desk.durable), ok())[1]
    await ask(llm)
    assert seen == [1]
    assert [event.type for event in desk.events] == ["call.started", "call.ended"]


async def test_a_call_is_recorded_with_all_that_it_takes_to_see_and_repeat_it(llm: Llm, desk: Desk, wire: str) -> None:
    reply = await ask(llm, say("the question", system="be brief"))
    started, ended = desk.started[0], desk.ended[0]
    assert (started.scope, started.ordinal, started.role, started.model) == ("proposal-1", 0, "propose", f"{wire}:m")
    assert started.request["messages"] == [{"role": "user", "text": "the question"}]
    assert started.request["system"] == "be brief"
    assert Completion.from_json(ended.reply) == reply
    assert ended.spent == {"input": 11, "cached": 0, "output": 7, "usd": pytest.approx(25e-6)}
    assert reply.usd == ended.spent["usd"]


async def test_our_account_is_the_providers_account(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.answer = lambda request: ok(input=50 + len(request.body), cached=13, output=3)
    await asyncio.gather(*(ask(llm) for _ in range(10)))
    total = desk.ledger.total
    assert (total.calls, total.input + total.output) == (provider.calls, provider.tokens)
    assert total.usd == pytest.approx((total.input * PRICE["input"] + total.output * PRICE["output"]) / 1e6)


@pytest.mark.parametrize("behaviour", [truncated('{"x": '), refusal(), ok("no json"), structured({"x": "text"})])
async def test_a_reply_that_is_no_use_is_recorded_and_paid(
    provider: FakeProvider, llm: Llm, desk: Desk, behaviour: Any
) -> None:
    provider.script(behaviour, behaviour)
    with pytest.raises(OutputInvalid) as caught:
        await fit(llm)
    assert caught.value.usage.output == 7
    assert desk.ledger.total.input + desk.ledger.total.output == provider.tokens == 18 * provider.calls
    assert all(event.reply is not None for event in desk.ended)


# Structured replies.


class Step(BaseModel):
    x: float
    why: str = "no reason"


async def test_a_pydantic_model_gives_an_instance(provider: FakeProvider, llm: Llm) -> None:
    provider.script(structured({"x": 1, "why": None}))
    assert (await fit(llm, Step)).parsed == Step(x=1.0)


async def test_one_repair_turn_shows_the_bad_text_and_the_reason(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(structured({"y": 1}), structured({"x": 2}))
    assert (await fit(llm)).parsed == {"x": 2}
    turns = desk.started[1].request["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["text"] == '{"y": 1}'
    assert "'x' is missing" in turns[2]["text"] and "'y' is not asked for" in turns[2]["text"]
    assert desk.ledger.total.calls == provider.calls == 2


async def test_after_a_second_bad_reply_the_caller_is_told(provider: FakeProvider, llm: Llm) -> None:
    provider.script(ok("first"), ok("second"))
    with pytest.raises(OutputInvalid, match="no JSON object") as caught:
        await fit(llm)
    assert caught.value.raw == "second"
    assert provider.calls == 2


@pytest.mark.parametrize("behaviour", [truncated('{"x": 1}'), refusal('{"x": 1}')], ids=["truncated", "refused"])
async def test_what_would_end_the_same_way_is_not_repaired(provider: FakeProvider, llm: Llm, behaviour: Any) -> None:
    provider.script(behaviour)
    with pytest.raises(OutputInvalid):
        await fit(llm)
    assert provider.calls == 1


async def test_a_reply_that_calls_tools_comes_back_for_them(provider: FakeProvider, llm: Llm) -> None:
    provider.script(tools(("search", {})))
    reply = await fit(llm)
    assert (reply.stop, reply.parsed, provider.calls) == ("tool", None, 1)


async def test_a_schema_that_cannot_be_checked_costs_nothing(provider: FakeProvider, llm: Llm) -> None:
    with pytest.raises(ConfigError, match="multipleOf"):
        await fit(llm, {"type": "object", "properties": {"x": {"type": "number", "multipleOf": 2}}})
    assert provider.calls == 0


# Samples and replay.


def numbered(provider: FakeProvider) -> None:
    provider.answer = lambda _: ok(f"sample {provider.calls}")


async def test_n_samples_of_one_prompt_are_n_and_replay_in_order(
    provider: FakeProvider, make: Make, desk: Desk
) -> None:
    numbered(provider)
    first = await asyncio.gather(*(ask(llm) for llm in [make(desk)] * 5))
    assert len({reply.text for reply in first}) == 5
    assert sorted(event.ordinal for event in desk.started) == [0, 1, 2, 3, 4]
    again = Desk(past=desk.events)
    replayed = await asyncio.gather(*(ask(twin) for twin in [make(again)] * 5))
    assert list(replayed) == list(first)
    assert (provider.calls, again.events) == (5, [])


async def test_a_replay_pays_nothing_and_needs_no_key(make: Make, desk: Desk, wire: str) -> None:
    reply = await ask(make(desk))

    def offline(name: str) -> Any:
        raise PrerequisiteError("no network", fix="none")

    again = Desk(Budget(calls=1), past=desk.events)
    assert await ask(Llm(again, {"propose": f"{wire}:m"}, offline)) == reply
    assert again.ledger.total.calls == 1  # the one of the past


async def test_a_rerun_takes_up_where_it_was_cut_off(provider: FakeProvider, make: Make, desk: Desk) -> None:
    numbered(provider)
    llm = make(desk)
    await ask(llm)
    await ask(llm)
    desk.events.pop()  # the second answer never reached the disk
    again = Desk(past=desk.events)
    twin = make(again)
    assert [(await ask(twin)).text for _ in range(3)] == ["sample 1", "sample 3", "sample 4"]
    assert [event.ordinal for event in again.started] == [1, 2]
    assert again.ledger.to_json()["possibly_spent"]["calls"] == 1


async def test_scopes_do_not_share_samples(provider: FakeProvider, make: Make, desk: Desk) -> None:
    numbered(provider)
    llm = make(desk)
    assert [(await ask(llm, scope=scope)).text for scope in ("a", "b")] == ["sample 1", "sample 2"]
    assert [event.ordinal for event in desk.started] == [0, 0]


async def test_repairs_replay_with_the_sample_that_they_repair(provider: FakeProvider, make: Make, desk: Desk) -> None:
    """Two samples that are wrong in the same words are repaired in the order of the network."""
    delays = iter([0.0, 0.0, 0.08, 0.0])
    provider.answer = lambda request: (
        structured({"x": provider.calls}, gap=next(delays)) if b"cannot be used" in _raw(request) else ok("wrong")
    )
    llm = make(desk)
    provider.script(ok("wrong", gap=0.05), ok("wrong"))
    first = await asyncio.gather(fit(llm), fit(llm))
    twin = make(Desk(past=desk.events))
    assert [r.parsed for r in await asyncio.gather(fit(twin), fit(twin))] == [r.parsed for r in first]


def _raw(request: Request) -> bytes:
    return json.dumps(request.body).encode()


async def test_the_seed_on_the_wire_differs_by_sample_and_repeats_by_run() -> None:
    async def sent(run: int) -> list[int | None]:
        model = Scripted(lambda _: "x")
        llm = Llm(Desk(), {"propose": "scripted:m"}, lambda _: model, seed=run)
        for _ in range(3):
            await ask(llm)
        return model.seeds

    first, again, other = [await sent(run) for run in (1, 1, 2)]
    assert first == again != other
    assert len(set(first)) == 3
    assert all(seed is not None and 0 <= seed < 2**31 for seed in first)


# Failures.


async def test_attempts_are_ours_alone(provider: FakeProvider, make: Make, desk: Desk, sleep: Sleep) -> None:
    provider.script(*[error(500)] * 10)
    with pytest.raises(ProviderError):
        await ask(make(desk, patience=Patience(attempts=3)))
    assert provider.calls == 3
    assert [event.attempt for event in desk.retried] == [1, 2]
    assert [event.wait for event in desk.retried] == pytest.approx(sleep.seconds, abs=1e-3)
    assert desk.ledger.total.calls == 1  # a retried call counts once


async def test_retry_after_is_obeyed_in_all_its_forms(provider: FakeProvider, llm: Llm, sleep: Sleep) -> None:
    provider.script(
        rate_limited(seconds=3), rate_limited(ms=250), rate_limited(seconds="Wed, 21 Oct 2015 07:28:00 GMT")
    )
    assert (await ask(llm)).text == "fine"
    assert sleep.seconds == [3.0, 0.25, 0.0]


async def test_a_wait_of_hours_stops_the_model_instead_of_hanging(
    provider: FakeProvider, llm: Llm, sleep: Sleep
) -> None:
    provider.script(rate_limited(seconds=7200))
    for _ in range(2):
        with pytest.raises(ProviderError, match="7200 s") as caught:
            await ask(llm)
        assert caught.value.fatal and "120 minutes" in caught.value.hint
    assert (provider.calls, sleep.seconds) == (1, [])


async def test_a_spend_stop_stops_at_once_and_for_good(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(spend_stop())
    for _ in range(3):
        with pytest.raises(ProviderError, match="insufficient_quota") as caught:
            await ask(llm)
        assert caught.value.fatal
    assert provider.calls == 1
    assert desk.ended[0].error["fatal"] is True
    assert desk.ended[0].spent == {"input": 0, "cached": 0, "output": 0, "usd": 0.0}


async def test_calls_that_wait_for_their_turn_are_not_sent_after_a_fatal_failure(
    provider: FakeProvider, llm: Llm
) -> None:
    provider.answer = lambda _: error(401)
    results = await asyncio.gather(*(ask(llm) for _ in range(12)), return_exceptions=True)
    assert all(isinstance(result, ProviderError) and result.fatal for result in results)
    assert provider.calls == 4  # those that were under way already


async def test_a_failure_is_replayed_but_a_fatal_one_is_tried_anew(
    provider: FakeProvider, make: Make, desk: Desk
) -> None:
    provider.script(error(400), error(401))
    llm = make(desk)
    for _ in range(2):
        with pytest.raises(ProviderError):
            await ask(llm)
    twin = make(Desk(past=desk.events))
    with pytest.raises(ProviderError, match="400"):
        await ask(twin)
    assert (await ask(twin)).text == "fine"  # whoever resumed the run has mended the key
    assert provider.calls == 3


async def test_a_stream_that_trickles_for_ever_is_ended(provider: FakeProvider, make: Make, desk: Desk) -> None:
    provider.script(ok("x" * 10, gap=0.8))
    assert (await ask(make(desk, patience=Patience(attempt=0.5)))).text == "fine"
    assert "no answer in time" in desk.retried[0].error


# Limits.


async def test_limits_on_calls_hold_exactly_with_twenty_in_flight(provider: FakeProvider, make: Make) -> None:
    provider.answer = lambda _: ok(gap=0.02)
    desk = Desk(Budget(calls=7))
    results = await asyncio.gather(*(ask(llm) for llm in [make(desk)] * 20), return_exceptions=True)
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 13
    assert provider.calls == desk.ledger.total.calls == 7


async def test_limits_on_tokens_and_dollars_hold_with_twenty_in_flight(provider: FakeProvider, make: Make) -> None:
    """The provider bills the worst case each time; still no limit is passed."""
    probe = Desk()
    await ask(make(probe), say(max_output_tokens=100))
    worst = probe.started[0].reserved
    provider.tokens = 0
    provider.answer = lambda _: ok(input=worst["tokens"] - 100, output=100, gap=0.01)
    for budget in (Budget(tokens=int(worst["tokens"] * 5.5)), Budget(usd=worst["usd"] * 5.5)):
        provider.tokens = 0
        desk = Desk(budget)
        llm = make(desk)
        jobs = (ask(llm, say(max_output_tokens=100)) for _ in range(20))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert sum(isinstance(result, Completion) for result in results) == 5
        assert provider.tokens == 5 * worst["tokens"]
        assert desk.ledger.total.usd <= (budget.usd or 1)


async def test_a_refused_call_is_journalled_and_nothing_is_sent(provider: FakeProvider, make: Make) -> None:
    desk = Desk(Budget(tokens=10))
    with pytest.raises(BudgetExceeded):
        await ask(make(desk))
    assert provider.calls == 0
    assert [(event.type, event.reason) for event in desk.events] == [
        ("call.refused", "the limit of 10 tokens is reached (0 spent or reserved)")
    ]


async def test_a_limit_in_dollars_with_an_unknown_price_is_refused_with_the_fix(
    provider: FakeProvider, make: Make
) -> None:
    desk = Desk(Budget(usd=1.0))
    llm = make(desk, prices={})
    for refused in (ask(llm), asyncio.to_thread(llm.check)):
        with pytest.raises(ConfigError, match="price of this model is not known") as caught:
            await refused
        assert 'prices."provider:model"' in caught.value.hint
    assert (provider.calls, desk.events) == (0, [])


async def test_an_unknown_price_is_never_zero(make: Make, desk: Desk) -> None:
    reply = await ask(make(desk, prices={}))
    assert reply.usd is None
    assert "usd" not in desk.ended[0].spent and "usd" not in desk.started[0].reserved
    assert desk.ledger.to_json()["usd"] is None


async def test_a_server_that_does_not_count_stays_counted_at_the_worst(
    provider: FakeProvider, llm: Llm, desk: Desk
) -> None:
    provider.script(ok(usage=False))
    reply = await ask(llm)
    assert reply.usd is None
    assert desk.ledger.committed("tokens") == desk.started[0].reserved["tokens"]
    assert desk.ledger.committed("usd") == pytest.approx(desk.started[0].reserved["usd"])


# What may have been billed.


async def test_an_attempt_that_broke_off_stays_counted(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(drop(), drop())
    await ask(llm)
    worst = desk.started[0].reserved["tokens"]
    assert desk.ended[0].spent["possibly_tokens"] == 2 * worst
    assert desk.ledger.committed("tokens") == 2 * worst + 18
    assert desk.ledger.committed("tokens") >= provider.tokens


async def test_an_attempt_that_broke_off_is_durable_before_the_next(
    provider: FakeProvider, llm: Llm, desk: Desk
) -> None:
    seen: list[list[CallRetried]] = []

    def look(_: Any) -> Behaviour:
        seen.append([e for e in desk.events[: desk.durable] if isinstance(e, CallRetried)])
        return drop() if len(seen) == 1 else rate_limited(seconds=0) if len(seen) == 2 else ok()

    provider.answer = look
    await ask(llm)
    assert [len(retried) for retried in seen] == [0, 1, 2]
    assert [retried.ambiguous for retried in desk.retried] == [True, False]


async def test_there_is_no_second_attempt_without_room_for_it(provider: FakeProvider, make: Make, desk: Desk) -> None:
    await ask(make(desk))
    worst = desk.started[0].reserved["tokens"]
    provider.script(drop())
    tight = Desk(Budget(tokens=int(worst * 1.5)))
    with pytest.raises(ProviderError, match="no room for another attempt"):
        await ask(make(tight))
    assert provider.calls == 2
    assert tight.ledger.committed("tokens") == worst


async def test_a_failure_that_was_certainly_not_billed_costs_nothing(
    provider: FakeProvider, llm: Llm, desk: Desk
) -> None:
    provider.script(error(400))
    with pytest.raises(ProviderError):
        await ask(llm)
    assert desk.ledger.committed("tokens") == desk.ledger.committed("usd") == 0
    assert desk.ledger.total.calls == 1


async def test_a_cancelled_call_is_possibly_spent(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(HANG)
    task = asyncio.create_task(ask(llm))
    while not provider.calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event.type for event in desk.events] == ["call.started"]
    assert desk.ledger.committed("tokens") == desk.started[0].reserved["tokens"]


# Secrets.


async def test_no_secret_is_ever_written(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    leak = error(400)
    leak.error["message"] = f"incorrect key {KEY}"
    again = error(500)
    again.error["message"] = f"key {KEY} met an error"
    provider.script(again, ok(f"your key is {KEY}", thought=KEY), leak)
    reply = await ask(llm, say(f"my key is {KEY}"))
    with pytest.raises(ProviderError):
        await ask(llm, say(f"once more: {KEY}", system=KEY))
    written = "".join(event.body() for event in desk.events)
    assert len(desk.retried) == 1 and len(desk.ended) == 2
    assert KEY not in written
    assert KEY in json.dumps(provider.requests[0].body)  # what is sent is not touched
    assert reply == Completion.from_json(desk.ended[0].reply)  # a replay sees the same
    assert reply.carry == ()  # its signature no longer holds


async def test_a_hostile_text_cannot_break_the_journal(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(ok("half \ud800 pair"))
    assert (await ask(llm)).text == "half \ufffd pair"
    "".join(event.body() for event in desk.events).encode()


@pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
async def test_hostile_arguments_cannot_break_the_journal(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(tools(("t", '{"q": NaN}'), ("t", '{"q": "\\ud800"}'), ("t", '{"q": 1e999}'), ("t", "[1]")))
    assert [call.arguments for call in (await ask(llm)).tool_calls] == [None] * 4
    "".join(event.body() for event in desk.events).encode()


# Roles and adapters.


async def test_each_role_has_its_model_and_its_account(desk: Desk) -> None:
    models = {"scripted:a": Scripted(["from a"]), "scripted:b": Scripted(["from b"])}
    llm = Llm(desk, {"propose": "scripted:a", "judge": "scripted:b"}, models.__getitem__)
    assert (await llm.complete(say(), role="judge", scope="s")).text == "from b"
    assert (await llm.complete(say(), role="propose", scope="s")).text == "from a"
    assert desk.ledger.by_role.keys() == {"propose", "judge"}
    with pytest.raises(ConfigError, match="role critic"):
        await llm.complete(say(), role="critic", scope="s")


async def test_an_adapter_that_breaks_its_promise_is_a_recorded_failure(desk: Desk) -> None:
    llm = Llm(desk, {"propose": "scripted:m"}, lambda _: Scripted([ZeroDivisionError("oh")]))
    with pytest.raises(ProviderError, match="ZeroDivisionError"):
        await ask(llm)
    assert desk.ended[0].spent["possibly_tokens"] > 0


async def test_what_this_machine_lacks_is_said_before_the_run(desk: Desk) -> None:
    for name, variable in (("openai:m", "OPENAI_API_KEY"), ("anthropic:m", "ANTHROPIC_API_KEY")):
        with pytest.raises(PrerequisiteError, match=variable) as caught:
            Llm(desk, {"propose": name}).check()
        assert caught.value.fix == f"export {variable}=..."


async def test_credentials_that_cannot_be_read_are_missing(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", "/nonexistent")
    with pytest.raises(PrerequisiteError, match="ANTHROPIC_API_KEY"):
        Llm(desk, {"propose": "anthropic:m"}).check()


async def test_what_this_machine_lacked_is_tried_anew_after_a_resume(desk: Desk) -> None:
    lacking = Scripted([PrerequisiteError("no weights", fix="download them")])
    with pytest.raises(PrerequisiteError):
        await ask(Llm(desk, {"propose": "scripted:m"}, lambda _: lacking))
    assert [type(event) for event in desk.events] == [CallStarted, CallEnded]
    twin = Llm(Desk(past=desk.events), {"propose": "scripted:m"}, lambda _: Scripted(["now"]))
    assert (await ask(twin)).text == "now"


async def test_a_wrong_name_is_refused_at_once(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="names no model"):
        Llm(desk, {"propose": "gpt"})
