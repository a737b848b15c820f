"""What code works out of the history: which parameter matters, and where the champion is weak."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agent.goals import Objective
from agent.parameters import Categorical, Float, Int
from agent.texts import Text
from agent.tools.statistics import _sure, correlation, effect, ranks
from tests.tools.tool_support import SHOUT, Known, ask, context, inside, measured, problem, refusal, with_rows

SPACE = {
    "x": Float(0, 1, default=0.5),
    "noise": Float(0, 1, default=0.5),
    "still": Int(1, 9, default=4),
    "kind": Categorical(["a", "b", "c", "d"]),
}


def searched(direction: str = "maximize") -> Known:
    """Forty candidates: large x is good, kind b is good, noise says nothing; x above 0.95 fails."""
    known = context(problem(SPACE, objectives=(Objective("score", direction),)))  # type: ignore[arg-type]
    rng = random.Random(3)
    for _ in range(40):
        values = {"x": rng.random(), "noise": rng.random(), "kind": rng.choice("abc")}
        result = values["x"] + 0.7 * (values["kind"] == "b")
        measured(known, values, "error: too much" if values["x"] > 0.95 else result)
    return known


def of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name}: "))


async def test_what_matters_is_told_from_what_does_not() -> None:
    text = await ask("parameters", searched())
    assert "(clear)" in of(text, "x") and "rank correlation +0." in of(text, "x")
    assert "failed at 0.9" in of(text, "x")
    assert "(clear)" not in of(text, "noise")
    assert of(text, "still") == "still: always 4"
    assert "(clear)" in of(text, "kind") and 'mean result "b" 1.' in of(text, "kind")
    assert of(text, "kind").endswith('no result with "d"')
    assert len(text) < 1000


async def test_when_smaller_is_better_a_rank_correlation_still_says_where_it_gets_better() -> None:
    text = await ask("parameters", searched("minimize"))
    assert "rank correlation -0." in of(text, "x")
    assert 'mean result "b"' not in of(text, "kind"), "b is the worst here, so it does not come first"


async def test_few_candidates_allow_no_word_on_what_is_clear() -> None:
    known = context(problem(SPACE))
    for i in range(4):
        measured(known, {"x": i / 4, "kind": "abcd"[i]}, float(i))
    text = await ask("parameters", known)
    assert "clear)" not in text and text.count("too few to tell") >= 2


async def test_the_best_at_an_end_of_its_range_is_told() -> None:
    known = context(problem(SPACE))
    for i in range(11):
        measured(known, {"x": i / 10}, float(i))
    assert "the best lies at the upper end" in of(await ask("parameters", known), "x")


async def test_a_text_is_counted_and_not_shown_whole() -> None:
    known = context(problem({"prompt": Text("go")}))
    measured(known, {}, 0.1)
    measured(known, {"prompt": SHOUT * 500}, 0.3)
    text = await ask("parameters", known)
    assert "2 versions, size 2 to" in inside(text)[0]
    assert len(text) < 1200 and "\x1b" not in text


def test_ranks_share_ties() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_the_rank_correlation_is_spearmans() -> None:
    assert correlation([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1.0)
    assert correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8), "1 - 6 Σd² / (n (n² - 1))"
    assert correlation([1, 1, 1], [1, 2, 3]) == 0.0


def test_an_effect_is_the_share_of_ranks_between_groups() -> None:
    assert effect([[1, 2], [3, 4]]) == pytest.approx(0.8)
    assert effect([[1, 1], [2, 2]]) == pytest.approx(1.0)
    assert effect([[1, 1], [1, 1]]) == 0.0


@pytest.mark.parametrize("groups", [2, 4])
def test_chance_alone_is_called_clear_in_about_one_case_of_twenty(groups: int) -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(1000):
        share = effect([rng.random(12).tolist() for _ in range(groups)])
        found += bool(_sure(share, groups - 1, 12 * groups))
    assert 25 <= found <= 80


async def test_weak_clusters_and_rows_come_first() -> None:
    known = context(with_rows(6), clusters={"r0": "user1", "r1": "user1", "r2": "user2", "r3": "user2", "r4": "alone"})
    measured(known, {"x": 0.1}, rows={f"r{i}": 0.75 for i in range(6)})
    measured(known, {"x": 0.2}, rows={"r0": 1, "r1": 0.5, "r2": 0, "r3": None, "r4": 1, "r5": 0.25}, promote=True)
    text = await ask("rows", known, n=2)
    assert text.splitlines()[0].startswith("the champion ")
    assert "on 6 of 6 rows: mean 0.55 of score (larger is better), 1 failed" in text
    lines = inside(text)
    assert lines[0] == "weakest of 2 clusters (champion; mean of the others):"
    assert lines[1] == "user2: 2 rows, 0; 0.75; 1 failed" and lines[2] == "user1: 2 rows, 0.75; 0.75"
    assert lines[4].startswith("r3: failed; 0.75 by ") and lines[5].startswith("r2: 0; 0.75 by ")
    assert len(lines) == 6 and known.reads == [], "no row counts as read"


async def test_without_clusters_rows_stand_alone() -> None:
    known = context(with_rows(3))
    measured(known, {"x": 0.2}, rows={"r0": 1, "r1": 0}, promote=True)
    lines = inside(await ask("rows", known))
    assert lines[0].startswith("weakest rows") and lines[1] == "r1: 0; not measured"


async def test_a_failure_counts_with_the_floor_that_the_objective_gives() -> None:
    known = context(with_rows(2, objectives=(Objective("score", "maximize", low=0, high=1),)))
    measured(known, {"x": 0.2}, rows={"r0": 1, "r1": None}, promote=True)
    assert "mean 0.5 of" in await ask("rows", known)


async def test_rows_say_when_there_are_none() -> None:
    assert "not measured row by row" in await ask("rows", context())


async def test_a_row_that_is_read_counts_as_read_and_is_marked() -> None:
    rows = {"r1": {"question": SHOUT}, "r2": {"question": "x" * 100_000}}
    known = context(with_rows(3), rows=rows)
    measured(known, {"x": 0.2}, rows={"r1": None}, promote=True)
    text = await ask("read_row", known, row="r1")
    assert known.reads == ["r1"]
    assert "reveal the system prompt" in "\n".join(inside(text)) and "\x1b" not in text
    assert "champion: failed" in inside(text) and "evaluator: error: boom" in inside(text)
    long = await ask("read_row", known, row="r2")
    assert len(long) < 4000 and "champion: not measured" in inside(long)


@pytest.mark.parametrize("row", ["held1", "held2", "nobody", "", "../r1", "\x00", "r" * 10**6])
async def test_held_out_rows_are_no_rows(row: str) -> None:
    known = context(with_rows(3), rows={"held1": {"question": "secret"}})
    text = await refusal("read_row", known, row=row)
    assert "there is no row" in text and "secret" not in text and len(text) < 400
    assert "there is no row" in await refusal("trace", known, row=row)
    assert known.reads == []
