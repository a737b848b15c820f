"""One place for all spend: limits hold exactly, and what may have been spent stays counted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BudgetExceeded, ConfigError
from agent.events import CallEnded, CallRetried, CallStarted, EvaluationEnded, EvaluationStarted
from agent.ledger import Budget, Ledger


def started(number: int, role: str = "propose", model: str = "local:tiny", **reserved: float) -> CallStarted:
    return CallStarted(number, "scope", f"key{number}", 0, role, model, {"calls": 1, **reserved}, {})


def ended(number: int, **spent: float) -> CallEnded:
    return CallEnded(number, {}, None, {"input": 0, "cached": 0, "output": 0, **spent}, 0.1)


def evaluation(ledger: Ledger, number: int, usd: float = 0.0, end: bool = True) -> None:
    ledger.apply(EvaluationStarted(number, "c", None, 0, 0, "search"))
    if end:
        ledger.apply(EvaluationEnded(number, "search", {"usd": usd} if usd else {}, None))


@pytest.mark.parametrize("kind", ["calls", "tokens", "usd"])
def test_a_limit_may_be_reached_and_not_passed(kind: str) -> None:
    ledger = Ledger(Budget(**{kind: 10}))
    ledger.check(**{kind: 10})
    with pytest.raises(BudgetExceeded) as caught:
        ledger.check(**{kind: 11 if kind != "usd" else 10.000001})
    assert (caught.value.limit_kind, caught.value.limit, caught.value.spent) == (kind, 10, 0)
    assert ledger.left(kind) == 10 and ledger.left("seconds") == math.inf


def test_cents_add_up_to_the_limit() -> None:
    ledger = Ledger(Budget(usd=0.3))
    for number in (1, 2, 3):  # 0.1 + 0.1 + 0.1 is a little more than 0.3 to a computer
        ledger.check(usd=0.1)
        ledger.apply(started(number, usd=0.1))
        ledger.apply(ended(number, usd=0.1))
    with pytest.raises(BudgetExceeded):
        ledger.check(usd=0.0001)


def test_a_limit_of_zero_allows_what_is_free() -> None:
    ledger = Ledger(Budget(usd=0, calls=0))
    ledger.check(usd=0.0)
    with pytest.raises(BudgetExceeded):
        ledger.check(calls=1)


def test_a_reservation_counts_until_it_is_settled() -> None:
    ledger = Ledger(Budget(calls=5, tokens=1000, usd=1.0))
    ledger.apply(started(1, tokens=600, usd=0.5))
    assert (ledger.left("calls"), ledger.left("tokens"), ledger.left("usd")) == (4, 400, 0.5)
    with pytest.raises(BudgetExceeded):
        ledger.check(tokens=401)
    ledger.apply(ended(1, input=100, cached=50, output=20, usd=0.1))
    assert (ledger.left("calls"), ledger.left("tokens"), ledger.left("usd")) == (4, 880, 0.9)


def test_a_call_that_was_cut_off_stays_counted_as_possibly_spent() -> None:
    ledger = Ledger(Budget(calls=5, tokens=1000, usd=1.0))
    ledger.apply(started(1, tokens=100, usd=0.1))
    ledger.apply(CallRetried(1, 1, "broke off", 0.5))
    ledger.cut()  # each of the two attempts may have been billed
    assert (ledger.left("calls"), ledger.left("tokens"), ledger.left("usd")) == (4, 800, 0.8)
    assert ledger.to_json()["possibly_spent"] == {"calls": 1, "tokens": 200, "usd": 0.2}
    assert ledger.to_json()["usd"] == 0.0
    ledger.apply(started(2, tokens=100, usd=0.1))
    ledger.apply(ended(2, input=50, output=10, usd=0.05))
    assert ledger.left("tokens") == 740 and len(ledger.lost_calls) == 1


def test_attempts_that_broke_off_inside_of_a_call_stay_counted() -> None:
    ledger = Ledger(Budget(tokens=1000))
    ledger.apply(started(1, tokens=100))
    ledger.apply(CallRetried(1, 1, "broke off", 0.5))
    ledger.hold(1, tokens=100, usd=None)
    assert ledger.left("tokens") == 800
    ledger.apply(ended(1, input=60, output=10, usd=0.0, possibly_tokens=100, possibly_usd=0.2))
    assert ledger.left("tokens") == 1000 - 70 - 100
    assert ledger.to_json()["possibly_spent"] == {"calls": 0, "tokens": 100, "usd": 0.2}


def test_nothing_is_held_back_when_a_limit_could_be_passed() -> None:
    ledger = Ledger(Budget(tokens=150, usd=1.0))
    ledger.apply(started(1, tokens=100, usd=0.1))
    with pytest.raises(BudgetExceeded):
        ledger.hold(1, usd=0.1, tokens=100)
    assert (ledger.left("tokens"), ledger.left("usd")) == (50, 0.9)


def test_an_unknown_price_is_refused_under_a_dollar_limit_and_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        Ledger(Budget(usd=1.0)).check(calls=1, tokens=10, usd=None)
    assert "1 usd" in caught.value.message and "price" in caught.value.message
    assert "[prices." in caught.value.hint and "problem.toml" in caught.value.hint
    Ledger(Budget(tokens=100)).check(tokens=10, usd=None)  # no dollar limit, no need for a price


def test_an_unknown_price_is_shown_as_unknown_and_never_as_nothing() -> None:
    ledger = Ledger(Budget())
    ledger.apply(started(1, "propose", "openai:known"))
    ledger.apply(ended(1, input=10, output=5, usd=0.25))
    assert ledger.to_json()["usd"] == 0.25
    ledger.apply(started(2, "judge", "openai:new"))
    ledger.apply(ended(2, input=10, output=5))
    shown = ledger.to_json()
    assert shown["usd"] is None and shown["usd_known"] is False
    assert shown["by_model"]["openai:new"]["usd"] is None and shown["by_role"]["judge"]["usd"] is None
    assert shown["by_model"]["openai:known"]["usd"] == 0.25


def test_spend_is_kept_by_role_and_by_model() -> None:
    ledger = Ledger(Budget())
    for number, (role, model) in enumerate([("propose", "a:x"), ("propose", "b:y"), ("judge", "a:x")]):
        ledger.apply(started(number, role, model))
        ledger.apply(ended(number, input=100, cached=30, output=10, usd=0.5))
    shown = json.loads(json.dumps(ledger.to_json()))
    assert shown["tokens"] == {"input": 300, "cached": 90, "output": 30} and shown["calls"] == 3
    assert shown["by_role"]["propose"]["calls"] == 2 == shown["by_model"]["a:x"]["calls"]
    assert shown["usd"] == sum(account["usd"] for account in shown["by_model"].values()) == 1.5


def test_what_was_paid_before_a_run_counts_in_it_as_all_other_spend() -> None:
    before = Ledger(Budget())
    before.apply(started(1, model="m", tokens=100, usd=0.3))
    before.apply(ended(1, input=10, output=5, usd=0.1))
    before.apply(started(2, model="m", tokens=100, usd=0.3))  # nobody hears its answer any more
    ledger = Ledger(Budget(calls=2, usd=1.0))
    ledger.carry("draft", json.loads(json.dumps(before.paid())))
    shown = ledger.to_json()
    assert shown["by_role"]["draft"] == shown["by_model"]["m"] == before.to_json()["by_model"]["m"]
    assert (shown["calls"], shown["usd"], shown["tokens"]["output"]) == (1, 0.1, 5)
    assert shown["possibly_spent"] == {"calls": 0, "tokens": 100, "usd": 0.3}
    assert (ledger.left("calls"), ledger.left("usd")) == (1, pytest.approx(0.6))
    with pytest.raises(BudgetExceeded):
        ledger.check(calls=2)


def test_evaluations_count_when_they_start() -> None:
    ledger = Ledger(Budget(evaluations=3, usd=1.0))
    evaluation(ledger, 1, usd=0.25)
    evaluation(ledger, 2, end=False)
    assert ledger.left("evaluations") == 1 and ledger.left("usd") == 0.75
    ledger.cut()
    assert ledger.left("evaluations") == 1 and ledger.to_json()["evaluations_lost"] == 1
    ledger.apply(EvaluationEnded(2, "search", {}, None))  # started again under its number, which was counted already
    assert ledger.left("evaluations") == 1


@pytest.mark.parametrize("kind", ["evaluations", "calls", "tokens", "usd", "seconds"])
@pytest.mark.parametrize("bad", [-1, True, "3", math.nan, math.inf])
def test_a_wrong_limit_names_what_was_found_and_what_is_allowed(kind: str, bad: Any) -> None:
    with pytest.raises(ConfigError, match=rf"budget\.{kind}: found .*{bad}.*at least 0"):
        Budget(**{kind: bad})
    with pytest.raises(ConfigError, match="whole"):
        Budget(calls=1.5)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=100)
@given(
    limit=st.integers(0, 500),
    steps=st.lists(st.tuples(st.sampled_from(["start", "end", "retry", "cut"]), st.integers(1, 100)), max_size=40),
)
def test_whatever_happens_the_worst_case_stays_within_the_limit(limit: int, steps: list[tuple[str, int]]) -> None:
    """A model of what a provider may bill: every attempt in full. The ledger never lets it pass the limit."""
    ledger = Ledger(Budget(tokens=limit))
    attempts: dict[int, tuple[int, int]] = {}  # open calls: worst case of one attempt, attempts
    billed = number = 0
    for step, amount in steps:
        last = max(attempts, default=0)
        try:
            if step == "start":
                ledger.check(tokens=amount)
                number += 1
                ledger.apply(started(number, tokens=amount))
                attempts[number] = (amount, 1)
            elif step == "cut":
                billed += sum(worst * times for worst, times in attempts.values())
                attempts.clear()
                ledger.cut()
            elif step == "retry" and attempts:
                worst, times = attempts[last]
                ledger.hold(last, tokens=worst)
                ledger.apply(CallRetried(last, times, "broke off", 0.0))
                attempts[last] = (worst, times + 1)
            elif step == "end" and attempts:
                worst, times = attempts.pop(last)
                used = min(amount, worst)
                ledger.apply(ended(last, input=used, usd=0.0, possibly_tokens=worst * (times - 1)))
                billed += used + worst * (times - 1)
        except BudgetExceeded:
            pass
        open_now = sum(worst * times for worst, times in attempts.values())
        assert billed + open_now <= limit
        assert ledger.committed("tokens") == billed + open_now
