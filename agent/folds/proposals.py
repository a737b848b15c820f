"""What proposers at work, and the checks of what they propose, change in the state of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
    CheckEnded,
    CheckStarted,
    LookAsked,
    ProposalEnded,
    ProposalStarted,
    RowRead,
    ToolEnded,
)
from agent.folds.base import Handlers

if TYPE_CHECKING:
    from agent.state import State


def _started(state: State, event: ProposalStarted) -> None:
    state.proposals[event.id] = event
    state.next_proposal = event.id + 1
    state.numbers[event.id] = state.wishes.space(state.problem.space).numeric
    state.starting = None


def _row_read(state: State, event: RowRead) -> None:
    state.reads.setdefault(event.proposal, {})[event.example] = event.row


def _look_asked(state: State, event: LookAsked) -> None:
    state.looks.ask(event, state.ledger.evaluations)
    state.leaks += event.leaked


def _tool_ended(state: State, event: ToolEnded) -> None:
    state.steps.setdefault(event.proposal, {})[event.conversation, event.turn, event.index] = event


def _ended(state: State, event: ProposalEnded) -> None:
    state.proposals.pop(event.id, None)
    state.reads.pop(event.id, None)
    state.steps.pop(event.id, None)
    state.looks.forget(event.id)
    numbers = state.numbers.pop(event.id, state.remembered)
    state.unchecked.extend((event.id, proposal) for proposal in event.proposals)
    state.barren += 1
    if event.exhausted:
        state.exhausted = event.error or "the proposer has nothing left to propose"
    state.over = event.over or state.over
    if event.error:
        state.errors.append(event.error)
    else:
        state.errors, state.memory = [], event.state
        state.remembered = numbers


def _check_started(state: State, event: CheckStarted) -> None:
    state.checking = event


def _check_ended(state: State, event: CheckEnded) -> None:
    number, proposal = state.unchecked[0]
    state.unchecked[0] = (number, {**proposal, "checked": [event.check, event.reason]})


def _admitted(state: State, event: CandidateAdmitted) -> None:
    state.unchecked.popleft()
    state.checking = None
    state.barren = 0
    if state.starting is not None:
        state.starting.append(event.candidate)
    if state.arena is not None:
        state.arena.enter(event.candidate, event.read, event.parents)
    elif state.halving is not None:
        state.asks.rung(event.candidate, state.halving.rungs[0], climbs=False)
    else:
        state.asks.candidate(event.candidate)


def _rejected(state: State, event: CandidateRejected) -> None:
    _, refused = state.unchecked.popleft()
    if not event.proposal:
        state.refused.append((refused, event.reason))
    state.leaks += event.reason.startswith("leak:")
    state.checking = None


HANDLERS: Handlers = {
    ProposalStarted: _started,
    RowRead: _row_read,
    LookAsked: _look_asked,
    ToolEnded: _tool_ended,
    ProposalEnded: _ended,
    CheckStarted: _check_started,
    CheckEnded: _check_ended,
    CandidateAdmitted: _admitted,
    CandidateRejected: _rejected,
}
