"""What it costs a run to be looked at.

    python benchmarks/view.py               # 6 runs of 1,000 evaluations: about two minutes; needs Chromium

The live page is open on each run in headless Chromium, and is hidden and shown in turn, a hundred evaluations each.
So every stretch has a neighbour of the same run, moments away, with the same server and browser there and nobody
looking. What is measured, and how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from agent.api import optimize  # noqa: E402
from agent.journal import FILE  # noqa: E402
from agent.parameters import Categorical, Float, Int  # noqa: E402
from tests.report.browser import Browser  # noqa: E402
from tests.view_support import Viewer, complaints, enter, seen, viewing  # noqa: E402

EVALUATIONS, STRETCH, RUNS, SLEEP = 1000, 100, 6, 0.004
MOST = 2.0
"""Percent by which a viewer may slow a run."""
SPACE = {"a": Float(0, 1), "b": Float(0, 1), "n": Int(1, 100), "kind": Categorical(["x", "y", "z"])}
FIELDS = ("run", "stretch", "viewer", "wall_ms", "cpu_ms", "view_cpu_s", "browser_cpu_s", "load")


def work(runs: Path) -> None:
    """One run; prints where its clocks stand after each stretch of evaluations."""
    count = 0

    async def waits(candidate: Mapping[str, Any]) -> float:
        """A measurement that leaves the processor alone."""
        nonlocal count
        if count % STRETCH == 0:
            print(time.perf_counter(), time.process_time(), flush=True)
        count += 1
        await asyncio.sleep(SLEEP)
        return float((candidate["a"] - 0.3) ** 2 + abs(candidate["n"] - 40) / 100 + (candidate["kind"] != "y"))

    options = {"proposer": "random", "executor": "inline"}
    optimize(waits, space=SPACE, budget=EVALUATIONS, deterministic=True, model=None, runs=runs, options=options)


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


def measured(browser: Browser, viewer: Viewer, runs: Path, first: bool) -> list[dict[str, Any]]:
    """The stretches of one run, looked at or not in turn."""
    known = set(runs.iterdir())
    look(browser, True)
    run = subprocess.Popen([sys.executable, __file__, "--work", str(runs)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    out: list[dict[str, Any]] = []
    before: tuple[float, ...] = ()
    looked_at = first
    for place, line in enumerate(run.stdout):
        now = (*map(float, line.split()), used(viewer.process.pid), drawing(browser))
        if not place:  # what comes before the second mark is the page's first look
            (name,) = {path.name for path in runs.iterdir() if (path / FILE).exists()} - {path.name for path in known}
            browser.run(f"location.hash = '#/{name}'")
            seen(browser, "document.querySelector('.badges') !== null")
        elif place > 1:
            wall, cpu, view, drawn = (new - old for new, old in zip(now, before, strict=True))
            row = {"stretch": place, "viewer": int(looked_at), "load": round(os.getloadavg()[0], 2)}
            row |= {"wall_ms": round(1e3 * wall / STRETCH, 3), "cpu_ms": round(1e3 * cpu / STRETCH, 4)}
            out.append({**row, "view_cpu_s": round(view, 2), "browser_cpu_s": round(drawn, 2)})
            looked_at = not looked_at
        look(browser, looked_at)
        before = now
    run.wait()
    look(browser, True)
    seen(browser, "document.querySelector('.badges').textContent.includes('finished')")
    assert browser.run("document.querySelector('progress').value") == 1, "all evaluations were shown"
    assert complaints(browser, viewer) == [], complaints(browser, viewer)
    return out


def slower(rows: list[dict[str, Any]], what: str) -> list[float]:
    """By how many percent a stretch that was looked at took longer than the one beside it."""
    pairs = zip(rows[::2], rows[1::2], strict=False)
    return [100 * (max(pair, key=_looked)[what] / min(pair, key=_looked)[what] - 1) for pair in pairs]


def _looked(row: Mapping[str, Any]) -> int:
    return int(row["viewer"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--to", type=Path, default=ROOT / "benchmarks" / "results" / "view.csv")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work)
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        runs.mkdir()
        with viewing(runs) as viewer, Browser() as browser:
            enter(browser, viewer)
            for number in range(given.runs):
                found = measured(browser, viewer, runs, first=bool(number % 2))
                rows += [{"run": number, **row} for row in found]
    with open(given.to, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    for what in ("cpu_ms", "wall_ms"):
        found = slower(rows, what)
        low, middle, high = statistics.quantiles(found, n=4)
        plain = statistics.median(row[what] for row in rows if not row["viewer"])
        print(
            f"{what}: {plain:.2f} an evaluation; with a viewer {middle:+.2f} % (quartiles {low:+.2f} to {high:+.2f} %)"
        )
    looked = [row for row in rows if row["viewer"]]
    share = sum(row["view_cpu_s"] for row in looked) / sum(row["wall_ms"] * STRETCH / 1e3 for row in looked)
    print(f"{len(slower(rows, 'cpu_ms'))} pairs; the view takes {100 * share:.1f} % of a core")
    return int(statistics.median(slower(rows, "cpu_ms")) > MOST)


if __name__ == "__main__":
    sys.exit(main())
