"""Metrics that compare texts, numbers and choices, by what the field expects of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.metrics.base import load

SHARED = Path(__file__).parents[3] / "shared" / "data"


def score(metric: str, output: str, answer: Any, **options: Any) -> float:
    return load(metric, options).score(output, {"answer": answer})[0]


def test_exact_match_drops_case_punctuation_and_articles() -> None:
    assert score("exact_match", "The Eiffel  Tower.", "eiffel tower") == 1.0
    assert score("exact_match", "Eiffel Towers", "Eiffel Tower") == 0.0
    assert score("exact_match", "London", ["Paris", "london"]) == 1.0
    assert score("exact_match", "theatre", "atre") == 0.0  # an article is a word, not a beginning
    assert score("exact_match", "4", 4) == 1.0
    assert score("exact_match", "True", True) == 1.0


EMPTY_OR_ANOTHER = [
    ("", "A"), ("   ", "the"), (".", "A"), ("", "+"), ("The", "A"), ("+", "-"), ("<=", ">="), ("*", "**"),
    ("1.5", "15"), ("1,5", "15"), (".5", "5"), ("-5", "5"), ("−5", "5"), ("-$5", "$5"), ("1/2", "12"),
    ("10-12", "1012"),
    ("2*3", "23"), ("6 / 2", "6 * 2"), ("x^2", "x2"), ("x+y", "xy"), ("x + 1", "x - 1"), ("x > 3", "x < 3"),
    ("<3", ">3"), ("a != b", "a b"), ("C++", "C"), ("C#", "C"), ("A+", "A"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "answer"), EMPTY_OR_ANOTHER)
def test_an_empty_or_opposite_output_is_never_right(output: str, answer: str) -> None:
    for said, right in ((output, answer), (answer, output)):
        if right.strip():
            assert score("exact_match", said, right) == 0.0
            assert score("token_f1", said, right) < 1.0
            assert score("macro_f1", said, right) == 0.0
            assert score("set_match", said, [right]) < 1.0
    assert score("exact_match", answer, answer) == score("token_f1", answer, answer) == 1.0


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("A.", "A"), ("(a)", "A"), ("**A**", "a"), ("`+`", "+"), ("the", "The"), ("", ""), ("The 5.", "5"), ("+5", "5"),
        ("$1,234.50", "1234.50"), ("**-5**", "-5"), ("- 5", "-5"), ("−5", "-5"), ("5!", "5"), ("> Paris", "Paris"),
        ("COVID-19", "covid19"), ("the well-known 3", "wellknown 3"), ("x  >  3.", "X > 3"),
        ("Is it 7? Yes.", "is it 7 yes"),
    ],
)  # fmt: skip
def test_a_form_that_means_the_same_is_right(output: str, answer: str) -> None:
    assert score("exact_match", output, answer) == 1.0
    assert score("token_f1", output, answer) == 1.0


def test_contains_tells_a_number_from_its_negative() -> None:
    assert score("contains", "It is -5.", "-5") == score("contains", "It is 1.5.", "1.5") == 1.0
    assert score("contains", "It is -5.", "5") == score("contains", "It is 1.5.", "15") == 0.0


def test_exact_match_by_the_letter() -> None:
    assert score("exact_match", " Paris\n", "Paris", normalize="strip") == 1.0
    assert score("exact_match", "paris", "Paris", normalize="strip") == 0.0


def test_token_f1_counts_shared_words_with_repetition() -> None:
    assert score("token_f1", "the cat sat", "cat sat down") == pytest.approx(0.8)  # P 2/2, R 2/3
    assert score("token_f1", "cat cat cat", "cat") == pytest.approx(0.5)
    assert score("token_f1", "cat cat", "cat cat dog") == pytest.approx(0.8)
    assert score("token_f1", "dog", "cat") == 0.0
    assert score("token_f1", "dog", ["cat", "a dog"]) == 1.0
    assert score("token_f1", "", "") == 1.0
    assert score("token_f1", "", "cat") == 0.0
    words = load("token_f1").score("cat sat", {"answer": "cat sat down"})[1]
    assert words == (
        'partly wrong: the output says "cat sat", right is "cat sat down";'
        " 100% of its words are in the answer, 67% of the answer's words are in it"
    )


def test_contains_wants_whole_words() -> None:
    assert score("contains", "I think it is Paris, France.", "paris") == 1.0
    assert score("contains", "comparison", "paris") == 0.0
    assert score("contains", "red and blue", ["red", "green"]) == 1.0
    assert score("contains", "red and blue", ["red", "green"], every=True) == 0.0
    assert score("contains", "a comparison", "paris", normalize="strip") == 1.0
    with pytest.raises(ValueError, match="every output contains"):
        score("contains", "anything", "the")


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("3 + 4 = 7, so the answer is 7.", 7),
        ("It costs $1,234.50", "1234.5"),
        ("#### 72", "so 48 + 24 = 72\n#### 72"),
        ("minus: −5", -5),
        ("x = -3", "-3"),
        ("from 10-12", 12),  # a hyphen is no sign
        ("about 45%", 0.45),
        ("45", "45%"),
        ("45 percent", "45 %"),
        ("3/4 of them", 0.75),
        ("2 1/2 hours", 2.5),
        (r"\boxed{\frac{3}{4}}", "0.75"),
        ("1.5e3", 1500),
        (".5", 0.5),
        ("-$5", -5),
        ("0.3333333333", "1/3"),
        ("1,234,567", 1234567),
        ("12,34", 34),  # no thousands separator: two numbers
    ],
)
def test_number_match_reads(output: str, answer: Any) -> None:
    assert score("number_match", output, answer) == 1.0


@pytest.mark.parametrize(
    ("output", "answer"),
    [("7 then 8", 7), ("45%", "45.1%"), ("0.45%", "45%"), ("none", 1), ("1/0", 1), ("7", -7), ("1e999", 1)],
)
def test_number_match_refuses(output: str, answer: Any) -> None:
    assert score("number_match", output, answer) == 0.0


def test_number_match_within_a_tolerance() -> None:
    assert score("number_match", "3.1", 3.14159, tolerance=0.05) == 1.0
    assert score("number_match", "101", 100, relative=0.01) == 1.0
    assert score("number_match", "102", 100, relative=0.01) == 0.0
    with pytest.raises(ValueError, match="no number in the row's 'answer'"):
        score("number_match", "1", "many")
    with pytest.raises(ConfigError, match="tolerance"):
        load("number_match", {"tolerance": -1.0})


CHOICES = ["red", "dark red", "green", "A blue one"]


@pytest.mark.parametrize(
    ("output", "chosen"),
    [
        ("B", "B"),
        ("(c).", "C"),
        ("**D**", "D"),
        ("First A looked right, but the answer is (B).", "B"),
        ("Answer: C", "C"),
        ("The answer is **B**", "B"),
        ("The answer is A. No, wait: the answer is D.", "D"),
        ("The answer is (A). No, wait: the answer is (D).", "D"),
        ("dark red", "B"),
        ("B) dark red", "B"),
        ("I would go for (C), which I like.", "C"),
        ("It must be dark red.", "B"),  # not red, which only stands within it
        ("Surely green", "C"),
        ("It is red or green", None),
        ("(A) and (B)", None),
        ("A) red\nB) dark red", None),  # it repeats the options
        ("Let me think.\nC. green", "C"),
        ("Not (A) but red", "A"),
        ("no idea", None),
        ("Not green.", None),
        ("It isn't a dark red.", None),
        ("It isn’t dark red", None),
        ("Neither red nor green", None),
        ("not red but green", "C"),
        ("Not dark red, plain red", "A"),
        ("The answer is not (B)", None),
        ("It cannot be red. It is not (A). (C)", "C"),
        ("It is a knot: green", "C"),  # and no negation
        ("", None),
    ],
)
def test_choice_match_finds_the_one_choice(output: str, chosen: str | None) -> None:
    metric = load("choice_match")
    right = [label for label in "ABCD" if metric.score(output, {"choices": CHOICES, "answer": label})[0] == 1.0]
    assert right == ([chosen] if chosen else [])


def test_choice_match_takes_the_answer_as_label_text_or_place() -> None:
    metric = load("choice_match")
    for answer in ("B", "(b)", "dark red", 1):
        assert metric.score("B", {"choices": CHOICES, "answer": answer}) == (1.0, "right")
    assert metric.score("2", {"choices": {"1": "yes", "2": "no"}, "answer": "no"})[0] == 1.0
    assert metric.score("(E)", {"answer": "E"})[0] == 1.0  # without choices, letters
    with pytest.raises(ValueError, match=r"none of the row.s .choices."):
        metric.score("B", {"choices": CHOICES, "answer": "purple"})
    with pytest.raises(ValueError, match="at most 26"):
        metric.score("B", {"choices": "red", "answer": "A"})


def test_choice_match_asks_for_the_options_where_the_answer_is_no_letter() -> None:
    for row in ({"answer": "play"}, {"answer": "play", "choices": None}):
        with pytest.raises(ValueError, match=r"no 'choices', .* \"play\", is no letter; give the option `choices`"):
            load("choice_match").score("play", row)


def test_choice_match_takes_no_option_from_an_empty_output() -> None:
    metric = load("choice_match", {"choices": ["a", "cat"]})
    assert metric.score("", {"answer": 0})[0] == 0.0
    signs = load("choice_match", {"choices": ["-1.5", "1.5", "15"]})
    assert [signs.score("It is -1.5", {"answer": place})[0] for place in range(3)] == [1.0, 0.0, 0.0]


def test_choice_match_takes_an_option_that_begins_with_a_negation() -> None:
    metric = load("choice_match", {"choices": ["positive", "not positive"]})
    assert metric.score("It is not positive.", {"answer": 1})[0] == 1.0
    assert metric.score("It is positive.", {"answer": 0})[0] == 1.0


def test_choice_match_takes_the_same_options_for_all_rows() -> None:
    metric = load("choice_match", {"choices": ["positive", "negative"]})
    assert metric.score("Negative.", {"answer": "negative"})[0] == 1.0
    assert metric.score("(A)", {"answer": "negative"})[0] == 0.0
    table = load("choice_match", {"choices": {"y": "good", "n": "bad"}})
    assert table.score("y", {"answer": "good"})[0] == 1.0
    with pytest.raises(ValueError, match="none of the option `choices`"):
        metric.score("x", {"answer": "neutral"})
    for wrong in ([], 5, ["x"] * 27):
        with pytest.raises(ConfigError, match="the option `choices`"):
            load("choice_match", {"choices": wrong})


def test_words_help_and_hide_the_answer_when_asked() -> None:
    row = {"answer": "Paris", "choices": ["Rome", "Paris"]}
    for name in ("exact_match", "token_f1", "contains", "choice_match"):
        assert "Paris" in load(name).score("Rome", row)[1]
        assert "Paris" not in load(name, {"reveal": False}).score("Rome", row)[1]
    assert "42" not in load("number_match", {"reveal": False}).score("7", {"answer": 42})[1]


def rows(name: str) -> list[dict[str, Any]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_worked_solutions_end_with_the_right_number() -> None:
    metric = load("number_match", {"answer": "target"})
    found = [metric.score(row["solution"], row)[0] for row in rows("gsm8k/test.jsonl")]
    assert sum(found) == len(found) > 90


def test_every_choice_is_found_by_letter_and_by_text() -> None:
    metric = load("choice_match", {"answer": "target"})
    for row in rows("truthfulqa_mc/train.jsonl"):
        text = row["choices"][ord(row["target"]) - ord("A")]
        assert metric.score(f"The answer is ({row['target']}).", row)[0] == 1.0
        assert metric.score(text, row)[0] == 1.0
