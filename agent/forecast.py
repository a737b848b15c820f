"""What a budget buys, worked out before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import EvaluatorError
from agent.evaluation import Request
from agent.gate import exam
from agent.proposers.base import load

if TYPE_CHECKING:
    from agent.session import Session

WORTHWHILE = 0.2
"""Share of candidates that look better at first and are measured in pairs; a guess that suits local search."""


@dataclass
class Forecast:
    """What a run will take.

    Args:
        evaluations: By part: initial, search, exam; search is None when only time limits it.
        candidates: Range of new candidates that the search can look at.
        calls: Model calls, at most.
        tokens: Of those calls, at most.
        usd: Of those tokens; None when a price is unknown.
        seconds_each: Seconds of one evaluation, when it was measured.
        seconds: Of the whole run without the model's time, when that can be told.
    """

    evaluations: dict[str, int | None]
    candidates: tuple[int, int] | None
    calls: int | None
    tokens: int | None
    usd: float | None
    model: str
    seconds_each: float | None = None
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "candidates": list(self.candidates) if self.candidates else None,
            "calls_at_most": self.calls,
            "tokens_at_most": self.tokens,
            "usd_at_most": self.usd,
            "usd_known": self.usd is not None,
            "model": self.model,
            "seconds_per_evaluation": self.seconds_each,
            "seconds_of_measuring": self.seconds,
            "notes": self.notes,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Lines of a table: what, amount, note."""
        search = self.evaluations["search"]
        out = [
            ("initial candidate", f"{self.evaluations['initial']} evaluations", "must succeed, or the run stops"),
            ("search", f"{search} evaluations" if search is not None else "until the time is up", ""),
            ("final exam", f"{self.evaluations['exam']} evaluations", "held back from the start"),
        ]
        if self.candidates:
            low, high = self.candidates
            out.append(("new candidates", f"{low} to {high}", "fewer when many have to be measured in pairs"))
        if self.calls is not None:
            price = "price unknown" if self.usd is None else "free" if self.usd == 0 else f"at most ${self.usd:.4f}"
            out.append(
                ("model calls", f"at most {self.calls}", f"{self.model}: at most {self.tokens:,} tokens, {price}")
            )
        if self.seconds_each is not None:
            out.append(("one evaluation", f"{self.seconds_each:.2g} s", "measured just now, once"))
        if self.seconds is not None:
            out.append(("measuring", f"{self.seconds:.0f} s", "without the time the model takes"))
        return out


async def forecast(session: Session, measure: bool, progress: Callable[[str], None] = lambda _: None) -> Forecast:
    """Work it out; with `measure`, measure the initial candidate once.

    Raises:
        EvaluatorError: The initial candidate cannot be scored.
    """
    problem, settings, budget = session.problem, session.settings, session.budget
    rows = max(1, len(problem.data))
    initial = rows * (1 if problem.deterministic else settings.baseline)
    held = exam.reserve(problem, settings.exam_pairs)
    each = await measured(session) if measure else None
    workers = 1 if problem.evaluator.exclusive else settings.workers
    total: float | None = budget.evaluations
    if each and budget.seconds is not None:
        total = min(total or math.inf, budget.seconds / each * workers)
    search = max(0, int(total) - initial - held) if total is not None else None
    candidates = None
    if search is not None:
        high = search // rows
        per_race = 0 if problem.deterministic else 2 * settings.race_shortest * WORTHWHILE
        candidates = (int(high / (1 + per_race)), high)
    proposer = load(settings.proposer)
    calls = tokens = None
    usd: float | None = 0.0
    model = settings.models.get("propose", "")
    if proposer.needs_model and candidates is not None:
        from agent.llm.prices import Prices

        calls, heard, said = proposer.forecast(problem, candidates[1], settings.options)
        tokens = heard + said
        usd = Prices(problem.prices).worst(model, heard, said, base_url=settings.base_url)
    out = Forecast({"initial": initial, "search": search, "exam": held}, candidates, calls, tokens, usd, model, each)
    if each is not None and total is not None and math.isfinite(total):
        out.seconds = total * each / workers
    if search is None:
        out.notes.append("only a limit on time is set; --measure tells how many evaluations fit into it")
    if candidates is not None and candidates[0] < 2 * len(problem.space):
        out.notes.append(
            f"{candidates[0]} candidates are few for {len(problem.space)} parameters; one look at each takes more"
        )
    if not problem.deterministic and problem.data:
        out.notes.append("each measurement covers all rows of the data")
    return out


async def measured(session: Session) -> float:
    """Seconds of measuring the initial candidate, in a worker that has been started.

    Raises:
        EvaluatorError: It cannot be scored.
    """
    problem = session.problem
    executor = session.make_executor(session.settings)
    try:
        example = problem.data[0] if problem.data else None
        request = Request(
            problem.initial(),
            example=example.id if example else None,
            row=example.row if example else None,
            limits=problem.limits,
        )
        await executor.submit(request)  # the first one starts the worker
        output = await executor.submit(request)
    finally:
        await executor.close()
    if output.failure is not None:
        raise EvaluatorError(
            f"the initial candidate cannot be scored: {output.failure.kind}: {output.failure.message}",
            hint="mend the evaluator: it must score the defaults of the space",
        )
    return max(output.seconds, 1e-6)
