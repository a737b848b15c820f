"""The strict comparison: it errs as rarely as it says, sees what is there, and says it in words."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evaluators.function import FunctionEvaluator
from agent.gate.evidence import pairs_needed
from agent.gate.exam import GAIN, LEVEL, PAIRS, Plan, compare, examine, plan, reserve
from agent.gate.levels import weight
from agent.gate.pairs import Pairs
from agent.gate.verdict import Verdict
from agent.goals import Constraint, Direction, Objective
from agent.parameters import Float
from agent.problem import Example, Problem
from agent.space import Space

SIGNS: dict[Direction, int] = {"minimize": -1, "maximize": 1}
FINE, BROKEN = {"value": 5.0, "size": 0.0}, {"value": 5.0, "size": 2.0}


def problem(direction: Direction = "minimize", deterministic: bool = False, rows: int = 0, **goal: Any) -> Problem:
    return Problem(
        name="exam",
        space=Space({"x": Float(0, 1)}),
        evaluator=FunctionEvaluator("evaluate:measure", names=("value",), folder=Path("/nowhere")),
        objectives=(Objective("value", direction, **goal),),
        constraints=(Constraint("size", max=1),),
        data=tuple(Example(str(number), None) for number in range(rows)),
        deterministic=deterministic,
    )


def held(
    which: Problem,
    after: list[float | None],
    before: list[float | None],
    level: float = LEVEL,
    champion: Mapping[str, float] | None = FINE,
    released: Mapping[str, float] | None = FINE,
    mended: tuple[int, int] = (0, 0),
) -> Verdict:
    """The verdict on these pairs; in the first `mended` of them only the new candidate keeps the constraint."""
    race = Pairs("new", "old", len(after), len(after))
    for number, (new, old) in enumerate(zip(after, before, strict=True)):
        sizes = (0.0, 2.0) if number < mended[0] else (2.0, 0.0) if number < sum(mended) else (0.0, 0.0)
        race.add(number, "new", None if new is None else {"value": new, "size": sizes[0]})
        race.add(number, "old", None if old is None else {"value": old, "size": sizes[1]})
    return examine(which, race, Plan(len(after), level), champion, released)


def accepted(
    draw: Callable[[random.Random], tuple[float, float]], worlds: int, level: float = LEVEL, **goal: Any
) -> float:
    """Share of accepted exams, each of PAIRS pairs (after, before) drawn from a world."""
    rng, which, count = random.Random(11), problem(**goal), 0
    for _ in range(worlds):
        after, before = zip(*(draw(rng) for _ in range(PAIRS)), strict=True)
        count += held(which, list(after), list(before), level).accepted
    return count / worlds


NULL_WORLDS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(10, 1),
    "heavy tails": lambda rng: 10 + rng.gauss(0, 1) / max(1e-9, abs(rng.gauss(0, 1))),
    "skewed": lambda rng: rng.expovariate(1.0),
    "ties": lambda rng: float(rng.randint(0, 1)),
}


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("name", NULL_WORLDS)
def test_where_nothing_is_gained_it_errs_no_more_often_than_its_level(name: str, level: float) -> None:
    worlds, one = 1500, NULL_WORLDS[name]
    share_wrong = accepted(lambda rng: (one(rng), one(rng)), worlds, level)
    assert share_wrong <= level + 3 * math.sqrt(level * (1 - level) / worlds)
    assert share_wrong > 0, "an exam that nothing passes tests nothing"


def test_a_run_with_several_exams_errs_no_more_often_than_its_level() -> None:
    rng, which, worlds, wrong, level = random.Random(5), problem(), 800, 0, 0.2
    for _ in range(worlds):
        for number in (1, 2, 3):
            chosen = plan(which, PAIRS, level * weight(number))
            assert chosen is not None
            noise = [[rng.gauss(0, 1) for _ in range(chosen.pairs)] for _ in range(2)]
            if held(which, list(noise[0]), list(noise[1]), chosen.level).accepted:
                wrong += 1
                break
    assert wrong / worlds <= level + 3 * math.sqrt(level * (1 - level) / worlds)


@pytest.mark.parametrize("direction", SIGNS)
def test_a_clear_gain_is_accepted_and_a_loss_never(direction: Direction) -> None:
    step = 2.0 * SIGNS[direction]
    assert accepted(lambda rng: (rng.gauss(step, 1), rng.gauss(0, 1)), 300, direction=direction) > 0.85
    assert accepted(lambda rng: (rng.gauss(-step, 1), rng.gauss(0, 1)), 300, direction=direction) == 0


def test_a_gain_below_the_minimum_effect_is_not_accepted() -> None:
    assert accepted(lambda rng: (rng.gauss(9.6, 0.1), rng.gauss(10, 0.1)), 100, min_effect=0.5) < 0.05
    assert accepted(lambda rng: (rng.gauss(9.0, 0.1), rng.gauss(10, 0.1)), 100, min_effect=0.5) > 0.9
    assert accepted(lambda rng: (rng.gauss(9.6, 0.1), rng.gauss(10, 0.1)), 100, min_effect_relative=0.05) < 0.05


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["minimize", "maximize"]),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=14),
)
def test_seen_from_the_other_side_a_gain_is_a_loss(direction: Direction, pairs: list[tuple[int, int]]) -> None:
    after, before = [float(new) for new, _ in pairs], [float(old) for _, old in pairs]
    one = held(problem(direction), list(after), list(before))
    other = held(problem(direction), list(before), list(after))
    assert one.effect is not None and other.effect is not None
    assert one.effect == -other.effect
    assert (one.before, one.after) == (other.after, other.before)
    assert not (one.accepted and other.accepted)
    if one.interval is not None and other.interval is not None:
        assert one.interval == (-other.interval[1], -other.interval[0])
        assert one.interval[0] <= one.effect <= one.interval[1]
    assert one.accepted <= (one.effect > 0)
    mirrored: Direction = "maximize" if direction == "minimize" else "minimize"
    assert held(problem(mirrored), list(before), list(after)).accepted == one.accepted


TWELVE: tuple[list[float | None], list[float | None]] = ([4.0] * 12, [5.0] * 12)


def test_a_constraint_that_breaks_in_the_exam_is_not_accepted() -> None:
    assert held(problem(), *TWELVE).accepted
    verdict = held(problem(), *TWELVE, champion=BROKEN)
    assert not verdict.accepted and "broke a constraint" in verdict.sentence
    assert not held(problem(), *TWELVE, champion=BROKEN, released=BROKEN).accepted


def test_a_champion_that_fails_once_in_the_exam_is_not_accepted() -> None:
    after, before = TWELVE
    verdict = held(problem(), [*after, None], [*before, 5.0])
    assert not verdict.accepted and "failed during the exam" in verdict.sentence and verdict.pairs == 12
    verdict = held(problem(), [None] * 12, [5.0] * 12, champion=None)
    assert not verdict.accepted and "nothing could be measured" in verdict.sentence and verdict.effect is None


def test_pairs_in_which_the_released_candidate_failed_prove_nothing() -> None:
    after, _ = TWELVE
    verdict = held(problem(), list(after), [5.0] * 4 + [None] * 8)
    assert (verdict.pairs, verdict.wins, verdict.accepted) == (4, 4, False)


def test_a_candidate_that_alone_keeps_every_constraint_needs_no_gain_but_enough_pairs() -> None:
    worse: list[float | None] = [6.0] * 12
    verdict = held(problem(), worse, [5.0] * 12, released=BROKEN, mended=(12, 0))
    assert verdict.accepted and "only the new candidate keeps every constraint" in verdict.sentence
    assert not held(problem(), worse[:4], [5.0] * 4, released=BROKEN, mended=(4, 0)).accepted
    assert not held(problem(), [*worse, None], [5.0] * 13, released=BROKEN, mended=(12, 0)).accepted


def test_a_constraint_at_its_bound_is_not_mended_by_chance() -> None:
    """Two equal candidates whose constraint holds half of the time: the better average is luck."""
    rng, worlds, count = random.Random(3), 1500, 0
    for _ in range(worlds):
        sizes = [(rng.gauss(1, 0.1) <= 1, rng.gauss(1, 0.1) <= 1) for _ in range(PAIRS)]
        mended = sum(new and not old for new, old in sizes), sum(old and not new for new, old in sizes)
        equal: list[float | None] = [5.0] * PAIRS
        count += held(problem(), equal, equal, released=BROKEN, mended=mended).accepted
    assert count / worlds <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / worlds)


def test_the_verdict_says_the_effect_and_its_interval_in_words() -> None:
    after: list[float | None] = [90.0 + number for number in range(12)]
    verdict = held(problem(unit="ms"), after, [100.0 + 2 * number for number in range(12)])
    assert (verdict.effect, verdict.interval, verdict.confidence) == (15.5, (12.0, 19.0), 0.95)
    assert verdict.sentence == (
        "value went from 111 to 95.5 ms (15.5 ms better, 95 % interval 12 to 19 ms). "
        "Shown: better in 12 of 12 pairs, p = 0.00024."
    )
    twice = held(problem("maximize"), [9.0] * 12, [3.0] * 12)
    assert "3 times higher, 95 % interval 3 to 3" in twice.sentence
    assert "3 times lower" in held(problem("minimize"), [3.0] * 12, [9.0] * 12).sentence
    worse = held(problem(unit="ms"), [8.0] * 12, [5.0] * 12)
    assert "(3 ms worse, 95 % interval 3 to 3 ms" in worse.sentence and "Not shown" in worse.sentence
    few = held(problem(), [4.0] * 3, [5.0] * 3)
    assert few.interval is None and "interval" not in few.sentence and "3 of 3 pairs" in few.sentence


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(*[st.none() | st.floats(-1e150, 1e150)] * 2), max_size=14), st.sampled_from(list(SIGNS)))
def test_whatever_was_measured_the_verdict_can_be_stored(
    pairs: list[tuple[float | None, float | None]], direction: Direction
) -> None:
    verdict = held(problem(direction), [new for new, _ in pairs], [old for _, old in pairs])
    stored = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert stored["accepted"] == verdict.accepted and verdict.sentence.endswith(".")


@pytest.mark.parametrize("direction", SIGNS)
def test_without_noise_the_comparison_is_exact(direction: Direction) -> None:
    which, sign = problem(direction, deterministic=True, unit="ms", min_effect=0.5), SIGNS[direction]

    def verdict(gain: float, size: float = 0.0) -> Verdict:
        return compare(which, "new", {"value": 5.0 + sign * gain, "size": size}, "old", FINE)

    assert [verdict(gain).accepted for gain in (1.0, 0.5, 0.0, -1.0)] == [True, False, False, False]
    assert not verdict(1.0, size=2.0).accepted
    found = verdict(1.0)
    assert (found.effect, found.interval, found.pairs, found.p, found.kind) == (1.0, (1.0, 1.0), 0, None, "exact")
    assert "went from 5 to " in found.sentence and "1 ms better" in found.sentence and "exactly" in found.sentence
    assert "(1 ms worse" in verdict(-1.0).sentence and "Not shown" in verdict(-1.0).sentence
    json.dumps(found.to_json(), allow_nan=False)


def test_without_noise_a_repair_is_accepted_whatever_it_costs() -> None:
    which = problem(deterministic=True)
    verdict = compare(which, "new", {"value": 9.0, "size": 0.0}, "old", BROKEN)
    assert verdict.accepted and "only the new candidate keeps every constraint" in verdict.sentence
    verdict = compare(which, "new", FINE, "old", None)
    assert verdict.accepted and verdict.effect is None and "had no value" in verdict.sentence


def test_shares_of_the_level_shrink_and_sum_to_one() -> None:
    shares = [weight(number) for number in range(1, 20_001)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 0.75
    rest = 0.25 * 6 / math.pi**2 / 20_000  # the tail of the series, from above
    assert 1 - 1.01 * rest < sum(shares) < 1


def test_the_plan_has_enough_pairs_for_its_level_and_is_held_back() -> None:
    assert plan(problem(), 12) == Plan(12, LEVEL)
    for level in (0.05, 0.001, 1e-6):
        chosen = plan(problem(), 1, level)
        assert chosen is not None and chosen.pairs == pairs_needed(GAIN * level)
    assert plan(problem(deterministic=True), 12) is None
    assert [reserve(problem(), 12), reserve(problem(rows=5), 12), reserve(problem(deterministic=True), 12)] == [
        24,
        120,
        0,
    ]
