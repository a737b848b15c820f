"""Races on rows: who is measured where, and what it means."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from agent.gate.arena import FEWEST, LARGEST_SET, OUTLIVED, RENEWED, SMALLEST_SET, Arena
from agent.gate.race import Race

Score = Callable[[str, str], float]


def arena(count: int = 100, budget: float = 1000, **given: object) -> Arena:
    return Arena([f"r{n}" for n in range(count)], "old", 1, budget, **{"scale": 1.0, **given})  # type: ignore[arg-type]


def play(which: Arena, score: Score, slots: int = 1, steps: int = 10_000) -> list[tuple[str, str]]:
    """Measure until every race is decided; who won or lost, in order."""
    out = []
    for _ in range(steps):
        while (found := which.ruling()) is not None:
            challenger, ruling = found
            which.decided(challenger, ruling.decision == "promote")
            out.append((challenger, ruling.decision))
        asked = []
        while len(asked) < slots and (item := which.next(slots)) is not None:
            asked.append(item)
            which.begin(*item[:2])
        if not asked:
            return out
        for candidate, row, _ in asked:
            which.add(candidate, row, score(candidate, row))
    raise AssertionError("the races never end")


def skilled(**skills: float) -> Score:
    """1 on the share of the rows that a candidate masters; who masters more masters those too."""
    return lambda candidate, row: float(random.Random(row).random() < skills[candidate])


def test_the_race_set_is_a_thirtieth_of_the_budget_within_bounds() -> None:
    assert len(arena(1000, budget=0).race_set) == SMALLEST_SET
    assert len(arena(1000, budget=30 * 100).race_set) == 100
    assert len(arena(1000, budget=float("inf")).race_set) == LARGEST_SET
    small = arena(25)
    assert sorted(small.race_set) == sorted(small.rows), "there are no more rows"
    drawn = arena(1000).race_set
    assert len(set(drawn)) == len(drawn) and drawn != arena(1000).rows[: len(drawn)]
    assert drawn == arena(1000).race_set != Arena(arena(1000).rows, "old", 2, 1000).race_set, "the seed decides"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slots", [1, 4])
def test_what_is_better_wins_and_what_is_worse_loses(sign: int, slots: int) -> None:
    which, score = arena(sign=sign), skilled(old=0.5, good=0.9, bad=0.2)

    def signed(candidate: str, row: str) -> float:
        return sign * score(candidate, row)

    which.enter("bad")
    assert play(which, signed, slots) == [("bad", "drop")] and which.champion == "old"
    which.enter("good")
    assert play(which, signed, slots) == [("good", "promote")]
    assert which.champion == "good" and which.path == ["old", "good"]


def test_differences_are_positive_for_the_better_one_and_shares_of_the_scale() -> None:
    for sign in (1, -1):
        which = arena(sign=sign, scale=10.0)
        which.add("old", "r1", 4.0)
        which.add("new", "r1", 4.0 + 2 * sign)
        which.add("new", "r2", 9.0)
        assert which.differences("new", "old") == [pytest.approx(0.2)]
        assert which.differences("old", "new") == [pytest.approx(-0.2)]
        assert which.differences("new", "old", ["r2"]) == []


def test_an_unknown_scale_is_learned_from_the_scores() -> None:
    which = arena(scale=None)
    for row, value in (("r1", 20.0), ("r2", 25.0)):
        which.add("old", row, value)
        which.add("new", row, value + 5)
    assert which.scale == 10.0 and which.differences("new", "old") == [0.5, 0.5]


def test_a_new_champion_is_compared_on_the_rows_that_both_know() -> None:
    which, score = arena(), skilled(old=0.3, first=0.95, other=0.4)
    which.enter("first")
    which.enter("other")
    for _ in range(12):
        for name in ("first", "other"):
            candidate, row, _ = which._next(which.lanes[name], 1) or ("old", "r0", 0)
            which.add(candidate, row, score(candidate, row))
    which.decided("first", True)
    assert which.lanes["other"].dirty, "its race is judged anew"
    shared = which.scores["other"].keys() & which.scores["first"].keys()
    assert len(which.differences("other", "first")) == len(shared)
    assert play(which, score) == [("other", "drop")]


def test_champion_scores_are_measured_once() -> None:
    which, score, asked = arena(), skilled(old=0.5, a=0.1, b=0.1, c=0.1), []

    def noting(candidate: str, row: str) -> float:
        asked.append((candidate, row))
        return score(candidate, row)

    for name in "abc":
        which.enter(name)
        play(which, noting)
    assert len(set(asked)) == len(asked)


def test_each_challenger_has_an_order_of_its_own_and_leaves_out_what_was_read() -> None:
    which = arena()
    read = which.race_set[:10]
    which.enter("a")
    which.enter("b")
    which.enter("c", read)
    orders = [which.lanes[name].order for name in "abc"]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(which.race_set) and orders[0] != orders[1]
    assert sorted(orders[2]) == sorted(set(which.race_set) - set(read))


def test_who_read_almost_all_of_the_race_set_is_measured_elsewhere() -> None:
    which = arena(200)
    left = which.race_set[-3:]
    which.enter("a", which.race_set[:-3])
    order = which.lanes["a"].order
    assert len(order) == FEWEST and set(left) < set(order)
    assert set(order).isdisjoint(which.race_set[:-3])
    which.enter("all", which.rows)
    assert sorted(which.lanes["all"].order) == sorted(which.race_set), "nothing else is there; the exam will tell"


def test_slots_are_filled_by_the_oldest_races_and_never_twice() -> None:
    which = arena()
    for name in ("a", "b", "c"):
        which.enter(name)
    seen: list[tuple[str, str, int]] = []
    while len(seen) < 4 and (item := which.next(4)) is not None:
        which.begin(*item[:2])
        seen.append(item)
    assert len({item[:2] for item in seen}) == 4 and seen[0][0] == "a"
    assert which.waiting == sum(not any(item[0] == name for item in seen) for name in ("a", "b", "c"))


def test_a_champion_that_outlives_many_gets_fresh_rows_and_then_fresh_scores() -> None:
    def outlive(which: Arena, names: Iterable[str]) -> None:
        for name in names:
            which.enter(name)
            which.decided(name, False)

    which = arena(2 * SMALLEST_SET)
    before = set(which.race_set)
    outlive(which, (f"a{n}" for n in range(OUTLIVED - 1)))
    assert set(which.race_set) == before
    outlive(which, ["last"])
    assert which.sets == 2 and set(which.race_set).isdisjoint(before)
    for row in which.race_set:
        which.add("old", row, 1.0)
    outlive(which, (f"b{n}" for n in range(OUTLIVED)))
    candidate, row, replicate = which.next(1) or ("", "", 0)
    assert (candidate, replicate) == ("old", 1) and row in which.race_set
    asked = 0
    while (item := which.next(1)) is not None:
        which.begin(*item[:2])
        which.add(item[0], item[1], 0.0)
        asked += 1
    assert asked == min(RENEWED, SMALLEST_SET)
    assert which.scores["old"][row] == 0.5, "the mean of both"
    same = arena(SMALLEST_SET, repeatable=False)
    for row in same.race_set:
        same.add("old", row, 1.0)
    outlive(same, (f"a{n}" for n in range(OUTLIVED)))
    assert same.next(1) is None, "where measuring is deterministic there is nothing to learn again"


def test_a_promotion_starts_the_count_anew() -> None:
    which = arena(200)
    for n in range(OUTLIVED - 1):
        which.enter(f"a{n}")
        which.decided(f"a{n}", False)
    which.enter("new")
    which.decided("new", True)
    which.enter("b")
    which.decided("b", False)
    assert which.outlived == 1 and which.sets == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_no_anchor_may_get_worse(sign: int) -> None:
    anchor = "r99"
    for broken in (False, True):
        which = arena(sign=sign, anchors=[anchor])
        score = skilled(old=0.3, new=0.95)

        def scored(candidate: str, row: str, broken: bool = broken, score: Score = score) -> float:
            return sign * (float(candidate == "old" or not broken) if row == anchor else score(candidate, row))

        which.enter("new")
        (outcome,) = play(which, scored)
        assert outcome == ("new", "drop" if broken else "promote")
        assert anchor in which.scores["new"], "it was measured before the promotion"


def test_evidence_of_two_champions_far_apart_adds_up_step_by_step() -> None:
    which = arena(300, budget=1000)
    for number, row in enumerate(which.rows[:60]):
        which.add("old", row, 0.0)
        which.add("mid", row, float(number % 4 == 0))
    for number, row in enumerate(which.rows[60:140]):
        which.add("mid", row, 0.0)
        which.add("new", row, float(number % 2 == 0))
    which.path = ["old", "mid", "new"]
    assert which.differences("new", "old") == [], "they share no row"
    seen = which.seen("new", "old")
    first, second = which.seen("mid", "old"), which.seen("new", "mid")
    assert (first.mean, second.mean) == (0.25, 0.5) and seen.mean == pytest.approx(0.75)
    assert seen.error == pytest.approx((first.error**2 + second.error**2) ** 0.5)
    assert which.seen("mid", "old").pairs == 60 and seen.pairs == 60


def test_means_and_forgetting() -> None:
    which = arena()
    which.enter("a")
    for name in ("old", "a", "b"):
        which.add(name, "r1", 1.0)
        which.add(name, "r2", 0.0)
    assert which.means() == {"old": 0.5, "a": 0.5, "b": 0.5}
    which.forget(["old", "a", "b"])
    assert set(which.means()) == {"old", "a"}, "who races is kept"


def test_the_race_rules_with_the_test_that_it_was_given() -> None:
    class Never(Race):
        def update(self, differences: object, longest: int) -> object:  # type: ignore[override]
            raise KeyError(longest)

    which = arena(race=Never())
    which.enter("a")
    with pytest.raises(KeyError, match=str(len(which.race_set))):
        which.ruling()


@pytest.mark.parametrize(("sign", "worst"), [(1, 0.2), (-1, 7.0)])
def test_the_worst_score_so_far(sign: int, worst: float) -> None:
    arena = Arena(["a", "b", "c"], "first", 0, 100, sign=sign)
    for row, score in zip("abc", (3.0, 0.2, 7.0), strict=True):
        arena.add("first", row, score)
    assert arena.worst == worst
