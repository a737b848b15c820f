"""How large the report of a big run is, how long it takes to make, and how fast a browser opens it.

    python benchmarks/report.py            # about two minutes; needs Chromium and truegain[report]
    python benchmarks/report.py --keep FOLDER   # keeps runs and reports there, and uses runs that are there already

Two runs of 200 candidates are made with `optimize`: one in which each candidate is measured on all 200 rows (40,000
evaluations, the largest heatmap), and one on rows of which a part is held out, as users would have it. What is
measured, and how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from agent.api import optimize  # noqa: E402
from agent.folders import find, folders  # noqa: E402
from agent.goals import Objective  # noqa: E402
from agent.parameters import Categorical, Float, Int  # noqa: E402
from agent.report.page import report  # noqa: E402
from agent.report.view import load_view  # noqa: E402
from tests.report.browser import Browser, chromium  # noqa: E402

CANDIDATES, ROWS = 200, 200
LARGEST_MB, LONGEST_S = 3.0, 2.0
EMPTY = "<!doctype html><html lang=en><title>empty</title><p>nothing"
SPACE = {
    "x": Float(-1, 1, default=-0.6),
    "n": Int(1, 100, default=5),
    "kind": Categorical(["a", "b", "c"]),
}


async def answers(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """A graded score that is cheap to have; it fails on one row in fifty."""
    own = random.Random(f"{sorted(candidate.items())} {row['number']}").random()
    if own < 0.02:
        raise ValueError(f"no answer to question {row['number']} after {own:.4f} s")
    skill = 0.7 - 0.3 * abs(candidate["x"] - 0.3) - 0.002 * abs(candidate["n"] - 40) + 0.1 * (candidate["kind"] == "b")
    hard = random.Random(f"hard {row['number']}").random()
    return round(min(1.0, max(0.0, skill + 0.3 * (own - 0.5) + 0.3 * (0.5 - hard))), 4)


def made(runs: Path, name: str, rows: int, evaluations: int, target: str) -> Path:
    """The folder of a run with that name; it is made unless it is there already."""
    done = [folder for folder in folders(runs) if folder.name.startswith(name)]
    if done:
        return done[-1]
    data = [
        {"id": f"question-{number}", "number": number, "text": f"{number} {_words(number)}"} for number in range(rows)
    ]
    optimize(
        answers,
        space=SPACE,
        data=data,
        target=target,
        objectives=Objective("score", "maximize", low=0.0, high=1.0, floor=0.0),
        deterministic=True,
        budget=evaluations,
        model=None,
        options={"proposer": "random", "workers": 4},
        name=name,
        runs=runs,
    )
    return find(runs, name)


def _words(number: int) -> str:
    rng = random.Random(f"words {number}")
    return " ".join("".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(9))


def loads(browser: Browser, pages: Mapping[str, Path], repeats: int) -> dict[str, list[float]]:
    """Seconds of each load of each page, in turns, so that a slow moment of the machine strikes all alike."""
    out: dict[str, list[float]] = {name: [] for name in pages}
    for page in pages.values():
        browser.open(page)  # the first load of a file is the disk's
    for _ in range(repeats):
        for name, page in pages.items():
            out[name].append(browser.open(page))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "report.csv", help="every single load")
    given = parser.parse_args()
    if chromium() is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place:
        here = (given.keep or Path(place)).resolve()
        here.mkdir(parents=True, exist_ok=True)
        table(here, given.repeats, given.csv)


def table(here: Path, repeats: int, numbers: Path) -> None:
    """Make the runs and their reports, measure, print the table and write the CSV file."""
    whole = ROWS * (CANDIDATES + 1) + 100
    runs = {
        "every row": made(here / "runs", "every-row", ROWS, whole, "suite"),
        "rows held out": made(here / "runs", "held-out", 3 * ROWS, 4000, "population"),
    }
    pages, rows = {"empty page": here / "empty.html"}, {}
    pages["empty page"].write_text(EMPTY)
    for name, folder in runs.items():
        began = time.perf_counter()
        view = load_view(folder)
        read = time.perf_counter() - began
        pages[name] = here / f"{name.replace(' ', '-')}.html"
        pages[name].write_text(report(view), encoding="utf-8")
        took = time.perf_counter() - began
        cells = view.train.counts if view.train else {}
        rows[name] = (len(view.cards) - 1, cells.get("scored", 0) + cells.get("failed", 0), read, took)
    with Browser() as browser:
        browser.look(1400)
        seconds = loads(browser, pages, repeats)
        complaints = browser.complaints
    with numbers.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("page", "bytes", "load", "seconds"))
        for name, known in seconds.items():
            writer.writerows((name, pages[name].stat().st_size, n, f"{s:.4f}") for n, s in enumerate(known, 1))
    base = statistics.median(seconds["empty page"])
    print("| report | candidates | cells | MB | read, s | made, s | opens, median ms (range) | × empty page |")
    print("|---|---|---|---|---|---|---|---|")
    for name, page in pages.items():
        known = seconds[name]
        ms = f"{1e3 * statistics.median(known):.0f} ({1e3 * min(known):.0f} to {1e3 * max(known):.0f})"
        size = page.stat().st_size / 1e6
        tried, cells, read, took = rows.get(name, ("", "", None, None))
        spent = f"{read:.2f} | {took:.2f}" if read is not None and took is not None else " | "
        print(f"| {name} | {tried} | {cells} | {size:.2f} | {spent} | {ms} | {statistics.median(known) / base:.1f} |")
    worst = max(statistics.median(known) for known in seconds.values())
    largest = max(page.stat().st_size for page in pages.values()) / 1e6
    print(f"\nunder {LARGEST_MB:g} MB: {largest < LARGEST_MB}; under {LONGEST_S:g} s: {worst < LONGEST_S}; ", end="")
    print(f"console, policy, network: {complaints or 'nothing'}")


if __name__ == "__main__":
    main()
