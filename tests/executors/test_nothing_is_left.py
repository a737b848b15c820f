"""Whatever an evaluation starts, it is gone when its worker is: on timeout, cancellation, closing and our own death."""

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

import pytest
from executor_helpers import LINUX, alive, gone, request, written

from agent.evaluation import Limits, Output
from agent.evaluators.function import FunctionEvaluator
from agent.executors.subprocess import SubprocessExecutor

Make = Callable[..., FunctionEvaluator]
Measured = Callable[..., Output]
ROOT = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(not LINUX, reason="only Linux can do this")

LEAVES_CHILDREN = """
    import os, pathlib, subprocess, sys, time

    HERE = pathlib.Path(__file__).parent

    def evaluate(candidate):
        note = (
            "import os, pathlib, sys, time; pid = os.getpid(); "
            "pathlib.Path(sys.argv[1], f'{pid}.pid').write_text(str(pid)); "
        )
        stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        for code, new_session in ((note, False), (note, True), (stubborn + note, True)):
            subprocess.Popen(
                [sys.executable, "-c", code + "time.sleep(600)", str(HERE)],
                start_new_session=new_session and sys.platform == "linux",  # elsewhere they would escape
            )
        while len(list(HERE.glob("*.pid"))) < 3:
            time.sleep(0.01)
        (HERE / "worker.pid").write_text(str(os.getpid()))
        if candidate["x"] == "hang":
            time.sleep(600)
        if candidate["x"] == "crash":
            os._exit(1)
        return 1
"""


def test_an_infinite_loop_is_killed_even_when_it_ignores_sigterm(measured: Measured, folder: Path) -> None:
    output = measured(
        """
        import os, pathlib, signal

        def evaluate(candidate):
            pathlib.Path(__file__).with_name("a.pid").write_text(str(os.getpid()))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            while True:
                pass
        """,
        Limits(seconds=1),
    )
    assert output.failure is not None and output.failure.kind == "timeout"
    assert "longer than 1 s" in output.failure.message
    assert output.seconds >= 1
    assert not alive(int((folder / "a.pid").read_text()))


@pytest.mark.parametrize("way", ["hang", "crash", "return", "cancel"])
async def test_children_left_behind_are_killed(evaluator: Make, folder: Path, way: str) -> None:
    executor = SubprocessExecutor(evaluator(LEAVES_CHILDREN).spec or {}, slots=1)
    try:
        task = asyncio.ensure_future(executor.submit(request(x="hang" if way == "cancel" else way)))
        found = await written(folder, 4)
        assert len(found) == 4
        if way == "cancel":
            task.cancel()
        elif way == "hang":
            started = time.monotonic()
            await executor.close()
            assert time.monotonic() - started < 30
        await asyncio.wait({task})
        if way == "return":
            assert any(alive(pid) for pid in found)  # a warm worker may go on using them
            await executor.close()
        assert not any(alive(pid) for pid in found)
    finally:
        await executor.close()


def test_a_fork_bomb_goes_out(measured: Measured, folder: Path) -> None:
    output = measured(
        """
        import os, pathlib, sys, time

        HERE = pathlib.Path(__file__).parent

        def evaluate(candidate):
            for depth in range(5):
                if os.fork() == 0 and depth == 3 and sys.platform == "linux":
                    os.setsid()
            (HERE / f"{os.getpid()}.pid").write_text(str(os.getpid()))
            time.sleep(600)
        """,
        Limits(seconds=2),
    )
    assert output.failure is not None and output.failure.kind == "timeout"
    found = [int(file.read_text() or 0) for file in folder.glob("*.pid")]
    assert len(found) > 8
    assert gone(*found, within=5)


async def test_cancelling_in_the_middle_kills_the_worker(evaluator: Make, folder: Path) -> None:
    source = """
        import os, pathlib, time

        def evaluate(candidate):
            if candidate["x"]:
                pathlib.Path(__file__).with_name("a.pid").write_text(str(os.getpid()))
                time.sleep(600)
            return 1
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        task = asyncio.ensure_future(executor.submit(request(x=1)))
        (pid,) = await written(folder)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(pid)
        assert (await executor.submit(request(x=0))).failure is None
    finally:
        await executor.close()


async def test_cancelling_while_the_worker_starts_leaves_nothing(evaluator: Make) -> None:
    executor = SubprocessExecutor(evaluator("def evaluate(candidate): return 1").spec or {}, slots=1)
    try:
        for delay in (0.0, 0.005, 0.02, 0.05, 0.1):
            task = asyncio.ensure_future(executor.submit(request()))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait({task})
        assert len(executor._workers) <= 1
        assert (await executor.submit(request())).failure is None
    finally:
        await executor.close()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_dies(evaluator: Make, folder: Path, stop: signal.Signals) -> None:
    spec = evaluator(LEAVES_CHILDREN).spec
    script = f"""
        import asyncio
        from agent.evaluation import Request
        from agent.executors.subprocess import SubprocessExecutor
        from agent.space import Candidate

        asyncio.run(SubprocessExecutor({dict(spec or {})!r}, slots=1).submit(Request(Candidate({{"x": "hang"}}))))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT)
    try:
        found = asyncio.run(written(folder, 4))
        os.kill(parent.pid, stop)
    finally:
        parent.kill()
        parent.wait()
    assert gone(*found)


@linux_only
async def test_a_stopped_guard_is_no_obstacle(evaluator: Make, folder: Path) -> None:
    source = """
        import os, pathlib, signal, time

        def evaluate(candidate):
            os.kill(os.getppid(), signal.SIGSTOP)
            pathlib.Path(__file__).with_name("a.pid").write_text(str(os.getpid()))
            time.sleep(600)
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    task = asyncio.ensure_future(executor.submit(request()))
    (pid,) = await written(folder)
    await asyncio.wait_for(executor.close(), 30)
    output = await task
    assert output.failure is not None and output.failure.kind == "cancelled"
    assert gone(pid)


async def test_nothing_is_left_open(evaluator: Make) -> None:
    executor = SubprocessExecutor(
        evaluator("def evaluate(candidate): return 1 / candidate['x']").spec or {}, slots=2, isolate=True
    )
    before = len(os.listdir("/dev/fd"))
    await asyncio.gather(*(executor.submit(request(x=x)) for x in (0, 1, 2, 3)))
    await executor.close()
    await asyncio.sleep(0.1)
    assert len(os.listdir("/dev/fd")) == before
