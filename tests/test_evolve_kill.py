"""Killing an evolution in its sandbox loses nothing, repeats nothing finished, and leaves no process behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from agent.events import CallEnded, EvaluationEnded, EvaluationStarted, Event
from agent.gate.quarantine import CHECKS, SHARE
from agent.journal import read_all
from agent.replay import replay
from tests.cli_helpers import environment
from tests.evolve_worker import ASKED, EXECUTED, WORKERS

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
    held = min(CHECKS, EVALUATIONS // SHARE)
    assert count == EVALUATIONS - held + 1, "one of the checks that were held back was needed"
    new = lines(tmp_path / EXECUTED)[len(executed) :]
    begun_after = sum(isinstance(event, EvaluationStarted) for event in after[len(before) :])
    assert len(new) == begun_after + len(flying), "more was executed than what had not ended"
    asks = Counter(lines(tmp_path / ASKED))
    assert len(asks) >= answered
    assert all(times == 1 for seed, times in asks.items() if seed not in asked[-WORKERS:]), "an answer was paid twice"
    assert asyncio.run(replay(run))[1] is None
