"""What tracing costs: a call with no recorder, a call that is recorded, long traces, and the import.

    python benchmarks/trace.py
    python benchmarks/trace.py --repeats 9 --to elsewhere.csv

Processor time of this process, so that other work on the machine counts little; the smallest of the repeats is
what the code itself costs, the median is what one sees.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.parameters import Float
from agent.trace import note, op, param, record
from agent.tracing.capping import capped

CALLS = 20_000
LENGTHS = (1_000, 10_000, 100_000)
IMPORT = """
import time; began = time.process_time()
import agent.trace
print(time.process_time() - began)
"""
TARGETS = {"no recorder": 0.5, "recording, one number": 10.0, "import": 30.0}

limit = param("limit", Float(0, 1, default=0.5))


def plain(x: Any) -> Any:
    return x


@op
def traced(x: Any) -> Any:
    return x


@op
def two(question: str, rows: list[int]) -> list[Any]:
    return [question, rows]


@op
def reads(x: float) -> float:
    return x + limit.value


@op
def notes(x: float) -> float:
    note("seen")
    return x


def each(function: Callable[[int], Any], calls: int = CALLS) -> float:
    """Microseconds of processor time a call."""
    gc.collect()
    began = time.process_time()
    for i in range(calls):
        function(i)
    return (time.process_time() - began) / calls * 1e6


def measures() -> Iterator[tuple[str, str, Callable[[], float]]]:
    """Name, unit and one measurement of each."""

    def recorded(function: Callable[[int], Any]) -> Callable[[], float]:
        def measure() -> float:
            with record():
                return each(function)

        return measure

    yield "a call by itself", "µs", lambda: each(lambda i: plain(i + 0.5))
    yield "no recorder", "µs", lambda: each(lambda i: traced(i + 0.5)) - each(lambda i: plain(i + 0.5))
    yield "recording, one number", "µs", recorded(lambda i: traced(i + 0.5))
    yield "recording, a text and a list", "µs", recorded(lambda i: two(f"question {i}?", [i, i, i]))
    yield "recording, reads a param", "µs", recorded(lambda i: reads(i + 0.5))
    yield "recording, notes", "µs", recorded(lambda i: notes(i + 0.5))
    yield "recording, 10 MB of text", "µs", recorded(lambda i, big="x" * 10_000_000: traced(big))  # type: ignore[misc]
    for length in LENGTHS:
        yield f"{length:,} spans: recording", "µs a span", lambda n=length: long(n)[0]  # type: ignore[misc]
        yield f"{length:,} spans: making the trace", "µs a span", lambda n=length: long(n)[1]  # type: ignore[misc]
        yield f"{length:,} spans: as stored", "kB", lambda n=length: long(n)[2]  # type: ignore[misc]
    yield "import", "ms", imported


def long(length: int) -> tuple[float, float, float]:
    """Microseconds a span to record and to make a trace of `length` spans, and its size in an output."""
    with record() as run:
        recording = each(lambda i: traced(i + 0.5), length)
    gc.collect()
    began = time.process_time()
    trace = run.trace
    stored = capped(trace).to_json()
    making = (time.process_time() - began) / length * 1e6
    assert len(trace.spans) == length
    return recording, making, len(json.dumps(stored)) / 1000


def imported() -> float:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "results" / "trace.csv")
    given = parser.parse_args()
    rows = []
    print(f"{'MEASURE':38}{'SMALLEST':>10}{'MEDIAN':>10}  UNIT")
    for name, unit, measure in measures():
        found = [measure() for _ in range(given.repeats)]
        low, middle = min(found), statistics.median(found)
        target = TARGETS.get(name)
        verdict = "" if target is None else f"  target {target:g}: {'met' if low <= target else 'MISSED'}"
        print(f"{name:38}{low:10.2f}{middle:10.2f}  {unit}{verdict}", flush=True)
        rows += [(name, unit, repeat, round(value, 4)) for repeat, value in enumerate(found)]
    given.to.parent.mkdir(exist_ok=True)
    with given.to.open("w", newline="") as file:
        csv.writer(file).writerows([("measure", "unit", "repeat", "value"), *rows])
    print(f"wrote {given.to}", file=sys.stderr)


if __name__ == "__main__":
    main()
