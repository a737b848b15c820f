"""The Pareto front of a run as a table and as a picture; `truegain show RUN --front` prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import emit
from agent.errors import ConfigError
from agent.telling.text import amount, plain, table

if TYPE_CHECKING:
    from agent.goals import Objective
    from agent.history import Trial
    from agent.pareto import Front
    from agent.results.result import Result

CLAIM = "The front is what the search measured; only what the gate claims is shown to hold."

WIDTH, HEIGHT = 720, 500
LEFT, TOP, RIGHT, BOTTOM = 88, 52, 540, 430
"""Edges of the plot; the legend stands on its right."""
MARKS = {"infeasible": "#b8b8b8", "feasible": "#7a7a7a", "front": "#1b5fa8"}
"""Colour of each kind of point, in the order in which they are drawn."""
RINGS = {"initial": "#b35c00", "best": "#1b7f3b"}


def show(result: Result, axes: str | None, reference: Sequence[str], plot: Path | None, as_json: bool) -> None:
    """Print a run's front, and draw it when a file is named.

    Args:
        result: Of the run.
        axes: Names of the two objectives to draw, with a comma between them; the first two by default.
        reference: NAME=NUMBER for every objective; none for the default.
        plot: Where the picture goes.
        as_json: One JSON document instead of the table.

    Raises:
        ConfigError: The problem has one objective, or a name or number is wrong, or the file cannot be written.
    """
    from agent.pareto import front

    found = front(result.problem, result.trials, _reference(reference) if reference else None)
    if plot is not None:
        picture = scatter(result, found, *_axes(result, axes))
        try:
            plot.write_text(picture, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {plot}: {error.strerror}", hint="name a file that can be made") from None
    if as_json:
        emit({"run": result.run, **found.to_json(), "sentence": CLAIM})
        return
    goals = result.problem.objectives
    feasible = sum(trial.values is not None and trial.feasible for trial in result.trials)
    click.echo(f"{result.run}: {len(found.trials)} of {feasible} feasible candidates are on the Pareto front.\n")
    rows = [
        (
            trial.number,
            trial.id[:8],
            *(amount((trial.values or {})[goal.name], goal.unit) for goal in goals),
            "end" if math.isinf(gap) else f"{gap:.2f}",
            ", ".join(_roles(result, trial)) or trial.source,
        )
        for trial, gap in zip(found.trials, found.crowding, strict=True)
    ]
    table(rows, ("#", "CANDIDATE", *(_label(goal).upper() for goal in goals), "CROWDING", "WHICH"))
    volume = "out of range" if found.hypervolume is None else f"{found.hypervolume:.4g}"
    corner = ", ".join(f"{goal.name} {amount(found.reference[goal.name], goal.unit)}" for goal in goals)
    click.echo(f"\nHypervolume: {volume} ({found.share:.1%} of the box), from the reference {plain(corner)}.\n{CLAIM}")
    if plot is not None:
        click.echo(f"wrote {plot}", err=True)


def _reference(given: Sequence[str]) -> dict[str, float]:
    out = {}
    for text in given:
        name, mark, value = text.partition("=")
        try:
            out[name.strip()] = float(value)
        except ValueError:
            mark = ""
        if not mark:
            raise ConfigError(f"--reference {text}: found no NAME=NUMBER", hint="such as --reference loss=2.5")
    return out


def _axes(result: Result, axes: str | None) -> tuple[Objective, Objective]:
    known = {goal.name: goal for goal in result.problem.objectives}
    names = [name.strip() for name in axes.split(",")] if axes is not None else list(known)[:2]
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(known):
        raise ConfigError(
            f"--axes: found {axes!r}, allowed are two different objectives with a comma between them",
            hint=f"there are {', '.join(known)}",
        )
    return known[names[0]], known[names[1]]


def _roles(result: Result, trial: Trial) -> list[str]:
    known = {"initial": result.initial.id, "best": result.best.id, "released": result.released.id}
    return [name for name, candidate in known.items() if candidate == trial.id]


def _label(goal: Objective) -> str:
    return f"{goal.name}{f' ({goal.unit})' if goal.unit else ''}"


def ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Round numbers from `low` to `high`, in steps of 1, 2 or 5 times a power of ten, with as many digits as tell
    them apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next((factor for factor in (1.0, 2.0, 5.0) if factor * power >= rough), 10.0)
    first = math.ceil(low / step)
    values = [(first + i) * step + 0.0 for i in range(most + 1) if (first + i) * step <= high]
    largest = max((abs(value) for value in values), default=step)
    digits = 1 if largest < step else 1 + math.floor(math.log10(largest * 1.0001)) - math.floor(math.log10(step))
    return [(value, f"{value:.{min(max(digits, 1), 15)}g}") for value in values]


class _Scale:
    """Values of an objective as places on an axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        pad = 0.06 * ((high - low) or abs(high) or 1.0)
        self.low, self.high, self.start, self.end = low - pad, high + pad, start, end

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def scatter(result: Result, found: Front, across: Objective, up: Objective) -> str:
    """The measured candidates by two of their objectives, as SVG, with the front, the initial and the best marked.

    Args:
        result: Of the run.
        found: Its front over all objectives.
        across: Objective of the horizontal axis.
        up: Objective of the vertical axis.
    """
    measured = [trial for trial in result.trials if trial.values is not None]
    places = {trial.number: ((trial.values or {})[across.name], (trial.values or {})[up.name]) for trial in measured}
    x = _Scale([place[0] for place in places.values()], LEFT, RIGHT)
    y = _Scale([place[1] for place in places.values()], BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13" fill="#222">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="28" font-weight="bold">{_text(f"{result.run}: what the search measured")}</text>',
        f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="none" stroke="#333"/>',
    ]
    for value, words in ticks(x.low, x.high):
        out.append(f'<line x1="{x(value):.1f}" y1="{BOTTOM}" x2="{x(value):.1f}" y2="{BOTTOM + 5}" stroke="#333"/>')
        out.append(f'<text x="{x(value):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{words}</text>')
    for value, words in ticks(y.low, y.high):
        out.append(f'<line x1="{LEFT - 5}" y1="{y(value):.1f}" x2="{LEFT}" y2="{y(value):.1f}" stroke="#333"/>')
        out.append(f'<text x="{LEFT - 9}" y="{y(value) + 4:.1f}" text-anchor="end">{words}</text>')
    middle, centre = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    out.append(f'<text x="{middle:.0f}" y="{BOTTOM + 44}" text-anchor="middle">{_text(_axis(across))}</text>')
    out.append(
        f'<text x="20" y="{centre:.0f}" text-anchor="middle" transform="rotate(-90 20 {centre:.0f})">'
        f"{_text(_axis(up))}</text>"
    )
    drawn = {kind: [t for t in measured if kind == _kind(result, found, t)] for kind in MARKS}
    if len(result.problem.objectives) == 2:
        edge = sorted((places[trial.number] for trial in found.trials), key=lambda place: -across.sign * place[0])
        out.append(_stairs(edge, x, y))
    out += [_mark(kind, x(places[t.number][0]), y(places[t.number][1])) for kind in MARKS for t in drawn[kind]]
    # Both may lie on the front or on each other, so they are rings around whatever is there.
    for role, candidate in (("initial", result.initial.id), ("best", result.best.id)):
        out += [_ring(role, x(places[t.number][0]), y(places[t.number][1])) for t in measured if t.id == candidate]
    for row, kind in enumerate(MARKS):
        out.append(_mark(kind, RIGHT + 24, TOP + 14 + 26 * row))
        out.append(_legend(f"{kind} ({len(drawn[kind])})", row))
    for row, role in enumerate(RINGS, len(MARKS)):
        out.append(_ring(role, RIGHT + 24, TOP + 14 + 26 * row))
        out.append(_legend(role, row))
    return "\n".join([*out, "</svg>", ""])


def _kind(result: Result, found: Front, trial: Trial) -> str:
    return "infeasible" if not trial.feasible else "front" if trial in found else "feasible"


def _axis(goal: Objective) -> str:
    return f"{_label(goal)}, {'lower' if goal.sign < 0 else 'higher'} is better"


def _text(text: str) -> str:
    return escape(plain(text).replace("\n", " "))


def _mark(kind: str, x: float, y: float) -> str:
    color = MARKS[kind]
    if kind == "infeasible":
        return (
            f'<path class="{kind}" d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{color}" stroke-width="1.5"'
            ' fill="none"/>'
        )
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if kind == "front" else 3.5}" fill="{color}"/>'


def _ring(role: str, x: float, y: float) -> str:
    color = RINGS[role]
    if role == "best":
        return (
            f'<circle class="{role}" cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="{color}" stroke-width="2.5"/>'
        )
    return (
        f'<rect class="{role}" x="{x - 7:.1f}" y="{y - 7:.1f}" width="14" height="14" fill="none" stroke="{color}"'
        ' stroke-width="2.5"/>'
    )


def _legend(words: str, row: int) -> str:
    return f'<text x="{RIGHT + 42}" y="{TOP + 18 + 26 * row}">{_text(words)}</text>'


def _stairs(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale) -> str:
    """The edge of what a front of two objectives dominates; points come with the best one across first."""
    corners = [f"{x(points[0][0]):.1f},{y(points[0][1]):.1f}"] if points else []
    for before, after in pairwise(points):
        corners.append(f"{x(after[0]):.1f},{y(before[1]):.1f}")
        corners.append(f"{x(after[0]):.1f},{y(after[1]):.1f}")
    return f'<polyline class="edge" points="{" ".join(corners)}" fill="none" stroke="#1b5fa8" stroke-opacity="0.5"/>'
