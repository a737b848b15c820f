"""Lives that `tests.test_kill` ends: imports the package once, then forks one process for each life of a run.

    python -m tests.kill_worker

It reads one life per line from stdin, as JSON, and answers with one line when that life is over:

    folder    the run's folder; what was executed is logged in its parent
    noisy, workers, seed, evaluations, calls
    signal    what ends it, `after` seconds after `mark`: "fork" (the process begins) or "drive" (the
              journal was folded and the work goes on); without a signal it lives to the end
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.journal import FILE
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest
from agent.loop import Run
from agent.problem import Problem
from agent.results.result import load_result
from agent.session import Session
from agent.settings import Settings
from agent.space import Candidate, Space
from tests.support import SPACE, loss, thinker

EXECUTED = "executed.log"
ASKED = "asked.log"
LIFE = "life.log"
MARK_SECONDS = 60.0
RNG = random.Random()


def note(file: str, *words: object) -> None:
    """Append one line to a log in the working directory, in one write."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


async def exact(candidate: Any, seed: int, replicate: int) -> float:
    note(EXECUTED, Candidate(candidate).id, replicate)
    await asyncio.sleep(RNG.uniform(0, 0.003))
    return loss(candidate)


async def noisy(candidate: Any, seed: int, replicate: int) -> float:
    note(EXECUTED, Candidate(candidate).id, replicate)
    await asyncio.sleep(RNG.uniform(0, 0.003))
    return loss(candidate, seed, replicate, noise=0.05)


class Asked(Scripted):
    """A model that notes every question by its seed, which no two calls share, and thinks for a while."""

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        note(ASKED, seed)
        await asyncio.sleep(RNG.uniform(0, 0.004))
        return await super().complete(request, seed=seed)


def session(life: Mapping[str, Any]) -> Session:
    problem = Problem(
        name="bowl",
        space=Space(SPACE),
        evaluator=FunctionEvaluator(noisy if life["noisy"] else exact, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=not life["noisy"],
        folder=Path(__file__).parent,
    )
    settings = Settings(models={"propose": "scripted:test"}, workers=life["workers"])
    budget = Budget(evaluations=life["evaluations"], calls=life["calls"])
    return Session(problem, settings, budget, seed=life["seed"], model=Asked(thinker))


def begun(folder: Path) -> bool:
    """Whether the run's first event is on the disk."""
    try:
        with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as db:
            return bool(db.execute("SELECT count(*) FROM events").fetchone()[0])
    except sqlite3.Error:
        return False


async def live(life: Mapping[str, Any], mark: int) -> int:
    def hold(run: Run) -> None:
        os.write(mark, b"drive\n")

    folder, chosen = Path(life["folder"]), session(life)
    try:
        result = await (chosen.resume(folder, hold=hold) if begun(folder) else chosen.run(folder, hold))
    except ConfigError as error:
        result = load_result(folder)
        if "has ended" not in error.message or not result.saved:  # otherwise the life before was killed at its very end
            raise
    return result.exit_code


def child(life: Mapping[str, Any], mark: int) -> int:
    os.chdir(Path(life["folder"]).parent)
    log = os.open(LIFE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    RNG.seed(f"{life['seed']} {time.time_ns()}")  # the timing, and so the order of results, differs in every life
    try:
        return asyncio.run(live(life, mark))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 99


def one(life: Mapping[str, Any]) -> dict[str, Any]:
    """Let one life happen; how it ended, and whether it came as far as driving the run."""
    heard, mark = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        os._exit(child(life, mark))
    os.close(mark)
    driven = False
    if life.get("signal"):
        if life["mark"] == "drive":
            driven = bool(select.select([heard], [], [], MARK_SECONDS)[0] and os.read(heard, 16))
        time.sleep(life["after"])
        os.kill(pid, life["signal"])  # it is not reaped yet, so the number is still its own
    status = os.waitpid(pid, 0)[1]
    os.close(heard)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed, "code": None if killed else os.waitstatus_to_exitcode(status), "driven": driven}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(one(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
