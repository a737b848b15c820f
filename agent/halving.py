"""Measuring with a part of the effort first: the rungs, and who goes up one.

A new candidate is measured at the lowest rung. It goes up while it is among the best 1/eta of all that were
measured at its rung so far, without waiting for a rung to fill; one that is not may still go up later, when
more have been measured there. The top rung is the full effort, and only there is anything compared with the
champion.

Source: asynchronous successive halving, Li et al., A System for Massively Parallel Hyperparameter Tuning
(MLSys 2020, arXiv 1810.05934), section 3 and algorithm 2.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from agent.errors import ConfigError

PARTS = 10**9
"""Parts of an evaluation in which effort is counted, so that sums are exact."""
SMALLEST = 0.001
MOST = 1e9
HINTS = {
    "fidelity": "declare it: def measure(candidate, fidelity), where fidelity is the share of the full effort to spend",
    "partial": 'declare it: def measure(candidate, partial), and call partial({"loss": …, "step": 12, "of": 40})',
}
"""How an evaluator comes to hear of what it needs."""


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How a problem may be measured with less than the full effort. The evaluator is told its share as `fidelity`.

    Args:
        lowest: Smallest share of the effort that still says something, in [0.001, 1]; 1 for full measurements only.
            The rungs are 1, 1/eta, 1/eta² … as far as they are not below it.
        eta: One in so many goes up a rung, at least 1.5.
        unit: What the effort is counted in, such as "epochs"; for people.
        full: The full effort in that unit, such as 81; also the number of steps of a learning curve whose
            partial results do not say `of` how many they are.
        stop: Whether a measurement whose learning curve is hopeless is stopped.
        doubt: It is stopped when its chance to beat the champion is below this, in (0, 0.5].

    Raises:
        ConfigError: A value is out of its range, or nothing at all is asked for.
    """

    lowest: float = 1.0
    eta: float = 3.0
    unit: str = ""
    full: float | None = None
    stop: bool = False
    doubt: float = 0.05

    def __post_init__(self) -> None:
        for name, right, allowed in (
            ("lowest", _number(self.lowest) and SMALLEST <= self.lowest <= 1, f"a share from {SMALLEST:g} to 1"),
            ("eta", _number(self.eta) and 1.5 <= self.eta <= 100, "a number from 1.5 to 100"),
            ("unit", isinstance(self.unit, str), "a word, such as epochs"),
            ("full", self.full is None or (_number(self.full) and 0 < self.full <= MOST), "a number above 0"),
            ("stop", isinstance(self.stop, bool), "true or false"),
            ("doubt", _number(self.doubt) and 0 < self.doubt <= 0.5, "a number above 0 and at most 0.5"),
        ):
            if not right:
                raise ConfigError(f"fidelity.{name}: found {getattr(self, name)!r}, allowed is {allowed}")
        if len(self.rungs) == 1 and self.lowest < 1:
            raise ConfigError(
                f"fidelity.lowest: found {self.lowest:g}, which leaves no rung below the full effort",
                hint=f"allow 1/eta ({1 / self.eta:.3g}) or less, or a smaller eta",
            )
        if not self.stop and self.lowest == 1:
            raise ConfigError(
                "fidelity: nothing is asked for",
                hint="give lowest, such as 0.111 (rungs at 1/9, 1/3 and 1), or stop = true for learning curves",
            )

    @property
    def rungs(self) -> tuple[float, ...]:
        """Shares of the effort from the lowest to 1, rounded down: eta of them never cost more than the next one."""
        out = [PARTS]
        while self.eta ** -len(out) >= self.lowest * (1 - 1e-9):
            out.append(math.floor(out[-1] / self.eta + 1e-6))
        return tuple(parts / PARTS for parts in reversed(out))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the evaluator must hear of."""
        return (*(("fidelity",) if len(self.rungs) > 1 else ()), *(("partial",) if self.stop else ()))

    @property
    def bracket(self) -> float:
        """Evaluations that it takes until one candidate is measured in full."""
        wanted, total = 1, 0.0
        for share in reversed(self.rungs):
            total += wanted * share
            wanted = math.ceil(self.eta * wanted - 1e-9)
        return total

    def counts(self, evaluations: float) -> list[int]:
        """How many candidates so many evaluations measure on each rung, from the lowest, when they go on for long."""
        shares = [self.eta**-place for place in range(len(self.rungs))]
        each = sum(rung * share for rung, share in zip(self.rungs, shares, strict=True))
        return [int(evaluations / each * share + 1e-6) for share in shares]

    def words(self, share: float) -> str:
        """A share of the effort for people: "9 of 81 epochs" or "11 % of the effort"."""
        if self.full is not None:
            return f"{share * self.full:.3g} of {self.full:g} {self.unit or 'steps'}"
        return f"{100 * share:.2g} % of the effort"

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON."""
        return asdict(self)


class Step(NamedTuple):
    """What a rung says of a candidate: it goes up `to` a rung, or stays where it is (None)."""

    candidate: str
    fidelity: float
    to: float | None
    rank: int
    of: int


class Halving:
    """Who was measured at which rung, and who goes up: a fold over measurements and rulings.

    Attributes:
        rulings: What the rungs say and nobody has recorded yet, in order.
    """

    def __init__(self, fidelity: Fidelity) -> None:
        self.fidelity = fidelity
        self.rungs = fidelity.rungs
        self.rulings: deque[Step] = deque()
        self._ranked: dict[float, list[tuple[int, float, int, str]]] = {rung: [] for rung in self.rungs[:-1]}
        self._climbed: dict[float, set[str]] = {rung: set() for rung in self.rungs[:-1]}

    def add(self, candidate: str, fidelity: float, violated: int, cost: float) -> None:
        """A candidate was measured at a rung below the top.

        Args:
            candidate: Its id.
            fidelity: The rung.
            violated: Constraints that do not hold there; who keeps more of them ranks higher.
            cost: Its value there, turned so that smaller is better.
        """
        ranked, climbed = self._ranked[fidelity], self._climbed[fidelity]
        bisect.insort(ranked, (violated, cost, len(ranked), candidate))
        to = self.rungs[self.rungs.index(fidelity) + 1]
        best = ranked[: int(len(ranked) / self.fidelity.eta + 1e-9)]
        for place, (_, _, _, name) in enumerate(best, 1):
            if name not in climbed:
                climbed.add(name)
                self.rulings.append(Step(name, fidelity, to, place, len(ranked)))
        if candidate not in climbed:
            rank = next(place for place, item in enumerate(ranked, 1) if item[3] == candidate)
            self.rulings.append(Step(candidate, fidelity, None, rank, len(ranked)))

    def ruled(self, candidate: str, fidelity: float) -> float | None:
        """A ruling was recorded; returns the rung that the candidate goes up to, if it does."""
        if self.rulings and self.rulings[0][:2] == (candidate, fidelity):
            return self.rulings.popleft().to
        self._climbed[fidelity].add(candidate)  # nothing else was left to try
        return self.rungs[self.rungs.index(fidelity) + 1]

    def spare(self) -> Step | None:
        """The best of those that were left behind, on the highest rung that has any."""
        for place in range(len(self.rungs) - 2, -1, -1):
            rung = self.rungs[place]
            ranked = self._ranked[rung]
            for rank, (_, _, _, name) in enumerate(ranked, 1):
                if name not in self._climbed[rung]:
                    return Step(name, rung, self.rungs[place + 1], rank, len(ranked))
        return None

    def reason(self, step: Step) -> str:
        """A ruling in words."""
        where, eta = self.fidelity.words(step.fidelity), self.fidelity.eta
        if step.to is None:
            return f"stopped at {where}: rank {step.rank} of {step.of} there"
        if step.rank <= step.of / eta + 1e-9:
            return f"goes on to {self.fidelity.words(step.to)}: rank {step.rank} of {step.of} at {where}"
        return (
            f"goes on to {self.fidelity.words(step.to)}, as nothing else is left to try: rank {step.rank} of {step.of}"
            f" at {where}"
        )
