"""The only retry loop: the SDKs' own loops are off, since loops within loops multiply the attempts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.errors import ProviderError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Args:
        attempts: At most this many, at least 1.
        seconds: No new attempt begins later than this after the first one.
        attempt: The longest one attempt may take, in seconds.
        cap: The longest wait, in seconds, that a server may ask for.
        base: The first wait without a server's advice, in seconds; it doubles each time, up to `longest`.
        longest: The longest wait without a server's advice, in seconds.
    """

    attempts: int = 6
    seconds: float = 900.0
    attempt: float = 3600.0
    cap: float = 120.0
    base: float = 1.0
    longest: float = 60.0


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    rng: random.Random,
    on_retry: Callable[[int, ProviderError, float], None],
    patience: Patience | None = None,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> T:
    """Make attempts until one succeeds.

    Args:
        attempt: One attempt.
        rng: Jitter, so that callers that failed together do not come back together.
        on_retry: Told the number of the failed attempt (from 1), its error and the wait in seconds.
        patience: When to give up.
        sleep: Replaced in tests.

    Raises:
        ProviderError: The last attempt's error; fatal when the server asks for a wait beyond the cap.
    """
    limits = patience or Patience()

    async def within_cap() -> T:
        try:
            return await attempt()
        except ProviderError as error:
            if error.retryable and error.retry_after is not None and error.retry_after > limits.cap:
                raise _too_long(error, limits.cap) from error
            raise

    began = time.monotonic()
    try:  # nearly every call succeeds at once, and needs no more than this
        return await within_cap()
    except ProviderError as error:
        if not error.retryable:
            raise
        broken = [error]

    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_any
    from tenacity.stop import stop_before_delay

    async def next_attempt() -> T:
        if broken:
            raise broken.pop()  # the first one's, which counts
        return await within_cap()

    def since_the_first(state: RetryCallState) -> None:
        state.start_time = began

    def failed(state: RetryCallState) -> ProviderError:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, ProviderError)
        return error

    def wait(state: RetryCallState) -> float:
        asked = failed(state).retry_after
        if asked is not None:
            return asked
        backoff = min(limits.longest, limits.base * 2.0 ** (state.attempt_number - 1))
        return backoff * rng.uniform(0.5, 1.0)

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, ProviderError) and error.retryable),
        wait=wait,
        stop=stop_any(stop_after_attempt(limits.attempts), stop_before_delay(limits.seconds)),
        before=since_the_first,
        before_sleep=lambda state: on_retry(state.attempt_number, failed(state), state.upcoming_sleep),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(next_attempt)


def _too_long(error: ProviderError, cap: float) -> ProviderError:
    """Fatal, so that a nightly run ends and can be resumed, instead of asking again for every proposal."""
    seconds = error.retry_after or 0.0
    return ProviderError(
        f"{error.message}; the server asks to wait {seconds:.0f} s, and at most {cap:.0f} s are waited",
        retry_after=seconds,
        fatal=True,
        status=error.status,
        hint=f"resume the run in {max(1, round(seconds / 60))} minutes",
    )
