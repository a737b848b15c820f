"""From runs to tables: geometric means of paired ratios with intervals, and what must hold."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

FLOOR = 1e-8
"""Regrets below this count as this before a logarithm is taken."""
DRAWS = 2000

World = tuple[str, int, int]
"""Task, dimension and instance: what runs are paired by."""
Rows = Iterable[Mapping[str, Any]]


class Ratio(NamedTuple):
    """A geometric mean of paired ratios with its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{_short(self.mean)} ({_short(self.low)}–{_short(self.high)})" if self.pairs else "–"


def regrets(rows: Rows, at: int) -> dict[World, float]:
    """The regret at a checkpoint by world, never below `FLOOR`."""
    out = {}
    for row in rows:
        told = row.get(f"at_{at}")
        if told not in (None, ""):
            out[str(row["task"]), int(row["dim"]), int(row["instance"])] = max(FLOOR, float(str(told)))
    return out


def ratio(ours: Mapping[World, float], theirs: Mapping[World, float], seed: int = 0) -> Ratio:
    """Geometric mean of ours over theirs in the worlds that both have.

    The interval is the paired percentile bootstrap: worlds are drawn anew within each task and dimension.
    """
    groups: dict[tuple[str, int], list[float]] = {}
    for world in sorted(ours.keys() & theirs.keys()):
        groups.setdefault(world[:2], []).append(math.log(ours[world] / theirs[world]))
    logs = list(groups.values())
    count = sum(map(len, logs))
    if not count or not all(math.isfinite(value) for group in logs for value in group):
        return Ratio(math.nan, math.nan, math.nan, 0)
    rng = random.Random(seed)
    means = sorted(
        math.fsum(math.fsum(rng.choices(group, k=len(group))) for group in logs) / count for _ in range(DRAWS)
    )
    mean = math.fsum(map(math.fsum, logs)) / count
    low, high = means[round(0.025 * (DRAWS - 1))], means[round(0.975 * (DRAWS - 1))]
    return Ratio(math.exp(mean), math.exp(low), math.exp(high), count)


def grouped(rows: Rows, *names: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by the values of some columns; by the value itself where there is one column."""
    out: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        out.setdefault(key if len(names) > 1 else key[0], []).append(row)
    return out


def markdown(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table as the README shows it."""
    out = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    out += ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return "\n".join(out)


def relative(rows: Sequence[Mapping[str, Any]], dims: Sequence[int], counts: Sequence[int], base: str) -> str:
    """Regret of each arm relative to the base's, one column for each dimension and number of evaluations."""
    arms = grouped(rows, "name")
    columns = [(dim, n) for dim in dims for n in counts]
    lines = []
    for arm, mine in arms.items():
        cells = [str(ratio(_at(mine, dim, n), _at(arms.get(base, []), dim, n))) for dim, n in columns]
        lines.append([arm, *cells])
    head = [f"regret relative to {base}", *(f"{f'{dim}-D, ' if dim else ''}{n}" for dim, n in columns)]
    return markdown(head, lines)


def medians(rows: Sequence[Mapping[str, Any]], dim: int, n: int) -> str:
    """Median regret of each arm by task."""
    tasks = sorted({str(row["task"]) for row in rows}, key=lambda task: (len(task), task))
    lines = []
    for arm, mine in grouped(rows, "name").items():
        cells = []
        for task in tasks:
            found = _at([row for row in mine if row["task"] == task], dim, n).values()
            cells.append(_short(median(found)) if found else "–")
        lines.append([arm, *cells])
    return markdown([f"median regret, {f'{dim}-D, ' if dim else ''}{n} evaluations", *tasks], lines)


def efforts(rows: Sequence[Mapping[str, Any]]) -> str:
    """What proposing cost: medians over the runs."""
    lines = []
    for arm, mine in grouped(rows, "name").items():
        mid = {key: median([float(row[key]) for row in mine]) for key in ("cpu_ms", "cpu_ms_p95", "llm_share")}
        paid = sum(float(row["evaluations"]) for row in mine)
        calls, told, heard, seconds = (
            sum(float(row[key]) for row in mine) for key in ("calls", "tokens_in", "tokens_out", "model_seconds")
        )
        each = [f"{value / paid:.2f}" if value else "0" for value in (calls, told + heard)]
        took = f"{seconds / calls:.2f}" if calls and seconds else "–"
        lines.append(
            [arm, f"{mid['cpu_ms']:.1f}", f"{mid['cpu_ms_p95']:.1f}", f"{100 * mid['llm_share']:.0f} %", *each, took]
        )
    head = ["arm", "ms per proposal", "95 %", "LLM share", "calls per trial", "tokens per trial", "seconds per call"]
    return markdown(head, lines)


def made_by(rows: Sequence[Mapping[str, Any]], arm: str) -> str:
    """Which sources an arm's candidates came from, as shares."""
    total: dict[str, int] = {}
    for row in rows:
        if row["name"] == arm:
            for item in str(row["sources"]).split():
                source, _, count = item.rpartition("=")
                total[source] = total.get(source, 0) + int(count)
    whole = sum(total.values()) or 1
    shown = sorted(total.items(), key=lambda item: -item[1])
    return f"{arm}: " + ", ".join(f"{source} {100 * count / whole:.0f} %" for source, count in shown)


def hindsight(
    rows: Sequence[Mapping[str, Any]], rivals: Sequence[str], dim: int, n: int, base: str = "random"
) -> str | None:
    """The rival with the smallest geometric-mean regret in a setting, chosen afterwards; None where none ran."""
    arms = grouped(rows, "name")
    found = {name: ratio(_at(arms.get(name, []), dim, n), _at(arms.get(base, []), dim, n)) for name in rivals}
    there = {name: value.mean for name, value in found.items() if value.pairs}
    return min(there, key=lambda name: there[name]) if there else None


def verdict(
    rows: Sequence[Mapping[str, Any]],
    ours: str,
    theirs: str,
    dim: int,
    at: int,
    against: int,
    bound: float,
    words: str = "",
) -> str:
    """One line of what must hold: our regret at some evaluations against theirs at others."""
    arms = grouped(rows, "name")
    found = ratio(_at(arms.get(ours, []), dim, at), _at(arms.get(theirs, []), dim, against))
    what = f"{f'{dim}-D: ' if dim else ''}{ours} at {at} against {theirs} at {against}{f' ({words})' if words else ''}"
    if not found.pairs:
        return f"not measured | {what}"
    return f"{'pass' if found.mean <= bound else 'FAIL'} | {what}: {found}, at most {bound:g} wanted"


def _at(rows: Rows, dim: int, n: int) -> dict[World, float]:
    return regrets((row for row in rows if int(row["dim"]) == dim), n)


def median(values: Iterable[float]) -> float:
    """The middle one; the lower of two."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] if ordered else math.nan


def normalised(rows: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> dict[str, dict[int, float]]:
    """Mean over tasks and seeds of (cost − best) / (worst − best), best and worst over all arms and checkpoints.

    Args:
        rows: Runs whose regrets are plain costs.
        counts: Checkpoints.
    """
    spans = {}
    for task, mine in grouped(rows, "task").items():
        seen = [value for n in counts for row in mine for value in [float(row[f"at_{n}"])] if math.isfinite(value)]
        spans[task] = (min(seen), max(seen))
    out: dict[str, dict[int, float]] = {}
    for arm, mine in grouped(rows, "name").items():
        out[arm] = {}
        for n in counts:
            shares = []
            for row in mine:
                low, high = spans[row["task"]]
                shares.append((min(high, float(row[f"at_{n}"])) - low) / (high - low or 1.0))  # all failed: the worst
            out[arm][n] = sum(shares) / len(shares)
    return out


def _short(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


PUBLISHED: Mapping[str, Mapping[str, Mapping[int, str]]] = {
    "rf-breast": {
        "LLAMBO (gpt-3.5)": {10: ".9508 ± .011", 30: ".9622 ± .010"},
        "library default": dict.fromkeys((5, 10, 15, 20, 30), ".9451"),
    },
    "rf-diabetes": {
        "LLAMBO (gpt-3.5)": {10: ".529 ± .004", 30: ".518 ± .014"},
        "library default": dict.fromkeys((5, 10, 15, 20, 30), ".541"),
    },
    "mlp-wine": {
        "LLAMBO (gpt-3.5)": {10: ".610 ± .09", 30: ".659 ± .06"},
        "library default": dict.fromkeys((5, 10, 15, 20, 30), ".387"),
    },
    "mlp-iris": {
        "LLAMBO (gpt-3.5)": {10: ".883 ± .11", 30: ".962 ± .01"},
        "library default": dict.fromkeys((5, 10, 15, 20, 30), ".367"),
    },
}
"""Best score so far, mean and standard deviation of the five runs that Liu et al. 2024 (arXiv 2402.03921) published
with their code (exp_bayesmark/results_discriminative). Their first five points are others than ours."""
PUBLISHED_TABLES: Sequence[tuple[str, Mapping[int, str]]] = (
    ("LLAMBO (gpt-3.5), its configurations scored anew", {5: ".0613", 10: ".0274", 20: ".0195", 30: ".0174"}),
)
"""The same authors' runs on these tables; they optimised plain accuracy, from first points of their own."""


def scores(rows: Sequence[Mapping[str, Any]], task: str, counts: Sequence[int]) -> str:
    """Best score so far of each arm on a tuning task, beside what others published."""
    loss = task.endswith("diabetes")
    lines: list[list[str]] = []
    for arm, mine in grouped(rows, "name").items():
        cells = []
        for n in counts:
            told = [float(row[f"at_{n}"]) for row in mine]
            values = told if loss else [1.0 - value for value in told]
            mean = sum(values) / len(values)
            spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
            cells.append(f"{mean:.4f} ± {spread:.4f}".replace("0.", "."))
        lines.append([arm, *cells])
    for name, known in PUBLISHED.get(task, {}).items():
        lines.append([f"*{name}*", *(known.get(n, "–") for n in counts)])
    return markdown([f"{task}, {'squared error' if loss else 'accuracy'}", *map(str, counts)], lines)
