"""Guards pass what did not get worse, stop what did, and say which of the two they know."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.gate import guards, wealth

WORLDS = 1000


def pairs(seed: int, shape: tuple[int, ...], gain: float, discordance: float) -> wealth.Array:
    """Wins, losses and ties with P(win) - P(loss) = gain and P(win) + P(loss) = discordance."""
    chances = [(discordance - gain) / 2, 1 - discordance, (discordance + gain) / 2]
    return np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], shape, p=chances)


def error(level: float) -> float:
    """The level and three standard errors of a share of the worlds."""
    return level + 3 * math.sqrt(level * (1 - level) / WORLDS)


# Non-inferiority


def test_a_score_that_stayed_is_shown_not_to_be_worse() -> None:
    found = guards.noninferior([0.0] * 100, 0.05, 0.05, "accuracy")
    assert found.passed and found.p < 0.05 and found.kind == "noninferior"
    assert found.sentence.startswith(
        "accuracy: shown to be less than 0.05 worse, at level 0.05 (+0 on average over 100 pairs"
    )
    short = guards.noninferior([0.0] * 10, 0.05, 0.05)
    assert not short.passed and "not shown" in short.sentence


def test_what_fell_by_the_margin_passes_rarely() -> None:
    for level in (0.05, 0.2):
        for d in (
            pairs(1, (WORLDS, 150), -0.05, 0.2),
            np.where(np.random.default_rng(2).random((WORLDS, 150)) < 0.05, -1.0, 0.0),  # ties and rare losses
            np.random.default_rng(3).uniform(-0.5, 0.4, (WORLDS, 150)),
        ):
            assert d.mean() == pytest.approx(-0.05, abs=0.005)
            assert np.mean([guards.noninferior(row, 0.05, level).passed for row in d]) <= error(level)


def test_non_inferiority_of_equal_programs_is_expensive() -> None:
    d = pairs(4, (WORLDS, 200), 0.0, 0.2)
    share = np.mean([guards.noninferior(row, 0.05, 0.05).passed for row in d])
    assert share == pytest.approx(0.22, abs=0.04)
    graded = np.random.default_rng(5).normal(0, 0.2, (300, 200)).clip(-1, 1)
    assert np.mean([guards.noninferior(row, 0.05, 0.05).passed for row in graded]) > 0.7


def test_without_a_margin_non_inferiority_is_a_gain() -> None:
    d = pairs(6, (60,), 0.3, 0.5)
    found, betting = guards.noninferior(d, 0.0, 0.05), wealth.test(d, 0.05)
    assert found.passed and (found.passed, found.p) == (betting.accepted, betting.p)
    assert found.log_e == wealth.log_wealth(d)[-1]


@pytest.mark.parametrize("margin", [-0.1, 1.0, math.nan])
def test_a_margin_is_a_share_of_the_range(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        guards.noninferior([0.0], margin, 0.05)


# Alarm


def test_the_alarm_blocks_harm_and_excludes_none() -> None:
    harm, none = guards.alarm([-1.0] * 4, name="tone"), guards.alarm([1.0, 0.0, -1.0, 0.0], name="tone")
    assert not harm.passed and "tone: blocked, it got worse, at level 0.2 (-1 on average over 4 pairs" in harm.sentence
    assert none.passed and "no evidence of harm" in none.sentence and "harm is not excluded" in none.sentence
    nothing = guards.alarm([])
    assert nothing.passed and nothing.log_e == 0 and "nothing measured over 0 pairs" in nothing.sentence


def test_an_equal_candidate_is_blocked_in_at_most_a_fifth_of_cases_and_a_worse_one_mostly() -> None:
    blocked = {
        gain: np.mean([not guards.alarm(row).passed for row in pairs(7, (WORLDS, 150), gain, 0.3)])
        for gain in (0.1, 0.0, -0.2)
    }
    assert blocked[0.1] < blocked[0.0] <= 0.2 < 0.95 < blocked[-0.2]


# Limits


def violations(count: int, n: int) -> list[float]:
    """`count` ones among n, evenly spread."""
    return [float((i + 1) * count // n - i * count // n) for i in range(n)]


def test_a_rate_below_its_limit_is_shown() -> None:
    found = guards.limit(violations(4, 400), 0.05, 0, 1, 0.05, name="refusals")
    assert found.passed and found.kind == "limit"
    assert found.sentence.startswith("refusals: shown to be at most 0.05, at level 0.05 (+0.01 on average over 400 ex")
    assert not guards.limit(violations(4, 400), 0.01, 0, 1, 0.05).passed
    assert not guards.limit(violations(40, 400), 0.05, 0, 1, 0.05).passed


@pytest.mark.parametrize(("bound", "level"), [(0.01, 0.05), (0.05, 0.05), (0.05, 0.2), (0.2, 0.05)])
def test_no_violation_at_all_still_needs_examples(bound: float, level: float) -> None:
    # A rate of exactly the bound shows no violation in n examples with chance (1 - bound)^n. So no valid
    # test passes before that is below the level, near ln(1/level)/bound examples.
    fewest = math.log(level) / math.log1p(-bound)
    assert fewest == pytest.approx(math.log(1 / level) / bound, rel=0.12)
    assert not guards.limit([0.0] * math.floor(fewest), bound, 0, 1, level).passed
    assert guards.limit([0.0] * math.ceil(1.7 * fewest), bound, 0, 1, level).passed


@pytest.mark.parametrize("at_most", [True, False])
def test_a_mean_on_the_wrong_side_passes_rarely(at_most: bool) -> None:
    rng = np.random.default_rng(8)
    for values, low, high, bound in (
        ((rng.random((WORLDS, 120)) < 0.1).astype(float), 0, 1, 0.1),
        (rng.uniform(10, 30, (WORLDS, 120)), 0, 100, 20),
        (np.where(rng.random((WORLDS, 120)) < 0.02, 50.0, -1.0), -1, 50, -1 + 0.02 * 51),
    ):
        share = np.mean([guards.limit(row, bound, low, high, 0.2, at_most=at_most).passed for row in values])
        assert share <= error(0.2)


def test_at_least_is_at_most_from_the_other_side() -> None:
    values = np.random.default_rng(9).uniform(2, 6, 200)
    upper, lower = guards.limit(values, 5, 0, 10, 0.05), guards.limit(-values, -5, -10, 0, 0.05, at_most=False)
    assert upper.passed and lower.passed and upper.log_e == pytest.approx(lower.log_e)
    assert not guards.limit(values, 5, 0, 10, 0.05, at_most=False).passed
    assert guards.limit(values, 3, 0, 10, 0.05, at_most=False).passed and "at least 3" in lower.sentence.replace(
        "-5", "3"
    )


def test_the_unit_of_a_limit_does_not_matter() -> None:
    values = np.random.default_rng(10).uniform(0, 1, 50)
    small, large = guards.limit(values, 0.7, 0, 1, 0.05), guards.limit(1000 * values - 3, 697, -3, 997, 0.05)
    assert small.log_e == pytest.approx(large.log_e) and small.passed == large.passed


@pytest.mark.parametrize(
    ("bound", "at_most"), [(-0.1, True), (1.0, True), (0.0, False), (1.1, False), (math.nan, True)]
)
def test_a_limit_outside_the_range_is_refused(bound: float, at_most: bool) -> None:
    with pytest.raises(ConfigError, match="cannot be tested") as caught:
        guards.limit([0.5], bound, 0, 1, 0.05, at_most=at_most)
    assert "declare" in caught.value.hint


@pytest.mark.parametrize("value", [1.2, -0.2, math.nan])
def test_a_value_outside_the_declared_range_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="latency: a value lies outside") as caught:
        guards.limit([0.5, value], 0.5, 0, 1, 0.05, name="latency")
    assert "declare" in caught.value.hint


def test_no_sample_proves_that_nothing_ever_happens() -> None:
    assert not guards.limit([0.0] * 10_000, 0, 0, 1, 0.2).passed


# Anchors


def test_any_fall_of_an_anchor_breaks_it() -> None:
    old = {"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.25}
    assert guards.anchors({"a": 1.0, "b": 0.5 - 1e-9, "c": 1.0, "d": 0.0}, old) == ["b", "d"]
    assert guards.anchors(old, old) == [] == guards.anchors({}, {})
    assert guards.anchors({**old, "e": -5.0}, old) == [], "what is no anchor cannot break"


def test_an_anchor_that_is_missing_or_failed_is_broken_unless_it_failed_before() -> None:
    assert guards.anchors({"b": math.nan}, {"a": 0.0, "b": 0.0}) == ["a", "b"]
    assert guards.anchors({"a": 0.0}, {"a": math.nan, "b": math.nan}) == []


def test_anchors_know_their_direction() -> None:
    new, old = {1: 2.0, 2: 3.0}, {1: 3.0, 2: 2.0}
    assert (guards.anchors(new, old), guards.anchors(new, old, sign=-1)) == ([1], [2])
    assert (guards.anchors(old, new), guards.anchors(old, new, sign=-1)) == ([2], [1])
    with pytest.raises(ValueError, match="sign"):
        guards.anchors(new, old, sign=0)


# Several at once


def test_joint_evidence_is_the_weakest() -> None:
    assert guards.joint([3.0, -1.0, 2.0]) == -1.0
    with pytest.raises(ValueError, match="nothing"):
        guards.joint([])


def test_constraints_that_must_all_hold_need_no_correction() -> None:
    # One constraint is hurt by exactly its margin, the other is clearly kept.
    hurt, kept = pairs(11, (WORLDS, 150), -0.05, 0.2), pairs(12, (WORLDS, 150), 0.3, 0.4)
    both, evidence = [], []
    for one, other in zip(hurt, kept, strict=True):
        findings = [guards.noninferior(d, 0.05, 0.2) for d in (one, other)]
        both.append(all(finding.passed for finding in findings))
        evidence.append(guards.joint([finding.log_e for finding in findings]))
        assert evidence[-1] == min(wealth.log_wealth(d, -0.05)[-1] for d in (one, other))
    assert 0.02 < np.mean(both) <= error(0.2)
    assert np.mean(np.array(evidence) >= -math.log(0.2)) <= error(0.2)
    assert np.exp(evidence).mean() <= 1 + 3 * np.exp(evidence).std() / math.sqrt(WORLDS)


def test_a_pareto_improvement_needs_one_gain_and_no_loss() -> None:
    gains, kept = [math.log(60), math.log(1)], [math.log(40), math.log(25)]
    assert math.exp(guards.pareto(gains, kept)) == pytest.approx(25)
    assert math.exp(guards.pareto(gains, [math.log(100)])) == pytest.approx((60 + 1) / 2)
    assert guards.pareto(gains, [*kept, -5.0]) == -5.0
    assert guards.pareto([2000.0, 0.0], [3000.0]) == pytest.approx(2000 - math.log(2))
    for missing in (([], kept), (gains, [])):
        with pytest.raises(ValueError, match="Pareto"):
            guards.pareto(*missing)


def test_equal_programs_are_no_pareto_improvement() -> None:
    found = []
    for one, other in zip(pairs(13, (WORLDS, 100), 0.0, 0.4), pairs(14, (WORLDS, 100), 0.0, 0.4), strict=True):
        gain = [wealth.log_wealth(d)[-1] for d in (one, other)]
        found.append(guards.pareto(gain, [guards.noninferior(d, 0.1, 0.2).log_e for d in (one, other)]))
    assert np.mean(np.array(found) >= -math.log(0.2)) <= error(0.2)


def test_new_and_old_exchanged_turn_every_answer_around() -> None:
    d = pairs(15, (150,), 0.3, 0.4)
    assert guards.noninferior(d, 0.05, 0.05).passed and not guards.noninferior(-d, 0.05, 0.05).passed
    assert guards.alarm(d).passed and not guards.alarm(-d).passed
    new, old = violations(2, 150), violations(60, 150)
    assert guards.limit(new, 0.2, 0, 1, 0.05).passed and not guards.limit(old, 0.2, 0, 1, 0.05).passed
    found = [[side * wealth.log_wealth(x)[-1] for x in (d, -d)] for side in (1, -1)]
    assert found[0][0] > 3 > 0 > found[0][1]
    assert guards.pareto([found[0][0]], [found[0][0]]) > 3 > guards.pareto([found[0][0]], [found[0][1]])
