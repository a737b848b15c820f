"""Why the search took or dropped a candidate, in words of train evidence.

All of it is read from what the search may see of the journal, so of the gate there is the bit and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import ConfigError
from agent.events import CandidateCleared, CandidateConvicted, CandidateSuspected, ExamDecided, RaceDecided, RunStarted
from agent.history import AGAIN, History, Trial
from agent.journal import read
from agent.ledger import plural
from agent.state import State
from agent.telling.text import amount, brief
from agent.telling.words import since_parent

TOLD = ("pairs", "wins", "losses", "effect", "low", "high", "rank", "of")
"""What is said of a race's evidence, where it is there."""
STATES = {
    "queued": "it waits to be measured",
    "measured": "it is measured, and the race has not given its word yet",
    "suspected": "its score may come from a trick, so it is measured again and counts for nothing until then",
    "racing": "it is being compared with the champion",
    "champion": "it is the champion: the search builds on it",
    "dropped": "the search dropped it",
    "failed": "it has no value",
}


def named(history: History, name: str) -> Trial:
    """The candidate that a number, "#" and a number, the beginning of an id, or a role stands for.

    Raises:
        ConfigError: There is none, or there are several.
    """
    text = name.strip().removeprefix("#")
    if text in ("champion", "best"):
        return history[history.champion]
    if text == "initial":
        return history[history.initial]
    if text.isdecimal() and len(text) < 10 and int(text) < len(history):
        return history.trials[int(text)]
    hits = [trial for trial in history.trials if len(text) >= 4 and trial.id.startswith(text)]
    if len(hits) == 1:
        return hits[0]
    what = f"several candidates begin with {brief(name)}" if hits else f"there is no candidate {brief(name)}"
    raise ConfigError(what, hint="give its number, such as /why 7, or the beginning of its id")


def why(folder: Path, name: str) -> list[str]:
    """What became of a candidate, and why, a line each.

    Args:
        folder: Of the run.
        name: Of the candidate, as `named` takes it.

    Raises:
        ConfigError: There is no such candidate.
        StoreError: The journal cannot be read.
    """
    state: State | None = None
    words: dict[str, list[str]] = {}
    after: dict[str, str] = {}
    """What took the place of each that was the champion."""
    for entry in read(folder):
        event = entry.event
        if state is None:
            assert isinstance(event, RunStarted)
            state = State(event, entry.time)
            continue
        if isinstance(event, ExamDecided):
            bit = "accepted it" if event.accepted else "did not accept it"
            words.setdefault(state.history.champion, []).append(f"gate: it {bit}")
        before = state.history.champion
        state.apply(event, entry.time)
        if state.history.champion != before:
            after[before] = state.history.champion
        if isinstance(event, RaceDecided):
            words.setdefault(event.candidate, []).append(_raced(event, state.history))
        elif isinstance(event, CandidateSuspected) and event.reason != AGAIN:
            words.setdefault(event.candidate, []).append(f"suspicious: {event.evidence}")
        elif isinstance(event, (CandidateCleared, CandidateConvicted)):
            words.setdefault(event.candidate, []).append(f"measured again: {event.reason}")
    assert state is not None
    try:
        trial = named(state.history, name)
    except ConfigError:
        refused = _refused(state.history, name)
        if refused:
            return refused
        raise
    next_one = state.history[after[trial.id]].number if trial.id in after else None
    return _told(state, trial, words.get(trial.id, []), next_one)


def _told(state: State, trial: Trial, words: list[str], next_one: int | None) -> list[str]:
    """The lines; `next_one` is the number of the champion that replaced it, where it was one."""
    history, goal = state.history, state.problem.objective
    what = STATES["champion" if trial.id == history.champion else trial.state]
    if trial.id != history.champion and trial.state in ("dropped", "measured") and next_one is not None:
        what = (
            f"kept, and later replaced by #{next_one}"
            if trial.number
            else f"the search began here; #{next_one} replaced it"
        )
    out = [f"#{trial.number} {trial.id[:8]} [{trial.source}]: {what}"]
    changed = since_parent(state.problem.space, history, trial) if trial.number else ""
    out += [f"changes: {changed}"] if changed else []
    out += [f"its reasons: {brief(trial.rationale, 300)}"] if trial.rationale else []
    if trial.values is not None:
        score = amount(trial.values.get(goal.name), goal.unit)
        champion = history[history.champion]
        beside = amount((champion.values or {}).get(goal.name), goal.unit)
        other = "" if champion.id == trial.id else f"; the champion #{champion.number} has {beside}"
        where = " on train" if state.problem.by_rows else ""
        out.append(f"measured{where}: {goal.name} {score}, {plural(trial.count, 'measurement')}{other}")
        if not trial.feasible:
            out.append(f"it breaks {', '.join(map(str, state.problem.violated(trial.values)))}")
    if trial.failure:
        out.append(f"failure: {brief(trial.failure, 300)}")
    if trial.feedback and not state.problem.by_rows:
        out.append(f"the evaluator said: {brief(trial.feedback, 300)}")
    return out + words


def _raced(event: RaceDecided, history: History) -> str:
    said = {"promote": "kept", "drop": "dropped", "continue": "goes into a race", "climb": "measured with more effort"}
    against = history[event.champion].number if event.champion in history else "?"
    told = [f"{name} {_number(event.evidence[name])}" for name in TOLD if event.evidence.get(name)]
    evidence = f" ({', '.join(told)})" if told else ""
    return f"race against #{against}: {said[event.decision]}: {event.reason}{evidence}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else brief(value, 40)


def _refused(history: History, name: str) -> list[str]:
    """What was said of a candidate that was never measured."""
    start = name.strip().removeprefix("#")
    if len(start) < 4:
        return []
    known = [item for item in history.rejections if str(item.get("candidate", "")).startswith(start)]
    return [f"{item['candidate'][:8]} was never measured [{item['source']}]: {item['reason']}" for item in known]
