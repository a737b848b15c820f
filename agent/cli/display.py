"""How a run is watched: plain lines anywhere, and a live status line below them on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import amount, brief, plain
from agent.events import (
    CallRetried,
    CandidateRejected,
    EvaluationEnded,
    Event,
    ExamDecided,
    ExamStarted,
    NoiseMeasured,
    ProposalEnded,
    RaceDecided,
    ReportStarted,
    RunResumed,
    RunStarted,
    StopRequested,
)
from agent.ledger import counted
from agent.proposers.base import load, talks
from agent.warm import sentence

if TYPE_CHECKING:
    from agent.state import State

PLAIN = ("NO_COLOR", "CI", "CLAUDECODE", "CODEX_SANDBOX")


def wants_live() -> bool:
    """Whether stderr is a terminal that may be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not any(os.environ.get(n) for n in PLAIN[1:])


class Display:
    """Prints what matters as it happens, to stderr. An observer of the run.

    Args:
        live: Draw a status line that is updated in place.
        quiet: Print nothing at all.
    """

    def __init__(self, live: bool, quiet: bool = False) -> None:
        self.quiet = quiet
        self._live = live
        self._status: Any = None
        self._console: Any = None
        self._drawn = 0.0
        self._said = 0.0
        self._told = False
        if live:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the run goes on."""
        if self._console is None or self.quiet:
            yield
            return
        with self._console.status("starting") as self._status:
            yield
        self._status = None

    def line(self, text: str, style: str = "") -> None:
        """One line above the status."""
        if self.quiet:
            return
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text(plain(text), style=style))
        else:
            click.echo(plain(text), err=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """How far a download is; called from another thread."""
        if self.quiet:
            return
        part = f" {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f" {done / 1e6:.0f} MB" if done else ""
        if self._status is not None:
            self._status.update(f"{what}{_bar(done, total)}{part}")
        elif time.monotonic() - self._said > 5:
            self._said = time.monotonic()
            self.line(f"{what}{part}")

    def __call__(self, event: Event, state: State) -> None:
        text, style = self._words(event, state)
        if text:
            self.line(text, style)
        now = time.monotonic()
        if self._status is not None and now - self._drawn > 0.1:
            self._drawn = now
            self._status.update(_standing(state))

    def _words(self, event: Event, state: State) -> tuple[str, str]:
        goal = state.problem.objective
        history = state.history
        if isinstance(event, RunStarted):
            who = state.settings.proposer
            if talks(load(who)):
                who += " with " + (", ".join(state.settings.models.values()) or "no model")
            text = f"run {event.run}: {len(state.problem.space)} parameters, proposer {who}, seed {event.seed}"
            begins = sentence(event.starts, event.warm)
            notes = [f"  ! {note}" for note in event.warm.get("notes", ())]
            return "\n".join([text, *([begins] if begins else []), *notes]), "bold"
        if isinstance(event, RunResumed):
            done = counted(state.ledger.evaluations)
            return f"resumed at {done} evaluations, {state.ledger.total.calls} model calls", "bold"
        if isinstance(event, EvaluationEnded) and event.purpose == "search":
            return self._baseline(event, state)
        if isinstance(event, RaceDecided):
            trial = history[event.candidate]
            what = brief(trial.rationale or _changes(state, trial.parents, event.candidate))
            if event.decision == "promote":
                value = "" if state.arena else ", " + amount((trial.values or {}).get(goal.name), goal.unit)
                return f"  ✓ kept #{trial.number}{value} [{trial.source}] {what}: {event.reason}", "green"
            if event.decision == "climb" and not self._live:
                return f"  ↑ #{trial.number} [{trial.source}] {what}: {event.reason}", "dim"
            telling = event.evidence.get("pairs") or event.evidence.get("step")  # measured in pairs, or hopeless
            if event.decision == "drop" and (telling or not self._live):
                return f"  ✗ dropped #{trial.number} [{trial.source}] {what}: {event.reason}", "dim"
        if isinstance(event, ProposalEnded):
            notes = [f"  ! {item['source']}: {item['reason']}" for item in event.rejections]
            notes += [f"  ! the proposer failed: {event.error}"] if event.error else []
            return "\n".join(notes), "yellow"
        if isinstance(event, CallRetried):
            return f"  … model call failed, again in {event.wait:.0f} s: {event.error}", "yellow"
        if isinstance(event, CandidateRejected) and not (self._live and event.proposal):
            return f"  - not measured [{event.source}]: {event.reason}", "dim"
        if isinstance(event, StopRequested):
            return f"the search ends: {event.detail or event.reason}", ""
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


def _bar(done: int, total: int, width: int = 24) -> str:
    if not total:
        return ""
    filled = min(width, width * done // total)
    return f" {'█' * filled}{'░' * (width - filled)}"


def _changes(state: State, parents: tuple[str, ...], candidate: str) -> str:
    history = state.history
    origin = parents[0] if parents and parents[0] in history else history.initial
    changes = state.problem.space.diff(history[origin].candidate, history[candidate].candidate)
    return ", ".join(f"{c.name}: {brief(c.before, 20)} → {brief(c.after, 20)}" for c in changes)


def _standing(state: State) -> str:
    goal, history, ledger = state.problem.objective, state.history, state.ledger
    champion = history[history.champion]
    best = amount((champion.values or {}).get(goal.name), goal.unit)
    limit = ledger.budget.evaluations
    parts = [
        f"{goal.name} {best} (search)",
        f"evaluation {counted(ledger.evaluations)}{f'/{limit}' if limit is not None else ''}",
        f"{ledger.total.calls} model calls",
        f"{ledger.seconds:.0f} s",
    ]
    doing = (
        "the model is writing"
        if state.calls
        else "examining"
        if state.gate.open
        else "measuring"
        if state.evaluations
        else ""
    )
    return " · ".join([*parts, doing] if doing else parts)
