"""What the ledger counts although nobody can tell whether it was billed."""

from __future__ import annotations

import pytest

from agent.errors import BudgetExceeded
from agent.events import CallEnded, CallRetried, CallStarted
from agent.ledger import Budget, Ledger


def started(number: int = 1) -> CallStarted:
    return CallStarted(number, "s", "k", 0, "propose", "m", {"calls": 1, "tokens": 100, "usd": 0.5}, {})


def ended(number: int = 1, **spent: float) -> CallEnded:
    return CallEnded(number, None, None, {"input": 10, "cached": 0, "output": 5, "usd": 0.01, **spent}, 1.0)


def test_attempts_that_broke_off_stay_counted_after_the_call_has_ended() -> None:
    ledger = Ledger(Budget())
    ledger.apply(started())
    ledger.apply(ended(possibly_tokens=200, possibly_usd=1.0))
    assert (ledger.committed("tokens"), ledger.committed("usd"), ledger.committed("calls")) == (215, 1.01, 1)
    assert ledger.total.input == 10  # what is known is kept apart
    assert ledger.to_json()["possibly_spent"] == {"calls": 0, "tokens": 200, "usd": 1.0}


def test_room_for_another_attempt_is_held_until_the_call_ends() -> None:
    ledger = Ledger(Budget(tokens=250))
    ledger.apply(started())
    ledger.hold(1, tokens=100, usd=None)
    assert ledger.committed("tokens") == 200
    with pytest.raises(BudgetExceeded):
        ledger.hold(1, tokens=100)
    with pytest.raises(BudgetExceeded):
        ledger.check(tokens=100)
    ledger.apply(ended())
    assert ledger.committed("tokens") == 15


def test_after_a_crash_every_attempt_of_a_lost_call_counts() -> None:
    ledger = Ledger(Budget())
    ledger.apply(started())
    ledger.hold(1, tokens=100)
    ledger.apply(CallRetried(1, 1, "the connection broke", 1.0))
    ledger.cut()
    assert (ledger.committed("tokens"), ledger.committed("usd"), ledger.committed("calls")) == (200, 1.0, 1)
    assert ledger.to_json()["possibly_spent"] == {"calls": 1, "tokens": 200, "usd": 1.0}


def test_an_attempt_that_was_not_billed_does_not_count_after_a_crash() -> None:
    ledger = Ledger(Budget())
    ledger.apply(started())
    ledger.apply(CallRetried(1, 1, "rate limit", 1.0, ambiguous=False))
    ledger.cut()
    assert ledger.committed("tokens") == 100 and ledger.retries == 1


def test_a_call_that_goes_on_after_a_crash_counts_each_attempt_once() -> None:
    ledger = Ledger(Budget(tokens=350))
    ledger.apply(started())
    ledger.cut()
    ledger.hold(1, tokens=100)
    ledger.apply(CallRetried(1, 1, "no result", 1.0))
    assert ledger.committed("tokens") == 200
    ledger.hold(1, tokens=100)
    assert ledger.committed("tokens") == 300
    with pytest.raises(BudgetExceeded):
        ledger.hold(1, tokens=100)


def test_an_attempt_that_broke_off_is_shown_while_the_next_one_is_under_way() -> None:
    ledger = Ledger(Budget())
    ledger.apply(started())
    ledger.apply(CallRetried(1, 1, "no result", 1.0))
    assert ledger.to_json()["possibly_spent"]["tokens"] == 100
    ledger.apply(ended(possibly_tokens=100))
    assert ledger.to_json()["possibly_spent"]["tokens"] == 100
