"""What a job gives back, honest or not."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sandbox_helpers import ON, PATIENT, eventually, job, linux_only, needs, needs_root, processes

from agent.errors import ConfigError, PrerequisiteError
from agent.sandbox import codec, layers, pool
from agent.sandbox import worker as working
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job


async def test_inputs_become_outputs(sandbox: Sandbox) -> None:
    source = """
import helper

def solve(x):
    print("working on", type(x).__name__)
    return helper.twice(x)
"""
    files = {"candidate.py": source.encode(), "helper.py": b"def twice(x):\n    return {'twice': x * 2}\n"}
    result = await sandbox.run(Job(files, "candidate:solve", [3, "ab", [1.5], np.arange(3.0)], PATIENT))
    assert result.status == "ok", result
    assert result.outputs[:3] == ({"twice": 6}, {"twice": "abab"}, {"twice": [1.5, 1.5]})
    assert result.outputs[3]["twice"].tolist() == [0, 2, 4]
    assert result.log.splitlines()[0] == "working on int"
    assert result.layers == sandbox.layers == ON
    assert result.start_seconds is not None and result.start_seconds < result.usage.seconds
    assert len(result.usages) == 4 and all(0 < usage.seconds < 120 for usage in result.usages)


@linux_only
async def test_usage_is_measured_from_outside(sandbox: Sandbox) -> None:
    source = "def solve(x):\n    return sum(len(b'x' * (50 << 20)) and i for i in range(x))\n"
    result = await sandbox.run(job(source, 1, 40))
    quiet, busy = result.usages
    assert quiet.cpu_seconds is not None and busy.cpu_seconds is not None and busy.peak_mb is not None
    assert busy.cpu_seconds > quiet.cpu_seconds
    assert busy.seconds >= busy.cpu_seconds * 0.5
    assert busy.peak_mb > 50 and result.usage.peak_mb is not None and result.usage.peak_mb > 50


@pytest.mark.parametrize(
    ("source", "status", "message", "detail"),
    [
        ("def solve(x): return f(x)\ndef f(x):\n    return 1 / 0\n", "crash", "ZeroDivision", "candidate.py:3 f"),
        ("def solve(x)\n", "crash", "SyntaxError", "candidate.py:1"),
        ("import nothing_of_the_kind\n", "crash", "ModuleNotFoundError", "candidate.py:1 <module>"),
        ("def other(x): return 1\n", "invalid", "no function 'solve'", ""),
        ("def solve(x): return float('nan')\n", "invalid", "NaN", ""),
        ("import numpy\ndef solve(x): return numpy.array([numpy.inf])\n", "invalid", "infinity", ""),
        ("def solve(x): return {1: 2}\n", "invalid", "not text", ""),
        ("def solve(x): return object()\n", "invalid", "object", ""),
        ("def solve(x):\n    y = []\n    y.append(y)\n    return y\n", "invalid", "nested", ""),
        ("def solve(x): return 'x' * 5_000_000\n", "invalid", "5,000,006 bytes", ""),
        ("def solve(x): raise SystemExit(3)\n", "crash", "SystemExit: 3", "candidate.py:1 solve"),
        ("import os\ndef solve(x): os._exit(7)\n", "crash", "exited with code 7", ""),
        ("import os\ndef solve(x): os.kill(os.getpid(), 6)\n", "crash", "SIGABRT", ""),
        ("def solve(x): return bytearray(1 << 40)\n", "memory", "MemoryError", "candidate.py:1 solve"),
        ("class E(Exception):\n    def __str__(self): raise self\ndef solve(x): raise E\n", "crash", "cannot be", ""),
    ],
)  # fmt: skip
async def test_a_failure_is_a_status(sandbox: Sandbox, source: str, status: str, message: str, detail: str) -> None:
    result = await sandbox.run(job(source, 1))
    assert (result.status, result.detail) == (status, detail)
    assert message in result.message
    assert result.outputs == ()
    loads = not any(word in source for word in ("nothing_of", "other", "solve(x)\n"))
    assert result.failed_input == (0 if loads else None)


async def test_time_runs_out(sandbox: Sandbox) -> None:
    endless = "def solve(x):\n    while x: pass\n    return 1\n"
    result = await sandbox.run(job(endless, 0, 1, caps=Caps(seconds=1)))
    assert (result.status, result.failed_input, result.message) == ("timeout", 1, "it took longer than 1 s")
    result = await sandbox.run(job(endless, 1, caps=Caps(seconds=60, job_seconds=1)))
    assert (result.status, result.message) == ("timeout", "the job took longer than allowed")
    result = await sandbox.run(job(endless, 1, caps=Caps(seconds=60, cpu_seconds=1)))
    assert result.status == "timeout" and "processor time" in result.message
    assert (await sandbox.run(job("while True: pass\n", caps=Caps(seconds=1)))).failed_input is None


async def test_a_log_has_a_limit(sandbox: Sandbox) -> None:
    source = (
        "import sys\ndef solve(x):\n    print('first')\n    print('y' * 10**6)\n    print('last', file=sys.stderr)\n"
    )
    result = await sandbox.run(job(source, caps=Caps(seconds=120, log_chars=1000)))
    assert result.status == "ok" and len(result.log) < 1100
    assert result.log.startswith("first") and result.log.endswith("last\n")


async def test_nothing_carries_over_from_one_job_to_the_next(sandbox: Sandbox) -> None:
    source = """
import builtins, os, random, numpy
def solve(x):
    seen = [hasattr(builtins, "left"), os.listdir("."), "LEFT" in os.environ]
    builtins.left = 1
    os.environ["LEFT"] = "1"
    open("left", "w").close()
    return [seen, random.random(), float(numpy.random.rand()), hash("a")]
"""
    first, second = [await sandbox.run(job(source)) for _ in range(2)]
    assert first.outputs[0][0] == [False, [], False]
    assert first.outputs == second.outputs  # also what it draws: every job starts from the same state


async def test_the_environment_is_its_own(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_API_KEY", "secret")
    source = "import os\ndef solve(x): return dict(os.environ)\n"
    async with Sandbox(workers=1, unsafe=True) as fresh:
        found = (await fresh.run(job(source, env={"SIZE": "3"}))).outputs[0]
    assert found["SIZE"] == "3" and found["HOME"].endswith(found["TMPDIR"][-10:])
    assert not {name for name in found if "KEY" in name or "TOKEN" in name}


@needs("landlock")
async def test_its_files_are_not_its_to_change(sandbox: Sandbox) -> None:
    source = """
import os
def solve(x):
    tried = []
    for act in (lambda: open(__file__, "a"), lambda: os.unlink(__file__), lambda: os.rename(__file__, "mine.py")):
        try:
            act()
        except OSError as error:
            tried.append(type(error).__name__)
    return tried
"""
    assert (await sandbox.run(job(source))).outputs == (["PermissionError"] * 2 + ["OSError"],) or (
        await sandbox.run(job(source))
    ).outputs == (["PermissionError"] * 3,)


async def test_its_own_module_wins_over_one_that_is_loaded(sandbox: Sandbox) -> None:
    files = {"json.py": b"def solve(x):\n    return 'mine'\n"}
    assert (await sandbox.run(Job(files, "json:solve", [1], PATIENT))).outputs == ("mine",)
    result = await sandbox.run(Job(files, "os:getcwd", [1], PATIENT))
    assert result.status == "invalid" and "no file for the module 'os'" in result.message


async def test_a_program_reads_its_input_and_prints_its_output(sandbox: Sandbox) -> None:
    program = b"import json, sys\nx = json.load(sys.stdin)\nprint(x['a'] + 1)\nsys.exit(x['a'])\n"
    caps = Caps(seconds=120, processes=8)
    entry = (sys.executable, "-I", "-S", "{files}/sub/p.py")
    result = await sandbox.run(Job({"sub/p.py": program}, entry, [{"a": 0}, {"a": 4}], caps))
    assert result.outputs == ({"exit": 0, "stdout": "1\n"}, {"exit": 4, "stdout": "5\n"}), result
    result = await sandbox.run(Job({}, ["/bin/sh", "-c", "kill -9 $$"], ["text"], caps))
    assert (result.status, result.message) == ("crash", "it died with signal 9")
    result = await sandbox.run(Job({}, ["/bin/cat"], ["text as it is", "x" * 9_000_000], caps))
    assert (result.status, result.failed_input) == ("invalid", 1)


async def test_what_cannot_be_sent_is_refused_before_it_starts(sandbox: Sandbox) -> None:
    for bad in ("../up.py", "/etc/x", "a//b", "./a"):
        with pytest.raises(ConfigError, match="job's folder"):
            await sandbox.run(Job({bad: b""}, "a:b", [1]))
    with pytest.raises(ConfigError, match="input cannot be sent"):
        await sandbox.run(job("", object()))
    with pytest.raises(ConfigError, match="'scipy' is not on the sandbox's list"):
        await sandbox.run(job("", imports=("scipy",)))
    with pytest.raises(ConfigError, match="no layer 'wall'"):
        Sandbox(layers=["wall"])
    assert (await sandbox.run(job("def solve(x): return x\n", 5))).outputs == (5,)


async def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(PrerequisiteError, match="No module named 'no_such_library'"):
        await Sandbox(imports=("no_such_library",), unsafe=True).__aenter__()


async def test_weak_layers_must_be_asked_for() -> None:
    with pytest.raises(PrerequisiteError, match="using the network") as refused:
        await Sandbox(layers=["rlimits"]).__aenter__()
    assert "--unsafe" in refused.value.hint
    assert layers.require(["process", "rlimits", "landlock", "seccomp"]) is None
    assert layers.require(["process", "bubblewrap"]) is None
    weak = layers.require(["process", "rlimits", "uid"])
    assert weak is not None and "from using the network" in weak.message and "your files" not in weak.message
    async with Sandbox(layers=["rlimits"], workers=1, unsafe=True) as sandbox:
        assert (await sandbox.run(job("def solve(x): return x\n"))).layers == ("process", "rlimits")


@linux_only
async def test_a_dead_zygote_costs_one_more_try(sandbox: Sandbox) -> None:
    slow = asyncio.ensure_future(sandbox.run(job("import time\ndef solve(x):\n    time.sleep(x)\n    return x\n", 1)))
    await asyncio.sleep(0.3)
    for worker in sandbox._workers:
        assert worker._process is not None
        (zygote,) = map(
            int, Path(f"/proc/{worker._process.pid}/task/{worker._process.pid}/children").read_text().split()
        )
        os.kill(zygote, signal.SIGKILL)
    result = await slow
    assert (result.status, result.outputs) == ("ok", (1,))


@linux_only
async def test_a_zygote_that_dies_twice_loses_its_job_only(sandbox: Sandbox) -> None:
    first = asyncio.ensure_future(sandbox.run(job("import time\ndef solve(x): time.sleep(600)\n")))
    for _ in range(2):
        await asyncio.sleep(0.5)
        for worker in list(sandbox._workers):
            assert worker._process is not None
            worker._process.kill()
            await worker._process.wait()
        await asyncio.sleep(0.5)
    assert (await first).status == "lost"
    assert (await sandbox.run(job("def solve(x): return x\n"))).status == "ok"


async def test_a_zygote_is_replaced_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LIFETIME", 2)
    async with Sandbox(workers=1, unsafe=True) as sandbox:
        seen = set()
        for _ in range(5):
            seen |= {id(worker) for worker in sandbox._workers}
            assert (await sandbox.run(job("def solve(x): return x\n"))).status == "ok"
        assert len(seen) >= 2


@linux_only
async def test_cancelling_leaves_nothing(sandbox: Sandbox) -> None:
    folder = str(sandbox.folder)
    task = asyncio.ensure_future(sandbox.run(job("import time\ndef solve(x): time.sleep(600)\n")))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert eventually(lambda: len(processes(folder)) <= (5 if "bubblewrap" in sandbox.layers else 3))
    assert (await sandbox.run(job("def solve(x): return x\n"))).status == "ok"
    await sandbox.close()
    assert not os.path.exists(folder) and eventually(lambda: not processes(folder))


@linux_only
def test_a_user_number_that_somebody_has_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    named, running, *_ = layers.UIDS
    assert min(layers.UIDS) > 60577 and max(layers.UIDS) < 61184, "systemd's homes and services have those around"
    monkeypatch.setattr(layers.pwd, "getpwuid", {named: "somebody"}.__getitem__)
    monkeypatch.setattr(layers, "_running", lambda: {running})
    first, second = layers.User(), layers.User()
    try:
        taken = {named, running, first.number}  # others may be in use by tests beside this one
        assert first.number not in (named, running) and second.number not in taken
    finally:
        first.release()
        second.release()


@linux_only
@needs_root
def test_a_process_shows_whose_number_it_has() -> None:
    number = layers.UIDS[-1]
    with subprocess.Popen(["sleep", "600"], user=number) as one:
        assert number in layers._running()
        one.kill()
    assert number not in layers._running()


def test_a_home_and_a_project_are_not_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    for place in (home, project):
        (place / "bin").mkdir(parents=True)
        (place / "lib").mkdir()
        (place / "secret").touch()
    (home / "bin/python3").touch()
    (project / "bin/python3").symlink_to(home / "bin/python3")
    monkeypatch.setattr(sys, "executable", str(project / "bin/python3"))
    monkeypatch.setattr(sys, "prefix", str(project))
    monkeypatch.setattr(sys, "base_prefix", str(home))
    paths = layers.python_paths()
    assert {str(place / name) for place in (home, project) for name in ("bin", "lib")} < set(paths)
    assert not {str(home), str(project), str(tmp_path)} & set(paths)


async def test_large_answers_are_read_in_the_time_of_their_job_and_beside_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, began, go = codec.decode, threading.Event(), threading.Event()

    def slow(data: bytes, *more: Any) -> Any:
        if len(data) > 10**6:
            began.set()
            assert go.wait(60)
        return read(data, *more)

    monkeypatch.setattr(codec, "decode", slow)
    source = "def solve(x):\n    return 'x' * x\n"
    async with Sandbox(workers=2, unsafe=True) as sandbox:
        large = asyncio.ensure_future(sandbox.run(job(source, 2 * 10**6, caps=Caps(seconds=60, job_seconds=5))))
        try:
            while not began.is_set() and not large.done():
                await asyncio.sleep(0.01)
            result = await sandbox.run(job(source, 3))
            assert result.outputs == ("xxx",) and not large.done(), "another one is served meanwhile"
            late = await large
        finally:
            go.set()
    assert (late.status, late.message) == ("timeout", "the job took longer than allowed")


async def test_a_candidate_that_the_machine_killed_may_be_innocent(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os\ndef solve(x):\n    os.kill(os.getpid(), 9)\n"
    assert (await sandbox.run(job(source))).status == "crash"
    count = itertools.count(2**40)  # at each look one more
    monkeypatch.setattr(working, "memory_kills", lambda: next(count))
    result = await sandbox.run(job(source))
    assert (result.status, result.message) == (
        "lost",
        "the machine ran out of memory, and the kernel killed the candidate",
    )
    for own in ("import os\ndef solve(x):\n    os.abort()\n", "def solve(x):\n    raise ValueError\n"):
        assert (await sandbox.run(job(own))).status == "crash", "of its own accord"


async def test_what_several_processes_take_is_not_told(sandbox: Sandbox) -> None:
    """It would be that of one of them, and another did the work."""
    words = [sys.executable, "-I", "-S", "-c", "print(1)"]
    for asked in (Job({}, words, [""], PATIENT), job("def solve(x): return x\n", caps=Caps(120, processes=2))):
        result = await sandbox.run(asked)
        assert result.status == "ok", result
        for usage in (result.usage, *result.usages):
            assert usage.seconds > 0 and usage.cpu_seconds is None and usage.peak_mb is None


async def test_the_random_numbers_of_a_candidates_own_forks_are_others(sandbox: Sandbox) -> None:
    source = """
import os, random
def solve(x):
    said, tell = os.pipe()
    if os.fork() == 0:
        os.write(tell, str(random.random()).encode())
        os._exit(0)
    os.wait()
    return [random.random(), float(os.read(said, 100))]
"""
    two = [await sandbox.run(job(source, caps=Caps(120, processes=3))) for _ in range(2)]
    (own, forked), (again, other) = (result.outputs[0] for result in two)
    assert own == again, "each job begins with the same seed"
    assert len({own, forked, other}) == 3


async def test_a_program_is_imported_as_python_would(sandbox: Sandbox) -> None:
    """Although its file is not searched for."""
    source = """# coding: utf-8
import candidate, inspect, other
def solve(x):
    known = candidate.solve is solve and __spec__.origin == __file__ and other.there()
    return [__name__, known, "inspect" in inspect.getsource(candidate)]
"""
    other = b"import candidate\ndef there(): return candidate.__name__\n"
    files = {"candidate.py": b"\xef\xbb\xbf" + source.encode(), "other.py": other}
    result = await sandbox.run(Job(files, "candidate:solve", [1], PATIENT))
    assert result.outputs == (["candidate", "candidate", True],), result
    package = {"candidate/__init__.py": b"def solve(x): return 1\n", "candidate.py": b"def solve(x): return 2\n"}
    assert (await sandbox.run(Job(package, "candidate:solve", [1], PATIENT))).outputs == (1,), "a package comes first"
