"""Many evaluations on a dask cluster with a worker killed in the middle, beside the inline executor.

    python benchmarks/scale.py [--evaluations 10000] [--workers 2] [--at-once 8] [--pause 0.0] [--json]

Both runs are whole ones, with journal and proposer (random search), and measure the same function, which writes a byte
to a file each time it is begun. So what was measured twice is counted there, and not by what the executor says. The
cluster is a process of its own on this machine, with one thread to a worker; when half of the evaluations have ended
one worker is killed with SIGKILL, and dask starts another. Each run adds a line to `results/scale.csv`. It ends with 1
when an evaluation has no score, or more was repeated than was in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from agent.evaluators.function import FunctionEvaluator  # noqa: E402
from agent.events import EvaluationEnded, Event  # noqa: E402
from agent.ledger import Budget  # noqa: E402
from agent.parameters import Float, Int  # noqa: E402
from agent.problem import Objective, Problem  # noqa: E402
from agent.session import Session  # noqa: E402
from agent.settings import Settings  # noqa: E402
from agent.space import Space  # noqa: E402

EVALUATE = """
import os, pathlib, time
BEGUN = os.open(pathlib.Path(__file__).parent / "begun", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def measure(candidate):
    os.write(BEGUN, b".")
    time.sleep({pause})
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
"""
CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    made = LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, silence_logs=50, memory_limit=0,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    )
    print(made.scheduler_address, *(item.pid for item in made.workers.values()), flush=True)
    sys.stdin.read()
    made.close()
"""
FILE = Path(__file__).parent / "results" / "scale.csv"


class Watcher:
    """Counts what ended, and kills a process in the middle."""

    def __init__(self, at: int, pid: int | None) -> None:
        self._at, self._pid = at, pid
        self.ended = self.failed = self.again = 0
        self.first = self.last = 0.0
        self.killed = 0

    def __call__(self, event: Event, state: object) -> None:
        if not isinstance(event, EvaluationEnded):
            return
        self.ended += 1
        self.failed += event.score is None
        self.again += event.output.get("attempts", 1) > 1
        self.last = time.perf_counter()
        self.first = self.first or self.last  # the connection and the first process are not throughput
        if self._pid is not None and self.ended == self._at:
            os.kill(self._pid, signal.SIGKILL)
            self.killed = self.ended


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, int]]:
    """Address of a scheduler, and the process id of one of its workers."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "cluster.py"
        script.write_text(CLUSTER)
        process = subprocess.Popen(
            [sys.executable, "-P", script, str(workers)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            address, first, *_ = process.stdout.readline().split()
            yield address, int(first)
        finally:
            process.communicate(timeout=60)


def measure(kind: str, given: argparse.Namespace, address: str | None = None, pid: int | None = None) -> dict[str, Any]:
    """One run; times in seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "problem"
        folder.mkdir()
        (folder / "evaluate.py").write_text(EVALUATE.format(pause=given.pause))
        space = Space({"x": Float(-1, 1, default=0.9), "n": Int(1, 9)})
        evaluator = FunctionEvaluator("evaluate:measure", folder=folder, names=["loss"])
        problem = Problem("scale", space, evaluator, (Objective("loss"),), deterministic=True, folder=folder)
        watcher = Watcher(given.evaluations // 2, pid)
        settings = Settings(
            proposer="random",
            models={},
            workers=given.at_once,
            executor=kind,
            dask={"scheduler": address} if address is not None else {},
        )
        session = Session(problem, settings, Budget(evaluations=given.evaluations), 1, observers=(watcher,))
        load, cpu, began = os.getloadavg()[0], time.process_time(), time.perf_counter()
        asyncio.run(session.run(Path(place) / "runs" / "scale"))
        whole, used = time.perf_counter() - began, time.process_time() - cpu
        begun = (folder / "begun").stat().st_size
    seconds = watcher.last - watcher.first
    return {
        "executor": kind,
        "evaluations": watcher.ended,
        "workers": given.workers if address is not None else 0,
        "at_once": given.at_once,
        "pause": given.pause,
        "per_second": round((watcher.ended - 1) / seconds, 1),
        "seconds": round(whole, 1),
        "cpu_ms_each": round(1000 * used / watcher.ended, 3),
        "without_score": watcher.failed + given.evaluations - watcher.ended,
        "repeated": begun - given.evaluations,
        "recorded_as_repeated": watcher.again,
        "killed_after": watcher.killed,
        "load": f"{load:.1f} to {os.getloadavg()[0]:.1f}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "distributed": metadata.version("distributed"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Many evaluations on a dask cluster, a worker killed in the middle.")
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the cluster")
    parser.add_argument("--at-once", type=int, default=8, help="evaluations in flight, those that wait included")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that an evaluation sleeps")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [measure("inline", given)]
    with cluster(given.workers) as (address, pid):
        rows.append(measure("dask", given, address, pid))
    new = not given.file.exists()
    with given.file.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
    if given.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(
                f"{row['executor']}: {row['evaluations']} evaluations, {row['per_second']} a second,"
                f" {row['cpu_ms_each']} ms of CPU here for each; {row['without_score']} without a score,"
                f" {row['repeated']} repeated ({row['recorded_as_repeated']} recorded); load {row['load']}"
            )
    lost = any(row["without_score"] for row in rows)
    return int(lost or rows[1]["repeated"] > given.at_once)


if __name__ == "__main__":
    sys.exit(main())
