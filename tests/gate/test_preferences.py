"""Preferences become evidence without bias: neither the order of presentation nor the judge's taste gets in."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError, EvaluatorError
from agent.gate.preferences import (
    Comparisons,
    Pair,
    audit_probability,
    audited,
    both_orders,
    choose_audits,
    judge_pairs,
)


def pairs(n: int, new: Any = 1, old: Any = 0) -> list[Pair]:
    return [Pair(f"e{i}", {"question": i}, new, old) for i in range(n)]


def longer(example: Any, a: float, b: float) -> float:
    """A judge without bias."""
    return 0.5 + 0.5 * ((a > b) - (a < b))


def first_place(example: Any, a: float, b: float) -> float:
    """A judge that always takes the first."""
    return 1.0


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [(1, 1, 1), (0, 0, -1), (1, 0, 0), (0, 1, 0), (0.5, 0.5, 0), (1, 0.5, 0.5), (0.5, 0, -0.5), (0.75, 0.5, 0.25)],
)
def test_both_orders_agree_or_tie(first: float, second: float, difference: float) -> None:
    assert both_orders(first, second) == difference


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "1", None])
def test_what_is_no_preference_is_refused(wrong: Any) -> None:
    for given in ((wrong, 1), (1, wrong)):
        with pytest.raises(ValueError, match="from 0"):
            both_orders(*given)


def test_the_better_one_wins_in_whatever_place_it_is_shown() -> None:
    for order in ("both", "random"):
        better = asyncio.run(judge_pairs(longer, pairs(8), order=order))  # type: ignore[arg-type]
        worse = asyncio.run(judge_pairs(longer, pairs(8, new=0, old=1), order=order))  # type: ignore[arg-type]
        assert better.differences()[0] == tuple(f"e{i}" for i in range(8))
        assert better.differences()[1].tolist() == [1.0] * 8
        assert worse.differences()[1].tolist() == [-1.0] * 8


def test_a_judge_that_takes_the_first_says_nothing_and_flips_always() -> None:
    both = asyncio.run(judge_pairs(first_place, pairs(8)))
    assert both.differences()[1].tolist() == [0.0] * 8 and both.flip_rate == 1.0
    once = asyncio.run(judge_pairs(first_place, pairs(400), order="random"))
    assert abs(once.differences()[1].mean()) < 0.15 and once.flip_rate is None


def test_a_random_order_follows_from_seed_and_id() -> None:
    def order(seed: int, n: int) -> list[float]:
        return asyncio.run(judge_pairs(first_place, pairs(n), order="random", seed=seed)).differences()[1].tolist()

    assert order(1, 20) == order(1, 40)[:20] != order(2, 20)


def test_the_flip_rate_counts_what_was_reversed_and_no_ties() -> None:
    found = Comparisons()
    for id, first, second in [("a", 1, 0), ("b", 1, 1), ("c", 0.5, 1), ("d", 0.9, 0.2)]:
        found.add(id, first, second)
    assert found.flip_rate == 0.5
    found.add("e", 1.0)
    assert found.flip_rate == 0.5 and found.differences()[1].tolist() == pytest.approx([0, 1, 0.5, 0.1, 1])


def test_one_id_is_one_unit() -> None:
    found = Comparisons()
    for id, first, second in [("a", 1, 1), ("b", 0, 0), ("a", 1, 0), ("a", 0, 0)]:
        found.add(id, first, second)
    ids, d = found.differences()
    assert ids == ("a", "b") and d.tolist() == [0.0, -1.0]


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.2])
def test_a_bias_for_a_place_makes_no_false_gains(bias: float) -> None:
    rng = random.Random(3)
    for order in ("both", "random"):

        def judge(example: Any, a: float, b: float) -> float:
            return float(rng.random() < 0.5 + bias)

        d = asyncio.run(judge_pairs(judge, pairs(1500), order=order, seed=1)).differences()[1]  # type: ignore[arg-type]
        assert abs(d.mean()) < 4 * d.std() / np.sqrt(len(d))


def test_an_async_judge_works_on_several_pairs_at_a_time_and_a_sync_one_on_one() -> None:
    now = {"running": 0, "most": 0}
    lock = threading.Lock()

    def count(change: int) -> None:
        with lock:
            now["running"] += change
            now["most"] = max(now["most"], now["running"])

    async def waits(example: Any, a: float, b: float) -> float:
        count(1)
        await asyncio.sleep(0.001)
        count(-1)
        return longer(example, a, b)

    def computes(example: Any, a: float, b: float) -> float:
        assert threading.current_thread() is not threading.main_thread()
        count(1)
        count(-1)
        return longer(example, a, b)

    class Judge:
        async def __call__(self, example: Any, a: float, b: float) -> float:
            return await waits(example, a, b)

    for compare, most in ((waits, 3), (Judge(), 3), (computes, 1), (lambda *shown: waits(*shown), 1)):
        now["most"] = 0
        found = asyncio.run(judge_pairs(compare, pairs(9), at_once=3))
        assert found.differences()[1].tolist() == [1.0] * 9 and not found.failed
        assert now["most"] == most


def test_what_cannot_be_judged_counts_as_a_loss_and_is_told() -> None:
    def judge(example: Any, a: float, b: float) -> Any:
        if example["question"] == 1:
            raise RuntimeError("no answer")
        return "yes" if example["question"] == 2 else longer(example, a, b)

    found = asyncio.run(judge_pairs(judge, pairs(4)))
    assert found.failed["e1"] == "RuntimeError: no answer" and "not 'yes'" in found.failed["e2"]
    assert dict(zip(*found.differences(), strict=True)) == {"e0": 1.0, "e1": -1.0, "e2": -1.0, "e3": 1.0}
    assert found.differences(unjudged=0.0)[1].sum() == 2.0


def test_a_judge_that_never_works_is_an_error() -> None:
    with pytest.raises(EvaluatorError, match="no pair could be judged: TypeError"):
        asyncio.run(judge_pairs(lambda only: 1.0, pairs(2)))
    assert asyncio.run(judge_pairs(longer, [])).differences()[0] == ()


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="both or random"):
        asyncio.run(judge_pairs(longer, pairs(1), order="fixed"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        asyncio.run(judge_pairs(longer, pairs(1), at_once=0))


# ---------------------------------------------------------------- human audits


def test_the_budget_goes_where_a_label_is_worth_most() -> None:
    chances = audit_probability([0.0, -1.0, 1.0, 2.0, 50.0], budget=2.0)
    assert chances.sum() == pytest.approx(2.0)
    assert chances[0] == chances[1] == pytest.approx(0.1) and chances[4] == pytest.approx(1.0)
    assert chances[3] == pytest.approx(2 * chances[2])
    assert audit_probability([0.0, 0.0], budget=1.0).tolist() == pytest.approx([0.5, 0.5])
    assert audit_probability([1.0, 0.0], budget=5).tolist() == pytest.approx([1.0, 1.0])


def test_a_budget_below_the_minimum_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match=r"at least 10, or lower the minimum"):
        audit_probability([1.0] * 100, budget=9)
    with pytest.raises(ValueError, match="above 0"):
        audit_probability([1.0], budget=1, minimum=0)
    with pytest.raises(ValueError, match="finite"):
        audit_probability([float("nan")], budget=1)


def test_who_is_audited_follows_from_seed_and_id_and_has_its_probability() -> None:
    ids = [f"e{i}" for i in range(4000)]
    chances = np.where(np.arange(4000) % 2, 0.1, 0.6)
    chosen = choose_audits(chances, ids, seed=1)
    assert chosen[1::2].mean() == pytest.approx(0.1, abs=0.02) and chosen[::2].mean() == pytest.approx(0.6, abs=0.04)
    assert choose_audits(chances[::-1], ids[::-1], seed=1).tolist() == chosen[::-1].tolist()
    assert choose_audits(chances, ids, seed=2).tolist() != chosen.tolist()


@pytest.mark.parametrize("bias", [-0.6, 0.0, 0.6])
def test_the_mean_is_the_humans_whatever_the_judge_thinks(bias: float) -> None:
    rng = np.random.default_rng(11)
    estimates = []
    human = rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.2, 0.3, 0.5])
    judge = np.clip(human + bias + 0.3 * rng.standard_normal(200), -1, 1)  # likes the new one too much, or too little
    chances = audit_probability(np.abs(judge), budget=60)  # it even depends on the judge
    for seed in range(1500):
        chosen = choose_audits(chances, [str(i) for i in range(200)], seed)
        x, factor = audited(judge, np.where(chosen, human, np.nan), chances, chosen)
        assert np.abs(x).max() <= 1
        estimates.append(x.mean() / factor)
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(human.mean(), abs=4 * error)
    assert error < 0.01
    assert not bias or abs(judge.mean() - human.mean()) > 0.2, "the judge alone would be far off"


def test_the_extremes_use_the_whole_range() -> None:
    x, factor = audited([-1, 1, -1, 1], [1, -1, np.nan, np.nan], [0.1] * 4, [True, True, False, False])
    assert x.tolist() == pytest.approx([1.0, -1.0, -1 / 19, 1 / 19]) and factor == pytest.approx(1 / 19)


def test_when_all_are_audited_it_is_the_human_alone() -> None:
    x, factor = audited([1.0, 1.0], [-1.0, 0.5], [1.0, 1.0], [True, True])
    assert (x.tolist(), factor) == ([-1.0, 0.5], 1.0)


def test_a_declared_minimum_keeps_one_factor_over_batches() -> None:
    assert audited([0.5], [0.5], [0.8], [True], minimum=0.1)[1] == pytest.approx(1 / 19)
    with pytest.raises(ValueError, match=r"found 0.5, but a probability is 0.2"):
        audited([0.5], [0.5], [0.2], [True], minimum=0.5)


def test_an_audit_that_cannot_correct_the_judge_is_refused() -> None:
    with pytest.raises(ValueError, match=r"above 0 .* audit_probability"):
        audited([0.5, 0.5], [1.0, np.nan], [0.5, 0.0], [True, False])
    with pytest.raises(ValueError, match="label it"):
        audited([0.5], [np.nan], [0.5], [True])
    with pytest.raises(ValueError, match="judge's differences"):
        audited([1.5], [1.0], [0.5], [True])
    with pytest.raises(ValueError, match="one length"):
        audited([0.5], [1.0, 1.0], [0.5], [True])
