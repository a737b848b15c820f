"""Whatever moment a process dies at: what was paid is found again, and is not paid twice where that can be known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from batch_helpers import IN_BATCHES, agrees, answers, ask, echo, kinds, texts
from fake_batches import Plan
from fake_provider import FakeProvider
from llm_helpers import Desk, Sleep

from agent.errors import BudgetExceeded, ProviderError
from agent.events import BatchStarted, BatchSubmitted, CallEnded, CallRetried, CallStarted, Event
from agent.ledger import Budget
from agent.llm.failures import BatchWaits
from agent.llm.gateway import Llm

Make = Callable[..., Llm]
ASKED = 3


@pytest.fixture
def llm(make: Make, desk: Desk, provider: FakeProvider) -> Llm:
    provider.answer = echo
    return make(desk, **IN_BATCHES)


def upto(desk: Desk, kind: type[Event], number: int = 1) -> list[Event]:
    """What was durable when a process died right after the n-th event of a kind."""
    places = [place for place, event in enumerate(desk.events) if isinstance(event, kind)]
    return desk.events[: places[number - 1] + 1]


async def again(make: Make, past: list[Event], budget: Budget | None = None) -> tuple[Desk, list[Any]]:
    """A process that takes over, and asks what the first one asked."""
    desk = Desk(budget, past=past)
    return desk, await ask(make(desk, **IN_BATCHES), ASKED)


@pytest.mark.parametrize(
    ("last", "number"),
    [(BatchStarted, 1), (BatchSubmitted, 1), (CallEnded, 1), (CallEnded, 2), (CallEnded, 3)],
    ids=["sent, and its id unknown", "its id known", "one result read", "two read", "all read"],
)
async def test_a_process_that_dies_pays_nothing_twice(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make, last: type[Event], number: int
) -> None:
    provider.batches.script(Plan(polls=4))
    await ask(llm, ASKED)
    past = upto(desk, last, number)
    between = Desk(past=past)
    assert provider.batches.tokens <= between.ledger.committed("tokens"), "what is unknown is held for possible"
    desk, replies = await again(make, past)
    assert texts(replies) == answers(ASKED)
    assert len(provider.batches.all) == 1 and provider.batches.calls == ASKED
    assert "call.started" not in kinds(desk), "the calls go on under their numbers"
    assert desk.ledger.committed("tokens") == provider.batches.tokens
    assert desk.ledger.to_json()["possibly_spent"] == {"calls": 0, "tokens": 0, "usd": 0}
    assert desk.ledger.total.calls == ASKED and not desk.ledger.waiting()


@pytest.mark.parametrize("hours", [0, 2])
async def test_a_batch_that_was_never_sent_is_sent_by_the_next_process(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make, sleep: Sleep, hours: int
) -> None:
    await ask(llm, ASKED)
    *past, last = upto(desk, BatchStarted)
    assert isinstance(last, BatchStarted)
    past.append(replace(last, created=last.created - 3600 * hours))
    taken, provider.batches.all = provider.batches.all, []
    provider.batches.calls = provider.batches.tokens = 0
    sleep.seconds.clear()
    desk, replies = await again(make, past)
    assert texts(replies) == answers(ASKED) and len(taken) == 1
    assert [event.id for event in desk.of(BatchStarted)] == [2]
    assert provider.batches.tokens > 0
    possible = desk.ledger.to_json()["possibly_spent"]["tokens"]
    if hours:  # a list is not hours behind
        assert possible == 0 and sum(sleep.seconds) < 30
    else:
        assert possible == sum(event.reserved["tokens"] for event in past if isinstance(event, CallStarted))
        assert 120 <= sum(sleep.seconds) < 300


@pytest.mark.parametrize(
    ("plan", "doubtful"), [(Plan(silent=(1,)), 1), (Plan(status="expired", left=(1,)), 0)], ids=["lost", "expired"]
)
async def test_an_attempt_that_may_have_been_billed_is_counted_after_a_kill_too(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make, plan: Plan, doubtful: int
) -> None:
    provider.batches.script(plan)
    await ask(llm, ASKED)
    (retried,) = desk.retried
    assert retried.ambiguous == bool(doubtful)
    undisturbed = desk.ledger.to_json()["possibly_spent"]
    assert undisturbed["tokens"] == doubtful * desk.started[1].reserved["tokens"]
    for last in (BatchStarted, BatchSubmitted):
        there, replies = await again(make, upto(desk, last, 2))
        assert texts(replies) == answers(ASKED) and len(provider.batches.all) == 2
        assert there.ledger.to_json()["possibly_spent"] == undisturbed
        agrees(provider, there)


async def test_a_journal_that_does_not_say_whether_it_was_billed_counts_it(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make
) -> None:
    provider.batches.script(Plan(silent=(1,)))
    await ask(llm, ASKED)
    past = [CallRetried(e.id, e.attempt, e.error, e.wait) if isinstance(e, CallRetried) else e for e in desk.events]
    there = Desk(past=past[: len(upto(desk, BatchSubmitted, 2))])
    await ask(make(there, **IN_BATCHES), ASKED)
    assert there.ledger.to_json()["possibly_spent"] == desk.ledger.to_json()["possibly_spent"]


async def test_calls_that_no_batch_had_yet_go_into_the_next_one(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make
) -> None:
    await ask(llm, ASKED)
    past = [event for event in desk.events if event.type == "call.started"][:2]
    provider.batches.all.clear()
    desk, replies = await again(make, past)
    assert texts(replies) == answers(ASKED)
    assert [event.id for event in desk.started] == [3], "two were begun before"
    assert desk.of(BatchStarted)[0].calls == [1, 2, 3]


async def test_dying_again_and_again(provider: FakeProvider, llm: Llm, desk: Desk, make: Make) -> None:
    provider.batches.script(Plan(status="expired", left=(0, 2)))
    await ask(llm, ASKED)
    whole = len(desk.events)
    for cut in range(3, whole):
        provider.batches.all[:] = provider.batches.all[:2]
        there, replies = await again(make, desk.events[:cut])
        assert texts(replies) == answers(ASKED)
        further = desk.events[:cut] + there.events
        for second in range(cut, len(further), 3):
            last, replies = await again(make, further[:second])
            assert texts(replies) == answers(ASKED), (cut, second)
            assert not last.ledger.lost_calls and not last.ledger.waiting()


# Sending that breaks off.


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_breaks_while_sending(provider: FakeProvider, llm: Llm, desk: Desk, when: str) -> None:
    provider.batches.script(Plan(drop=when))
    assert texts(await ask(llm, ASKED)) == answers(ASKED)
    assert len(provider.batches.all) == 1 and provider.batches.calls == ASKED
    assert provider.batches.lists, "it was looked for before anything was sent again"
    assert kinds(desk).count("batch.submitted") == 1
    agrees(provider, desk)
    never = sum(event.reserved["tokens"] for event in desk.started) if when == "before" else 0
    assert desk.ledger.to_json()["possibly_spent"]["tokens"] == never, "of a batch that is not listed nobody can tell"


async def test_a_list_that_is_behind_shows_the_batch_later(
    provider: FakeProvider, llm: Llm, desk: Desk, sleep: Sleep
) -> None:
    real = provider.batches._list

    def behind(*given: Any) -> Any:
        shown, provider.batches.all = provider.batches.all, []
        try:
            return real(*given)
        finally:
            provider.batches.all = shown
            if sum(sleep.seconds) > 90:
                provider.batches._list = real  # type: ignore[method-assign]

    provider.batches._list = behind  # type: ignore[method-assign]
    provider.batches.script(Plan(drop="after"))
    assert texts(await ask(llm, ASKED)) == answers(ASKED)
    assert len(provider.batches.all) == 1 and desk.ledger.committed("tokens") == provider.batches.tokens
    looks = sleep.seconds[: provider.batches.lists]
    assert looks == sorted(looks) and looks[0] < looks[-1], "the waits grow"


@pytest.mark.parametrize("minutes", [-20, 45])
async def test_a_batch_of_another_time_is_not_waited_for(
    provider: FakeProvider, llm: Llm, make: Make, desk: Desk, minutes: int
) -> None:
    await ask(make(Desk(), **IN_BATCHES), ASKED)
    foreign = provider.batches.all[0]
    foreign.created += 60 * minutes
    foreign.asked, foreign.plan.polls = 0, 60  # it will be done, much later
    provider.batches.script(Plan(drop="before"))
    assert texts(await ask(llm, ASKED)) == answers(ASKED)
    assert not foreign.over and len(provider.batches.all) == 2
    assert desk.of(BatchSubmitted)[0].name == "batch_2"


async def test_somebody_elses_batch_of_the_same_size_is_not_taken_for_ours(
    provider: FakeProvider, llm: Llm, make: Make, desk: Desk
) -> None:
    other = Desk()
    provider.batches.script(Plan(polls=None))
    stranger = make(other, **IN_BATCHES, sleep=asyncio.sleep)
    theirs = asyncio.ensure_future(ask(stranger, ASKED))
    async with asyncio.timeout(20):
        while not other.ledger.batch_names:
            await asyncio.sleep(0.005)
    theirs.cancel()
    provider.batches.all[0].plan.polls = 6  # it ends while it is looked at
    provider.batches.script(Plan(drop="before"))
    assert texts(await ask(llm, ASKED)) == answers(ASKED)
    assert desk.of(BatchSubmitted)[0].name == "batch_2"


async def test_where_it_cannot_be_known_it_stays_possibly_spent(provider: FakeProvider, llm: Llm, desk: Desk) -> None:
    provider.batches.listable = False
    provider.batches.script(Plan(drop="after"))
    assert texts(await ask(llm, ASKED)) == answers(ASKED)
    assert len(provider.batches.all) == 2
    agrees(provider, desk)
    spent = desk.ledger.to_json()
    assert spent["possibly_spent"]["tokens"] >= provider.batches.tokens // 2


async def test_what_may_have_been_spent_leaves_no_room_to_send_it_again(
    provider: FakeProvider, make: Make, llm: Llm, desk: Desk
) -> None:
    await ask(llm, 1)
    worst = desk.started[0].reserved["tokens"]
    provider.batches.listable = False
    provider.batches.script(Plan(drop="after"))
    tight = Desk(Budget(tokens=int(worst * 1.5)))
    (reply,) = await ask(make(tight, **IN_BATCHES), 1)
    assert isinstance(reply, ProviderError) and "no room" in reply.message
    assert len(provider.batches.all) == 2, "one of each gateway"
    (refused,) = await ask(make(Desk(Budget(tokens=worst - 1)), **IN_BATCHES), 1)
    assert isinstance(refused, BudgetExceeded)


async def test_a_provider_out_of_reach_leaves_the_calls_open(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make
) -> None:
    real = provider.batches.do

    def gone(request: Any, url: str) -> Any:
        if request.method == "GET":
            return 503, {"error": {"type": "down"}}, {}
        return real(request, url)

    provider.batches.do = gone  # type: ignore[method-assign]
    provider.batches.script(Plan(drop="after"))
    with pytest.raises(BatchWaits, match="cannot be looked for"):
        await ask(llm, ASKED)
    assert not desk.ended
    provider.batches.do = real  # type: ignore[method-assign]
    desk, replies = await again(make, desk.events)
    assert texts(replies) == answers(ASKED) and len(provider.batches.all) == 1


async def test_closing_while_a_batch_is_being_sent_waits_for_its_id(
    provider: FakeProvider, make: Make, desk: Desk
) -> None:
    provider.answer = echo
    llm = make(desk, **IN_BATCHES, sleep=asyncio.sleep)
    provider.batches.script(Plan(polls=None))
    asked = asyncio.ensure_future(ask(llm, ASKED))
    async with asyncio.timeout(20):
        while "batch.started" not in kinds(desk):
            await asyncio.sleep(0)
    asked.cancel()
    await llm.close()
    assert kinds(desk)[-1] == "batch.submitted"
    assert desk.ledger.to_json()["possibly_spent"]["calls"] == ASKED
    provider.batches.all[0].plan.polls = 1
    desk, replies = await again(make, desk.events)
    assert texts(replies) == answers(ASKED) and len(provider.batches.all) == 1
