"""What it costs a run to be looked at.

    python benchmarks/view.py               # 48 runs of 1,000 evaluations: about ten minutes; needs Chromium, Linux
    python benchmarks/view.py --count       # 4 runs, their instructions: about two minutes; needs Valgrind too

The live page is open on each run in headless Chromium, and is shown and hidden in turn, two hundred evaluations each.
So every stretch has a neighbour of the same run, moments away, with the same server and browser there and nobody
looking; which of the two comes first alternates. Half of the runs share all cores with server and browser ("together").
The others keep to a core that server and browser keep off ("apart"): what is left is what the looking itself does to
the run, and not the work of drawing beside it. With --count whole runs are looked at or not, and what is told is the
instructions that the run's process executed, which other work on the machine does not change. What is measured, and
how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from agent.api import optimize  # noqa: E402
from agent.journal import FILE  # noqa: E402
from agent.parameters import Categorical, Float, Int  # noqa: E402
from tests.report.browser import Browser  # noqa: E402
from tests.view_support import Viewer, complaints, enter, seen, viewing  # noqa: E402

EVALUATIONS, RUNS, SLEEP = 1000, 48, 0.004
STEP, STRETCH = 50, 4
"""Evaluations between two looks at the clocks, and steps of a stretch."""
MOST = 2.0
"""Percent by which a viewer may slow a run."""
SPACE = {"a": Float(0, 1), "b": Float(0, 1), "n": Int(1, 100), "kind": Categorical(("x", "y", "z"))}
PLACES = ("together", "apart")


def work(runs: Path, seed: int, core: int | None, evaluations: int) -> None:
    """One run, on one core or on any; prints where its clocks stand after each step."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    count = 0

    async def waits(candidate: Mapping[str, Any]) -> float:
        """A measurement that leaves the processor alone."""
        nonlocal count
        if count % STEP == 0:
            print(time.perf_counter(), time.process_time(), flush=True)
        count += 1
        await asyncio.sleep(SLEEP)
        return float((candidate["a"] - 0.3) ** 2 + abs(candidate["n"] - 40) / 100 + (candidate["kind"] != "y"))

    options = {"proposer": "random", "executor": "inline"}
    optimize(
        waits, space=SPACE, budget=evaluations, deterministic=True, model=None, runs=runs, seed=seed, options=options
    )


def used(process: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drawing(browser: Browser) -> float:
    """Processor seconds of the browser's processes that live."""
    group, total = browser._process.pid, 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                total += used(int(folder.name))
    return total


def look(browser: Browser, there: bool) -> None:
    """Bring the page to the front, or hide it, as far as it can tell."""
    browser.run(f"Object.defineProperty(document, 'hidden', {{value: {str(not there).lower()}, configurable: true}})")
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")


def measured(browser: Browser, viewer: Viewer, runs: Path, seed: int, core: int | None) -> list[dict[str, Any]]:
    """The stretches of one run, in pairs: looked at and not, not and looked at; with odd seeds the other way round."""
    known = set(runs.iterdir())
    look(browser, True)
    command = [sys.executable, __file__, "--work", str(runs), "--seed", str(seed)]
    command += [] if core is None else ["--core", str(core)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    out: list[dict[str, Any]] = []
    marks: list[tuple[float, ...]] = []
    turns = [bool(seed % 2) ^ looked_at for looked_at in (True, False, False, True)]
    for place, line in enumerate(run.stdout):
        marks.append((*map(float, line.split()), used(viewer.process.pid), drawing(browser)))
        stretch, step = divmod(place - 2, STRETCH)  # what comes before is the page's first look
        if place == 0:
            _open(browser, runs, known)
        elif place == 1:
            look(browser, turns[0])
        elif step == 0 and stretch <= len(turns):
            if stretch:
                out.append(_stretch(stretch - 1, turns, marks))
            if stretch < len(turns):
                look(browser, turns[stretch])
    assert len(out) == len(turns), len(marks)
    run.wait()
    _ended(browser, viewer)
    return out


def counted(browser: Browser, viewer: Viewer, runs: Path, seen_by: bool, evaluations: int) -> int:
    """Instructions that the process of a run executes, from its start to its end, by Valgrind's count."""
    known = set(runs.iterdir())
    look(browser, True)
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*tool, sys.executable, __file__, "--work", str(runs), "--seed", "0", "--evaluations", str(evaluations)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0"}, **pipes)
    assert run.stdout is not None
    run.stdout.readline()
    _open(browser, runs, known)
    look(browser, seen_by)
    said = run.communicate()[1]
    _ended(browser, viewer)
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    assert found is not None, said
    return int(found[1].replace(",", ""))


def _open(browser: Browser, runs: Path, known: set[Path]) -> None:
    """Open the page of the run that was not there before."""
    (name,) = {path.name for path in runs.iterdir() if (path / FILE).exists()} - {path.name for path in known}
    browser.run(f"location.hash = '#/{name}'")
    seen(browser, "document.querySelector('.badges') !== null")


def _ended(browser: Browser, viewer: Viewer) -> None:
    """The page tells all of a run that has ended, and the browser has complained of nothing."""
    look(browser, True)
    seen(browser, "document.querySelector('.badges').textContent.includes('finished')")
    assert browser.run("document.querySelector('progress').value") == 1, "all evaluations were shown"
    assert complaints(browser, viewer) == [], complaints(browser, viewer)


def _stretch(place: int, turns: Sequence[bool], marks: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    """What was spent in a stretch. Where the page was just hidden, its first step is left out: the answer to its last
    question may still be on its way."""
    steps = STRETCH - (not turns[place] and place > 0 and turns[place - 1])
    wall, cpu, view, drawn = (new - old for new, old in zip(marks[-1], marks[-1 - steps], strict=True))
    count = steps * STEP
    row = {"stretch": place, "viewer": int(turns[place]), "load": round(os.getloadavg()[0], 2)}
    row |= {"wall_ms": round(1e3 * wall / count, 3), "cpu_ms": round(1e3 * cpu / count, 4)}
    return {**row, "wall_s": round(wall, 3), "view_cpu_s": round(view, 2), "browser_cpu_s": round(drawn, 2)}


def slower(rows: list[dict[str, Any]], what: str) -> list[float]:
    """By how many percent a stretch that was looked at took longer than the one beside it, in order of size."""
    pairs = [(one, two) for one, two in pairwise(rows) if one["run"] == two["run"] and one["stretch"] % 2 == 0]
    return sorted(100 * (max(pair, key=_looked)[what] / min(pair, key=_looked)[what] - 1) for pair in pairs)


def interval(found: Sequence[float]) -> tuple[float, float]:
    """Of the median, 95 %, whatever the distribution: between two order statistics.

    Args:
        found: In order of size, six or more.
    """
    n = len(found)
    below = max(k for k in range(n // 2) if sum(math.comb(n, i) for i in range(k + 1)) <= 0.025 * 2**n)
    return found[below], found[n - 1 - below]


def _looked(row: Mapping[str, Any]) -> int:
    return int(row["viewer"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="Count the instructions of four runs instead.")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"Of {EVALUATIONS:,} evaluations, in all ({RUNS}).")
    parser.add_argument("--to", type=Path, default=ROOT / "benchmarks" / "results" / "view.csv")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.seed, given.core, given.evaluations)
        return 0
    if given.count:
        return _count()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("it wants two cores")
    rows: list[dict[str, Any]] = []
    for cores_are in PLACES:
        apart = cores_are == "apart"
        os.sched_setaffinity(0, cores[1:] if apart else cores)  # server and browser, which begin here, have the same
        with page() as (browser, viewer, runs):
            for seed in range(given.runs // 2):
                found = measured(browser, viewer, runs, seed, cores[0] if apart else None)
                rows += [{"run": f"{cores_are} {seed}", "seed": seed, "cores": cores_are, **row} for row in found]
    with open(given.to, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    slow = [_told(cores_are, [row for row in rows if row["cores"] == cores_are]) for cores_are in PLACES]
    return int(max(slow) > MOST)


@contextlib.contextmanager
def page() -> Iterator[tuple[Browser, Viewer, Path]]:
    """The live page of a new folder of runs."""
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        runs.mkdir()
        with viewing(runs) as viewer, Browser() as browser:
            enter(browser, viewer)
            yield browser, viewer, runs


def _count() -> int:
    """Prints how many instructions an evaluation takes, beyond what a run of a few of them does."""
    few, each = 20, dict[bool, list[float]]({False: [], True: []})
    with page() as (browser, viewer, runs):
        start = counted(browser, viewer, runs, False, few)
        for turn in (False, True, True, False):
            more = counted(browser, viewer, runs, turn, EVALUATIONS) - start
            each[turn].append(more / (EVALUATIONS - few) / 1e6)
            print(f"{'looked at' if turn else 'alone'}: {each[turn][-1]:.3f} million an evaluation", flush=True)
    share = 100 * (statistics.mean(each[True]) / statistics.mean(each[False]) - 1)
    print(f"with a viewer {share:+.2f} %")
    return int(share > MOST)


def _told(cores_are: str, rows: list[dict[str, Any]]) -> float:
    """Prints what was found; gives by how many percent more of the processor the run took in the median."""
    load = statistics.median(row["load"] for row in rows)
    print(f"{cores_are}: {len(slower(rows, 'cpu_ms'))} pairs of {STRETCH * STEP} evaluations, load {load:.1f}")
    for what in ("cpu_ms", "wall_ms"):
        found = slower(rows, what)
        low, middle, high = statistics.quantiles(found, n=4)
        a, b = interval(found)
        plain, looked = (statistics.median(row[what] for row in rows if row["viewer"] == seen) for seen in (0, 1))
        print(
            f"  {what}: {plain:.2f} alone, {looked:.2f} looked at; pair by pair {middle:+.1f} %"
            f" (95 % interval {a:+.1f} to {b:+.1f}, quartiles {low:+.1f} to {high:+.1f})"
        )
    seconds = sum(row["wall_s"] for row in rows if row["viewer"])
    for what in ("view_cpu_s", "browser_cpu_s"):
        print(f"  {what}: {100 * sum(row[what] for row in rows if row['viewer']) / seconds:.1f} % of a core")
    return statistics.median(slower(rows, "cpu_ms"))


if __name__ == "__main__":
    sys.exit(main())
