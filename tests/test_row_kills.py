"""Killing a run on rows, often in its exams: nothing is lost or measured twice, and no error level is given back.

The kills are real; what was measured is read from a log that the evaluator keeps, what was charged from the
accounts' own file.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.errors import StoreError
from agent.events import Event, ExamPlanned, VerdictReached
from agent.gate import levels
from agent.gate.accountfile import FILE as ACCOUNTS
from agent.gate.accounts import Accounts
from agent.journal import read_all
from agent.replay import replay
from agent.results.result import load_result, load_state
from agent.state import State
from tests.kill_worker import EXECUTED, LIFE
from tests.row_support import Ran, resumed, rows, session
from tests.row_support import problem as problem_on
from tests.test_kill import ROOT, Launcher, Watch, lines

KILLS = 60
STEPS = "tests.row_support:Steps"


class RowLauncher(Launcher):
    """Forks lives of runs on rows; see `tests.row_kill_worker`."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.row_kill_worker"]
        self._popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    made = RowLauncher()
    yield made
    made.close()


def charged(folder: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The exams and reports in the accounts of a runs folder, by kind, run and number."""
    path = folder / ACCOUNTS
    if not path.exists():
        return {}
    # Opened for writing: what a kill left half-written can only be rolled back then.
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as db:
        db.row_factory = sqlite3.Row
        known = [dict(row) for row in db.execute("SELECT * FROM exams ORDER BY id")]
    out = {(row["kind"], row["run"], row["exam"]): row for row in known}
    assert len(out) == len(known), "an exam is charged once"
    return out


@dataclass
class AccountWatch(Watch):
    """What must hold after every kill of a run on rows."""

    charged: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    """Where each kill found the run: in an exam, the report, or the search."""

    def look(self) -> None:
        super().look()
        now = charged(self.folder.parent)
        for key, old in self.charged.items():
            new = now[key]
            assert {k: v for k, v in old.items() if k not in ("accepted", "ended", "note")} == {
                k: v for k, v in new.items() if k not in ("accepted", "ended", "note")
            }, "what was charged stays as it was"
            assert old["accepted"] in (None, new["accepted"]), "a bit stays"
        self.charged = now
        events = [entry.event for entry in read_all(self.folder)] if self.stored else []
        names = {run.split()[0] for _, run, _ in now}
        assert len(names) <= 1, "it is one run to its accounts, however often it was killed"
        by_number = {number: row for (kind, _, number), row in now.items() if kind == "gate"}
        for event in events:
            if event.type == "exam.started":
                assert by_number[event.id]["level"] == event.level, "the level that was charged"
            elif event.type == "exam.decided":
                assert by_number[event.id]["accepted"] == event.accepted, "the bit is in the account before it is told"
        self.phases.append(_phase(events))

    def _fold(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "evaluation.started":
            self.started[body["id"]] = f"{body['candidate']} {body['example']} {body['replicate']}"
        elif kind == "evaluation.ended":
            assert self.started[body["id"]] not in self.finished, f"evaluation {body['id']} ended twice"
            self.finished.add(self.started[body["id"]])


def _phase(events: list[Event]) -> str:
    types = [event.type for event in events]
    if types.count("exam.planned") > types.count("exam.decided"):
        return "exam"
    return "report" if "report.planned" in types and "report.reached" not in types else "search"


def finished_well(folder: Path, watch: AccountWatch) -> None:
    events = [entry.event for entry in read_all(folder)]
    types = [event.type for event in events]
    assert types[-1] == "run.ended" and load_result(folder).saved
    assert types.count("exam.planned") == types.count("exam.started") == types.count("exam.decided") == 2
    assert types.count("report.planned") == types.count("report.started") == types.count("report.reached") == 1
    assert load_result(folder).status == "proven"
    assert sorted(watch.finished) == sorted(watch.started.values()), "every evaluation ends once"
    assert [key[0] for key in watch.charged] == ["gate", "gate", "report"]
    assert sum(row["level"] for (kind, *_), row in watch.charged.items() if kind == "gate") <= 0.05
    assert asyncio.run(replay(folder))[1] is None, "the journal replays to equal events"


@pytest.mark.parametrize("workers", [1, 4])
def test_kills_lose_nothing_and_give_no_level_back(launcher: Launcher, tmp_path: Path, workers: int) -> None:
    rng = random.Random(f"row kills {workers}")
    kills, phases = 0, []
    whole: list[str] | None = None
    for number in range(1, 1000):
        folder = tmp_path / str(number) / "run"
        folder.parent.mkdir()
        life = {"folder": folder, "workers": workers, "seed": 5}
        watch = AccountWatch(folder, 5)
        while True:
            end = {}
            if kills < KILLS // 2:
                end = {"signal": signal.SIGKILL, "mark": "drive", "after": rng.uniform(0, 0.3 / workers)}
            ending = launcher.life(**life, **end)
            watch.look()
            if not ending["killed"]:
                break
            kills += 1
        assert ending["code"] == 0, "\n".join(lines(folder.parent / LIFE)[-40:])
        phases += watch.phases[:-1]
        finished_well(folder, watch)
        lost = load_state(folder, everything=True).ledger.lost_evaluations
        assert len(watch.finished) <= watch.executed <= len(watch.finished) + lost, "only what was cut off was repeated"
        said = [event.body() for event in (e.event for e in read_all(folder)) if event.type in ("exam.started",)]
        assert said == (whole := whole or said), "however it was killed, the exams are the same"
        if kills >= KILLS // 2:
            break
    print(f"{kills} kills in {number} runs: { ({name: phases.count(name) for name in sorted(set(phases))}) }")
    assert kills == KILLS // 2
    assert phases.count("exam") + phases.count("report") >= kills // 3, "too few kills were in exams"


def test_two_runs_at_once_lose_no_charge(launcher: Launcher, tmp_path: Path) -> None:
    other = RowLauncher()
    try:
        with ThreadPoolExecutor(2) as both:
            for number in range(3):
                lives = [{"folder": tmp_path / f"{name}{number}", "workers": 2, "seed": number} for name in "ab"]
                ends = [both.submit(who.life, **life) for who, life in zip((launcher, other), lives, strict=True)]
                assert [end.result()["code"] for end in ends] == [0, 0], lines(tmp_path / LIFE)[-30:]
    finally:
        other.close()
    exams = [row for (kind, *_), row in charged(tmp_path).items() if kind == "gate"]
    assert [row["tests"] for row in exams] == list(range(len(exams))), "each exam knows of all that began before it"
    assert len({row["run"] for row in exams}) == 6 and {row["number"] for row in exams} == set(range(1, 7))
    assert sum(row["level"] for row in exams) <= 0.05
    for row in exams:
        known = {"accepts": row["accepts"], "tests": row["tests"], "run": row["number"], "taken": row["taken"]}
        assert row["level"] == levels.level(0.05, **known, last=bool(row["last"]), pending=row["pending"])
        assert row["accepted"] is not None
    for folder in tmp_path.glob("?[012]"):
        told = {event.level for event in (e.event for e in read_all(folder)) if event.type == "exam.started"}
        assert told <= {row["level"] for row in exams}
        assert asyncio.run(replay(folder))[1] is None


# The accounts' file cannot be used.


def fresh(**more: Any) -> Any:
    """A run that tries one better candidate."""
    options = {"candidates": [{"x": 0.3, "kind": "b"}]}
    return session(problem_on(data=rows(120)), 400, proposer=STEPS, options=options, **more)


class Blocking:
    """An observer that takes the accounts' file away at an event, and gives it back when it is told to."""

    def __init__(self, folder: Path, at: type[Event]) -> None:
        self.path, self.at, self.kept = folder / ACCOUNTS, at, folder / "kept"

    def __call__(self, event: Event, state: State) -> None:
        if isinstance(event, self.at) and not self.kept.exists():
            self.path.rename(self.kept)
            self.path.mkdir()

    def undo(self) -> None:
        self.path.rmdir()
        self.kept.rename(self.path)


@pytest.mark.parametrize("at", [ExamPlanned, VerdictReached])
def test_an_account_that_cannot_be_written_stops_the_run_which_then_goes_on(tmp_path: Path, at: type[Event]) -> None:
    block = Blocking(tmp_path, at)
    with pytest.raises(StoreError) as caught:
        asyncio.run(fresh(observers=(block,)).run(tmp_path / "run"))
    assert "unable to open" in caught.value.message and "free some space or permissions" in caught.value.hint
    types = [entry.event.type for entry in read_all(tmp_path / "run")]
    assert "exam.decided" not in types and types.count("exam.started") == (at is VerdictReached)
    block.undo()
    before = charged(tmp_path)
    assert [row["accepted"] for row in before.values()] == [None] * (at is VerdictReached)
    measured = types.count("evaluation.ended")
    found = asyncio.run(resumed(again := fresh(), tmp_path / "run"))
    assert found.result.status == "proven"
    assert len(again.executor.requests) == found.result.spent["evaluations"] - measured, "nothing is measured twice"
    ((_, after),) = charged(tmp_path).items()
    assert after["accepted"] == 1 and after["level"] == found.of("exam.started")[0].level
    assert all(row["level"] == after["level"] for row in before.values())
    assert asyncio.run(replay(tmp_path / "run"))[1] is None


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100])
def test_a_damaged_account_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    first = Ran(asyncio.run(fresh().run(tmp_path / "first")), tmp_path / "first", fresh())
    assert first.result.status == "proven"
    (tmp_path / ACCOUNTS).write_bytes(content)
    with pytest.raises(StoreError) as caught:
        asyncio.run(fresh().run(tmp_path / "second"))
    assert ACCOUNTS in caught.value.message and "restore it from a backup" in caught.value.hint
    assert not (tmp_path / "second").exists(), "no run begins without its account"
    assert (tmp_path / ACCOUNTS).read_bytes() == content, "and nothing starts from nothing in its place"


def test_an_account_that_was_killed_in_the_middle_of_a_charge_is_read_as_it_was_before(tmp_path: Path) -> None:
    asyncio.run(fresh().run(tmp_path / "runs" / "first"))
    accounts, rest = Accounts(tmp_path / "runs"), tmp_path / "rest"
    gate = fresh().problem.data[:50]
    before = accounts.standing(gate, 0.05)
    rest.mkdir()
    with accounts._file.writing() as db:
        db.execute("PRAGMA cache_size = 1")  # so that what is not committed reaches the disk
        db.executemany("INSERT INTO accounts (kind) VALUES (?)", [("gate" * 500,)] * 200)
        for file in (tmp_path / "runs").glob(f"{ACCOUNTS}*"):
            (rest / file.name).write_bytes(file.read_bytes())
    assert len(list(rest.iterdir())) == 2, "the file, and the way back"
    assert Accounts(rest).standing(gate, 0.05) == before
    assert not list(rest.glob("*-journal")), "it was rolled back"


def test_the_log_is_what_was_executed(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert launcher.life(folder=folder, workers=1, seed=1)["code"] == 0
    state = load_state(folder)
    assert len(lines(tmp_path / EXECUTED)) == state.ledger.evaluations > 200
