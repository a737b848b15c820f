"""A plot as SVG, by hand: means with error bars over the number of rows, one line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float, float]
"""Rows, mean, and half the length of its error bar."""

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 460, 60, 40, 230, 50
COLOURS = ("#0b6e4f", "#3fa34d", "#7bc8a4", "#b5651d", "#c1292e", "#e36414", "#f4a259", "#5f0f40", "#3d5a80", "#6c757d",
           "#98c1d9", "#8d99ae", "#2b2d42", "#adb5bd")  # fmt: skip


def svg(title: str, label: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The picture.

    Args:
        title: Above it.
        label: Of the vertical axis.
        lines: By method, in the order of the legend.
    """
    points = [point for line in lines.values() for point in line]
    sizes = sorted({point[0] for point in points})
    low = math.floor(10 * min(mean - bar for _, mean, bar in points)) / 10
    high = math.ceil(10 * max(mean + bar for _, mean, bar in points)) / 10
    span = math.log(sizes[-1] / sizes[0]) or 1.0

    def x(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(n / sizes[0]) / span)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / max(high - low, 0.1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">rows of train, and as many of val</text>',
        f'<text x="14" y="{TOP - 8}">{escape(label)}</text>',
    ]
    for step in range(round(10 * low), round(10 * high) + 1):
        at = y(step / 10)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{step / 10:.1f}</text>')
    for n in sizes:
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n:g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        wide = 2.5 if name.startswith("race") else 1.2
        path = " ".join(f"{'ML'[i > 0]}{x(n):.1f} {y(mean):.1f}" for i, (n, mean, _) in enumerate(line))
        bars = " ".join(f"M{x(n):.1f} {y(mean - bar):.1f}V{y(mean + bar):.1f}" for n, mean, bar in line)
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        out.append(f'<path d="{bars}" stroke="{colour}" stroke-width="{wide}"/>')
        at = TOP + 18 * number
        out.append(f'<path d="M{WIDTH - RIGHT + 14} {at}h20" stroke="{colour}" stroke-width="{wide}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 40}" y="{at + 4}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])
