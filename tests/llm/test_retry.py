"""The one retry loop: how long it waits, and when it gives up."""

from __future__ import annotations

import asyncio
import random
import sys

import pytest
from llm_helpers import Sleep

from agent.errors import ProviderError
from agent.llm.retry import Patience, with_retries

BUSY = ProviderError("busy", retryable=True, status=503)


class Attempts:
    """Fails with the errors it is given, then succeeds."""

    def __init__(self, *errors: ProviderError) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def run(attempts: Attempts, sleep: Sleep, patience: Patience | None = None, seed: int = 1) -> tuple[str, list]:
    told: list[tuple[int, str, float]] = []
    result = await with_retries(
        attempts,
        rng=random.Random(seed),
        on_retry=lambda number, error, wait: told.append((number, error.message, wait)),
        patience=patience,
        sleep=sleep,
    )
    return result, told


async def test_it_tries_until_it_works_and_tells_of_each_failure(sleep: Sleep) -> None:
    result, told = await run(Attempts(BUSY, BUSY), sleep)
    assert result == "done"
    assert [(number, message) for number, message, _ in told] == [(1, "busy"), (2, "busy")]
    assert [wait for _, _, wait in told] == sleep.seconds


async def test_waits_double_with_jitter_and_repeat_for_the_same_seed(sleep: Sleep) -> None:
    await run(Attempts(*[BUSY] * 5), sleep)
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(sleep.seconds))
    again = Sleep()
    await run(Attempts(*[BUSY] * 5), again)
    assert again.seconds == sleep.seconds


async def test_it_gives_up_after_six_attempts(sleep: Sleep) -> None:
    attempts = Attempts(*[BUSY] * 10)
    with pytest.raises(ProviderError, match="busy"):
        await run(attempts, sleep)
    assert attempts.made == 6


async def test_what_cannot_get_better_is_tried_once(sleep: Sleep) -> None:
    attempts = Attempts(ProviderError("wrong", status=400))
    with pytest.raises(ProviderError, match="wrong"):
        await run(attempts, sleep)
    assert (attempts.made, sleep.seconds) == (1, [])


async def test_the_servers_wait_is_obeyed(sleep: Sleep) -> None:
    await run(Attempts(ProviderError("full", retryable=True, retry_after=17.0)), sleep)
    assert sleep.seconds == [17.0]


async def test_a_wait_beyond_the_cap_ends_the_run_and_says_how_long(sleep: Sleep) -> None:
    attempts = Attempts(ProviderError("full", retryable=True, retry_after=3600.0, status=429))
    with pytest.raises(ProviderError, match="wait 3600 s") as caught:
        await run(attempts, sleep)
    assert (attempts.made, sleep.seconds, caught.value.fatal, caught.value.retryable) == (1, [], True, False)
    assert caught.value.hint == "resume the run in 60 minutes"


async def test_no_attempt_begins_after_the_deadline(sleep: Sleep) -> None:
    attempts = Attempts(ProviderError("full", retryable=True, retry_after=10.0))
    with pytest.raises(ProviderError, match="full"):
        await run(attempts, sleep, Patience(seconds=5.0))
    assert (attempts.made, sleep.seconds) == (1, [])


async def test_the_time_of_the_first_attempt_counts(sleep: Sleep) -> None:
    attempts = Attempts(ProviderError("slow", retryable=True, retry_after=0.0))

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return await attempts()

    with pytest.raises(ProviderError, match="slow"):
        await with_retries(
            slow, rng=random.Random(1), on_retry=lambda *_: None, patience=Patience(seconds=0.04), sleep=sleep
        )
    assert (attempts.made, sleep.seconds) == (1, [])


async def test_a_call_that_succeeds_at_once_needs_no_retry_loop(sleep: Sleep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenacity", None)
    assert await run(Attempts(), sleep) == ("done", [])
