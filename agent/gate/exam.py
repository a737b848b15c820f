"""The exam: the strict comparison that decides what may be claimed.

Seam for the full gate: the loop asks `plan` whether there is something to examine, measures the
pairs that the plan names, and hands them to `examine`. An exact problem needs no pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.gate.evidence import median, median_interval, pairs_needed, sign_test
from agent.gate.race import Race
from agent.problem import Problem

Status = Literal["proven", "exact", "unproven", "initial"]

LEVEL = 0.05
EXACT = "exactly, since measuring is deterministic"
PAIRS = 12
"""Pairs of one exam: 10 wins of 12 pass at 0.05, and a challenger that wins 9 of 10 passes 9 times in 10."""


GAIN = 0.75
"""The gain's share of an exam's level where there are constraints, which the champion could mend instead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exam found.

    Args:
        champion: The candidate that was examined.
        released: What it was compared with.
        kind: "exact" for a deterministic comparison, "paired" for an exam on repeated measurements.
        accepted: Whether the gain may be claimed.
        before: The objective of `released`: median over the exam, or the exact value.
        after: The objective of `champion`.
        effect: Median paired gain in the objective's unit, positive when the champion is better.
        interval: Confidence interval of the effect, or None when there are too few pairs for one.
        ratio: Median of before / after (minimize) or after / before (maximize); None unless all are positive.
        ratio_interval: Confidence interval of the ratio, or None.
        confidence: Of both intervals.
        level: Error level of the test.
        p: The test's p-value; None for an exact comparison.
        pairs: Complete pairs.
        wins: Pairs that gained more than the minimum effect.
        sentence: All of this for people.
    """

    champion: str
    released: str
    kind: Literal["exact", "paired"]
    accepted: bool
    before: float | None
    after: float | None
    effect: float | None
    interval: tuple[float, float] | None
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    confidence: float
    level: float
    p: float | None
    pairs: int
    wins: int
    sentence: str

    def to_json(self) -> dict[str, Any]:
        out = asdict(self)
        for name in ("interval", "ratio_interval"):
            out[name] = list(out[name]) if out[name] is not None else None
        return out


@dataclass(frozen=True, slots=True)
class Plan:
    """An exam that is to be held: how many pairs, at which error level."""

    pairs: int
    level: float


def reserve(problem: Problem, pairs: int) -> int:
    """Evaluations that are held back for the final exam before the search begins."""
    return 0 if problem.deterministic else 2 * pairs * max(1, len(problem.data))


def plan(problem: Problem, pairs: int, level: float = LEVEL) -> Plan | None:
    """The exam of a champion that is not the released candidate; None when the comparison is exact."""
    if problem.deterministic:
        return None
    return Plan(max(pairs, pairs_needed(GAIN * level)), level)


def share(number: int) -> float:
    """The share of the run's error level that its exam number `number` (from 1) may use.

    Shares sum to 1, so a run that goes on after its exam, with more budget, still errs at most at its level.
    """
    return 0.75 if number == 1 else 0.25 * 6 / (math.pi * (number - 1)) ** 2


def compare(
    problem: Problem,
    champion: str,
    after: Mapping[str, float],
    released: str,
    before: Mapping[str, float] | None,
) -> Verdict:
    """The exact comparison of a deterministic problem; it costs nothing and has no error."""
    goal = problem.objective
    new = after[goal.name]
    old = before[goal.name] if before is not None else None
    effect = goal.gain(new, old) if old is not None else None
    repaired = before is None or bool(problem.violated(before))
    accepted = not problem.violated(after) and (repaired or (effect or 0.0) > goal.margin(old or 0.0))
    ratio = _ratio(goal.sign, old, new) if old is not None else None
    return Verdict(
        champion=champion,
        released=released,
        kind="exact",
        accepted=accepted,
        before=old,
        after=new,
        effect=effect,
        interval=(effect, effect) if effect is not None else None,
        ratio=ratio,
        ratio_interval=(ratio, ratio) if ratio is not None else None,
        confidence=1.0,
        level=0.0,
        p=None,
        pairs=0,
        wins=0,
        sentence=_sentence(problem, accepted, old, new, effect, None, ratio, None, EXACT, repaired),
    )


def examine(
    problem: Problem,
    race: Race,
    plan: Plan,
    champion: Mapping[str, float] | None,
    released: Mapping[str, float] | None,
    mended: tuple[int, int] = (0, 0),
) -> Verdict:
    """The paired exam: an exact one-sided sign test on the pairs, and intervals from order statistics.

    Args:
        problem: Objectives and constraints.
        race: The pairs, measured for this exam alone.
        plan: How many pairs, at which level.
        champion: Its mean values over the exam, for the constraints; None when it never had any.
        released: The same for the released candidate.
        mended: Pairs in which only the champion kept every constraint, and in which only the other one did.
            Enough of the former, by the same test, accept a champion that gains nothing else.
    """
    goal = problem.objective
    evidence = race.evidence(problem)
    halves = [h for _, h in sorted(race.pairs.items()) if len(h) == 2 and None not in h.values()]
    new = [float(h[race.challenger] or 0.0) for h in halves]
    old = [float(h[race.champion] or 0.0) for h in halves]
    failed = champion is None or any(h.get(race.challenger, 0.0) is None for h in race.pairs.values())
    repaired = released is None or bool(problem.violated(released))
    p = sign_test(evidence.wins, evidence.losses)
    sound = not failed and champion is not None and not problem.violated(champion)
    # Two ways to be accepted share one level, so that together they err no more often than it says.
    gain_level = plan.level * (GAIN if problem.constraints else 1.0)
    repaired = repaired and sign_test(*mended) <= plan.level - gain_level
    accepted = sound and (p <= gain_level or repaired)
    effect = median(evidence.gains) if halves else None
    interval = _finite(median_interval(evidence.gains)) if halves else None
    ratios = [_ratio(goal.sign, o, n) for o, n in zip(old, new, strict=True)]
    known = [r for r in ratios if r is not None]
    ratio = median(known) if known and len(known) == len(ratios) else None
    ratio_interval = _finite(median_interval(known)) if ratio is not None else None
    basis = f"better in {evidence.wins} of {len(evidence)} pairs, p = {p:.2g}"
    if repaired and p > gain_level:
        basis = f"it alone did so in {mended[0]} of {race.complete} pairs, p = {sign_test(*mended):.2g}"
    if failed:
        basis += "; it failed during the exam"
    elif not sound:
        basis += "; it broke a constraint during the exam"
    before = median(old) if old else None
    after = median(new) if new else None
    return Verdict(
        champion=race.challenger,
        released=race.champion,
        kind="paired",
        accepted=accepted,
        before=before,
        after=after,
        effect=effect,
        interval=interval,
        ratio=ratio,
        ratio_interval=ratio_interval,
        confidence=0.95,
        level=plan.level,
        p=p,
        pairs=len(evidence),
        wins=evidence.wins,
        sentence=_sentence(problem, accepted, before, after, effect, interval, ratio, ratio_interval, basis, repaired),
    )


def _finite(interval: tuple[float, float]) -> tuple[float, float] | None:
    return interval if math.isfinite(interval[0]) and math.isfinite(interval[1]) else None


def _ratio(sign: int, before: float, after: float) -> float | None:
    if before <= 0 or after <= 0:
        return None
    ratio = after / before if sign > 0 else before / after
    return ratio if math.isfinite(ratio) else None


def _sentence(
    problem: Problem,
    accepted: bool,
    before: float | None,
    after: float | None,
    effect: float | None,
    interval: tuple[float, float] | None,
    ratio: float | None,
    ratio_interval: tuple[float, float] | None,
    basis: str,
    repaired: bool,
) -> str:
    goal = problem.objective
    unit = f" {goal.unit}" if goal.unit else ""
    if after is None:
        return f"{goal.name}: not shown; nothing could be measured ({basis})."
    if before is None:
        return f"{goal.name}: {after:.4g}{unit}, where the initial candidate had no value ({basis})."
    better = "lower" if goal.sign < 0 else "higher"
    text = f"{goal.name} went from {before:.4g} to {after:.4g}{unit}"
    details = []
    if ratio is not None and ratio >= 2:
        details.append(f"{ratio:.3g} times {better}" + _between(ratio_interval, ""))
    elif effect is not None and effect < 0:
        flipped = (-interval[1], -interval[0]) if interval is not None else None
        details.append(f"{-effect:.3g}{unit} worse" + _between(flipped, unit))
    elif effect is not None:
        details.append(f"{effect:.3g}{unit} better" + _between(interval, unit))
    text += f" ({'; '.join(details)})" if details else ""
    if accepted:
        why = "Shown" if not repaired else "Accepted, since only the new candidate keeps every constraint"
        return f"{text}. {why}: {basis}."
    return f"{text}. Not shown: {basis}."


def _between(interval: tuple[float, float] | None, unit: str) -> str:
    if interval is None:
        return ""
    return f", 95 % interval {interval[0]:.3g} to {interval[1]:.3g}{unit}"
