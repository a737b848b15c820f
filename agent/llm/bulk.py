"""Calls that can wait: gathered into batches, sent for half the price, and found again after a crash.

What may have been paid is never sent twice where that can be known. A batch is journalled before it is
sent, with a tag of its own that the provider keeps; when nobody knows whether it arrived (the connection
broke, or this process died), it is looked for by that tag before anything is sent again. Results belong
to calls by their names and never by their order.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.errors import AgentError, ProviderError
from agent.events import BatchEnded, BatchStarted, BatchSubmitted
from agent.llm.batches import BatchWire, Outcome, Results, Standing, named
from agent.llm.failures import BatchWaits, CallFailed, failure, unpaid
from agent.llm.out_of_sight import GONE, OutOfSight
from agent.llm.retry import Patience, with_retries
from agent.llm.types import Completion, ModelRequest, Recorder

WINDOW = 2.0
"""Seconds without another call after which the gathered ones are sent: nothing against the hours a batch may take."""
ROUNDS = 30
"""Windows after which they are sent although more are coming."""
FIRST, LONGEST = 5.0, 60.0
"""Seconds between two questions whether a batch is done: at first, and at most."""
OBEYED = 3600.0
"""The longest pause between two such questions that a server may ask for."""
GRACE = 10.0
"""Seconds that a batch which is being sent, or cancelled, is given when the run rests."""
AGAIN = 3
"""Attempts of a call: what expired or failed at the provider goes into a new batch this often at most."""


@dataclass(slots=True)
class _Asked:
    call: int
    body: dict[str, Any]
    size: int
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Bulk:
    """The batches of one model.

    Args:
        recorder: The journal and the ledger.
        model: `provider:model`.
        wire: Its Batch API.
        rng: For the waits between attempts to send.
        patience: For these attempts.
        allowed: Asked before each of them; raises when the model failed for good in the meantime.
        sleep: Replaced in tests.
        window: Seconds without another call after which the gathered ones are sent.
        told: Given a sentence on how far a batch is, when that has changed.
    """

    def __init__(
        self,
        recorder: Recorder,
        model: str,
        wire: BatchWire,
        *,
        rng: random.Random,
        patience: Patience,
        allowed: Callable[[], None],
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        window: float = WINDOW,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._recorder = recorder
        self._model = model
        self._wire = wire
        self._rng = rng
        self._patience = patience
        self._allowed = allowed
        self._sleep = sleep
        self._window = window
        self._told = told or (lambda words: None)
        self._out_of_sight = OutOfSight(recorder, model, wire, rng=rng, patience=patience, sleep=sleep, told=self._told)
        self._asked: dict[int, _Asked] = {}
        self._early: dict[int, Outcome] = {}
        """Results of calls that a proposal which was begun again has not asked for yet."""
        self._queue: list[_Asked] = []
        self._over: set[int] = set()
        """Batches that nothing more comes from."""
        self._answered: dict[int, int] = {}
        """The batch that has answered a call last; one whose answer was an error that passes goes into a new batch."""
        self._followed: dict[int, asyncio.Task[None]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._sending = self._given_up = self._closed = False

    async def reply(self, call: int, request: ModelRequest, seed: int | None) -> Completion:
        """The reply to a call; it may take a day.

        Args:
            call: Its number. One whose batch was sent already, by whatever process, waits for that.
            request: What to say.
            seed: Makes sampling repeatable where the server can do that.

        Raises:
            ProviderError: It failed; says whether another batch may succeed, and whether it may have been billed.
            BatchWaits: The result cannot be had now, and can be later.
        """
        if call in self._early:
            return _said(self._early.pop(call))
        body = self._wire.body(request, seed)
        asked = _Asked(call, body, len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")) + 256)
        self._asked[call] = asked
        try:
            batch = self._recorder.ledger.batch_of(call)
            if self._given_up:
                self._give_up(call)
            elif batch is None or batch.id in self._over or self._answered.get(call) == batch.id:
                self._gather(asked)
            else:
                self._follow(batch)
            return _said(await asked.outcome)
        finally:
            if self._asked.get(call) is asked:
                del self._asked[call]

    async def probe(self) -> None:
        """Raise when the server has no Batch API."""
        await self._wire.probe()

    def give_up(self) -> None:
        """Wait for nothing more: the search is over. What the provider is still working on is cancelled there."""
        if self._given_up:
            return
        self._given_up = True
        for call in list(self._asked):
            self._give_up(call)
        for number, task in self._followed.items():
            task.cancel()
            if number not in self._over:
                self._out_of_sight.withdraw(self._recorder.ledger.batches[number])

    def call_off(self) -> None:
        """Cancel at the provider what an earlier process gave up, and may have died before it could say so."""
        self._out_of_sight.call_off()

    def _give_up(self, call: int) -> None:
        batch = self._recorder.ledger.batch_of(call)
        sent = batch is not None and batch.id not in self._over and self._answered.get(call) != batch.id
        error = CallFailed(f"{self._model}: the search ended before the batch was done", ambiguous=sent)
        if not self._asked[call].outcome.done():
            self._asked[call].outcome.set_result(error)

    async def close(self) -> None:
        """Stop waiting. A batch that is being sent is given a moment, so that a resume knows its id; so is a cancel."""
        self._closed = True
        if self._sender is not None and self._sending:
            await asyncio.wait({self._sender}, timeout=GRACE)
        tasks = [task for task in (self._sender, *self._followed.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followed.clear()
        await self._out_of_sight.close(GRACE)

    # Sending.

    def _gather(self, asked: _Asked) -> None:
        self._queue.append(asked)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="batch sender")

    async def _send(self) -> None:
        while self._queue and not self._closed:
            for _ in range(ROUNDS):
                known = len(self._queue)
                await asyncio.sleep(self._window)
                if len(self._queue) == known:
                    break
            queue, self._queue = self._queue, []
            for part in self._parts(item for item in queue if not item.outcome.done()):
                if self._closed or self._given_up:
                    return  # what was not sent is cut off, and a resume sends it
                self._sending = True
                try:
                    await self._submit(part)
                finally:
                    self._sending = False

    def _parts(self, items: Iterator[_Asked]) -> Iterator[list[_Asked]]:
        part: list[_Asked] = []
        size = 0
        for item in items:
            if part and (len(part) == self._wire.most or size + item.size > self._wire.room):
                yield part
                part, size = [], 0
            part.append(item)
            size += item.size
        if part:
            yield part

    async def _submit(self, part: list[_Asked]) -> None:
        number = len(self._recorder.ledger.batches) + 1
        calls = [item.call for item in part]
        started = BatchStarted(number, self._model, secrets.token_hex(8), calls, round(time.time(), 3))
        try:
            self._recorder.record(started)
            await self._recorder.flush()
            name = await self._create(started, part)
            if self._given_up:
                self._out_of_sight.withdraw(started, name)
                return
            await self._taken(started, name)
        except Exception as error:
            self._failed(started, failure(error, self._model))
            return
        self._follow(started)

    async def _taken(self, batch: BatchStarted, name: str) -> None:
        self._recorder.record(BatchSubmitted(batch.id, name))
        await self._recorder.flush()
        self._told(f"{self._model}: batch {name} with {len(batch.calls)} calls was sent; it may take 24 hours")

    async def _create(self, started: BatchStarted, part: list[_Asked]) -> str:
        bodies = {named(started, item.call): item.body for item in part}

        async def attempt() -> str | CallFailed:
            self._allowed()
            if self._given_up:
                raise CallFailed(f"{self._model}: the search ended before the batch was sent")
            try:
                return await self._wire.send(started.tag, bodies)
            except CallFailed as error:
                if not error.ambiguous:
                    raise
                try:
                    found = await self._out_of_sight.find(started)
                except CallFailed as doubt:
                    return doubt  # whether it is sent again is for each call to say, which counts it as possibly spent
                if found is not None:
                    return found
                raise unpaid(error) from error

        try:
            name = await with_retries(
                attempt, rng=self._rng, on_retry=self._resent, patience=self._patience, sleep=self._sleep
            )
        except ProviderError as error:
            raise unpaid(error, retryable=False) from error  # it was tried often enough
        if isinstance(name, CallFailed):
            raise name
        return name

    def _resent(self, attempt: int, error: ProviderError, wait: float) -> None:
        self._told(f"{self._model}: a batch could not be sent ({error.message}); again in {wait:.0f} s")

    # Waiting and reading.

    def _follow(self, batch: BatchStarted) -> None:
        if self._given_up:  # while its id was written down
            self._out_of_sight.withdraw(batch)
        elif batch.id not in self._followed:
            self._followed[batch.id] = asyncio.create_task(self._until_done(batch), name=f"batch {batch.id}")

    async def _until_done(self, batch: BatchStarted) -> None:
        try:
            name = self._recorder.ledger.batch_names.get(batch.id)
            if name is None:
                name = await self._out_of_sight.find(batch)
                if name is None:
                    self._over.add(batch.id)
                    for call in batch.calls:
                        if call in self._asked:
                            self._gather(self._asked[call])
                    return
                await self._taken(batch, name)
            await self._read(batch, name, await self._done(name))
        except Exception as error:
            self._failed(batch, failure(error, self._model))

    def _failed(self, batch: BatchStarted, error: AgentError) -> None:
        if not isinstance(error, BatchWaits):
            self._over.add(batch.id)
            for call in batch.calls:
                self._deliver(batch, call, error)
            return
        self._followed.pop(batch.id, None)
        for call in batch.calls:
            if call in self._asked and not self._asked[call].outcome.done():
                self._asked[call].outcome.set_result(error)

    async def _done(self, name: str) -> Standing:
        """Wait until all results of a batch are there."""
        interval, before = FIRST, (-1, -1)
        while True:
            pause = interval
            try:
                standing = await self._wire.look(name)
            except ProviderError as error:
                pause = self._tolerated(name, error, interval)
            else:
                if standing.status != "waiting":
                    return standing
                if (standing.done, standing.of) != before:
                    before = (standing.done, standing.of)
                    self._told(f"{self._model}: batch {name}: {standing.done} of {standing.of} done")
            await self._sleep(pause)
            interval = min(LONGEST, 1.5 * interval)

    def _tolerated(self, name: str, error: ProviderError, interval: float) -> float:
        """How long to wait after a question that was not answered.

        Raises:
            ProviderError: Asking again does not help.
        """
        if error.status in GONE:
            raise CallFailed(
                f"{error.message}; the provider knows nothing of batch {name} any more, which may have been billed",
                ambiguous=True,
            ) from error
        if not error.retryable:
            raise BatchWaits(
                f"{error.message}; batch {name} stays at the provider",
                status=error.status,
                hint=error.hint or "resume the run when that is put right",
            ) from error
        pause = min(OBEYED, max(interval, error.retry_after or 0.0))
        self._told(f"{self._model}: batch {name} cannot be asked for ({error.message}); again in {pause:.0f} s")
        return pause

    async def _read(self, batch: BatchStarted, name: str, standing: Standing) -> None:
        interval = FIRST
        while True:
            results = Results(batch, self._wire)
            try:
                async for line in self._wire.lines(name, standing):
                    found = results.take(line)
                    if found is not None:
                        self._deliver(batch, *found)
                break
            except ProviderError as error:  # those that have come are kept
                await self._sleep(self._tolerated(name, error, interval))
                interval = min(LONGEST, 1.5 * interval)
        for call, missing in results.rest(standing):
            self._deliver(batch, call, missing)
        self._over.add(batch.id)
        counts = dict(sorted(results.counts.items()))
        self._recorder.record(BatchEnded(batch.id, standing.status, counts))
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        self._told(f"{self._model}: batch {name} {standing.status}: {told or 'no results'}")

    def _deliver(self, batch: BatchStarted, call: int, outcome: Outcome) -> None:
        if self._answered.get(call) == batch.id:
            return  # when the results are read again from the beginning
        self._answered[call] = batch.id
        asked = self._asked.get(call)
        if asked is None:
            self._early[call] = outcome
        elif not asked.outcome.done():
            asked.outcome.set_result(outcome)


def _said(outcome: Outcome) -> Completion:
    if isinstance(outcome, Completion):
        return outcome
    raise outcome
