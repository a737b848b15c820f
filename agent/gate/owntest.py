"""Does the gate keep its word on a user's own evaluator? Four questions for a few evaluations of one candidate.

The initial candidate is measured twice on each of a few training rows, as in a run. Its own noise is in
the two series; a gain and a loss are planted by shifting one of them by a constant, and the directions
are turned round. All answers come from the judge that a run of this problem would use.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.blame import mending
from agent.errors import ConfigError, EvaluatorError
from agent.gate import exam
from agent.gate.gate import Gate
from agent.gate.levels import weight
from agent.gate.pairs import Pairs
from agent.gate.selftest import Check, Say
from agent.goals import Objective
from agent.problem import Example, Problem

if TYPE_CHECKING:
    from agent.paying import Measuring
    from agent.session import Session

ROWS, FEWEST = 20, 10
"""Pairs on rows by default, and the fewest that can show a planted gain."""
SUITE = 5
"""Rows of a suite that are measured; the questions do not need all of them."""
SHIFT = 3.0
"""A planted gain in ranges of a score."""

Values = Sequence[float]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge made of two series: the bit, the effect, and the p-value where there is one."""

    accepted: bool
    effect: float | None
    p: float | None


Judge = Callable[[Objective, Values, Values], Awaitable[Judged]]
"""Of an objective, the champion's values and the released candidate's."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured: pairs of units, each the mean over some rows (or one measurement without rows)."""

    units: list[list[Example | None]]

    @property
    def evaluations(self) -> int:
        return 2 * sum(map(len, self.units))


async def own(session: Session, evaluations: int | None, say: Say, *, gate: type[Gate] = Gate) -> list[Check]:
    """The four questions on a problem's own evaluator.

    Args:
        session: With the problem; its rows need not be divided yet. Only training rows are measured.
        evaluations: At most so many; None takes 40 on rows, and what one exam takes otherwise.
        say: Is told what it will take before anything is measured, and how far it is.
        gate: The gate to test, where the problem is judged by rows.

    Raises:
        ConfigError: Too few evaluations are allowed, or too few rows are there.
        EvaluatorError: The initial candidate cannot be scored.
    """
    session.divide()
    problem = session.problem
    plan = _plan(session, evaluations)
    say(f"{plan.evaluations} evaluations of the initial candidate will be made")
    async with session.measuring() as executor:
        old, new = await _measured(problem, plan, executor, say)
        if executor.till.words:
            say(f"paid: {executor.till.words}")
    goal = replace(problem.objective, min_effect_relative=0.0)
    return await _checks(problem, goal, _judge(session, gate), *_complete(problem, new, old))


def _plan(session: Session, evaluations: int | None) -> _Plan:
    problem = session.problem
    train = list(problem.split("train"))
    if problem.by_rows:
        allowed = ROWS if evaluations is None else evaluations // 2
        if min(allowed, len(train)) < FEWEST:
            raise ConfigError(
                f"{min(allowed, len(train))} rows cannot show even a planted gain",
                hint=f"allow --evaluations {2 * FEWEST} or more, and have {FEWEST} training rows at least",
            )
        return _Plan([[row] for row in train[:allowed]])
    rows: list[Example | None] = [*train[:SUITE]] or [None]
    fewest = 1 if problem.exact else session.settings.exam_pairs
    pairs = fewest if evaluations is None else evaluations // (2 * len(rows))
    if pairs < fewest:
        raise ConfigError(
            f"{evaluations} evaluations are too few for the self-test of this problem",
            hint=f"allow --evaluations {2 * fewest * len(rows)} or more",
        )
    return _Plan([rows] * (1 if problem.exact else pairs))


async def _measured(
    problem: Problem, plan: _Plan, executor: Measuring, say: Say
) -> tuple[list[float | None], list[float | None]]:
    """Two series of the initial candidate on new replicates; halves take turns in going first, as in an exam."""
    sides: tuple[list[float | None], list[float | None]] = [], []
    failure, detail, done, begun = "", "", 0, time.monotonic()
    for number, unit in enumerate(plan.units):
        halves: dict[int, list[float]] = {0: [], 1: []}
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            replicate = side if problem.by_rows else 2 * number + side
            for row in unit:
                output = await executor.initial(row, replicate, "selftest")
                done += 1
                try:
                    detail = ""
                    if output.failure is not None:
                        detail = output.failure.detail
                        raise ValueError(f"{output.failure.kind}: {output.failure.message}")
                    value = problem.evaluator.score(output).values[problem.objective.name]
                except (ValueError, TypeError, KeyError) as error:
                    failure = str(error)
                    continue
                halves[side].append(value)
        for side, values in halves.items():
            sides[side].append(math.fsum(values) / len(values) if len(values) == len(unit) else None)
        if number == 0 or (number + 1) % 10 == 0:
            each = (time.monotonic() - begun) / done
            say(f"{done} of {plan.evaluations} evaluations, about {each * (plan.evaluations - done):.0f} s left")
    if all(value is None for values in sides for value in values):
        raise EvaluatorError(
            f"the initial candidate cannot be scored: {failure}",
            hint=mending(problem, failure, detail),
        )
    return sides


def _complete(
    problem: Problem, new: Sequence[float | None], old: Sequence[float | None]
) -> tuple[list[float], list[float]]:
    """Pairs without holes: a failure counts what the problem says, and takes its pair out where that is nothing."""
    filled = [[problem.failure if value is None else value for value in values] for values in (new, old)]
    pairs = [(a, b) for a, b in zip(*filled, strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


# The judge that a run of the problem would use.


def _judge(session: Session, gate: type[Gate]) -> Judge:
    problem, settings = session.problem, session.settings

    async def by_rows(goal: Objective, new: Values, old: Values) -> Judged:
        names = [f"row {number}" for number in range(len(new))]
        series = {"champion": dict(zip(names, new, strict=True)), "released": dict(zip(names, old, strict=True))}
        there = [*new, *old]
        spread = (max(there) - min(there)) or 1.0
        made = gate(
            names,
            goal,
            total=100 * len(names),
            alpha=settings.level,
            null=settings.null,
            noise=settings.noise,
            scale=None if goal.low is not None else spread,
        )
        # The evidence of a search that was fooled, so that there is an exam whatever the truth is.
        ends = goal.low is not None and all(value in (goal.low, goal.high) for value in there)
        plan = made.plan([1.0 if ends else 0.5] * len(names), left=2 * len(names), last=True)
        if plan is None:
            return Judged(False, None, None)
        bit = await made.examine(plan, "champion", "released", lambda candidate, row: series[candidate][row])
        found = made.verdicts()[-1]
        return Judged(bit, found.effect, found.p)

    async def paired(goal: Objective, new: Values, old: Values) -> Judged:
        judged = replace(problem, objectives=(goal,), constraints=(), claim="primary")
        pairs = Pairs("champion", "released")
        for number, values in enumerate(zip(new, old, strict=True)):
            for name, value in zip(("champion", "released"), values, strict=True):
                pairs.add(number, name, {goal.name: value})
        means = [_mean(goal, values) for values in (new, old)]
        found = exam.examine(judged, pairs, exam.Plan(len(new), settings.level * weight(1)), *means)
        return Judged(found.accepted, found.effect, found.p)

    async def exact(goal: Objective, new: Values, old: Values) -> Judged:
        judged = replace(problem, objectives=(goal,), constraints=(), claim="primary")
        after, before = _mean(goal, new), _mean(goal, old)
        if after is None or before is None:
            return Judged(False, None, None)
        found = exam.compare(judged, "champion", after, "released", before)
        return Judged(found.accepted, found.effect, None)

    return by_rows if problem.by_rows else exact if problem.exact else paired


def _mean(goal: Objective, values: Values) -> dict[str, float] | None:
    return {goal.name: math.fsum(values) / len(values)} if values else None


# The questions.


async def _checks(problem: Problem, goal: Objective, judge: Judge, new: Values, old: Values) -> list[Check]:
    there = [*new, *old]
    known = goal.high - goal.low if goal.high is not None and goal.low is not None else 0.0
    spread = known or max(max(there) - min(there), 0.1 * max(map(abs, there)), 1e-9)
    shift = goal.sign * (SHIFT * spread + 2 * goal.min_effect)
    same = await judge(goal, new, old)
    gain = await _shifted(judge, goal, new, old, shift)
    loss = await _shifted(judge, goal, new, old, -shift)
    turned = await _shifted(judge, _turned(goal), new, old, shift)
    mirror = await _shifted(judge, _mirrored(goal), _negative(new), _negative(old), -shift)
    by = f"{abs(shift):.4g}{' ' + goal.unit if goal.unit else ''}"
    return [
        _same(problem, same, new, old),
        Check(
            "planted gain",
            gain.accepted and (gain.effect or 0.0) > 0,
            f"{goal.name} made {by} better: {_words(gain)} (accepted, better)",
            "even a large gain cannot be shown with this evaluator's noise and failures, or better is taken for worse",
            "allow more --evaluations; look at how often the initial candidate fails and how much its score varies",
        ),
        Check(
            "planted loss",
            not loss.accepted and (loss.effect is None or loss.effect < 0),
            f"{goal.name} made {by} worse: {_words(loss)} (not accepted, worse)",
            "a worse candidate passes as a proven gain",
            "check the objective's direction, low and high; if they are right, report it with this output",
        ),
        Check(
            "polarity",
            not turned.accepted
            and mirror.accepted == gain.accepted
            and _equal(mirror.effect, gain.effect)
            and turned.effect is not None
            and turned.effect < 0,
            f"direction turned round: {_words(turned)} (not accepted, worse); values and direction: {_words(mirror)}"
            " (as the planted gain)",
            "the answer does not follow the objective's direction",
            "report it with this output; no claim on this problem can be trusted meanwhile",
        ),
    ]


def _same(problem: Problem, found: Judged, new: Values, old: Values) -> Check:
    pairs = list(zip(old, new, strict=True))
    differ = [(a, b) for a, b in pairs if not math.isclose(a, b, rel_tol=1e-9)]
    told = f"the initial candidate against itself: {_words(found)}; {len(differ)} of {len(pairs)} pairs differ"
    if problem.deterministic and differ:
        one, two = differ[0]
        return Check(
            "A/A",
            False,
            f"{told} (none may)",
            f"the evaluator is declared deterministic, but measured {one} and then {two}",
            "remove deterministic = true, or make the evaluator use the seed it is given",
        )
    return Check(
        "A/A",
        not found.accepted,
        f"{told} (not accepted)",
        "measuring the same candidate again looks like a gain; by chance that happens in 5 % of self-tests at most",
        "run the self-test again; if it fails again, the evaluator depends on the order or the number of its calls"
        " (a cache, a warm-up, a counter): make it use the seed alone",
    )


async def _shifted(judge: Judge, goal: Objective, new: Values, old: Values, shift: float) -> Judged:
    """The judge's word when the champion's values are shifted, with the range widened so that none is cut."""
    if goal.low is not None and goal.high is not None:
        goal = replace(goal, low=goal.low + min(0.0, shift), high=goal.high + max(0.0, shift))
    return await judge(goal, [value + shift for value in new], old)


def _turned(goal: Objective) -> Objective:
    return replace(goal, direction="minimize" if goal.sign > 0 else "maximize", floor=None)


def _mirrored(goal: Objective) -> Objective:
    low = -goal.high if goal.high is not None else None
    high = -goal.low if goal.low is not None else None
    floor = -goal.floor if goal.floor is not None else None
    return replace(_turned(goal), low=low, high=high, floor=floor)


def _negative(values: Values) -> list[float]:
    return [-value for value in values]


def _equal(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _words(found: Judged) -> str:
    text = "accepted" if found.accepted else "not accepted"
    if found.effect is None:
        return text
    word = "better" if found.effect > 0 else "worse" if found.effect < 0 else "the same"
    return f"{text}, {word}" + (f", p = {found.p:.2g}" if found.p is not None else "")
