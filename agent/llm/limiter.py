"""How many calls may be under way at one endpoint: found out, not configured.

Additive increase, multiplicative decrease (Chiu and Jain 1989), with TCP's slow start: nobody knows
the rate limit of a key beforehand, and a run should neither crawl nor live on refusals.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.errors import ProviderError

THROTTLED = frozenset({429, 529})


class Limiter:
    """A limit on calls under way that adapts itself.

    Args:
        start: The first limit, at least 1.
        most: The limit never grows beyond this.
    """

    def __init__(self, start: int = 4, most: int = 64) -> None:
        self.limit = float(start)
        self.running = 0
        self._most = most
        self._slow_start = True
        self._episode = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place, first come first served, and learn from how the call inside ends."""
        await self._enter()
        episode = self._episode
        try:
            yield
        except ProviderError as error:
            if error.status in THROTTLED:
                self._throttled(episode)
            raise
        else:
            self._succeeded()
        finally:
            self._leave()

    async def _enter(self) -> None:
        if not self._waiting and self.running < int(self.limit):
            self.running += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the place was given in the same moment; pass it on
            raise

    def _leave(self) -> None:
        self.running -= 1
        while self._waiting and self.running < int(self.limit):
            place = self._waiting.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)

    def _succeeded(self) -> None:
        if self.running < int(self.limit):
            return  # the limit was not what held us back, so that this success says nothing about it
        step = 1.0 if self._slow_start else 1.0 / self.limit
        self.limit = min(float(self._most), self.limit + step)

    def _throttled(self, episode: int) -> None:
        if episode != self._episode:
            return  # it began before the last decrease: the same overload, seen again
        self._episode += 1
        self._slow_start = False
        self.limit = max(1.0, self.limit * 0.8)
