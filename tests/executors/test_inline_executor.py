"""Evaluations in this process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.evaluation import Limits, Output, Request, Score
from agent.evaluators.function import FunctionEvaluator
from agent.executors.inline import InlineExecutor
from agent.space import Candidate

ROOT = Path(__file__).parents[2]
NO_LIMITS = Limits()


def of(function: Any, **options: Any) -> InlineExecutor:
    return InlineExecutor(FunctionEvaluator(function, names=["value"]), **options)


def request(limits: Limits = NO_LIMITS, **values: Any) -> Request:
    return Request(Candidate(values), limits=limits)


async def test_an_async_function_runs_on_the_loop_and_a_sync_one_beside_it() -> None:
    threads: list[threading.Thread] = []

    async def waits(candidate: Any) -> float:
        await asyncio.sleep(0)
        threads.append(threading.current_thread())
        return 1.0

    def computes(candidate: Any) -> float:
        threads.append(threading.current_thread())
        return 2.0

    assert (await of(waits).submit(request())).value["values"] == {"value": 1.0}
    assert (await of(computes).submit(request())).value["values"] == {"value": 2.0}
    assert threads[0] is threading.main_thread()
    assert threads[1].daemon


async def test_a_function_that_only_turns_out_to_be_async_works_too() -> None:
    async def hidden(candidate: Any) -> float:
        await asyncio.sleep(0)
        return 3.0

    output = await of(lambda candidate: hidden(candidate)).submit(request())
    assert output.value["values"] == {"value": 3.0}


async def test_the_function_sees_the_callers_context() -> None:
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("here")
    output = await of(lambda candidate: (1.0, where.get())).submit(request())
    assert output.value["feedback"] == "here"


async def test_an_abandoned_thread_is_warned_about_once_and_reports_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    seen: list[Any] = []

    def late(candidate: Any, partial: Any) -> float:
        go_on.wait(60)
        partial(1.0)
        return 1.0

    executor = of(late)
    with caplog.at_level(logging.WARNING, "agent.executors"):
        outputs = [await executor.submit(request(Limits(seconds=0.1)), seen.append) for _ in range(2)]
    go_on.set()
    await asyncio.sleep(0.2)
    assert [output.failure and output.failure.kind for output in outputs] == ["timeout", "timeout"]
    assert len(caplog.records) == 1
    assert seen == []


async def test_a_memory_limit_that_cannot_be_kept_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agent.executors"):
        assert (await of(lambda candidate: 1.0).submit(request(Limits(memory_mb=100)))).failure is None
    assert "memory is not limited" in caplog.text


async def test_an_async_timeout_lets_the_function_clean_up() -> None:
    cleaned: list[str] = []

    async def slow(candidate: Any) -> float:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("up")
        return 1.0

    output = await of(slow).submit(request(Limits(seconds=0.1)))
    assert output.failure is not None and output.failure.kind == "timeout"
    assert cleaned == ["up"]


async def test_slots_limit_how_many_run_at_once() -> None:
    running, most = 0, 0

    async def count(candidate: Any) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return 1.0

    executor = of(count, slots=2)
    await asyncio.gather(*(executor.submit(request()) for _ in range(6)))
    assert most == 2


async def test_every_exception_is_an_output() -> None:
    class Odd(BaseException):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def odd(candidate: Any) -> float:
        raise Odd

    async def cancels_itself(candidate: Any) -> float:
        raise asyncio.CancelledError

    for function, text in ((odd, "Odd"), (cancels_itself, "cancelled itself")):
        output = await of(function).submit(request())
        assert output.failure is not None and output.failure.kind == "error"
        assert text in output.failure.message


async def test_an_evaluator_of_somebody_else_that_raises_or_returns_nonsense() -> None:
    class Broken:
        exclusive = blocking = keeps_limits = False
        spec = None
        fingerprint = "broken"

        def __init__(self, how: Any) -> None:
            self.how = how

        async def produce(self, request: Request, partial: Any) -> Output:
            return self.how()  # type: ignore[no-any-return]

        def score(self, output: Output) -> Score:
            raise ValueError

    for how, text in (
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: 42, "must return an Output"),
        (lambda: Output(value={1, 2}), "the output is not JSON"),
        (lambda: Output(value=float("nan")), "the output is not JSON"),
    ):
        output = await InlineExecutor(Broken(how)).submit(request())
        assert output.failure is not None and text in output.failure.message


def test_a_hanging_thread_does_not_keep_the_interpreter_from_exiting() -> None:
    script = """
        import asyncio, time
        from agent.evaluation import Limits, Request
        from agent.evaluators.function import FunctionEvaluator
        from agent.executors.inline import InlineExecutor
        from agent.space import Candidate

        async def main():
            executor = InlineExecutor(FunctionEvaluator(lambda c: time.sleep(3600), names=["value"]))
            output = await executor.submit(Request(Candidate({}), limits=Limits(seconds=0.1)))
            await executor.close()
            print(output.failure.kind)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "timeout\n", done.stderr
