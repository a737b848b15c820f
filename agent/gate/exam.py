"""The exam: the strict comparison that decides what may be claimed.

Seam for the full gate: the loop asks `plan` whether there is something to examine, measures the
pairs that the plan names, and hands them to `examine`. An exact problem needs no pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.gate.evidence import median, median_interval, pairs_needed, sign_test
from agent.gate.guarding import findings
from agent.gate.pairs import Pairs
from agent.gate.verdict import Verdict, finite, ratio_of, sentence
from agent.problem import Problem

LEVEL = 0.05
EXACT = "exactly, since measuring is deterministic"
PAIRS = 12
"""Pairs of one exam: 10 wins of 12 pass at 0.05, and a challenger that wins 9 of 10 passes 9 times in 10."""


GAIN = 0.75
"""The gain's share of an exam's level where there are constraints, which the champion could mend instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An exam that is to be held: how many pairs, at which error level."""

    pairs: int
    level: float


def reserve(problem: Problem, pairs: int) -> int:
    """Evaluations that are held back for the final exam before the search begins."""
    return 0 if problem.exact else 2 * pairs * max(1, len(problem.data))


def plan(problem: Problem, pairs: int, level: float = LEVEL) -> Plan | None:
    """The exam of a champion that is not the released candidate; None when the comparison is exact."""
    if problem.exact:
        return None
    return Plan(max(pairs, pairs_needed(GAIN * level)), level)


def compare(
    problem: Problem,
    champion: str,
    after: Mapping[str, float],
    released: str,
    before: Mapping[str, float] | None,
) -> Verdict:
    """The exact comparison of a deterministic problem; it costs nothing and has no error."""
    goal = problem.objective
    new = problem.compared(after)
    old = problem.compared(before) if before is not None else None
    effect = goal.gain(new, old) if old is not None else None
    repaired = before is None or bool(problem.violated(before))
    accepted = not problem.violated(after) and (repaired or (effect or 0.0) > goal.margin(old or 0.0))
    ratio = ratio_of(goal.sign, old, new) if old is not None else None
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
        sentence=sentence(problem.spoken, accepted, old, new, effect, None, ratio, None, EXACT, repaired),
    )


def examine(
    problem: Problem,
    race: Pairs,
    plan: Plan,
    champion: Mapping[str, float] | None,
    released: Mapping[str, float] | None,
) -> Verdict:
    """The paired exam: an exact one-sided sign test on the pairs, and intervals from order statistics.

    A champion that gains nothing is accepted too when the same test shows that it keeps the constraints where
    the released candidate does not.

    Args:
        problem: Objectives and constraints.
        race: The pairs, measured for this exam alone.
        plan: How many pairs, at which level.
        champion: Its mean values over the exam, for the constraints; None when it never had any.
        released: The same for the released candidate.
    """
    goal = problem.objective
    evidence = race.evidence(problem)
    both = [(n, o) for n, o in zip(race.of(race.challenger), race.of(race.champion), strict=True)]
    halves = [(problem.compared(n), problem.compared(o)) for n, o in both if n is not None and o is not None]
    new, old = [n for n, _ in halves], [o for _, o in halves]
    failed = champion is None or None in race.of(race.challenger)
    repaired = released is None or bool(problem.violated(released))
    p = sign_test(evidence.wins, evidence.losses)
    sound = not failed and champion is not None and not problem.violated(champion)
    # Two ways to be accepted share one level, so that together they err no more often than it says.
    gain_level = plan.level * (GAIN if problem.constraints else 1.0)
    mended = _mended(problem, both)
    repaired = repaired and sign_test(*mended) <= plan.level - gain_level
    checks = findings(problem, gain_level, *_sides(both))
    accepted = sound and all(item["passed"] for item in checks) and (p <= gain_level or repaired)
    effect = median(evidence.gains) if halves else None
    interval = finite(median_interval(evidence.gains)) if halves else None
    ratios = [ratio_of(goal.sign, o, n) for o, n in zip(old, new, strict=True)]
    known = [r for r in ratios if r is not None]
    ratio = median(known) if known and len(known) == len(ratios) else None
    ratio_interval = finite(median_interval(known)) if ratio is not None else None
    basis = f"better in {evidence.wins} of {len(evidence)} pairs, p = {p:.2g}"
    if repaired and p > gain_level:
        basis = f"it alone did so in {mended[0]} of {race.complete} pairs, p = {sign_test(*mended):.2g}"
    if failed:
        basis += "; it failed during the exam"
    elif not sound:
        basis += "; it broke a constraint during the exam"
    basis += "".join(f"; {item['sentence']}" for item in checks if not item["passed"] and item["kind"] != "bound")
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
        sentence=sentence(
            problem.spoken, accepted, before, after, effect, interval, ratio, ratio_interval, basis, repaired
        ),
        losses=evidence.losses,
        test=f"exact sign test on {len(evidence)} pairs",
        planned=plan.pairs,
        checks=checks,
    )


Values = Mapping[str, float]


def _mended(problem: Problem, both: Sequence[tuple[Values | None, Values | None]]) -> tuple[int, int]:
    """Pairs in which only the champion kept every constraint, and in which only the released candidate did."""
    kept = [[values is not None and not problem.violated(values) for values in pair] for pair in both]
    return sum(new and not old for new, old in kept), sum(old and not new for new, old in kept)


def _sides(
    both: Sequence[tuple[Values | None, Values | None]],
) -> tuple[list[Values | None], list[Values | None], list[str]]:
    return [new for new, _ in both], [old for _, old in both], [str(number) for number in range(len(both))]
