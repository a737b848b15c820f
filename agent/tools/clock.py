"""The time limit of a tool, which does not run while the tool waits for the run: for a look, a model, a pause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar


class Clock:
    """One call's clock."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._waits = 0
        self._left = 0.0

    def stop(self) -> None:
        """Stop it, as often as it is started again; a tool may wait for several things at once."""
        when = self._limit.when()
        if not self._waits and when is not None:
            self._left = when - asyncio.get_running_loop().time()
            self._move(None)
        self._waits += 1

    def start(self) -> None:
        """Go on from where it was."""
        self._waits -= 1
        if not self._waits and self._limit.when() is None:
            self._move(asyncio.get_running_loop().time() + self._left)

    def _move(self, when: float | None) -> None:
        with contextlib.suppress(RuntimeError):  # the time is up already, or the call is over
            self._limit.reschedule(when)


_CURRENT: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextlib.asynccontextmanager
async def limited(seconds: float | None) -> AsyncIterator[None]:
    """While a tool runs, for at most so many seconds of its own; None for no limit.

    Raises:
        TimeoutError: It took longer.
    """
    async with asyncio.timeout(seconds) as limit:
        token = _CURRENT.set(Clock(limit) if seconds is not None else None)
        try:
            yield
        finally:
            _CURRENT.reset(token)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """While a tool, if one is running, waits for the run: its clock stands still."""
    clock = _CURRENT.get()
    if clock is not None:
        clock.stop()
    try:
        yield
    finally:
        if clock is not None:
            clock.start()
