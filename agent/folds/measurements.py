"""What measuring changes in the state of a run: whom an evaluation was for, and what it tells there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.curves import Curve
from agent.events import EvaluationEnded, EvaluationStarted, NoiseMeasured
from agent.folds.asks import NOISE
from agent.folds.base import Handlers
from agent.gate.quarantine import SECOND
from agent.looking import LOOK

if TYPE_CHECKING:
    from agent.gate.arena import Arena
    from agent.measuring import Unit
    from agent.state import State


def _started(state: State, event: EvaluationStarted) -> None:
    state.evaluations[event.id] = event
    state.next_evaluation = event.id + 1
    if event.stage == LOOK:
        state.looks.begin(event)
    elif event.stage in SECOND:
        state.suspects.begin()
    elif state.asks:
        state.asks.started()
    elif state.arena is not None and event.example is not None:
        state.arena.begin(event.candidate, event.example)


def _ended(state: State, event: EvaluationEnded) -> None:
    started = state.evaluations.pop(event.id, None)
    if started is None:
        return  # of a reader that does not see when the gate's measurements began
    state.costs.over(event.id)
    if started.purpose == "search" and started.stage not in SECOND:
        state.looks.measured(started, event)
        state.traces.measured(started, event)
    if started.stage == LOOK or _unpaid(event):
        return
    if state.repeats.has(started):
        state.repeats.add(state.measuring.alone(started, event))
    if started.stage == NOISE and state.arena is None:
        return
    unit = state.measuring.add(started, event)
    if unit is None:
        return
    usd = event.output.get("usd", 0.0)
    if started.stage in SECOND:
        state.costs.unit(unit.seconds, usd)
        state.suspects.add(unit)
        return
    if unit.fidelity < 1:
        _partly(state, unit)
        return
    if state.problem.fidelity is not None and state.problem.fidelity.stop:
        _keep_curve(state, unit, event)
    if unit.purpose == "search" and not unit.stopped:
        state.costs.unit(unit.seconds, usd)
    if unit.purpose == "gate":
        state.gate.usd += usd
        state.gate.measured(unit)
    elif unit.purpose == "report":
        state.gate.report_measured(unit)
    elif state.arena is not None and unit.example is not None:
        _on_row(state, state.arena, unit)
    else:
        _on_all(state, unit)


def _unpaid(event: EvaluationEnded) -> bool:
    """Whether it was not measured because the search's share of a limit is spent, which says nothing about it."""
    return event.purpose == "search" and event.output.get("failure", {}).get("kind") == "unpaid"


def _partly(state: State, unit: Unit) -> None:
    """With a part of the effort."""
    assert state.halving is not None
    if unit.values is None:
        state.history.partly(unit, None)
        state.fresh.append(unit.candidate)
        return
    cost = -state.problem.objective.sign * state.problem.compared(unit.values)
    state.history.partly(unit, cost)
    state.halving.add(unit.candidate, unit.fidelity, len(state.problem.violated(unit.values)), cost)


def _keep_curve(state: State, unit: Unit, event: EvaluationEnded) -> None:
    if unit.purpose == "search" and unit.values is not None and not state.history[unit.candidate].count:
        state.curves.append(Curve.read(state.problem, event.output.get("partials", ())))


def _on_row(state: State, arena: Arena, unit: Unit) -> None:
    """On a row of data, for a race there."""
    _tell(state, unit)
    score = state.problem.compared(unit.values) if unit.values is not None else state.problem.failure
    if score is None:
        state.broken.setdefault(unit.candidate, unit.failure)
    arena.add(unit.candidate, str(unit.example), arena.worst if score is None else score)


def _on_all(state: State, unit: Unit) -> None:
    """As a whole."""
    _tell(state, unit)
    if unit.candidate == state.history.initial and unit.pair < 0:
        if not state.problem.deterministic:
            state.repeats.add(replace(unit, example=None))
    elif unit.pair < 0:
        state.fresh.append(unit.candidate)
    race = state.race
    if race is not None and unit.pair in race.numbers:
        race.add(unit.pair, unit.candidate, unit.values)
        if race.asked < race.wanted:
            state.asks.pair(race, "search")


def _tell(state: State, unit: Unit) -> None:
    mean = state.history.mean_with(state.history[unit.candidate], unit.values)
    state.history.measured(unit, mean is not None and not state.problem.violated(mean))


def _noise(state: State, event: NoiseMeasured) -> None:
    state.noise_found = event


HANDLERS: Handlers = {EvaluationStarted: _started, EvaluationEnded: _ended, NoiseMeasured: _noise}
