"""What it costs a run to be looked at.

    python benchmarks/view.py               # 4 pairs of runs of 1,000 evaluations: about two minutes; needs Chromium

Each pair is the same run twice, in a process of its own: once with the live page open on it in headless Chromium, and
once with the same server and browser there, and the page closed. Which one comes first changes from pair to pair. What
is measured, and how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
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
from agent.parameters import Categorical, Float, Int  # noqa: E402
from tests.report.browser import Browser  # noqa: E402
from tests.view_support import Viewer, complaints, enter, seen, viewing  # noqa: E402

EVALUATIONS, SLEEP, PAIRS = 1000, 0.008, 4
MOST = 2.0
"""Percent by which a viewer may slow a run."""
SPACE = {"a": Float(0, 1), "b": Float(0, 1), "n": Int(1, 100), "kind": Categorical(["x", "y", "z"])}
FIELDS = ("pair", "viewer", "evaluations", "wall_s", "cpu_s", "view_cpu_s", "browser_cpu_s", "load")


async def waits(candidate: Mapping[str, Any]) -> float:
    """A measurement that leaves the processor alone."""
    await asyncio.sleep(SLEEP)
    return float((candidate["a"] - 0.3) ** 2 + abs(candidate["n"] - 40) / 100 + (candidate["kind"] != "y"))


def work(runs: Path, evaluations: int) -> None:
    """One run; prints its seconds and processor seconds, without those of starting Python."""
    wall, cpu = time.perf_counter(), time.process_time()
    options = {"proposer": "random", "executor": "inline"}
    optimize(waits, space=SPACE, budget=evaluations, deterministic=True, model=None, runs=runs, options=options)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


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


def measured(browser: Browser, viewer: Viewer, runs: Path, looked_at: bool, evaluations: int) -> dict[str, Any]:
    """One run, looked at or not."""
    known = {path.name for path in runs.iterdir()}
    if looked_at:
        enter(browser, viewer)
    else:
        browser.open("about:blank")
    before, drawn = used(viewer.process.pid), drawing(browser)
    words = [sys.executable, __file__, "--work", str(runs), "--evaluations", str(evaluations)]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    if looked_at:
        (name,) = seen_run(runs, known)
        browser.run(f"location.hash = '#/{name}'")
    out, _ = run.communicate()
    found = json.loads(out.splitlines()[-1])
    spent, drawn = used(viewer.process.pid) - before, drawing(browser) - drawn
    if looked_at:
        seen(browser, "document.querySelector('.badges')?.textContent.includes('finished')")
        assert browser.run("document.querySelector('progress').value") == 1, "all evaluations were shown"
        assert complaints(browser, viewer) == [], complaints(browser, viewer)
    return {
        "viewer": int(looked_at),
        "evaluations": evaluations,
        "wall_s": round(found["wall"], 3),
        "cpu_s": round(found["cpu"], 3),
        "view_cpu_s": round(spent, 2),
        "browser_cpu_s": round(drawn, 2),
        "load": round(os.getloadavg()[0], 2),
    }


def seen_run(runs: Path, known: set[str]) -> set[str]:
    """The run that is new."""
    while not (found := {path.name for path in runs.iterdir() if (path / "journal.sqlite").exists()} - known):
        time.sleep(0.02)
    return found


def slower(rows: list[dict[str, Any]], what: str) -> list[float]:
    """By how many percent the run that was looked at took longer, of each pair."""
    pairs: dict[int, dict[int, float]] = {}
    for row in rows:
        pairs.setdefault(row["pair"], {})[row["viewer"]] = row[what]
    return [100 * (pair[1] / pair[0] - 1) for pair in pairs.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--to", type=Path, default=ROOT / "benchmarks" / "results" / "view.csv")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.evaluations)
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        runs.mkdir()
        with viewing(runs) as viewer, Browser() as browser:
            for pair in range(given.pairs):
                for looked_at in (True, False) if pair % 2 else (False, True):
                    row = {"pair": pair, **measured(browser, viewer, runs, looked_at, given.evaluations)}
                    rows.append(row)
                    print(row, flush=True)
    with open(given.to, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    for what in ("cpu_s", "wall_s"):
        found = slower(rows, what)
        spread = f"{min(found):+.2f} to {max(found):+.2f} %"
        print(f"{what}: median {statistics.median(found):+.2f} % with a viewer ({spread} in {len(found)} pairs)")
    return int(statistics.median(slower(rows, "cpu_s")) > MOST)


if __name__ == "__main__":
    sys.exit(main())
