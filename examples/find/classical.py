"""The classical searchers: ask the box at fixed inputs, then fit a small library of formulas, or join the dots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from boxes import PROBES, Box, chosen

from agent.proposers.base import Context, Proposal

TRIED = 3
"""Formulas that are measured: the best by what was probed."""

STEPS = {
    "x.upper()": str.upper,
    "x.lower()": str.lower,
    "x.title()": str.title,
    "x.swapcase()": str.swapcase,
    "x[::-1]": lambda x: x[::-1],
    "x[1:]": lambda x: x[1:],
    "x[:-1]": lambda x: x[:-1],
    "x + x": lambda x: x + x,
    "x.replace(' ', '')": lambda x: x.replace(" ", ""),
    "x.replace(' ', '_')": lambda x: x.replace(" ", "_"),
    "' '.join(reversed(x.split()))": lambda x: " ".join(reversed(x.split())),
    "' '.join(sorted(x.split()))": lambda x: " ".join(sorted(x.split())),
    "''.join(sorted(x))": lambda x: "".join(sorted(x)),
    "''.join(c for c in x if c not in 'aeiouAEIOU')": lambda x: "".join(c for c in x if c not in "aeiouAEIOU"),
}
"""Things that are often done to a text; one of them, or two in turn."""


class Library:
    """All probes at once, then the formulas that fit them best, one candidate each."""

    name = "library"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory is not None:
            context.exhausted = True
            return []
        box = chosen()
        asked = questions(box, context.rng)
        answers = [box.ask(x, str(context.rng.random())) for x in asked]
        context.memory = {"probes": [[x, y] for x, y in zip(asked, answers, strict=True)]}
        found = sorted(self.programs(box, asked, answers))[:TRIED]
        parents = (context.history.champion,)
        return [
            Proposal({"program": text}, self.name, f"{loss:.4g} off on the probes", parents) for loss, text in found
        ]

    def programs(self, box: Box, asked: list[Any], answers: list[Any]) -> Iterator[tuple[float, str]]:
        """Programs, each with how far it is off on the probes."""
        return texts(asked, answers) if box.kind == "text" else numbers(asked, answers)

    def forecast(self, problem: Any, candidates: int, options: Any) -> tuple[int, int, int]:
        return 0, 0, 0


class Dots(Library):
    """No formula: a straight line between neighbouring answers; a text that was not asked stays as it is."""

    name = "dots"

    def programs(self, box, asked, answers):
        known = dict(zip(asked, answers, strict=True))
        if box.kind == "text":
            body = f"    return {known!r}.get(x, x)\n"
        else:
            body = (
                f"    known = {sorted(known.items())!r}\n"
                "    for (a, b), (c, d) in zip(known, known[1:]):\n"
                "        if a <= x <= c:\n"
                "            return b + (d - b) * (x - a) / (c - a)\n"
            )
        yield 0.0, f"def f(x):\n{body}"


def questions(box: Box, rng: Any) -> list[Any]:
    """Numbers at even distances, texts as they come."""
    if box.kind == "text":
        return [box.draw(rng) for _ in range(PROBES)]
    return [round(float(x), 3) for x in np.linspace(box.low, box.high, PROBES)]


def texts(asked: list[str], answers: list[str]) -> Iterator[tuple[float, str]]:
    """Each formula with its share of wrong answers."""
    for first, second in product([*STEPS, "x"], STEPS):
        one = STEPS.get(first, lambda x: x)
        wrong = sum(STEPS[second](one(x)) != y for x, y in zip(asked, answers, strict=True))
        body = f"    x = {first}\n" if first != "x" else ""
        yield wrong / len(asked), f"def f(x):\n{body}    return {second}\n"


def bases() -> Iterator[list[str]]:
    """Sums whose weights are fitted: polynomials, waves, corners, steps, exponentials."""
    for degree in range(6):
        yield [f"x**{power}" for power in range(degree + 1)]
    for frequency in np.arange(0.25, 4.01, 0.25):
        yield ["1.0", f"math.sin({frequency} * x)", f"math.cos({frequency} * x)"]
    for corner in np.arange(-4.0, 4.1, 0.5):
        yield ["1.0", "x", f"max(0.0, x - ({corner}))"]
        yield ["1.0", f"float(x > {corner})"]
    for rate in (-1.0, -0.5, 0.5, 1.0):
        yield ["1.0", f"math.exp({rate} * x)"]


def numbers(asked: list[float], answers: list[float]) -> Iterator[tuple[float, str]]:
    """Each formula with the median of its errors, each made when that answer was left out.

    The median looks past a few answers that are broken; the weights, which are fitted twice, leave out the worst
    three of the first fit.
    """
    y = np.array(answers)
    for terms in bases():
        columns = np.array([[float(eval(term, {"math": math}, {"x": x})) for term in terms] for x in asked])
        weights = np.linalg.lstsq(columns, y, rcond=None)[0]
        kept = np.argsort(np.abs(columns @ weights - y))[:-3]
        inverse = np.linalg.pinv(columns[kept])
        weights = inverse @ y[kept]
        leverage = np.einsum("ij,ji->i", columns[kept], inverse)
        left_out = (columns[kept] @ weights - y[kept]) / np.maximum(1e-6, 1 - leverage)
        total = " + ".join(f"{weight:.5g} * {term}" for weight, term in zip(weights, terms, strict=True))
        yield float(np.median(np.abs(left_out))), f"import math\n\n\ndef f(x):\n    return {total}\n"
