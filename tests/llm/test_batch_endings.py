"""Batches that expire, fail, are cancelled or forgotten, results that cannot be read, and how long one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from batch_helpers import IN_BATCHES, agrees, answers, ask, counts, echo, kinds, texts
from fake_batches import Plan
from fake_provider import FakeProvider, error, ok
from llm_helpers import WIRES, Desk, Sleep

from agent.errors import ProviderError
from agent.events import BatchEnded, BatchStarted, CallEnded
from agent.llm import bulk
from agent.llm.failures import BatchWaits
from agent.llm.gateway import Llm
from agent.llm.types import Completion

Make = Callable[..., Llm]
OPENAI = pytest.mark.parametrize("wire", WIRES[:2])


@pytest.fixture
def llm(make: Make, desk: Desk, provider: FakeProvider) -> Llm:
    provider.answer = echo
    return make(desk, **IN_BATCHES)


# Batches that end badly.


async def test_what_expired_is_sent_again_and_the_rest_is_kept(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(status="expired", left=(1, 2)))
    assert texts(await ask(llm, 4)) == answers(4)
    assert [len(batch.names) for batch in provider.batches.all] == [4, 2]
    assert provider.batches.calls == 4, "nothing was answered twice"
    assert sorted(event.id for event in desk.retried) == [2, 3]
    assert desk.ledger.committed("tokens") == provider.batches.tokens


async def test_what_expires_again_and_again_becomes_an_error(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(*[Plan(status="expired", left=(0,))] * 9)
    (reply,) = await ask(llm, 1)
    assert isinstance(reply, ProviderError) and "expired" in reply.message
    assert len(provider.batches.all) == 3
    assert desk.ledger.committed("tokens") == provider.batches.tokens == 0


async def test_what_somebody_cancelled_is_not_sent_again(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(status="cancelled", left=(1,)))
    replies = await ask(llm, 2)
    assert texts(replies)[0] == "answer 0"
    assert isinstance(replies[1], ProviderError) and "cancelled" in replies[1].message
    assert len(provider.batches.all) == 1 and desk.ledger.to_json()["possibly_spent"]["tokens"] == 0


async def test_errors_of_single_requests_follow_the_usual_rules(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.script(error(400, "invalid_request_error"), error(529, "overloaded_error"), ok("fine"), ok("at last"))
    wrong, again, fine = await ask(llm, 3)
    assert isinstance(wrong, ProviderError) and wrong.status == 400
    assert texts([again, fine]) == ["at last", "fine"]
    assert [len(batch.names) for batch in provider.batches.all] == [3, 1]
    agrees(provider, desk)
    assert desk.ledger.to_json()["possibly_spent"]["tokens"] == 0, "what failed in a batch is not billed"


@OPENAI
async def test_a_batch_that_is_refused_for_one_line_spares_the_others(
    provider: FakeProvider, llm: Llm, desk: Desk, wire: str
) -> None:
    provider.batches.script(Plan(status="failed", errors=((2, "invalid_request"),)))
    replies = await ask(llm, 3)
    assert (texts(replies)[0], texts(replies)[2]) == ("answer 0", "answer 2")
    assert isinstance(replies[1], ProviderError) and replies[1].status == 400


@OPENAI
@pytest.mark.parametrize(("code", "batches"), [("token_limit_exceeded", 2), ("invalid_json_line", 1)])
async def test_a_batch_that_failed_as_a_whole(
    provider: FakeProvider, llm: Llm, wire: str, code: str, batches: int
) -> None:
    provider.batches.script(Plan(status="failed", errors=((None, code),)))
    replies = await ask(llm, 2)
    assert len(provider.batches.all) == batches
    assert (texts(replies) == answers(2)) == (batches == 2)


async def test_no_money_stops_the_model_before_anything_is_sent(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(refuse=(429, "insufficient_quota")))
    replies = await ask(llm, 2)
    assert all(isinstance(reply, ProviderError) and reply.fatal for reply in replies)
    assert not provider.batches.all and desk.ledger.committed("tokens") == 0


async def test_busy_while_sending_is_tried_again(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(refuse=(429, "rate_limit_exceeded")), Plan(refuse=(500, "server_error")))
    assert texts(await ask(llm, 2)) == answers(2)
    assert kinds(desk).count("batch.started") == 1


# Results that do not keep their promises.


async def test_broken_results_are_told_and_cost_nothing_but_themselves(
    provider: FakeProvider, llm: Llm, desk: Desk
) -> None:
    provider.batches.script(Plan(garble=(1,), twice=(0,), silent=(2,), stranger=True))
    assert texts(await ask(llm, 4)) == answers(4)
    ends = [event.counts for event in desk.events if event.type == "batch.ended"]  # type: ignore[attr-defined]
    assert ends[0] == {"succeeded": 2, "malformed": 1, "unknown": 1, "duplicate": 1, "missing": 2}
    assert ends[1] == {"succeeded": 2}
    assert provider.batches.calls == 6, "two were billed and their replies lost"
    agrees(provider, desk)


async def test_a_result_that_is_not_what_it_should_be(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(polls=0))
    real = provider.batches._content
    bad = [b"[1]", b'"text"', b"null", b"\xff\xfe", b"{" * 9000, b'{"custom_id": ["x"]}']

    def content(batch: Any, part: Any) -> Any:
        status, body, headers = real(batch, part)
        name = batch.names[0].encode()
        wrong = [b'{"custom_id": "%s", "result": 3, "response": 3}' % name]
        return status, b"\n".join([*bad, *wrong]) + b"\n" + body, headers

    provider.batches._content = content  # type: ignore[method-assign]
    (reply,) = await ask(llm, 1)
    assert isinstance(reply, ProviderError) and "cannot be read" in reply.message
    assert counts(desk)["errored"] == 1 and counts(desk)["malformed"] >= 4


async def test_results_that_break_off_are_read_again(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(cut=2))
    assert texts(await ask(llm, 4)) == answers(4)
    assert len(provider.batches.all) == 1 and len(desk.ended) == 4
    assert counts(desk) == {"succeeded": 4}


# Waiting.


async def test_questions_become_rarer_and_obey_the_server(provider: FakeProvider, llm: Llm, sleep: Sleep) -> None:
    busy = [(429, {"retry-after": "200"}), (503, {}), (0, {})]  # the last one breaks the connection
    provider.batches.script(Plan(polls=12, questions=busy))
    assert texts(await ask(llm, 1)) == answers(1)
    waits = sleep.seconds
    assert waits[0] == 200 and max(waits[1:]) == 60
    assert waits[1:] == sorted(waits[1:]) and waits[1] < 10


async def test_how_far_it_is_is_told_when_that_changes(provider: FakeProvider, make: Make, desk: Desk) -> None:
    said: list[str] = []
    provider.batches.script(Plan(polls=5))
    await ask(make(desk, **IN_BATCHES, told=said.append), 2)
    assert sum(" 0 of 2 done" in words for words in said) == 1
    assert said[-1].endswith("completed: 2 succeeded")


async def test_a_key_that_stops_working_leaves_the_call_open(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.script(Plan(polls=3, questions=[(401, {})]))
    with pytest.raises(BatchWaits, match="stays at the provider") as caught:
        await ask(llm, 2)
    assert caught.value.fatal and caught.value.hint
    assert not desk.ended, "its result can still be had"
    assert desk.ledger.to_json()["possibly_spent"]["calls"] == 2
    assert desk.ledger.waiting() == [{"id": "batch_1", "model": desk.started[0].model, "calls": 2}]


async def test_a_batch_that_the_provider_forgot(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.forgotten = True
    (reply,) = await ask(llm, 1)
    assert isinstance(reply, ProviderError) and not reply.fatal and "any more" in reply.message
    assert len(provider.batches.all) == 1
    agrees(provider, desk)
    assert desk.ledger.to_json()["possibly_spent"]["tokens"] > 0


async def test_giving_up_ends_the_calls_and_cancels_the_batch(
    provider: FakeProvider, make: Make, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "FIRST", 0.05)
    llm = make(desk, **IN_BATCHES, sleep=asyncio.sleep)
    provider.batches.script(Plan(polls=None))
    asked = asyncio.ensure_future(ask(llm, 2))
    async with asyncio.timeout(20):
        while not provider.batches.polls:
            await asyncio.sleep(0.005)
        llm.give_up()
        replies = await asked
        while not provider.batches.all[0].stopped:  # before anything is closed: the exam may take hours
            await asyncio.sleep(0.005)
        await llm.close()
    assert all(isinstance(reply, ProviderError) and not reply.fatal for reply in replies)
    agrees(provider, desk)
    (late,) = await ask(llm, 1)
    assert isinstance(late, Completion), "another search is not given up"


async def given_up(provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The journal of a process that gave up a batch, and died before it had told the provider."""
    provider.answer = echo
    monkeypatch.setattr(bulk, "FIRST", 0.01)
    provider.batches.script(Plan(polls=None))
    desk = Desk()
    llm = make(desk, **IN_BATCHES, sleep=asyncio.sleep)
    asked = asyncio.ensure_future(ask(llm, 2))
    async with asyncio.timeout(20):
        while not provider.batches.polls:
            await asyncio.sleep(0.005)
        llm.give_up()
        await asked
        await llm.close()
    provider.batches.all[0].stopped = False
    return desk


async def test_what_a_killed_process_gave_up_is_cancelled_by_the_next(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = (await given_up(provider, make, monkeypatch)).events
    llm = make(Desk(past=past), **IN_BATCHES, sleep=asyncio.sleep)
    await llm.start()
    await llm.close()
    assert provider.batches.all[0].stopped


async def test_what_has_ended_or_is_waited_for_is_not_cancelled(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = (await given_up(provider, make, monkeypatch)).events
    ends = [event for event in past if isinstance(event, CallEnded)]
    start = next(event for event in past if isinstance(event, BatchStarted))
    places = [place for place, event in enumerate(past) if event is start]
    old = replace(start, created=start.created - 90_000)
    for journal in (
        [event for event in past if event is not ends[0]],  # one call still waits
        [*past, BatchEnded(1, "completed", {})],
        [*past[: places[0]], old, *past[places[0] + 1 :]],  # its day is over
    ):
        llm = make(Desk(past=journal), **IN_BATCHES, sleep=asyncio.sleep)
        await llm.start()
        await llm.close()
        assert not provider.batches.all[0].stopped


async def test_cancelling_is_tried_again_and_never_holds_the_end_up(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch, sleep: Sleep
) -> None:
    past = (await given_up(provider, make, monkeypatch)).events
    real, tries = provider.batches.do, []

    def busy(request: Any, url: str) -> Any:
        if request.path.endswith("/cancel"):
            tries.append(request.path)
            if len(tries) < 3 or stuck:
                return 503, {"error": {"type": "busy"}}, {}
        return real(request, url)

    provider.batches.do = busy  # type: ignore[method-assign]
    stuck = False
    llm = make(Desk(past=past), **IN_BATCHES)
    await llm.start()
    await llm.close()
    assert len(tries) == 3 and provider.batches.all[0].stopped
    stuck = True
    monkeypatch.setattr(bulk, "GRACE", 0.05)
    llm = make(Desk(past=past), **IN_BATCHES, sleep=lambda seconds: asyncio.sleep(3600))
    async with asyncio.timeout(20):
        await llm.start()
        await llm.close()


async def test_nothing_is_sent_once_the_search_is_over(provider: FakeProvider, make: Make, desk: Desk) -> None:
    provider.answer = echo
    provider.batches.script(Plan(refuse=(503, "busy")))
    held: list[Llm] = []

    async def wait(seconds: float) -> None:
        held[0].give_up()

    held.append(make(desk, **IN_BATCHES, sleep=wait))
    (reply,) = await ask(held[0], 1)
    assert isinstance(reply, ProviderError)
    await held[0].close()
    assert not provider.batches.all


async def test_giving_up_while_a_batch_is_being_sent_cancels_it(provider: FakeProvider, make: Make, desk: Desk) -> None:
    provider.answer = echo
    provider.batches.script(Plan(polls=None))
    llm = make(desk, **IN_BATCHES, sleep=asyncio.sleep)
    real = provider.batches.do

    def taken(request: Any, url: str) -> Any:
        answer = real(request, url)
        if request.method == "POST" and "/batches" in request.path and not request.path.endswith("/cancel"):
            llm.give_up()
        return answer

    provider.batches.do = taken  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        (reply,) = await ask(llm, 1)
        await llm.close()
    assert isinstance(reply, ProviderError) and provider.batches.all[0].stopped
    agrees(provider, desk)


async def test_giving_up_while_the_id_of_a_batch_is_written_down_cancels_it(
    provider: FakeProvider, make: Make, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answer = echo
    provider.batches.script(Plan(polls=None))
    llm = make(desk, **IN_BATCHES, sleep=asyncio.sleep)
    flush = desk.flush

    async def slow() -> None:
        await flush()
        if kinds(desk)[-1] == "batch.submitted":
            llm.give_up()

    monkeypatch.setattr(desk, "flush", slow)
    async with asyncio.timeout(20):
        (reply,) = await ask(llm, 1)
        await llm.close()
    assert isinstance(reply, ProviderError) and provider.batches.all[0].stopped
