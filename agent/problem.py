"""The problem: what may change, how it is measured, and what counts as better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.errors import ConfigError
from agent.evaluation import Evaluator, Limits, Output, Request, Score
from agent.goals import Claim, Constraint, Judging, Objective
from agent.halving import HINTS, Fidelity
from agent.space import Candidate, Space, digest
from agent.texts import Code

Split = Literal["train", "val", "test"]
Target = Literal["suite", "population"]


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
class Problem(Judging):
    """Space, evaluator, objectives, constraints and data, with what people and models should know about them.

    Args:
        name: Short name; run folders carry it.
        space: The parameters.
        evaluator: Produces outputs and judges them.
        objectives: What is compared depends on `claim`; the search's proposers read the first.
        constraints: All must hold.
        data: Rows, with their splits.
        deterministic: Whether measuring twice gives the same number.
        target: "suite": the rows are the goal itself; each candidate is measured on every row, its value is
            the mean, and with a deterministic evaluator comparisons are exact. "population": the rows are a
            sample, the claim is about rows like them, and only rows that no search saw can prove it.
        claim: What is claimed when there are several objectives: the first one ("primary"), their weighted sum
            ("sum"), or that none is worse and they are better together ("dominance").
        description: What the problem is about, for the proposer.
        folder: Where files and evaluator modules are.
        limits: What one evaluation may take.
        labels: Fields of a row that only label it and do not make it another row.
        prices: Dollars per million tokens by `provider:model`: {"input": …, "output": …}.
        fidelity: How candidates may be measured with less than the full effort; None for full measurements only.
        guidance: What the person who runs the search has asked for, a line each, as prompts show it. No part of the
            problem, and in no journal's description of it: see `agent.wishes`.
        bounded: Whether programs have a longest length where the space sets none; runs begun before there was one
            have none.
    """

    name: str
    space: Space
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    data: tuple[Example, ...] = ()
    deterministic: bool = False
    target: Target = "suite"
    claim: Claim = "primary"
    description: str = ""
    folder: Path = field(default_factory=Path.cwd)
    limits: Limits = field(default_factory=Limits)
    labels: tuple[str, ...] = ("id",)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    guidance: tuple[str, ...] = ()
    bounded: bool = True

    def __post_init__(self) -> None:
        self.check_goals()
        self._check_fidelity()
        ids = [example.id for example in self.data]
        if len(set(ids)) != len(ids):
            raise ConfigError("two rows of the data have the same id", hint="ids must be unique")
        if self.target not in ("suite", "population"):
            raise ConfigError(f"target: found {self.target!r}, allowed is suite or population")
        if self.claim == "dominance" and not self.by_rows:
            raise ConfigError(
                "claim = 'dominance' is shown on held-out rows, and there are none",
                hint="give data with target = population, or claim the sum or the first objective",
            )
        object.__setattr__(self, "space", self.space.bound(self.folder))
        begins = getattr(self.evaluator, "begins", None)
        if begins is not None:
            begins(self.initial())

    def _check_fidelity(self) -> None:
        if self.fidelity is None:
            return
        if self.by_rows:
            raise ConfigError(
                "fidelity is for problems whose candidates are measured as a whole, and these are raced row by row",
                hint='leave out [fidelity]: a race spends little on a bad candidate already; or take target = "suite"',
            )
        takes = getattr(self.evaluator, "takes", None)
        for name, key, lost in (
            ("fidelity", "lowest", "a part of the effort would be all of it"),
            ("partial", "stop", "there is no learning curve to go by"),
        ):
            if name in self.fidelity.needs and takes is not None and takes(name) is False:
                raise ConfigError(f"fidelity.{key}: the evaluator does not take `{name}`, so {lost}", hint=HINTS[name])
        if self.fidelity.stop and len(self.data) > 1:
            raise ConfigError(
                f"fidelity.stop: a candidate is measured on {len(self.data)} rows, and one row's learning curve does"
                " not say whether their mean beats the champion",
                hint="leave out stop, or have the evaluator go through the rows itself, without [data]",
            )

    @property
    def by_rows(self) -> bool:
        """Whether candidates are compared row by row, and what is claimed is about more than these rows."""
        return self.target == "population" and bool(self.data)

    @property
    def exact(self) -> bool:
        """Whether one measurement says all there is to say: comparisons are exact and cost nothing."""
        return self.deterministic and not self.by_rows

    def split(self, name: Split) -> tuple[Example, ...]:
        """The rows of one split."""
        return tuple(example for example in self.data if example.split == name)

    def longest(self, name: str) -> int | None:
        """Most characters of a program that a search may propose; None for any number."""
        item = self.space[name]
        return item.longest if self.bounded and isinstance(item, Code) else None

    def overlong(self, values: Mapping[str, Any]) -> str:
        """Which of a proposal's programs is too long although the space sets no limit, and what to do; "" if none."""
        for name, value in values.items():
            item = self.space.get(name)
            if not isinstance(item, Code) or item.max_chars is not None:
                continue
            files = value if isinstance(value, Mapping) else {"": value}
            sizes = {path: len(text) for path, text in files.items() if isinstance(text, str)}
            most, size = self.longest(name), sum(sizes.values())
            if most is not None and size > most:
                longest = max(sizes, key=lambda path: sizes[path])
                named = f" ({longest} has {sizes[longest]:,} of them)" if longest else ""
                return (
                    f"{name}: the program has {size:,} characters{named}, {most:,} are allowed; a problem that needs"
                    f" longer ones sets max_chars of {name}"
                )
        return ""

    def initial(self) -> Candidate:
        """The starting candidate: every parameter's default."""
        return self.space.initial()

    def to_json(self) -> dict[str, Any]:
        """What the journal keeps of the problem: enough to fold, show and export a run without the problem folder.

        Of the rows that are held out it knows how many there are, and nothing else.
        """
        out: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "space": self.space.spec(),
            "objectives": [asdict(item) for item in self.objectives],
            "constraints": [asdict(item) for item in self.constraints],
            "examples": [example.id for example in self.split("train")],
            "anchors": [example.id for example in self.split("train") if example.anchor],
            "held_out": {name: len(self.split(name)) for name in ("val", "test")},
            "deterministic": self.deterministic,
            "target": self.target,
            "claim": self.claim,
            "evaluator": dict(self.evaluator.spec or {}),
            "exclusive": self.evaluator.exclusive,
            "folder": str(self.folder),
            "limits": asdict(self.limits),
        }
        if self.fidelity is not None:  # else it hashes as before there was such a thing
            out["fidelity"] = self.fidelity.to_json()
        if self.bounded and any(isinstance(item, Code) for item in self.space.values()):
            out["bounded"] = True
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Problem:
        """The problem that `to_json` wrote, without the means to measure and without the rows' contents.

        Folding a journal needs no more, so a run can be shown where its evaluator is not installed.
        """
        anchors = set(data.get("anchors", ()))
        return cls(
            name=data["name"],
            space=Space.from_spec(data["space"]),
            evaluator=_Recorded(data["exclusive"], data["evaluator"]),
            objectives=tuple(Objective(**item) for item in data["objectives"]),
            constraints=tuple(Constraint(**item) for item in data["constraints"]),
            data=tuple(Example(item, None, anchor=item in anchors) for item in data["examples"]),
            deterministic=data["deterministic"],
            target=data.get("target", "suite"),
            claim=data.get("claim", "primary"),
            description=data["description"],
            folder=Path(data["folder"]),
            limits=Limits(**data["limits"]),
            fidelity=Fidelity(**data["fidelity"]) if data.get("fidelity") else None,
            bounded=data.get("bounded", False),
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hashes that a resume compares: the evaluator's source, the data, and everything else of the problem."""
        plain = self.to_json()
        # These may change without changing what is measured.
        for key in ("name", "description", "folder", "evaluator", "bounded"):
            plain.pop(key, None)
        return {
            "evaluator": self.evaluator.fingerprint,
            "data": digest([[example.id, example.row, example.split] for example in self.data]),
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
