"""The wall: nothing of the gate is seen while a run is open but its bit, whichever door is tried."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import random
import socket
import sqlite3
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from agent import wall
from agent.cli import main as cli_main
from agent.cli.run import session_of
from agent.config import load
from agent.gate.accountfile import FILE as ACCOUNTS
from agent.journal import FILE, GATE, read, read_all
from agent.llm.types import Completion
from agent.looking import Look, LookRow
from agent.loop import Run
from agent.problem import Example
from agent.proposers.base import Context
from agent.proposers.table import TABLE, talks
from agent.proposers.table import load as load_proposer
from agent.replay import replay
from agent.results.result import load_result, load_state
from agent.serving.tools import Tools
from agent.space import Candidate
from agent.telling.display import Display
from agent.testing.proposers import instance
from tests.cli_helpers import call
from tests.row_support import problem as row_problem
from tests.support import Direct
from tests.wall_doors import agents_tools, commands, told, tools, tried
from tests.wall_support import MARK, NAME, Secrets, Stopping, World, cut_off, forget, seen_by, write_problem

PLACES = ("interim", "last", "report")
AGENT = Path(wall.__file__).parent


@pytest.fixture(scope="module", params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return asyncio.run(cut_off(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run that was cut off in its last exam, with an interim exam behind it."""
    return asyncio.run(cut_off(tmp_path_factory.mktemp("again"), "last"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run on prompts that was cut off in its first exam."""
    return asyncio.run(cut_off(tmp_path_factory.mktemp("texts"), "interim", texts=True))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def refuse(host: Any, *more: Any, **given: Any) -> Any:
        if host == "127.0.0.1":  # by which the crawler asks the live view
            return look_up(host, *more, **given)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_there_is_something_to_hide(world: World) -> None:
    held = [entry.event for entry in read_all(world.folder) if entry.event.audience != "search"]
    rows = [event for event in held if event.type == "evaluation.ended"]
    assert len(rows) >= 9 and all(MARK in event.body() for event in rows)
    assert len(world.contexts) >= 1
    secrets = Secrets.of(world.folder)
    assert len(secrets.numbers) >= 5


# While the run is open.


def test_what_the_search_and_people_may_read_holds_no_secret(world: World) -> None:
    secrets = Secrets.of(world.folder)
    for entries in (read(world.folder), wall.visible(world.folder)):
        for entry in entries:
            assert entry.event.audience == "search"
            assert not secrets.inside(json.dumps(entry.to_json(), ensure_ascii=False))


def test_an_open_result_says_nothing_of_the_gate(world: World) -> None:
    result, secrets = load_result(world.folder), Secrets.of(world.folder)
    assert result.status == "open" and result.verdict is None
    assert not secrets.inside(json.dumps(result.to_json()) + result.markdown() + repr(result))
    assert not seen_by(load_state(world.folder), secrets)


@pytest.mark.parametrize("where", PLACES)
async def test_who_interrupts_an_exam_is_told_nothing_of_it(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "runs" / NAME
    forget()
    chosen = session_of(load(write_problem(tmp_path / "problem"), {}))
    chosen.executor = stopping = Stopping(chosen.problem, folder, where, polite=True)

    def hold(run: Run) -> None:
        stopping.run = run

    result = await chosen.run(folder, hold)
    assert result.status == "open" and result.exit_code == 130
    secrets = Secrets.of(folder)
    assert not secrets.inside(json.dumps(result.to_json()) + result.markdown() + repr(result))
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith(GATE):
            assert not secrets.inside(file.read_bytes().decode("utf-8", "replace")), file.name


def test_no_file_but_the_gates_own_holds_a_secret(world: World) -> None:
    """The journal is in the write-ahead log while the run goes on, so it is looked at then, and after."""
    secrets = Secrets.of(world.folder)
    assert f"{FILE}-wal" in world.live and MARK.encode() in world.live[f"{GATE}-wal"], "the looking is real"
    later = {file.name: file.read_bytes() for file in world.folder.parent.rglob("*") if file.is_file()}
    assert {FILE, GATE, ACCOUNTS} <= later.keys() and MARK.encode() in later[GATE]
    for files in (world.live, later):
        for name, content in files.items():
            if not name.startswith(GATE):
                assert not secrets.inside(content.decode("utf-8", "replace")), name


def test_accounts_hold_no_row(world: World) -> None:
    with closing(sqlite3.connect(world.folder.parent / ACCOUNTS)) as db:
        text = "\n".join(db.iterdump())
    content = [json.loads(line) for name in ("train", "val", "test") for line in _lines(world, name)]
    assert "INSERT INTO" in text and len(content) == 150
    for row in content:
        assert row["id"] not in text and row["question"].split()[-1] not in text and row["answer"] not in text


def _lines(world: World, name: str) -> list[str]:
    return (world.problem / f"{name}.jsonl").read_text().splitlines()


def test_no_proposer_is_given_a_way_to_the_gate(world: World) -> None:
    secrets = Secrets.of(world.folder)
    for context in world.contexts:
        assert not seen_by(context, secrets)


def test_the_journal_names_no_anchor_that_is_held_out() -> None:
    data = [Example("known", {"n": 1}, anchor=True), Example(f"val-{MARK}", {"n": 2}, split="val", anchor=True)]
    chosen = row_problem(data=data)
    told = chosen.to_json()
    assert told["anchors"] == ["known"] and MARK not in json.dumps(told)


async def test_a_proposer_that_asks_for_held_out_rows_gets_none(last: World) -> None:
    context = last.contexts[-1]
    ids = [json.loads(line)["id"] for name in ("val", "test") for line in _lines(last, name)]
    for name in ids:
        with pytest.raises(Exception, match="there is no row"):
            await context.read(name)
    assert context.reads == []


ASKING = {"tune": {"by": "llambo"}}
"""Options without which a proposer that may ask a model asks none."""


@pytest.mark.parametrize("name", [name for name in TABLE if talks(load_proposer(name))])
async def test_no_prompt_holds_a_secret(texts: World, name: str) -> None:
    """Nor does one to a model that is asked for vectors, and whatever it replies."""
    secrets, asked = Secrets.of(texts.folder), []

    async def ask(request: Any) -> Completion:
        asked.append(json.dumps(request.to_json(), ensure_ascii=False, default=repr))
        replies = {} if request.schema is None else instance(request.schema, random.Random(len(asked)))
        return Completion(text=json.dumps(replies), parsed=replies, model="scripted:test")

    async def consult(request: Any, role: str, key: str) -> Completion:
        return await ask(request)

    async def look(candidate: Candidate, rows: list[str], key: str, most: float) -> Look:
        score = {"accuracy": random.Random(candidate.id).random()}
        return Look(candidate.id, candidate.values_json, tuple(LookRow(row, score) for row in rows), score)

    async def read(row: str) -> Any:
        return next(json.loads(line) for line in _lines(texts, "train") if json.loads(line)["id"] == row)

    context = texts.contexts[-1]
    effects = replace(context.effects, consult=consult, look=look)
    memory = None
    for decision in range(9, 29):  # some first measure, or ask only now and then
        given = Context(
            **{
                **vars(context),
                "ask": ask,
                "effects": effects,
                "reader": read,
                "options": ASKING.get(name, {}),
                "memory": memory,
                "rejections": [],
                "decision": decision,
            }
        )
        await _attempt(load_proposer(name).propose(given, 2))
        memory = given.memory
        if len(asked) >= 4:
            break
    assert asked and not any(secrets.inside(text) for text in asked)


async def _attempt(work: Any) -> None:
    # The reply makes no sense to it, or a measurement never comes; what it asks is what counts.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(work, 1.0)


FORBIDDEN = (
    "sqlite3",
    "agent.wall",
    "agent.journal",
    "agent.results.result",
    "agent.state",
    "agent.session",
    "agent.loop",
)


def modules_that_could_look(root: Path = AGENT) -> list[str]:
    """Modules on the search's side that import what reads the gate's rows."""
    found = []
    for package in ("proposers", "prompts", "tools"):
        for file in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                wrong = [n for n in names if n in FORBIDDEN or n.startswith(("agent.gate.accounts", "agent.gate.cust"))]
                found += [f"{file.name}: {name}" for name in wrong]
    return found


def test_what_the_search_is_made_of_cannot_open_the_gates_file(tmp_path: Path) -> None:
    assert modules_that_could_look() == []
    for package, text in (("tools", "from agent import wall"), ("prompts", "import sqlite3")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "peek.py").write_text(text)
    assert len(modules_that_could_look(tmp_path)) == 2, "the test sees it"


def test_templates_say_only_what_they_are_given() -> None:
    from agent.prompts.render import _environment

    environment = _environment()
    import jinja2

    assert set(environment.globals) == set(jinja2.Environment().globals), "a template reaches nothing by itself"
    assert set(environment.filters) == set(jinja2.Environment().filters)
    templates = [
        file for file in (AGENT / "prompts").rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")
    ]
    assert templates
    for file in templates:
        text = file.read_text(encoding="utf-8")
        assert "__" not in text, f"{file.name} looks inside of what it is given"
        environment.parse(text)


def leaks_of_commands(world: World, place: Path) -> list[str]:
    return [f"{' '.join(item.words)}: {item.leaked[:3]}" for item in tried(world, place) if item.leaked]


def test_no_command_shows_a_secret(last: World, tmp_path: Path) -> None:
    attempts = list(tried(last, tmp_path))
    assert not [f"{' '.join(item.words)}: {item.leaked[:3]}" for item in attempts if item.leaked]
    worked = {item.words[0] for item in attempts if item.ran.code == 0}
    broken = [item for item in attempts if item.ran.code == 1 and "Traceback" in item.ran.err]
    assert not broken, f"{broken[0].words}: {broken[0].ran.err[-800:]}"
    steering = {"pause", "stop"}  # they reach live processes only, and say no more than the run's name
    after = {"apply"}  # tried below
    spoken = {"mcp"}  # it waits for a client: tests/serving/test_mcp_wall.py is one, and asks every tool
    assert set(cli_main.COMMANDS) - steering - after - spoken == worked, "a command that never works tests nothing"


def test_after_the_end_apply_and_report_show_no_word_of_a_held_out_row(last: World, tmp_path: Path) -> None:
    there = finished(last, tmp_path / "copy")
    page = tmp_path / "report.html"
    for words in (("apply", NAME), ("apply", NAME, "--json"), ("report", NAME, "--full", "--to", str(page))):
        ran = call(*words, "--runs", there.folder.parent, cwd=there.home)
        assert ran.code == 0, ran.err
        assert MARK not in ran.out + ran.err
    assert MARK not in page.read_text()


async def test_no_tool_tells_a_secret(world: World) -> None:
    secrets = Secrets.of(world.folder)
    for name, function in (*tools(), *agents_tools(world)):
        text = await told(function, world, world.contexts[-1])
        assert not secrets.inside(text), name


def test_a_replay_of_an_open_run_shows_no_secret(world: World, tmp_path: Path) -> None:
    """Not even where it leaves the recorded path among the gate's events."""
    there = world.copy(tmp_path / "copy")
    with closing(sqlite3.connect(there.folder / GATE)) as db, db:
        (place,) = db.execute("SELECT max(seq) FROM events WHERE type = 'evaluation.started'").fetchone()
        db.execute("UPDATE events SET body = replace(body, '\"seed\":', '\"seed\":7') WHERE seq = ?", (place,))
    _, difference = asyncio.run(replay(there.folder))
    assert difference is not None, "the tampering is found"
    assert not Secrets.of(world.folder).inside(repr(difference))


def test_who_watches_the_terminal_sees_the_bit_alone(
    last: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = last.copy(tmp_path / "copy")
    state, display = None, Display(live=False)
    from agent.state import State

    for entry in read_all(there.folder):
        if state is None:
            state = State(entry.event, entry.time)  # type: ignore[arg-type]
        else:
            state.apply(entry.event, entry.time)
        display(entry.event, state)
    shown = capsys.readouterr()
    assert "gate: accepted" in shown.err and not Secrets.of(last.folder).inside(shown.err + shown.out)


# After the end.


def finished(world: World, home: Path) -> World:
    """A copy that has gone on to its end."""
    there = world.copy(home)
    forget()
    chosen = session_of(load(there.problem, {}))
    chosen.executor = Direct(chosen.problem)
    asyncio.run(chosen.resume(there.folder))
    return there


def test_after_the_end_verdicts_are_told_and_rows_only_when_they_are_opened(world: World, tmp_path: Path) -> None:
    there = finished(world, tmp_path / "copy")
    result = load_result(there.folder)
    assert result.status == "proven" and result.verdict is not None
    assert result.verdict["effect"] > 0.1 and result.verdict["interval"] and "Shown" in result.sentence
    shown = [entry.event for entry in wall.visible(there.folder)]
    assert {"exam.planned", "exam.started", "verdict.reached", "report.reached"} <= {event.type for event in shown}
    rows = Secrets.of(there.folder, rows_only=True)
    for event in shown:
        assert not rows.inside(event.body()), event.type
    assert not rows.inside(json.dumps(result.to_json()))
    wall.mark_opened(there.folder, 1.0)
    after = [entry.event for entry in wall.visible(there.folder)]
    assert len(after) > len(shown) and any(MARK in event.body() for event in after)
    assert [entry.event for entry in read(there.folder)] == [e for e in after if e.audience == "search"]


# The test itself can fail.


def leaking(world: World) -> str:
    return "\n".join(entry.event.body() for entry in read_all(world.folder))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts a module in place as if it had been written."""

    def place(name: str, **members: Any) -> None:
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    yield place


@pytest.mark.parametrize("grouped", [False, True])
def test_a_command_that_leaks_is_found(
    last: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Any, grouped: bool
) -> None:
    @click.command("peek")
    @click.argument("run")
    @click.option("--runs")
    @click.option("--deep", is_flag=True)
    def peek(run: str, runs: str, deep: bool) -> None:
        if deep:
            click.echo("\n".join(entry.event.body() for entry in read_all(Path(runs) / run)))

    command: click.Command = peek
    if grouped:
        command = click.Group("peeks", commands={"peek": peek})
    stub("agent.cli.peeks", command=command)
    monkeypatch.setattr(cli_main, "COMMANDS", {"peeks": "a command with a hole"})
    assert [words for words, _ in commands()] == [("peeks", "peek") if grouped else ("peeks",)]
    assert leaks_of_commands(last, tmp_path)


async def test_a_tool_that_leaks_is_found(last: World, monkeypatch: pytest.MonkeyPatch, stub: Any) -> None:
    async def peek(folder: Path) -> str:
        """Look at a run."""
        return "\n".join(entry.event.body() for entry in read_all(folder))

    package = types.ModuleType("agent.tools")
    package.TABLE = {"peek": "agent.tools.peeking:peek"}  # type: ignore[attr-defined]
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "agent.tools", package)
    stub("agent.tools.peeking", peek=peek)
    found = [function for name, function in tools() if name.endswith(":peek")]
    assert found and Secrets.of(last.folder).inside(await told(found[0], last, last.contexts[-1]))


async def test_what_a_coding_agent_may_call_is_really_called(last: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def said(name: str) -> str:
        (function,) = (function for where, function in agents_tools(last) if where.endswith(f":{name}"))
        return await told(function, last, last.contexts[-1])

    assert '"run": "wall-run", "problem": "problem"' in await said("list_runs")
    assert '"events": [{' in await said("observe") and '"kind": "' in await said("show_candidate")
    monkeypatch.setattr(Tools, "list_runs", lambda self: {"runs": [e.event.body() for e in read_all(last.folder)]})
    assert Secrets.of(last.folder).inside(await said("list_runs"))


def test_a_way_from_the_context_to_the_gate_is_found(last: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets, state = Secrets.of(last.folder), load_state(last.folder, everything=True)
    context = last.contexts[-1]
    for place, value in (("memory", {"deep": [state.gate.known]}), ("options", {"n": state.gate.val}), ("left", state)):
        with monkeypatch.context() as patch:
            patch.setattr(context, place, value)
            assert seen_by(context, secrets), place
    assert not seen_by(context, secrets)


def test_a_verdict_and_a_score_are_known_again(last: World) -> None:
    secrets, held = Secrets.of(last.folder), [entry.event for entry in read_all(last.folder)]
    verdicts = [event for event in held if event.type == "verdict.reached"]
    assert verdicts and secrets.inside(verdicts[0].body().replace(MARK, ""))
    scores = [event.score["values"] for event in held if event.type == "evaluation.ended" and event.audience == "gate"]  # type: ignore[attr-defined]
    assert len(scores) > 60 and all(secrets.inside(json.dumps(score)) for score in scores)
