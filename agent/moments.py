"""A journal folded for whoever goes on with a run: its state, what open proposals may read, replies that were paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from agent.decide import search_free
from agent.events import CallEnded, EvaluationEnded, ProposalEnded, ProposalStarted, RunStarted
from agent.history import History
from agent.journal import Entry
from agent.looking import Traces
from agent.state import State
from agent.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Moment:
    """What a proposer may read, as it was when the proposal was decided."""

    history: History
    memory: Any
    left: dict[str, float]
    share: float
    """Evaluations that were left to the search, besides what was admitted and not measured yet."""
    traces: Traces
    ended: int
    """How many evaluations had ended; later ones in `traces` are not of this moment."""
    wishes: Wishes
    estranged: bool
    """Whether `memory` is about other numbers than those that may change."""

    @classmethod
    def of(cls, state: State) -> Moment:
        """What of a state a proposal may read that is decided now."""
        free, traces = search_free(state), state.traces
        known = state.history.freeze(), state.memory, state.left(), free, traces, traces.count
        return cls(*known, state.wishes, state.estranged)


def lean(entry: Entry) -> Entry:
    """An entry without its trace, which may be large; that there is one still shows."""
    event = entry.event
    if not isinstance(event, EvaluationEnded) or not event.output.get("trace"):
        return entry
    return replace(entry, event=replace(event, output={**event.output, "trace": True}))


def fold(entries: Iterable[Entry]) -> tuple[State, dict[int, Moment]]:
    """The state after a journal, and the moment of each proposal that is still open.

    Raises:
        ValueError: The journal does not begin with `run.started`.
    """
    known = list(entries)
    if not known or not isinstance(known[0].event, RunStarted):
        raise ValueError("a journal begins with run.started")
    ended = {entry.event.id for entry in known if isinstance(entry.event, ProposalEnded)}
    state = State(known[0].event, known[0].time)
    moments: dict[int, Moment] = {}
    for entry in known[1:]:
        state.apply(entry.event, entry.time)
        if isinstance(entry.event, ProposalStarted) and entry.event.id not in ended:
            moments[entry.event.id] = Moment.of(state)
    return state, moments


def replies(entries: Iterable[Entry]) -> dict[tuple[str, str, int], CallEnded]:
    """The model replies of a journal by (scope, request hash, ordinal)."""
    out: dict[tuple[str, str, int], CallEnded] = {}
    open_calls = {}
    for entry in entries:
        event = entry.event
        if event.type == "call.started":
            open_calls[event.id] = event  # type: ignore[attr-defined]
        elif isinstance(event, CallEnded):
            started = open_calls.pop(event.id, None)
            if started is not None:
                out[started.scope, started.key, started.ordinal] = event  # type: ignore[attr-defined]
    return out
