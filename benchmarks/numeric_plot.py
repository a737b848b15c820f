"""Curves as SVG, by hand: one panel for each task, medians as lines and quartiles as bands, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Point = tuple[float, float, float, float]
"""Evaluations, lower quartile, median and upper quartile."""

WIDTH, HEIGHT, GAP, LEFT, TOP, LEGEND = 300, 260, 46, 56, 64, 250
COLOURS = ("#c1292e", "#3d5a80", "#3fa34d", "#e36414", "#5f0f40", "#0b6e4f", "#b5651d", "#6c757d", "#98c1d9", "#2b2d42",
           "#f4a259", "#adb5bd")  # fmt: skip


def quartiles(rows: Iterable[Mapping[str, Any]], counts: Sequence[int], floor: float) -> list[Point]:
    """The curve of some runs over the checkpoints that all of them have."""
    mine, out = list(rows), []
    for n in counts:
        told = [str(row.get(f"at_{n}", "")) for row in mine]
        values = sorted(max(floor, float(text)) for text in told if text)
        if len(values) == len(mine) and values and all(map(math.isfinite, values)):
            out.append(
                (float(n), *(values[min(len(values) - 1, round(q * (len(values) - 1)))] for q in (0.25, 0.5, 0.75)))
            )
    return out


def svg(title: str, label: str, panels: Mapping[str, Mapping[str, Sequence[Point]]], columns: int = 2) -> str:
    """The picture.

    Args:
        title: Above it.
        label: Of the vertical axes.
        panels: Curves by arm, by the panel's heading. A curve without points is left out.
    """
    arms = list(dict.fromkeys(arm for curves in panels.values() for arm in curves))
    lines = -(-len(panels) // columns)
    wide = LEFT + columns * (WIDTH + GAP) + LEGEND
    high = TOP + lines * (HEIGHT + GAP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT}" y="40">{escape(label)} (median and quartiles) after so many evaluations</text>',
    ]
    for number, (name, curves) in enumerate(panels.items()):
        x = LEFT + number % columns * (WIDTH + GAP)
        y = TOP + number // columns * (HEIGHT + GAP)
        out += _panel(name, {arm: curve for arm, curve in curves.items() if curve}, arms, x, y)
    for number, arm in enumerate(arms):
        at = TOP + 16 * number + 8
        x = wide - LEGEND + 6
        out.append(f'<path d="M{x} {at}h18" {_stroke(number, arm)}/>')
        out.append(f'<text x="{x + 24}" y="{at + 4}">{escape(arm)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _stroke(number: int, arm: str) -> str:
    dashes = ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 2"')[number // len(COLOURS) % 3]
    return f'stroke="{_colour(number)}" stroke-width="{2.4 if arm.startswith("portfolio") else 1.2}"{dashes}'


def _panel(name: str, curves: Mapping[str, Sequence[Point]], arms: Sequence[str], left: int, top: int) -> list[str]:
    points = [point for curve in curves.values() for point in curve]
    out = [f'<text x="{left}" y="{top - 6}" font-weight="bold">{escape(name)}</text>']
    if not points:
        return out
    first, last = min(p[0] for p in points), max(p[0] for p in points)
    low = math.floor(math.log10(min(p[1] for p in points)))
    high = max(low + 1, math.ceil(math.log10(max(p[3] for p in points))))

    def x(n: float) -> float:
        return left + WIDTH * math.log(n / first) / (math.log(last / first) or 1.0)

    def y(value: float) -> float:
        return top + HEIGHT * (high - math.log10(value)) / (high - low)

    for power in range(low, high + 1):
        at = y(10.0**power)
        out.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">1e{power}</text>')
    for n in sorted({p[0] for p in points}):
        if n in (first, last) or n in (10, 20, 50, 100):
            out.append(f'<text x="{x(n):.1f}" y="{top + HEIGHT + 15}" text-anchor="middle">{n:g}</text>')
    for arm, curve in curves.items():
        number = arms.index(arm)
        edge = [(n, a) for n, a, _, _ in curve] + [(n, b) for n, _, _, b in reversed(curve)]
        band = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in edge)
        out.append(f'<polygon points="{band}" fill="{_colour(number)}" opacity="0.08"/>')
        path = " ".join(f"{'ML'[i > 0]}{x(n):.1f} {y(middle):.1f}" for i, (n, _, middle, _) in enumerate(curve))
        out.append(f'<path d="{path}" fill="none" {_stroke(number, arm)}/>')
    return out
