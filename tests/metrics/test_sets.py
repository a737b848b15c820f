"""Sets, and F1 over all outputs: what a gate can examine exactly, and what it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.metrics import f1_score

from agent.errors import ConfigError
from agent.gate.resampling import ratio
from agent.metrics.base import load

SAID = ["cat", "dog", "dog", "cat", "bird", "dog", "fish", "cat"]
RIGHT = ["cat", "dog", "cat", "cat", "bird", "bird", "cat", "dog"]
ROWS = [{"answer": right} for right in RIGHT]


def score(output: str, answer: Any, **options: Any) -> float:
    return load("set_match", options).score(output, {"answer": answer})[0]


@pytest.mark.parametrize(
    "output",
    [
        "red, green, blue",
        '["Blue", "green", "red"]',
        "- red\n- green\n- blue",
        "1. red\n2) blue\n3. green",
        "red;green; blue;red",
        "{Red, 'green', blue}",
        "['red', 'green', 'blue']",
        "```\nred.\n**green**\nblue\n```",
    ],
)
def test_a_set_is_read_from_lists_lines_and_commas(output: str) -> None:
    assert score(output, ["red", "green", "blue"]) == 1.0


def test_f1_and_jaccard_of_sets() -> None:
    assert score("red, blue", ["red", "green", "yellow"]) == pytest.approx(2 / 5)
    assert score("red, blue", ["red", "green", "yellow"], score="jaccard") == pytest.approx(1 / 4)
    assert score("", []) == 1.0
    assert score("", ["red"]) == 0.0
    assert score("a b | c", "c|a b", separator="|") == 1.0
    assert (
        load("set_match").score("red, blue", {"answer": ["red", "green"]})[1]
        == '1 too many: "blue"; 1 missing: "green"'
    )
    hidden = load("set_match", {"reveal": False}).score("red, blue", {"answer": ["red", "green"]})[1]
    assert hidden == '1 too many: "blue"; 1 missing'
    with pytest.raises(ConfigError, match="f1 or jaccard"):
        load("set_match", {"score": "dice"})


def test_items_and_labels_keep_articles_signs_and_points() -> None:
    assert score("B", ["A", "B"]) == pytest.approx(2 / 3)
    assert score("", ["A"]) == score("1.5", ["15"]) == score("the who", ["who"]) == score("+", ["-"]) == 0.0
    assert score("5!", ["5"]) == 0.0 and score("5!.", ["5!"]) == score("Yes!", ["yes"]) == 1.0
    assert score('["a","b"]', ["a", "c"], score="jaccard") == pytest.approx(1 / 3)
    assert load("micro_f1", {"positive": ["A"]}).values("B", {"answer": ["A"]})[0]["fn"] == 1.0
    classes = load("macro_f1", {"labels": ["A", "B"]})
    assert [classes.score(said, {"answer": "A"})[0] for said in ("", "B", "a.", "(A)")] == [0.0, 0.0, 1.0, 1.0]
    assert classes.over(["", "B"], [{"answer": "A"}, {"answer": "B"}]) == 0.5
    assert load("macro_f1", {"labels": ["+", "-"]}).score("-", {"answer": "+"})[0] == 0.0


def test_micro_f1_is_the_quotient_that_the_gate_computes() -> None:
    metric = load("micro_f1")
    rows = [{"answer": ["a1", "b1"]}, {"answer": ["c1"]}, {"answer": []}, {"answer": ["d1", "e1", "f1"]}]
    outputs = ["a1, x1", "c1", "y1", "d1, e1"]
    parts = [metric.values(output, row)[0] for output, row in zip(outputs, rows, strict=True)]
    assert parts[0] == {"micro_f1": 0.5, "tp": 1.0, "fp": 1.0, "fn": 1.0}
    assert metric.numerator is not None and metric.denominator is not None
    gate = ratio(dict(metric.numerator), dict(metric.denominator))(parts)
    assert metric.over(outputs, rows) == pytest.approx(gate) == pytest.approx(8 / 12)
    assert not metric.note


def test_an_output_that_failed_misses_all_that_was_wanted() -> None:
    metric = load("micro_f1")
    rows = [{"answer": ["a1", "b1"]}, {"answer": ["c1"]}]
    assert metric.over([None, "c1"], rows) == pytest.approx(2 / 4)
    assert load("exact_match").over([None, "c1"], rows[1:] * 2) == 0.5


def test_binary_f1_is_that_of_the_positive_class() -> None:
    said, right = ["yes", "no", "yes", "yes", "no"], ["yes", "yes", "no", "yes", "no"]
    rows = [{"answer": answer} for answer in right]
    theirs = f1_score(right, said, pos_label="yes")
    assert load("micro_f1", {"positive": ["yes"]}).over(said, rows) == pytest.approx(theirs)


def test_macro_f1_is_that_of_the_confusion_matrix_and_the_claim_is_another() -> None:
    metric = load("macro_f1", {"labels": ["cat", "dog", "bird"]})
    theirs = f1_score(RIGHT, SAID, average="macro", labels=["cat", "dog", "bird"])
    assert metric.over(SAID, ROWS) == pytest.approx(theirs)
    assert metric.names == ("accuracy",) and metric.numerator is None
    assert "mean of quotients" in metric.note
    assert metric.values("Dog", ROWS[1])[0] == {"accuracy": 1.0}
    with pytest.raises(ValueError, match="none of the labels"):
        metric.score("cat", {"answer": "whale"})


def test_macro_f1_differs_from_the_mean_of_the_rows() -> None:
    rows = [{"answer": "common"}] * 9 + [{"answer": "rare"}]
    metric = load("macro_f1")
    always = ["common"] * 10
    assert metric.over(always, rows) == pytest.approx((18 / 19) / 2)
    assert sum(metric.score(said, row)[0] for said, row in zip(always, rows, strict=True)) / 10 == 0.9


def distinct(outputs: list[str | None], rows: list[Any]) -> float:
    """How many different outputs there are, as a share: a number of the set that no row has."""
    return len(set(outputs)) / len(outputs)


def test_a_users_function_over_all_outputs_is_reported_and_not_claimed() -> None:
    metric = load("exact_match", {"over": distinct})
    assert metric.over(["cat", "cat", "dog", None], ROWS[:4]) == 0.75
    assert metric.score("cat", ROWS[0])[0] == 1.0
    assert "what is examined and claimed is exact_match" in metric.note
    assert metric.fingerprint != load("exact_match").fingerprint
    with pytest.raises(ValueError, match="as many outputs as rows"):
        metric.over(["cat"], ROWS)
    with pytest.raises(ValueError, match="finite"):
        load("exact_match", {"over": lambda outputs, rows: float("nan")}).over(["cat"], ROWS[:1])
