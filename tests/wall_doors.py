"""All doors in the wall, and ways to try them.

Doors are found and not listed: commands in `agent.cli.main.COMMANDS` and in the groups below them, a model's tools in
the modules of their package, what a coding agent may call in the server's own list. One that comes later is tried by
itself.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from agent import wall
from agent.cli.jsonlines import JsonLines
from agent.control.detach import LOG
from agent.errors import ConfigError
from agent.journal import GATE, read_all
from agent.lock import is_locked
from agent.proposers.base import Context
from agent.serving.places import Places
from agent.serving.tools import NAMES, Tools
from agent.state import State
from agent.tools.base import Desk, Tool, tool_of
from agent.tools.base import call as call_tool
from tests.cli_helpers import Ran, call
from tests.view_support import crawled
from tests.wall_support import MARK, NAME, Secrets, World


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
    if command.name == "serve-eval":  # without, it waits for another program; tests/serving asks it
        base.append("--beside")
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
            yield [*base, *place, *value, *machine]
            if len(value) == 1:
                yield [*base, *place, *value]
    yield [*base, *place, *flags]


def _known(argument: click.Argument, world: World) -> str | None:
    if argument.name in ("run", "runs", "folder", "run_folder"):
        return NAME
    if argument.name in ("problem", "problem_folder"):
        return str(world.problem)
    if argument.name == "files":  # an evaluation that is whole
        found = world.home / "evaluated.jsonl"
        if not found.exists():
            assert call("eval", world.problem, "--out", found, cwd=world.home).code == 0
        return str(found)
    if argument.name == "file":  # a batch over the problem
        batch = world.home / "nightly.toml"
        batch.write_text(f"runs = 'runs'\n[[problems]]\npath = '{world.problem.relative_to(world.home)}'\n")
        return str(batch)
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
        return [[flag, "1"]]
    if flag == "--order":  # a program that puts what it is shown in the order in which it is shown
        order = "import json, sys; print(*range(1, len(json.load(sys.stdin)) + 1))"
        return [[flag, f"{shlex.quote(sys.executable)} -c {shlex.quote(order)}"]]
    types = ["evaluation.ended", "verdict.reached", "holdout.fixed"]
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
            if words == ("logs",):
                _log(there.folder)
            ran = crawled(moved, there.home) if words == ("view",) else _called([*words, *moved], there.home)
            if "--detach" in moved:
                _wait(there.home / "runs")
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


def _log(folder: Path) -> None:
    """What the run would have logged in the background."""
    state = None
    with open(folder / LOG, "w", encoding="utf-8") as file:
        lines = JsonLines(file)
        for entry in read_all(folder):
            if state is None:
                state = State(entry.event, entry.time)  # type: ignore[arg-type]
            else:
                state.apply(entry.event, entry.time)
            lines(entry.event, state)


def _wait(runs: Path) -> None:
    """Until the processes that were left in the background have gone."""
    end = time.monotonic() + 120
    while any(is_locked(folder) or is_locked(folder, LOG) for folder in runs.iterdir() if folder.is_dir()):
        assert time.monotonic() < end, "a run in the background never ended"
        time.sleep(0.02)


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


def tools() -> Iterator[tuple[str, Callable[..., Any] | Tool]]:
    """The functions that a model may call: those in tables, and all public async ones."""
    seen = set()
    for module in _modules("agent.tools"):
        found = dict(inspect.getmembers(module, inspect.iscoroutinefunction))
        listed = (value for name, value in vars(module).items() if name in ("TABLE", "TOOLS"))
        for table in (value for value in listed if isinstance(value, Mapping)):
            for name, target in table.items():
                where, _, attribute = str(target).partition(":")
                found[name] = getattr(importlib.import_module(where), attribute) if attribute else target
        for name, function in found.items():
            known = id(function) in seen or name.startswith("_")
            if not known and (callable(function) or isinstance(function, Tool)):
                seen.add(id(function))
                yield f"{module.__name__}:{name}", function


def agents_tools(world: World) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What a coding agent may call over MCP, served for the world's problem; it may start no run."""
    served = Tools(Places([world.problem], str(world.folder.parent)), 0, str(world.folder.parent))
    for name in NAMES:
        yield f"{Tools.__module__}:{name}", getattr(served, name)


def _modules(package: str) -> Iterator[Any]:
    root = importlib.import_module(package)
    yield root
    for item in pkgutil.iter_modules(root.__path__):
        yield importlib.import_module(f"{package}.{item.name}")


async def told(function: Callable[..., Any] | Tool, world: World, context: Context) -> str:
    """All that a tool says when it is called with what it could be called with."""
    said = []
    values = (*_values(world), "row1", "val.jsonl", "test.jsonl")
    if isinstance(function, Tool) or next(iter(inspect.signature(function).parameters), "") == "desk":
        tool = function if isinstance(function, Tool) else tool_of(function)
        context = replace(context, effects=_Ended(context.effects) if context.effects is not None else None)
        for value in values if "code" not in tool.schema["properties"] else ("print(history)",):
            plain, full = _filled(tool.schema, value), _filled(tool.schema, value, every=True)
            for arguments in [plain] if plain == full else [plain, full]:
                text, _ = await call_tool(tool, Desk(context, "1.0.0", {"files": ["**"]}), arguments)
                said.append(_unasked(text, value))
        return "\n".join(said)
    tried: list[dict[str, Any]] = []
    for value in values:
        arguments: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.default is not parameter.empty and name != "run":
                continue
            arguments[name] = _argument(name, str(parameter.annotation), value, world, context)
        if arguments in tried:  # it takes none of the values
            continue
        tried.append(arguments)
        try:
            answer = function(**arguments)
            answer = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            assert not isinstance(error, TypeError), f"{function} cannot be called here: teach `_argument`: {error}"
            answer = repr(error)
        said.append(_unasked(answer if isinstance(answer, str) else json.dumps(answer, default=repr), value))
    return "\n".join(said)


def _unasked(text: str, value: str) -> str:
    """What a tool says, without the id of a held-out row that it was asked for: it may be said back."""
    return text.replace(value, "") if MARK in value else text


class _Ended:
    """What a run that was cut off can do for its proposer: all but measure, which nobody would answer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def look(self, *_: Any) -> Any:
        raise ConfigError("nothing can be measured here")


def _filled(schema: Any, value: str, every: bool = False) -> Any:
    """Arguments that fit a tool's schema: the required ones, or all."""
    kind = schema.get("type") or next((item.get("type") for item in schema.get("anyOf", ())), None)
    if kind == "object":
        fields = schema.get("properties", {})
        return {n: _filled(part, value) for n, part in fields.items() if every or n in schema.get("required", ())}
    if kind == "array":
        return [_filled(schema.get("items", {}), value)]
    return {"integer": 1, "number": 1.0, "boolean": True}.get(kind, value)


def _argument(name: str, annotation: str, value: str, world: World, context: Context) -> Any:
    if "Context" in annotation or name == "context":
        return context
    if "Path" in annotation:
        return world.folder
    if name == "run":
        return NAME
    if name == "problem":
        return world.problem.name
    if "int" in annotation:
        return 1
    if "float" in annotation:
        return 1.0
    if "bool" in annotation:
        return True
    return [value] if annotation.startswith(("list", "Sequence", "tuple")) else value
