"""The problem: what may change, how it is measured, and what counts as better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.errors import ConfigError
from agent.evaluation import LARGEST, Evaluator, Limits, Output, Request, Score
from agent.space import Candidate, Space, canonical, digest

Direction = Literal["minimize", "maximize"]
Split = Literal["train", "val", "test"]


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
        floor: The worst value, which an example counts with when it fails; without one, a
            failed example fails its candidate.
    """

    name: str
    direction: Direction = "minimize"
    unit: str = ""
    min_effect: float = 0.0
    min_effect_relative: float = 0.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise ConfigError(f"direction: found {self.direction!r}, allowed is minimize or maximize")
        for name in ("min_effect", "min_effect_relative"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: found {value!r}, allowed is a number of at least 0")
        if self.floor is not None and not _number(self.floor):
            raise ConfigError(f"floor: found {self.floor!r}, allowed is a number from {-LARGEST:g} to {LARGEST:g}")

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
    """A number that must stay within bounds; a candidate that violates one is infeasible, never "very bad"."""

    name: str
    max: float | None = None
    min: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.max is None and self.min is None:
            raise ConfigError(f"constraint {self.name}: a bound is missing", hint="give max = … or min = …")
        for name, bound in (("max", self.max), ("min", self.min)):
            if bound is not None and not _number(bound):
                raise ConfigError(f"constraint {self.name}: {name}: found {bound!r}, allowed is a finite number")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ConfigError(f"constraint {self.name}: min ({self.min!r}) is above max ({self.max!r})")

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.max is None or value <= self.max) and (self.min is None or value >= self.min)

    def __str__(self) -> str:
        parts = [
            f"at most {self.max:g}" if self.max is not None else "",
            f"at least {self.min:g}" if self.min is not None else "",
        ]
        return f"{self.name} {' and '.join(p for p in parts if p)}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data.

    Args:
        id: Unique among the rows.
        row: JSON content, as the evaluator gets it.
        cluster: What the row belongs to (a user, a document, a repository); rows of one cluster are
            no independent evidence. "" means that it stands alone.
        split: train (the search sees it), val (the gate alone reads it) or test (opened after the end).
        answer: What a candidate must not contain when the row is held out; None when there is none.
        anchor: Whether no champion may do worse on it than the one before.
    """

    id: str
    row: Any
    cluster: str = ""
    split: Split = "train"
    answer: Any = None
    anchor: bool = False


@dataclass(frozen=True)
class Problem:
    """Space, evaluator, objectives, constraints and data, with what people and models should know about them.

    Args:
        name: Short name; run folders carry it.
        space: The parameters.
        evaluator: Produces outputs and judges them.
        objectives: The first is the one that search and gate compare; the others are recorded and shown.
        constraints: All must hold.
        data: Rows; each candidate is measured on every row, and its value is the mean.
        deterministic: Whether measuring twice gives the same number. Then comparisons are exact and
            nothing is measured twice.
        description: What the problem is about, for the proposer.
        folder: Where files and evaluator modules are.
        limits: What one evaluation may take.
        prices: Dollars per million tokens by `provider:model`: {"input": …, "output": …}.
    """

    name: str
    space: Space
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    data: tuple[Example, ...] = ()
    deterministic: bool = False
    description: str = ""
    folder: Path = field(default_factory=Path.cwd)
    limits: Limits = field(default_factory=Limits)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ConfigError("no objective is declared", hint="name at least one number to minimize or maximize")
        names = list(self.names)
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"declared twice as objective or constraint: {', '.join(sorted(twice))}")
        ids = [example.id for example in self.data]
        if len(set(ids)) != len(ids):
            raise ConfigError("two rows of the data have the same id", hint="ids must be unique")
        object.__setattr__(self, "space", self.space.bound(self.folder))

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

    def initial(self) -> Candidate:
        """The starting candidate: every parameter's default."""
        return self.space.initial()

    def to_json(self) -> dict[str, Any]:
        """What the journal keeps of the problem: enough to fold, show and export a run without the problem folder."""
        return {
            "name": self.name,
            "description": self.description,
            "space": self.space.spec(),
            "objectives": [asdict(item) for item in self.objectives],
            "constraints": [asdict(item) for item in self.constraints],
            "examples": [example.id for example in self.data],
            "deterministic": self.deterministic,
            "evaluator": dict(self.evaluator.spec or {}),
            "exclusive": self.evaluator.exclusive,
            "folder": str(self.folder),
            "limits": asdict(self.limits),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Problem:
        """The problem that `to_json` wrote, without the means to measure and without the rows' contents.

        Folding a journal needs no more, so a run can be shown where its evaluator is not installed.
        """
        return cls(
            name=data["name"],
            space=Space.from_spec(data["space"]),
            evaluator=_Recorded(data["exclusive"], data["evaluator"]),
            objectives=tuple(Objective(**item) for item in data["objectives"]),
            constraints=tuple(Constraint(**item) for item in data["constraints"]),
            data=tuple(Example(item, None) for item in data["examples"]),
            deterministic=data["deterministic"],
            description=data["description"],
            folder=Path(data["folder"]),
            limits=Limits(**data["limits"]),
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hashes that a resume compares: the evaluator's source, the data, and everything else of the problem."""
        plain = self.to_json()
        for key in ("name", "description", "folder", "evaluator"):  # these may change without changing what is measured
            plain.pop(key)
        return {
            "evaluator": self.evaluator.fingerprint,
            "data": digest([[example.id, example.row] for example in self.data]),
            "problem": digest(plain),
        }


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a journal knows of an evaluator."""

    exclusive: bool
    spec: Mapping[str, Any]
    fingerprint: str = ""
    blocking: bool = False
    keeps_limits: bool = False

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        return Output.failed("error", "this problem was read from a journal; open its folder to measure")

    def score(self, output: Output) -> Score:
        raise ValueError("this problem was read from a journal; open its folder to measure")


def examples(rows: Sequence[Any]) -> tuple[Example, ...]:
    """Data rows with ids: a row's own "id", or else the hash of its content.

    Raises:
        ConfigError: A row is not JSON; names its number.
    """
    out = []
    for number, row in enumerate(rows, 1):
        try:
            canonical(row)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"data row {number} is not JSON: {error}", hint="use strings, numbers, lists and mappings"
            ) from None
        own = row.get("id") if isinstance(row, Mapping) else None
        out.append(Example(str(own) if own is not None else digest(row), row))
    return tuple(out)
