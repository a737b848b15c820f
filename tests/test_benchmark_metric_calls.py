"""The benchmark of metric calls: what its worlds promise, and that a run which never got there counts as such."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import metric_calls
from metric_worlds import FIRST, GOAL, KINDS, Kind, World, shown


@pytest.mark.parametrize("noisy", [True, False])
def test_the_metric_scores_what_the_world_calls_the_truth(noisy: bool) -> None:
    world = World(Kind(rate=1.0, rows=300, noisy=noisy), 3)
    text = world.child(FIRST)
    scores = [world.score(text, row) for row in range(300)]
    assert world.gain(text) > GOAL and abs(sum(scores) / 300 - world.truth(text)) < 0.1
    again = [world.score(text, row) for row in range(300)]
    assert (again == scores) is not noisy and world.calls == 600


def test_one_useful_rule_is_worth_its_step_and_useless_ones_are_worth_nothing() -> None:
    for step in (0.06, 0.12, 0.24):
        kind = Kind(rate=1.0, step=step)
        gains = [world.gain(world.child(FIRST)) for world in (World(kind, seed) for seed in range(5))]
        assert all(abs(gain - kind.worth) < 0.02 for gain in gains) and step < kind.worth < 1.2 * step
    useless = [world.gain(world.child(FIRST)) for world in (World(Kind(rate=0.0), n) for n in range(20))]
    assert max(useless) < 0.03 and any(gain == 0 for gain in useless) and min(useless) < -0.05


def test_the_same_call_adds_the_same_rule_for_either_side() -> None:
    one, other = World(KINDS[0], 1), World(KINDS[0], 1)
    assert one.child(FIRST) == other.child(FIRST) == f"{FIRST}\nRule 1."
    assert one.child(FIRST) == f"{FIRST}\nRule 2." and one.truth(FIRST) == other.truth(FIRST)
    assert [row["question"] for row in one.rows] == [row["question"] for row in other.rows]


def test_of_a_request_the_prompt_that_stands_first_is_taken() -> None:
    request = f"now:\n```\n{FIRST}\nRule 4.\nRule 9.\n```\ntried before: {FIRST}\nRule 5."
    assert shown(request) == f"{FIRST}\nRule 4.\nRule 9."
    assert shown(f'prompt =\n"{FIRST}"') == FIRST


def test_our_run_is_ended_where_the_goal_is_reached() -> None:
    found = metric_calls.ours(Kind(rate=1.0, step=0.24, noisy=False), 0, until=True)
    assert 0 < found["reached"] == found["calls"] < metric_calls.BUDGET and not found["whole"]


def run(arm: str, seed: int, reached: int, **more: Any) -> dict[str, Any]:
    out = {"world": str(KINDS[0]), "arm": arm, "seed": seed, "reached": reached, "gain": 0.0, "moved": 1}
    return {**out, "proven": 0, "proven_gain": 0.0, "whole": 1, **more}


def test_a_run_that_never_got_there_counts_as_the_longest() -> None:
    rows = [run("ours", seed, reached) for seed, reached in enumerate((100, 0, 0))]
    rows += [run("gepa", seed, reached) for seed, reached in enumerate((200, 300, 0))]
    text, lost = metric_calls.reach_table(rows)
    assert lost == 1 and "| 3 | never (100 to never) | 300 (200 to never) | 2, 1 | 1, 1 |" in text
    assert metric_calls.quartiles([0, 5, 0]) == (5, math.inf, math.inf)


def test_seeds_that_only_one_side_has_are_left_out_and_false_gains_are_counted() -> None:
    rows = [run("ours", 0, 5, gain=0.2, proven=1, proven_gain=-0.01), run("gepa", 0, 5, gain=-0.1), run("ours", 1, 5)]
    assert "| 1 | 1, 0 | 0, 1 | 1 | 1 |" in metric_calls.end_table(rows)
    assert "| 1 | 5 (5 to 5) | 5 (5 to 5) | 0, 0 | 0, 0 |" in metric_calls.reach_table(rows)[0]
