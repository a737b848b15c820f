"""What a candidate may know of its own process, and that it is all it knows of any."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
from sandbox_helpers import ROOT, job, linux_only, needs, needs_root

from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job

LOOK = b"""
import json, os, sys

def look(path):
    try:
        with open(path, "rb") as file:
            return len(file.read(9))
    except OSError as error:
        return type(error).__name__

def solve(paths):
    return [look(path.replace("PARENT", str(os.getppid()))) for path in paths]

if __name__ == "__main__":
    print(json.dumps(solve(json.load(sys.stdin))))
"""
OTHERS = (
    "/proc/1/environ",
    "/proc/1/maps",
    f"/proc/{os.getpid()}/environ",
    f"/proc/{os.getpid()}/maps",
    "/proc/PARENT/environ",
    "/proc/PARENT/maps",
    "/proc/self/environ",
    "/proc/self/net/tcp",
    "/proc/self/root/proc/1/environ",
    f"/proc/self/root{ROOT}/pyproject.toml",
    f"/proc/self/cwd/../../../../../../../../..{ROOT}/pyproject.toml",
)
PROGRAM = (sys.executable, "-I", "-S", "{files}/look.py")
CAPS = Caps(seconds=120, processes=2, memory_mb=2000)


@linux_only
@needs("landlock")
@pytest.mark.parametrize("layers", [["landlock"], None], ids=["landlock", "all"])
async def test_a_program_reads_its_own_map_of_memory_and_nothing_of_others(layers: list[str] | None) -> None:
    async with Sandbox(workers=1, layers=layers, unsafe=True) as sandbox:
        for _ in range(2):  # what one was allowed is not allowed to the next
            result = await sandbox.run(Job({"look.py": LOOK}, PROGRAM, [["/proc/self/maps", *OTHERS]], CAPS))
            assert result.status == "ok", result
            mine, *others = json.loads(result.outputs[0]["stdout"])
            assert mine == 9 and set(others) <= {"PermissionError", "FileNotFoundError"}, others
        result = await sandbox.run(Job({"look.py": LOOK}, "look:solve", [["/proc/self/maps", *OTHERS]]))
        assert set(result.outputs[0]) <= {"PermissionError", "FileNotFoundError"}, "a function needs none of it"


@linux_only
@needs("landlock")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("layers", [["landlock"], None], ids=["landlock", "all"])
async def test_valgrind_works_behind_the_layers(layers: list[str] | None) -> None:
    valgrind = shutil.which("valgrind") or ""
    argv = (valgrind, "--tool=callgrind", "--vgdb=no", "--callgrind-out-file=/dev/null", "--", "/bin/true")
    async with Sandbox(workers=1, layers=layers, unsafe=True) as sandbox:
        result = await sandbox.run(Job({}, argv, [""], CAPS))
        assert result.outputs == ({"exit": 0, "stdout": ""},) and "Collected :" in result.log, result


@linux_only
async def test_a_candidate_inherits_its_channel_and_its_log_and_nothing_else(sandbox: Sandbox) -> None:
    source = """
import os, stat
def solve(x):
    found = {}
    for number in range(4096):
        try:
            found[str(number)] = stat.S_IFMT(os.fstat(number).st_mode)
        except OSError:
            pass
    return [stat.S_ISSOCK(kind) for number, kind in found.items() if int(number) > 2]
"""
    result = await sandbox.run(job(source))
    assert result.outputs == ([True],), "rules that others will be put under must not be in its hands"


@linux_only
@needs_root
@needs("uid")
async def test_reading_leaves_no_access_times() -> None:
    """Else the next candidate learns from them which files this one has read. (Bubblewrap shows them read-only.)"""
    source = b"""
import os, time

def solve(x):
    place = os.path.dirname(__file__) + "/read.txt"
    before = os.stat(place).st_atime_ns
    time.sleep(0.05)
    with open(place) as file:
        file.read(1)
    return os.stat(place).st_atime_ns != before
"""

    async def seen(layers: list[str]) -> bool:
        async with Sandbox(workers=1, layers=layers, unsafe=True) as sandbox:
            result = await sandbox.run(Job({"look.py": source, "read.txt": b"x"}, "look:solve", [1], CAPS))
            assert result.status == "ok", result
            return bool(result.outputs[0])

    if not await seen(["rlimits"]):
        pytest.skip("nothing here has access times")
    assert not await seen(["uid"])
