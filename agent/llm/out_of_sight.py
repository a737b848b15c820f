"""Batches that are out of sight: looked for when nobody knows whether they were taken, cancelled when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agent.errors import AgentError, ProviderError
from agent.events import BatchStarted
from agent.llm.batches import BatchWire
from agent.llm.failures import BatchWaits, CallFailed
from agent.llm.retry import Patience, with_retries
from agent.llm.types import Recorder

T = TypeVar("T")

FIRST, LONGEST = 5.0, 60.0
"""Seconds between two looks at the provider's list: at first, and at most."""
SIGHT = 120.0
"""Seconds for which a batch is looked for that the list does not show: it may be behind."""
SETTLED = 3600.0
"""Seconds after which the list shows whatever was taken. Sending is tried for a quarter of that."""
LASTS = 86400.0
"""Seconds after which a provider itself ends a batch."""
GONE = frozenset({404, 410})
DONE = 409
"""What a server answers that is asked to cancel a batch which has ended."""


class OutOfSight:
    """What is done about the batches of one model that nobody follows.

    Args:
        recorder: The journal and the ledger.
        model: `provider:model`.
        wire: Its Batch API.
        rng: For the waits between attempts.
        patience: For these attempts.
        sleep: Replaced in tests.
        told: Given a sentence when something is waited for.
    """

    def __init__(
        self,
        recorder: Recorder,
        model: str,
        wire: BatchWire,
        *,
        rng: random.Random,
        patience: Patience,
        sleep: Callable[[float], Awaitable[Any]],
        told: Callable[[str], None],
    ) -> None:
        self._recorder = recorder
        self._model = model
        self._wire = wire
        self._rng = rng
        self._patience = patience
        self._sleep = sleep
        self._told = told
        self._cancels: set[asyncio.Task[None]] = set()

    async def find(self, started: BatchStarted) -> str | None:
        """The provider's id of a batch that may have been taken; None when it was not.

        Raises:
            CallFailed: Nobody can tell (ambiguous): the provider does not list batches, or not this one.
            BatchWaits: It cannot be looked for now.
        """
        names = self._recorder.ledger.batch_names
        interval, looked = FIRST, 0.0
        while True:
            others = frozenset(name for number, name in names.items() if number != started.id)
            settled = time.time() - started.created > SETTLED
            try:
                name, unclear = await self._persist(lambda: self._wire.find(started, others))  # noqa: B023
            except ProviderError as error:
                if error.retryable or (error.fatal and error.status not in GONE):
                    raise BatchWaits(
                        f"{error.message}; a batch may be at the provider, and it cannot be looked for",
                        status=error.status,
                        hint=error.hint or "resume the run when the provider can be reached",
                    ) from error
                raise CallFailed(
                    f"{error.message}; nobody can tell whether the batch was taken", retryable=True, ambiguous=True
                ) from error
            if name is not None or (settled and not unclear):
                return name
            if looked >= SIGHT and not unclear:
                raise CallFailed(
                    f"{self._model}: the provider does not list the batch; nobody can tell whether it was taken",
                    retryable=True,
                    ambiguous=True,
                )
            if unclear:
                self._told(f"{self._model}: one of the provider's batches may be ours, which shows when it is done")
            await self._sleep(interval)
            looked += interval
            interval = min(LONGEST, 1.5 * interval)

    def call_off(self) -> None:
        """Cancel what an earlier process gave up, and may have died before it could say so."""
        for batch in self._recorder.ledger.given_up(self._model):
            if time.time() - batch.created < LASTS:
                self.withdraw(batch)

    def withdraw(self, batch: BatchStarted, name: str | None = None) -> None:
        """Begin to cancel a batch; `close` gives that a moment to be done.

        Args:
            batch: Which.
            name: The provider's id of it, where the ledger does not know that.
        """
        self._cancels.add(asyncio.create_task(self._cancel(batch, name), name=f"cancel of batch {batch.id}"))

    async def close(self, timeout: float) -> None:
        """Wait for the cancels, for at most `timeout` seconds."""
        tasks, self._cancels = self._cancels, set()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cancel(self, batch: BatchStarted, name: str | None) -> None:
        with contextlib.suppress(AgentError):  # it is paid for then, and its calls stay possibly spent
            found = name or self._recorder.ledger.batch_names.get(batch.id) or await self.find(batch)
            if found is not None:
                await self._persist(lambda: self._stop(found))

    async def _stop(self, name: str) -> None:
        try:
            await self._wire.cancel(name)
        except ProviderError as error:
            if error.status != DONE:
                raise

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(
            attempt, rng=self._rng, on_retry=lambda *_: None, patience=self._patience, sleep=self._sleep
        )
