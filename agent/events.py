"""Every event of a run. The journal is a list of these, and everything else is a fold over it.

Fields are plain JSON. An event's `audience` says who may read it while a run is open: "search"
(proposers, tools and the terminal), "gate" (the gate alone) or "report" (after the end).
Events that end in `Started` have an effect in the world; one without its end was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent import personal
from agent.event import JSON as JSON
from agent.event import Event as Event


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
class ProposalStarted(Event):
    """A proposer is asked for `n` candidates. `id` numbers the decision and seeds its random numbers."""

    id: int
    n: int
    proposer: str
    type: ClassVar[str] = "proposal.started"


@dataclass(frozen=True, slots=True)
class RowRead(Event):
    """A proposer read a row of train; what it proposes in this decision was made with it.

    Args:
        proposal: The decision.
        example: Id of the row.
        row: Its content, as it was told.
    """

    proposal: int
    example: str
    row: Any
    type: ClassVar[str] = "row.read"


@dataclass(frozen=True, slots=True)
class LookAsked(Event):
    """A proposer wants values measured while it works. What that says is compared with nothing.

    Args:
        proposal: The decision.
        key: Names the look in the decision; asked again under it, the decision gets what is there.
        candidate: Id of the values.
        values: In canonical form.
        examples: Rows of train; empty for all that a candidate is measured on as a whole.
        check: Name of the check that refuses the values, and its reason, or "".
        refused: Why nothing is measured although no check refuses it, or "".
    """

    proposal: int
    key: str
    candidate: str
    values: JSON
    examples: list[str] = field(default_factory=list)
    check: str = ""
    refused: str = ""
    type: ClassVar[str] = "look.asked"

    @property
    def leaked(self) -> bool:
        """Whether it was refused because the values repeat held-out answers."""
        return self.check.startswith("leak:")


@dataclass(frozen=True, slots=True)
class ToolEnded(Event):
    """A tool that the model called has answered; a resumed decision uses the answer and does not run it again.

    Args:
        proposal: The decision.
        conversation: Name of the conversation in it.
        turn: Its turn in the conversation.
        index: Its place among the calls of the turn.
        name: Of the tool.
        arguments: As the model gave them; None when they were no JSON object.
        text: The answer.
        error: Whether it says that the tool failed.
        seconds: How long it took.
        reads: Rows of train that it read or measured, so that a decision which takes its answer from here counts as
            made with them too.
        notes: What it wrote in the notebook, by name.
    """

    proposal: int
    conversation: str
    turn: int
    index: int
    name: str
    arguments: JSON | None
    text: str
    error: bool
    seconds: float
    reads: list[str] = field(default_factory=list)
    notes: JSON = field(default_factory=dict)
    type: ClassVar[str] = "tool.ended"


@dataclass(frozen=True, slots=True)
class ProposalEnded(Event):
    """What a proposer came up with.

    Args:
        id: The decision.
        proposals: As the proposer gave them: values, source, rationale, parents, claim, read. The checks decide
            about each in an event of its own.
        rejections: Replies or values that could not be used, each with reason, source and detail.
        state: What the proposer wants to be given back next time, as JSON.
        error: Why the proposer failed as a whole, or "".
        exhausted: Whether the proposer has nothing left to propose.
        over: Words, where the search is to end because whoever makes the candidates asked for it.
    """

    id: int
    proposals: list[JSON]
    rejections: list[JSON] = field(default_factory=list)
    state: Any = None
    error: str = ""
    exhausted: bool = False
    over: str = ""
    type: ClassVar[str] = "proposal.ended"


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


@dataclass(frozen=True, slots=True)
class EvaluationStarted(Event):
    """One request is about to be measured.

    `pair` numbers the pair of a race or an exam that it is one half of; -1 outside of pairs.
    """

    id: int
    candidate: str
    example: str | None
    seed: int
    replicate: int
    purpose: str
    pair: int = -1
    fidelity: float = 1.0
    stage: str = "full"
    type: ClassVar[str] = "evaluation.started"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class EvaluationEnded(Event):
    """A request was measured: the output that is kept, and the score that was made of it.

    Args:
        id: The evaluation.
        purpose: As in its start.
        output: `Output.to_json()`.
        score: `Score.to_json()`, or None when it failed.
    """

    id: int
    purpose: str
    output: JSON
    score: JSON | None
    type: ClassVar[str] = "evaluation.ended"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class RaceStarted(Event):
    """A contender is now measured alternately with the champion."""

    challenger: str
    champion: str
    type: ClassVar[str] = "race.started"


@dataclass(frozen=True, slots=True)
class RaceDecided(Event):
    """The race's word on a candidate.

    Args:
        candidate: The challenger.
        champion: What it was compared with.
        decision: "promote" makes it the champion, "drop" ends it, "continue" sends it into paired measurements,
            "climb" has it measured with more of the effort (after a "drop" on a rung that may still come).
        reason: One sentence.
        evidence: Summary of the comparison: pairs, wins, losses, effect; on a rung fidelity, rank and of how many.
    """

    candidate: str
    champion: str
    decision: str
    reason: str
    evidence: JSON
    type: ClassVar[str] = "race.decided"


@dataclass(frozen=True, slots=True)
class StopRequested(Event):
    """The search is to end: a limit is reached, the user asked, the model is gone, or nothing is left to try."""

    reason: str
    detail: str = ""
    type: ClassVar[str] = "stop.requested"


@dataclass(frozen=True, slots=True)
class HoldoutFixed(Event):
    """The rows that the gate and the final report keep for themselves.

    Args:
        val: Id and cluster of each row of the gate, in the order in which exams use them.
        test: The same of the final report's rows.
        standing: The run's name in the rows' account, and what is left of that: id, tests, accepts, run.
    """

    val: list[list[str]]
    test: list[list[str]]
    standing: JSON = field(default_factory=dict)
    default_audience: ClassVar[str] = "gate"
    type: ClassVar[str] = "holdout.fixed"


@dataclass(frozen=True, slots=True)
class NoiseMeasured(Event):
    """The initial candidate was measured against itself, before anything was spent on the search.

    Args:
        pairs: Repeated measurements that were compared.
        sd: Standard deviation of one measurement's noise, in the objective's unit.
        discordance: Share of the pairs whose two halves differ.
        sentence: What it means for this run.
        wrong: The problem is declared deterministic, and is not.
    """

    pairs: int
    sd: float
    discordance: float
    sentence: str
    wrong: bool = False
    type: ClassVar[str] = "noise.measured"


@dataclass(frozen=True, slots=True)
class ExamPlanned(Event):
    """The search has found something to examine; what the exam may err is asked of the rows' account.

    Args:
        id: Number of the exam in this run, from 1.
        champion: The candidate to examine.
        released: What it is compared with.
        pairs: Rows that will be measured with both.
        last: Whether this is the exam at the end of the search.
        plan: `agent.gate.planning.Plan.to_json()`, worked out from search evidence alone.
    """

    id: int
    champion: str
    released: str
    pairs: int
    last: bool
    plan: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "exam.planned"


@dataclass(frozen=True, slots=True)
class ExamStarted(Event):
    """The gate begins an exam of the champion against the released candidate.

    Args:
        account: What the level was worked out from; empty where no rows are used twice.
    """

    id: int
    champion: str
    released: str
    pairs: int
    level: float
    account: JSON = field(default_factory=dict)
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "exam.started"


@dataclass(frozen=True, slots=True)
class ExamDecided(Event):
    """The one bit that leaves the gate while a run is open."""

    id: int
    accepted: bool
    type: ClassVar[str] = "exam.decided"


@dataclass(frozen=True, slots=True)
class VerdictReached(Event):
    """The full verdict of an exam or exact comparison, for the end of the run: `Verdict.to_json()`."""

    verdict: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "verdict.reached"


@dataclass(frozen=True, slots=True)
class ReportPlanned(Event):
    """The search and the gate are done; the test rows are opened for the candidates that matter."""

    candidates: list[str]
    rows: int
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.planned"


@dataclass(frozen=True, slots=True)
class ReportStarted(Event):
    """Which opening of these test rows it is, and the error level that leaves for its intervals."""

    opening: int
    level: float
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.started"


@dataclass(frozen=True, slots=True)
class ReportReached(Event):
    """The final report: each candidate's mean on the test rows and its gain over the initial one, with intervals."""

    report: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.reached"


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

TYPES: dict[str, type[Event]] = {kind.type: kind for kind in (*Event.__subclasses__(), *personal.EVENTS)}


def from_json(kind: str, body: Mapping[str, Any]) -> Event:
    """The event that was stored under a type; fields that a newer version added later take their defaults.

    Raises:
        KeyError: The type is unknown to this version.
    """
    return TYPES[kind](**body)
