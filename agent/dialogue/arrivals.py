"""What a person beside a run sees arrive, besides what every display of a run says."""

from __future__ import annotations

from agent.cli.common import amount, brief
from agent.cli.words import since_parent
from agent.events import CandidateAdmitted, EvaluationEnded, Event, ToolEnded
from agent.looking import LOOK
from agent.state import State


class Arrivals:
    """Proposals, tools and measurements as they come; it must be told of all events, in order."""

    def __init__(self) -> None:
        self._measured: dict[int, tuple[str, str]] = {}
        """Candidate and stage of the measurements in flight."""

    def __call__(self, event: Event, state: State) -> str:
        """What is said of an event that was just folded; "" of most."""
        for started in state.evaluations.values():
            if started.purpose == "search":
                self._measured.setdefault(started.id, (started.candidate, started.stage))
        if isinstance(event, CandidateAdmitted):
            trial = state.history[event.candidate]
            changed = brief(since_parent(state.problem.space, state.history, trial), 200)
            because = "" if trial.rationale in ("", changed) else f": {brief(trial.rationale, 200)}"
            return f"  + #{trial.number} [{trial.source}] {changed}{because}"
        if isinstance(event, ToolEnded) and event.name != "submit":
            given = brief(event.arguments, 80) if event.arguments else ""
            return f"  · {brief(event.name, 40)} {given} → {brief(event.text, 80)}"
        if isinstance(event, EvaluationEnded) and event.purpose == "search":
            return self._measurement(event, state)
        return ""

    def _measurement(self, event: EvaluationEnded, state: State) -> str:
        candidate, stage = self._measured.pop(event.id, ("", ""))
        if not candidate or stage == LOOK or candidate not in state.history:
            return ""
        trial, goal = state.history[candidate], state.problem.objective
        if event.score is None:
            failure = event.output.get("failure") or {}
            said = f"{failure.get('kind', 'error')}: {brief(failure.get('message', ''), 100)}"
        else:
            said = f"{goal.name} {amount(event.score['values'].get(goal.name), goal.unit)}"
        return f"  = #{trial.number} {said}"
