"""Who waits for what in a run: for something to be recorded, for a pause to end, or for another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.decide_gate import reserve
from agent.state import State


class Waits:
    """The waiters of one process.

    Args:
        wake: Called when somebody begins to wait for good.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._waiters: list[asyncio.Future[None]] = []
        self.parked = 0
        """Steps of proposals that wait for what this process will not do any more."""
        self.calling = 0
        """Model calls of proposals, from before they are recorded."""

    async def change(self) -> None:
        """Return when something more was recorded, or `changed` was called."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def changed(self) -> None:
        """Let everybody go who waits for a change."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def rest(self, state: State) -> None:
        """Wait before a proposal that works in steps begins another one.

        While the run is paused; and for good when the search is over, or nothing new starts in this process. The
        proposal stays open then, and a resume goes on with it.
        """
        while state.paused and not _leaves(state):
            await self.change()
        if _leaves(state):
            self.parked += 1
            self._wake()
            try:
                await asyncio.Event().wait()
            finally:
                self.parked -= 1


def _leaves(state: State) -> bool:
    return state.halt is not None or state.stop is not None or state.ended is not None


def until_deadline(state: State, now: float) -> float | None:
    """Seconds until the search must end so that the exam still fits; None without such a limit.

    Args:
        state: Of the run.
        now: Its clock.
    """
    limit = state.ledger.budget.seconds
    if limit is None or state.stop is not None or state.ended is not None or state.resting:
        return None
    costs = state.costs
    each = costs.seconds / costs.units if costs.units else 0.0
    held = reserve(state) / len(state.rows) * each / state.workers
    gone = state.ledger.seconds + max(0.0, now - state.last)
    return max(0.0, limit - held - gone)
