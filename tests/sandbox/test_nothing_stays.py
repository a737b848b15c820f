"""After hundreds of candidates, honest and hostile, there is no process, file or memory that was not there before."""

from __future__ import annotations

import asyncio
import glob
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sandbox_helpers import PATIENT, ROOT, eventually, job, linux_only, needs, processes

from agent.sandbox import workspace
from agent.sandbox.attacks import ATTACKS
from agent.sandbox.cgroups import PREFIX
from agent.sandbox.drill import Scene
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job
from agent.sandbox.workspace import WorkerFolder, Workspace

pytestmark = linux_only


def groups() -> list[str]:
    return glob.glob(f"/sys/fs/cgroup/**/{PREFIX}{os.getpid()}-*", recursive=True)


@needs("landlock", "seccomp")
async def test_a_mixed_crowd_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))
    tmp_path.chmod(0o711)
    hostile = [attack for attack in ATTACKS if attack.caps.seconds > 1 and attack.name not in ("disk full", "4 GB")]
    descriptors = len(os.listdir("/dev/fd"))
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
            before = _resident()
            await asyncio.gather(*(one(number) for number in range(60)))
            assert wrong == []
            assert _resident() - before < 8
            assert eventually(lambda: len(processes(folder)) <= (10 if "bubblewrap" in sandbox.layers else 6))
            assert not [path for path in Path(folder, "jobs").rglob("*") if len(path.relative_to(folder).parts) > 3]
        assert scene.harm() == ""
    assert eventually(lambda: not processes(folder))
    assert list(tmp_path.iterdir()) == [] and groups() == []
    assert len(os.listdir("/dev/fd")) == descriptors


def _resident() -> float:
    """Our own memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


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
        time.sleep(0.2)
        parent.send_signal(number)
        parent.wait()
    assert eventually(lambda: not processes(folder))
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
