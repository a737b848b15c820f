"""Commands that take too much: they are ended, with everything they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_helpers import PATIENCE, kind, produce

from agent.evaluation import Limits, Request
from agent.evaluators.command import CommandEvaluator
from agent.space import Candidate

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
Command = Callable[..., CommandEvaluator]


def alive(pid: int) -> bool:
    if LINUX:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return listed[:1] not in ("", "Z")


def gone(pid: int) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and alive(pid):
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.skipif(not LINUX, reason="only Linux limits memory")
def test_memory_is_limited(command: Command) -> None:
    output = produce(command("x = bytearray(2_000_000_000)\nprint(1)"), limits=Limits(memory_mb=300))
    assert kind(output) == "memory"
    assert produce(command("x = bytearray(50_000_000)\nprint(1)"), limits=Limits(memory_mb=300)).failure is None


STUBBORN = """
    import os, pathlib, signal, subprocess, sys, time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], start_new_session=sys.platform == "linux")
    print("started", flush=True)
    print(0.5, flush=True)
    pathlib.Path("pids.tmp").write_text(f"{os.getpid()} {child.pid}")
    os.rename("pids.tmp", "pids")
    time.sleep(600)
"""


def pids(folder: Path) -> list[int]:
    until = time.monotonic() + PATIENCE
    while not (folder / "pids").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_a_timeout_kills_it_with_everything_it_started(command: Command, tmp_path: Path) -> None:
    partials: list[Any] = []
    output = produce(command(STUBBORN), partials, limits=Limits(seconds=2))
    assert kind(output) == "timeout"
    assert output.log == "started\n"
    assert [item["values"]["value"] for item in partials] == [0.5]
    assert all(gone(pid) for pid in pids(tmp_path))


def test_it_may_clean_up_when_its_time_is_over(command: Command, tmp_path: Path) -> None:
    source = """
        import pathlib, signal, sys, time

        def clean(*_):
            pathlib.Path("cleaned").touch()
            sys.exit(0)

        signal.signal(signal.SIGTERM, clean)
        time.sleep(600)
    """
    assert kind(produce(command(source), limits=Limits(seconds=2))) == "timeout"
    assert (tmp_path / "cleaned").exists()


async def test_cancelling_kills_it(command: Command, tmp_path: Path) -> None:
    task = asyncio.ensure_future(command(STUBBORN).produce(Request(Candidate({})), lambda _: None))
    found = await asyncio.to_thread(pids, tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(gone(pid) for pid in found)


def test_a_child_that_is_left_behind_is_killed(command: Command, tmp_path: Path) -> None:
    source = """
        import pathlib, subprocess, sys
        sessions = (False, sys.platform == "linux")
        children = [subprocess.Popen(["sleep", "600"], start_new_session=new) for new in sessions]
        pathlib.Path("pids").write_text(" ".join(str(child.pid) for child in children))
        print(1)
    """
    assert produce(command(source)).value["values"] == {"value": 1.0}
    assert all(gone(pid) for pid in pids(tmp_path))


def test_nothing_is_left_when_we_die(command: Command, tmp_path: Path) -> None:
    spec = command(STUBBORN).spec
    script = f"""
        import asyncio
        from agent.evaluation import Request
        from agent.evaluators.build import build
        from agent.space import Candidate

        asyncio.run(build({dict(spec or {})!r}).produce(Request(Candidate({{}})), print))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT)
    try:
        found = pids(tmp_path)
        os.kill(parent.pid, signal.SIGKILL)
    finally:
        parent.kill()
        parent.wait()
    assert all(gone(pid) for pid in found)
