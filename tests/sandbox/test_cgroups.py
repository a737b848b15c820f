"""Where control groups can be made, read from both versions' files, and what is written there."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_helpers import PATIENT, job, needs

from agent.sandbox.cgroups import Group, parents
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps


def machine(place: Path, mounts: str, own: str) -> Path:
    (place / "proc").mkdir()
    (place / "proc/mountinfo").write_text(mounts.replace("$", str(place)))
    (place / "proc/cgroup").write_text(own)
    return place / "proc"


V1 = """30 25 0:26 / $/memory rw - cgroup cgroup rw,memory
31 25 0:27 / $/pids rw - cgroup cgroup rw,pids
32 25 0:28 / $/unified rw - cgroup2 cgroup2 rw
"""


def test_version_1(tmp_path: Path) -> None:
    proc = machine(tmp_path, V1, "4:memory:/mine\n8:pids:/elsewhere\n0::/\n")
    (tmp_path / "memory/mine").mkdir(parents=True)
    (tmp_path / "pids").mkdir()
    assert parents(proc) == [tmp_path / "memory/mine", tmp_path / "pids"]


def test_version_2(tmp_path: Path) -> None:
    proc = machine(tmp_path, "30 25 0:26 / $/cg rw - cgroup2 cgroup2 rw\n", "0::/user/me\n")
    own = tmp_path / "cg/user/me"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory pids\n")
    assert parents(proc) == [own]
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    (own / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(OSError, match="no controller for memory and pids"):
        parents(proc)


def test_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no control groups"):
        parents(machine(tmp_path, "30 25 0:26 / /x rw - tmpfs tmpfs rw\n", "0::/\n"))


def test_limits_and_kills_of_version_2(tmp_path: Path) -> None:
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (tmp_path / name).touch()
    (tmp_path / "memory.current").write_text(str(40 * 2**20))
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    group = Group([tmp_path])
    group.started()
    group.limit(100, 4)
    assert (tmp_path / "memory.max").read_text() == str((40 + 100 + 16) * 2**20)
    assert (tmp_path / "memory.swap.max").read_text() == "0"
    assert int((tmp_path / "pids.max").read_text()) == 4 + 32 + 2
    assert not group.killed()
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.killed() and not group.killed()


@needs("cgroup")
async def test_memory_counts_for_all_processes_together() -> None:
    source = """
import os, time
def solve(x):
    for _ in range(x):
        if os.fork() == 0:
            block = b"x" * (60 << 20)
            time.sleep(1 if x == 1 else 600)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1])
"""
    async with Sandbox(workers=1, layers=["rlimits", "cgroup"], unsafe=True) as sandbox:
        caps = Caps(seconds=120, memory_mb=150, processes=8)
        assert (await sandbox.run(job(source, 1, caps=caps))).outputs == (0,)
        assert (await sandbox.run(job(source, 5, caps=caps))).outputs == (-9,)  # the kernel chose one of them
        alone = "def solve(x):\n    return len(b'x' * (300 << 20))\n"
        result = await sandbox.run(job(alone, caps=caps))
        assert result.status == "memory"
        assert (await sandbox.run(job("def solve(x): return x\n", caps=PATIENT))).status == "ok"
    async with Sandbox(workers=1, layers=["cgroup"], unsafe=True) as sandbox:
        result = await sandbox.run(job(alone, caps=caps))
        assert (result.status, result.message) == ("memory", "it used more memory than allowed")


@needs("cgroup")
async def test_the_next_candidate_is_not_blamed_for_what_the_last_one_used() -> None:
    hungry = """
import os, time
def solve(x):
    for _ in range(4):
        if os.fork() == 0:
            block = b"x" * (60 << 20)
            time.sleep(600)
    os.wait()
    return "one of mine was killed"
"""
    caps = Caps(seconds=120, memory_mb=100, processes=8)
    async with Sandbox(workers=1, layers=["rlimits", "cgroup"], unsafe=True) as sandbox:
        assert (await sandbox.run(job(hungry, caps=caps))).outputs == ("one of mine was killed",)
        result = await sandbox.run(job("def solve(x): raise ValueError('an honest mistake')\n", caps=caps))
        assert (result.status, result.message) == ("crash", "ValueError: an honest mistake")
