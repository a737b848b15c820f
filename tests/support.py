"""Small problems and executors that the loop's tests share."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from pathlib import Path
from typing import Any

from agent.evaluation import Output, Request
from agent.evaluators.function import FunctionEvaluator
from agent.events import Event
from agent.goals import Objective
from agent.journal import Entry, Journal, read_all
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.loop import Run
from agent.parameters import Categorical, Float, Int
from agent.problem import Problem
from agent.proposers.table import load
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from agent.testing.proposers import instance

SPACE = {"x": Float(-1, 1, default=0.9), "n": Int(1, 9, default=1), "kind": Categorical(["a", "b", "c"])}


def loss(candidate: Any, seed: int = 0, replicate: int = 0, noise: float = 0.0) -> float:
    """A bowl with its lowest point at x = 0.3, n = 6, kind = b."""
    value = (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2 + (candidate["kind"] != "b")
    # The noise is a function of the request, so that a repeated measurement is recognised as the same one.
    return value + noise * random.Random(f"{sorted(candidate.items())}{seed}{replicate}").gauss(0, 1)


def noisy(candidate: Any, seed: int, replicate: int) -> float:
    return loss(candidate, seed, replicate, noise=0.05)


def problem(evaluate: Any = loss, deterministic: bool = True, exclusive: bool = False, **more: Any) -> Problem:
    return Problem(
        name="bowl",
        space=Space(SPACE),
        evaluator=FunctionEvaluator(evaluate, names=("value",), exclusive=exclusive),
        objectives=(Objective("value"),),
        deterministic=deterministic,
        **more,
    )


class Direct:
    """An executor that calls the function in place, after a pause, and counts."""

    def __init__(self, problem: Problem, pause: float = 0.0, seed: int = 0) -> None:
        self.evaluator = problem.evaluator
        self.pause = pause
        self.rng = random.Random(seed)
        self.requests: list[Request] = []
        self.running = self.most = 0

    async def submit(self, request: Request) -> Output:
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.pause:
                await asyncio.sleep(self.rng.random() * self.pause)
            return await self.evaluator.produce(request, lambda _: None)
        finally:
            self.running -= 1

    async def close(self) -> None:
        return None


def thinker(request: Any) -> str:
    """A model that is a function of the prompt text: it repeats the best solution, moved by the prompt's length."""
    text = request.messages[0].text
    if "solution" not in request.schema["properties"]:  # it is not asked in integers
        return json.dumps(instance(request.schema, random.Random(text)))
    best = [int(part) for part in text.splitlines()[-2].split(":")[1].split(",")]
    moved = [max(0, value - (len(text) + place) % 3 % 2) for place, value in enumerate(best)]
    return json.dumps({"solution": moved})


TURNS = "tests.turns:Turns"
"""Who proposes in tests of the loop, unless they say otherwise."""


def session(folder: Path | None = None, **given: Any) -> Session:
    """A session on the bowl; keywords go to `Session`, or to `Settings` when it knows them."""
    chosen = given.pop("problem", None) or problem()
    known = {
        name: given.pop(name) for name in list(given) if name in Settings.__dataclass_fields__ and name != "executor"
    }
    known.setdefault("proposer", TURNS)
    given.setdefault("budget", Budget(evaluations=60))
    given.setdefault("model", Scripted(thinker))
    given.setdefault("executor", Direct(chosen))
    return Session(chosen, Settings.from_json({"models": {"propose": "scripted:test"}, **known}), **given)


def entries(folder: Path) -> list[Entry]:
    return list(read_all(folder))


def bodies(items: list[Entry] | list[Event], skip: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Events as comparable text: types and bodies, without times and without how long things took."""
    out = []
    for item in items:
        event = item.event if isinstance(item, Entry) else item
        if event.type in skip:
            continue
        body = json.loads(event.body())
        for place in (body, body.get("output") or {}, body.get("reply") or {}):
            place.pop("seconds", None)
        if event.type.startswith("run."):
            body.pop("run", None)
            body.pop("origin", None)  # the words that started it
        out.append((event.type, json.dumps(body, sort_keys=True)))
    return out


def bare(folder: Path, chosen: Session) -> tuple[Run, Journal]:
    """A run whose clock counts, for tests that compare journals."""
    journal = Journal(folder)
    ticks = itertools.count(1000)
    make = chosen.models(chosen.settings, chosen.seed)
    run = Run(journal, chosen.problem, chosen.executor, load(chosen.settings.proposer), make, clock=lambda: next(ticks))  # type: ignore[arg-type]
    return run, journal
