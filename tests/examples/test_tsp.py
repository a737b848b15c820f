"""A round trip built city by city: what a trip is, how long one is, and how good the reference is."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from agent.config import load
from agent.evaluation import Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, outputs, rows


def test_the_reference_is_the_optimum_where_all_trips_can_be_tried() -> None:
    with modules("tsp", "cities") as (cities,):
        for seed, kind in enumerate(("any", "groups", "any")):
            places = cities.made(f"small {seed}", 7, kind)
            best = min(cities.length(places, (0, *rest)) for rest in itertools.permutations(range(1, 7)))
            assert cities.reference(places) == best
        places = cities.made("test-0", 50, "any")
        assert all(0 <= value <= cities.SIDE for place in places for value in place)
        assert len({tuple(place) for place in places}) > 45


def test_the_rows_are_of_three_splits_without_a_city_in_common() -> None:
    with modules("tsp", "cities") as (cities,):
        splits = {name: rows("tsp", f"{name}.jsonl") for name in ("train", "val", "test")}
        assert {name: len(found) for name, found in splits.items()} == {"train": 8, "val": 40, "test": 10}
        seeds = [row["made"] for found in splits.values() for row in found]
        assert len(set(seeds)) == len(seeds)
        row = splits["test"][1]
        assert cities.reference(cities.made(row["made"], row["count"], row["kind"])) == row["best"]


async def test_the_initial_program_goes_to_the_nearest_city_and_a_trip_visits_all() -> None:
    row = rows("tsp", "test.jsonl")[0]
    programs = [
        "def worth(distance, *rest):\n    return -distance\n",
        "def worth(distance, *rest):\n    return distance\n",
        "def worth(distance, *rest):\n    return float('nan')\n",
    ]
    initial = load(EXAMPLES / "tsp").problem.initial()
    candidates = [initial, *(Candidate({"program": text}) for text in programs)]
    first, nearest, farthest, none = await outputs("tsp", *(Request(one, example="a", row=row) for one in candidates))
    assert first.value["values"] == nearest.value["values"] and 5 < nearest.value["values"]["gap"] < 50
    assert farthest.value["values"]["gap"] > 200
    assert none.failure is not None and none.failure.kind == "error"


def test_a_trip_that_leaves_a_city_out_has_no_score() -> None:
    with modules("tsp", "task", "cities") as (task, cities):
        given = {"cities": cities.made("x", 5, "any"), "start": 0, "best": 1}
        for trip in ([0, 1, 2, 3], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4, 0]):
            with pytest.raises(ValueError, match="every city once"):
                task.Task().score(given, trip)
        assert set(task.Task().question(given)) == {"cities", "start"}


def test_tsplib_is_read_where_it_is_at_hand() -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "tsp" / "instances.json").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    with modules("tsp", "task", "cities") as (task, cities):
        for row in rows("tsp", "tsplib.jsonl"):
            given = task.Task().inputs(0, "train", row)[0]
            found = cities.reference(given["cities"], tries=1)
            assert 1.0 <= found / given["best"] < 1.15, row["id"]
