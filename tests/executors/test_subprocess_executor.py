"""Warm workers: what they share, print, find and cost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from executor_helpers import gone, request

from agent.evaluation import Limits, Output
from agent.evaluators.function import FunctionEvaluator
from agent.executors.subprocess import SubprocessExecutor

Make = Callable[..., FunctionEvaluator]
Measured = Callable[..., Output]

PID = """
    import os

    def evaluate(candidate):
        return os.getpid()
"""


async def pids(executor: SubprocessExecutor, count: int) -> list[int]:
    outputs = [await executor.submit(request()) for _ in range(count)]
    return [int(output.value["values"]["value"]) for output in outputs]


async def test_a_worker_stays_warm_and_is_new_each_time_when_isolated(evaluator: Make) -> None:
    spec = evaluator(PID).spec or {}
    warm, isolated = SubprocessExecutor(spec, slots=1), SubprocessExecutor(spec, slots=1, isolate=True)
    try:
        assert len(set(await pids(warm, 3))) == 1
        assert len(set(await pids(isolated, 3))) == 3
        assert not isolated._workers
    finally:
        await warm.close()
        await isolated.close()


async def test_slots_run_in_parallel_and_two_executors_side_by_side(evaluator: Make, folder: Path) -> None:
    # Each evaluation waits until all eight have begun, so it ends only if they do run at the same time.
    source = """
        import os, pathlib, time

        def evaluate(candidate):
            here = pathlib.Path(__file__).parent
            (here / f"{os.getpid()}.pid").write_text(str(os.getpid()))
            while len(list(here.glob("*.pid"))) < 8:
                time.sleep(0.01)
            return os.getpid()
    """
    spec = evaluator(source).spec or {}
    executors = [SubprocessExecutor(spec, slots=4) for _ in range(2)]
    try:
        waiting = [executor.submit(request()) for executor in executors for _ in range(4)]
        outputs = await asyncio.wait_for(asyncio.gather(*waiting), 60)
        found = {int(output.value["values"]["value"]) for output in outputs}
        assert len(found) == 8
    finally:
        started = time.monotonic()
        await asyncio.gather(*(executor.close() for executor in executors))
    assert time.monotonic() - started < 30
    assert gone(*found)


async def test_a_worker_that_dies_while_idle_is_replaced_without_a_failure(evaluator: Make) -> None:
    source = """
        import os, threading

        def evaluate(candidate):
            threading.Timer(0.05, os._exit, [7]).start()
            return os.getpid()
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        (first,) = await pids(executor, 1)
        assert gone(first)
        await asyncio.sleep(0.2)
        (second,) = await pids(executor, 1)
        assert first != second
    finally:
        await executor.close()


def test_what_it_prints_is_the_log(measured: Measured) -> None:
    output = measured("""
        import os, sys

        print("loading")

        def evaluate(candidate):
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.system("echo from a child")
            return 1
    """)
    assert output.value["values"] == {"value": 1.0}
    assert output.log == "loading\nto stdout\nto stderr\nfrom a child\n"


async def test_each_request_has_its_own_log(evaluator: Make) -> None:
    source = """
        def evaluate(candidate):
            print("x is", candidate["x"])
            return 1
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        assert [(await executor.submit(request(x=x))).log for x in range(3)] == ["x is 0\n", "x is 1\n", "x is 2\n"]
    finally:
        await executor.close()


async def test_partial_results_arrive_while_it_runs(evaluator: Make, folder: Path) -> None:
    source = """
        import pathlib, time

        def evaluate(candidate, partial):
            partial({"value": 0.5, "feedback": "half way"})
            while not (pathlib.Path(__file__).parent / "go").exists():
                time.sleep(0.01)
            return 1
    """
    executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
    try:
        # It ends only because the partial result came before.
        output = await asyncio.wait_for(executor.submit(request(), lambda _: (folder / "go").touch()), 60)
        assert output.partials == ({"values": {"value": 0.5}, "feedback": "half way"},)
        assert output.value["values"] == {"value": 1.0}
    finally:
        await executor.close()


def test_partial_results_survive_a_timeout(measured: Measured) -> None:
    output = measured(
        """
        import time

        def evaluate(candidate, partial):
            partial(0.5)
            print("waiting")
            time.sleep(600)
        """,
        Limits(seconds=2),
    )
    assert output.failure is not None and output.failure.kind == "timeout"
    assert [item["values"]["value"] for item in output.partials] == [0.5]
    assert output.log == "waiting\n"


def test_a_late_partial_result_of_one_request_does_not_reach_the_next(evaluator: Make) -> None:
    source = """
        import threading, time

        def evaluate(candidate, partial):
            if candidate["x"] == 0:
                def later():
                    time.sleep(0.2)
                    partial(99)
                threading.Thread(target=later).start()
                return 0
            time.sleep(0.6)
            partial(1)
            return 1
    """

    async def whole() -> Output:
        executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
        try:
            await executor.submit(request(x=0))
            return await executor.submit(request(x=1))
        finally:
            await executor.close()

    assert [item["values"]["value"] for item in asyncio.run(whole()).partials] == [1.0]


def test_an_async_function_keeps_one_loop(evaluator: Make) -> None:
    source = """
        import asyncio

        loops = []

        async def evaluate(candidate):
            loops.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return len({id(loop) for loop in loops if not loop.is_closed()})
    """

    async def whole() -> list[int]:
        executor = SubprocessExecutor(evaluator(source).spec or {}, slots=1)
        try:
            return await pids(executor, 3)
        finally:
            await executor.close()

    assert asyncio.run(whole()) == [1, 1, 1]


def test_keys_of_providers_reach_it_only_when_given(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import os

        def evaluate(candidate):
            return 1, ",".join(sorted(name for name in os.environ if "KEY" in name or "TOKEN" in name))
    """
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "DATABASE_KEY"):
        monkeypatch.setenv(name, "secret")
    found = measured(source).value["feedback"].split(",")
    assert "DATABASE_KEY" in found and not any("OPENAI" in name or "ANTHROPIC" in name for name in found)
    assert "OPENAI_API_KEY" in measured(source, env={"OPENAI_API_KEY": "mine"}).value["feedback"]


def test_a_users_module_shadows_neither_the_library_nor_us(measured: Measured, folder: Path) -> None:
    for name in ("json", "agent", "random", "dataclasses", "asyncio"):
        (folder / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    (folder / "helper.py").write_text("HERE = 'the helper'")
    output = measured("""
        import json
        import random
        import agent.space
        import helper

        def evaluate(candidate):
            return len(json.dumps([random.random()])), helper.HERE + " " + type(candidate).__module__
    """)
    assert output.failure is None
    assert output.value["feedback"] == "the helper agent.space"


def test_it_works_whatever_the_working_directory_holds(
    measured: Measured, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("agent", "json", "subprocess", "signal"):
        (folder / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ":.")
    assert measured("def evaluate(candidate): return 1").failure is None


LOADING = {
    "there is no module 'evaluate_this' in": ("evaluate_this:evaluate", ""),
    "has no 'evaluat'; it has evaluate": ("evaluate:evaluat", "def evaluate(candidate): return 1"),
    "evaluate:evaluate is int, not a function": ("evaluate:evaluate", "evaluate = 1"),
    "No module named 'no_such_package'; install no_such_package": ("evaluate:evaluate", "import no_such_package"),
    "importing evaluate failed: ZeroDivisionError": ("evaluate:evaluate", "1 / 0"),
    "importing evaluate failed: SyntaxError": ("evaluate:evaluate", "def evaluate(candidate: return"),
    "importing evaluate failed: the evaluator called exit(2)": ("evaluate:evaluate", "raise SystemExit(2)"),
    "takes no candidate": ("evaluate:evaluate", "def evaluate(): return 1"),
}


@pytest.mark.parametrize("message", LOADING)
def test_what_cannot_be_loaded_says_why_and_what_to_do(measured: Measured, message: str) -> None:
    target, source = LOADING[message]
    failure = measured(source, target=target).failure
    assert failure is not None and failure.kind == "error"
    assert message in failure.message


def test_an_error_while_loading_shows_the_users_line_and_what_was_printed(measured: Measured) -> None:
    output = measured("print('before')\n1 / 0")
    assert output.failure is not None
    assert "1 / 0" in output.failure.detail and "importlib" not in output.failure.detail
    assert output.log == "before\n"


def test_loading_that_hangs_or_crashes(measured: Measured) -> None:
    hangs = measured("import time\ntime.sleep(600)", start_seconds=1.0)
    assert hangs.failure is not None and hangs.failure.kind == "timeout" and "importing" in hangs.failure.message
    crashes = measured("import os\nos._exit(5)")
    assert crashes.failure is not None and crashes.failure.kind == "lost"
    assert "exited with code 5 while it imported" in crashes.failure.message


async def test_a_request_costs_little(evaluator: Make) -> None:
    executor = SubprocessExecutor(evaluator("def evaluate(candidate): return candidate['x']").spec or {}, slots=1)
    try:
        await executor.submit(request(x=0))
        took = []
        for x in range(200):
            started = time.perf_counter()
            await executor.submit(request(x=x))
            took.append(time.perf_counter() - started)
        assert statistics.median(took) < 0.005  # well under 1 ms on a quiet machine
    finally:
        await executor.close()
