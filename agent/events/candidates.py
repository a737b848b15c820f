"""Events of a candidate before it counts: the checks that it passes or not, and what is suspicious about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class CheckStarted(Event):
    """Checks that need more than the candidate (held-out answers, the user's own code) look at a proposal."""

    id: int
    candidate: str
    type: ClassVar[str] = "check.started"


@dataclass(frozen=True, slots=True)
class CheckEnded(Event):
    """What those checks said: the name of the check that refuses and its reason, or two empty words."""

    id: int
    check: str
    reason: str
    type: ClassVar[str] = "check.ended"


@dataclass(frozen=True, slots=True)
class CandidateAdmitted(Event):
    """A proposed candidate passed the checks and will be measured.

    Args:
        proposal: The decision it comes from.
        candidate: Its id.
        values: Its values in canonical form.
        source: Which proposer, and how: "evollm:llm", "evollm:sample", "coordinate", "fallback" …
        rationale: The proposer's words for it.
        parents: Ids of the candidates it was made from.
        claim: What the proposer expects the objective to be, or None.
        read: Examples whose content the proposer read for it; they say nothing for it in the race.
    """

    proposal: int
    candidate: str
    values: JSON
    source: str
    rationale: str = ""
    parents: list[str] = field(default_factory=list)
    claim: float | None = None
    read: list[str] = field(default_factory=list)
    type: ClassVar[str] = "candidate.admitted"


@dataclass(frozen=True, slots=True)
class CandidateRejected(Event):
    """A proposed candidate will not be measured: a check failed, or it was seen before."""

    proposal: int
    candidate: str
    reason: str
    source: str
    type: ClassVar[str] = "candidate.rejected"


@dataclass(frozen=True, slots=True)
class CandidateSuspected(Event):
    """A candidate's score may come from a trick: it is kept aside, and measured again before it counts.

    Args:
        candidate: Its id.
        champion: What it is measured against on fresh seeds; "" where it had no score and is measured alone.
        reason: "jump", "internals", "bound", "variant" or "canary", see `agent.gate.suspicion`; or "again": nothing
            speaks against it, and at the end what is to be claimed as exact is measured once more.
        evidence: What was seen, one sentence for people.
        rows: Rows of data on which both are measured; empty where a candidate is measured as a whole.
    """

    candidate: str
    champion: str
    reason: str
    evidence: str
    rows: list[str] = field(default_factory=list)
    type: ClassVar[str] = "candidate.suspected"


@dataclass(frozen=True, slots=True)
class CandidateCleared(Event):
    """What was suspicious held when it was measured again; from here on it counts as any other.

    Args:
        candidate: Its id.
        reason: What the repeated measurements say.
        evidence: Summary of them, as in a race.
    """

    candidate: str
    reason: str
    evidence: JSON = field(default_factory=dict)
    type: ClassVar[str] = "candidate.cleared"


@dataclass(frozen=True, slots=True)
class CandidateConvicted(Event):
    """What was suspicious did not hold, or could not be measured again: the candidate has no score any more.

    Args:
        candidate: Its id.
        reason: Why.
        evidence: Summary of the repeated measurements, as in a race.
    """

    candidate: str
    reason: str
    evidence: JSON = field(default_factory=dict)
    type: ClassVar[str] = "candidate.convicted"
