"""Several awaitables at once: their answers in order, and none that outlives an error."""

from __future__ import annotations

import asyncio

import pytest

from agent.together import together


async def test_answers_come_in_order_however_long_each_takes() -> None:
    last = asyncio.Event()

    async def first() -> str:
        await last.wait()
        return "first"

    async def second() -> str:
        last.set()
        return "second"

    assert await together([first(), second()]) == ["first", "second"]


async def test_an_error_is_raised_when_the_others_have_ended() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def fail() -> None:
        raise ValueError("one is enough")

    with pytest.raises(ValueError, match="one is enough"):
        await together([wait(), fail(), wait()])
    assert ended == [True, True]
