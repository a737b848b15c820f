"""Evaluations that crash, raise, grow and flood: all of it ends as an output."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from executor_helpers import LINUX, request

from agent.evaluation import Limits, Output
from agent.evaluators.function import FunctionEvaluator
from agent.executors.subprocess import SubprocessExecutor

Make = Callable[..., FunctionEvaluator]
Measured = Callable[..., Output]
ROOT = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(not LINUX, reason="only Linux can do this")

CRASHES = {
    "os._exit(0)": "the worker process exited with code 0 in the middle",
    "os._exit(9)": "the worker process exited with code 9 in the middle",
    "ctypes.string_at(0)": "the worker process died with signal 11 (SIGSEGV)",
    "os.abort()": "the worker process died with signal 6 (SIGABRT)",
    "os.kill(os.getpid(), 9)": "the worker process died with signal 9 (SIGKILL)",
    "os.kill(0, 15)": "",
    "os.killpg(0, 9)": "the worker process died with signal 9 (SIGKILL)",
    "os.closerange(3, 100)": "the worker process",
}


@pytest.mark.parametrize("crash", CRASHES)
async def test_a_crash_is_an_output_and_the_worker_is_replaced(evaluator: Make, crash: str) -> None:
    source = f"""
        import ctypes, os

        def evaluate(candidate):
            if candidate["x"]:
                print("last words")
                {crash}
            return 1
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        output = await asyncio.wait_for(executor.submit(request(x=1)), 60)
        assert output.failure is not None and output.failure.kind == "lost"
        assert CRASHES[crash] in output.failure.message
        assert output.log == "last words\n"
        assert (await executor.submit(request(x=0))).failure is None
    finally:
        await executor.close()


RAISES = {
    "raise ValueError('no luck')": ("error", "ValueError: no luck"),
    "raise MemoryError": ("memory", "MemoryError"),
    "raise KeyboardInterrupt": ("error", "KeyboardInterrupt"),
    "raise GeneratorExit": ("error", "GeneratorExit"),
    "raise BaseException('odd')": ("error", "BaseException: odd"),
    "sys.exit('stop')": ("exit", "exit('stop')"),
    "return evaluate(candidate)": ("error", "RecursionError"),
    "return float('nan')": ("invalid", "value must be finite, not nan"),
    "return float('-inf')": ("invalid", "value must be finite, not -inf"),
    "return 10 ** 400": ("invalid", "value must be a number"),
    "return '1.0'": ("invalid", "value must be a number, not '1.0'"),
    "return None": ("invalid", "value must be a number, not None"),
    "return {1, 2}": ("invalid", "value must be a number, not {1, 2}"),
    "return {'other': 1}": ("invalid", "value is missing; found other"),
    "return numpy.zeros(3)": ("invalid", "value must be a number"),
    "return numpy.zeros(1)": ("invalid", "value must be a number"),
    "return 1, 'x' * 20_000_000": ("invalid", "cannot be sent"),
    "return Awkward()": ("invalid", "cannot be read"),
}


async def test_what_it_raises_or_returns_is_an_output_and_the_worker_lives_on(evaluator: Make) -> None:
    lines = "\n".join(f"            if candidate['x'] == {n}: {code}" for n, code in enumerate(RAISES))
    source = f"""
        import sys
        import numpy

        class Awkward:
            def __float__(self): raise OSError("gone")

        def evaluate(candidate):
{lines}
            return numpy.float32(0.5), numpy.str_("fine")
    """
    executor = SubprocessExecutor(evaluator(textwrap.dedent(source)).spec or {}, slots=1)
    try:
        for number, (kind, text) in enumerate(RAISES.values()):
            output = await executor.submit(request(x=number))
            assert output.failure is not None, (text, output)
            assert (output.failure.kind, text in output.failure.message) == (kind, True), output.failure
        output = await executor.submit(request(x=-1))
        assert output.value == {"values": {"value": 0.5}, "feedback": "fine"}
    finally:
        await executor.close()


def test_a_traceback_shows_the_users_frames_only(measured: Measured) -> None:
    output = measured("""
        def evaluate(candidate):
            return helper(candidate["x"])

        def helper(x):
            raise RuntimeError(f"not {x}")
    """)
    assert output.failure is not None
    detail = output.failure.detail
    assert "in helper" in detail and detail.endswith("RuntimeError: not 2.0")
    assert "produce" not in detail


def test_a_fork_that_returns_does_not_answer_twice(measured: Measured) -> None:
    output = measured("""
        import os

        def evaluate(candidate):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            return 1 if child else 2
    """)
    assert output.value["values"] == {"value": 1.0}


GROWS = {
    "bytes": "return len(bytearray(2_000_000_000))",
    "many": "kept = []\n            while True: kept.append(bytearray(100_000))",
    "small": "kept = []\n            while True: kept.append([object()])",
    "numpy": "return numpy.ones((20_000, 20_000)).sum()",
}


@linux_only
@pytest.mark.parametrize("way", GROWS)
async def test_memory_is_limited_and_the_next_request_has_a_fresh_worker(evaluator: Make, way: str) -> None:
    source = f"""
        {"import numpy" if way == "numpy" else ""}

        def evaluate(candidate):
            if candidate["x"]: return 1
            {GROWS[way]}
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        limits = Limits(memory_mb=1500 if way == "numpy" else 250)
        output = await asyncio.wait_for(executor.submit(request(limits, x=0)), 60)
        assert output.failure is not None and output.failure.kind == "memory", output.failure
        assert (await executor.submit(request(limits, x=1))).failure is None
        assert (await executor.submit(request(x=1))).failure is None
    finally:
        await executor.close()


@linux_only
def test_a_kill_with_most_of_the_memory_in_use_counts_as_memory(measured: Measured) -> None:
    output = measured(
        """
        import os

        def evaluate(candidate):
            kept = b"x" * 400_000_000
            os.kill(os.getpid(), 9)
        """,
        Limits(memory_mb=550),
    )
    assert output.failure is not None and output.failure.kind == "memory"


def test_a_flood_of_output_is_capped(measured: Measured) -> None:
    output = measured(
        """
        import os

        def evaluate(candidate):
            print("first")
            line = b"x" * 99 + b"\\n"
            for _ in range(100):
                os.write(1, line * 10_000)
            print("last")
            return 1
        """,
        Limits(log_chars=1000),
    )
    assert output.value["values"] == {"value": 1.0}
    assert output.log.startswith("first\n") and output.log.endswith("last\n")
    assert len(output.log) < 1100 and "bytes left out" in output.log


def test_garbage_on_stdout_does_not_disturb(measured: Measured) -> None:
    output = measured("""
        import os, sys

        def evaluate(candidate):
            print('{"output": {"value": {"values": {"value": 99}}}, "number": 1}')
            os.write(1, bytes(range(256)) + b'\\x1b[2J{"ready": true}\\n')
            sys.stdout.close()
            os.close(2)
            return 1
    """)
    assert output.value["values"] == {"value": 1.0}


def test_writing_to_the_workers_own_channel_is_noticed(measured: Measured) -> None:
    output = measured("""
        import os, stat

        def evaluate(candidate):
            for fd in range(3, 256):
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode):
                        os.write(fd, b'no json\\n')
                except OSError:
                    pass
            return 1
    """)
    assert output.failure is not None and output.failure.kind == "lost"
    assert "own channel" in output.failure.message
