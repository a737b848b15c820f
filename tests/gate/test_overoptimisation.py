"""A search that exploits its metric is heard, and the price of what must not suffer finds its level."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.gate.overoptimisation import Alarm, Bound, Lagrangian, Proxy, pressure
from agent.goals import Direction

# ---------------------------------------------------------------- the alarm


def test_pressure_is_the_divergence_of_the_best_of_n() -> None:
    assert (pressure(1).log_n, pressure(1).divergence) == (0.0, 0.0)
    assert pressure(200).log_n == pytest.approx(5.298, abs=1e-3)
    assert pressure(200).divergence == pytest.approx(4.303, abs=1e-3)
    with pytest.raises(ValueError, match="at least 1"):
        pressure(0)


def test_it_rings_when_the_search_gains_what_the_held_out_judge_loses() -> None:
    reading = Alarm(released=0.6).check(200, 0.7, [-1.0] * 6)
    assert reading.rings and reading.gain == pytest.approx(0.1) and reading.held_out == -1.0
    assert reading.wealth == pytest.approx((2**7 - 1) / 7)  # the integral of (1 + λ)^6 over [0, 1]
    assert reading.sentence == (
        "Overoptimisation: since the last release the search score gained +0.1 and the held-out judge finds -1 over"
        " 6 examples (evidence of a loss 18.1 where 5 is needed; 200 candidates, log 5.30)."
        " The search exploits its metric; look at its champion, or change the metric."
    )


@pytest.mark.parametrize(
    ("score", "differences", "why"),
    [
        (0.64, [-1.0] * 20, "the search gained too little"),
        (0.5, [-1.0] * 20, "the search lost as well"),
        (0.9, [1.0] * 20, "the held-out judge agrees"),
        (0.9, [0.0] * 20, "it sees no difference"),
        (0.9, [-1.0] * 3, "too few examples"),
        (0.9, [], "none at all"),
    ],
)
def test_it_is_silent_when(score: float, differences: list[float], why: str) -> None:
    reading = Alarm(released=0.6).check(50, score, differences)
    assert not reading.rings, why
    assert reading.sentence.startswith("No sign")


def test_the_limits_themselves_ring() -> None:
    enough = Alarm(released=0.6).check(50, 0.65, [-1.0] * 6)  # 0.65 - 0.6 is a little less than 0.05
    assert enough.rings
    assert Alarm(released=0.6, wealth=enough.wealth).check(50, 0.65, [-1.0] * 6).rings
    assert not Alarm(released=0.6, wealth=enough.wealth + 0.01).check(50, 0.65, [-1.0] * 6).rings


def test_a_minimised_score_gains_by_falling() -> None:
    alarm = Alarm(released=0.6, direction="minimize")
    assert alarm.check(50, 0.5, [-1.0] * 6).rings
    assert not alarm.check(50, 0.7, [-1.0] * 6).rings


def test_a_release_begins_anew() -> None:
    alarm = Alarm(released=0.6).after_release(0.8)
    assert not alarm.check(50, 0.82, [-1.0] * 6).rings
    assert alarm.check(50, 0.86, [-1.0] * 6).rings


def test_a_harmless_champion_rings_rarely_however_often_it_is_read() -> None:
    rng, worlds, rung = random.Random(5), 300, 0
    for _ in range(worlds):
        drawn = [rng.choice([-1.0, 0.0, 1.0]) for _ in range(60)]
        rung += any(Alarm(released=0.0).check(9, 1.0, drawn[:n]).rings for n in range(5, 61, 5))
    assert 0 < rung / worlds <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / worlds)


def test_much_evidence_is_a_number_still() -> None:
    assert math.isfinite(Alarm(released=0.0).check(9, 1.0, [-1.0] * 3000).wealth)


def test_an_alarm_that_always_rings_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 1"):
        Alarm(released=0.0, wealth=1.0)


# ---------------------------------------------------------------- the search score


def priced(**options: Any) -> Lagrangian:
    return Lagrangian("quality", bounds=(Bound("safety", 0.9), Bound("tokens", 100, "minimize", nu=0.01)), **options)


MEANS = {"quality": 0.5, "safety": 0.8, "tokens": 150.0}


def test_what_falls_short_is_charged_and_what_exceeds_is_credited() -> None:
    assert priced().score(MEANS) == pytest.approx(0.5 - 0.1 - 0.5)
    assert priced().score({**MEANS, "safety": 1.0, "tokens": 50.0}) == pytest.approx(0.5 + 0.1 + 0.5)


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_larger_is_better_whatever_the_objectives_direction_is(direction: Direction, sign: int) -> None:
    score = priced(direction=direction).score
    assert score({**MEANS, "quality": 0.6}) - score(MEANS) == pytest.approx(sign * 0.1)


def test_a_price_rises_while_its_bound_is_broken_and_falls_while_it_holds() -> None:
    after = priced().updated(MEANS, {"safety": 0.5, "tokens": 25.0})
    assert [item.nu for item in after.bounds] == pytest.approx([1 + 0.1 * 0.1 / 0.5, 0.01 + 0.1 * 50 / 25])
    after = priced().updated({**MEANS, "safety": 1.0, "tokens": 50.0}, {"safety": 0.5, "tokens": 25.0})
    assert [item.nu for item in after.bounds] == pytest.approx([1 - 0.1 * 0.1 / 0.5, 0.0])


def test_prices_stay_between_0_and_10() -> None:
    for mean, sd, nu in [(0.0, 1e-6, 10.0), (1.0, 1e-6, 0.0), (0.0, 0.0, 10.0), (1.0, 0.0, 0.0), (0.9, 0.0, 1.0)]:
        assert Bound("safety", 0.9).updated(mean, sd, 0.1).nu == nu


def test_the_price_finds_the_cheapest_champion_that_keeps_the_bound() -> None:
    # The more quality, the less safety; the bound is kept from 0.4 on.
    candidates = [{"quality": q / 10, "safety": 1 - (q / 10) ** 2} for q in range(11)]
    lagrangian = Lagrangian("quality", bounds=(Bound("safety", 0.84, nu=0.0),))
    chosen = []
    for _ in range(300):
        champion = max(candidates, key=lagrangian.score)
        lagrangian = lagrangian.updated(champion, {"safety": 0.3})
        chosen.append(champion["quality"])
    assert chosen[0] == 1.0
    assert sum(chosen[-100:]) / 100 == pytest.approx(0.4, abs=0.07)


def test_a_proxy_counts_up_to_its_peak_and_against_beyond_it() -> None:
    lagrangian = Lagrangian("quality", proxies=(Proxy("length", 3.0, nu=1.0),))
    assert lagrangian.score({"quality": 0, "length": 4.0}) == pytest.approx(math.tanh(1.0))
    weights = []
    for length in [1.0] * 5 + [4.0] * 40:
        lagrangian = lagrangian.updated({"quality": 0, "length": length}, {})
        weights.append(lagrangian.proxies[0].weight)
    assert lagrangian.proxies[0].nu == pytest.approx(1 + 5 * 0.2 - 40 * 0.1)
    assert max(weights) == weights[4] > 0.9 and min(weights) == weights[-1] < -0.9


def test_a_proxy_that_is_minimised_has_its_peak_below() -> None:
    proxy = Proxy("loss", 0.5, "minimize", nu=1.0)
    assert proxy.term(0.4) > 0 > proxy.term(0.6)
    assert proxy.updated(0.4, 0.1).nu < 1.0 < proxy.updated(0.6, 0.1).nu


def test_it_survives_storage_and_does_not_change_in_place() -> None:
    before = Lagrangian("quality", "minimize", (Bound("safety", 0.9),), (Proxy("length", 3.0),), eta=0.2)
    after = before.updated({"quality": 1, "safety": 0.0, "length": 0.0}, {"safety": 1.0})
    assert before.bounds[0].nu == 1.0 and after != before
    assert Lagrangian.from_json(json.loads(json.dumps(after.to_json()))) == after


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="names safety twice"):
        Lagrangian("quality", bounds=(Bound("safety", 1),), proxies=(Proxy("safety", 1),))
    with pytest.raises(ConfigError, match="eta"):
        Lagrangian("quality", eta=0)
    with pytest.raises(ConfigError, match="direction"):
        Bound("safety", 1, "up")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 to 10"):
        Bound("safety", 1, nu=11)
    with pytest.raises(ValueError, match="mean of safety is missing"):
        priced().score({"quality": 1})
    with pytest.raises(ValueError, match="deviation of safety is missing"):
        priced().updated(MEANS, {})
    with pytest.raises(ValueError, match="deviation of -1"):
        Bound("safety", 1).updated(0.5, -1, 0.1)
