"""Programs in outputs, run against the tests of their row."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import ConfigError
from agent.metrics.base import load
from agent.metrics.code import program_of, same, split_tests

ASSERTS = {"tests": ["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 9"], "entry_point": "f"}
TABLES = {"tests": [{"input": [x], "output": x * x} for x in (1, 2, 3)], "entry_point": "f"}


@pytest.fixture(scope="module")
def metric() -> Any:
    return load("code_pass", {"seconds": 2.0})


@pytest.mark.parametrize("row", [ASSERTS, TABLES], ids=["source", "tables"])
def test_the_share_of_the_tests_that_pass(metric: Any, row: dict[str, Any]) -> None:
    assert metric.score("Here:\n```python\ndef f(x):\n    return x * x\n```\nDone.", row) == (
        1.0,
        "right: all 3 tests pass",
    )
    number, words = metric.score("def f(x): return x", row)
    assert number == pytest.approx(1 / 3)
    assert words.startswith("1 of 3 tests pass; failing: ")


@pytest.mark.parametrize("row", [ASSERTS, TABLES], ids=["source", "tables"])
def test_a_test_that_hangs_or_kills_costs_itself_alone(metric: Any, row: dict[str, Any]) -> None:
    hangs = "def f(x):\n    while x == 2: pass\n    return x * x"
    number, words = metric.score(hangs, row)
    assert number == pytest.approx(2 / 3)
    assert "timeout: it took longer than 2 s" in words
    assert metric.score("import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x * x", row)[0] == pytest.approx(
        2 / 3
    )


def test_what_is_no_program_says_why(metric: Any) -> None:
    assert "SyntaxError" in metric.score("def f(x:", ASSERTS)[1]
    assert "the program has no f" in metric.score("def g(x): return x", ASSERTS)[1]
    assert metric.score("def f(x): return object()", TABLES)[0] == 0.0
    assert metric.score("I cannot do that.", ASSERTS)[0] == 0.0
    assert metric.score("x = '\ud800'", ASSERTS)[0] == 0.0
    assert metric.score("\x00", ASSERTS)[0] == 0.0
    assert metric.score("", ASSERTS)[0] == 0.0


def test_a_program_that_disarms_its_tests_scores_nothing(metric: Any) -> None:
    number, words = metric.score("import builtins\nbuiltins.exec = lambda *a: None\ndef f(x): return 0", ASSERTS)
    assert (number, words) == (0.0, "wrong: a test that must fail passed; the program meddles with its tests")


def test_tables_are_compared_out_of_the_programs_reach(metric: Any) -> None:
    equal_to_all = "class Any(int):\n    def __eq__(self, other): return True\n\ndef f(x): return Any(7)"
    assert metric.score(equal_to_all, TABLES)[0] == 0.0
    assert not same(1, True) and not same(1, "1") and same([1, (2.0,)], [1, [2]]) and same({"a": 0.1 + 0.2}, {"a": 0.3})


def test_a_check_function_becomes_one_test_per_assertion() -> None:
    text = "import math\ndef check(candidate):\n    n = 2\n    assert candidate(n) == 4\n    assert candidate(3) == 9\n"
    assert split_tests(text) == [
        "import math\nn = 2\nassert candidate(n) == 4",
        "import math\nn = 2\nassert candidate(3) == 9",
    ]
    loop = "def check(f):\n    for n in range(9):\n        assert f(n) == n * n\n"
    assert split_tests(loop) == [loop + "\ncheck(candidate)\n"]
    renamed = split_tests("def check(f):\n    assert f(1) == 1\n")
    assert renamed == ["f = candidate\nassert f(1) == 1"]


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_check_with_a_loop_is_really_called(metric: Any, wrong: int) -> None:
    row = {"tests": "def check(f):\n    for n in range(9):\n        assert f(n) == n * n\n", "entry_point": "f"}
    assert metric.score(f"def f(x): return x * x + {wrong}", row)[0] == 1.0 - wrong


def test_a_row_that_cannot_be_tested_costs_itself(metric: Any) -> None:
    for row, why in (
        ({}, "has no 'tests'"),
        ({"tests": []}, "0 tests"),
        ({"tests": "assert ("}, "not Python"),
        ({"tests": [{"input": 1}]}, "must have input"),
        ({"tests": TABLES["tests"]}, "has no 'entry_point'"),
    ):
        with pytest.raises(ValueError, match=why):
            metric.score("def f(x): return x", row)
    with pytest.raises(ConfigError, match="above 0"):
        load("code_pass", {"seconds": 0})


def test_a_completion_follows_its_prefix(metric: Any) -> None:
    completing = load("code_pass", {"prefix": "prompt"})
    assert completing.score("    return x * x", {**ASSERTS, "prompt": "def f(x):"})[0] == 1.0
    assert program_of("```\na\n```\nor\n```py\nb\n```") == "b\n"
    assert completing.guard()["layers"]
