"""Events of model calls, and of the batches in which some are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class CallStarted(Event):
    """A model call is about to be paid for.

    Args:
        id: Number of the call.
        scope: Who asks, such as "proposal-12"; replies are found again by (scope, key, ordinal).
        key: Hash of the request.
        ordinal: Counts equal requests of one scope, so that n samples stay n.
        role: propose, task, judge or critic.
        model: `provider:model`.
        reserved: The worst case that is held back: calls, tokens, usd (absent when the price is unknown).
        request: The request, word for word.
        batch: Whether it is sent through the provider's Batch API. One that was cut off goes on under the same id.
        purpose: Of the evaluation that asks; what the gate's measurements ask and are told is the gate's.
    """

    id: int
    scope: str
    key: str
    ordinal: int
    role: str
    model: str
    reserved: JSON
    request: JSON
    batch: bool = False
    purpose: str = "search"
    type: ClassVar[str] = "call.started"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class CallRefused(Event):
    """A model call was not made, because it could have passed a limit. Nothing was sent."""

    scope: str
    key: str
    ordinal: int
    reason: str
    purpose: str = "search"
    type: ClassVar[str] = "call.refused"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class CallRetried(Event):
    """An attempt of a call failed and will be made again after `wait` seconds.

    Args:
        id: The call.
        attempt: Number of the failed attempt, from 1; a process that takes over counts anew.
        error: Why it failed.
        wait: Seconds until the next one.
        ambiguous: Whether it may have been billed all the same. Where an older journal does not say, it may have been.
    """

    id: int
    attempt: int
    error: str
    wait: float
    ambiguous: bool = True
    purpose: str = "search"
    type: ClassVar[str] = "call.retried"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class CallEnded(Event):
    """A model call has its answer, or has failed for good.

    Args:
        id: The call.
        reply: The completion as JSON, or None.
        error: `AgentError.to_json()` of the failure, or None.
        spent: tokens (input, output, cached) and usd; usd is absent when the price is unknown.
        seconds: From the first attempt to the end.
    """

    id: int
    reply: JSON | None
    error: JSON | None
    spent: JSON
    seconds: float
    purpose: str = "search"
    type: ClassVar[str] = "call.ended"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class BatchStarted(Event):
    """Model calls are about to be sent as one batch. Without a `batch.submitted`, a resume looks for it by its tag.

    Args:
        id: Number of the batch in this run, from 1.
        model: `provider:model`.
        tag: Random and unique; the provider keeps it, and calls a request of the batch `TAG-CALL`.
        calls: The calls in it.
        created: When, in seconds since 1970.
    """

    id: int
    model: str
    tag: str
    calls: list[int]
    created: float
    type: ClassVar[str] = "batch.started"


@dataclass(frozen=True, slots=True)
class BatchSubmitted(Event):
    """The provider has taken a batch, and `name` is its id there. From here on nobody sends these calls again."""

    id: int
    name: str
    type: ClassVar[str] = "batch.submitted"


@dataclass(frozen=True, slots=True)
class BatchEnded(Event):
    """All results of a batch were read; the calls have their own ends.

    Args:
        id: The batch.
        status: completed, expired, cancelled or failed.
        counts: Results by kind: succeeded, errored, expired, cancelled; missing (no result came), and of what is no
            result of a call malformed, unknown and duplicate lines. A kind is absent where there are none.
    """

    id: int
    status: str
    counts: JSON
    type: ClassVar[str] = "batch.ended"
