"""How a run is watched: plain lines anywhere, and a live status line below them on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from agent.events import Event, HoldoutFixed
from agent.ledger import counted, plural
from agent.telling.text import amount, fitted, plain
from agent.telling.words import Words

if TYPE_CHECKING:
    from agent.state import State

PLAIN = ("NO_COLOR", "CI", "CLAUDECODE", "CODEX_SANDBOX")


def may_draw(stream: TextIO) -> bool:
    """Whether it is a terminal that may be drawn on."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not any(os.environ.get(n) for n in PLAIN[1:])


def wants_live() -> bool:
    """Whether stderr is one."""
    return may_draw(sys.stderr)


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
        self._words = Words(few=live)
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

    def still(self) -> None:
        """Draw no more, for somebody else writes on this terminal; lines are still printed."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def line(self, text: str, style: str = "") -> None:
        """One line above the status."""
        if self.quiet:
            return
        try:
            if self._console is not None:
                from rich.text import Text

                self._console.print(Text(plain(text), style=style))
            else:
                click.echo(fitted(plain(text), sys.stderr), err=True)
        except BrokenPipeError:  # nobody reads on, as after `head`; the run is not to stop in the middle of a record
            self.quiet = True

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
        if isinstance(event, HoldoutFixed):
            from agent.results.resultfiles import exhausted

            if why := exhausted(state):
                self.line(f"  ! {why}", "yellow")
        said = self._words(event, state)
        if said.text:
            self.line(said.text, said.style)
        now = time.monotonic()
        if self._status is not None and now - self._drawn > 0.1:
            self._drawn = now
            self._status.update(standing(state))


def _bar(done: int, total: int, width: int = 24) -> str:
    if not total:
        return ""
    filled = min(width, width * done // total)
    return f" {'█' * filled}{'░' * (width - filled)}"


def standing(state: State) -> str:
    """Where a run is, on one line."""
    goal, history, ledger = state.problem.objective, state.history, state.ledger
    champion = history[history.champion]
    best = amount((champion.values or {}).get(goal.name), goal.unit)
    limit = ledger.budget.evaluations
    parts = [
        f"{goal.name} {best} (search)",
        f"evaluation {counted(ledger.evaluations)}{f'/{limit}' if limit is not None else ''}",
        plural(ledger.total.calls, "model call"),
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
