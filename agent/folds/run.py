"""What the course of a run, and the person who runs it, change in its state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.events import (
    RESUMABLE,
    BudgetChanged,
    EpochStarted,
    Event,
    HintGiven,
    PairJudged,
    RunContinued,
    RunEnded,
    RunPaused,
    RunResumed,
    StopRequested,
    ValueBanned,
    ValuePinned,
)
from agent.folds.base import Handlers
from agent.ledger import Budget
from agent.problem import Problem

if TYPE_CHECKING:
    from agent.state import State


def _resumed(state: State, event: RunResumed) -> None:
    state.resumes += 1
    state.ledger.cut()
    state.calls.clear()
    state.errors = []
    state.halt = None
    state.paused = False
    if "budget" in event.changes:
        state.ledger.budget = Budget(**event.changes["budget"])
        if state.gate.accepted is not None or not state.gate.open:
            state.stop = state.ended = None
            state.over = ""
            state.ledger.closed = False
            state.gate.go_on()
            state.suspects.go_on()
    if "workers" in event.changes:
        state.settings = replace(state.settings, workers=event.changes["workers"])


def _epoch(state: State, event: EpochStarted) -> None:
    # What was measured before belongs to another problem: the search starts again from the champion.
    champion = state.history[state.history.champion].candidate
    problem = Problem.from_json(event.problem)
    try:
        start = problem.space.candidate(champion)
    except ValueError:
        start = problem.initial()
    state.epoch, state.fingerprints = event.epoch, event.fingerprints
    state.evaluations.clear()
    state.proposals.clear()
    state.reads.clear()
    state.steps.clear()
    held = state.gate.held
    state.wishes = state.wishes.fit(problem.space)
    state.begin(problem, start)
    state.gate.exams = held  # an exam's number is its name in the account, so none is used twice


def _paused(state: State, event: RunPaused) -> None:
    state.paused = True


def _continued(state: State, event: RunContinued) -> None:
    state.paused = False


def _stop(state: State, event: StopRequested) -> None:
    if event.reason in RESUMABLE:
        state.halt = event
    elif state.stop is None:
        state.stop = event
        state.looks.drop(f"the search is over: {event.detail or event.reason}", state.ledger.evaluations)


def _ended(state: State, event: RunEnded) -> None:
    state.ended = event
    state.ledger.closed = True
    state.looks.drop("the run is over", state.ledger.evaluations)


def _wished(state: State, event: Event) -> None:
    state.wishes = state.wishes.told(event, state.history)


def _budget_changed(state: State, event: BudgetChanged) -> None:
    state.ledger.budget = Budget(**event.budget)


HANDLERS: Handlers = {
    RunResumed: _resumed,
    EpochStarted: _epoch,
    RunPaused: _paused,
    RunContinued: _continued,
    StopRequested: _stop,
    RunEnded: _ended,
    HintGiven: _wished,
    ValuePinned: _wished,
    ValueBanned: _wished,
    PairJudged: _wished,
    BudgetChanged: _budget_changed,
}
