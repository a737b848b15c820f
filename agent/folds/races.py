"""What races, and suspicion of who would win one, change in the state of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.events import CandidateCleared, CandidateConvicted, CandidateSuspected, RaceDecided, RaceStarted
from agent.folds.base import Handlers
from agent.gate.pairs import Pairs

if TYPE_CHECKING:
    from agent.state import State


def _started(state: State, event: RaceStarted) -> None:
    state.contenders.popleft()
    settings = state.settings
    first = state.asks.next_pair
    state.race = Pairs(event.challenger, event.champion, settings.race_shortest, settings.race_longest, first)
    while state.race.asked < state.race.wanted:
        state.asks.pair(state.race, "search")


def _decided(state: State, event: RaceDecided) -> None:
    if state.halving is not None and "rank" in event.evidence:
        to = state.halving.ruled(event.candidate, event.evidence["fidelity"])
        if to is not None:
            state.asks.rung(event.candidate, to, climbs=True)
        return
    if state.arena is not None:
        state.broken.pop(event.candidate, None)
        state.arena.decided(event.candidate, event.decision == "promote")
        return
    if state.race is not None and state.race.challenger == event.candidate:
        state.race = None
        state.asks.urgent.clear()
    elif state.fresh and state.fresh[0] == event.candidate:
        state.fresh.popleft()
    else:
        state.contenders.remove(event.candidate)
    if event.decision == "continue":
        state.contenders.append(event.candidate)


def _suspected(state: State, event: CandidateSuspected) -> None:
    state.suspects.suspect(event, state.history, state.rows)


def _cleared(state: State, event: CandidateCleared) -> None:
    state.suspects.over(cleared=True)
    if state.fresh and state.fresh[0] == event.candidate and state.history[event.candidate].values is None:
        state.fresh.popleft()
        state.asks.candidate(event.candidate)  # it had no score: it is measured as if for the first time


def _convicted(state: State, event: CandidateConvicted) -> None:
    state.suspects.over(cleared=False)
    if state.arena is not None:
        state.broken[event.candidate] = state.history[event.candidate].failure


HANDLERS: Handlers = {
    RaceStarted: _started,
    RaceDecided: _decided,
    CandidateSuspected: _suspected,
    CandidateCleared: _cleared,
    CandidateConvicted: _convicted,
}
