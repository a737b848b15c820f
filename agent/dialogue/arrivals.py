"""What a person beside a run sees arrive, besides what every display of a run says."""

from __future__ import annotations

from agent.events import CandidateAdmitted, EvaluationEnded, Event, ToolEnded
from agent.looking import LOOK
from agent.state import State
from agent.telling.text import amount, brief
from agent.telling.words import since_parent


class Arrivals:
    """Proposals, tools and measurements as they come; it must be told of all events, in order."""

    def __init__(self) -> None:
        self._measured: dict[int, tuple[str, str]] = {}
        """Candidate and stage of the measurements in flight."""
        self._begun = False
        """Whether it was said what the initial candidate has."""

    def __call__(self, event: Event, state: State) -> str:
        """What is said of an event that was just folded; "" of most."""
        for started in state.evaluations.values():
            if started.purpose == "search":
                self._measured.setdefault(started.id, (started.candidate, started.stage))
        if isinstance(event, CandidateAdmitted):
            if event.candidate == state.history.initial:
                return ""
            trial = state.history[event.candidate]
            changed = brief(since_parent(state.problem.space, state.history, trial), 200)
            because = "" if trial.rationale in ("", changed) else f": {brief(trial.rationale, 200)}"
            return f"  + #{trial.number} [{trial.source}] {changed}{because}"
        if isinstance(event, ToolEnded) and event.name != "submit":
            return f"  · {used(event)}"
        if isinstance(event, EvaluationEnded) and event.purpose == "search":
            return self._measurement(event, state)
        return ""

    def _measurement(self, event: EvaluationEnded, state: State) -> str:
        candidate, stage = self._measured.pop(event.id, ("", ""))
        if not candidate or stage == LOOK or candidate not in state.history:
            return ""
        trial, goal = state.history[candidate], state.problem.objective
        if len(state.problem.data) > 1 or (not trial.number and self._begun):
            return ""  # of many rows, the race says what became of it
        if event.score is None:
            failure = event.output.get("failure") or {}
            said = f"{failure.get('kind', 'error')}: {brief(failure.get('message', ''), 100)}"
        else:
            said = f"{goal.name} {amount(event.score['values'].get(goal.name), goal.unit)}"
            self._begun = self._begun or not trial.number
        return f"  = #{trial.number} {'' if trial.number else 'initial candidate: '}{said}"


WORDS = {
    "candidate": "looked at candidate {candidate}",
    "critic": "asked a critic",
    "diff": "compared {before} and {after}",
    "evaluate": "measured an idea",
    "failures": "looked at what failed",
    "files": "looked at the list of files",
    "hypothesis": "noted an assumption: {text}",
    "outcome": "noted what became of an assumption",
    "parameters": "looked at what the parameters do",
    "pareto": "looked at the trade-offs",
    "python": "calculated something",
    "read_file": "read {path}",
    "read_row": "read row {row}",
    "recent": "looked at the latest {n}",
    "rows": "looked at the hardest rows",
    "search_files": "searched the files for {text}",
    "search_trace": "searched a trace for {text}",
    "second": "asked another model",
    "surrogate": "asked for a prediction",
    "top": "looked at the best {n}",
    "trace": "looked at a trace",
}
"""What is said of the tools of the table, with their arguments; {n} is 5 where it is not given."""
USUAL = {
    "n": 5,
    "candidate": "champion",
    "before": "initial",
    "after": "champion",
    "text": "…",
    "path": "…",
    "row": "…",
}


def used(event: ToolEnded) -> str:
    """What a model did with a tool, in a few words."""
    given = {**USUAL, **(event.arguments or {})}
    known = WORDS.get(event.name)
    plain = {name: brief(value, 60).strip('"') for name, value in given.items()}
    what = known.format_map(plain) if known else f"used {brief(event.name, 40)}"
    return f"{what}: that failed" if event.error else what
