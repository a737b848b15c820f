"""Requests and outputs as data, and what counts as a measurement."""

from __future__ import annotations

import json
import math
from collections import UserDict
from fractions import Fraction
from typing import Any

import pytest

from agent.evaluation import Limits, Output, Request, Score, measurement
from agent.space import Candidate


def test_a_request_survives_the_wire_without_its_purpose() -> None:
    request = Request(
        Candidate({"x": 1, "shots": [2, 0]}),
        example="a",
        row={"q": "ü"},
        seed=3,
        replicate=2,
        fidelity=0.5,
        stage="quick",
        purpose="gate",
        limits=Limits(seconds=1.5, memory_mb=100),
    )
    sent = json.loads(json.dumps(request.to_json()))
    assert "purpose" not in sent  # an evaluator must not be able to tell an exam from the search
    again = Request.from_json(sent)
    assert again.purpose == "search" and again.to_json() == request.to_json()
    assert Request.from_json({"candidate": {"x": 1}}) == Request(Candidate({"x": 1}))


@pytest.mark.parametrize(
    "output",
    [
        Output(
            value={"values": {"x": 1.0}, "feedback": "ü"}, seconds=0.25, usd=0.5, log="said", partials=(1, {"a": 2})
        ),
        Output(value=None, seconds=1.0),
        Output(value=0),
        Output.failed("timeout", "took longer than 3 s", "the end of it", seconds=3.0, partials=(1,)),
        Output.failed("error", ""),
        Output.failed("forged", "it wrote more than its answers", layers=("process", "rlimits")),
    ],
)
def test_an_output_survives_storage(output: Output) -> None:
    assert Output.from_json(json.loads(json.dumps(output.to_json()))) == output


class Scalar:
    """Like numpy's and torch's numbers: converts to float, and has an empty shape."""

    shape: tuple[int, ...] = ()

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


class Array(Scalar):
    """Of one element: it converts too, and is more likely a mistake."""

    shape = (1,)


@pytest.mark.parametrize(
    ("returned", "feedback"),
    [
        (2, ""),
        (2.0, ""),
        (Scalar(2.0), ""),
        (Fraction(2), ""),
        ((2, "words"), "words"),
        ([2, "words"], "words"),
        ({"time": 2}, ""),
        (UserDict({"time": 2}), ""),
        ({"time": 2, "feedback": "words"}, "words"),
        (({"time": 2}, "words"), "words"),
        ({"values": {"time": 2}, "feedback": "words"}, "words"),
        (Score({"time": 2}, "words"), "words"),
    ],
)
def test_every_documented_form_of_a_measurement(returned: Any, feedback: str) -> None:
    assert measurement(returned, ["time"]) == {"values": {"time": 2.0}, "feedback": feedback}


def test_more_numbers_than_asked_for_are_kept() -> None:
    found = measurement({"time": 1, "size": 2, "extra": 3}, ["time", "size"])
    assert found["values"] == {"time": 1.0, "size": 2.0, "extra": 3.0}
    assert all(type(value) is float for value in found["values"].values())


@pytest.mark.parametrize(
    ("returned", "names", "words"),
    [
        ("2", ["time"], "time must be a number, not '2'"),
        (None, ["time"], "time must be a number, not None"),
        ([1, 2], ["time"], r"time must be a number, not \[1, 2\]"),
        (Array(2.0), ["time"], "time must be a number"),
        ({"time": "x"}, ["time"], "time must be a number, not 'x'"),
        (math.nan, ["time"], "time must be finite, not nan"),
        ({"time": -math.inf}, ["time"], "time must be finite, not -inf"),
        (10**400, ["time"], "time must be a number"),
        (1.7e308, ["time"], r"time must lie within ±1e\+150"),
        (1.0, ["time", "size"], "a mapping with time, size is needed, not 1.0"),
        ({"time": 1}, ["time", "size"], "size is missing; found time"),
        ({}, ["time"], "time is missing; found nothing"),
        ({"time": 1, "other": "x"}, ["time"], "other must be a number"),
    ],
)
def test_what_is_not_a_measurement_says_why(returned: Any, names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measurement(returned, names)


def test_a_measurement_can_be_read_again_after_storage() -> None:
    stored = json.loads(json.dumps(measurement(({"time": 1, "size": 2}, "words"), ["time", "size"])))
    assert measurement(stored, ["time", "size"]) == stored
