"""How a metric is found, how a user's own becomes one, and what hostile outputs and rows do to each."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.metrics.base import LONGEST, TABLE, Metric, load, quoted

ROW = {
    "answer": "B",
    "choices": ["red", "blue"],
    "tests": ["assert f(1) == 1"],
    "entry_point": "f",
}
NUMBERS = {**ROW, "answer": 7}
OPTIONS: dict[str, dict[str, Any]] = {
    "json_schema": {"schema": {"type": "object"}},
    "judge": {"rubric": "It is right."},
    "code_pass": {"seconds": 2.0},
}
PROGRAMS = sorted(set(TABLE) - {"judge", "preference"})
"""Those that need no model."""
HOSTILE = {
    "a megabyte": "x" * 1_000_000,
    "NUL": "\x00B\x00",
    "half a surrogate": "\ud800",
    "braces": "{" * 100_000,
    "brackets": "[" * 100_000 + "]" * 100_000,
    "nested as deep as the decoder goes": '{"a":' * 900 + "1" + "}" * 900,
    "digits": "9" * LONGEST,
    "groups of digits": "1," + "111," * (LONGEST // 4 - 2),
    "numbers": "1 " * (LONGEST // 2),
    "slashes": "1/" * (LONGEST // 2),
    "stars": "answer" + "*" * (LONGEST - 6),
    "answers": "answer is (" * (LONGEST // 11),
    "fences": "```\n" * (LONGEST // 4),
    "spaces": " " * LONGEST,
    "letters": "A " * (LONGEST // 2),
    "marks": "(A" * (LONGEST // 2),
    "commas": "a," * (LONGEST // 2),
    "lines": "B)\n" * (LONGEST // 3),
    "direction marks": "\u202e" * 1000,
    "frac": "\\frac{" * (LONGEST // 6),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_output_stalls_or_breaks_a_metric(name: str) -> None:
    metric = load(name, OPTIONS.get(name))
    row = NUMBERS if name == "number_match" else ROW
    for what, output in HOSTILE.items():
        began = time.process_time()
        number, words = metric.score(output, row)
        assert 0.0 <= number <= 1.0, what
        assert len(words) < 4000 and "\x00" not in words and "\u202e" not in words, what
        words.encode()
        assert time.process_time() - began < 10, what


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("row", [None, "text", 7, [], {}, {"answer": None}, {"answer": []}], ids=repr)
def test_a_row_without_an_answer_is_an_error_and_no_score(name: str, row: Any) -> None:
    metric = load(name, {"schema": "schema"} if name == "json_schema" else OPTIONS.get(name))
    if name in ("set_match", "micro_f1") and row == {"answer": []}:
        return  # an empty set is an answer
    with pytest.raises(ValueError, match=r"needs|empty list|is none of|one class"):
        metric.score("B", row)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("field", ["x" * 1_000_000, "\ud800\x00", [""] * 20], ids=["a megabyte", "no UTF-8", "many"])
def test_a_hostile_row_costs_at_most_itself(name: str, field: Any) -> None:
    metric = load(name, {"schema": "schema"} if name == "json_schema" else OPTIONS.get(name))
    try:
        number, words = metric.score("B", {**ROW, "answer": field, "choices": ["B", field], "tests": field})
    except ValueError as error:
        words, number = str(error), 0.0
    assert 0.0 <= number <= 1.0
    assert len(words) < 4000
    words.encode()


def test_an_answer_that_is_null_is_told_from_one_that_is_missing() -> None:
    with pytest.raises(ValueError, match="the row's 'answer' is null; exact_match needs a value there"):
        load("exact_match").score("B", {"answer": None})
    with pytest.raises(ValueError, match="the row has no 'answer', which exact_match needs; its fields: target"):
        load("exact_match").score("B", {"target": "B"})


def test_an_output_beyond_the_limit_is_not_read() -> None:
    number, words = load("contains").score("B " * LONGEST, ROW)
    assert (number, words) == (0.0, "the output has 400,000 characters; more than 200,000 are not read")
    assert load("micro_f1").values("B " * LONGEST, ROW)[0] == {"micro_f1": 0.0, "tp": 0.0, "fp": 0.0, "fn": 1.0}


def test_quotes_are_one_line_without_what_a_reader_cannot_see() -> None:
    assert quoted('a\n"b"\x1b[31m\u202e') == '"a \\"b\\"�"'
    assert len(quoted("x" * 10_000)) <= 202
    assert quoted("x" * 10_000).endswith('…"')


def test_an_unknown_metric_or_option_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="allowed is exact_match, ") as found:
        load("exact_mach")
    assert found.value.hint == "did you mean exact_match?"
    with pytest.raises(ConfigError, match="there is no option 'normalise'") as found:
        load("exact_match", {"normalise": "squad"})
    assert found.value.hint == "its options: normalize, answer, reveal"
    with pytest.raises(ConfigError, match="squad or strip"):
        load("exact_match", {"normalize": "none"})
    for name, option in (("judge", "rubric"), ("json_schema", "schema"), ("preference", "requirements")):
        with pytest.raises(ConfigError, match=f"metric {name} needs the option {option}, such as .") as found:
            load(name)
        assert found.value.hint == f"metric_options = {{ {option} = … }}"
    with pytest.raises(ConfigError, match="found 3"):
        load(3)  # type: ignore[arg-type]


def test_every_metric_says_what_it_reports() -> None:
    for name in [*PROGRAMS, "judge"]:
        metric = load(name, OPTIONS.get(name))
        assert (metric.low, metric.high) == (0.0, 1.0)
        assert metric.names[0] == {"macro_f1": "accuracy"}.get(name, name)
        assert metric.name == name and metric.options == OPTIONS.get(name, {})
        assert metric.fingerprint == load(name, OPTIONS.get(name)).fingerprint
    assert load("exact_match").fingerprint != load("exact_match", {"normalize": "strip"}).fingerprint


def half(output: str, row: Any) -> tuple[float, str]:
    return 0.5, f"half of {row['answer']}"


def test_a_users_function_gives_a_score_with_or_without_words() -> None:
    assert load(half)("x", ROW) == (0.5, "half of B")
    assert load(lambda output, row: len(output) > 2)("xyz", ROW) == (1.0, "")
    several = load(lambda output, row: {"good": 1, "length": len(output)}, {"names": ["good", "length"]})
    assert several.values("abc", ROW) == ({"good": 1.0, "length": 3.0}, "")
    assert several.score("abc", ROW) == (1.0, "")
    grades = load(lambda output, row: 3, {"low": 1, "high": 5})
    assert (grades.score("x", ROW)[0], grades.low, grades.high) == (3.0, 1.0, 5.0)


@pytest.mark.parametrize("found", [float("nan"), 2.0, -0.1, "1", None, {"score": [1]}], ids=repr)
def test_what_is_no_score_is_an_error(found: Any) -> None:
    with pytest.raises(ValueError, match=r"score|gave|must be"):
        load(lambda output, row: found).score("x", ROW)


def test_a_users_async_function_is_awaited() -> None:
    async def slow(output: str, row: Any) -> float:
        await asyncio.sleep(0)
        return 0.25

    metric = load(slow)
    assert not metric.blocking
    assert asyncio.run(metric.measure("x", ROW)).values == {"score": 0.25}
    with pytest.raises(ValueError, match="async"):
        metric.score("x", ROW)


def test_a_blocking_function_does_not_hold_up_the_loop() -> None:
    import threading

    main = threading.get_ident()
    metric = load(lambda output, row: float(threading.get_ident() != main))
    assert asyncio.run(metric.measure("x", ROW)).values == {"score": 1.0}


def test_parts_of_a_users_quotient_are_reported() -> None:
    rate = load(
        lambda output, row: {"score": 0.5, "errors": 1, "words": 2},
        {"numerator": {"errors": 1.0}, "denominator": {"words": 1.0}},
    )
    assert rate.names == ("score", "errors", "words")
    assert rate.over(["a", "b"], [ROW, ROW]) == 0.5
    with pytest.raises(ConfigError, match="belong together"):
        load(half, {"numerator": {"errors": 1.0}})
    with pytest.raises(ConfigError, match="below high"):
        load(half, {"low": 1, "high": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    (tmp_path / "own_metric_zq.py").write_text(
        "from agent.metrics.base import Metric\n"
        "def third(output, row):\n    return 1 / 3, 'a third'\n"
        "def all_of_them(outputs, rows):\n    return len(outputs)\n"
        "class Length(Metric):\n"
        "    def __init__(self, *, most=10):\n        super().__init__()\n        self.most = most\n"
        "    def _score(self, output, row):\n        return float(len(output) <= self.most), ''\n"
        "short = Length(most=3)\n"
        "class Needs(Metric):\n    def __init__(self, *, limit):\n        super().__init__()\n"
    )
    yield tmp_path
    sys.modules.pop("own_metric_zq", None)
    sys.path[:] = [item for item in sys.path if str(item) != str(tmp_path)]


def test_a_metric_is_named_in_the_problems_folder(folder: Path) -> None:
    assert load("own_metric_zq:third", folder=folder).score("x", ROW) == (1 / 3, "a third")
    assert load("own_metric_zq:Length", {"most": 2}, folder).score("abc", ROW)[0] == 0.0
    assert isinstance(load("own_metric_zq:short", folder=folder), Metric)
    assert load("contains", {"over": "own_metric_zq:all_of_them"}, folder).over(["a", "b"], [ROW, ROW]) == 2
    with pytest.raises(ConfigError, match=r"needs the option limit\n"):
        load("own_metric_zq:Needs", folder=folder)
    with pytest.raises(ConfigError, match="has no 'fourth'"):
        load("own_metric_zq:fourth", folder=folder)


def test_the_fingerprint_follows_the_source(folder: Path) -> None:
    before = load("own_metric_zq:third", folder=folder).fingerprint
    assert load("own_metric_zq:third", folder=folder).fingerprint == before
    file = folder / "own_metric_zq.py"
    file.write_text(file.read_text().replace("1 / 3", "2 / 3"))
    assert load("own_metric_zq:third", folder=folder).fingerprint != before
    assert load(half).fingerprint != load(lambda output, row: 1.0).fingerprint
