"""What is said of an event: the same words on the terminal, in a log, and to whoever watches from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.code.changes import counted_lines
from agent.events import (
    RESUMABLE,
    BudgetChanged,
    CallRetried,
    CandidateCleared,
    CandidateConvicted,
    CandidateRejected,
    CandidateSuspected,
    EvaluationEnded,
    Event,
    ExamDecided,
    ExamStarted,
    HintGiven,
    LookAsked,
    NoiseMeasured,
    PairJudged,
    ProposalEnded,
    RaceDecided,
    ReportStarted,
    RunContinued,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StopRequested,
    ValueBanned,
    ValuePinned,
)
from agent.history import AGAIN, SUSPICIOUS
from agent.ledger import plural
from agent.proposers.table import load, talks
from agent.telling.text import amount, brief
from agent.texts import Code, Text
from agent.warm import sentence
from agent.wishes import said

if TYPE_CHECKING:
    from agent.history import History, Trial
    from agent.space import Change, Space
    from agent.state import State


class Said(NamedTuple):
    """What is said of an event.

    Args:
        text: For people; empty where there is nothing to say.
        style: For a terminal.
        level: info, warning or error.
    """

    text: str
    style: str
    level: str


class Words:
    """Says what matters of a run's events. It must be told all of them, in order.

    Args:
        few: Leave out what a status line shows as well.
        elsewhere: The run is another process's: its proposer, which may be the user's own code, is not loaded here.
    """

    def __init__(self, few: bool = False, elsewhere: bool = False) -> None:
        self._few = few
        self._elsewhere = elsewhere
        self._told = False

    def __call__(self, event: Event, state: State) -> Said:
        """What is said of an event that was just folded into the state."""
        text, style = self._of(event, state)
        level = "warning" if style == "yellow" else "error" if style == "red" else "info"
        return Said(text, style, level)

    def _of(self, event: Event, state: State) -> tuple[str, str]:
        goal = state.problem.objective
        history = state.history
        if isinstance(event, RunStarted):
            who = state.settings.proposer
            if not self._elsewhere and talks(load(who, state.problem.folder)):
                who += " with " + (", ".join(dict.fromkeys(state.settings.models.values())) or "no model")
            text = (
                f"run {event.run}: {plural(len(state.problem.space), 'parameter')}, proposer {who}, seed {event.seed}"
            )
            begins = sentence(event.starts, event.warm)
            notes = [f"  ! {note}" for note in (*event.warm.get("notes", ()), *event.origin.get("notes", ()))]
            rows = [rows_line(event.problem)] if state.problem.by_rows else []
            return "\n".join([text, *rows, *([begins] if begins else []), *notes]), "bold"
        if isinstance(event, RunResumed):
            done = plural(state.ledger.evaluations, "evaluation")
            return f"resumed at {done}, {plural(state.ledger.total.calls, 'model call')}", "bold"
        if isinstance(event, EvaluationEnded) and event.purpose == "search":
            return self._baseline(event, state)
        if isinstance(event, RaceDecided):
            trial = history[event.candidate]
            what = "" if trial.rationale else f" {brief(since_parent(state.problem.space, history, trial))}"
            because = f' "{brief(trial.rationale)}"' if trial.rationale else ""  # its maker's words: behind the fact
            what = f"[{trial.source}]{what}: {event.reason}{because}"
            if event.decision == "promote":
                value = "" if state.arena else ", " + amount((trial.values or {}).get(goal.name), goal.unit)
                return f"  ✓ kept #{trial.number}{value} {what}", "green"
            if event.decision == "climb" and not self._few:
                return f"  ↑ #{trial.number} {what}", "dim"
            telling = event.evidence.get("pairs") or event.evidence.get("step")  # measured in pairs, or hopeless
            telling = telling or event.reason.startswith(SUSPICIOUS)
            if event.decision == "drop" and (telling or not self._few):
                return f"  ✗ dropped #{trial.number} {what}", "dim"
        if isinstance(event, CandidateSuspected):
            trial = history[event.candidate]
            if event.reason == AGAIN:
                return f"  · #{trial.number} is measured again: {event.evidence}", "dim"
            return f"  ? suspicious #{trial.number} [{trial.source}], measured again: {event.evidence}", "yellow"
        if isinstance(event, CandidateConvicted):
            trial = history[event.candidate]  # one that was to be claimed; of another one the race says it next
            return (
                (f"  ✗ fell #{trial.number}: {event.reason}", "yellow") if trial.reason == trial.failure else ("", "")
            )
        if isinstance(event, CandidateCleared):
            if event.candidate in state.suspects.sure:
                return f"  · {event.reason}", "dim"
            return f"  · not suspicious any more #{history[event.candidate].number}: {event.reason}", ""
        if isinstance(event, ProposalEnded):
            notes = [f"  ! {item['source']}: {item['reason']}" for item in event.rejections]
            notes += [f"  ! the proposer failed: {event.error}"] if event.error else []
            return "\n".join(notes), "yellow"
        if isinstance(event, CallRetried):
            return f"  … model call failed, again in {event.wait:.0f} s: {event.error}", "yellow"
        if isinstance(event, CandidateRejected) and not (self._few and event.proposal):
            return f"  - not measured [{event.source}]: {event.reason}", "dim"
        if isinstance(event, LookAsked) and (event.check or event.refused) and not self._few:
            return f"  - not measured now: {event.candidate[:8]}: {event.check or event.refused}", "dim"
        if isinstance(event, RunPaused):
            return "paused: nothing new starts until truegain resume", "yellow"
        if isinstance(event, RunContinued):
            return "goes on", ""
        if isinstance(event, (HintGiven, ValuePinned, ValueBanned, PairJudged, BudgetChanged)):
            return f"  » {_personal(event, state)}", "bold"
        if isinstance(event, RunEnded):
            return f"ended ({event.reason}): {event.status}", ""
        if isinstance(event, StopRequested):
            what = "the run rests" if event.reason in RESUMABLE else "the search ends"
            return f"{what}: {event.detail or event.reason}", ""
        if isinstance(event, NoiseMeasured):
            return f"noise: {event.sentence}", "red" if event.wrong else ""
        if isinstance(event, ExamStarted):
            than = "initial" if event.released == history.initial else "released"
            what = "held-out rows" if state.arena is not None else "fresh pairs"
            return f"exam: the best candidate against the {than} one, {event.pairs} {what}", ""
        if isinstance(event, ReportStarted):
            planned = state.gate.report_planned
            return f"report: {planned.rows if planned else 0} test rows are opened", ""
        if isinstance(event, ExamDecided):
            return (
                f"gate: {'accepted' if event.accepted else 'not accepted'}",
                "bold green" if event.accepted else "bold",
            )
        return "", ""

    def _baseline(self, event: EvaluationEnded, state: State) -> tuple[str, str]:
        trial = state.history.trials[0]
        if self._told or state.arena is not None or len(state.history) > 1:
            return "", ""
        if trial.count != state.baseline or trial.values is None:
            return "", ""
        self._told = True  # a second look that checks determinism counts as no measurement
        goal = state.problem.objective
        return f"initial candidate: {goal.name} {amount(trial.values[goal.name], goal.unit)}", ""


def _personal(event: Event, state: State) -> str:
    """What the person said, as it was noted."""
    history = state.history
    if isinstance(event, HintGiven):
        read = state.settings.models.get("propose", "none") != "none"
        what = "noted for the next proposals" if read else "noted, but this run has no model that would read it"
        return f"{what}: {brief(event.text, 200)}"
    if isinstance(event, ValuePinned):
        return f"{event.name} is free again" if event.value is None else f"{event.name} stays {brief(event.value)}"
    if isinstance(event, ValueBanned):
        return f"never {event.name} {said(event.ban)}" if event.ban else f"{event.name} has no bans any more"
    if isinstance(event, PairJudged):
        one, two = (history[name].number for name in (event.one, event.two))
        better = one if event.preference > 0 else two
        return f"compared #{one} and #{two}: " + (f"#{better} is preferred" if event.preference else "a tie")
    assert isinstance(event, BudgetChanged)
    return "limits: " + ", ".join(f"{kind} {limit:g}" for kind, limit in event.budget.items())


def one_line(space: Space, change: Change, width: int = 20) -> str:
    """A changed parameter in one line."""
    if isinstance(space[change.name], Code):
        return counted_lines(change.name, change.before, change.after)
    if isinstance(space[change.name], Text):  # of long texts, the words in which they differ
        from agent.results.resultfiles import differing

        before, after = differing(change.before, change.after, width)
        return f"{change.name}: {brief(before, width)} → {brief(after, 2 * width)}"
    return f"{change.name}: {brief(change.before, width)} → {brief(change.after, width)}"


def since_parent(space: Space, history: History, trial: Trial) -> str:
    """What a candidate changed of the one it was made from, or of the initial one, in one line."""
    origin = trial.parents[0] if trial.parents and trial.parents[0] in history else history.initial
    changes = space.diff(history[origin].candidate, trial.candidate)
    return ", ".join(one_line(space, change) for change in changes)


def rows_line(problem: Mapping[str, Any]) -> str:
    """How many rows are for what, from the journal's description of a problem."""
    held = problem["held_out"]
    return (
        f"data: {len(problem['examples'])} rows to search on (train), {held['val']} held back for the exam (val),"
        f" {held['test']} for the final report (test)"
    )
