"""A small world with rows of data: questions that a candidate answers well or badly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.events import Event
from agent.goals import Constraint, Objective
from agent.journal import read_all
from agent.ledger import Budget
from agent.loop import Run
from agent.parameters import Categorical, Float, Parameter
from agent.problem import Example, Problem
from agent.proposers.base import Context, Proposal
from agent.replay import replay
from agent.results.result import Result
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from tests.support import Direct

SPACE: dict[str, Parameter] = {"x": Float(-1, 1, default=-0.6), "kind": Categorical(["a", "b"])}
"""The best candidate has x = 0.3 and kind = b."""
ACCURACY = Objective("accuracy", "maximize", low=0, high=1)
WORDS = tuple("".join(pair) for pair in zip("bcdfghjklm" * 6, "aeiou" * 12, "npqrstvwxz" * 6, strict=True))


def rows(count: int, start: int = 0, **given: Any) -> tuple[Example, ...]:
    """Questions that are no near-duplicates of each other; keywords go to each `Example`."""
    out = []
    for number in range(start, start + count):
        rng = random.Random(f"question {number}")
        words = " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(9))
        out.append(Example(f"row-{number}", {"question": words, "number": number}, **given))
    return tuple(out)


def skill(candidate: Mapping[str, Any]) -> float:
    """The share of all questions that a candidate answers well: 0.36 at first, at best 0.84."""
    return 0.74 - 0.36 * abs(candidate["x"] - 0.3) + (0.1 if candidate["kind"] == "b" else 0.0) - 0.06


def luck(*key: object) -> float:
    """A number in [0, 1) that depends on nothing but the key."""
    return random.Random(repr(key)).random()


def answered(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """1 or 0; easy questions are answered first, and one in eight goes by the candidate's luck."""
    own = luck(sorted(candidate.items()), row["number"])
    easy = luck("easy", row["number"])
    return float((own if luck("odd", row["number"]) < 0.125 else easy) < skill(candidate))


def graded(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """A score between 0 and 1."""
    spread = 0.3 * (luck("spread", sorted(candidate.items()), row["number"]) - 0.5)
    return min(1.0, max(0.0, skill(candidate) + spread))


def useless(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """What no candidate does better than another."""
    return float(luck("useless", sorted(candidate.items()), row["number"]) < 0.5)


def noisy(candidate: Mapping[str, Any], row: Mapping[str, Any], seed: int, replicate: int) -> float:
    """Another answer at each measurement."""
    return float(luck(sorted(candidate.items()), row["number"], seed, replicate) < skill(candidate))


def problem(measure: Callable[..., Any] = answered, data: Sequence[Example] = (), **given: Any) -> Problem:
    """A problem on rows; deterministic, unless it is said or `measure` takes a seed."""
    objectives = given.pop("objectives", (ACCURACY,))
    constraints: tuple[Constraint, ...] = given.pop("constraints", ())
    names = [item.name for item in (*objectives, *constraints)]
    given.setdefault("deterministic", measure is not noisy)
    given.setdefault("target", "population")
    return Problem(
        name="questions",
        space=Space(given.pop("space", SPACE)),
        evaluator=FunctionEvaluator(measure, names=names),
        objectives=objectives,
        constraints=constraints,
        data=tuple(data) or rows(200),
        **given,
    )


def session(chosen: Problem, budget: int = 1000, seed: int = 1, **given: Any) -> Session:
    """Keywords that `Settings` knows go there, the others to `Session`."""
    known = {name: given.pop(name) for name in list(given) if name in Settings.__dataclass_fields__}
    settings = Settings.from_json({"proposer": "coordinate", "models": {}, **known})
    given.setdefault("executor", Direct(chosen))
    return Session(chosen, settings, Budget(evaluations=budget), seed=seed, **given)


@dataclass(frozen=True)
class Ran:
    """A finished run, and what it left."""

    result: Result
    folder: Path
    session: Session

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry in read_all(self.folder)]

    def of(self, *types: str) -> list[Any]:
        """The events of these types."""
        return [event for event in self.events if event.type in types]

    @property
    def verdict(self) -> dict[str, Any]:
        assert self.result.verdict is not None
        return self.result.verdict

    def split(self, name: str) -> tuple[Example, ...]:
        """The rows that the run had in a split."""
        return self.session.problem.split(name)  # type: ignore[arg-type]

    def replays(self, workers: Iterable[int] = (1,)) -> bool:
        """Whether the journal decides itself again."""
        return all(asyncio.run(replay(self.folder, number))[1] is None for number in workers)


def run(
    folder: Path,
    measure: Callable[..., Any] = answered,
    data: Sequence[Example] = (),
    *,
    hold: Callable[[Run], Any] | None = None,
    pause: float = 0.0,
    **given: Any,
) -> Ran:
    """A run from its beginning to its end; keywords go to `problem`, `session` and `Settings`."""
    fields = {name: given.pop(name) for name in list(given) if name in Problem.__dataclass_fields__}
    chosen = session(problem(measure, data, **fields), **given)
    if isinstance(chosen.executor, Direct):
        chosen.executor.pause = pause
    return Ran(asyncio.run(chosen.run(folder, hold)), folder, chosen)


async def resumed(chosen: Session, folder: Path) -> Ran:
    """A run that goes on to its end."""
    return Ran(await chosen.resume(folder), folder, chosen)


class Steps:
    """A proposer that makes one given candidate after the other; `[proposer.options] candidates` lists them."""

    name = "steps"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        place = context.memory or 0
        wanted = context.options["candidates"][place : place + 1]
        context.memory = place + 1
        context.exhausted = not wanted
        return [Proposal(values, self.name) for values in wanted]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0
