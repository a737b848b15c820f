"""Learning curves: what a measurement that is under way will come to, and whether it is worth finishing.

The end is predicted by a mixture. Curves that level off, a + b·t^-c and a + b·exp(-c·t), are fitted by least
squares over a grid of c and of the noise, and weighted by how well they explain the points (Domhan, Springenberg
and Hutter, Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning
Curves, IJCAI 2015, section 3, with two of its families and a grid in the place of its sampling). Curves of the same
run that came to their end tell what the fitted ones cannot know, such as a late drop that all of them share. And a
small part of the mixture allows for a drop that nothing has announced.

Costs are small where they are good.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agent.goals import Judging

LARGEST = 1e100
"""Largest magnitude of a step or a cost that is used."""
FEWEST = 5
"""Points before anything is predicted."""
LONGEST = 40
"""Points that are fitted; more are averaged in groups."""
POWERS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Of exponentials, over the whole length."""
NOISES = (0.003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5)
"""Standard deviations of a point's noise, as shares of the spread of the points."""
MISFIT = 0.3
"""No curve is of these families: uncertainty added, as a share of the change that is still to come."""
REFERENCES = 0.8
"""Share of the mixture that goes by complete curves of the run, where there are any."""
LOOKS = (0.25, 0.5, 0.75)
"""Shares of the steps after which complete curves are looked at for drops that nothing had announced."""
DEEPEST = 1.3
"""The deepest of such drops, as a multiple of all that the curve has gained so far; all sizes are as likely."""
COMPLETE = 6
"""Complete curves that must be known before anything is stopped."""
KEPT = 16
"""Complete curves that are kept."""
EARLIEST, LATEST = 0.25, 0.9
"""Shares of the steps before and behind which nothing is stopped: too little is known, or little is left to save."""
PACE = 1.12
"""A curve is looked at when it has grown by this factor: each look is one more chance to be wrong."""
UNWATCHED = 6
"""One candidate in so many comes to its end whatever it looks like, so that what is known is no choice of survivors."""


class Normal(NamedTuple):
    """One part of a mixture."""

    weight: float
    mean: float
    sd: float


class Curve:
    """Costs by step, in the order of the steps, however they arrived.

    Attributes:
        of: Steps in all, where a partial result said so.
    """

    def __init__(self) -> None:
        self.of: float | None = None
        self._steps: list[float] = []
        self._costs: dict[float, float] = {}
        self._surprises: dict[float, tuple[float, float]] = {}

    @classmethod
    def read(cls, problem: Judging, partials: Iterable[Any]) -> Curve:
        """The curve of an output's partial results."""
        out = cls()
        for partial in partials:
            out.add(problem, partial)
        return out

    def add(self, problem: Judging, partial: Any) -> bool:
        """Take a partial result; False when it says nothing that can be used.

        Args:
            problem: Which number is compared.
            partial: A number, or names with numbers, among them `step` (else they are counted) and `of`.
        """
        numbers = partial
        if isinstance(partial, Mapping) and isinstance(partial.get("values"), Mapping):
            numbers = partial["values"]
        if not isinstance(numbers, Mapping):
            numbers = {problem.objective.name: numbers}
        needed = [goal.name for goal in problem.objectives] if problem.claim == "sum" else [problem.objective.name]
        step, of = numbers.get("step", len(self._steps) + 1), numbers.get("of", self.of)
        if not all(_number(numbers.get(name)) for name in needed) or not (_number(step) and step > 0):
            return False
        if of is not None and not (_number(of) and of >= step):
            return False
        self.of = of
        if step not in self._costs:
            bisect.insort(self._steps, step)
        self._costs[step] = -problem.objective.sign * problem.compared(numbers)
        return True

    @property
    def points(self) -> list[tuple[float, float]]:
        """(step, cost), by step."""
        return [(step, self._costs[step]) for step in self._steps]

    def __len__(self) -> int:
        return len(self._steps)

    def surprise(self, share: float) -> tuple[float, float]:
        """How far above what was predicted of it after a share of its steps it ended, and how sure that seemed.

        For a curve that is complete: it is worked out once.
        """
        if share not in self._surprises:
            points = self.points
            end, cost = points[-1]
            early = [point for point in points if point[0] <= share * end * (1 + 1e-9)]
            kept, group = _thinned(early if len(early) >= FEWEST else points[:FEWEST])
            parts = _fitted(kept, end, group)
            self._surprises[share] = cost - _middle(parts), _width(parts)
        return self._surprises[share]

    @property
    def step(self) -> float:
        """The largest step so far; 0 before the first."""
        return self._steps[-1] if self._steps else 0.0


def hopeless(stopped: Mapping[str, float]) -> str:
    """Why a measurement was stopped, in words; from `agent.evaluation.Output.stopped`."""
    chance = "under 0.1" if stopped["chance"] < 0.001 else f"{100 * stopped['chance']:.2g}"
    return (
        f"hopeless after {stopped['step']:g} of {stopped['of']:g} steps: {chance} % chance to beat"
        f" {stopped['against']:.4g}"
    )


class Known:
    """Curves of the same problem that came to their end: what they did that nothing had announced.

    Args:
        curves: Complete ones; those with too few points say nothing.
    """

    def __init__(self, curves: Iterable[Curve]) -> None:
        self._curves = [curve for curve in curves if len(curve) > FEWEST]

    def __len__(self) -> int:
        return len(self._curves)

    def surprises(self, share: float) -> list[float]:
        """By how much each ended above what was predicted of it after a share of its steps."""
        return [curve.surprise(share)[0] for curve in self._curves]

    @property
    def dropping(self) -> float:
        """Which share of curves drop without announcing it, by the rule of succession."""
        dropped = 0
        for curve in self._curves:
            looks = map(curve.surprise, LOOKS)
            dropped += any(surprise < -3 * width for surprise, width in looks)
        return (dropped + 0.5) / (len(self) + 1)


def chance(points: Sequence[tuple[float, float]], of: float, threshold: float, known: Known) -> float:
    """The probability that a curve ends below a cost.

    Args:
        points: (step, cost) by step; with less than `FEWEST`, 1 is returned.
        of: Step of the end.
        threshold: Cost to get below.
        known: Complete curves of the same problem; with less than `COMPLETE` of them, 1 is returned.
    """
    return math.fsum(part.weight * _below(part, threshold) for part in prediction(points, of, known))


def prediction(points: Sequence[tuple[float, float]], of: float, known: Known) -> list[Normal]:
    """The cost at the end as a mixture of normals, whose weights sum to 1; see `chance`.

    Where too little is known, that is one normal of infinite width.
    """
    if len(points) < FEWEST or len(known) < COMPLETE:
        return [Normal(1.0, points[-1][1] if points else 0.0, math.inf)]
    kept, group = _thinned(points)
    fitted = _fitted(kept, of, group)
    middle, width = _middle(fitted), _width(fitted)
    parts = [Normal((1 - REFERENCES) * w, mean, sd) for w, mean, sd in fitted]
    surprises = known.surprises(points[-1][0] / of)
    spread = math.hypot(width, _spread(surprises) * len(known) ** -0.2)  # the bandwidth of a kernel density
    parts += [Normal(REFERENCES / len(known), middle + surprise, spread) for surprise in surprises]
    return _with_drop(parts, kept, of, known.dropping)


def _fitted(points: Sequence[tuple[float, float]], of: float, group: float) -> list[Normal]:
    """What the families say of the end."""
    first, last = points[0][0], points[-1][0]
    costs = [cost for _, cost in points]
    n, spread = len(points), max(max(costs) - min(costs), 1e-12 * max(1.0, *map(abs, costs)))
    level = costs[-1]
    shifted = [(cost - level) / spread for cost in costs]
    total = math.fsum(cost * cost for cost in shifted)
    found: list[tuple[float, float, float]] = []
    for basis in (*((-c, 0.0) for c in POWERS), *((0.0, k) for k in RATES)):
        begin, end = _shape(basis, first, of), _shape(basis, last, of)
        if not begin > end:
            continue  # the points are so near each other that rounding makes them one
        h = [(_shape(basis, step, of) - end) / (begin - end) for step, _ in points]  # 1 at the first, 0 at the last
        beyond = (_shape(basis, of, of) - end) / (begin - end)
        s1, s2 = math.fsum(h), math.fsum(x * x for x in h)
        y1, y2 = math.fsum(shifted), math.fsum(x * y for x, y in zip(h, shifted, strict=True))
        for ratio in NOISES:
            # Level and change have normal priors as wide as what was seen.
            a11, a22, a12 = n + ratio * ratio, s2 + ratio * ratio / 4, s1
            det = a11 * a22 - a12 * a12
            level_at, change = (a22 * y1 - a12 * y2) / det, (a11 * y2 - a12 * y1) / det
            explained = level_at * y1 + change * y2
            weight = -(total - explained) / (2 * ratio * ratio) - (n - 2) * math.log(ratio) - 0.5 * math.log(det)
            variance = ratio * ratio * (a22 - 2 * a12 * beyond + a11 * beyond * beyond) / det
            variance += ratio * ratio * group + (MISFIT * change * beyond) ** 2
            mean = level + spread * (level_at + change * beyond)
            found.append((weight, mean, spread * math.sqrt(max(0.0, variance))))
    if not found:
        return [Normal(1.0, level, spread)]
    most = max(item[0] for item in found)
    weights = [math.exp(item[0] - most) for item in found]
    sum_ = math.fsum(weights)
    return [Normal(w / sum_, item[1], item[2]) for w, item in zip(weights, found, strict=True) if w > 1e-6 * sum_]


def _shape(basis: tuple[float, float], step: float, of: float) -> float:
    power, rate = basis
    return float(step**power) if power else math.exp(-rate * step / of)


def _spread(numbers: Sequence[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))


def _middle(parts: Sequence[Normal]) -> float:
    return math.fsum(part.weight * part.mean for part in parts)


def _width(parts: Sequence[Normal]) -> float:
    middle = _middle(parts)
    return math.sqrt(math.fsum(part.weight * (part.sd**2 + (part.mean - middle) ** 2) for part in parts))


def _with_drop(parts: list[Normal], points: Sequence[tuple[float, float]], of: float, dropping: float) -> list[Normal]:
    """The mixture, with a part in which a drop is still to come that nothing has announced."""
    share = min(0.5, dropping * math.sqrt(1 - points[-1][0] / of))
    gained = max(0.0, points[0][1] - min(cost for _, cost in points))
    middle, width = _middle(parts), _width(parts)
    sizes = [DEEPEST * gained * (place + 0.5) / 8 for place in range(8)]
    drops = [Normal(share / 8, middle - size, width) for size in sizes]
    return [Normal((1 - share) * part.weight, part.mean, part.sd) for part in parts] + drops


def _below(part: Normal, threshold: float) -> float:
    if math.isinf(part.sd):
        return 1.0
    if part.sd == 0:
        return float(part.mean < threshold)
    return 0.5 * math.erfc((part.mean - threshold) / (part.sd * math.sqrt(2)))


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], float]:
    """At most `LONGEST` points, each the mean of neighbours, and of how many."""
    size = math.ceil(len(points) / LONGEST)
    groups = [points[max(0, end - size) : end] for end in range(len(points), 0, -size)]
    means = [(sum(s for s, _ in g) / len(g), sum(c for _, c in g) / len(g)) for g in reversed(groups)]
    return means, float(size)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


class Watch:
    """Follows one measurement and says when it is hopeless.

    Args:
        problem: Which number is compared.
        full: Steps in all, where partial results do not say so.
        doubt: Chance below which it is hopeless.
        references: Complete curves of the run.
    """

    def __init__(self, problem: Judging, full: float | None, doubt: float, references: Sequence[Curve]) -> None:
        self.curve = Curve()
        self.curve.of = full
        self.problem = problem
        self._doubt = doubt
        self._known = Known(references)
        self._next = 0.0

    def hopeless(self, partial: Any, champion: Mapping[str, float] | None) -> dict[str, float] | None:
        """Take a partial result; what `Output.stopped` holds when the measurement is to be stopped, else None.

        Args:
            partial: As the evaluator reported it.
            champion: The champion's means; None when there is nothing to beat.
        """
        curve = self.curve
        if not curve.add(self.problem, partial) or curve.of is None or champion is None:
            return None
        if self.problem.violated(champion) or curve.step >= curve.of or curve.step < self._next:
            return None
        if not EARLIEST * curve.of <= curve.step <= LATEST * curve.of:
            return None
        self._next = curve.step * PACE
        value, sign = self.problem.compared(champion), self.problem.objective.sign
        threshold = -sign * value - self.problem.objective.margin(value)
        found = chance(curve.points, curve.of, threshold, self._known)
        if found >= self._doubt:
            return None
        last = -sign * curve.points[-1][1]
        return {"step": curve.step, "of": curve.of, "value": last, "chance": round(found, 6), "against": value}
