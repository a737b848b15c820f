"""The drift test on its own: exact on deterministic scores, a stated rate of false alarms on noisy ones."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.batch import drift, permutation
from agent.batch.drift import Row, scores
from agent.batch.permutation import DRAWS, LEVEL, compare, moved
from agent.events import CallEnded, CallStarted
from agent.goals import Objective
from agent.journal import Journal
from agent.problem import Example

ACCURACY = Objective("accuracy", "maximize")
MILLISECONDS = Objective("time", "minimize", unit="ms")


def night(*rows: Row, goal: Objective = ACCURACY, deterministic: bool = True, **given: bool) -> drift.Scores:
    return scores(rows, goal, deterministic=deterministic, night="tonight", **given)


# A deterministic evaluator


def test_the_same_scores_are_no_drift_and_any_other_score_is() -> None:
    same = [Row(f"row-{i}", 0.5, (0.5, 0.5)) for i in range(40)]
    assert night(*same).drift is None
    found = night(*same[1:], Row("row-0", 0.5000001, (0.5, 0.5))).drift
    assert found is not None and found.kind == "score"
    assert "accuracy differs on 1 of 40 rows" in found.sentence and "row-0: 0.5 → 0.5" in found.sentence


def test_a_row_that_fails_now_is_told_as_a_failure_and_not_as_a_score() -> None:
    found = night(Row("a", 1.0, (1.0,)), Row("b", None, (0.0,), "timeout: took longer than 2 s")).drift
    assert found is not None
    assert "1 of 2 rows failed that had a score (b: timeout: took longer than 2 s)" in found.sentence
    assert "differs" not in found.sentence
    back = night(Row("a", 1.0, (1.0,)), Row("b", 0.0, (0.0, None))).drift
    assert back is not None and "1 of 2 rows have a score that failed before" in back.sentence
    assert night(Row("a", 1.0, (1.0,)), Row("b", None, (None,))).drift is None


def test_two_answers_in_one_night_of_a_deterministic_problem_are_told_in_the_first_night() -> None:
    found = night(Row("repeat 1", 3.0), Row("repeat 2", 4.0), repeats=True, goal=MILLISECONDS).drift
    assert found is not None and "time was 3 ms and 4 ms in one night" in found.sentence
    assert night(Row("repeat 1", 3.0), Row("repeat 2", 3.0), repeats=True).drift is None


def test_a_first_night_compares_with_nothing() -> None:
    found = night(Row("a", 1.0), Row("b", 0.0))
    assert found.drift is None and found.before is None and (found.mean, found.rows) == (0.5, 0)


def test_a_row_that_failed_when_the_others_drifted_keeps_its_last_score() -> None:
    """Three nights, and in the last one one row changed while the other was out."""
    changed = Row.of("a", 0.2, [(0.9, ()), (0.9, ()), (0.2, {"score"})])
    came_back = Row.of("b", 0.1, [(0.8, ()), (0.8, ()), (None, {"score"})])
    found = night(changed, came_back)
    assert found.drift is not None and found.drift.kind == "score"
    assert "accuracy differs on 1 of 2 rows" in found.drift.sentence and "b: 0.8 → 0.1" in found.drift.sentence
    same = night(changed, Row.of("b", 0.8, [(0.8, ()), (None, {"score"})]))
    assert same.drift is not None and same.drift.kind == "failure"
    assert same.mean == same.before == 0.5


def test_a_night_with_drift_begins_a_reference_for_what_drifted() -> None:
    past: list[tuple[float | None, set[str]]] = [
        (1.0, set()),
        (2.0, {"score", "data"}),
        (None, {"failure"}),
        (math.nan, {"score"}),  # not measured in that night
        (None, {""}),
    ]
    row = Row.of("a", 3.0, past)
    assert row.earlier == (1.0, 2.0, None, None)
    assert (row.known, row.failures) == ([2.0], [1.0])
    assert Row.of("a", 3.0, [*past, (4.0, set()), (5.0, set())]).known == [4.0, 5.0]
    assert Row.of("a", 3.0, past[:3]).failures == [1.0] and Row.of("a", 3.0, past[:2]).failures == [0.0]


# A noisy one


def test_the_test_is_exact_where_all_patterns_can_be_counted() -> None:
    """Of 2 nights and 6 rows there are 64 patterns; p is the share whose mean or ranks are as far from 0."""
    now, then = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0], [2.0, 2.5, 1.0, 1.0, 4.0, 2.2]
    gaps = np.subtract(now, then)
    patterns = np.array(list(itertools.product((1, -1), repeat=6)))  # the first one is what was observed
    smaller = np.minimum(*(_share(np.abs(patterns @ values)) for values in (gaps, np.sign(gaps))))
    found = compare(now, [[value] for value in then])
    assert found.effect == pytest.approx(gaps.mean()) and (found.above, found.below) == (4, 2)
    assert found.p == pytest.approx(np.mean(smaller <= smaller[0] + 1e-9), abs=0.02)


def _share(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The share of all that is as large as each."""
    return (values[:, None] <= values + 1e-9).mean(axis=1)


def test_rare_extreme_values_hide_no_shift_that_nearly_all_rows_have() -> None:
    rng = np.random.default_rng(8)
    past, now = rng.standard_t(1.1, (30, 40)), rng.standard_t(1.1, 40) + 2.5
    now[7] -= 500.0
    rows = [Row(f"r{i}", now[i], tuple(past[:, i])) for i in range(40)]
    found = night(*rows, deterministic=False, goal=MILLISECONDS)
    assert found.found is not None and found.found.by_rank and found.found.effect < 0 < found.found.above
    assert found.drift is not None and "time is worse" in found.drift.sentence
    assert "above the middle on 34 and below it on 6 of 40 rows" in found.drift.sentence


def test_rows_with_different_numbers_of_earlier_nights_count_by_their_own() -> None:
    """Two rows, one with 1 earlier night and one with 3: 8 patterns, tonight's being the only one so far off."""
    found = compare([5.0, 5.0], [[0.0], [0.0, 0.0, 0.0]])
    assert found.effect == 5.0
    assert found.p == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("noise", ["binary", "heavy", "skewed"])
def test_quiet_nights_raise_no_more_alarms_than_stated(noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """900 tests at 5 %: more than 70 alarms would come once in 10,000 times. Rows differ, the noise is not Gaussian."""
    monkeypatch.setattr(permutation, "DRAWS", 999)
    rng, alarms = np.random.default_rng(1), 0
    for stream in range(300):
        centre = rng.uniform(0.5, 1, 30)
        draws = {
            "binary": (rng.random((13, 30)) < centre).astype(float),
            "heavy": centre + rng.standard_t(1.5, (13, 30)),
            "skewed": centre + rng.lognormal(0, 1.5, (13, 30)),
        }[noise]
        for last in (1, 4, 12):
            alarms += compare(list(draws[last]), draws[:last].T.tolist(), seed=stream).p <= 0.05
    assert alarms <= 70
    if noise != "binary":  # ties make the test say less
        assert alarms >= 20


def test_a_drift_of_a_tenth_is_found_and_its_size_told() -> None:
    rng = np.random.default_rng(3)
    centre = rng.uniform(0.2, 0.8, 40)
    past = centre + rng.normal(0, 0.1, (10, 40))
    rows = [Row(f"r{i}", centre[i] - 0.1 + rng.normal(0, 0.1), tuple(past[:, i])) for i in range(40)]
    found = night(*rows, deterministic=False)
    assert found.drift is not None and found.found is not None
    low, high = found.found.interval
    assert low < -0.1 < high < 0 and high - low < 0.1
    assert found.found.p <= LEVEL and found.found.smallest is not None and 0.03 < found.found.smallest < 0.1
    assert "accuracy is worse" in found.drift.sentence and "10 earlier nights" in found.drift.sentence


def test_better_is_said_by_the_direction_of_the_objective() -> None:
    rows = [Row(f"r{i}", 1.0 + i / 100, tuple(2.0 + i / 100 + j / 100 for j in range(5))) for i in range(20)]
    found = night(*rows, goal=MILLISECONDS, deterministic=False).drift
    assert found is not None and "time is better: 1.095 ms now" in found.sentence


def test_failures_that_become_frequent_are_a_drift_of_their_own() -> None:
    rng = random.Random(1)
    past = [tuple(None if rng.random() < 0.05 else 1.0 for _ in range(10)) for _ in range(40)]
    often = [Row(f"r{i}", None if i % 2 else 1.0, past[i], "error: refused") for i in range(40)]
    found = night(*often, deterministic=False)
    assert found.failed == 20 and found.mean == found.before == 1.0
    assert found.drift is not None
    assert "accuracy fails more often: on 20 of 40 rows now (r1: error: refused), on 7% before" in found.drift.sentence
    seldom = [Row(f"r{i}", None if i == 7 else 1.0, past[i]) for i in range(40)]
    assert night(*seldom, deterministic=False).drift is None


def test_what_few_rows_cannot_show_is_said() -> None:
    assert compare([1.0] * 9, [[0.0]] * 9).smallest is None  # 2 of 512 patterns: above 1 in 1000
    assert compare([0.0] * 12, [[0.0]] * 12).smallest == 0.0
    assert compare([], []).p == 1.0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12, 1e140])
def test_the_unit_changes_nothing(scale: float) -> None:
    rng = np.random.default_rng(5)
    past = rng.normal(0, 1, (4, 20))
    now = past.mean(axis=0) + 0.8
    plain = compare(list(now), past.T.tolist())
    found = compare(list(now * scale), (past.T * scale).tolist())
    assert found.p == pytest.approx(plain.p) and found.effect == pytest.approx(plain.effect * scale)
    assert found.smallest == pytest.approx((plain.smallest or 0) * scale)


@pytest.mark.parametrize(
    "now, then", [([1.0], []), ([1.0], [[]]), ([float("nan")], [[1.0]]), ([1.0], [[float("inf")]])]
)
def test_scores_that_cannot_be_compared_are_refused(now: list[float], then: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="score"):
        compare(now, then)


# The data


def rows(answers: str, start: int = 0, cluster: str = "") -> list[Example]:
    return [Example(f"e{start + i}", {"n": start + i}, cluster, "train", answer) for i, answer in enumerate(answers)]


def seen(data: list[Example]) -> dict[str, list[str]]:
    return drift.described(data, {item.id: item for item in data if item.split == "train"})


def test_rows_that_came_went_or_changed_are_counted() -> None:
    before = rows("ab" * 10)
    now = [*before[1:], Example("e1", {"n": "changed"}, answer="b"), *rows("a", start=50)]
    now.remove(before[1])
    found = drift.data(seen(before), seen(now), "n2")
    assert found is not None and found.kind == "data"
    assert found.sentence == "rows were 1 added, 1 removed, 1 changed; there are 20, and were 20"
    assert drift.data(seen(before), seen(list(reversed(before))), "n2") is None


def test_new_rows_of_another_kind_are_told() -> None:
    before = rows("ab" * 50)
    other = drift.data(seen(before), seen([*before, *rows("a" * 39 + "b", start=500)]), "n2")
    alike = drift.data(seen(before), seen([*before, *rows("ab" * 20, start=500)]), "n2")
    assert other is not None and "the answers of those that came are distributed differently" in other.sentence
    assert alike is not None and "distributed" not in alike.sentence
    gone = drift.data(seen(before), seen(before[::2]), "n2")  # all of one answer
    assert gone is not None and "the answers of those that went are distributed differently" in gone.sentence
    moved_in = drift.data(
        seen(rows("a" * 60, cluster="x")), seen(rows("a" * 60, cluster="x") + rows("a" * 60, 60, "y")), "n"
    )
    assert moved_in is not None and "the clusters of those that came" in moved_in.sentence


def test_of_held_out_rows_only_a_hash_is_kept() -> None:
    held = Example("secret-id", {"question": "secret"}, "secret-cluster", "val", "secret-answer")
    kept = drift.described([held], {})
    assert "secret" not in str(kept) and [len(entry) for entry in kept.values()] == [1]


def test_equal_distributions_are_seldom_told_apart() -> None:
    rng = random.Random(2)
    ps = [moved([rng.choice("abc") for _ in range(60)], [rng.choice("abc") for _ in range(30)]) for _ in range(200)]
    assert sum(p <= 0.05 for p in ps) <= 22
    assert moved(["a"] * 50, ["b"] * 50) == pytest.approx(1 / (1 + DRAWS)) and moved([], ["b"]) == 1.0


# The models that answered


def test_a_model_that_answers_under_another_name_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    for number, name in enumerate(("fake-1", "fake-1", "fake-2", "", None)):
        journal.append(CallStarted(number, "proposal-1", "k", number, "propose", "openai:gpt", {}, {}), time=1.0)
        reply = None if name is None else {"text": "x", "model": name}
        journal.append(CallEnded(number, reply, None if reply else {"kind": "provider"}, {}, 0.1), time=2.0)
    journal.append(CallStarted(9, "proposal-1", "k", 9, "judge", "anthropic:claude", {}, {}), time=3.0)  # cut off
    journal.close()
    found = drift.served(tmp_path / "run")
    assert found == {"openai:gpt": {"fake-1", "fake-2"}}
    assert drift.model({}, found, "n1") == []
    assert drift.model(found, {"openai:gpt": {"fake-1"}}, "n2") == []
    (told,) = drift.model({"openai:gpt": {"fake-1"}}, found, "n2")
    assert told.kind == "model"
    assert told.sentence == "openai:gpt is answered by fake-2 now, and was by fake-1"
