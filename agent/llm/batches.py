"""A provider's Batch API as `agent.llm.bulk` sees it, and what the results of one batch mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from agent.errors import AgentError
from agent.events import BatchStarted
from agent.llm.failures import CallFailed, Malformed, failure
from agent.llm.types import Completion, ModelRequest
from agent.llm.wire import mapping

Outcome = Completion | AgentError
Status = Literal["waiting", "completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a batch is.

    Args:
        status: waiting until all results are there.
        done: Requests that are answered, as far as the provider tells.
        of: Requests in it.
        files: Where the results are, in the provider's words.
        refused: Of a failed batch: what was wrong, with the place of the request (from 1), or 0 for all of it.
    """

    status: Status
    done: int = 0
    of: int = 0
    files: tuple[str, ...] = ()
    refused: tuple[tuple[int, CallFailed], ...] = ()


class BatchWire(Protocol):
    """A provider's Batch API for one model. Every method raises ProviderError alone.

    `most` requests and `room` bytes fit into one batch.
    """

    most: int
    room: int

    def body(self, request: ModelRequest, seed: int | None) -> dict[str, Any]:
        """The request as the provider wants it."""
        ...

    async def probe(self) -> None:
        """Raise when the server has no Batch API; costs nothing."""
        ...

    async def send(self, tag: str, bodies: Mapping[str, dict[str, Any]]) -> str:
        """Send a batch, requests by their names; the provider's id of it. Ambiguous when it may have been taken."""
        ...

    async def find(self, started: BatchStarted, others: frozenset[str]) -> tuple[str | None, bool]:
        """The provider's id of a batch that may have been taken, and whether that is not certain yet.

        Args:
            started: What is known of it.
            others: Ids of batches that are known to be others.
        """
        ...

    async def look(self, name: str) -> Standing:
        """How far it is."""
        ...

    def lines(self, name: str, standing: Standing) -> AsyncIterator[bytes]:
        """The results, one JSON text each, in any order."""
        ...

    def read(self, line: Mapping[str, Any]) -> Outcome:
        """What a result says."""
        ...

    async def cancel(self, name: str) -> None:
        """Ask the provider to do no more of it."""
        ...


class Results:
    """The results of a batch, line by line.

    Args:
        batch: Whose they are.
        wire: The provider's Batch API.
    """

    def __init__(self, batch: BatchStarted, wire: BatchWire) -> None:
        self.counts: Counter[str] = Counter()
        """How many of which kind: see `agent.events.BatchEnded`."""
        self._batch = batch
        self._wire = wire
        self._calls = {named(batch, call): call for call in batch.calls}
        self._seen: set[int] = set()

    def take(self, line: bytes) -> tuple[int, Outcome] | None:
        """The call of a line and what became of it; None for a line that is no result of a call."""
        try:
            data = mapping(json.loads(line), "a result")
        except (ValueError, RecursionError, Malformed):
            self.counts["malformed"] += 1
            return None
        call = self._calls.get(str(data.get("custom_id")))
        if call is None or call in self._seen:
            self.counts["unknown" if call is None else "duplicate"] += 1
            return None
        self._seen.add(call)
        try:
            outcome = self._wire.read(data)
        except Exception as error:
            outcome = failure(error, self._batch.model)
        succeeded = isinstance(outcome, Completion)
        self.counts["succeeded" if succeeded else getattr(outcome, "ending", "errored")] += 1
        return call, outcome

    def rest(self, standing: Standing) -> list[tuple[int, CallFailed]]:
        """The calls without a result, and why they have none."""
        lost = self.counts["malformed"] > 0  # then it may be one of those that cannot be read
        places = enumerate(self._batch.calls, 1)
        return [(call, self._why(standing, place, lost)) for place, call in places if call not in self._seen]

    def _why(self, standing: Standing, place: int, lost: bool) -> CallFailed:
        model = self._batch.model
        if standing.status == "failed":
            self.counts["errored"] += 1
            blamed = dict(standing.refused)
            if blamed and place not in blamed and 0 not in blamed:
                return CallFailed(f"{model}: the batch failed because of another request in it", retryable=True)
            return blamed.get(place) or blamed.get(0) or CallFailed(f"{model}: the batch failed, and nobody says why")
        if standing.status == "expired" and not lost:
            self.counts["expired"] += 1
            return expired(model)
        if standing.status == "cancelled" and not lost:
            self.counts["cancelled"] += 1
            return cancelled(model)
        self.counts["missing"] += 1
        return CallFailed(f"{model}: the batch has no readable result", retryable=True, ambiguous=True)


class Unfinished(CallFailed):
    """A request that the provider did not come to; it was not billed. `ending` is "expired" or "cancelled"."""

    def __init__(self, message: str, ending: str, **given: Any) -> None:
        super().__init__(message, **given)
        self.ending = ending


def expired(model: str) -> Unfinished:
    """The provider did not come to a request within its 24 hours; another batch may do better."""
    return Unfinished(f"{model}: the batch expired before this request was done", "expired", retryable=True)


def cancelled(model: str) -> Unfinished:
    """Somebody cancelled the batch, and so does not want it to be sent again."""
    return Unfinished(
        f"{model}: the batch was cancelled before this request was done",
        "cancelled",
        hint="it was cancelled outside of this run, such as in the provider's console",
    )


def named(batch: BatchStarted, call: int) -> str:
    """What a call is called in its batch."""
    return f"{batch.tag}-{call}"
