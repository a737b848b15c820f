"""A run that is cut off in an exam, with everything marked that must stay behind the wall; and all doors in it.

Doors are found and not listed: commands in `agent.cli.main.COMMANDS` and in the groups below them, tools and MCP
tools in the modules of their packages, templates in `agent.prompts`. One that comes later is tried by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pkgutil
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from agent import wall
from agent.cli.run import session_of
from agent.config import load
from agent.evaluation import Output, Request
from agent.evaluators.source import ProblemFolder
from agent.events import VerdictReached
from agent.journal import GATE, read_all
from agent.loop import Run
from agent.proposers.base import Context
from tests.cli_helpers import Ran, call
from tests.support import Direct

MARK = "BEHINDTHEWALL"
"""In ids, contents and answers of held-out rows, and so in all that is said about them."""
NAME = "wall-run"

TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.kind]
type = "categorical"
choices = ["a", "b", "c"]

[[objectives]]
name = "accuracy"
direction = "maximize"
low = 0
high = 1

[data]
train = "train.jsonl"
val = "val.jsonl"
test = "test.jsonl"
answer = "answer"

[budget]
evaluations = 4000

[proposer]
name = "tests.row_support:Steps"
options = { candidates = [{ kind = "b" }, { kind = "c" }] }
"""

EVALUATE = """
SKILL = {"a": 0.2, "b": 0.65, "c": 0.97}

def measure(candidate, row):
    right = row["easy"] < SKILL[candidate["kind"]]
    # No other row has this score, so that it can be told where it turns up.
    return (0.98 if right else 0.01) + row["number"] * 1.0000007e-5, f"{row['question']}: it was {row['answer']}"
"""


def write_problem(folder: Path) -> Path:
    """A problem whose val and test rows are marked."""
    folder.mkdir(parents=True)
    (folder / "problem.toml").write_text(TOML)
    (folder / "evaluate.py").write_text(EVALUATE)
    number = 0
    for split, count in (("train", 60), ("val", 60), ("test", 30)):
        lines = []
        for _ in range(count):
            number += 1
            rng = random.Random(number)
            mark = "" if split == "train" else f"{MARK}-{split}-{number} "
            words = " ".join(f"{rng.getrandbits(40):x}" for _ in range(8))
            row = {"id": f"{mark.strip()}row{number}", "question": f"{mark}{words}", "answer": f"{mark}{words[::-1]}"}
            lines.append(json.dumps({**row, "number": number, "easy": rng.random()}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Stopping(Direct):
    """An executor that stops answering in an exam or in the report; what lay on the disk then is kept."""

    def __init__(self, inner: Any, folder: Path, where: str) -> None:
        super().__init__(inner)
        self.folder, self.where = folder, where
        self.reached = asyncio.Event()
        self.run: Run
        self.count = 0
        self.live: dict[str, bytes] = {}

    async def submit(self, request: Request) -> Output:
        gate = self.run.state.gate
        phase = "report" if request.purpose == "report" else "last" if gate.exams else "interim"
        self.count += request.purpose != "search" and phase == self.where
        if self.count == 10:
            await self.run.flush()
            self.live = {file.name: file.read_bytes() for file in self.folder.iterdir() if file.is_file()}
            self.reached.set()
            await asyncio.Event().wait()
        return await super().submit(request)


class Watching:
    """A proposer that remembers what the one inside was given."""

    def __init__(self, inner: Any, seen: list[Context]) -> None:
        self.inner, self.seen, self.name, self.needs_model = inner, seen, inner.name, inner.needs_model

    async def propose(self, context: Context, n: int) -> Any:
        self.seen.append(context)
        return await self.inner.propose(context, n)


@dataclass
class World:
    """An open run with gate rows that were measured.

    Args:
        home: Holds the problem's folder and the folder of runs.
        live: The run's files while it was written, with what was not yet folded back.
        contexts: All that its proposer was given.
    """

    home: Path
    live: Mapping[str, bytes]
    contexts: list[Context] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.home / "runs" / NAME

    @property
    def problem(self) -> Path:
        return self.home / "problem"

    def copy(self, home: Path) -> World:
        """The same, to change something in."""
        shutil.copytree(self.home, home)
        text = str(self.problem), str(home / "problem")
        assert text[0] != text[1]
        return World(home, self.live, self.contexts)


def forget() -> None:
    """Let go of the module of an earlier problem's evaluator: each world has one of the same name."""
    sys.modules.pop("evaluate", None)
    sys.path[:] = [place for place in sys.path if not isinstance(place, ProblemFolder)]


async def cut_off(home: Path, where: str) -> World:
    """Begin a run and cut it off at the tenth measurement of an exam ("interim", "last") or of the "report"."""
    problem, folder = write_problem(home / "problem"), home / "runs" / NAME
    chosen = session_of(load(problem, {}))
    stopping = Stopping(chosen.problem, folder, where)
    chosen.executor = stopping
    seen: list[Context] = []

    def hold(run: Run) -> None:
        stopping.run = run
        run.proposer = Watching(run.proposer, seen)  # type: ignore[assignment]

    forget()
    task = asyncio.create_task(chosen.run(folder, hold))
    reached = asyncio.create_task(stopping.reached.wait())
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    assert reached.done(), f"the run never came to its {where} rows: {task}"
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not wall.ended(folder)
    return World(home, stopping.live, seen)


# What must not be seen.


@dataclass(frozen=True)
class Secrets:
    """Words and numbers that are known behind the wall only.

    Args:
        words: Any text that holds one of them leaks.
        numbers: Scores and what verdicts say, as numbers.
    """

    words: tuple[str, ...]
    numbers: frozenset[float]

    @classmethod
    def of(cls, folder: Path, rows_only: bool = False) -> Secrets:
        """What this run's gate has measured; of single rows only, when the run has ended and its verdicts may be told.

        Levels are no secret: they follow from the bits of earlier exams, which were told.
        """
        held: set[float] = set()
        told: set[float] = set()
        words = {MARK}
        for entry in read_all(folder):
            event, found = entry.event, set(_numbers(json.loads(entry.event.body())))
            if event.audience != "search" and event.type in ("evaluation.ended", "verdict.reached", "report.reached"):
                if not rows_only or isinstance(event, wall.ROWS):
                    held |= found
                if isinstance(event, VerdictReached) and not rows_only:
                    words.add(event.verdict["sentence"])
            else:
                told |= found
        telling = {number for number in held - told if len(repr(number)) > 7}
        assert telling, "nothing is hidden, so that nothing would be tested"
        return cls(tuple(words), frozenset(telling))

    def inside(self, text: str) -> list[str]:
        """What of it is in a text."""
        found = [word for word in self.words if word in text]
        return found + [repr(number) for number in self.numbers if repr(number) in text]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in ("seconds", "time"):
                yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)


def reachable(root: object) -> Iterator[tuple[str, object]]:
    """Everything that attributes, properties and members lead to, with the way there.

    Functions are walls of their own: a model call and a row that is read go through the run, which writes the gate's
    rows. What they return is looked at where they are called.
    """
    known: set[int] = set()
    kept: list[object] = []
    waiting: list[tuple[str, object]] = [("context", root)]
    while waiting:
        way, item = waiting.pop()
        if id(item) in known or isinstance(item, type) or inspect.isroutine(item) or inspect.ismodule(item):
            continue
        known.add(id(item))
        kept.append(item)  # so that its number is not given to another
        yield way, item
        if isinstance(item, (str, bytes, int, float, complex, random.Random)) or item is None:
            continue
        if isinstance(item, Mapping):
            waiting += [(f"{way}[{key!r}]", part) for key, value in item.items() for part in (key, value)]
        elif isinstance(item, (Sequence, Set)) or type(item).__name__ in ("deque", "WeakSet"):
            waiting += [(f"{way}[{place}]", part) for place, part in enumerate(item)]  # type: ignore[arg-type]
        for name in _attributes(item):
            with suppress(Exception):
                waiting.append((f"{way}.{name}", getattr(item, name)))


def _attributes(item: object) -> set[str]:
    names = set(getattr(item, "__dict__", ()))
    for kind in type(item).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
        names.update(name for name, value in vars(kind).items() if isinstance(value, property))
    return {name for name in names if not name.startswith("__")}


def seen_by(context: object, secrets: Secrets) -> list[str]:
    """What of the secrets can be reached from what a proposer is given."""
    found = []
    for way, item in reachable(context):
        if isinstance(item, bytes):
            item = item.decode("utf-8", "replace")
        if isinstance(item, str) and secrets.inside(item):
            found.append(f"{way}: {item[:80]!r}")
        elif isinstance(item, float) and item in secrets.numbers:
            found.append(f"{way}: {item!r}")
    return found


# The doors.


def commands(group: click.Command | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands with the words that call them, in groups too."""
    if group is None:
        from agent.cli.main import cli as group  # type: ignore[no-redef]
    assert group is not None
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def calls(command: click.Command, world: World) -> Iterator[list[str]]:
    """Ways to call a command: plainly, with each option and other argument by itself, and with all its flags."""
    arguments = [item for item in command.params if isinstance(item, click.Argument)]
    options = [item for item in command.params if isinstance(item, click.Option)]
    place = ["--runs", str(world.home / "runs")] if any("--runs" in item.opts for item in options) else []
    base = [known for item in arguments if (known := _known(item, world)) is not None]
    flags = [item.opts[-1] for item in options if item.is_flag]
    machine = ["--json"] if "--json" in flags else []
    yield [*base, *place, *machine]
    yield [*base, *place]
    for extra in _values(world):
        if len(base) < len(arguments):
            yield [*base, *([extra] * (len(arguments) - len(base))), *place]
            yield [*base, *([extra] * (len(arguments) - len(base))), *place, *machine]
    for option in options:
        if option.opts[-1] in ("--json", "--runs"):
            continue
        for value in _option(option, world):
            yield [*base, *place, *value]
            yield [*base, *place, *value, *machine]
    yield [*base, *place, *flags]


def _known(argument: click.Argument, world: World) -> str | None:
    if argument.name in ("run", "runs", "folder", "run_folder"):
        return NAME
    if argument.name in ("problem", "problem_folder"):
        return str(world.problem)
    return None


def _values(world: World) -> list[str]:
    """Words that an argument could take: candidates, parts of a run, rows."""
    rows = [json.loads(line)["id"] for name in ("val", "test") for line in _lines(world.problem / f"{name}.jsonl")[:1]]
    names = ["best", "released", "initial", "champion", "verdict", "gate", "report", "rows", "1", "2", NAME]
    return [*names, *rows]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _option(option: click.Option, world: World) -> list[list[str]]:
    flag = option.opts[-1]
    if option.is_flag:
        return [[flag]]
    if isinstance(option.type, click.Choice):
        return [[flag, str(choice)] for choice in option.type.choices]
    if isinstance(option.type, click.Path):
        return [[flag, str(world.problem if option.name == "problem" else world.home / "out")]]
    if option.type.name.startswith(("int", "float")):
        return [[flag, "0"], [flag, "1"]]
    types = ["evaluation.ended", "exam.started", "verdict.reached", "holdout.fixed", "report.reached"]
    return [[flag, value] for value in (*types, *_values(world)[-2:])]


@dataclass(frozen=True)
class Tried:
    """One call of a command, and what it gave away."""

    words: tuple[str, ...]
    ran: Ran
    leaked: tuple[str, ...]


def tried(world: World, place: Path) -> Iterator[Tried]:
    """Call every command in every way, each on a copy of its own.

    A command that drives the run, or begins another, to its end is called in two ways only, since each takes long; its
    copy has then ended, and it may tell the verdict, but no row. A command that opens the gate's rows and says so in
    their account may show them: that is what `gate open` is for.
    """
    number = 0
    secrets, of_rows = Secrets.of(world.folder), (MARK,)
    for words, command in commands():
        for at, arguments in enumerate(calls(command, world)):
            number += 1
            there = world.copy(place / str(number))
            moved = [text.replace(str(world.home), str(there.home)) for text in arguments]
            before = {folder.name for folder in (there.home / "runs").iterdir()}
            ran = _called([*words, *moved], there.home)
            text = ran.out + ran.err + _written(there, world)
            for argument in arguments:
                text = text.replace(argument, "")  # what was asked for may be said back
            runs = [folder for folder in (there.home / "runs").glob("*") if (folder / GATE).exists()]
            over = any(wall.ended(folder) for folder in runs)
            opened = any(wall.opened(folder) for folder in runs)
            found = [] if opened else [w for w in of_rows if w in text] if over else secrets.inside(text)
            yield Tried((*words, *arguments), ran, tuple(found))
            shutil.rmtree(there.home)
            if at and (over or {folder.name for folder in runs} - before):
                break


def _called(arguments: list[str], cwd: Path) -> Ran:
    """What a command says; when it breaks, what Python says of it."""
    try:
        return call(*arguments, cwd=cwd)
    except Exception:
        return Ran(1, "", traceback.format_exc())


def _written(there: World, world: World) -> str:
    """What a command wrote anywhere but where the gate keeps its rows and the problem its data."""
    out = []
    for file in there.home.rglob("*"):
        old = world.home / file.relative_to(there.home)
        if not file.is_file() or file.name.startswith(GATE) or (old.is_file() and there.problem in file.parents):
            continue
        out.append(file.read_bytes().decode("utf-8", "replace"))
    return "\n".join(out)


PACKAGES = ("agent.tools", "agent.integrations.mcp", "agent.integrations")


def tools() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions that a model or another program may call: those in tables, and all public async ones."""
    seen = set()
    for package in PACKAGES:
        for module in _modules(package):
            found = dict(inspect.getmembers(module, inspect.iscoroutinefunction))
            for table in (value for name, value in vars(module).items() if name in ("TABLE", "TOOLS")):
                for name, target in table.items():
                    where, _, attribute = str(target).partition(":")
                    found[name] = getattr(importlib.import_module(where), attribute) if attribute else target
            for name, function in found.items():
                if not name.startswith("_") and function not in seen and callable(function):
                    seen.add(function)
                    yield f"{module.__name__}:{name}", function


def _modules(package: str) -> Iterator[Any]:
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        assert error.name and package.startswith(error.name), f"{package} cannot be imported: {error}"
        return
    yield root
    for item in pkgutil.iter_modules(getattr(root, "__path__", [])):
        yield importlib.import_module(f"{package}.{item.name}")


async def told(function: Callable[..., Any], world: World, context: Context) -> str:
    """All that a tool says when it is called with what it could be called with."""
    said = []
    for value in (*_values(world), "row1"):
        arguments = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.default is not parameter.empty and name != "run":
                continue
            arguments[name] = _argument(name, str(parameter.annotation), value, world, context)
        try:
            answer = function(**arguments)
            said.append(await answer if inspect.isawaitable(answer) else answer)
        except Exception as error:
            assert not isinstance(error, TypeError), f"{function} cannot be called here: teach `_argument`: {error}"
            said.append(repr(error))
    return "\n".join(text if isinstance(text, str) else json.dumps(text, default=repr) for text in said)


def _argument(name: str, annotation: str, value: str, world: World, context: Context) -> Any:
    if "Context" in annotation or name == "context":
        return context
    if "Path" in annotation:
        return world.folder
    if name in ("run", "folder"):
        return str(world.folder)
    if "int" in annotation:
        return 1
    if "float" in annotation:
        return 1.0
    if "bool" in annotation:
        return True
    return [value] if annotation.startswith(("list", "Sequence", "tuple")) else value
