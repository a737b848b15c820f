"""What the gate's exams and the final report change in the state of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.events import (
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HoldoutFixed,
    ReportPlanned,
    ReportReached,
    ReportStarted,
    VerdictReached,
)
from agent.folds.base import Handlers

if TYPE_CHECKING:
    from agent.state import State


def _rows_fixed(state: State, event: HoldoutFixed) -> None:
    state.gate.fixed(event)


def _exam_planned(state: State, event: ExamPlanned) -> None:
    gate, costs = state.gate, state.costs
    count, wanted = max(1, costs.units), 2 * event.pairs
    gate.planned_usd += wanted * costs.usd / count
    gate.planned_seconds += wanted * costs.seconds / count / state.workers
    for kind, amount in costs.asked.items():
        gate.planned_asked[kind] += wanted * amount / max(1, costs.askers)
    gate.plan_made(event)


def _exam_started(state: State, event: ExamStarted) -> None:
    state.race = None
    state.asks.clear()
    state.gate.started(event, state.asks, state.problem.deterministic)


def _verdict_reached(state: State, event: VerdictReached) -> None:
    state.gate.reached(event)


def _exam_decided(state: State, event: ExamDecided) -> None:
    state.gate.decided(event, state.history.champion)


def _report_planned(state: State, event: ReportPlanned) -> None:
    state.gate.report_made(event)


def _report_started(state: State, event: ReportStarted) -> None:
    state.gate.report_begun(event, state.asks)


def _report_reached(state: State, event: ReportReached) -> None:
    state.gate.reported(event)


HANDLERS: Handlers = {
    HoldoutFixed: _rows_fixed,
    ExamPlanned: _exam_planned,
    ExamStarted: _exam_started,
    VerdictReached: _verdict_reached,
    ExamDecided: _exam_decided,
    ReportPlanned: _report_planned,
    ReportStarted: _report_started,
    ReportReached: _report_reached,
}
