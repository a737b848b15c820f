"""What cannot work is refused before anything is spent: a budget that is too small, a proposer that does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, RunChanged
from agent.evaluating import uses
from agent.folds.asks import COMPARED, REPEATED
from agent.gate import exam, planning
from agent.gate.arena import FEWEST
from agent.ledger import Budget
from agent.problem import Problem
from agent.proposers.base import Proposer
from agent.proposers.table import TABLE, load
from agent.redact import redact
from agent.settings import DEFAULT_MODEL, Settings
from agent.texts import Code

if TYPE_CHECKING:
    from agent.state import State


def floor(problem: Problem, settings: Settings, total: float) -> tuple[int, int, int]:
    """Evaluations that the last exam and the report hold back, that come first, and that one candidate takes.

    Args:
        problem: With its rows divided.
        settings: Of the run.
        total: Evaluations of the run in all; infinity without a limit.
    """
    if problem.by_rows:
        held = 0
        for name in ("val", "test") if settings.report else ("val",):
            held += planning.reserve(None, rows=len(problem.split(name)), total=total, level=settings.level)
        train = len(problem.split("train"))
        return held, 2 * min(train, REPEATED if problem.deterministic else COMPARED), min(train, FEWEST)
    rows = max(1, len(problem.data))
    baseline = rows + min(rows, REPEATED) if problem.deterministic else rows * settings.baseline
    return exam.reserve(problem, settings.exam_pairs), baseline, rows


def check_budget(problem: Problem, settings: Settings, budget: Budget, begins: int) -> None:
    """Refuse a budget without an end, and one that cannot pay for the baseline, the exam and a candidate.

    Args:
        problem: With its rows divided.
        settings: Of the run.
        budget: Limits.
        begins: How many points are measured before the first proposal.

    Raises:
        ConfigError: Says what would do.
    """
    if budget.evaluations is None and budget.seconds is None:
        # Limits on the model alone do not end a search: the classical proposers go on without it.
        raise ConfigError(
            "neither evaluations nor seconds are limited, so the search would never end",
            hint="set budget.evaluations or budget.seconds (on the command line: --evaluations 100)",
        )
    if budget.evaluations is None:
        return
    held, baseline, more = floor(problem, settings, budget.evaluations)
    each = more
    if problem.fidelity is not None:  # until one of several is measured in full
        more *= math.ceil(problem.fidelity.bracket)
    need = held + baseline + begins * each + more
    if budget.evaluations < need:
        raise ConfigError(
            f"{budget.evaluations} evaluations cannot pay for a run: the initial candidate takes {baseline}"
            + (f", {begins} starting points {begins * each}" if begins else "")
            + (f", the final exam {held}" if held else "")
            + f", and one new candidate {more}",
            hint=f"allow at least {need} evaluations" + (", or lower gate.exam_pairs" if held else ""),
        )


def check_secrets(problem: Problem, starts: Iterable[Mapping[str, Any]]) -> None:
    """Refuse points that the journal would mask.

    Raises:
        ConfigError: Names the point.
    """
    for number, values in enumerate([problem.initial().values_json, *map(dict, starts)]):
        if redact(values) != values:
            raise ConfigError(
                f"{f'starts.{number - 1}' if number else 'the initial candidate'} holds what looks like a key or a"
                " credential, and the journal would mask it",
                hint="take it out of the space: the evaluator can read it from its environment",
            )


def check_proposer(problem: Problem, settings: Settings) -> Proposer:
    """The proposer, which fits the problem and has the model that it needs.

    Raises:
        ConfigError: It does not, or there is none of that name.
    """
    proposer = load(settings.proposer, problem.folder)
    if proposer.needs_model and "propose" not in settings.models:
        others = ", or use the default proposer" if problem.space.numeric else ""
        if any(isinstance(item, Code) for item in problem.space.values()):
            others = (
                "; or take --proposer random_edits, which edits by chance, or tune, for numbers that stand in the"
                " program as tune(value, low, high): they ask none"
            )
        raise ConfigError(
            f"the proposer {settings.proposer!r} asks a model, and there is none",
            hint=f"name one as provider:model, such as {DEFAULT_MODEL}{others}",
        )
    able = getattr(proposer, "check", None)
    if able is not None:
        able(problem, settings.options, "propose" in settings.models)
    texts = getattr(proposer, "texts", False)
    if settings.proposer in TABLE and not problem.space.numeric and not texts:
        raise ConfigError(
            f"the proposer {settings.proposer!r} changes numbers and choices, and the space has none",
            hint="--proposer opro --model provider:model lets a model change texts and programs, evolve programs;"
            " or name a proposer of your own as module:attr, or add a float, int or categorical parameter",
        )
    return proposer


def check_evaluator(problem: Problem, settings: Settings) -> None:
    """Refuse an evaluator that asks a model which nobody named, or that is not ready.

    Raises:
        ConfigError, PrerequisiteError: As the evaluator's `ready`.
    """
    for role in uses(problem.evaluator):
        if role not in settings.models:
            raise ConfigError(
                f"the evaluator asks a model in the role {role}, and there is none",
                hint=f'set models.{role} = "provider:model", such as "{DEFAULT_MODEL}"',
            )
    ready = getattr(problem.evaluator, "ready", None)
    if ready is not None:
        ready(problem)


def check_changes(before: State, problem: Problem, accepted: bool) -> list[str]:
    """What is other than when a run began: evaluator, data or problem.

    Args:
        before: The run as it is.
        problem: As it would go on.
        accepted: Whether a change is what the user wants.

    Raises:
        RunChanged: Something changed, and it is not accepted.
    """
    changed = [name for name, found in problem.fingerprints.items() if before.fingerprints.get(name) != found]
    if changed and not accepted:
        raise RunChanged(
            f"the {' and the '.join(changed)} changed since the run began, so its measurements no longer apply",
            hint="undo the change (repeat each --set of the run), start a new run, "
            "or resume with --accept-change to go on from the champion",
        )
    return changed
