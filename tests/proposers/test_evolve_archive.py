"""The archive of elites, its grid, and what a program looks like in numbers."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from agent.evolution.archive import Archive, Elite
from agent.evolution.features import features
from agent.evolution.grid import SAMPLE, Axis, Cell, Grid


def grid(bins: int = 4) -> Grid:
    return Grid([Axis.even("x", 0.0, 4.0, bins)])


def elite(name: str, cost: float, x: float = 0.5, **more: object) -> Elite:
    return Elite(name, int(name[1:]) if name[1:] else 0, cost, {"x": x}, **more)  # type: ignore[arg-type]


def test_a_cell_keeps_its_best_whatever_the_sign_of_the_costs() -> None:
    archive = Archive(grid())
    assert archive.add(elite("a1", -5.0))
    assert not archive.add(elite("a2", -4.0))
    assert not archive.add(elite("a3", -5.0)), "the older one of equals stays"
    assert archive.add(elite("a4", -6.0))
    assert archive.add(elite("a5", 900.0, x=3.5)), "another cell"
    assert [item.candidate for item in archive.best(9)] == ["a4", "a5"]
    assert "a1" not in archive


def test_of_equals_the_shorter_one_stays_and_who_breaks_less_is_better() -> None:
    archive = Archive(grid())
    archive.add(elite("a1", 1.0, size=50))
    assert archive.add(elite("a2", 1.0, size=40))
    assert not archive.add(elite("a3", -100.0, size=1, violated=1))
    other = Archive(grid())
    other.add(elite("a1", -100.0, violated=2))
    assert other.add(elite("a2", 100.0, violated=1))


def test_who_is_measured_again_has_its_new_cost() -> None:
    archive = Archive(grid())
    archive.add(elite("a1", -9.0))
    archive.add(elite("a2", 0.0, x=2.5))
    assert archive.top is not None and archive.top.candidate == "a1"
    archive.add(elite("a1", 5.0))
    assert archive.top is not None and archive.top.candidate == "a2"
    assert len(archive) == 2


def test_who_was_convicted_is_out_and_draws_go_on() -> None:
    archive = Archive(grid())
    for number in range(4):
        archive.add(elite(f"a{number}", float(number), x=number + 0.5))
    assert archive.remove("a0")
    assert not archive.remove("a0")
    rng = random.Random(1)
    assert {archive.draw(rng).candidate for _ in range(100)} == {"a1", "a2", "a3"}
    assert archive.top is not None and archive.top.candidate == "a1"
    assert {archive.tournament(rng, 50).candidate for _ in range(20)} == {"a1"}


def test_an_empty_archive_has_no_best_and_nothing_to_draw() -> None:
    archive = Archive(grid())
    assert archive.top is None
    assert archive.near((0,), random.Random(0)) is None
    with pytest.raises(ValueError, match="empty range"):
        archive.draw(random.Random(0))


def test_travellers_do_not_travel_on() -> None:
    archive = Archive(grid())
    archive.add(elite("a1", 1.0))
    archive.add(elite("a2", 0.0, x=1.5, migrant=True))
    assert [(item.candidate, item.migrant) for item in archive.migrants(5)] == [("a1", True)]


def test_fixed_edges_have_open_outer_bins() -> None:
    axis = Axis.even("x", 0.0, 4.0, 4)
    assert [axis.bin(value) for value in (-9.0, 0.0, 0.99, 1.0, 3.5, 4.0, 1e9)] == [0, 0, 0, 1, 3, 3, 3]
    assert Grid([axis]).cell({"x": float("nan")}) == Grid([axis]).cell({}) == (0,)


def test_quantile_edges_are_set_once_and_never_move() -> None:
    space = Grid([Axis("x", 4)])
    rng = random.Random(3)
    told = [space.see({"x": rng.gauss(0, 1)}) for _ in range(SAMPLE)]
    assert told == [False] * (SAMPLE - 1) + [True]
    edges = space.axes[0].edges
    assert edges is not None and len(edges) == 3 and list(edges) == sorted(edges)
    assert not any(space.see({"x": 1000.0 + number}) for number in range(500))
    assert space.axes[0].edges == edges


def test_when_the_edges_are_set_all_are_filed_anew() -> None:
    space = Grid([Axis("x", 4)])
    archive = Archive(space)
    archive.add(elite("a1", 1.0, x=-2.0))
    archive.add(elite("a2", 0.0, x=2.0))
    assert len(archive) == 1, "before, there is one cell"
    while not space.see({"x": random.Random(len(space.axes[0]._seen)).uniform(-3, 3)}):
        pass
    archive.refile()
    assert {item.candidate for item in archive} == {"a1", "a2"}, "who was not the best of the one cell as well"
    assert archive.add(elite("a3", 0.5, x=-2.5))
    assert {item.candidate for item in archive} == {"a2", "a3"}


def test_what_came_before_the_edges_is_filed_as_if_they_had_been_there() -> None:
    rng = random.Random(0)
    space = Grid([Axis("x", 6), Axis.even("y", 0, 1, 3)])
    archive, known = Archive(space), {}
    for number in range(SAMPLE):
        made = Elite(f"c{number}", number, rng.random(), {"x": float(rng.randrange(30)), "y": rng.random()})
        known[made.candidate] = made
        if space.see(made.descriptor):
            archive.refile()
        archive.add(made)
        if number == 30:
            convicted = archive.best()[0].candidate
            archive.remove(convicted)
            del known[convicted]
            lucky = next(name for name in known if archive.find(name) is not None)
            known[lucky] = replace(known[lucky], cost=2.0)
            archive.add(known[lucky])
    best: dict[Cell, Elite] = {}
    for made in known.values():
        cell = space.cell(made.descriptor)
        if cell not in best or made.rank < best[cell].rank:
            best[cell] = made
    assert len(best) > 12
    assert {item.candidate for item in archive} == {item.candidate for item in best.values()}


def test_who_waits_for_the_edges_is_measured_again_or_convicted_like_others() -> None:
    space = Grid([Axis("x", 4)])
    archive = Archive(space)
    for name, cost, x in (("a1", 1.0, -2.0), ("a2", 0.0, 2.0), ("a3", 0.5, -2.1)):
        archive.add(elite(name, cost, x=x))
    assert "a1" in archive and archive.find("a1") is not None and len(archive) == 1
    archive.add(elite("a3", 3.0, x=-2.1))
    assert not archive.remove("a9") and archive.remove("a2")
    while not space.see({"x": random.Random(len(space.axes[0]._seen)).uniform(-3, 3)}):
        pass
    archive.refile()
    assert [item.candidate for item in archive] == ["a1"]


def test_what_it_takes_does_not_grow_with_what_came_by() -> None:
    archive = Archive(Grid([Axis.even("x", 0, 1, 30), Axis.even("y", 0, 1, 30)]))
    rng = random.Random(0)

    def spent(count: int) -> float:
        began = time.process_time()
        for number in range(count):
            archive.add(Elite(f"c{rng.random()}", number, rng.random(), {"x": rng.random(), "y": rng.random()}))
            archive.tournament(rng, 3)
            assert archive.top is not None
        return time.process_time() - began

    spent(2000)  # the cells fill up
    early = min(spent(1000) for _ in range(3))
    spent(20_000)
    assert min(spent(1000) for _ in range(3)) < 3 * early


def test_features_count_what_a_program_does() -> None:
    text = "def solve(x):\n    for i in range(3):\n        if i and x > 2:\n            x += abs(i)\n"
    text += "    return [n for n in (x, 1)]\n"
    found = features({"": text}, initial=len(text)).numbers
    assert (found["loops"], found["branches"], found["calls"], found["functions"]) == (2, 2, 2, 1)
    assert found["control"] == 4
    assert found["length"] == 0.0
    assert features({"": text * 2}, initial=len(text)).numbers["length"] == pytest.approx(1.0, abs=0.02)


def test_a_skeleton_leaves_out_numbers_and_nothing_else() -> None:
    def skeleton(text: str, path: str = "") -> str:
        return features({path: text}).skeleton

    one = skeleton("def f(x):\n    return x * 3 + 0.5\n")
    assert one == skeleton("def f(x):\n    # words\n    return x * 4e9 + 2\n")
    for other in ("return x * 3 - 0.5", "return y * 3 + 0.5", "return x * 3 + '0.5'", "return x * 3 + True"):
        assert one != skeleton(f"def f(x):\n    {other}\n"), other
    assert skeleton("a(b, c)") != skeleton("a(b)(c)")
    assert skeleton("no python (", "main.c") == skeleton("no python (", "main.c") != skeleton("other", "main.c")


@pytest.mark.parametrize("text", ["(" * 2000, "\0", "def f(:", "x" * 300_000, "\ud800"], ids=lambda text: text[:3])
def test_what_does_not_parse_has_a_length_all_the_same(text: str) -> None:
    assert features({"": text}, initial=10).numbers["chars"] == len(text)
