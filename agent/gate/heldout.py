"""The exam on held-out rows, and the final report on test rows.

Rows of one cluster are averaged first: they are no independent evidence. A candidate that fails on a
row counts with the score of a failure there, never with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.gate.evidence import sign_test
from agent.gate.planning import Plan
from agent.gate.verdict import Verdict, sentence
from agent.goals import Judging

Values = Mapping[str, float]

CONFIDENCE = 0.95
TESTS = {
    "sign": "exact sign test on {n} rows",
    "betting": "betting on the mean of {n} rows",
    "exchangeable": "sign flips on {n} rows (null: the change did nothing)",
    "gaussian": "t test by betting on {n} rows (Gaussian noise was declared)",
    "quotient": "betting on the parts of a quotient on {n} rows",
    "resampling": "resampling of {n} rows (approximate, no test)",
    "wins": "exact sign test of the win rate on {n} rows (the range of a score is not declared)",
}


@dataclass(frozen=True, slots=True)
class Units:
    """Paired scores of two candidates on independent units.

    Args:
        new: Compared number of the one, by unit; shape (n,).
        old: The same of the other.
        gains: How much better `new` is in each unit, in the objective's unit.
    """

    new: tuple[float, ...]
    old: tuple[float, ...]
    gains: tuple[float, ...]

    @classmethod
    def of(
        cls,
        problem: Judging,
        new: Sequence[Values | None],
        old: Sequence[Values | None],
        clusters: Sequence[str],
        name: str | None = None,
    ) -> Units:
        """Units from rows.

        Args:
            problem: Says what is compared and what a failure counts.
            new: By row, in the exam's order; None where it failed.
            old: The same of the other candidate.
            clusters: By row; rows with equal names become one unit, at the place of the first.
            name: A number to compare instead of the problem's; rows without it are left out.
        """
        places: dict[str, list[tuple[float, float]]] = {}
        for after, before, cluster in zip(new, old, clusters, strict=True):
            pair = _number(problem, after, name), _number(problem, before, name)
            if pair[0] is not None and pair[1] is not None:
                places.setdefault(cluster, []).append((pair[0], pair[1]))
        means = [tuple(math.fsum(side) / len(side) for side in zip(*rows, strict=True)) for rows in places.values()]
        sign = problem.objective.sign
        if name is not None:
            sign = next((goal.sign for goal in problem.objectives if goal.name == name), 1)
        return cls(tuple(n for n, _ in means), tuple(o for _, o in means), tuple(sign * (n - o) for n, o in means))

    def differences(self, scale: float) -> list[float]:
        """Gains as a share of a score's range, cut to [-1, 1]."""
        return [min(1.0, max(-1.0, gain / scale)) for gain in self.gains]


def _number(problem: Judging, values: Values | None, name: str | None) -> float | None:
    if values is None:
        return problem.failure if name is None else _failed(problem, name)
    number = problem.compared(values) if name is None else values[name]
    bounds = problem.bounds if name is None else _bounds(problem, name)
    return number if bounds is None else min(max(number, bounds[0]), bounds[1])


def _failed(problem: Judging, name: str) -> float | None:
    return next((goal.failed for goal in problem.objectives if goal.name == name), None)


def _bounds(problem: Judging, name: str) -> tuple[float, float] | None:
    for goal in problem.objectives:
        if goal.name == name and goal.low is not None and goal.high is not None:
            return goal.low, goal.high
    for item in problem.constraints:
        if item.name == name and item.low is not None and item.high is not None:
            return item.low, item.high
    return None


def shown(units: Units, plan: Plan, level: float) -> tuple[bool, float]:
    """Whether the gain is shown at `level` by the plan's test, and the p-value.

    Args:
        units: Independent pairs, in the order that was planned.
        plan: Which test, which range, which smallest gain.
        level: Chance of accepting a champion that is no better.
    """
    from agent.gate import wealth

    if not units.gains or plan.test in ("quotient", "resampling"):
        return False, 1.0
    d = units.differences(plan.scale)
    if plan.test in ("sign", "wins"):
        if plan.test == "sign":
            wins, losses = wealth.conservative(d)
        else:
            margin = plan.margin * plan.scale
            wins, losses = sum(g > margin for g in units.gains), sum(g < margin for g in units.gains)
        p = sign_test(wins, losses)
        return p <= level, p
    if plan.test == "exchangeable":
        p = wealth.sign_flip([x - plan.margin for x in d], seed=len(d))
        return p <= level, p
    if plan.test == "gaussian":
        path = wealth.t_wealth([gain - plan.margin * plan.scale for gain in units.gains])
        mean = math.fsum(units.gains) / len(units.gains) - plan.margin * plan.scale
        p = min(1.0, math.exp(-float(path[-1]))) if mean > 0 else 1.0
        return p <= level, p
    found = wealth.test(d, level, plan.margin)
    return found.accepted, found.p


def settled(units: Units, plan: Plan, level: float) -> bool:
    """Whether an exam that may stop early has shown the gain already.

    Only the last exam of a run may: the moment at which it stops says something about the rows.
    """
    from agent.gate import wealth

    if plan.test not in ("sign", "betting") or not units.gains:
        return False
    d = units.differences(plan.scale)
    if plan.test == "betting":
        return bool(wealth.test(d, level, plan.margin).accepted)
    return _signs(units, plan) >= math.log(wealth.threshold(plan.pairs, level))


def _signs(units: Units, plan: Plan) -> float:
    """Logarithm of the wealth after the wins and losses so far; their order does not change it."""
    from agent.gate import wealth

    wins, losses = wealth.conservative(units.differences(plan.scale))
    return _final(wealth.log_wealth([1.0] * wins + [-1.0] * losses))


def interval(units: Units, scale: float, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Confidence interval of the mean gain; None without units."""
    if not units.gains:
        return None
    from agent.gate import wealth

    low, high = wealth.interval(units.differences(scale), confidence)
    return low * scale, high * scale


def _net(share: float, around: tuple[float, float] | None) -> str:
    """For scores of unknown range: how many more rows got better than worse."""
    inside = f", 95 % interval {around[0]:.0%} to {around[1]:.0%}" if around is not None else ""
    return (
        " The range of a score is not declared, so the claim is about rows and not about the mean:"
        f" {share:.0%} more of them got better than worse{inside}."
    )


def examine(
    problem: Judging,
    plan: Plan,
    level: float,
    champion: str,
    released: str,
    new: Sequence[Values | None],
    old: Sequence[Values | None],
    clusters: Sequence[str],
    account: Mapping[str, Any] | None = None,
    sequential: bool = False,
) -> Verdict:
    """The verdict on a champion.

    Improvement, and every constraint that must be shown, are tested at the same level: to be wrong, the
    verdict must be wrong about each of those that do not hold (intersection–union; Berger 1982,
    Technometrics 24).

    Args:
        problem: What is compared, and the constraints.
        plan: Fixed before a row was read.
        level: Chance of a false claim.
        champion: Candidate id.
        released: Candidate id.
        new: The champion's values by row in the planned order; None where it failed.
        old: The same of the released candidate.
        clusters: By row.
        account: What the level was worked out from, for the record.
        sequential: Whether the exam ends as soon as the gain is shown (`settled`). Its looks have used up the level,
            so that nothing else is a proof at the end.
    """
    from agent.gate import ofset
    from agent.gate.guarding import findings

    units = Units.of(problem, new, old, clusters)
    whole = plan.test in ("quotient", "resampling") and bool(new)
    of_set = ofset.compare(problem, plan, new, old, clusters) if whole else None
    p: float | None
    if of_set is not None:
        # What a failed row would have added is unknown, so it must not be left out in the champion's favour.
        better, p = of_set.p is not None and of_set.p <= level and None not in new, of_set.p
    elif sequential and plan.test == "sign":
        better = settled(units, plan, level)
        p = level if better else min(1.0, math.exp(-_signs(units, plan)))
    else:
        better, p = shown(units, plan, level)
    if problem.claim == "dominance":
        better, p = _dominance(problem, plan, level, new, old, clusters)
    checks = findings(problem, level, new, old, clusters)
    barred = [found] if (found := (account or {}).get("barred", "")) else []
    if of_set is not None and of_set.beyond:
        barred.append(of_set.beyond)
    if of_set is not None and None in new and problem.failure is not None:
        barred.append(f"it failed on {list(new).count(None)} rows, and what they would have added is unknown")
    if problem.failure is None and None in new:
        barred.append(f"it failed on {list(new).count(None)} rows, and what a failure counts with is not declared")
    accepted = better and not barred and all(item["passed"] for item in checks)
    wins, losses = (sum(s * gain > 0 for gain in units.gains) for s in (1, -1))
    n = len(units.gains)
    before = math.fsum(units.old) / n if n else None
    after = math.fsum(units.new) / n if n else None
    effect = math.fsum(units.gains) / n if n else None
    bounded = problem.bounds is not None or plan.test in ("sign", "betting")
    around = interval(units, plan.scale) if bounded else None
    if of_set is not None:
        sign = problem.objective.sign
        before, after, effect = sign * of_set.old, sign * of_set.new, of_set.gain
        around = of_set.interval
    what = f"{n} held-out rows" if n == len(clusters) else f"{n} held-out clusters ({len(clusters)} rows)"
    basis = f"better on {wins} and worse on {losses} of {what}, "
    if p is None:
        basis += f"and no test can be exact: {ofset.undeclared(problem.objective)}"
    elif of_set is not None and (why := ofset.too_few(problem.objective, level, n)):
        basis += why
    else:
        basis += f"p = {p:.2g} at level {level:.2g}"
    broken = [item["sentence"] for item in checks if not item["passed"]] + barred
    if broken:
        basis += "; " + "; ".join(broken)
    if bounded or of_set is not None:
        text = sentence(problem.spoken, accepted, before, after, effect, around, None, None, basis, False)
    else:
        text = sentence(problem.spoken, accepted, before, after, None, None, None, None, basis, False)
        signs = Units(units.new, units.old, tuple(float((gain > 0) - (gain < 0)) for gain in units.gains))
        effect, around = math.fsum(signs.gains) / max(1, n), interval(signs, 1.0)
        text += _net(effect, around)
    if of_set is not None:
        text += " It is a number of the whole set, "
        text += "and the test is of that number." if p is not None else "and the interval is approximate."
    if plan.test == "sign" and accepted and around is not None and around[0] <= 0:
        text += " (The interval assumes less than the test, and is wider.)"
    return Verdict(
        champion=champion,
        released=released,
        kind="rows",
        accepted=accepted,
        before=before,
        after=after,
        effect=effect,
        interval=around,
        ratio=None,
        ratio_interval=None,
        confidence=CONFIDENCE,
        level=level,
        p=p,
        pairs=n,
        wins=wins,
        sentence=text,
        losses=losses,
        test=TESTS[plan.test].format(n=n),
        planned=plan.pairs,
        checks=checks,
        account=dict(account or {}),
    )


def _dominance(
    problem: Judging,
    plan: Plan,
    level: float,
    new: Sequence[Values | None],
    old: Sequence[Values | None],
    clusters: Sequence[str],
) -> tuple[bool, float]:
    """Together better, and none worse by more than its minimum effect."""
    from agent.gate import guards, wealth

    gains, kept = [], []
    for goal in problem.objectives:
        scale = (goal.high or 0.0) - (goal.low or 0.0)
        d = Units.of(problem, new, old, clusters, goal.name).differences(scale)
        gains.append(_final(wealth.log_wealth(d)))
        kept.append(_final(wealth.log_wealth(d, -goal.margin(0.0) / scale)))
    value = guards.pareto(gains, kept)
    return value >= -math.log(level), min(1.0, math.exp(-value))


def _final(path: Any) -> float:
    # The last wealth, not the largest: a mean of maxima would be no evidence at any level.
    return float(path[-1]) if len(path) else 0.0


def report(
    problem: Judging,
    scale: float,
    level: float,
    candidates: Mapping[str, Sequence[Values | None]],
    initial: str,
    clusters: Sequence[str],
) -> dict[str, Any]:
    """Means and gains over the initial candidate on the test rows, with intervals at 1 - `level`.

    Where a row's range is not known the interval is of `net`: the share of rows that got better less the share that
    got worse.

    Args:
        problem: What is compared.
        scale: Range of a score.
        level: What this opening of the rows may err.
        candidates: By id: values on each test row, None where it failed. The initial one must be there.
        initial: Its id.
        clusters: By row.
    """
    bounded = problem.bounds is not None
    out: dict[str, Any] = {"rows": len(clusters), "confidence": 1 - level, "candidates": {}}
    for name, values in candidates.items():
        units = Units.of(problem, values, candidates[initial], clusters)
        n = len(units.gains)
        around = interval(units, scale, 1 - level) if bounded and name != initial else None
        net = None
        if not bounded and name != initial and n:
            signs = Units(units.new, units.old, tuple(float((gain > 0) - (gain < 0)) for gain in units.gains))
            inside = interval(signs, 1.0, 1 - level)
            net = {"share": math.fsum(signs.gains) / n, "interval": list(inside) if inside else None}
        out["candidates"][name] = {
            "mean": math.fsum(units.new) / n if n else None,
            "gain": math.fsum(units.gains) / n if n and name != initial else None,
            "interval": list(around) if around is not None else None,
            "net": net,
            "units": n,
        }
    return out
