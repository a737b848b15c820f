"""Events of the person who runs a search: what they say to it, and what they allow. No model can make one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class HintGiven(Event):
    """Guidance in words. The prompts of all later proposals show it."""

    text: str
    type: ClassVar[str] = "hint.given"


@dataclass(frozen=True, slots=True)
class ValuePinned(Event):
    """A parameter keeps one value in all later proposals.

    Args:
        name: Of the parameter.
        value: In canonical form; None lets go of it.
    """

    name: str
    value: Any
    type: ClassVar[str] = "value.pinned"


@dataclass(frozen=True, slots=True)
class ValueBanned(Event):
    """Values that no later proposal may have.

    Args:
        name: Of the parameter.
        ban: {"low", "high"} of a number, both included; {"choice"} of a category; {"words"} that a text must not
            hold; empty to take back all bans of this parameter.
    """

    name: str
    ban: JSON
    type: ClassVar[str] = "value.banned"


@dataclass(frozen=True, slots=True)
class PairJudged(Event):
    """The person has compared what two candidates made of one row, without knowing which was which.

    Args:
        one: Id of a candidate,
        two: and of the other.
        example: The row of train; None where there are no rows.
        preference: 1 for `one`, -1 for `two`, 0 for neither.
    """

    one: str
    two: str
    example: str | None
    preference: float
    type: ClassVar[str] = "pair.judged"


@dataclass(frozen=True, slots=True)
class BudgetChanged(Event):
    """Other limits from here on: all of them, as `Budget.to_json` gives them."""

    budget: JSON
    type: ClassVar[str] = "budget.changed"


EVENTS: tuple[type[Event], ...] = (HintGiven, ValuePinned, ValueBanned, PairJudged, BudgetChanged)
"""All of them."""
