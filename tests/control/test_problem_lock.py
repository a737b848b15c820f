"""One process runs a problem in a folder of runs, and what dead ones left behind never stands in its way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import RunLocked
from agent.lock import LOCK, LOCKS, Lock, holder, is_locked, problem_lock
from tests.cli_helpers import GATED, begin, call, cli, environment, finish, folder, kill, until
from tests.support import entries


@pytest.fixture
def measuring(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of `bowl` that waits for a file `go` in its fifth measurement."""
    process = begin("run", folder(tmp_path / "bowl", evaluate=GATED), cwd=tmp_path)
    try:
        until(tmp_path / "bowl" / "count", 5)
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def test_the_second_run_of_a_problem_ends_with_75_and_the_holders_pid(
    tmp_path: Path, measuring: subprocess.Popen[str]
) -> None:
    refused = call("run", "bowl", "--json", cwd=tmp_path)
    assert refused.code == 75
    error = refused.json["error"]
    assert set(error) == {"kind", "message", "hint", "pid"}
    assert (
        error["kind"] == "locked" and error["pid"] == measuring.pid and f"process {measuring.pid}" in error["message"]
    )
    assert "truegain status" in error["hint"] and "--runs FOLDER" in error["hint"]
    people = call("run", tmp_path / "bowl" / "problem.toml", cwd=tmp_path)
    assert people.code == 75 and f"process {measuring.pid}" in people.err, "another spelling of the same file"
    (link := tmp_path / "link").symlink_to(tmp_path / "bowl")
    assert call("run", link, "--runs", tmp_path / "runs", cwd=tmp_path).code == 75
    resumed = call("resume", "--json", cwd=tmp_path)
    assert resumed.code == 75 and resumed.json["error"]["pid"] == measuring.pid
    assert len(call("list", "--json", cwd=tmp_path).json["runs"]) == 1, "those that were refused leave nothing"

    folder(tmp_path / "other")
    assert call("run", "other", cwd=tmp_path).code == 0, "another problem runs beside it"
    aside = begin("run", "bowl", "--runs", "aside", "--json", cwd=tmp_path)
    (tmp_path / "bowl" / "go").touch()
    assert finish(aside).code == 0, "and so does the same one in another folder of runs"
    assert finish(measuring).code == 0
    assert call("run", "bowl", cwd=tmp_path).code == 0, "the right is free again"
    assert not (tmp_path / "runs" / LOCKS).exists(), "and nothing is left of it"


def test_ten_problems_run_at_once_in_one_folder_of_runs(tmp_path: Path) -> None:
    names = [f"bowl{number}" for number in range(10)]
    toml = (folder(tmp_path / "bowl0") / "problem.toml").read_text()
    for number, name in enumerate(names):
        folder(tmp_path / name, toml=toml.replace("default = 0.9", f"default = 0.{number}"))
    started = [begin("run", name, "--json", cwd=tmp_path) for name in names]
    ended = [finish(process) for process in started]
    assert [done.code for done in ended] == [0] * 10, [done.err for done in ended if done.code]
    for name, done in zip(names, ended, strict=True):
        result = done.json
        assert result["problem"] == name and result["spent"]["evaluations"] == 12
        replayed = call("replay", result["folder"], "--json", cwd=tmp_path)
        assert replayed.code == 0, replayed.out
    listed = call("list", "--json", cwd=tmp_path).json["runs"]
    assert sorted((run["problem"], run["state"]) for run in listed) == [(name, "finished") for name in names]


def test_a_killed_process_blocks_nobody(tmp_path: Path, measuring: subprocess.Popen[str]) -> None:
    kill(measuring)
    left = list((tmp_path / "runs" / LOCKS).iterdir())
    assert len(left) == 1, "its lock file is still there"
    (tmp_path / "bowl" / "go").touch()
    assert call("run", "bowl", cwd=tmp_path).code == 0


PIDS = {"init": "1", "parent": str(os.getppid()), "empty": "", "no number": "\0\xff?", "long": "9" * 400}


@pytest.mark.parametrize("text", PIDS.values(), ids=PIDS)
def test_a_lock_file_from_before_a_reboot_blocks_nobody_whoever_has_its_pid_now(tmp_path: Path, text: str) -> None:
    first = problem_lock(tmp_path / "runs", tmp_path / "problem.toml")
    (path,) = (tmp_path / "runs" / LOCKS).iterdir()
    first.release()
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    lock = problem_lock(tmp_path / "runs", tmp_path / "problem.toml")
    with pytest.raises(RunLocked) as caught:
        problem_lock(tmp_path / "runs", tmp_path / "problem.toml")
    assert caught.value.pid == os.getpid()
    lock.release()


def test_the_kernel_knows_who_holds_a_lock_although_its_text_is_a_lie(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    (tmp_path / "lock").write_text("1")
    assert is_locked(tmp_path)
    if Path("/proc/locks").exists():
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path, table="/nowhere") == 1, "where the kernel does not tell, its text is all there is"
    lock.release()
    assert not is_locked(tmp_path)


def test_a_lock_that_is_taken_away_while_it_is_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes its file between our opening and our locking: what we locked is a file nobody else sees."""
    import fcntl

    first = problem_lock(tmp_path, tmp_path / "problem.toml")
    real = fcntl.flock

    def slow(file: int, how: int) -> None:
        monkeypatch.setattr("agent.lock.fcntl.flock", real)
        first.release()
        real(file, how)

    monkeypatch.setattr("agent.lock.fcntl.flock", slow)
    second = problem_lock(tmp_path, tmp_path / "problem.toml")
    with pytest.raises(RunLocked):
        problem_lock(tmp_path, tmp_path / "problem.toml")
    second.release()


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, no folder")
    done = call("run", folder(tmp_path / "bowl"), "--runs", tmp_path / "runs", "--json", cwd=tmp_path)
    assert done.code == 1 and done.json["error"]["kind"] == "store"


def test_the_python_api_may_run_one_problem_side_by_side(tmp_path: Path) -> None:
    script = (
        "import sys; from agent import Float, optimize\n"
        "optimize(lambda x: x['a'] ** 2, space={'a': Float(0, 1)}, budget=12, deterministic=True, model=None,"
        " runs='runs', name='same')\n"
    )
    (tmp_path / "script.py").write_text(script)
    import sys

    lives = [subprocess.Popen([sys.executable, "-P", "script.py"], cwd=tmp_path) for _ in range(2)]
    assert [life.wait(60) for life in lives] == [0, 0]


def test_a_signal_that_comes_after_the_end_leaves_the_journal_ended(tmp_path: Path) -> None:
    """Closing takes a while; a stop that comes then must not be written behind the run's last event."""
    import asyncio

    from agent.control.server import Steering
    from agent.loop import Run
    from tests.support import Direct, problem, session

    chosen = problem()
    found: list[Steering] = []

    class Slow(Direct):
        async def close(self) -> None:
            found[0].stop("terminated", "too late")

    async def life() -> None:
        def hold(run: Run) -> None:
            found.append(Steering(run))

        await session(problem=chosen, executor=Slow(chosen), proposer="coordinate").run(tmp_path / "run", hold)

    asyncio.run(life())
    assert found and entries(tmp_path / "run")[-1].event.type == "run.ended"


def test_sigkill_frees_the_lock_and_the_list_knows_at_once(tmp_path: Path, measuring: subprocess.Popen[str]) -> None:
    (run,) = json.loads(cli("list", "--json", cwd=tmp_path).out)["runs"]
    assert (run["state"], run["pid"]) == ("running", measuring.pid)
    os.killpg(measuring.pid, signal.SIGKILL)
    measuring.communicate(timeout=60)
    (run,) = json.loads(cli("list", "--json", cwd=tmp_path).out)["runs"]
    assert (run["state"], run["pid"]) == ("lost", None)


def test_who_only_looks_keeps_nobody_from_a_lock(tmp_path: Path) -> None:
    """`list`, `status` and `watch` hold the lock for an instant to see whether it is free."""
    Lock(tmp_path).release()
    looking, done = os.open(tmp_path / LOCK, os.O_RDONLY), threading.Event()
    fcntl.flock(looking, fcntl.LOCK_SH)

    def look() -> None:
        time.sleep(0.05)
        os.close(looking)
        done.set()

    threading.Thread(target=look).start()
    lock = Lock(tmp_path)
    assert done.wait(5) and is_locked(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)


def test_a_forked_child_does_not_keep_the_lock_of_a_parent_that_is_gone(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from agent.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n" and is_locked(tmp_path)
    try:
        process.kill()
        process.wait()
        end = time.monotonic() + 20
        while is_locked(tmp_path):
            assert time.monotonic() < end, "the child keeps the lock"
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
