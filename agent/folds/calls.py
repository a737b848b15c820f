"""What model calls change in the state of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.events import CallEnded, CallStarted
from agent.folds.base import Handlers
from agent.folds.costs import amounts, measurement

if TYPE_CHECKING:
    from agent.state import State


def _started(state: State, event: CallStarted) -> None:
    state.calls[event.id] = event
    state.next_call = event.id + 1


def _ended(state: State, event: CallEnded) -> None:
    started = state.calls.pop(event.id, None)
    evaluation = measurement(started.scope) if started is not None else None
    if started is None or evaluation is None:
        return
    if started.purpose == "search":
        state.costs.call(evaluation, started, event)
        return
    for kind, amount in amounts(event).items():
        state.gate.asked[kind] += amount


HANDLERS: Handlers = {CallStarted: _started, CallEnded: _ended}
