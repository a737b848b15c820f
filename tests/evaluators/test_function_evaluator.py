"""Evaluators that are a callable: how it is called, what it may return, where it is found."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy
import pytest

from agent.errors import ConfigError
from agent.evaluation import Output, Request, Score
from agent.evaluators.function import FunctionEvaluator
from agent.space import Candidate
from agent.testing import EvaluatorContract

WITH_DATA = {"example": "a", "row": {"n": 7}, "seed": 3, "replicate": 4, "fidelity": 0.5}


def of(target: Any, **options: Any) -> FunctionEvaluator:
    return FunctionEvaluator(target, **{"names": ["value"], **options})


def produce(target: Any, *, partials: list[Any] | None = None, given: Mapping[str, Any] = {}, **options: Any) -> Output:
    evaluator = target if isinstance(target, FunctionEvaluator) else of(target, **options)
    seen = [] if partials is None else partials
    return asyncio.run(evaluator.produce(Request(Candidate({"x": 2.0}), **given), seen.append))


def arguments(target: Any, **given: Any) -> Any:
    """What the callable got, which it says in its feedback."""
    output = produce(target, given=given)
    assert output.failure is None, output.failure
    return output.value["feedback"]


class Callables:
    """Callable objects, methods and more, all of which say what they got."""

    def __call__(self, candidate: Any, seed: int) -> Any:
        return 1.0, f"{seed}"

    def method(self, candidate: Any, *, replicate: int) -> Any:
        return 1.0, f"{replicate}"

    @classmethod
    def of_class(cls, candidate: Any, fidelity: float) -> Any:
        return 1.0, f"{fidelity}"

    @staticmethod
    async def waits(candidate: Any, example: Any) -> Any:
        await asyncio.sleep(0)
        return 1.0, f"{example}"


def plain(candidate: Mapping[str, float]) -> float:
    if candidate["x"] < 0:
        raise ValueError("x is negative")
    return candidate["x"] * 2


def several(candidate: Any, row: Any, other: str = "own", *, fidelity: float = 1.0, **rest: Any) -> Any:
    return 1.0, f"{row} {other} {fidelity} {rest}"


class TestByImportPath(EvaluatorContract):
    def make(self) -> FunctionEvaluator:
        return of("agent.testing:square")

    def request(self) -> Request:
        return Request(Candidate({"x": 2.0}))

    def bad_request(self) -> Request:
        return Request(Candidate({}))


class TestFunction(TestByImportPath):
    def make(self) -> FunctionEvaluator:
        return of(plain)


class TestLambda(TestByImportPath):
    def make(self) -> FunctionEvaluator:
        return of(lambda candidate: candidate["x"])


class TestAsync(TestByImportPath):
    def make(self) -> FunctionEvaluator:
        async def waits(candidate: Any) -> Any:
            await asyncio.sleep(0)
            return {"value": candidate["x"], "feedback": "fine"}

        return of(waits)


# ---------------------------------------------------------------- arguments


def test_the_candidate_comes_first_whatever_the_parameter_is_called() -> None:
    assert arguments(lambda seed: (1.0, f"{seed['x']}"), seed=5) == "2.0"
    assert arguments(lambda *every: (1.0, f"{len(every)}")) == "1"
    assert arguments(lambda candidate, /: (1.0, type(candidate).__name__)) == "Candidate"


def test_further_arguments_come_by_name() -> None:
    assert arguments(lambda c, seed, replicate: (1.0, f"{seed} {replicate}"), **WITH_DATA) == "3 4"
    assert arguments(lambda c, *, fidelity=1.0: (1.0, f"{fidelity}"), **WITH_DATA) == "0.5"
    assert arguments(lambda c, request: (1.0, f"{request.seed} {request.row}"), **WITH_DATA) == "3 {'n': 7}"


def test_the_row_comes_as_example_or_second() -> None:
    assert arguments(lambda c, example: (1.0, f"{example}"), **WITH_DATA) == "{'n': 7}"
    assert arguments(lambda c, question: (1.0, f"{question}"), **WITH_DATA) == "{'n': 7}"
    assert arguments(lambda c, question, /: (1.0, f"{question}"), **WITH_DATA) == "{'n': 7}"
    assert arguments(several, **WITH_DATA) == "{'n': 7} own 0.5 {}"


def test_without_data_defaults_stay() -> None:
    assert arguments(lambda c, question="none": (1.0, question)) == "none"
    assert arguments(lambda c, example="none": (1.0, example)) == "none"
    assert arguments(lambda c, example: (1.0, f"{example}")) == "None"
    failure = produce(several).failure
    assert failure is not None and "'row' gets the row of the data, but there is no data" in failure.message


def test_objects_methods_and_partials() -> None:
    item = Callables()
    assert arguments(item, **WITH_DATA) == "3"
    assert arguments(item.method, **WITH_DATA) == "4"
    assert arguments(Callables.of_class, **WITH_DATA) == "0.5"
    assert arguments(Callables.waits, **WITH_DATA) == "{'n': 7}"
    assert arguments(functools.partial(item, seed=99), **WITH_DATA) == "99"  # what the user fixed stays
    assert arguments(functools.partial(several, other="mine"), **WITH_DATA) == "{'n': 7} mine 0.5 {}"
    assert arguments(functools.partial(lambda first, c, seed: (1.0, f"{first} {seed}"), 1), **WITH_DATA) == "1 3"


def test_it_cannot_tell_who_asks() -> None:
    assert arguments(lambda c, request: (1.0, request.purpose), purpose="gate") == "search"


@pytest.mark.parametrize("function", [lambda: 1.0, lambda *, candidate: 1.0])
def test_a_function_without_a_place_for_the_candidate_is_refused(function: Any) -> None:
    with pytest.raises(ConfigError, match="takes no candidate"):
        of(function)


def test_a_parameter_that_nothing_fills_is_refused() -> None:
    with pytest.raises(ConfigError, match="'temperature' that nothing fills") as error:
        of(lambda c, row, temperature: 1.0)
    assert "replicate" in error.value.hint


# ---------------------------------------------------------------- results

RESULTS = [
    (1, {"value": 1.0}, ""),
    (True, {"value": 1.0}, ""),
    ((0.5, "words"), {"value": 0.5}, "words"),
    ({"value": 2, "extra": 3}, {"value": 2.0, "extra": 3.0}, ""),
    ({"value": 2, "feedback": "words"}, {"value": 2.0}, "words"),
    (({"value": 2}, "words"), {"value": 2.0}, "words"),
    (Score({"value": 2.0}, "words"), {"value": 2.0}, "words"),
    (numpy.float32(0.5), {"value": 0.5}, ""),
    (numpy.int64(5), {"value": 5.0}, ""),
    (numpy.array(5.0), {"value": 5.0}, ""),
    (Decimal("0.25"), {"value": 0.25}, ""),
]


@pytest.mark.parametrize(("result", "values", "feedback"), RESULTS)
def test_results(result: Any, values: Any, feedback: str) -> None:
    assert produce(lambda c: result).value == {"values": values, "feedback": feedback}


WRONG = [float("nan"), float("inf"), "1", b"1", None, {}, {"other": 1}, [1, 2], {1}, 1j, numpy.ones(1), object(), plain]


@pytest.mark.parametrize("result", WRONG, ids=lambda value: f"{type(value).__name__}-{str(value)[:8]}")
def test_what_is_not_a_measurement_is_invalid(result: Any) -> None:
    output = produce(lambda c: result)
    assert output.value is None
    assert output.failure is not None and output.failure.kind == "invalid" and "value" in output.failure.message


def test_several_names_need_a_mapping() -> None:
    assert produce(lambda c: {"a": 1, "b": 2}, names=["a", "b"]).failure is None
    for result, text in ((1.0, "a mapping with a, b is needed"), ({"a": 1}, "b is missing")):
        failure = produce(lambda c, result=result: result, names=["a", "b"]).failure
        assert failure is not None and failure.kind == "invalid" and text in failure.message


def test_partial_results_have_the_same_form_and_need_not_be_whole() -> None:
    seen: list[Any] = []

    def learn(candidate: Any, partial: Any) -> Any:
        partial({"loss": 0.5})
        partial(({"loss": 0.4, "ms": 3}, "better"))
        return {"loss": 0.3, "ms": 3}

    assert produce(learn, partials=seen, names=["loss", "ms"]).failure is None
    assert seen == [
        {"values": {"loss": 0.5}, "feedback": ""},
        {"values": {"loss": 0.4, "ms": 3.0}, "feedback": "better"},
    ]


def test_a_partial_result_that_is_none_is_invalid() -> None:
    def diverges(candidate: Any, partial: Any) -> float:
        partial(float("nan"))
        return 1.0

    failure = produce(diverges).failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("invalid", "partial result: value must be finite, not nan")


def test_a_raise_tells_the_users_frames() -> None:
    output = asyncio.run(of(plain).produce(Request(Candidate({"x": -1})), print))
    assert output.failure is not None
    assert (output.failure.kind, output.failure.message) == ("error", "ValueError: x is negative")
    assert "in plain" in output.failure.detail and "produce" not in output.failure.detail
