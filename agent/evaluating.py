"""One evaluation of a run: what is asked of the executor and of models, and what is recorded; and the checks before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent import watching
from agent.decide_gate import reserve
from agent.errors import BudgetExceeded
from agent.evaluation import Failure, Output, Request, Rival
from agent.events import (
    CallEnded,
    CallRefused,
    CallRetried,
    CallStarted,
    CheckStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamPlanned,
    ReportPlanned,
    StopRequested,
    VerdictReached,
)
from agent.folds.costs import SCOPE, measurement
from agent.gate.quarantine import CONFIRM, refuse_impossible, runs
from agent.history import AGAIN
from agent.looking import LOOK
from agent.paying import Asker

if TYPE_CHECKING:
    from agent.gate.checks import Refusal
    from agent.loop import Run
    from agent.space import Candidate
    from agent.state import State


async def evaluate(run: Run, started: EvaluationStarted) -> None:
    """Do what an `evaluation.started` asks for, and record what comes of it.

    An evaluation whose model cannot be had now (a key, a spend limit, an exam that the budget cannot pay for) stays
    open: a resume begins it again, and takes the replies that it already got.
    """
    state, problem = run.state, run.problem
    repeats = getattr(problem.evaluator, "repeat", False)
    request = Request(
        candidate=(
            state.looks.candidate(started.id) if started.stage == LOOK else state.history[started.candidate].candidate
        ),
        example=started.example,
        row=run.rows.get(started.example) if started.example is not None else None,
        seed=started.seed,
        replicate=started.replicate,
        fidelity=started.fidelity,
        stage=_stage(run, started),
        purpose=started.purpose,  # type: ignore[arg-type]
        limits=problem.limits,
        rival=rival(state, started) if repeats else None,
        claimed=runs(state.suspects.fallen) if repeats and started.stage == AGAIN else 0,
    )
    asking = Asking(run, started) if uses(problem.evaluator) else None
    more: dict[str, Any] = {} if asking is None else {"ask": asking}
    watched = watching.watch(state, started)
    output = await (watched.submit(run.executor, request, **more) if watched else run.executor.submit(request, **more))
    output = output if watched else watching.own(output)
    if asking is not None and asking.over is not None:
        if await asking.rests():
            return
        output = Output.failed("unpaid", str(asking.over), seconds=output.seconds)
    watching.told(state, started, output)
    score = None
    if output.failure is None:
        try:
            score = problem.evaluator.score(output).to_json()
            if state.suspects.watched:
                refuse_impossible(problem, score["values"])
        except (ValueError, TypeError, KeyError) as error:
            failure = Failure("invalid", str(error), sign=getattr(error, "sign", ""))
            score, output = None, replace(output, value=None, failure=failure)
    await run.turn("evaluation.ended", started.id)
    run.record(EvaluationEnded(started.id, started.purpose, output.to_json(), score))


def rival(state: State, started: EvaluationStarted) -> Rival | None:
    """The champion, where a program that does not beat it need not be run a second time; None where it must be.

    An evaluator of programs runs a program twice, since dice and clocks must not win an exact claim. What is claimed is
    the champion, and champions only get better: who does not beat the one of now will not beat a later one either. So
    the second run changes nothing that may be claimed, unless the score beats this one; then it is made. The one way
    down is the check at the end, which convicts a champion and puts the next best one in its place. That one may have
    been run once where a champion was run twice. Nothing is claimed of it before the same check, which makes up for
    that and runs it more often than the one that fell (`Request.claimed`, `agent.gate.quarantine.runs`).

    Only for the plain case: one objective, one measurement in full, outside of races, quarantine, looks and exams. On
    rows, with several objectives or with shares of the effort, every program runs twice.
    """
    problem, history = state.problem, state.history
    plain = problem.exact and len(problem.objectives) == 1 and len(state.rows) == 1 and problem.fidelity is None
    search = started.purpose == "search" and started.stage == "full" and started.pair < 0
    champion = history[history.champion]
    if not (plain and search and state.suspects.confirms) or champion.values is None or not champion.feasible:
        return None
    return Rival(problem.objective.name, problem.objective.sign, problem.compared(champion.values))


def starts_work(event: Event) -> bool:
    """Whether an event asks for work beside a proposal: a measurement, a check, or a word of the rows' account."""
    if isinstance(event, VerdictReached):
        return bool(event.verdict["kind"] == "rows")
    return isinstance(event, (EvaluationStarted, ExamPlanned, ReportPlanned, CheckStarted))


def uses(evaluator: Any) -> tuple[str, ...]:
    """Roles of the models that an evaluator asks."""
    return tuple(getattr(evaluator, "uses", ()))


class Asking(Asker):
    """The models of one evaluation: its calls are recorded under its number, and paid by the run.

    Args:
        run: That pays.
        started: The evaluation.
    """

    def __init__(self, run: Run, started: EvaluationStarted) -> None:
        super().__init__(run.llm, f"{SCOPE}{started.id}")
        self._run, self._started = run, started

    async def rests(self) -> bool:
        """Stop the search, or the run, for what is over; whether this evaluation waits for a resume."""
        run, error = self._run, self.over
        if isinstance(error, BudgetExceeded) and self._started.purpose == "search":
            if run.state.stop is None and run.state.ended is None:
                run.record(StopRequested(error.limit_kind, f"the search's share of the {error.limit_kind} is spent"))
            return False
        if run.state.halt is None:
            words = f"{error.message}\n{error.hint}".strip() if error is not None else ""
            if isinstance(error, BudgetExceeded):
                words = f"the final exam cannot be paid: {words}\nresume with a larger limit on {error.limit_kind}"
            run.record(StopRequested("provider", words))
        return True


def confided(state: State, event: Event) -> Event:
    """A model call's event with the audience of the evaluation that asks."""
    if isinstance(event, (CallStarted, CallRefused)):
        purpose = purpose_of(state, event.scope)
    elif isinstance(event, (CallRetried, CallEnded)):
        started = state.calls.get(event.id) or state.ledger.lost_calls.get(event.id)
        purpose = started.purpose if started is not None else "search"
    else:
        return event
    return event if purpose == event.purpose else replace(event, purpose=purpose)


def purpose_of(state: State, scope: str) -> str:
    """For whom a call is made; all but what the gate and the report measure is the search's."""
    evaluation = measurement(scope)
    found = state.evaluations.get(evaluation) if evaluation is not None else None
    return found.purpose if found is not None else "search"


def withheld(state: State, scope: str) -> dict[str, float]:
    """What a call of the search must leave for the exam and the report, by kind: their evaluations, at the mean price.

    Args:
        state: At the moment of the call.
        scope: Who asks.
    """
    budget = state.ledger.budget
    kinds = [kind for kind in ("calls", "tokens", "usd") if getattr(budget, kind) is not None]
    if not kinds or purpose_of(state, scope) != "search":
        return {}
    return state.costs.ahead(kinds, reserve(state), state.workers)


def _stage(run: Run, started: EvaluationStarted) -> str:
    """An evaluator with stages of its own says which one a purpose gets; it is never told the purpose itself."""
    stage_for = getattr(run.problem.evaluator, "stage_for", None)
    if started.stage == CONFIRM:
        return CONFIRM
    if stage_for is not None:
        return str(stage_for(started.purpose))
    return "full" if started.stage == AGAIN else started.stage


async def refusal(run: Run, candidate: Candidate) -> Refusal | None:
    """Which of the checks that need more than the space refuses a candidate, and why; None when it passes."""
    if not run.checks:
        return None
    from agent.gate import checks

    context = replace(run.check_context or checks.Context(), history=run.state.history)
    found = await asyncio.to_thread(checks.refusal, run.checks, candidate, context)
    if found is not None and found.check == "leak" and run.custody is not None:
        await run.custody.leaked(run.state.leaks)
    return found
