"""Tools that read what was measured: the best, the latest, what failed, the trade-offs, one candidate in full."""

from __future__ import annotations

import json

from agent.pareto import front
from agent.texts import Code
from agent.tools.base import Desk
from agent.tools.shared import find, goal, listed, number, ranked, row, said, short

LONG = 1500
"""Characters of a text or a program that `candidate` shows at most."""


async def top(desk: Desk, n: int = 5) -> str:
    """The best candidates so far, best first, with their results.

    Args:
        n: How many, 1 to 30.
    """
    good, problem = ranked(desk), desk.context.problem
    shown = good[: listed(n)]
    if not shown:
        return "no candidate has a result yet"
    return said(desk, f"{len(shown)} of {len(good)}, by {goal(problem)}:", (row(desk, trial) for trial in shown))


async def recent(desk: Desk, n: int = 5) -> str:
    """The latest candidates, newest first, and what became of them.

    Args:
        n: How many, 1 to 30.
    """
    trials = desk.context.history.trials
    shown = [trials[len(trials) - 1 - i] for i in range(min(listed(n), len(trials)))]
    reasons = [short(desk.context.reason(trial)) for trial in shown]
    lines = [row(desk, trial) + (f"; {why}" if why else "") for trial, why in zip(shown, reasons, strict=True)]
    foreign = None if all(not trial.failure for trial in shown) else True
    return said(desk, f"{len(shown)} of {len(trials)}, newest first:", lines, foreign=foreign)


async def failures(desk: Desk, n: int = 5) -> str:
    """Candidates that failed or break a constraint, and proposals that were refused; newest first.

    Args:
        n: How many of each, 1 to 30.
    """
    most, history = listed(n), desk.context.history
    failed = [t for t in history.trials if (t.values is None and t.failure) or not t.feasible]
    lines = [row(desk, trial) for trial in failed[: -most - 1 : -1]]
    refused = list(history.rejections)[: -most - 1 : -1]
    lines += [f"refused: {short(str(item.get('reason', '')))} ({item.get('source', '')})" for item in refused]
    if not lines:
        return "nothing failed and nothing was refused so far"
    count = sum(history.rejected.values())
    return said(desk, f"{len(failed)} candidates failed, {count} proposals were refused:", lines, foreign=True)


async def pareto(desk: Desk, n: int = 10) -> str:
    """The best trade-offs between the objectives: candidates that no other one beats in all of them.

    Args:
        n: How many, 1 to 30.
    """
    context = desk.context
    found = front(context.problem, context.history.trials)
    shown = found.trials[: listed(n)]
    if not shown:
        return "no candidate has a result yet"
    goals = ", ".join(f"{goal.name} ({goal.direction})" for goal in context.problem.objectives)
    return said(desk, f"{len(shown)} of {len(found.trials)} on the front of {goals}:", (row(desk, t) for t in shown))


async def candidate(desk: Desk, candidate: str = "champion") -> str:
    """One candidate in full: its values, results, where it comes from, and what the evaluator said of it as a whole.

    Args:
        candidate: champion, initial, best, # and a number, or an id.
    """
    trial, context = find(desk, candidate), desk.context
    space = context.problem.space
    lines = [row(desk, trial)]
    origin = [f"made from {', '.join(name[:8] for name in trial.parents)}"] if trial.parents else []
    origin += [f"expected {trial.claim:.6g}"] if trial.claim is not None else []
    origin += [f"measured {trial.count} times", *([why] if (why := context.reason(trial)) else [])]
    lines.append("; ".join(origin))
    for name in space:
        item = trial.candidate[name]
        parameter = space[name]
        texts = parameter.texts(item) if isinstance(parameter, Code) else {"": item}
        for path, text in texts.items():
            place = f"{name}/{path}".rstrip("/")
            if not isinstance(text, str):
                lines.append(f"{place} = {number(text)}")
            elif "\n" in text or len(text) > 60:
                cut = f"\n… of {len(text)} characters" if len(text) > LONG else ""
                lines.append(f"{place}:\n{text[:LONG]}{cut}")
            else:
                lines.append(f"{place} = {json.dumps(text, ensure_ascii=False)}")
    feedback, failure = context.feedback(trial), context.failure(trial)
    for label, words in (("why", trial.rationale), ("evaluator", feedback), ("failure", failure)):
        if words:
            lines.append(f"{label}: {words[:LONG]}")
    foreign = True if trial.rationale or feedback or failure else None
    return said(desk, f"candidate #{trial.number}, {trial.id}:", lines, foreign=foreign)
