"""What counts as better: objectives, constraints, and which of them a claim is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from agent.errors import ConfigError
from agent.evaluation import LARGEST

Direction = Literal["minimize", "maximize"]
Claim = Literal["primary", "sum", "dominance"]
Kind = Literal["bound", "limit", "noninferior", "alarm"]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


@dataclass(frozen=True, slots=True)
class Objective:
    """A number to make better.

    Args:
        name: As the evaluator reports it.
        direction: "minimize" or "maximize".
        unit: For people, such as "ms".
        min_effect: The smallest improvement worth having, in the objective's unit.
        min_effect_relative: The same as a share of the champion's value; the larger of the two counts.
        floor: What an example counts with when it fails. Without one that is `low` or `high`, whichever is worse;
            without those too, a failed example fails its candidate.
        low: The smallest value that an example can have.
        high: The largest. The mean of a graded score can only be claimed when both are known; values
            beyond them count as the bound.
        weight: Its weight where the problem claims a weighted sum of its objectives.
        numerator: For a number of the whole set of rows, such as F1: weights of what the evaluator reports of a
            row. The claim is then about the quotient of the two weighted sums; the search goes by the
            objective's own value on each row.
        denominator: The weights below the line.
        most: The largest sum that the parts of one row can have, none of which is below 0. Without it nothing can be
            proven of a quotient: a single row that the sample lacks could turn it round.
    """

    name: str
    direction: Direction = "minimize"
    unit: str = ""
    min_effect: float = 0.0
    min_effect_relative: float = 0.0
    floor: float | None = None
    low: float | None = None
    high: float | None = None
    weight: float = 1.0
    numerator: Mapping[str, float] | None = None
    denominator: Mapping[str, float] | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise ConfigError(f"direction: found {self.direction!r}, allowed is minimize or maximize")
        for name in ("min_effect", "min_effect_relative"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: found {value!r}, allowed is a number of at least 0")
        for name in ("floor", "low", "high"):
            value = getattr(self, name)
            if value is not None and not _number(value):
                raise ConfigError(f"{name}: found {value!r}, allowed is a number from {-LARGEST:g} to {LARGEST:g}")
        if (self.low is None) != (self.high is None):
            raise ConfigError(f"objective {self.name}: low and high belong together", hint="give both, or neither")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ConfigError(f"objective {self.name}: low ({self.low!r}) must be below high ({self.high!r})")
        if (self.numerator is None) != (self.denominator is None):
            raise ConfigError(f"objective {self.name}: numerator and denominator belong together", hint="give both")
        for part in (self.numerator or {}, self.denominator or {}):
            if not all(isinstance(name, str) and _number(value) for name, value in part.items()):
                raise ConfigError(f"objective {self.name}: found {dict(part)!r}, allowed are names with weights")
        if self.most is not None:
            parts = [*(self.numerator or {}).values(), *(self.denominator or {}).values()]
            if not parts or min(parts) < 0:
                raise ConfigError(f"objective {self.name}: most needs a numerator and a denominator, no weight below 0")
            if not (_number(self.most) and self.most > 0):
                raise ConfigError(f"objective {self.name}: most: found {self.most!r}, allowed is a number above 0")
        if not (_number(self.weight) and self.weight > 0):
            raise ConfigError(f"weight: found {self.weight!r}, allowed is a number above 0")

    @property
    def failed(self) -> float | None:
        """What a failed example counts with; None when it fails the candidate."""
        if self.floor is not None:
            return self.floor
        return self.low if self.sign > 0 else self.high

    @property
    def sign(self) -> int:
        """+1 when larger is better, -1 when smaller is."""
        return 1 if self.direction == "maximize" else -1

    def gain(self, after: float, before: float) -> float:
        """How much better `after` is than `before`, in the objective's unit; negative when it is worse."""
        return self.sign * (after - before)

    def margin(self, reference: float) -> float:
        """The improvement over `reference` that is needed to count: the larger of the two minimum effects."""
        return max(self.min_effect, self.min_effect_relative * abs(reference))


@dataclass(frozen=True, slots=True)
class Constraint:
    """A number that must stay within bounds; a candidate that violates one is infeasible, never "very bad".

    Args:
        name: As the evaluator reports it.
        max: Upper bound of its mean.
        min: Lower bound of its mean.
        unit: For people.
        kind: What the exam asks of it. "bound": the mean that is observed lies within the bounds. "limit": it is
            shown, at the exam's level, that the true mean does. "noninferior": it is shown that the
            champion is not worse than the released candidate by more than `margin`. "alarm": nothing speaks
            strongly for its being worse, which is cheap and excludes no harm.
        direction: Which way is worse, for "noninferior" and "alarm": they need no bounds.
        margin: What may be lost at most, in the constraint's unit.
        low: The smallest value that one row can have; all kinds but "bound" need the range.
        high: The largest.
    """

    name: str
    max: float | None = None
    min: float | None = None
    unit: str = ""
    kind: Kind = "bound"
    direction: Direction = "maximize"
    margin: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("bound", "limit", "noninferior", "alarm"):
            raise ConfigError(
                f"constraint {self.name}: kind: found {self.kind!r}, allowed is bound, limit, noninferior or alarm"
            )
        if self.direction not in ("minimize", "maximize"):
            raise ConfigError(
                f"constraint {self.name}: direction: found {self.direction!r}, allowed is minimize or maximize"
            )
        if self.kind in ("bound", "limit") and self.max is None and self.min is None:
            raise ConfigError(f"constraint {self.name}: a bound is missing", hint="give max = … or min = …")
        for name, bound in (("max", self.max), ("min", self.min), ("low", self.low), ("high", self.high)):
            if bound is not None and not _number(bound):
                raise ConfigError(f"constraint {self.name}: {name}: found {bound!r}, allowed is a finite number")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ConfigError(
                f"constraint {self.name}: min ({self.min!r}) is above max ({self.max!r})",
                hint="exchange them, or leave one out",
            )
        if not (_number(self.margin) and self.margin >= 0):
            raise ConfigError(f"constraint {self.name}: margin: found {self.margin!r}, allowed is at least 0")
        if self.kind == "bound":
            return
        if self.low is None or self.high is None or self.low >= self.high:
            raise ConfigError(
                f"constraint {self.name}: a {self.kind} needs the range of a row's value",
                hint="give low = … and high = …, such as 0 and 1",
            )
        if self.kind == "noninferior" and self.margin == 0:
            raise ConfigError(
                f"constraint {self.name}: noninferior needs a margin: what may be lost at most",
                hint="margin = 0.05 of a score between 0 and 1 is common; equal candidates never pass without one",
            )

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.max is None or value <= self.max) and (self.min is None or value >= self.min)

    def __str__(self) -> str:
        if self.max is None and self.min is None:
            return f"{self.name} ({self.kind})"
        parts = [
            f"at most {self.max:g}" if self.max is not None else "",
            f"at least {self.min:g}" if self.min is not None else "",
        ]
        return f"{self.name} {' and '.join(p for p in parts if p)}{' ' + self.unit if self.unit else ''}"


class Judging:
    """What race and gate need to know of a problem. `Goals` and `agent.problem.Problem` are this."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    claim: Claim

    @property
    def objective(self) -> Objective:
        """The primary objective."""
        return self.objectives[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers that a measurement must hold."""
        return (*(goal.name for goal in self.objectives), *(item.name for item in self.constraints))

    def violated(self, values: Mapping[str, float]) -> list[Constraint]:
        """The constraints that do not hold."""
        return [item for item in self.constraints if not item.holds(values[item.name])]

    def compared(self, values: Mapping[str, float]) -> float:
        """The number that race and gate compare; larger or smaller is better as for the first objective."""
        if self.claim == "sum":
            total = math.fsum(goal.sign * goal.weight * values[goal.name] for goal in self.objectives)
            return self.objective.sign * total
        return values[self.objective.name]

    @property
    def failure(self) -> float | None:
        """The compared number of a row on which a candidate fails; None when that fails the candidate.

        Where nothing is declared, a larger-is-better score counts as 0.
        """
        values = {}
        for goal in self.objectives:
            worst = goal.failed if goal.failed is not None or goal.sign < 0 else 0.0
            if worst is None:
                return None
            values[goal.name] = worst
        return self.compared(values)

    @property
    def reported(self) -> tuple[str, ...]:
        """All numbers that a measurement must hold, those of quotients included."""
        parts = [name for goal in self.objectives for part in (goal.numerator, goal.denominator) for name in part or ()]
        return tuple(dict.fromkeys([*self.names, *parts]))

    @property
    def spoken(self) -> Objective:
        """The objective as verdicts speak of it: with several, its name says what is claimed."""
        others = ", ".join(goal.name for goal in self.objectives[1:])
        if self.claim == "sum":
            return replace(self.objective, name=f"the weighted sum of {self.objective.name}, {others}", unit="")
        if self.claim == "dominance":
            return replace(self.objective, name=f"{self.objective.name} (together with {others})")
        return self.objective

    @property
    def of_set(self) -> bool:
        """Whether the claim is about a number of the whole set of rows, which no row has by itself."""
        return self.claim == "primary" and self.objective.numerator is not None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range of the compared number on one row, where it is known."""
        if self.claim != "sum":
            goal = self.objective
            return (goal.low, goal.high) if goal.low is not None and goal.high is not None else None
        total = [0.0, 0.0]
        for goal in self.objectives:
            if goal.low is None or goal.high is None:
                return None
            sign = goal.sign * self.objective.sign * goal.weight
            ends = sorted((sign * goal.low, sign * goal.high))
            total = [total[0] + ends[0], total[1] + ends[1]]
        return total[0], total[1]

    def check_goals(self) -> None:
        """Refuse what cannot be claimed.

        Raises:
            ConfigError: No objective, a name twice, an unknown claim, or one that needs more to be declared.
        """
        if not self.objectives:
            raise ConfigError("no objective is declared", hint="name at least one number to minimize or maximize")
        names = list(self.names)
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(
                f"declared twice as objective or constraint: {', '.join(sorted(twice))}",
                hint="give each a name of its own",
            )
        if self.claim not in ("primary", "sum", "dominance"):
            raise ConfigError(f"claim: found {self.claim!r}, allowed is primary, sum or dominance")
        if self.claim != "primary" and len(self.objectives) < 2:
            raise ConfigError(
                f"claim = {self.claim!r} is about several objectives, and there is one",
                hint="declare another objective, or leave claim at primary",
            )
        if self.claim == "dominance":
            for goal in self.objectives:
                if goal.low is None or goal.high is None:
                    raise ConfigError(
                        f"claim = 'dominance': objective {goal.name} has no range",
                        hint="give each objective low and high, such as 0 and 1",
                    )
                if not goal.min_effect < goal.high - goal.low or goal.min_effect_relative:
                    raise ConfigError(
                        f"claim = 'dominance': objective {goal.name}: min_effect is what it may lose, and must be less"
                        f" than its range ({goal.high - goal.low:g}); found {goal.min_effect:g} and"
                        f" min_effect_relative = {goal.min_effect_relative:g}",
                        hint="give min_effect, such as 0.05, and no min_effect_relative",
                    )


@dataclass(frozen=True)
class Goals(Judging):
    """Goals alone, for a gate without a problem around it.

    Args:
        objectives: As in a problem.
        constraints: All must hold.
        claim: As in a problem.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    claim: Claim = "primary"

    def __post_init__(self) -> None:
        self.check_goals()
