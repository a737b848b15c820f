"""How many calls may be under way at once: found out from how they end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from agent.errors import ProviderError
from agent.llm.limiter import Limiter

FULL = ProviderError("full", retryable=True, status=429)


async def finish(limiter: Limiter, *, at_once: int, errors: int = 0) -> int:
    """Run calls side by side, the first of which fail; gives the most that were under way."""
    most, gate = 0, asyncio.Event()

    async def call(fails: bool) -> None:
        nonlocal most
        async with limiter.slot():
            most = max(most, limiter.running)
            await gate.wait()
            if fails:
                raise FULL

    tasks = [asyncio.create_task(call(number < errors)) for number in range(at_once)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return most


async def test_never_more_than_the_limit_at_once() -> None:
    limiter = Limiter(start=3, most=3)
    assert await finish(limiter, at_once=20) == 3
    assert limiter.running == 0


async def test_it_doubles_at_first_while_it_is_what_holds_us_back() -> None:
    limiter = Limiter(start=4)
    await finish(limiter, at_once=4)
    assert limiter.limit == 5  # only the first to end found it full
    await finish(limiter, at_once=60)
    assert limiter.limit > 20


async def test_it_does_not_grow_while_there_is_room() -> None:
    limiter = Limiter(start=4)
    for _ in range(20):
        await finish(limiter, at_once=2)
    assert limiter.limit == 4


async def test_one_overload_counts_once_however_many_calls_saw_it() -> None:
    limiter = Limiter(start=10)
    await finish(limiter, at_once=10, errors=10)
    assert limiter.limit == 8
    await finish(limiter, at_once=8, errors=1)
    assert limiter.limit < 7.5


async def test_after_an_overload_it_grows_by_one_per_round() -> None:
    limiter = Limiter(start=10)
    await finish(limiter, at_once=1, errors=1)
    await finish(limiter, at_once=8)
    assert 8 < limiter.limit <= 9


async def test_it_never_falls_below_one() -> None:
    limiter = Limiter(start=1)
    for _ in range(5):
        await finish(limiter, at_once=1, errors=1)
    assert limiter.limit == 1
    assert await finish(limiter, at_once=1) == 1


async def test_other_failures_say_nothing_about_the_limit() -> None:
    limiter = Limiter(start=4)
    with pytest.raises(ProviderError):
        async with limiter.slot():
            raise ProviderError("broken", status=500)
    assert (limiter.limit, limiter.running) == (4, 0)


async def test_a_call_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    limiter = Limiter(start=1, most=1)
    async with limiter.slot():
        waiting = asyncio.create_task(finish(limiter, at_once=1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    assert await asyncio.wait_for(finish(limiter, at_once=2), 1) == 1
    assert limiter.running == 0
