"""Tools that work out what the history says of each parameter, and of the rows and their clusters.

The search chose where to measure, so a rank correlation is a hint and no estimate of an effect.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.history import Trial
from agent.parameters import Categorical, Float, Int
from agent.tools.base import Desk, ToolError
from agent.tools.shared import LISTED, cost, goal, listed, marked, number, ranked, said, short, value

if TYPE_CHECKING:
    from agent.surrogates.points import Array

FEWEST = 5
"""Measured candidates below which nothing is said to be clear."""
SHOWN = 3000
"""Characters of a row that `read_row` shows."""
ROW = "is a row of data, and words of the evaluator on it"


async def parameters(desk: Desk) -> str:
    """What the measured candidates say of each parameter: where it was tried, whether it matters, where it is best."""
    space = desk.context.problem.space
    good = ranked(desk)
    if len(good) < 2:
        return f"{len(good)} candidates have a result; at least 2 are needed"
    failed = [t for t in desk.context.history.trials if t.failure and t.values is None]
    lines = [f"{name}: {_parameter(desk, name, good, failed)}" for name in space]
    head = (
        f"{len(good)} measured candidates, {len(failed)} failed; the result is {goal(desk.context.problem)}.\n"
        "rank correlation +: larger values of the parameter come with better results. effect: share of the results'"
        " ranks that the choice explains. clear: beyond what chance does in 1 of 20."
    )
    return said(desk, head, lines)


def _parameter(desk: Desk, name: str, good: Sequence[Trial], failed: Sequence[Trial]) -> str:
    item = desk.context.problem.space[name]
    tried = [trial.candidate[name] for trial in good]
    best = tried[: max(2, math.ceil(len(good) / 4))]
    if isinstance(item, (Float, Int)):
        out = [f"tried {number(min(tried))} to {number(max(tried))} of {number(item.low)} to {number(item.high)}"]
        if min(tried) == max(tried):
            return f"always {number(tried[0])}"
        # Ranks of costs fall where results get better.
        strength = -correlation(tried, [cost(desk.context.problem, trial) for trial in good])
        out.append(f"rank correlation {strength:+.2f}{_sure(strength**2, 1, len(good))}")
        out.append(f"best quarter {number(min(best))} to {number(max(best))}, best {number(tried[0])}")
        if end := desk.context.problem.space.end(name, tried[0]):
            out.append(f"the best lies at the {end} end")
        if failed:
            wrong = [trial.candidate[name] for trial in failed]
            out.append(f"failed at {number(min(wrong))} to {number(max(wrong))}")
        return "; ".join(out)
    if isinstance(item, Categorical):
        return "; ".join(_choices(desk, name, item, good, failed))
    versions = {number(each) for each in tried}
    sizes = [sum(map(len, item.values())) if isinstance(item, Mapping) else len(item) for item in tried]
    shown = value(desk.context.problem.space, name, tried[0])
    return f"{len(versions)} versions, size {min(sizes)} to {max(sizes)}; the best candidate's has {sizes[0]}: {shown}"


def _choices(desk: Desk, name: str, item: Categorical, good: Sequence[Trial], failed: Sequence[Trial]) -> Iterator[str]:
    problem = desk.context.problem
    groups: dict[str, list[float]] = {number(choice): [] for choice in item.choices}
    for trial in good:
        groups[number(trial.candidate[name])].append(problem.compared(trial.values or {}))
    bad = [number(trial.candidate[name]) for trial in failed]
    tried = {choice: results for choice, results in groups.items() if results}
    if len(tried) > 1:
        share = effect(list(tried.values()))
        yield f"effect {share:.2f}{_sure(share, len(tried) - 1, len(good))}"
    order = sorted(tried, key=lambda c: -problem.objective.sign * sum(tried[c]) / len(tried[c]))
    means = (
        f"{choice} {sum(tried[choice]) / len(tried[choice]):.6g} ({len(tried[choice])} times"
        + (f", {bad.count(choice)} more failed)" if choice in bad else ")")
        for choice in order[:10]
    )
    yield f"mean result {', '.join(means)}"
    rest = [choice for choice in groups if choice not in tried]
    if rest:
        yield f"no result with {short(', '.join(rest))}"


def _sure(share: float, degrees: int, count: int) -> str:
    """Whether a share of ranks that is explained is more than chance (Kruskal and Wallis 1952).

    (n - 1) times the share is about χ² distributed without an effect; its 95 % quantile after Wilson and Hilferty 1931.
    """
    if count < FEWEST:
        return " (too few to tell)"
    part = 2 / (9 * degrees)
    return " (clear)" if (count - 1) * share > degrees * (1 - part + 1.645 * math.sqrt(part)) ** 3 else ""


def ranks(values: Sequence[float]) -> Array:
    """(n,) ranks from 1; equal values share the mean of theirs."""
    import numpy as np

    _, places, counts = np.unique(np.array(values, dtype=float), return_inverse=True, return_counts=True)
    out: Array = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return out


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one of them is constant."""
    import numpy as np

    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(x @ y / size, -1.0, 1.0)) if size else 0.0


def effect(groups: Sequence[Sequence[float]]) -> float:
    """Share of the variance of ranks, 0 to 1, that lies between groups (Kruskal and Wallis 1952)."""
    every = ranks([value for group in groups for value in group])
    middle, total, between, start = (len(every) + 1) / 2, 0.0, 0.0, 0
    total = float(((every - middle) ** 2).sum())
    for group in groups:
        part = every[start : start + len(group)]
        between += len(group) * float(part.mean() - middle) ** 2
        start += len(group)
    return between / total if total else 0.0


async def rows(desk: Desk, n: int = 5) -> str:
    """Where the champion is weak: clusters of rows, and single rows, with what other candidates got there.

    Args:
        n: How many clusters and how many rows, 1 to 30.
    """
    context, most = desk.context, listed(n)
    champion = context.history[context.history.champion]
    scores = {name: score for name, (score, _) in champion.rows.items()}
    if not scores:
        return "candidates are not measured row by row here, or the champion was not measured yet"
    sign = context.problem.objective.sign
    floor = context.problem.objective.failed
    others: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for trial in context.history.trials:
        for name, (score, _) in trial.rows.items():
            counted = floor if score is None else score
            if trial.id != champion.id and counted is not None:
                others[name].append((counted, trial.id))
    known = {name: floor if score is None else score for name, score in scores.items()}
    count = {name: score for name, score in known.items() if score is not None}

    def strength(name: str) -> tuple[float, str]:
        score = count.get(name)
        return (-math.inf if score is None else sign * score, name)

    lines = list(_clusters(context.clusters, scores, count, others, sign, most))
    lines.append("weakest rows (champion; best of the others):")
    for name in sorted(scores, key=strength)[:most]:
        best = max(others[name], key=lambda pair: sign * pair[0], default=None)
        told = "not measured" if best is None else f"{best[0]:.6g} by {best[1][:8]}"
        own = "failed" if scores[name] is None else f"{scores[name]:.6g}"
        lines.append(f"{name}: {own}; {told}")
    mean = f"mean {_mean(list(count.values()))}" if count else "no result"
    head = (
        f"the champion {champion.id[:8]} on {len(scores)} of {len(context.problem.split('train'))} rows: {mean} of"
        f" {goal(context.problem)}, {sum(score is None for score in scores.values())} failed"
    )
    return f"{head}\n{marked(desk, chr(10).join(lines), origin=LISTED)}"


def _clusters(
    clusters: Mapping[str, str],
    scores: Mapping[str, float | None],
    count: Mapping[str, float],
    others: Mapping[str, list[tuple[float, str]]],
    sign: int,
    most: int,
) -> Iterator[str]:
    """The clusters of more than one row where the champion is weakest."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in scores:
        if name in clusters:
            groups[clusters[name]].append(name)
    found = []
    for label, names in groups.items():
        if len(names) > 1:
            own = [count[name] for name in names if name in count]
            foreign = [score for name in names for score, _ in others.get(name, ())]
            failed = sum(scores[name] is None for name in names)
            place = sign * sum(own) / len(own) if own else -math.inf
            told = f"{label}: {len(names)} rows, {_mean(own)}; {_mean(foreign)}" + (f"; {failed} failed" * bool(failed))
            found.append((place, told))
    if found:
        yield f"weakest of {len(found)} clusters (champion; mean of the others):"
        yield from (told for _, told in sorted(found)[:most])


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.6g}" if values else "not measured"


async def read_row(desk: Desk, row: str) -> str:
    """A row of data, and what the champion got on it. Do it seldom: what is made with a row is not raced on that row.

    Args:
        row: Its id, as `rows` shows it.
    """
    try:
        view = await desk.context.read(row)
    except ConfigError:
        raise ToolError(f"there is no row {short(row, 60)!r} to read", hint="take an id that rows shows") from None
    score = "failed" if view.score is None and view.measured else "not measured" if view.score is None else view.score
    content = view.row if isinstance(view.row, str) else _json(view.row)
    body = f"{content[:SHOWN]}{'…' * (len(content) > SHOWN)}\nchampion: {score}"
    return marked(desk, body + (f"\nevaluator: {view.feedback[:SHOWN]}" if view.feedback else ""), origin=ROW)


def _json(item: Any) -> str:
    import json

    return json.dumps(item, ensure_ascii=False)
