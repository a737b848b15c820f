"""What an ensemble makes of its members' values: what fools one judge gains nothing, in either direction."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluators.ensemble import combined


@given(st.floats(0, 1), st.floats(0, 10), st.integers(2, 9), st.sampled_from(["mean-sd", "worst"]), st.integers(0, 8))
def test_a_hack_of_one_judge_gains_nothing(honest: float, hack: float, k: int, combine: Any, which: int) -> None:
    for direction, sign in (("maximize", 1), ("minimize", -1)):
        fooled = [honest] * k
        fooled[which % k] += sign * hack
        gain = sign * (combined(fooled, direction, combine)[0] - honest)
        assert gain <= 1e-9
        assert sign * (combined(fooled, direction, "mean")[0] - honest) == pytest.approx(hack / k)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.sampled_from(["mean", "worst", "mean-sd", "uncertainty"]))
def test_minimizing_is_maximizing_upside_down(drawn: list[float], combine: Any) -> None:
    up = combined(drawn, "maximize", combine)
    down = combined([-value for value in drawn], "minimize", combine)
    assert down[0] == pytest.approx(-up[0]) and down[2] == pytest.approx(up[2])
    assert up[0] <= up[1] + 1e-12 and up[0] <= combined(drawn, "maximize", "mean")[0] + 1e-12


def test_best_of_200_is_truly_best_only_with_several_judges() -> None:
    # One in ten candidates fools one of five judges; the others of them see the truth with some noise.
    rng, worlds, judges = random.Random(9), 200, 5
    gained = {"one": 0.0, "mean": 0.0, "worst": 0.0, "mean-sd": 0.0, "uncertainty": 0.0, "oracle": 0.0}
    for _ in range(worlds):
        candidates = []
        for _ in range(200):
            true = 0.5 + rng.gauss(0, 0.04)
            seen = [true + rng.gauss(0, 0.04) for _ in range(judges)]
            if rng.random() < 0.1:
                true -= 0.08  # what fools a judge is worse in truth, and the others notice
                seen = [item - 0.08 for item in seen]
                seen[rng.randrange(judges)] += 0.6
            candidates.append((true, seen))
        chosen = {
            how: max(candidates, key=lambda item, how=how: combined(item[1], "maximize", how)[0])
            for how in ("mean", "worst", "mean-sd", "uncertainty")
        }
        chosen["one"] = max(candidates, key=lambda item: item[1][0])
        chosen["oracle"] = max(candidates, key=lambda item: item[0])
        for how, item in chosen.items():
            gained[how] += (item[0] - 0.5) / worlds
    assert gained["one"] < -0.02
    assert gained["mean-sd"] > gained["mean"] + 0.03 > gained["one"] + 0.03
    assert gained["mean-sd"] > 0.06 and gained["worst"] > 0.06 and gained["uncertainty"] > 0.04
    assert gained["oracle"] > gained["mean-sd"]
