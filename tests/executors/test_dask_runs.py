"""Whole runs on a dask cluster: the same as inline, replayed, killed and resumed, without a scheduler."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_support import cluster
from executor_helpers import gone

from agent.config import load
from agent.errors import PrerequisiteError
from agent.events import EvaluationEnded, EvaluationStarted
from agent.journal import read_all
from agent.session import Session
from agent.settings import Settings
from tests.cli_helpers import GATED, TOML, begin, call, cli, folder, only_run, until

ROOT = str(Path(__file__).parents[2])
DASK = ("--set", "evaluator.executor=dask", "--set")


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    with cluster(2) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder(tmp_path / "p")
    return tmp_path


def run(home: Path, name: str, **overrides: Any) -> Path:
    """A run to its end, in this process; its folder."""
    setup = load(home / "p", {key.replace("__", "."): value for key, value in overrides.items()})
    place = home / "runs" / name
    asyncio.run(Session.of(setup).run(place))
    return place


def measured(place: Path) -> list[tuple[Any, ...]]:
    """What was measured, in the order in which it was begun."""
    starts: dict[int, tuple[Any, ...]] = {}
    found: dict[int, tuple[Any, ...]] = {}
    for entry in read_all(place):
        event = entry.event
        if isinstance(event, EvaluationStarted):
            starts[event.id] = (event.candidate, event.seed, event.replicate, event.purpose)
        elif isinstance(event, EvaluationEnded):
            found[event.id] = (*starts[event.id], json.dumps(event.score))
    return [found[number] for number in sorted(found)]


def test_a_run_is_the_same_as_inline_and_replays(made: Any, home: Path) -> None:
    address = made.scheduler_address
    there = run(home, "cluster", evaluator__executor="dask", dask__scheduler=address, run__seed=3)
    here = run(home, "here", evaluator__executor="inline", run__seed=3)
    assert measured(there) == measured(here) and len(measured(there)) == 12
    replayed = call("replay", there, cwd=home)
    assert replayed.code == 0, replayed.out + replayed.err


def test_a_worker_lost_in_the_middle_of_a_run_changes_only_the_record(made: Any, home: Path) -> None:
    (home / "p" / "evaluate.py").write_text(GATED)
    begun, rest = home / "p" / "count", home / "p" / "go"

    async def whole() -> Path:
        setup = load(home / "p", {"evaluator.executor": "dask", "dask.scheduler": made.scheduler_address})
        place = home / "runs" / "lost"
        going = asyncio.ensure_future(Session.of(setup).run(place))
        await asyncio.to_thread(until, begun, 5, 60.0)
        busy = made.scheduler.workers.values()
        (victim,) = (worker.address for worker in busy if worker.processing)
        await asyncio.sleep(0.2)  # its message that it has begun is on the way
        (process,) = (item.pid for item in made.workers.values() if item.worker_address == victim)
        os.kill(process, signal.SIGKILL)
        await asyncio.to_thread(until, begun, 6, 60.0)
        rest.touch()
        await going
        return place

    place = asyncio.run(whole())
    outputs = [entry.event.output for entry in read_all(place) if isinstance(entry.event, EvaluationEnded)]
    assert len(outputs) == 12 and not [item for item in outputs if "failure" in item]
    assert [item["attempts"] for item in outputs if "attempts" in item] == [2]
    assert begun.stat().st_size == 13
    rest.touch()
    here = run(home, "here", evaluator__executor="inline")
    assert measured(place) == measured(here)
    assert call("replay", place, cwd=home).code == 0


def test_a_run_killed_on_a_cluster_of_its_own_leaves_nothing_and_resumes(home: Path) -> None:
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    (home / "p" / "evaluate.py").write_text(GATED)
    begun = home / "p" / "count"
    process = begin("run", "p", *DASK, "run.workers=2", "--runs", "runs", cwd=home, PYTHONPATH=ROOT)
    until(begun, 5, 60.0)
    below = descendants(process.pid)
    assert len(below) >= 4  # two workers, and what measures there
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert gone(*below)
    before = begun.stat().st_size
    place = only_run(home / "runs")
    ended = len(measured(place))
    (home / "p" / "go").touch()
    resumed = cli("resume", place, *DASK, "run.workers=2", "--json", cwd=home, PYTHONPATH=ROOT)
    assert resumed.code == 0, resumed.out + resumed.err
    assert len(measured(place)) == 12
    assert begun.stat().st_size == before + 12 - ended and before - ended <= 2


def descendants(pid: int) -> list[int]:
    """Processes below one."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    parents = {int(line.split()[0]): int(line.split()[1]) for line in lines if line.strip()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [one for one in found[1:] if one in parents]


SCHEDULER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    made = LocalCluster(n_workers=1, threads_per_worker=1, silence_logs=50, dashboard_address="127.0.0.1:0")
    print(made.scheduler_address, flush=True)
    sys.stdin.read()
"""


def test_without_its_scheduler_a_run_ends_and_another_cluster_takes_it_up(made: Any, home: Path) -> None:
    (home / "p" / "evaluate.py").write_text(GATED)
    (home / "scheduler.py").write_text(SCHEDULER)
    begun = home / "p" / "count"
    process = subprocess.Popen(
        [sys.executable, "-P", home / "scheduler.py"],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        running = begin(
            "run", "p", *DASK, f"dask.scheduler={address}", "--json", "--runs", "runs", cwd=home, PYTHONPATH=ROOT
        )
        until(begun, 5, 60.0)
    finally:
        process.kill()
        process.communicate()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 69, err
    assert "Traceback" not in err, "dask's own words on it"
    error = json.loads(out)["error"]
    assert f"the dask scheduler {address} went away" in error["message"] and "truegain resume" in error["hint"]
    place = only_run(home / "runs")
    ended, before = len(measured(place)), begun.stat().st_size
    (home / "p" / "go").touch()
    again = call("resume", place, *DASK, f"dask.scheduler={made.scheduler_address}", "--json", cwd=home)
    assert again.code == 0, again.out + again.err
    assert len(measured(place)) == 12 and begun.stat().st_size == before + 12 - ended


def test_a_resume_may_run_elsewhere() -> None:
    there = Settings(executor="dask", dask={"scheduler": "tcp://old:1"}, workers=3)
    assert there.placed(Settings()) == there
    moved = there.placed(Settings(executor="dask", dask={"scheduler": "tcp://new:1"}))
    assert (moved.dask, moved.workers) == ({"scheduler": "tcp://new:1"}, 3)
    home = there.placed(Settings(executor="subprocess"))
    assert (home.executor, home.dask) == ("subprocess", {})


def test_a_scheduler_that_is_not_there_stops_a_run_before_it_begins(home: Path) -> None:
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    setup = load(home / "p", {"evaluator.executor": "dask", "dask.scheduler": "what://127.0.0.1:9"})
    with pytest.raises(PrerequisiteError, match="no dask scheduler at what://"):
        asyncio.run(Session.of(setup).run(home / "runs" / "x"))
    assert not (home / "runs" / "x").exists()


def test_without_the_package_no_run_begins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = call("run", "p", *DASK, "run.workers=2", "--model", "none", "--runs", "runs", cwd=home)
    assert done.code == 69 and done.err.startswith("truegain: the dask executor needs the package distributed")
    assert not list((home / "runs").glob("p-*"))


def test_the_problem_file_names_the_cluster(home: Path) -> None:
    text = TOML.replace("deterministic = true", 'deterministic = true\nexecutor = "dask"')
    (home / "p" / "problem.toml").write_text(
        text + '\n[dask]\nscheduler = "tcp://10.0.0.5:8786"\nresources = { GPU = 1 }\n'
    )
    settings = load(home / "p").settings
    assert (settings.executor, settings.dask) == (
        "dask",
        {"scheduler": "tcp://10.0.0.5:8786", "resources": {"GPU": 1.0}},
    )
    (home / "p" / "problem.toml").write_text(text + "\n[dask]\nworkers = 2\n")
    refused = call("estimate", "p", "--json", cwd=home)
    assert refused.code == 2 and "dask.workers: unknown key" in refused.json["error"]["message"]
