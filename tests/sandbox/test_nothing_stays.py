"""After hundreds of candidates, honest and hostile, there is no process, file or memory that was not there before."""

from __future__ import annotations

import asyncio
import errno
import glob
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sandbox_helpers import AS_ROOT, ON, PATIENT, ROOT, USER, eventually, job, linux_only, needs, processes

from agent.sandbox import workspace
from agent.sandbox.attacks import ATTACKS
from agent.sandbox.cgroups import PREFIX
from agent.sandbox.drill import Scene
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job
from agent.sandbox.workspace import WorkerFolder, Workspace

pytestmark = linux_only


def groups(pid: int) -> list[str]:
    return glob.glob(f"/sys/fs/cgroup/**/{PREFIX}{pid}-*", recursive=True)


@needs("landlock", "seccomp")
async def test_a_mixed_crowd_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))
    tmp_path.chmod(0o711)
    hostile = [attack for attack in ATTACKS if attack.caps.seconds > 1 and attack.name not in ("disk full", "4 GB")]
    descriptors = len(os.listdir("/dev/fd"))
    before = set(groups(os.getpid()))  # an evaluator of an earlier test may keep its sandbox until this process ends
    with Scene() as scene:
        told = scene.told() | {"forks": 40}
        async with Sandbox(imports=("numpy",), workers=2) as sandbox:
            folder, wrong = str(sandbox.folder), []

            async def one(number: int) -> None:
                if number % 2:
                    attack = hostile[number // 2 % len(hostile)]
                    await sandbox.run(Job({"a.py": attack.source.encode()}, "a:solve", [told], attack.caps))
                    return
                result = await sandbox.run(job("import numpy\ndef solve(x): return int(numpy.arange(x).sum())\n", 9))
                if result.outputs != (36,):
                    wrong.append(result)

            await asyncio.gather(*(one(number) for number in range(60)))
            resident = _resident()
            await asyncio.gather(*(one(number) for number in range(60)))
            assert wrong == []
            assert _resident() - resident < 8
            assert eventually(lambda: len(processes(folder)) <= (10 if "bubblewrap" in sandbox.layers else 6))
            left = [path for path in Path(folder, "jobs").rglob("*") if len(path.relative_to(folder).parts) > 3]
            kept = [path for path in left if path.parent.name == "files" and not any(path.iterdir())]
            assert left == kept and len({path.parent for path in kept}) == len(kept), "the next job's, one for a worker"
        assert scene.harm() == ""
    assert eventually(lambda: not processes(folder))
    assert list(tmp_path.iterdir()) == [] and set(groups(os.getpid())) <= before
    assert len(os.listdir("/dev/fd")) == descriptors


def _resident() -> float:
    """Our own memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_a_program_finds_no_trace_of_the_files_of_earlier_ones() -> None:
    look = """
import os
def solve(x):
    here = os.path.dirname(__file__)
    found = os.stat(here)
    return [sorted(os.listdir(here)), found.st_size, found.st_nlink, found.st_mode, len(os.listdir("."))]
"""
    few = {f"{name}.py": b"" for name in "abc"} | {"package/deep/d.py": b"", "c.sh": b"#!/bin/sh"}
    many = {f"{number:0200}.py": b"" for number in range(200)}
    async with Sandbox(workers=1, unsafe=True) as sandbox:
        first = await sandbox.run(job(look))
        assert first.outputs[0][0] == ["candidate.py"] and first.outputs[0][4] == 0
        for files in (few, many):
            crowd = Job({"candidate.py": look.encode(), **files}, "candidate:solve", [1], PATIENT)
            before = await sandbox.run(crowd)
            assert before.status == "ok" and len(before.outputs[0][0]) > 3
            assert (await sandbox.run(job(look))).outputs == first.outputs


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_us(tmp_path: Path, number: signal.Signals) -> None:
    script = """
import asyncio
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job

async def main():
    async with Sandbox(workers=1, unsafe=True) as sandbox:
        print(sandbox.folder, flush=True)
        await sandbox.run(Job({"c.py": b"import time\\ndef solve(x): time.sleep(600)"}, "c:solve", [1], Caps(600)))

asyncio.run(main())
"""
    tmp_path.chmod(0o711)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        folder = parent.stdout.readline().strip()
        assert eventually(lambda: any(Path(folder, "jobs").glob("*/work/*")))
        assert bool(groups(parent.pid)) == ("cgroup" in ON)
        time.sleep(0.2)
        parent.send_signal(number)
        parent.wait()
    assert eventually(lambda: not processes(folder))
    assert eventually(lambda: not groups(parent.pid)), "its guards remove their groups"
    done = subprocess.run(  # the next one tidies up
        [sys.executable, "-c", "from agent.sandbox.workspace import Workspace; Workspace(False).close()"],
        env=environment,
    )
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_the_folder_of_the_living_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace.tempfile, "tempdir", str(tmp_path))
    first = Workspace(shared=False)
    second = Workspace(shared=False)
    assert first.folder.exists() and first.folder != second.folder
    assert first.folder.stat().st_mode & 0o777 == 0o700
    second.close()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_sandboxes_that_start_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    script = """
from agent.sandbox.workspace import Workspace

for _ in range(300):
    one = Workspace(False)
    assert one.jobs.is_dir()
    one.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(4)]
    assert [one.wait() for one in started] == [0] * 4 and list(tmp_path.iterdir()) == []


def test_what_others_put_under_our_names_is_neither_waited_for_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace.tempfile, "tempdir", str(tmp_path))
    waits, leads, kept = (tmp_path / f"{workspace.PREFIX}{name}" for name in ("fifo", "link", "other"))
    waits.mkdir()
    os.mkfifo(waits / "lock")
    leads.mkdir()
    (tmp_path / "precious").touch()
    (leads / "lock").symlink_to(tmp_path / "precious")
    kept.mkdir()
    (kept / "lock").touch()
    (tmp_path / f"{workspace.PREFIX}alias").symlink_to(kept)
    if AS_ROOT:
        os.chown(kept, USER, -1)
    dead = tmp_path / f"{workspace.PREFIX}dead"
    dead.mkdir()
    (dead / "lock").touch()
    young, old, empty = (tmp_path / f"{workspace.YOUNG}{name}" for name in ("young", "old", "empty"))
    for folder in (young, old, empty):
        folder.mkdir()
        if folder != empty:
            (folder / "lock").touch()
    for folder in (old, empty):
        os.utime(folder, (0, 0))
    Workspace(shared=False).close()
    assert not dead.exists(), "an old one of our own goes"
    assert young.exists() and not old.exists() and not empty.exists(), "as do those that were never finished"
    assert waits.exists() and leads.exists() and (tmp_path / "precious").exists()
    assert kept.exists() == AS_ROOT, "one of another user stays"


@pytest.mark.skipif(not AS_ROOT, reason="only root needs no modes")
def test_root_changes_no_mode_to_remove_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "closed"
    for _ in range(3):
        place.mkdir()
        (place / "file").touch()
        place.chmod(0)
        place = place / "deeper"
    changed: list[object] = []
    monkeypatch.setattr(os, "chmod", lambda *words, **_: changed.append(words))
    monkeypatch.setattr(os, "unlink", lambda *words, **_: changed.append("tried") or os.remove("/no/such/file"))
    workspace.remove(tmp_path / "closed")
    assert not (tmp_path / "closed").exists() and set(changed) <= {"tried"}


def test_a_folder_that_an_enemy_filled_is_removed(tmp_path: Path) -> None:
    folder = WorkerFolder(tmp_path, None)
    _, work = folder.job({"a.py": b""})
    outside = tmp_path / "outside"
    outside.write_text("kept")
    here = os.getcwd()
    try:
        os.chdir(work)
        for _ in range(1200):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.chdir(here)
    (work / "closed").mkdir()
    (work / "closed" / "file").touch()
    (work / "closed").chmod(0)
    (work / "link").symlink_to(outside)
    os.link(outside, work / "hard")
    (folder.work / "beside").touch()
    folder.clear()
    assert not any(folder.work.iterdir()) and not any(folder.files.iterdir())
    assert outside.read_text() == "kept"
    folder.close()


HIDDEN = {
    "open": "kept.append(file)",
    "mapped": "kept.append(LIBC.mmap(None, 4096, 1, 1, file, 0)); os.close(file)",
}


@pytest.mark.parametrize("how", ["open", "mapped"])
@pytest.mark.parametrize("layers", [None, ["rlimits"]], ids=["all", "rlimits"])
async def test_files_without_a_name_count(how: str, layers: list[str] | None) -> None:
    source = """
import ctypes, os, time
LIBC, kept = ctypes.CDLL(None), []
def solve(x):
    for _ in range(x):
        file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
        os.unlink("f")
        os.write(file, bytes(3 * 2**20))
        HOW
    time.sleep(600 if x > 3 else 0.6)
    return x
""".replace("HOW", HIDDEN[how])
    async with Sandbox(workers=1, layers=layers, unsafe=True) as sandbox:
        result = await sandbox.run(job(source, 10, caps=Caps(seconds=300, disk_mb=16)))
        assert (result.status, result.message) == ("forbidden", "it wrote more than 16 MB")
        result = await sandbox.run(job(source, 1 if how == "mapped" else 3, caps=Caps(seconds=300, disk_mb=16)))
        assert (result.status, result.outputs) == ("ok", (1 if how == "mapped" else 3,)), result.message


def test_a_thread_that_ends_while_we_look_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that starts and ends threads all the time would be seen by nobody."""
    kept = []
    for name in ("open", "mapped"):
        file = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT)
        os.unlink(tmp_path / name)
        os.write(file, bytes(3 * 2**20))
        kept.append(file if name == "open" else mmap.mmap(file, 4096))  # it has a descriptor of its own
    os.close(file)
    listed = os.listdir
    tasks = f"/proc/{os.getpid()}/task"
    device = os.stat(tmp_path).st_dev
    dead = "4194305"  # no process has such a number
    for gone in ([], [dead]):
        for late in ([], [dead]):
            monkeypatch.setattr(
                os, "listdir", lambda at, g=gone, n=late: [*g, *listed(at), *n] if at == tasks else listed(at)
            )
            found = workspace.nameless([int(dead), os.getpid()], device, 7 * 2**20)
            assert found // 2**20 == 6
    os.close(kept[0])
    kept[1].close()
    assert workspace.nameless([os.getpid()], device, 7 * 2**20) < 2**20, "what other tests hold is small"


def test_a_process_whose_first_thread_has_ended_hides_nothing(tmp_path: Path) -> None:
    script = """
import ctypes, os, threading, time
file = os.open("f", os.O_RDWR | os.O_CREAT)
os.unlink("f")
os.write(file, bytes(3 * 2**20))
kept = ctypes.CDLL(None).mmap(None, 4096, 1, 1, file, 0)  # Python's keeps a descriptor
os.close(file)
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    device = os.stat(tmp_path).st_dev
    hiding = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        assert eventually(lambda: Path(f"/proc/{hiding.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert workspace.nameless([hiding.pid], device, 7 * 2**20) == 7 * 2**20
    finally:
        hiding.kill()
        hiding.wait()


@needs("seccomp")
async def test_a_disk_cannot_be_filled_at_once() -> None:
    async with Sandbox(workers=1, unsafe=True) as sandbox:
        source = """
import ctypes, os
def solve(x):
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
    failed = libc.fallocate(file, 0, ctypes.c_long(0), ctypes.c_long(2**20)), ctypes.get_errno()
    os.posix_fallocate(file, 0, 2**20)  # writes, where fallocate does not exist
    return [*failed, os.fstat(file).st_size]
"""
        assert (await sandbox.run(job(source))).outputs == ([-1, errno.EOPNOTSUPP, 2**20],)


async def test_a_full_folder_ends_the_job() -> None:
    async with Sandbox(workers=1, unsafe=True) as sandbox:
        source = """
import time
def solve(x):
    for number in range(x):
        open(f"f{number}", "wb").write(bytes(2**20 * (x < 100)))
    time.sleep(600)
"""
        result = await sandbox.run(job(source, 40, caps=Caps(seconds=300, disk_mb=16)))
        assert (result.status, result.message) == ("forbidden", "it wrote more than 16 MB")
        result = await sandbox.run(job(source, 20_000, caps=Caps(seconds=300, disk_mb=500)))
        assert (result.status, result.message) == ("forbidden", "it made more than 10,000 files")
        result = await sandbox.run(job("def solve(x): open('f', 'wb').write(bytes(2**25))\n", caps=Caps(60, disk_mb=8)))
        assert result.status == "crash" and "File too large" in result.message
        assert (await sandbox.run(job("def solve(x): return x\n", caps=PATIENT))).status == "ok"
