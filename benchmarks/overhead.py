"""What the loop itself costs, and whether that stays the same in a long run.

    python benchmarks/overhead.py

Prints a table and writes every single measurement to a CSV file. What is measured, and how to read
it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from agent.evaluation import Executor, Output, Request  # noqa: E402
from agent.evaluators.function import FunctionEvaluator  # noqa: E402
from agent.events import EvaluationEnded, Event  # noqa: E402
from agent.executors.inline import InlineExecutor  # noqa: E402
from agent.executors.subprocess import SubprocessExecutor  # noqa: E402
from agent.journal import Journal  # noqa: E402
from agent.ledger import Budget  # noqa: E402
from agent.loop import Run  # noqa: E402
from agent.parameters import Categorical, Float, Int  # noqa: E402
from agent.problem import Objective, Problem  # noqa: E402
from agent.session import Session  # noqa: E402
from agent.settings import Settings  # noqa: E402
from agent.space import Space  # noqa: E402

SPACE = {"a": Float(0, 1), "b": Float(1e-3, 1e3, log=True), "n": Int(1, 100), "kind": Categorical(["x", "y", "z"])}
SLEEP = 0.1
SLEEPERS = 4
STRETCH = 1000
"""Evaluations at the beginning and at the end of a long run that are compared."""
BLOCK = 100
"""A stretch counts with the median of blocks of this size, so that a hiccup of the machine does not decide."""
COMMITS = 300

TARGETS: dict[tuple[str, str], tuple[str, Callable[[float], bool]]] = {
    ("loop, wall", "1 at a time"): ("< 2 ms", lambda ms: ms < 2),
    ("loop, wall", "64 in flight"): ("< 0.5 ms", lambda ms: ms < 0.5),
    ("growth, CPU", "1 at a time"): ("about 1", lambda ratio: ratio < 1.1),
    ("growth, CPU", "64 in flight"): ("about 1", lambda ratio: ratio < 1.1),
    ("busy", "4 async"): ("≥ 95 %", lambda share: share >= 95),
    ("busy", "4 processes"): ("≥ 95 %", lambda share: share >= 95),
}


def value(candidate: Any) -> float:
    return float((candidate["a"] - 0.3) ** 2 + abs(candidate["n"] - 40) / 100 + (candidate["kind"] != "y"))


async def waits(candidate: Any) -> float:
    await asyncio.sleep(SLEEP)
    return value(candidate)


def sleeps(candidate: Any) -> float:
    time.sleep(SLEEP)
    return value(candidate)


class Instant:
    """An executor that answers at once, so that what remains is the loop."""

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        return Output(value={"values": {"value": value(request.candidate)}, "feedback": ""}, seconds=1e-6)

    async def close(self) -> None:
        return None


@dataclass
class Ticks:
    """The times at which evaluations ended."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    """Seconds of each commit of the journal."""

    def __call__(self, event: Event, state: object) -> None:
        if isinstance(event, EvaluationEnded):
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    def per_evaluation(self, times: list[float]) -> float:
        """Milliseconds per evaluation, from the end of the first one on."""
        return (times[-1] - times[0]) / (len(times) - 1) * 1e3

    def growth(self, times: list[float]) -> tuple[float, float]:
        """Milliseconds per evaluation at the beginning and at the end."""
        return stretch(times[: STRETCH + 1]), stretch(times[-STRETCH - 1 :])


def stretch(times: list[float]) -> float:
    blocks = [(times[i + BLOCK] - times[i]) / BLOCK for i in range(0, len(times) - BLOCK, BLOCK)]
    return statistics.median(blocks) * 1e3


def problem(evaluate: Callable[..., Any] | str = value) -> Problem:
    evaluator = FunctionEvaluator(evaluate, folder=Path(__file__).parent, names=("value",))
    return Problem("overhead", Space(SPACE), evaluator, (Objective("value"),), deterministic=True)


def run(folder: Path, what: Problem, executor: Executor, evaluations: int, workers: int, seed: int) -> Ticks:
    """One run with the random proposer."""
    ticks = Ticks()

    def hold(run: Run) -> None:
        run.journal.commit = timed(run.journal, ticks.commits)  # type: ignore[method-assign]

    settings = Settings(proposer="random", models={}, workers=workers)
    session = Session(what, settings, Budget(evaluations=evaluations), seed, executor=executor, observers=(ticks,))
    asyncio.run(session.run(folder, hold))
    assert len(ticks.wall) == evaluations
    return ticks


def timed(journal: Journal, took: list[float]) -> Callable[[int | None], None]:
    """The journal's `commit`, with a note of how long each took that wrote something."""
    commit = journal.commit

    def commit_timed(last: int | None = None) -> None:
        before, begun = journal.commits, time.perf_counter()
        commit(last)
        if journal.commits > before:
            took.append(time.perf_counter() - begun)

    return commit_timed


def raw_commit(folder: Path) -> float:
    """Milliseconds of one durable commit of one row, with the journal's settings: the median of many."""
    folder.mkdir()
    took = []
    with closing(sqlite3.connect(folder / "raw.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        for number in range(COMMITS):
            begun = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO events VALUES (?, ?)", (number, "x" * 600))
            db.execute("COMMIT")
            took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e3


def busy(folder: Path, kind: str, evaluations: int, seed: int) -> float:
    """Percent of the ideal speed that sleeping evaluations reach, from the end of the initial candidate's on."""
    return asyncio.run(_busy(folder, kind, evaluations, seed))


async def _busy(folder: Path, kind: str, evaluations: int, seed: int) -> float:
    what = problem(waits if kind == "4 async" else "overhead:sleeps")
    executor: Executor
    if kind == "4 async":
        executor = InlineExecutor(what.evaluator)
    else:
        executor = SubprocessExecutor(what.evaluator.spec or {}, slots=SLEEPERS)
        warm = [executor.submit(Request(what.initial())) for _ in range(SLEEPERS)]
        assert all(output.failure is None for output in await asyncio.gather(*warm))
    ticks = Ticks()
    settings = Settings(proposer="random", models={}, workers=SLEEPERS)
    budget = Budget(evaluations=evaluations + 1)
    await Session(what, settings, budget, seed, executor=executor, observers=(ticks,)).run(folder)
    ideal = evaluations * SLEEP / SLEEPERS
    return ideal / (ticks.wall[-1] - ticks.wall[0]) * 100


Row = tuple[str, str, int, float, str]
"""Measure, case, seed, number, unit."""


def measure(chosen: argparse.Namespace, folder: Path, seed: int) -> Iterator[Row]:
    """All measurements once."""

    @contextmanager
    def fresh() -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(dir=folder))
        try:
            yield path / "run"
        finally:
            shutil.rmtree(path)

    with fresh() as path:
        yield "one commit", "raw SQLite", seed, raw_commit(path), "ms"
    for case, workers in (("1 at a time", 1), ("64 in flight", 64)):
        if "loop" in chosen.parts:
            with fresh() as path:
                ticks = run(path, problem(), Instant(), chosen.evaluations, workers, seed)
            yield "loop, wall", case, seed, ticks.per_evaluation(ticks.wall), "ms"
            yield "loop, CPU", case, seed, ticks.per_evaluation(ticks.cpu), "ms"
            spent = sum(ticks.commits) / chosen.evaluations * 1e3
            yield "loop, wait for disk", case, seed, spent, "ms"
            yield "loop, commits", case, seed, len(ticks.commits) / chosen.evaluations, "per evaluation"
        if "growth" in chosen.parts:
            with fresh() as path:
                ticks = run(path, problem(), Instant(), chosen.long, workers, seed)
            for clock, times in (("CPU", ticks.cpu), ("wall", ticks.wall)):
                first, last = ticks.growth(times)
                yield f"first {STRETCH}, {clock}", case, seed, first, "ms"
                yield f"last {STRETCH}, {clock}", case, seed, last, "ms"
                yield f"growth, {clock}", case, seed, last / first, "last / first"
    if "busy" in chosen.parts:
        for case in ("4 async", "4 processes"):
            with fresh() as path:
                yield "busy", case, seed, busy(path, case, chosen.sleeps, seed), "% of ideal"


def show(rows: list[Row]) -> None:
    """The table: median, smallest and largest over the repeats."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for name, case, _, number, unit in rows:
        groups.setdefault((name, case, unit), []).append(number)
    print(f"{'measure':20} {'case':14} {'median':>9} {'min':>9} {'max':>9}  {'unit':16} target")
    for (name, case, unit), numbers in groups.items():
        middle = statistics.median(numbers)
        text, met = TARGETS.get((name, case), ("", lambda _: True))
        said = f"{text}: {'met' if met(middle) else 'NOT MET'}" if text else ""
        print(f"{name:20} {case:14} {middle:9.3f} {min(numbers):9.3f} {max(numbers):9.3f}  {unit:16} {said}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat; each further one adds 1 (0)")
    parser.add_argument("--evaluations", type=int, default=1000, help="of the runs that measure the loop (1000)")
    parser.add_argument("--long", type=int, default=10_000, help="evaluations of the runs that measure growth (10000)")
    parser.add_argument("--sleeps", type=int, default=160, help=f"sleeping evaluations, a multiple of {SLEEPERS} (160)")
    parser.add_argument("--parts", nargs="+", choices=("loop", "growth", "busy"), default=("loop", "growth", "busy"))
    parser.add_argument("--folder", type=Path, default=ROOT / "runs", help="on the disk to be measured (runs/)")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"), help="where the numbers go")
    chosen = parser.parse_args()
    if chosen.sleeps % SLEEPERS or chosen.long < 2 * STRETCH or chosen.evaluations < 2 or chosen.repeats < 1:
        parser.error(f"--sleeps is a multiple of {SLEEPERS}, --long at least {2 * STRETCH}, --evaluations at least 2")
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {sys.platform}"
    print(f"{versions}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    rows: list[Row] = []
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="overhead-") as folder:
        for repeat in range(chosen.repeats):
            for row in measure(chosen, Path(folder), chosen.seed + repeat):
                rows.append(row)
                print(f"{repeat + 1}/{chosen.repeats} {row[0]}, {row[1]}: {row[3]:.3f} {row[4]}", file=sys.stderr)
    with chosen.csv.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("measure", "case", "seed", "value", "unit"))
        out.writerows((name, case, seed, f"{number:.6g}", unit) for name, case, seed, number, unit in rows)
    show(rows)
    print(f"every measurement: {chosen.csv}")


if __name__ == "__main__":
    main()
