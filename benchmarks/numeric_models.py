"""The models of the benchmark: simulated ones that know the answer or spoil it, a real one, and its answers shuffled.

All of them are reached through the package's gateway, so that calls count, fail and are repaired as in
a run. A simulated model reads the schema of a request, decides which candidate it wants, and says it in the
schema's words.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numeric_worlds import FAILING, World

from agent.errors import OutputInvalid, PrerequisiteError
from agent.events import CallEnded, CallStarted, Event
from agent.ledger import Ledger
from agent.llm.connect import connect
from agent.llm.gateway import Llm
from agent.llm.structured import Shape
from agent.llm.types import Adapter, Completion, ModelRequest
from agent.parameters import Categorical, Int, Numeric
from agent.proposers.base import Context
from agent.space import digest
from agent.testing.proposers import Search, instance

if TYPE_CHECKING:
    from numeric_runs import Job

SIMULATED = ("adversarial", "oracle", "noise")
"""adversarial: what it proposes fails. oracle: near the optimum one time in three. noise: uniform, always."""
SHUFFLED = "shuffled:"
NEAR = 1.0
"""Standard deviation of an oracle's good answer, by coordinate, in the units of BBOB."""


class Desk:
    """Journals calls into a search in memory, so that its ledger and its decisions know them.

    Args:
        search: Which asks.
        path: Answers are kept there as they come. A run that was cut off, and is made again, is given them back for
            equal requests; a model's answers follow from request and seed, so that nothing else changes.
    """

    def __init__(self, search: Search, path: Path | None = None) -> None:
        self._search = search
        self._path = path
        self._calls = 0
        self.given = 0
        """Answers that were given back."""
        self._started: dict[int, CallStarted] = {}
        self._known = {} if path is None else {_place(started): (started, ended) for started, ended in calls(path)}
        self._told: list[tuple[CallStarted, CallEnded]] = []

    @property
    def ledger(self) -> Ledger:
        return self._search.state.ledger

    def next_call(self) -> int:
        self._calls += 1
        return self._calls

    async def turn(self, event: str, *key: object) -> None:
        return None

    def record(self, event: Event) -> None:
        self._search.apply(event)
        if isinstance(event, CallStarted):
            self._started[event.id] = event
        elif isinstance(event, CallEnded) and event.reply is not None and self._path is not None:
            pair = (self._started[event.id], event)
            self._told.append(pair)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(*pair))

    async def flush(self) -> None:
        return None

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        """The answer that a run which was cut off had got, which counts as it did then."""
        pair = self._known.get((scope, key, ordinal))
        if pair is None:
            return None
        self.given += 1
        number = self.next_call()
        started, ended = replace(pair[0], id=number), replace(pair[1], id=number)
        self._search.apply(started)
        self._search.apply(ended)
        self._told.append((started, ended))
        return ended

    def close(self) -> None:
        """The run is finished: what it did not ask, an earlier version of its arm may have, is dropped."""
        if self._path is not None:
            self._path.write_text("".join(_line(*pair) for pair in self._told), encoding="utf-8")


def _place(started: CallStarted) -> tuple[str, str, int]:
    return started.scope, started.key, started.ordinal


def _line(started: CallStarted, ended: CallEnded) -> str:
    return f"[{started.body()}, {ended.body()}]\n"


def calls(path: Path) -> list[tuple[CallStarted, CallEnded]]:
    """The calls of a file; a line that was cut off is left out."""
    out = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            started, ended = json.loads(line)
        except ValueError:
            continue
        out.append((CallStarted(**started), CallEnded(**ended)))
    return out


class Model:
    """What a proposer asks; `begin` is told of every decision before it is made."""

    def __init__(self, llm: Llm, desk: Desk, begin: Callable[[], None] | None = None) -> None:
        self._llm = llm
        self._desk = desk
        self._begin = begin
        self._scope = ""

    @property
    def given(self) -> int:
        """Answers of an earlier attempt that were used again."""
        return self._desk.given

    def begin(self, context: Context) -> None:
        """A decision begins."""
        self._scope = f"proposal-{context.decision}"
        if self._begin is not None:
            self._begin()

    async def ask(self, request: ModelRequest) -> Completion:
        """As the loop asks."""
        if request.schema is None:
            return await self._llm.complete(request, role="propose", scope=self._scope)
        return await self._llm.structured(request, role="propose", scope=self._scope, schema=request.schema)


@asynccontextmanager
async def open_model(job: Job, search: Search, world: World) -> AsyncIterator[Model | None]:
    """The model of a job, open for one run.

    Raises:
        PrerequisiteError: There are no answers to shuffle, or the model is missing.
    """
    if not job.model:
        yield None
        return
    begin: Callable[[], None] | None = None
    path: Path | None = None
    made: Adapter
    if job.model in SIMULATED:
        made = simulated = Simulated(job.model, search, world, f"{job.task} {job.dim} {job.instance} {job.arm}")
        begin, name = simulated.begin, f"scripted:{job.model}"
    elif job.model.startswith(SHUFFLED):
        made = Shuffled(foreign(job, job.model.removeprefix(SHUFFLED)), f"{job.task} {job.instance}")
        name = "scripted:shuffled"
    else:
        made, name, path = connect(job.model), job.model, recorded(job, job.model)
    desk = Desk(search, path)
    async with Llm(desk, {"propose": name}, lambda _: made, seed=job.instance - 1) as llm:
        yield Model(llm, desk, begin)
    desk.close()


class Simulated:
    """A model that wants a candidate and says it in the words of whatever schema it is asked with.

    Args:
        kind: One of `SIMULATED`.
        search: Its evaluated candidates tell which coordinates a prompt of integers is about.
        world: Space and optimum.
        seed: Of its randomness.
    """

    def __init__(self, kind: str, search: Search, world: World, seed: str) -> None:
        self._kind = kind
        self._search = search
        self._world = world
        self._rng = random.Random(f"{kind} {seed}")
        self._fresh = True
        self._wanted: dict[str, Any] = {}
        self._count = 0

    def begin(self) -> None:
        """What is asked from now on belongs to another decision, and gets another candidate."""
        self._fresh = True

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """The reply; text where no schema is given."""
        if self._fresh:
            self._wanted, self._fresh = self._draw(), False
        if request.schema is None:
            return Completion(text=json.dumps(self._values(list(self._world.space.numeric), self._wanted)))
        return Completion(text=json.dumps(self._fill(request.schema, request, self._wanted)))

    async def close(self) -> None:
        return None

    def _draw(self) -> dict[str, Any]:
        """A wanted candidate: one in three of an oracle's is near the optimum."""
        self._count += 1
        space, optimum = self._world.space, self._world.optimum
        if self._kind == "oracle" and optimum is not None and self._count % 3 == 0:
            spread = NEAR / 10  # of the box, which is 10 wide
            near = [self._rng.gauss(place, spread) for place in space.encode(optimum)]
            return space.decode(near, space.initial()).values_json
        return space.sample(self._rng).values_json

    def _values(self, names: Sequence[str], wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The wanted values of some parameters; of an adversary's, one lies where everything fails."""
        out = {name: wanted[name] for name in names}
        if self._kind == "adversarial":
            out[self._rng.choice(list(names))] = sum(FAILING) / 2
        return out

    def _fill(self, schema: Mapping[str, Any], request: ModelRequest, wanted: Mapping[str, Any]) -> Any:
        properties = schema.get("properties", {})
        names = [name for name in self._world.space.numeric if name in properties]
        out: Any
        if names:
            values = self._values(names, wanted)
            out = {}
            for name, item in properties.items():
                known = name in values
                out[name] = self._say(name, item, values[name]) if known else self._fill(item, request, wanted)
            return out
        if "solution" in properties:
            return {"solution": self._bins(properties["solution"], request, wanted)}
        if schema.get("type") == "object":
            return {name: self._fill(item, request, wanted) for name, item in properties.items()}
        if schema.get("type") == "array" and schema["items"].get("type") == "object":
            count = schema.get("minItems", 1)
            return [self._fill(schema["items"], request, self._draw() if i else wanted) for i in range(count)]
        return instance(schema, self._rng)

    def _say(self, name: str, schema: Mapping[str, Any], value: Any) -> Any:
        """A value as the schema of its parameter wants it: itself, a bin, or a choice."""
        parameter = self._world.space[name]
        assert isinstance(parameter, Numeric)
        if "enum" in schema:
            return value if value in schema["enum"] else str(value)
        if schema.get("type") == "integer" and not isinstance(parameter, (Int, Categorical)):
            return parameter.to_bin(value, int(schema["maximum"]) + 1)
        return value

    def _bins(self, schema: Mapping[str, Any], request: ModelRequest, wanted: Mapping[str, Any]) -> list[int]:
        """The wanted candidate's bins of the coordinates that the prompt is about."""
        space = self._world.space
        resolution = int(schema["items"]["maximum"]) + 1
        size = int(schema["minItems"])
        known = [space.to_bins(trial.candidate, resolution) for trial in self._search.state.history.trials]
        block = coordinates(rows(request.messages[0].text, size), known, len(space.numeric), size)
        names = [space.numeric[place] for place in block]
        values = {**wanted, **self._values(names, wanted)}
        bins = space.to_bins(values, resolution)
        return [bins[place] for place in block]


def rows(prompt: str, size: int) -> list[list[int]]:
    """The solutions of a prompt: lines that end in so many whole numbers after a colon."""
    found = []
    for line in prompt.splitlines():
        _, colon, tail = line.rpartition(":")
        numbers = re.findall(r"-?\d+", tail)
        if colon and len(numbers) == size:
            found.append([int(number) for number in numbers])
    return found


def coordinates(shown: Sequence[Sequence[int]], known: Sequence[Sequence[int]], dim: int, size: int) -> list[int]:
    """Which neighbouring coordinates the shown integers are: the first block in which all of them are known."""
    for offset in range(dim):
        block = [(offset + step) % dim for step in range(size)]
        there = {tuple(bins[place] for place in block) for bins in known}
        if all(tuple(row) in there for row in shown):
            return block
    raise OutputInvalid("the simulated model cannot tell which coordinates the prompt is about")


class Shuffled:
    """Recorded answers, each to another question of the same kind; when all were given, they are shuffled again.

    Args:
        told: Kind of question and answer, as `replies` gives them.
        seed: Of the order.
    """

    def __init__(self, told: Sequence[tuple[str, str]], seed: str) -> None:
        self._rng = random.Random(f"shuffled {seed}")
        self._told: dict[str, list[str]] = {}
        for kind, text in told:
            self._told.setdefault(kind, []).append(text)
        self._left: dict[str, list[str]] = {}

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """An answer of the same kind; where there is none, one that fits, else an empty one."""
        kind = kind_of(request.schema)
        if kind not in self._told:
            fitting = [text for texts in self._told.values() for text in texts if _fits(request, text)]
            if not fitting:
                return Completion(text="")
            self._told[kind] = fitting
        if not self._left.get(kind):
            self._left[kind] = list(self._told[kind])
            self._rng.shuffle(self._left[kind])
        return Completion(text=self._left[kind].pop())

    async def close(self) -> None:
        return None


def _fits(request: ModelRequest, text: str) -> bool:
    if request.schema is None:
        return True
    try:
        Shape(request.schema).read(Completion(text=text))
    except OutputInvalid:
        return False
    return True


def kind_of(schema: Mapping[str, Any] | None) -> str:
    """Questions with equal schemas are of one kind."""
    return "text" if schema is None else digest(dict(schema))


def recorded(job: Job, model: str) -> Path:
    """Where the answers of a run are kept: not among the results, for they are long."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"{job.suite}-{job.task}-{job.dim}-{job.instance}-{job.budget}"
    arm = re.sub(r"[^\w.-]+", "_", job.arm)
    return Path(base) / "truegain-benchmarks" / "replies" / re.sub(r"[^\w.-]+", "_", model) / f"{arm}-{name}.jsonl"


def told(path: Path) -> list[tuple[str, str]]:
    """The answers of a run: kind of question and text."""
    return [(kind_of(started.request.get("schema")), (ended.reply or {})["text"]) for started, ended in calls(path)]


def foreign(job: Job, model: str) -> list[tuple[str, str]]:
    """The answers that a model gave to the same arm in all other worlds of the suite, about other histories.

    Those of the same world in another order would not do: an arm that measures what it is told would end at the
    same best point.

    Raises:
        PrerequisiteError: No other world was run yet.
    """
    own = recorded(job, model)
    arm = own.name.removesuffix(f"-{job.suite}-{job.task}-{job.dim}-{job.instance}-{job.budget}.jsonl")
    others = sorted(own.parent.glob(f"{arm}-{job.suite}-*-{job.dim}-*-{job.budget}.jsonl"))
    found = [answer for path in others if path != own for answer in told(path)]
    if not found:
        raise PrerequisiteError(
            f"no answers of {model} to {job.label} in another world than {job.task} {job.dim} #{job.instance}",
            fix=f"python benchmarks/numeric.py models --model {model} --arms {job.label}",
        )
    return found
