"""One evaluation of a run: what is asked of the executor, and what is recorded of it; and the checks before it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent import watching
from agent.evaluation import Failure, Request
from agent.events import EvaluationEnded, EvaluationStarted
from agent.gate.quarantine import CONFIRM, refuse_impossible
from agent.history import AGAIN
from agent.looking import LOOK

if TYPE_CHECKING:
    from agent.gate.checks import Refusal
    from agent.loop import Run
    from agent.space import Candidate


async def evaluate(run: Run, started: EvaluationStarted) -> None:
    """Do what an `evaluation.started` asks for, and record what comes of it."""
    state, problem = run.state, run.problem
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
    )
    watched = watching.watch(state, started)
    output = await (watched.submit(run.executor, request) if watched else run.executor.submit(request))
    output = output if watched else watching.own(output)
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
    return await asyncio.to_thread(checks.refusal, run.checks, candidate, context)
