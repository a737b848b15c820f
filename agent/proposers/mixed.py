"""The search distribution of a mixed space: a Gaussian of the numbers, and a table of chances for each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.parameters import Categorical, Int, Numeric
from agent.proposers.gaussian import Distribution
from agent.space import Space
from agent.surrogates.points import Array

FIRST = 0.5
"""Chance that a choice is first drawn as the start has it; the rest is even."""
MUTATION = 0.2
"""Smallest standard deviation of a whole number, in steps between its values: others are tried now and then."""
CONFIDENCE = 0.73
"""Chance that a draw takes the most likely value of every choice once they are settled (Hamano et al. 2024)."""


class Choices:
    """Chances of categories, which follow the natural gradient at a speed that its signal allows.

    Adaptive stochastic natural gradient (Akimoto et al. 2019, "Adaptive Stochastic Natural Gradient Method for
    One-Shot Neural Architecture Search", ICML, algorithm 1), with the margin of CatCMA (Hamano et al. 2024,
    "CatCMA: Stochastic Optimization for Mixed-Category Problems", arXiv 2405.09962, section 3).

    Args:
        chances: For each choice, the chance of each category.
        path: Evolution path of the gradient, in coordinates where all directions are alike.
        weight: The path's expected squared length under no signal.
        trust: Divides the step; falls as long as the gradient keeps its direction.
    """

    def __init__(
        self, chances: Sequence[Array], path: Array | None = None, weight: float = 0.0, trust: float = 1.0
    ) -> None:
        self.chances = list(chances)
        self.path = np.zeros(sum(len(row) - 1 for row in self.chances)) if path is None else path
        self.weight, self.trust = weight, trust

    @classmethod
    def around(cls, start: Sequence[int], counts: Sequence[int]) -> Choices:
        """Chances that favour the categories `start`, of `counts` each."""
        rows = [np.full(count, (1 - FIRST) / count) for count in counts]
        for row, index in zip(rows, start, strict=True):
            row[index] += FIRST
        return cls(rows)

    def to_json(self) -> dict[str, Any]:
        """All of it, exactly."""
        return {
            "chances": [row.tolist() for row in self.chances],
            "path": self.path.tolist(),
            "weight": self.weight,
            "trust": self.trust,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choices:
        """The chances that `to_json` wrote."""
        rows = [np.array(row, dtype=float) for row in data["chances"]]
        return cls(rows, np.array(data["path"], dtype=float), data["weight"], data["trust"])

    def draw(self, rng: np.random.Generator) -> list[int]:
        """A category for each choice."""
        # The sum of a row may be a little below 1, so the last category takes what is left.
        return [min(len(row) - 1, int(np.searchsorted(row.cumsum(), rng.random(), "right"))) for row in self.chances]

    def tell(self, picks: Sequence[Sequence[int]], weights: Array) -> None:
        """Learn from the better half of a generation.

        Args:
            picks: Of each of its members, the categories.
            weights: (m,) their weights, which are positive and sum to 1.
        """
        gradients, lengths = [], []
        for place, row in enumerate(self.chances):
            seen = np.bincount([pick[place] for pick in picks], weights=weights, minlength=len(row))
            gradient = seen - row
            gradients.append(gradient)
            head, root = gradient[:-1], np.sqrt(row)
            lengths.append(head / root[:-1] + root[:-1] * head.sum() / (row[-1] + root[-1]))
        direction = np.concatenate(lengths)
        length = float(np.linalg.norm(direction))
        if length < 1e-12:
            return  # the members say exactly what the chances say
        step = 1 / self.trust
        for place, gradient in enumerate(gradients):
            self.chances[place] = self._bounded(self.chances[place] + step / length * gradient)
        beta = min(1.0, step / math.sqrt(len(direction)))
        self.path = (1 - beta) * self.path + math.sqrt(beta * (2 - beta)) * direction / length
        self.weight = (1 - beta) ** 2 * self.weight + beta * (2 - beta)
        self.trust *= math.exp(beta * (self.weight - float(self.path @ self.path) / 1.5))

    def _bounded(self, row: Array) -> Array:
        """Chances that sum to 1 and leave each category a little."""
        least = (1 - CONFIDENCE ** (1 / len(self.chances))) / (len(row) - 1)
        row = np.maximum(row, least)
        above = row - least
        bounded: Array = least + above * ((1 - least * len(row)) / above.sum())
        return bounded


class Mixed:
    """A distribution over the unit cube of a space's numbers and choices.

    Args:
        space: Its whole numbers keep a smallest spread; whole numbers with two values count as choices.
        numbers: The Gaussian of the numbers, if there are any.
        choices: The chances of the choices, if there are any.
        generation: How often it was told.
    """

    def __init__(self, space: Space, numbers: Distribution | None, choices: Choices | None, generation: int = 0):
        self.numbers, self.choices, self.generation = numbers, choices, generation
        self.places, self.counts = split(space)
        self._wholes = {
            row: parameter
            for row, place in enumerate(self.places)
            if isinstance(parameter := space[space.numeric[place]], Int)
        }

    @classmethod
    def around(cls, space: Space, start: Array, sigma: float) -> Mixed:
        """The first distribution, with its middle at (d,) `start`."""
        places, counts = split(space)
        numbers = Distribution(start[places].copy(), sigma) if places else None
        picks = [category(float(start[place]), count) for place, count in counts.items()]
        return cls(space, numbers, Choices.around(picks, list(counts.values())) if counts else None)

    def to_json(self) -> dict[str, Any]:
        """All of it, exactly."""
        return {
            "numbers": None if self.numbers is None else self.numbers.to_json(),
            "choices": None if self.choices is None else self.choices.to_json(),
            "generation": self.generation,
        }

    @classmethod
    def from_json(cls, space: Space, data: Mapping[str, Any]) -> Mixed:
        """The distribution that `to_json` wrote."""
        numbers = None if data["numbers"] is None else Distribution.from_json(data["numbers"])
        choices = None if data["choices"] is None else Choices.from_json(data["choices"])
        return cls(space, numbers, choices, data["generation"])

    @property
    def spread(self) -> float:
        """The largest standard deviation of a number; 1 where there are only choices."""
        return 1.0 if self.numbers is None else self.numbers.spread

    @property
    def over(self) -> bool:
        """Whether nothing more can be expected of the numbers. Choices never come to an end: each keeps a chance."""
        return self.numbers is not None and self.numbers.over

    def draw(self, rng: np.random.Generator) -> Array:
        """(d,) a point of the unit cube; choices are in the middle of their cells."""
        out = np.zeros(len(self.places) + len(self.counts))
        if self.numbers is not None:
            out[self.places] = self.numbers.draw(rng)
        if self.choices is not None:
            for (place, count), index in zip(self.counts.items(), self.choices.draw(rng), strict=True):
                out[place] = (index + 0.5) / count
        return out

    def shortened(self, point: Array) -> Array:
        """A foreign point with its numbers pulled to where the distribution could have drawn them."""
        out = point.copy()
        if self.numbers is not None:
            out[self.places] = self.numbers.shortened(point[self.places])
        return out

    def tell(self, points: Array, foreign: Array) -> None:
        """Learn from a generation.

        Args:
            points: (m, d) its members, best first.
            foreign: (m,) whether each was not drawn from this distribution.
        """
        self.generation += 1
        if self.numbers is not None:
            self.numbers.tell(points[:, self.places], foreign)
            self.numbers.widen(self._least(self.numbers.mean))
        if self.choices is not None:
            good = len(points) // 2
            weights = math.log((len(points) + 1) / 2) - np.log(np.arange(1, good + 1))
            picks = [[category(float(row[place]), count) for place, count in self.counts.items()] for row in points]
            self.choices.tell(picks[:good], weights / weights.sum())

    def _least(self, mean: Array) -> Array:
        """Smallest standard deviations: whole numbers have to leave their value now and then."""
        out = np.zeros(len(self.places))
        for row, parameter in self._wholes.items():
            value = parameter.decode(float(mean[row]))
            low, high = max(value - 1, parameter.low), min(value + 1, parameter.high)
            out[row] = MUTATION * (parameter.encode(high) - parameter.encode(low)) / (high - low)
        return out


def split(space: Space) -> tuple[list[int], dict[int, int]]:
    """The coordinates that are numbers, and those that are choices with how many categories each has."""
    places: list[int] = []
    counts: dict[int, int] = {}
    for place, name in enumerate(space.numeric):
        parameter = space[name]
        assert isinstance(parameter, Numeric)
        if isinstance(parameter, Categorical) or parameter.levels == 2:
            counts[place] = parameter.levels or 0
        else:
            places.append(place)
    return places, counts


def category(unit: float, count: int) -> int:
    """The category at a place of the unit interval."""
    return min(count - 1, int(unit * count))
