"""What is measured and what comes back: request, output, score, and the evaluator's contract.

Producing and judging are two steps. `produce` is paid and its output is kept; `score` only reads
the output, so a judgement can be made again without paying again.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from agent.space import Candidate

Purpose = Literal["search", "gate", "report"]
"""Who may read the result: the search and its proposers, the gate alone, or the final report."""

Ask = Callable[[Any, str], Awaitable[Any]]
"""Calls the model of a role: an `agent.llm.types.ModelRequest` and the role in, a `Completion` out. The run pays."""

FailureKind = Literal[
    "error", "exit", "timeout", "memory", "invalid", "forged", "forbidden", "lost", "cancelled", "hopeless", "unpaid"
]
"""Why there is no output: it raised, exited non-zero, ran too long, took too much memory, returned
something that is not a measurement, answered what it was not asked, did what the sandbox refuses, its
process died, we stopped it, its learning curve left too little hope, or a limit had no room for its model calls."""

LARGEST = 1e150
"""Largest magnitude of a measured number; sums, differences and ratios of larger ones would not be finite."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may take. None means no limit.

    Args:
        seconds: Wall-clock seconds.
        memory_mb: Megabytes of address space of the process that measures.
        log_chars: Characters of captured output that are kept (head and tail).
    """

    seconds: float | None = None
    memory_mb: int | None = None
    log_chars: int = 4000


@dataclass(frozen=True, slots=True)
class Rival:
    """The champion's score, which a measurement has to beat to change anything that may be claimed.

    Args:
        name: The objective.
        sign: 1 where larger is better, -1 where smaller is.
        value: Its score.
    """

    name: str
    sign: int
    value: float

    def beaten(self, values: Mapping[str, float]) -> bool:
        """Whether these numbers are better; what cannot be compared counts as better."""
        return not self.sign * (values.get(self.name, math.nan) - self.value) <= 0


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to measure, as plain data.

    Args:
        candidate: What to measure.
        example: Id of the data row, or None for a problem without data.
        row: That row, as JSON.
        seed: For evaluators that draw random numbers; the two halves of a pair share it.
        replicate: Counts repeated measurements of one candidate, from 0.
        fidelity: Share of the full effort, in (0, 1].
        stage: Name of the evaluation stage; "full" unless the evaluator declares stages.
        purpose: Who may read the result.
        limits: What the evaluation may take.
        rival: Where it is enough to be sure of a result that beats the champion: that one. None: be sure of any.
        claimed: How often to run a program whose result is about to be claimed; 0 where it is not.
    """

    candidate: Candidate
    example: str | None = None
    row: Any = None
    seed: int = 0
    replicate: int = 0
    fidelity: float = 1.0
    stage: str = "full"
    purpose: Purpose = "search"
    limits: Limits = Limits()
    rival: Rival | None = None
    claimed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The request as JSON: what a worker or a command receives."""
        return {
            **({"rival": asdict(self.rival)} if self.rival is not None else {}),
            **({"claimed": self.claimed} if self.claimed else {}),
            "candidate": self.candidate.values_json,
            "example": self.example,
            "row": self.row,
            "seed": self.seed,
            "replicate": self.replicate,
            "fidelity": self.fidelity,
            "stage": self.stage,
            "limits": asdict(self.limits),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """The request that `to_json` wrote; the purpose is not sent and reads as "search"."""
        given = dict(data)
        rival = given.pop("rival", None)
        return cls(
            candidate=Candidate(given.pop("candidate")),
            rival=Rival(**rival) if rival else None,
            limits=Limits(**given.pop("limits", {})),
            **given,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no value.

    Args:
        kind: See `FailureKind`.
        message: One sentence. It may quote the candidate, so nothing is ever read out of it.
        detail: Such as the end of a traceback.
        sign: What makes the scorer suspect a trick: "bound" (a score that cannot be), "variant" (another answer to the
            same question) or "canary" (a test that must fail was reported as passed); "" of an ordinary failure.
    """

    kind: FailureKind
    message: str
    detail: str = ""
    sign: str = ""


class Suspicious(ValueError):
    """Raised by a scorer whose candidate seems to have found a trick; the candidate's own exceptions never are one.

    Args:
        message: One sentence for people.
        sign: As in `Failure`.
    """

    def __init__(self, message: str, sign: str = "bound") -> None:
        super().__init__(message)
        self.sign = sign


@dataclass(frozen=True, slots=True)
class Output:
    """What a candidate produced for a request.

    Args:
        value: Plain JSON; None when it failed.
        failure: Why it failed, or None.
        partials: Results that arrived before the final one, oldest first.
        log: What the evaluation printed, capped.
        seconds: Wall-clock seconds it took.
        usd: What it cost in dollars beyond the model calls that the ledger sees, if it says so.
        stopped: Of a hopeless one: the `step` at which it was stopped, `of` how many, the compared `value` there,
            its `chance` to beat the champion, and the champion's value that it was `against`.
        layers: Names of the sandbox's layers that were on; () where no code of the candidate's was run in one.
        trace: What the program did, as `agent.tracing.spans.Trace.to_json` gives it; None where nothing was recorded.
        attempts: How often it was begun: 2 where a worker of a cluster was lost in the middle of it.
    """

    value: Any = None
    failure: Failure | None = None
    partials: tuple[Any, ...] = ()
    log: str = ""
    seconds: float = 0.0
    usd: float = 0.0
    stopped: Mapping[str, float] | None = None
    layers: tuple[str, ...] = ()
    trace: Mapping[str, Any] | None = None
    attempts: int = 1

    def to_json(self) -> dict[str, Any]:
        """The output as JSON, without fields that hold nothing."""
        out: dict[str, Any] = {"seconds": round(self.seconds, 6)}
        if self.failure is not None:
            out["failure"] = {k: v for k, v in asdict(self.failure).items() if v or k == "message"}
        else:
            out["value"] = self.value
        if self.partials:
            out["partials"] = list(self.partials)
        if self.log:
            out["log"] = self.log
        if self.usd:
            out["usd"] = self.usd
        if self.stopped:
            out["stopped"] = dict(self.stopped)
        if self.layers:
            out["layers"] = list(self.layers)
        if self.trace:
            out["trace"] = dict(self.trace)
        if self.attempts > 1:
            out["attempts"] = self.attempts
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Output:
        """The output that `to_json` wrote."""
        given = dict(data)
        failure = given.pop("failure", None)
        return cls(
            failure=Failure(**failure) if failure else None,
            partials=tuple(given.pop("partials", ())),
            layers=tuple(given.pop("layers", ())),
            **given,
        )

    @classmethod
    def failed(cls, kind: FailureKind, message: str, detail: str = "", **rest: Any) -> Output:
        """An output that is a failure."""
        return cls(failure=Failure(kind, message, detail), **rest)


@dataclass(frozen=True, slots=True)
class Score:
    """What judging makes of an output.

    Args:
        values: Named finite numbers: objectives and constraint values.
        feedback: Words for the proposer.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    feedback: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"values": dict(self.values), "feedback": self.feedback}


def measurement(value: Any, names: Sequence[str]) -> dict[str, Any]:
    """The JSON form of what a user's evaluator returned: `{"values": {...}, "feedback": "..."}`.

    Accepted are a number (when one name is asked for), `(number, feedback)`, `(mapping, feedback)`,
    a mapping of names to numbers with an optional "feedback", and a `Score`.

    Args:
        value: What the evaluator returned.
        names: The objectives and constraints that must be there.

    Raises:
        ValueError: Anything else, a missing name, or a number that is not finite.
    """
    feedback = ""
    if inspect.isawaitable(value):
        getattr(value, "close", lambda: None)()  # else Python warns of it too, somewhere else
        raise ValueError("what was returned is still to be awaited: ask was not awaited; write await in front of it")
    if isinstance(value, Score):
        value, feedback = value.values, value.feedback
    elif isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], str):
        value, feedback = value
    if isinstance(value, Mapping):
        numbers = dict(value)
        if set(numbers) <= {"values", "feedback"} and isinstance(numbers.get("values"), Mapping):
            feedback = numbers.get("feedback", feedback)
            numbers = dict(numbers["values"])
        feedback = numbers.pop("feedback", feedback)
    else:
        if len(names) != 1:
            raise ValueError(f"a mapping with {', '.join(names)} is needed, not {_short(value)}")
        numbers = {names[0]: value}
    missing = [name for name in names if name not in numbers]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; found {', '.join(map(str, numbers)) or 'nothing'}")
    return {"values": {str(k): _number(k, v) for k, v in numbers.items()}, "feedback": str(feedback)}


def _number(name: Any, value: Any) -> float:
    try:
        # Accepts numpy and torch scalars without importing either. Strings of digits are not numbers,
        # and an array of one element is more likely a mistake than a measurement.
        scalar = not isinstance(value, (str, bytes)) and not getattr(value, "shape", ())
        number = float(value) if scalar else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        raise ValueError(f"{name} must be a number, not {_short(value)}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number!r}")
    if abs(number) > LARGEST:
        raise ValueError(f"{name} must lie within ±{LARGEST:g}, not {number!r}; raise an error where there is no value")
    return number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Evaluator(Protocol):
    """Produces outputs and judges them.

    One that asks models names their roles in an attribute `uses`, such as ("task",). It runs in this process, and
    `produce` gets a third argument, `ask` (see `Ask`). `only_asks` says that what it does beside is neither paid nor
    seen; `forecast(problem)` says what one evaluation asks at most, and `ready(problem)` refuses what cannot work.

    It may have an attribute `layers` (see `Output`), and two methods more: `load()`, which a worker calls
    before its first request and outside its time limit, and `guard()`, which is called before anything is
    measured or written. That one returns what a run's record says of the sandbox, {} for nothing, and
    raises PrerequisiteError where this machine is too weak.

    Attributes:
        exclusive: While it measures, nothing else of ours computes: no other evaluation, no local model.
        blocking: `produce` computes instead of waiting and never suspends, so it needs a thread or a
            process of its own; otherwise it is awaited on the event loop.
        keeps_limits: `produce` applies the request's limits itself (a command does); otherwise the
            executor does.
        spec: Plain data from which a worker process can rebuild the evaluator; None when it can
            only run in this process.
        fingerprint: Changes when the evaluator's source changes.
    """

    @property
    def exclusive(self) -> bool: ...

    @property
    def blocking(self) -> bool: ...

    @property
    def keeps_limits(self) -> bool: ...

    @property
    def spec(self) -> Mapping[str, Any] | None: ...

    @property
    def fingerprint(self) -> str: ...

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """Measure one request; `partial` takes results, plain JSON, that arrive before the final one.

        Failures of the candidate come back as outputs; an exception is a failure of kind "error".
        """
        ...

    def score(self, output: Output) -> Score:
        """Judge an output that did not fail.

        Raises:
            ValueError: The output is not a measurement.
        """
        ...


class Executor(Protocol):
    """Runs requests somewhere. `agent.testing.ExecutorContract` holds what every one must do."""

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        """The request's output; failures are outputs. Cancelling the call stops the work.

        Args:
            request: What to measure.
            partial: Called on the event loop with each result that arrives before the final one; the
                output holds them as well.
        """
        ...

    async def close(self) -> None:
        """Stop all work and leave no process behind; what still runs ends as "cancelled". May be called twice."""
        ...
