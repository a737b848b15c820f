"""When the search optimises its measure instead of the goal: the alarm, and what to weigh against it.

The more candidates are tried, the more the best of them owes to errors of the metric that chose it.
A judge that the search never sees tells when that happens. Nothing here decides a claim: the alarm
informs, and the Lagrangian score orders candidates in the search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.errors import ConfigError
from agent.goals import Direction

MIN_GAIN = 0.05
"""The search's gain that the alarm needs, for scores in [0, 1]."""
WEALTH = 5.0
"""The evidence that the alarm needs: a champion that the held-out judge likes as well rings at most 1 time in 5."""
ETA = 0.1
MOST = 10.0
"""The largest multiplier of a bound."""

# ---------------------------------------------------------------- the alarm


@dataclass(frozen=True, slots=True)
class Pressure:
    """How hard the search has pressed on its metric.

    Args:
        log_n: Natural logarithm of the number of candidates evaluated.
        divergence: KL divergence, in nats, of the best of n from a random one.
    """

    log_n: float
    divergence: float


def pressure(n: int) -> Pressure:
    """The pressure of choosing the best of n candidates: log n, and the divergence log n - (n - 1) / n.

    Source: Gao, Schulman and Hilton, Scaling laws for reward model overoptimization (2023), section 2.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"the pressure of {n} candidates does not exist; at least 1 is needed")
    return Pressure(math.log(n), math.log(n) - (n - 1) / n)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the alarm says.

    Args:
        rings: Whether the search gains what the held-out judge loses.
        gain: Of the search score since the last release; positive is better.
        held_out: Mean difference by the held-out judge; positive when it prefers the champion. None without any.
        wealth: Evidence that the held-out judge prefers what was released; 1 is none.
        pressure: By the number of candidates evaluated.
        sentence: All of this for people.
    """

    rings: bool
    gain: float
    held_out: float | None
    wealth: float
    pressure: Pressure
    sentence: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Rings when the search score has risen since the last release and a judge that the search never saw
    shows a loss. It is a warning with an error rate of 1 / wealth, not a proof of harm.

    Args:
        released: The search score at the last release.
        direction: In which the search score gets better.
        min_gain: The search's gain that it needs, in the score's unit.
        wealth: The reversed betting wealth on the held-out judge that it needs, above 1.

    Raises:
        ConfigError: `wealth` is not above 1.
    """

    released: float
    direction: Direction = "maximize"
    min_gain: float = MIN_GAIN
    wealth: float = WEALTH

    def __post_init__(self) -> None:
        if not self.wealth > 1:
            raise ConfigError(f"alarm: wealth: found {self.wealth!r}, allowed is a number above 1")

    def check(self, candidates: int, score: float, differences: Sequence[float]) -> Reading:
        """Read the alarm.

        Args:
            candidates: Evaluated so far, at least 1.
            score: The champion's search score.
            differences: By the held-out judge or a human, champion minus released, in [-1, 1]; positive
                when the champion is better. All since the last release, in order of judgement.
        """
        from agent.gate.wealth import log_wealth  # numpy comes with it

        after = score - self.released
        gain = after if self.direction == "maximize" else -after
        n = len(differences)
        evidence = math.exp(min(700.0, float(log_wealth([-d for d in differences])[-1]))) if n else 1.0
        mean = math.fsum(differences) / n if n else None
        pressed = pressure(candidates)
        # A gain that is the difference of two decimals may miss the limit by a rounding.
        rings = gain >= self.min_gain - 1e-12 and evidence >= self.wealth
        heard = (
            f"the held-out judge finds {mean:+.3g} over {n} examples" if n else "the held-out judge has seen nothing"
        )
        facts = (
            f"since the last release the search score gained {gain:+.3g} and {heard}"
            f" (evidence of a loss {evidence:.3g} where {self.wealth:g} is needed;"
            f" {candidates} candidates, log {pressed.log_n:.2f})"
        )
        sentence = (
            f"Overoptimisation: {facts}. The search exploits its metric; look at its champion, or change the metric."
            if rings
            else f"No sign of overoptimisation: {facts}."
        )
        return Reading(rings, gain, mean, evidence, pressed, sentence)

    def after_release(self, score: float) -> Alarm:
        """The alarm after a release at this search score; the differences begin anew."""
        return replace(self, released=score)


# ---------------------------------------------------------------- the search score


def _sign(direction: Direction) -> int:
    if direction not in ("minimize", "maximize"):
        raise ConfigError(f"direction: found {direction!r}, allowed is minimize or maximize")
    return 1 if direction == "maximize" else -1


@dataclass(frozen=True, slots=True)
class Bound:
    """A metric that should reach a threshold, and has a price while it does not.

    Args:
        name: Of the metric.
        threshold: τ: at least this when larger is better, at most this when smaller is.
        direction: In which the metric gets better.
        nu: Its multiplier, 0 to 10.
    """

    name: str
    threshold: float
    direction: Direction = "maximize"
    nu: float = 1.0

    def __post_init__(self) -> None:
        _sign(self.direction)
        if not 0 <= self.nu <= MOST:
            raise ConfigError(f"{self.name}: nu: found {self.nu!r}, allowed is 0 to {MOST:g}")

    def term(self, mean: float) -> float:
        """ν (μ - τ): what it adds to a score that is better when larger."""
        return self.nu * _sign(self.direction) * (mean - self.threshold)

    def updated(self, mean: float, sd: float, eta: float) -> Bound:
        """ν ← clip(ν + η (τ - μ) / σ, 0, 10); where there is no spread, any violation is the largest."""
        short = _sign(self.direction) * (self.threshold - mean)
        if sd < 0:
            raise ValueError(f"{self.name}: a standard deviation of {sd:g} does not exist")
        step = eta * short / sd if sd else math.copysign(MOST, short) if short else 0.0
        return replace(self, nu=min(MOST, max(0.0, self.nu + step)))


@dataclass(frozen=True, slots=True)
class Proxy:
    """A metric that is worth following up to a point, and misleads beyond it.

    Its weight tanh(ν) fades as the metric stays at the point, and turns negative when it stays beyond.

    Args:
        name: Of the metric.
        peak: θ: the value at which held-out quality is best.
        direction: In which the metric gets better.
        nu: Its multiplier.
    """

    name: str
    peak: float
    direction: Direction = "maximize"
    nu: float = 0.0

    def __post_init__(self) -> None:
        _sign(self.direction)

    @property
    def weight(self) -> float:
        """tanh(ν), in (-1, 1)."""
        return math.tanh(self.nu)

    def term(self, mean: float) -> float:
        """tanh(ν) (μ - θ): what it adds to a score that is better when larger."""
        return self.weight * _sign(self.direction) * (mean - self.peak)

    def updated(self, mean: float, eta: float) -> Proxy:
        """ν ← ν + η (θ - μ)."""
        return replace(self, nu=self.nu + eta * _sign(self.direction) * (self.peak - mean))


@dataclass(frozen=True, slots=True)
class Lagrangian:
    """One number to order candidates by in the search: the objective, and a price for what must not suffer.

    l(c) = μ_0 + Σ ν_j (μ_j - τ_j) + Σ tanh(ν_j) (μ_j - θ_j), every metric turned so that larger is
    better. The gate checks constraints on its own and never reads this.

    Source: Lagrangian duality; multipliers of proxies from Moskovitz et al., Confronting reward model
    overoptimization with constrained RLHF (2023), section 4.

    Args:
        objective: Name of μ_0.
        direction: In which the objective gets better.
        bounds: Metrics with a threshold.
        proxies: Metrics that are useful up to a point.
        eta: Step of the multipliers, above 0.

    Raises:
        ConfigError: A metric occurs twice, or `eta` is not above 0.
    """

    objective: str
    direction: Direction = "maximize"
    bounds: tuple[Bound, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    eta: float = ETA

    def __post_init__(self) -> None:
        _sign(self.direction)
        names = [self.objective, *(item.name for item in self._terms)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"the search score names {', '.join(twice)} twice", hint="one role for each metric")
        if not self.eta > 0:
            raise ConfigError(f"eta: found {self.eta!r}, allowed is a number above 0")

    @property
    def _terms(self) -> tuple[Bound | Proxy, ...]:
        return (*self.bounds, *self.proxies)

    def score(self, means: Mapping[str, float]) -> float:
        """The search score of a candidate; larger is better, whatever the directions are.

        Args:
            means: Mean by metric.

        Raises:
            ValueError: A metric is missing.
        """
        self._check(means)
        own = _sign(self.direction) * means[self.objective]
        return math.fsum([own, *(item.term(means[item.name]) for item in self._terms)])

    def updated(self, means: Mapping[str, float], sds: Mapping[str, float]) -> Lagrangian:
        """With the multipliers after a change of the champion.

        Args:
            means: The new champion's mean by metric.
            sds: Standard deviation over examples by metric with a threshold.

        Raises:
            ValueError: A metric is missing.
        """
        self._check(means)
        for item in self.bounds:
            if item.name not in sds:
                raise ValueError(f"the standard deviation of {item.name} is missing")
        return replace(
            self,
            bounds=tuple(item.updated(means[item.name], sds[item.name], self.eta) for item in self.bounds),
            proxies=tuple(item.updated(means[item.name], self.eta) for item in self.proxies),
        )

    def _check(self, means: Mapping[str, float]) -> None:
        for name in (self.objective, *(item.name for item in self._terms)):
            if name not in means:
                raise ValueError(f"the mean of {name} is missing")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            **asdict(self),
            "bounds": [asdict(item) for item in self.bounds],
            "proxies": [asdict(item) for item in self.proxies],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lagrangian:
        """The score that `to_json` wrote."""
        given = dict(data)
        bounds = tuple(Bound(**item) for item in given.pop("bounds"))
        return cls(bounds=bounds, proxies=tuple(Proxy(**item) for item in given.pop("proxies")), **given)
