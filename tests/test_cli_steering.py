"""Live runs that are paused, stopped, killed and taken up again from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.control.wire import Control
from agent.folders import listing
from agent.lock import is_locked
from tests.background_support import gone, launched, log, wait
from tests.cli_helpers import (
    GATED,
    Ran,
    begin,
    call,
    cli,
    finish,
    folder,
    kill,
    only_run,
    until,
)
from tests.support import bodies, entries

__all__ = ["launched"]  # a fixture


def test_pause_waits_and_resume_lets_the_live_run_go_on(tmp_path: Path, launched: dict[str, Any]) -> None:
    run = Path(launched["folder"])
    early = call("pause", "--no-wait", "--json", cwd=tmp_path)
    assert early.code == 0 and early.json["state"] == "paused" and early.json["busy"]
    late = call("pause", "--timeout", 0.1, "--json", cwd=tmp_path)
    assert late.code == 75 and late.json["error"]["kind"] == "timeout"
    waiting = begin("pause", cwd=tmp_path)
    (tmp_path / "bowl" / "go").touch()
    assert finish(waiting).out.startswith(f"{run.name} is paused.")
    measured = (tmp_path / "bowl" / "count").stat().st_size
    assert measured == 5
    (listed,) = call("list", "--json", cwd=tmp_path).json["runs"]
    assert (listed["state"], listed["pid"]) == ("paused", launched["pid"])
    assert call("status", "--json", cwd=tmp_path).json["state"] == "paused"
    refused = call("resume", "--evaluations", 20, "--json", cwd=tmp_path)
    assert refused.code == 2 and "truegain stop" in refused.json["error"]["hint"]
    assert (tmp_path / "bowl" / "count").stat().st_size == measured, "nothing was started meanwhile"
    went = call("resume", "--json", cwd=tmp_path)
    assert went.code == 0 and went.json["pid"] == launched["pid"]
    gone(run)
    assert listing(run).state == "finished" and call("replay", cwd=tmp_path).code == 0
    late = call("pause", "--json", cwd=tmp_path)
    assert late.code == 2 and late.json["error"]["kind"] == "not_running"


def test_a_paused_run_that_is_killed_is_lost_and_goes_on(tmp_path: Path, launched: dict[str, Any]) -> None:
    run = Path(launched["folder"])
    waiting = begin("pause", cwd=tmp_path)
    wait(lambda: listing(run).state == "paused", "it is paused")
    (tmp_path / "bowl" / "go").touch()
    assert finish(waiting).code == 0
    os.kill(launched["pid"], signal.SIGKILL)
    gone(run)
    assert (run / "control").exists() and Path(launched["socket"]).exists(), "stale ones"
    (listed,) = call("list", "--json", cwd=tmp_path).json["runs"]
    assert (listed["state"], listed["pid"]) == ("lost", None)
    assert call("stop", "--json", cwd=tmp_path).json["error"]["kind"] == "not_running"
    assert log(launched)[-1]["event"] != "done", "a killed process says no last word"

    again = cli("resume", "--detach", "--json", cwd=tmp_path)
    assert again.code == 0 and again.json["run"] == run.name and again.json["pid"] != launched["pid"]
    gone(run)
    assert log(again.json)[-1]["exit_code"] == 0 and (tmp_path / "bowl" / "count").stat().st_size == 12
    assert call("replay", cwd=tmp_path).code == 0
    undisturbed = folder(tmp_path / "undisturbed" / "bowl", evaluate=GATED)
    (undisturbed / "go").touch()
    call("run", undisturbed, cwd=tmp_path)
    other = only_run(tmp_path / "undisturbed" / "runs")
    skip = ("run.paused", "run.continued", "run.resumed", "run.started")
    assert bodies(entries(run), skip) == bodies(entries(other), skip)


def test_stop_finishes_what_is_in_flight_and_waits_for_the_end(tmp_path: Path, launched: dict[str, Any]) -> None:
    run = Path(launched["folder"])
    soon = call("stop", "--timeout", 0.2, "--json", cwd=tmp_path)
    assert soon.code == 75 and soon.json["error"]["kind"] == "timeout" and "--now" in soon.json["error"]["hint"]
    assert call("status", "--json", cwd=tmp_path).json["state"] == "stopping"
    waiting = begin("stop", "--json", cwd=tmp_path)
    (tmp_path / "bowl" / "go").touch()
    done = finish(waiting)
    assert done.code == 0 and done.json["state"] == "stopped" and not is_locked(run)
    known = [entry.event.type for entry in entries(run)]
    assert known.count("evaluation.started") == known.count("evaluation.ended") == 5
    assert known.count("stop.requested") == 1
    assert log(launched)[-1]["exit_code"] == 143
    again = call("stop", cwd=tmp_path)
    assert again.code == 0 and "was already stopped" in again.out
    assert call("resume", "--json", cwd=tmp_path).json["status"] == "exact"
    over = call("stop", cwd=tmp_path)
    assert over.code == 0 and "had finished before: exact" in over.out


def test_stop_now_cancels_what_is_in_flight(tmp_path: Path, launched: dict[str, Any]) -> None:
    done = call("stop", "--now", "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["state"] == "stopped" and not is_locked(Path(launched["folder"]))
    assert log(launched)[-1]["exit_code"] == 130
    (tmp_path / "bowl" / "go").touch()
    resumed = call("resume", "--json", cwd=tmp_path)
    assert resumed.json["status"] == "exact" and resumed.json["spent"]["evaluations"] == 12


def test_stop_now_kills_a_process_that_does_not_answer(tmp_path: Path, launched: dict[str, Any]) -> None:
    os.kill(launched["pid"], signal.SIGSTOP)
    done = call("stop", "--now", "--timeout", 0.5, "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["state"] == "lost" and not is_locked(Path(launched["folder"]))
    (tmp_path / "bowl" / "go").touch()
    assert call("resume", "--json", cwd=tmp_path).json["spent"]["evaluations"] == 12


def test_nobody_is_killed_on_the_word_of_a_stale_address(tmp_path: Path) -> None:
    """The run is lost, and the pid in what it left behind belongs to somebody else now."""
    process = begin("run", folder(tmp_path / "bowl", evaluate=GATED), cwd=tmp_path)
    until(tmp_path / "bowl" / "count", 5)
    kill(process)
    (run,) = (path for path in (tmp_path / "runs").iterdir() if not path.name.startswith("."))
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        control = Control.read(run)
        assert control is not None
        Control(control.socket, bystander.pid, control.started).write(run)
        (run / "lock").write_text(str(bystander.pid))
        done = call("stop", "--now", "--timeout", 0.2, "--json", cwd=tmp_path)
        assert done.code == 2 and done.json["error"]["kind"] == "not_running"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_run_in_the_foreground_is_steered_as_well(tmp_path: Path) -> None:
    process = begin("run", folder(tmp_path / "bowl", evaluate=GATED), "--json", cwd=tmp_path)
    try:
        until(tmp_path / "bowl" / "count", 5)
        stopping = begin("stop", cwd=tmp_path)
        wait(lambda: call("status", "--json", cwd=tmp_path).json["state"] == "stopping", "it is stopping")
        (tmp_path / "bowl" / "go").touch()
        done: Ran = finish(process)
        assert finish(stopping).code == 0
        assert done.code == 143 and done.json["reason"] == "terminated"
    finally:
        if process.poll() is None:
            kill(process)
