"""Killing an evolution in its sandbox loses nothing, repeats nothing that was finished, and leaves no process behind.

And decisions that are open at once keep all slots busy, and replay to equal events.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from agent import Budget, Code, Float, optimize
from agent.events import CallEnded, EvaluationEnded, EvaluationStarted, Event, ProposalEnded, ProposalStarted
from agent.journal import read_all
from agent.llm.types import Completion, ModelRequest
from agent.replay import replay
from tests.cli_helpers import environment
from tests.evolve_worker import ASKED, EXECUTED, WORKERS, Model

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
EVALUATIONS = 40


def begun(place: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.evolve_worker", str(place), str(EVALUATIONS), *more]
    env = {**environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def family(pid: int) -> dict[int, str]:
    """All processes below one, with the time when each began, which tells it from a later one of its number."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = (int(words[1]), words[19])
    out: dict[int, str] = {}
    ahead = [pid]
    while ahead:
        above = ahead.pop()
        below = {child: began for child, (parent, began) in parents.items() if parent == above}
        out |= below
        ahead += below
    return out


def alive(pid: int, began: str) -> bool:
    try:
        words = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return words[19] == began and words[0] != "Z"


def until(what: str, found: object) -> None:
    """Wait for something, as long as it takes on a busy machine."""
    deadline = time.monotonic() + PATIENCE
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def events(run: Path) -> list[Event]:
    return [entry.event for entry in read_all(run)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")
def test_a_killed_evolution_repeats_no_finished_evaluation_and_leaves_no_orphan(tmp_path: Path) -> None:
    process = begun(tmp_path)
    until("nothing was measured", lambda: len(lines(tmp_path / EXECUTED)) >= 12 or process.poll() is not None)
    below = family(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL, "it had ended by itself"
    assert len(below) >= 2 * WORKERS, "each slot has a worker, and that a sandbox"
    until("a process was left behind", lambda: not any(alive(pid, began) for pid, began in below.items()))

    (run,) = [item for item in tmp_path.iterdir() if (item / "journal.sqlite").exists()]
    before = events(run)
    flying = {event.id: event.candidate for event in before if isinstance(event, EvaluationStarted)}
    for event in before:
        if isinstance(event, EvaluationEnded):
            del flying[event.id]
    answered = sum(isinstance(event, CallEnded) for event in before)
    executed, asked = lines(tmp_path / EXECUTED), lines(tmp_path / ASKED)

    again = begun(tmp_path, run.name)
    told, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, told
    after = events(run)
    assert [event.body() for event in after[: len(before)]] == [event.body() for event in before]
    count = sum(isinstance(event, EvaluationEnded) for event in after)
    assert count == EVALUATIONS
    new = lines(tmp_path / EXECUTED)[len(executed) :]
    begun_after = sum(isinstance(event, EvaluationStarted) for event in after[len(before) :])
    assert len(new) == begun_after + len(flying), "more was executed than what had not ended"
    asks = Counter(lines(tmp_path / ASKED))
    assert len(asks) >= answered
    assert all(times == 1 for seed, times in asks.items() if seed not in asked[-WORKERS:]), "an answer was paid twice"
    assert asyncio.run(replay(run))[1] is None


class Slow(Model):
    """Says something new, after the pause that a real model takes; keeps how many calls were under way."""

    pause = 0.3

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.pause * (1 + self.calls % 3))  # no two of a group take the same time
        self.running -= 1
        return Completion(f"New.\n```python\ndef solve(x):\n    return {seed}\n```")


def far(candidate: dict[str, str]) -> float:
    return -len(candidate["program"])


def test_no_proposal_waits_for_the_slowest_and_the_run_replays(tmp_path: Path) -> None:
    model = Slow()
    result = optimize(
        far,
        space={"program": Code("def solve(x):\n    return 0\n", entry="solve"), "rate": Float(0, 1)},
        objectives="maximize",
        deterministic=True,
        model={"propose": model},
        budget=Budget(evaluations=26),
        runs=tmp_path,
        options={"proposer": "best_of_n", "workers": 4, "executor": "inline"},
    )
    assert model.most == 4, "there is a call for each slot, and no more"
    found = events(Path(result.folder))
    open_now = most = 0
    groups = []
    for event in found:
        open_now += isinstance(event, ProposalStarted) - isinstance(event, ProposalEnded)
        most = max(most, open_now)
        if isinstance(event, ProposalStarted):
            groups.append(event.n)
    assert most == 4
    assert set(groups) == {1}
    order = [event.id for event in found if isinstance(event, ProposalEnded)]
    assert order != sorted(order), "they ended in the order in which they began, so they waited for each other"
    assert {trial.candidate["rate"] for trial in result.trials} == {0.5}
    assert asyncio.run(replay(Path(result.folder)))[1] is None
