"""Killing a run at random moments loses nothing and repeats no finished evaluation.

The kills are real (SIGKILL), and what happened is read from logs that the evaluator and the model
keep themselves, outside of the run: who was executed, and who was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.events import CallEnded, CallStarted, EvaluationEnded, EvaluationStarted, RunResumed
from agent.journal import FILE, GATE, read_all
from agent.llm.gateway import wire_seed
from agent.replay import replay
from agent.results.result import load_result, load_state
from tests.kill_worker import ASKED, EXECUTED, LIFE

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
KILLS = 200
"""In all; shared by the kinds of run below."""
KINDS = [(noisy, workers) for noisy in (False, True) for workers in (1, 4)]


class Launcher:
    """A process that has imported the package and forks the lives; see `tests.kill_worker`."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.kill_worker"]
        self._popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def life(self, **life: Any) -> dict[str, Any]:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        print(json.dumps(life, default=str), file=self._popen.stdin, flush=True)
        ending: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return ending

    def close(self) -> None:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.close()
        self._popen.wait(PATIENCE)
        self._popen.stdout.close()


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    made = Launcher()
    yield made
    made.close()


def stored(path: Path, place: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            return db.execute(f"SELECT {place}, seq, time, type, audience, body FROM events ORDER BY seq").fetchall()
        except sqlite3.OperationalError:  # killed before the table was made
            return []


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """Both files as they are stored, in one order; empty before the first commit.

    What the gate's file has behind the end of the other one is half of a group, and did not happen.
    """
    public = stored(folder / FILE, "seq")
    assert [row[0] for row in public] == list(range(1, len(public) + 1)), "a gap in the journal"
    held = [row for row in stored(folder / GATE, "after") if row[0] <= len(public)]
    order = sorted([(row[0], 0, *row[1:]) for row in public] + [(row[0], 1, *row[1:]) for row in held])
    return [row[3:] for row in order]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@dataclass
class Watch:
    """What must hold after every kill, compared with all that was seen before."""

    folder: Path
    seed: int
    stored: list[tuple[Any, ...]] = field(default_factory=list)
    executed: int = 0
    asked: int = 0
    started: dict[int, str] = field(default_factory=dict)
    """Evaluations that the journal knows to have begun, as the evaluator logs them."""
    finished: set[str] = field(default_factory=set)
    calls: dict[int, str] = field(default_factory=dict)
    """Model calls likewise, as the model logs them."""
    answered: set[str] = field(default_factory=set)

    def look(self) -> None:
        now = rows(self.folder)
        assert now[: len(self.stored)] == self.stored, "something that was durable is gone or changed"
        executed, asked = lines(self.folder.parent / EXECUTED), lines(self.folder.parent / ASKED)
        again = self.finished & set(executed[self.executed :])
        assert not again, f"finished evaluations were executed again: {again}"
        again = self.answered & set(asked[self.asked :])
        assert not again, f"answered calls were made again: {again}"
        for _, kind, _, text in now[len(self.stored) :]:
            if kind.startswith(("evaluation.", "call.")):
                self._fold(kind, json.loads(text))
        assert set(executed) <= set(self.started.values()), "executed before it was in the journal"
        assert set(asked) <= set(self.calls.values()), "asked before it was in the journal"
        self.stored, self.executed, self.asked = now, len(executed), len(asked)

    def _fold(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "evaluation.started":
            self.started[body["id"]] = f"{body['candidate']} {body['replicate']}"
        elif kind == "evaluation.ended":
            assert self.started[body["id"]] not in self.finished, f"evaluation {body['id']} ended twice"
            self.finished.add(self.started[body["id"]])
        elif kind == "call.started":
            self.calls[body["id"]] = str(wire_seed(self.seed, body["scope"], body["key"], body["ordinal"]))
        elif kind == "call.ended":
            assert self.calls[body["id"]] not in self.answered, f"call {body['id']} was answered twice"
            self.answered.add(self.calls[body["id"]])


def finished_well(folder: Path, life: dict[str, Any]) -> int:
    """What must hold at the end; the number of calls that were cut off."""
    events = [entry.event for entry in read_all(folder)]
    assert events[-1].type == "run.ended"
    started = [e.id for e in events if isinstance(e, EvaluationStarted)]
    ended = [e.id for e in events if isinstance(e, EvaluationEnded)]
    assert started == list(range(1, life["evaluations"] + 1)), "the limit on evaluations holds exactly"
    assert sorted(ended) == started, "every evaluation ends once"
    calls = [e.id for e in events if isinstance(e, CallStarted)]
    answered = [e.id for e in events if isinstance(e, CallEnded)]
    assert len(set(answered)) == len(answered)
    assert len(calls) <= life["calls"], "what may have been spent counts against the limit"
    state = load_state(folder, everything=True)
    assert state.ledger.evaluations == life["evaluations"]
    assert state.ledger.total.calls == len(answered)
    spent = state.ledger.to_json()
    assert spent["possibly_spent"]["calls"] == len(calls) - len(answered), "what was cut off is shown"
    assert state.resumes == sum(isinstance(e, RunResumed) for e in events)
    assert asyncio.run(replay(folder))[1] is None, "the journal replays to equal events"
    return len(calls) - len(answered)


@pytest.mark.parametrize(("noisy", "workers"), KINDS)
def test_killing_at_random_moments_loses_nothing(launcher: Launcher, tmp_path: Path, noisy: bool, workers: int) -> None:
    rng = random.Random(f"kills {noisy} {workers}")
    kills = cut = grown = 0
    slow = 1.0  # how much later the kills come than on a quiet machine, so that a busy one gets somewhere too
    for number in range(1, 1000):
        folder = tmp_path / str(number) / "run"
        folder.parent.mkdir()
        life = {"folder": folder, "noisy": noisy, "workers": workers, "seed": number, "evaluations": 120, "calls": 40}
        watch = Watch(folder, number)
        while True:
            end = {}
            if kills < KILLS // len(KINDS):
                mark, longest = ("drive", 0.06) if rng.random() < 0.8 else ("fork", 0.1)
                end = {"signal": signal.SIGKILL, "mark": mark, "after": rng.uniform(0, longest * slow)}
            before = len(watch.stored)
            ending = launcher.life(**life, **end)
            watch.look()
            if not ending["killed"]:
                break
            kills += 1
            grew = len(watch.stored) > before
            grown += grew
            slow = max(1.0, slow / 1.25) if grew else slow * 1.25
        assert ending["code"] == 0, "\n".join(lines(folder.parent / LIFE)[-40:])
        assert load_result(folder).saved, "a run that ended has its summary, wherever it was killed"
        cut += finished_well(folder, life)
        lost = load_state(folder, everything=True).ledger.lost_evaluations
        assert watch.executed <= life["evaluations"] + lost, "only what was cut off was executed again"
        if kills >= KILLS // len(KINDS):
            break
    print(f"{kills} kills in {number} runs; the journal grew in {grown} of the lives; {cut} calls were cut off")
    assert kills == KILLS // len(KINDS)
    assert grown >= kills // 4, "the kills came too early to mean anything"


@pytest.mark.parametrize("workers", [1, 4])
def test_a_first_sigterm_finishes_what_is_in_flight(launcher: Launcher, tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "run"
    life = {"folder": folder, "noisy": False, "workers": workers, "seed": 1, "evaluations": 120, "calls": 40}
    watch = Watch(folder, 1)
    ending = launcher.life(**life, signal=signal.SIGTERM, mark="drive", after=0.05)
    watch.look()
    assert ending["code"] == 143, lines(tmp_path / LIFE)[-20:]
    state = load_state(folder, everything=True)
    assert state.ended is None and state.halt is not None and state.halt.reason == "terminated"
    assert not state.evaluations and not state.calls, "nothing was cut off"
    assert len(watch.finished) == watch.executed, "what was executed was recorded"
    assert launcher.life(**life)["code"] == 0
    watch.look()
    assert finished_well(folder, life) == 0
    assert watch.executed == life["evaluations"], "nothing was executed twice"


def truegain(*words: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "agent", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def alive(pid: int) -> bool:
    """Whether the process exists and is not just waiting to be reaped."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state[:1] not in ("", "Z", "X")


def waited(condition: Any) -> bool:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


SLOW = """

def slowly(candidate):
    import os, pathlib, time

    pathlib.Path(__file__).with_name(f"{os.getpid()}-{os.getppid()}.pid").touch()
    time.sleep(0.05)
    return measure(candidate)
"""


def test_a_killed_command_leaves_no_worker_and_resumes(tmp_path: Path) -> None:
    folder, runs = tmp_path / "starter", tmp_path / "runs"
    with truegain("init", folder) as made:
        assert made.wait(PATIENCE) == 0
    evaluate, problem = folder / "evaluate.py", folder / "problem.toml"
    evaluate.write_text(evaluate.read_text() + SLOW)
    problem.write_text(problem.read_text().replace("evaluate:measure", "evaluate:slowly"))
    given = ("--proposer", "coordinate", "--workers", 2, "--evaluations", 40, "--runs", runs)
    with truegain("run", folder, *given) as running:
        try:
            assert waited(lambda: sum(row[1] == "evaluation.ended" for run in runs.glob("*") for row in rows(run)) >= 8)
        finally:
            os.kill(running.pid, signal.SIGKILL)
            running.wait(PATIENCE)
    # In the names: a file that a kill interrupts between its making and its writing is empty.
    workers = [int(pid) for file in folder.glob("*.pid") for pid in file.stem.split("-")]
    assert len(workers) >= 4, "two workers and their guards"
    assert waited(lambda: not any(alive(pid) for pid in workers)), "processes are left"
    (run,) = runs.glob("[!.]*")
    before = rows(run)
    with truegain("resume", "last", "--runs", runs, "--json") as resumed:
        said = resumed.communicate(timeout=PATIENCE)[0]
    assert resumed.returncode == 0, said
    assert rows(run)[: len(before)] == before
    state = load_state(run)
    assert state.ended is not None and state.ledger.evaluations == 40 and state.resumes == 1
