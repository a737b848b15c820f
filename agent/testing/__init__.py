"""Conformance tests for the authors of plug-ins: subclass a contract and say how to make your own.

    from agent.testing import ExecutorContract

    class TestMine(ExecutorContract):
        def make(self, evaluator, slots):
            return MyExecutor(evaluator.spec, slots=slots)

They need pytest to collect them, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

from agent.evaluation import Evaluator, Executor, FailureKind, Limits, Output, Request
from agent.evaluators.build import build
from agent.evaluators.function import FunctionEvaluator
from agent.space import Candidate

NO_LIMITS = Limits()
PATIENCE = 60.0
"""Seconds after which a test gives up; long, because test machines are busy."""

# ---------------------------------------------------------------- executors


def square(candidate: Mapping[str, Any]) -> tuple[float, str]:
    """A measurement that works."""
    return candidate["x"] ** 2, f"x was {candidate['x']}"


def echo(candidate: Mapping[str, Any], row: Any, *, seed: int, replicate: int, fidelity: float) -> dict[str, float]:
    """What arrived."""
    return {"x": candidate["x"], "row": row["n"], "seed": seed, "replicate": replicate, "fidelity": fidelity}


def misbehave(candidate: Mapping[str, Any], partial: Callable[[Any], None]) -> Any:
    """Whatever the candidate asks for."""
    match candidate["how"]:
        case "raise":
            raise ValueError("no such luck")
        case "exit":
            sys.exit(3)
        case "text":
            return "forty-two"
        case "nan":
            return math.nan
        case "set":
            return {1.0}
        case "hang":
            while True:
                time.sleep(0.05)
        case "partials":
            for step in range(3):
                partial(step)
            return 3
    return os.getpid()


class ExecutorContract:
    """What every executor must do."""

    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        """The executor under test, for this evaluator (it has a spec), with this many slots."""
        raise NotImplementedError

    def run(
        self, function: Callable[..., Any], scenario: Callable[[Executor], Awaitable[None]], slots: int = 1
    ) -> None:
        """Run a scenario against a new executor, and close it."""
        names = ("x",) if function is echo else ("value",)
        evaluator = FunctionEvaluator(f"agent.testing:{function.__name__}", names=names)

        async def whole() -> None:
            executor = self.make(evaluator, slots)
            try:
                await asyncio.wait_for(scenario(executor), PATIENCE)
            finally:
                await executor.close()

        asyncio.run(whole())

    def fails(self, how: str, limits: Limits = NO_LIMITS) -> Output:
        """The output of a candidate that misbehaves, after which the executor must still work."""
        outputs = []

        async def scenario(executor: Executor) -> None:
            outputs.append(await executor.submit(Request(Candidate({"how": how}), limits=limits)))
            assert (await executor.submit(Request(Candidate({"how": "well"})))).failure is None

        self.run(misbehave, scenario)
        (output,) = outputs
        assert output.failure is not None and output.value is None
        assert Output.from_json(json.loads(json.dumps(output.to_json()))) == Output.from_json(output.to_json())
        return output

    def test_a_measurement_arrives_with_feedback_and_time(self) -> None:
        async def scenario(executor: Executor) -> None:
            output = await executor.submit(Request(Candidate({"x": 3})))
            assert output.failure is None
            assert output.value == {"values": {"value": 9.0}, "feedback": "x was 3"}
            assert 0 < output.seconds < PATIENCE

        self.run(square, scenario)

    def test_the_whole_request_arrives(self) -> None:
        async def scenario(executor: Executor) -> None:
            request = Request(Candidate({"x": 1}), example="a", row={"n": 2}, seed=3, replicate=4, fidelity=0.5)
            output = await executor.submit(request)
            assert output.value["values"] == {"x": 1, "row": 2, "seed": 3, "replicate": 4, "fidelity": 0.5}

        self.run(echo, scenario)

    def test_many_at_once_do_not_get_mixed_up(self) -> None:
        async def scenario(executor: Executor) -> None:
            outputs = await asyncio.gather(*(executor.submit(Request(Candidate({"x": x}))) for x in range(50)))
            assert [output.value["values"]["value"] for output in outputs] == [x**2 for x in range(50)]

        self.run(square, scenario, slots=3)

    def test_a_raise_is_an_output(self) -> None:
        failure = self.fails("raise").failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("error", "ValueError: no such luck")

    def test_an_exit_is_an_output(self) -> None:
        failure = self.fails("exit").failure
        assert failure is not None and failure.kind == "exit" and "3" in failure.message

    def test_what_is_not_a_measurement_is_invalid(self) -> None:
        for how in ("text", "nan", "set"):
            failure = self.fails(how).failure
            assert failure is not None and failure.kind == "invalid", how

    def test_a_hang_times_out(self) -> None:
        output = self.fails("hang", Limits(seconds=0.3))
        assert output.failure is not None and output.failure.kind == "timeout"
        assert output.seconds >= 0.3

    def test_partial_results_stream_in_order(self) -> None:
        async def scenario(executor: Executor) -> None:
            seen: list[Any] = []
            output = await executor.submit(Request(Candidate({"how": "partials"})), seen.append)
            assert [item["values"]["value"] for item in seen] == [0, 1, 2]
            assert list(output.partials) == seen
            assert output.value["values"]["value"] == 3

        self.run(misbehave, scenario)

    def test_cancelling_frees_the_slot(self) -> None:
        async def scenario(executor: Executor) -> None:
            task = asyncio.ensure_future(executor.submit(Request(Candidate({"how": "hang"}))))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert (await executor.submit(Request(Candidate({"how": "well"})))).failure is None

        self.run(misbehave, scenario)

    def test_closing_cancels_what_runs(self) -> None:
        async def scenario(executor: Executor) -> None:
            requests = [Request(Candidate({"how": "hang"}), seed=seed) for seed in range(2)]
            tasks = [asyncio.ensure_future(executor.submit(request)) for request in requests]
            await asyncio.sleep(0.3)
            await executor.close()
            await executor.close()
            outputs = [*await asyncio.gather(*tasks), await executor.submit(requests[0])]
            assert [output.failure and output.failure.kind for output in outputs] == ["cancelled"] * 3

        self.run(misbehave, scenario)


# ---------------------------------------------------------------- evaluators


class EvaluatorContract:
    """What every evaluator must do."""

    def make(self) -> Evaluator:
        """A new evaluator; two of them are alike."""
        raise NotImplementedError

    def request(self) -> Request:
        """A request that it can measure."""
        raise NotImplementedError

    def bad_request(self) -> Request | None:
        """A request that fails; None when there is none."""
        return None

    def produce(self, request: Request) -> tuple[Output, list[Any]]:
        """The output of a new evaluator, and the partial results that came before."""
        partials: list[Any] = []
        return asyncio.run(asyncio.wait_for(self.make().produce(request, partials.append), PATIENCE)), partials

    def test_it_measures(self) -> None:
        output, partials = self.produce(self.request())
        assert output.failure is None, output.failure
        assert json.loads(json.dumps([output.value, partials], allow_nan=False)) == [output.value, partials]
        score = self.make().score(output)
        assert score.values
        assert all(isinstance(value, float) and math.isfinite(value) for value in score.values.values())
        assert isinstance(score.feedback, str)

    def test_judging_survives_storage(self) -> None:
        output, _ = self.produce(self.request())
        stored = Output.from_json(json.loads(json.dumps(output.to_json())))
        assert self.make().score(stored) == self.make().score(output)

    def test_what_is_no_output_of_it_is_not_judged(self) -> None:
        try:
            self.make().score(Output(value={"nothing": "of it"}))
        except ValueError:
            return
        raise AssertionError("score() must raise ValueError")

    def test_a_failure_is_an_output(self) -> None:
        request = self.bad_request()
        if request is not None:
            output, _ = self.produce(request)
            assert output.failure is not None and output.failure.message
            assert output.failure.kind in get_args(FailureKind)
            assert output.value is None

    def test_it_can_be_rebuilt(self) -> None:
        evaluator = self.make()
        assert isinstance(evaluator.exclusive, bool)
        if evaluator.spec is not None:
            again = build(json.loads(json.dumps(dict(evaluator.spec))))
            assert again.spec == evaluator.spec
            assert again.fingerprint == evaluator.fingerprint
            assert (again.exclusive, again.blocking) == (evaluator.exclusive, evaluator.blocking)

    def test_its_fingerprint_lasts(self) -> None:
        assert self.make().fingerprint == self.make().fingerprint != ""

    def test_a_blocking_one_never_waits(self) -> None:
        evaluator = self.make()
        if evaluator.blocking:
            coroutine = evaluator.produce(self.request(), lambda _: None)
            try:
                coroutine.send(None)
            except StopIteration:
                return
            raise AssertionError("produce() suspended although the evaluator says that it is blocking")
