"""Events of a run as a whole: how it begins, rests, goes on and ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The run's first event: everything its decisions depend on.

    Args:
        run: Name of the run.
        problem: The problem as plain JSON, as `Problem.to_json` gives it.
        fingerprints: Hashes of evaluator, data and problem; a resume compares them.
        seed: Seed of all random numbers of the run.
        budget: Limits by kind.
        settings: Workers, proposer, models and the gate's settings.
        initial: Values of the initial candidate.
        versions: Versions of Python and the packages that matter.
        checks: Names of the checks that need more than a candidate and the space.
        starts: Points that are measured before anybody is asked for candidates: values, source ("start", or
            "warm:RUN" when it comes from an earlier run), rationale.
        warm: What was taken from an earlier run: run (its name), points (values, score, failed, source), notes.
            Empty without one. Nothing is ever compared with these scores.
        origin: How it came about: command (the words that started it), files (SHA-256 of the user's files by path
            relative to the problem's folder), initial_from (the run whose released candidate is the initial one),
            sandbox (of programs: layers; and with too weak ones unsafe and not_stopped, what they let through).
            A key is absent where there is nothing to tell. No decision depends on it.
    """

    run: str
    problem: JSON
    fingerprints: JSON
    seed: int
    budget: JSON
    settings: JSON
    initial: JSON
    versions: JSON = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    starts: list[JSON] = field(default_factory=list)
    warm: JSON = field(default_factory=dict)
    origin: JSON = field(default_factory=dict)
    type: ClassVar[str] = "run.started"


@dataclass(frozen=True, slots=True)
class RunResumed(Event):
    """A process took the run up again; earlier stop requests no longer count.

    Args:
        changes: Budget or workers that the user changed for the rest of the run; and sandbox, as in
            `RunStarted.origin`, where it is another one now.
    """

    changes: JSON = field(default_factory=dict)
    type: ClassVar[str] = "run.resumed"


@dataclass(frozen=True, slots=True)
class RunPaused(Event):
    """The user wants nothing new to start; what is in flight is finished."""

    type: ClassVar[str] = "run.paused"


@dataclass(frozen=True, slots=True)
class RunContinued(Event):
    """The user lets a paused run go on. The time since nothing was in flight is nobody's work."""

    type: ClassVar[str] = "run.continued"


@dataclass(frozen=True, slots=True)
class EpochStarted(Event):
    """The user accepted that evaluator, data or problem changed: what was measured before is not compared any more."""

    epoch: int
    fingerprints: JSON
    problem: JSON
    changed: list[str]
    type: ClassVar[str] = "epoch.started"


@dataclass(frozen=True, slots=True)
class StopRequested(Event):
    """The search is to end: a limit is reached, the user asked, the model is gone, or nothing is left to try."""

    reason: str
    detail: str = ""
    type: ClassVar[str] = "stop.requested"


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """The run is over.

    Args:
        reason: finished, interrupted, evaluator, provider.
        status: proven, exact, unproven or initial.
        best: Id of the best candidate.
        released: Id of the released candidate.
        exit_code: What the command line ends with.
        detail: For a run that failed: why, and what to do.
    """

    reason: str
    status: str
    best: str
    released: str
    exit_code: int
    detail: str = ""
    type: ClassVar[str] = "run.ended"


RESUMABLE = ("interrupted", "terminated", "provider")
"""Reasons to stop that leave the run open: it goes on when the user or the provider lets it."""
