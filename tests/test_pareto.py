"""The Pareto front: what no other candidate beats in everything, how much it covers, and how it is shown."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api import optimize
from agent.cli.front import ticks
from agent.errors import ConfigError
from agent.goals import Constraint, Goals, Objective
from agent.history import Trial
from agent.parameters import Float
from agent.pareto import crowding, dominates, front, hypervolume, nondominated, several
from agent.space import Candidate
from tests.cli_helpers import Ran, call, folder

GRID = st.integers(0, 6).map(float)


def clouds(low: int = 2, high: int = 5, most: int = 7) -> st.SearchStrategy[list[tuple[float, ...]]]:
    """Points with 2 to 5 objectives on a coarse grid, so that ties and copies are common."""
    return st.integers(low, high).flatmap(lambda k: st.lists(st.tuples(*[GRID] * k), max_size=most))


def by_inclusion(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """The volume of a union of boxes, from the volumes of all their intersections."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            corner = [max(column) for column in zip(*chosen, strict=True)]
            total += (-1) ** (size + 1) * math.prod(max(0.0, r - c) for c, r in zip(corner, reference, strict=True))
    return total


def trial(number: int, feasible: bool = True, **values: float) -> Trial:
    """A measured trial; without values one that failed."""
    candidate = Candidate({"n": number})
    if not values:
        return Trial(candidate, number, number, "test", state="failed")
    return Trial(candidate, number, number, "test", state="dropped", values=values, count=1, feasible=feasible)


TWO = Goals((Objective("speed", "maximize"), Objective("loss", unit="ms")))


# ---------------------------------------------------------------- dominance


def test_who_is_nowhere_worse_and_somewhere_better_dominates() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((1, 3), (2, 2))


def test_copies_of_a_point_stay_together() -> None:
    assert nondominated([(3, 3), (1, 2), (2, 1), (1, 2), (1, 4)]) == [1, 2, 3]
    assert nondominated([]) == []


@given(clouds())
def test_a_point_is_kept_exactly_when_nothing_dominates_it(points: list[tuple[float, ...]]) -> None:
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)]
    assert nondominated(points) == expected


# ---------------------------------------------------------------- hypervolume


def test_areas_and_volumes_that_can_be_counted_by_hand() -> None:
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (4, 4)) == 6.0
    assert hypervolume([(0, 0, 0)], (2, 3, 4)) == 24.0
    assert hypervolume([(0, 1, 1), (1, 0, 1), (1, 1, 0)], (2, 2, 2)) == 4.0
    assert hypervolume([(1.0,), (0.25,)], (1.5,)) == 1.25
    assert hypervolume([], (1, 1)) == 0.0


def test_what_lies_beyond_the_reference_adds_nothing() -> None:
    assert hypervolume([(1, 5), (5, 1), (4, 0), (2, 2)], (4, 4)) == 4.0


@settings(max_examples=200)
@given(clouds(), st.integers(4, 7).map(float))
def test_it_is_the_volume_of_the_union_of_boxes(points: list[tuple[float, ...]], edge: float) -> None:
    reference = (edge,) * (len(points[0]) if points else 2)
    inside = [point for point in points if all(x < edge for x in point)]
    assert hypervolume(points, reference) == pytest.approx(by_inclusion(inside, reference))


@given(clouds(most=12), st.randoms(use_true_random=False))
def test_order_copies_and_dominated_points_do_not_matter(points: list[tuple[float, ...]], rng: random.Random) -> None:
    reference = (7.0,) * (len(points[0]) if points else 2)
    whole = hypervolume(points, reference)
    shuffled = [*points, *points[:2]]
    rng.shuffle(shuffled)
    assert hypervolume(shuffled, reference) == pytest.approx(whole)
    assert hypervolume([points[i] for i in nondominated(points)], reference) == pytest.approx(whole)
    assert hypervolume(points[:-1], reference) <= whole + 1e-9


@pytest.mark.parametrize("size", [3, 4, 5])
def test_many_points_agree_with_counting_random_ones(size: int) -> None:
    rng = random.Random(size)
    points = [tuple(rng.random() for _ in range(size)) for _ in range(25)]
    draws = [tuple(rng.random() for _ in range(size)) for _ in range(4000)]
    hits = sum(any(all(x <= y for x, y in zip(p, draw, strict=True)) for p in points) for draw in draws)
    assert hypervolume(points, (1.0,) * size) == pytest.approx(hits / len(draws), abs=0.03)


def test_sixty_points_of_five_objectives_take_a_moment() -> None:
    rng = random.Random(1)
    sphere = []
    for _ in range(60):
        raw = [abs(rng.gauss(0, 1)) for _ in range(5)]
        sphere.append([x / math.hypot(*raw) for x in raw])  # none of them dominates another one
    assert len(nondominated(sphere)) == 60
    began = time.process_time()
    assert 0 < hypervolume(sphere, (1.1,) * 5) < 1.1**5
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("points", "reference"), [([(1, 2, 3)], (4, 4)), ([(1,) * 6], (2,) * 6), ([], ()), ([(1, 2)], (4, 4, 4))]
)
def test_shapes_that_do_not_fit_are_refused(points: Any, reference: Any) -> None:
    with pytest.raises(ValueError, match=r"objectives|coordinates"):
        hypervolume(points, reference)


# ---------------------------------------------------------------- crowding


def test_crowding_is_the_neighbours_distance_in_shares_of_the_range() -> None:
    gaps = crowding([(0, 10), (1, 6), (4, 5), (10, 0)])
    assert gaps == [math.inf, pytest.approx(0.4 + 0.5), pytest.approx(0.9 + 0.6), math.inf]


def test_crowding_of_few_or_equal_points() -> None:
    assert crowding([]) == []
    assert crowding([(1, 1)]) == [math.inf]
    assert crowding([(1, 1), (1, 1), (1, 1)]) == [math.inf, 0.0, math.inf]


# ---------------------------------------------------------------- the front of a history


def test_directions_count_and_failures_do_not() -> None:
    trials = [
        trial(0, speed=1.0, loss=5.0),
        trial(1, speed=3.0, loss=6.0),
        trial(2, speed=0.5, loss=5.5),  # slower and lossier than 0
        trial(3, feasible=False, speed=9.0, loss=0.0),
        trial(4),
    ]
    found = front(TWO, trials)
    assert [t.number for t in found.trials] == [1, 0]
    assert trials[1] in found and trials[2] not in found and trials[4] not in found


def test_the_default_reference_lies_one_percent_beyond_the_worst() -> None:
    found = front(TWO, [trial(0, speed=1.0, loss=5.0), trial(1, speed=3.0, loss=6.0), trial(2, speed=2.0, loss=9.0)])
    assert found.reference == {"speed": pytest.approx(0.98), "loss": pytest.approx(9.04)}
    expected = hypervolume([(-3.0, 6.0), (-1.0, 5.0)], (-0.98, 9.04))
    assert found.hypervolume == pytest.approx(expected)
    assert found.share == pytest.approx(expected / (2.02 * 4.04))


def test_a_reference_of_ones_own_is_in_the_objectives_units() -> None:
    found = front(TWO, [trial(0, speed=3.0, loss=5.0)], {"speed": 1, "loss": 9.0})
    assert (found.hypervolume, found.share) == (8.0, 1.0)
    assert front(TWO, [trial(0, speed=3.0, loss=5.0)], {"speed": 4, "loss": 9.0}).hypervolume == 0.0


@pytest.mark.parametrize(
    "reference", [{"speed": 1.0}, {"speed": 1.0, "loss": math.nan}, {"speed": 1.0, "loss": "9"}, {"size": 1.0}]
)
def test_a_reference_that_is_none_is_refused(reference: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="reference") as caught:
        front(TWO, [trial(0, speed=3.0, loss=5.0)], reference)
    assert caught.value.hint


def test_one_trial_or_none_or_no_spread_has_a_front_too() -> None:
    assert front(TWO, []).to_json() == {
        "reference": {"speed": 0.0, "loss": 0.0},
        "hypervolume": 0.0,
        "share": 0.0,
        "trials": [],
    }
    same = front(TWO, [trial(0, speed=0.0, loss=2.0), trial(1, speed=0.0, loss=2.0)])
    assert same.share == 1.0 and len(same.trials) == 2
    assert json.dumps(same.to_json(), allow_nan=False)


def test_huge_values_do_not_break_it() -> None:
    found = front(
        Goals(tuple(Objective(n) for n in "abcde")), [trial(i, **dict.fromkeys("abcde", i * 1e150)) for i in (0, 1)]
    )
    assert found.hypervolume is None and found.share == pytest.approx(1.0)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_one_objective_and_six_have_no_front() -> None:
    for names in ("a", "abcdef"):
        with pytest.raises(ConfigError, match="2 to 5 objectives") as caught:
            front(Goals(tuple(Objective(name) for name in names)), [])
        assert caught.value.hint


def test_a_proposer_for_several_objectives_names_others_for_one() -> None:
    assert several(TWO, "parego") == 2
    with pytest.raises(ConfigError, match="parego weighs several objectives") as caught:
        several(Goals((Objective("loss"),)), "parego")
    assert "gp" in caught.value.hint


# ---------------------------------------------------------------- results and pictures


def measure(candidate: Any) -> dict[str, float]:
    x, y = candidate["x"], candidate["y"]
    return {"speed": 1 - x, "loss": (1 + y) * (1 - math.sqrt(x / (1 + y))), "size": y}


def test_a_result_with_several_objectives_tells_its_front(tmp_path: Path) -> None:
    result = optimize(
        measure,
        space={"x": Float(0, 1), "y": Float(0, 1)},
        objectives=[Objective("speed", "maximize"), Objective("loss")],
        constraints=[Constraint("size", max=0.9)],
        deterministic=True,
        budget=15,
        model=None,
        runs=tmp_path,
        options={"proposer": "random"},
    )
    found = result.front
    assert found is not None and all(t.feasible for t in found.trials)
    assert json.loads((result.folder / "summary.json").read_text())["front"] == found.to_json()


def test_a_result_with_one_objective_has_none(tmp_path: Path) -> None:
    result = optimize(
        "agent.testing:square", space={"x": Float(-1, 1)}, deterministic=True, budget=3, model=None, runs=tmp_path,
        options={"proposer": "random"},
    )  # fmt: skip
    assert result.front is None and "front" not in result.to_json()


TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.x]
type = "float"
low = 0
high = 1

[space.y]
type = "float"
low = 0
high = 1

[[objectives]]
name = "speed & <more>"
direction = "maximize"

[[objectives]]
name = "loss"
unit = "ms"

[[constraints]]
name = "size"
max = 0.8

[budget]
evaluations = 25

[proposer]
name = "random"
"""

EVALUATE = """
import math

def measure(candidate):
    x, y = candidate["x"], candidate["y"]
    return {"speed & <more>": 1 - x, "loss": (1 + y) * (1 - math.sqrt(x / (1 + y))), "size": y}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two objectives, and one of a single objective."""
    where = tmp_path_factory.mktemp("fronts")
    assert call("run", folder(where / "two", TOML, EVALUATE), cwd=where).code == 0
    assert call("run", folder(where / "one"), "--runs", where / "single", cwd=where).code == 0
    return where


def show(place: Path, *more: object) -> Ran:
    return call("show", "last", "--front", *more, cwd=place)


def test_show_front_prints_the_table_and_says_what_it_is_worth(place: Path) -> None:
    ran = show(place)
    assert ran.code == 0
    assert "SPEED & <MORE>" in ran.out and "Hypervolume" in ran.out
    assert "only what the gate claims is shown to hold" in ran.out


def test_show_front_as_json(place: Path) -> None:
    plain = show(place, "--json").json
    assert {"run", "reference", "hypervolume", "share", "trials", "sentence"} <= set(plain)
    chosen = show(place, "--json", "--reference", "speed & <more>=0", "--reference", "loss=3").json
    assert chosen["reference"] == {"speed & <more>": 0.0, "loss": 3.0}


def marks(path: Path) -> dict[str, int]:
    """How many of each kind of mark a picture has, its legend left out."""
    tree = ET.parse(path)
    kinds = [item.get("class") for item in tree.iter() if item.get("class")]
    return {kind: kinds.count(kind) - 1 for kind in ("infeasible", "feasible", "front", "initial", "best")}


def test_the_picture_is_well_formed_and_shows_every_candidate(place: Path) -> None:
    ran = show(place, "--json", "--plot", "front.svg")
    drawn = marks(place / "front.svg")
    assert drawn["front"] == len(ran.json["trials"])
    assert (drawn["initial"], drawn["best"]) == (1, 1)
    measured = call("show", "last", "--json", cwd=place).json["candidates"]
    assert drawn["infeasible"] > 0 and sum(drawn[kind] for kind in ("infeasible", "feasible", "front")) == measured
    words = "".join(ET.parse(place / "front.svg").getroot().itertext())
    assert "speed & <more>, higher is better" in words and "loss (ms), lower is better" in words


def points_of(path: Path) -> list[tuple[float, float]]:
    (line,) = [item for item in ET.parse(path).iter() if item.get("class") == "edge"]
    return [tuple(map(float, pair.split(","))) for pair in str(line.get("points")).split()]  # type: ignore[misc]


@pytest.mark.parametrize("axes", ["speed & <more>,loss", "loss,speed & <more>"])
def test_the_edge_runs_through_the_front_and_dominates_all_other_points(place: Path, axes: str) -> None:
    assert show(place, "--plot", "edge.svg", "--axes", axes).code == 0
    edge = points_of(place / "edge.svg")
    # On the page, speed is better to the right (or up), loss is better to the left (or down).
    right, up = (1, 1) if axes.startswith("speed") else (-1, -1)
    circles = [item for item in ET.parse(place / "edge.svg").iter() if item.get("class") in ("feasible", "front")]
    spots = [(float(str(c.get("cx"))), float(str(c.get("cy")))) for c in circles]
    spots = [(right * a, up * b) for a, b in spots if a < 541]  # larger is better now; the legend is further right
    for x, y in ((right * a, up * b) for a, b in edge[1::2]):  # the inner corners
        assert any(a > x - 0.2 and b > y - 0.2 for a, b in spots), "a corner that nothing dominates"
        assert not any(a > x + 0.2 and b > y + 0.2 for a, b in spots), "a point on the far side of the edge"


def test_show_front_of_one_objective_says_what_it_needs(place: Path) -> None:
    ran = call("show", "last", "--front", "--runs", "single", cwd=place)
    assert ran.code == 2 and "2 to 5 objectives" in ran.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--plot", "x.svg", "--axes", "loss,loss"),
        ("--plot", "x.svg", "--axes", "loss"),
        ("--plot", "x.svg", "--axes", "loss,size"),
        ("--axes", "loss,speed & <more>"),
        ("--reference", "loss"),
        ("--reference", "loss=high"),
        ("--reference", "loss=1"),
        ("--reference", "size=1"),
        ("--gate",),
        ("--plot", "missing/x.svg"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused(place: Path, wrong: tuple[str, ...]) -> None:
    ran = show(place, *wrong)
    assert ran.code == 2 and ran.err.startswith("truegain: ")
    assert not (place / "x.svg").exists()


def test_front_options_without_front_are_refused(place: Path) -> None:
    for wrong in (("--reference", "loss=1"), ("--axes", "a,b"), ("--plot", "x.svg")):
        assert call("show", "last", *wrong, cwd=place).code == 2


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.03, 0.011), (1000.1, 1000.2), (1e-9, 3e-9), (-5e150, 5e150)])
def test_ticks_are_few_round_and_told_apart(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low <= value <= high for value, _ in found)
    assert len({words for _, words in found}) == len(found)
