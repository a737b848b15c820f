"""What a run of a night may spend: its own limits, what is granted, and what it has spent before."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from agent.batch.place import Limits
from agent.batch.spend import Spend
from agent.batch.treasury import WHOLE
from agent.ledger import KINDS, Budget

if TYPE_CHECKING:
    from agent.batch.work import Unfinished
    from agent.setup import Setup

MARGIN_SHARE, MARGIN_MOST = 0.05, 60.0
"""A search ends that much of the time that is left (and at most so many seconds) before the night does."""


def wanted(setup: Setup, unfinished: Unfinished | None) -> dict[str, float]:
    """What a search would take at most: the problem's own limits, less what an unfinished run has spent of them."""
    own = setup.budget.to_json()
    done = committed(unfinished)
    return {kind: max(0, limit - done[kind]) for kind, limit in own.items()}


def committed(unfinished: Unfinished | None) -> dict[str, float]:
    """What counts against a run's own limits so far, by kind."""
    if unfinished is None:
        return dict.fromkeys(KINDS, 0)
    ledger = copy.deepcopy(unfinished.state.ledger)
    ledger.cut()
    return {kind: ledger.committed(kind) for kind in KINDS}


def until_scope(seconds: float | None) -> Limits:
    """What the night's end leaves for a search."""
    if seconds is None:
        return {}
    return {"seconds": max(0.0, seconds - min(MARGIN_MOST, MARGIN_SHARE * seconds))}


def budget_of(limits: Limits) -> Budget:
    """Limits by kind as a budget."""
    whole: dict[str, Any] = {k: math.floor(v + 1e-9) if k in WHOLE else v for k, v in limits.items()}
    return Budget(**whole)


def total(room: Limits, unfinished: Unfinished | None, tonight: Spend | None = None) -> Limits:
    """The limits of the run itself: what is granted on top of what counts against them so far.

    What is held back for calls that wait in a provider's batch is free again once they are answered. Where an earlier
    night has sent them it stays theirs, and is not on top.

    Args:
        room: What is granted.
        unfinished: The run that goes on.
        tonight: What the run was charged with tonight, before this.
    """
    if unfinished is None:
        return room
    done, ledger = committed(unfinished), unfinished.state.ledger
    waiting = [call for number, call in ledger.lost_calls.items() if ledger.batch_of(number) is not None]
    waiting += [call for number, call in ledger._open_calls.items() if ledger.batch_of(number) is not None]
    for kind in ("calls", "tokens", "usd"):
        held = sum(call.reserved.get(kind, 0) for call in waiting)
        mine = tonight.possibly.get(kind, 0) if tonight is not None else 0
        done[kind] -= max(0, held - max(0, mine))
    return {kind: max(0, value + done[kind]) for kind, value in room.items()}


def least(*amounts: float | None) -> float | None:
    """The smallest of those that there are."""
    return min((amount for amount in amounts if amount is not None), default=None)


def changes(
    granted: Limits, unfinished: Unfinished, most: float | None, tonight: Spend | None = None
) -> dict[str, Any]:
    """What a resume changes: its limits, where they are not what they were.

    A limit on seconds stays as it is while the run still ends within what caps and night leave, so that a run which
    was cut off and goes on in the same night is the run that it would have been.

    Args:
        granted: What it may spend from now on.
        unfinished: The run.
        most: Seconds that the caps and the night leave.
        tonight: As for `total`.
    """
    ledger = unfinished.state.ledger
    old, new = ledger.budget.to_json(), dict(budget_of(total(granted, unfinished, tonight)).to_json())
    if "seconds" in old and "seconds" in new:
        late = most is not None and old["seconds"] - ledger.seconds > most + 1e-6
        if not late and new["seconds"] <= old["seconds"]:
            new["seconds"] = old["seconds"]
    same = old.keys() == new.keys() and all(math.isclose(old[k], new[k], rel_tol=1e-9, abs_tol=1e-9) for k in old)
    return {} if same else {"budget": new}
