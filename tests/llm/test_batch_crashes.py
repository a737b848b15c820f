"""Whatever moment a process dies at: what was paid is found again, and is not paid twice where that can be known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from batch_helpers import IN_BATCHES, agrees, answers, ask, echo, kinds, texts
from fake_batches import Plan
from fake_provider import FakeProvider
from llm_helpers import Desk

from agent.errors import BudgetExceeded, ProviderError
from agent.events import BatchStarted, BatchSubmitted, CallEnded, Event
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


async def test_a_batch_that_was_never_sent_is_sent_by_the_next_process(
    provider: FakeProvider, llm: Llm, desk: Desk, make: Make
) -> None:
    await ask(llm, ASKED)
    past = upto(desk, BatchStarted)
    taken, provider.batches.all = provider.batches.all, []
    provider.batches.calls = provider.batches.tokens = 0
    desk, replies = await again(make, past)
    assert texts(replies) == answers(ASKED) and len(taken) == 1
    assert [event.id for event in desk.of(BatchStarted)] == [2]
    assert desk.ledger.committed("tokens") == provider.batches.tokens


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
    assert kinds(desk).count("batch.started") == kinds(desk).count("batch.submitted") == 1
    assert desk.ledger.committed("tokens") == provider.batches.tokens


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
