"""One run as it goes: the report's fold, kept up to date with what is new in the journal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.errors import AgentError, PrerequisiteError, StoreError
from agent.events import EvaluationEnded, RunEnded, RunResumed, RunStarted
from agent.journal import FILE, Entry, read, read_all
from agent.report.tape import Shown, Tape
from agent.results.result import Result
from agent.state import State
from agent.telling.words import Words
from agent.tracing.spans import Trace
from agent.wall import ended, opened

LINES = 2000
"""Lines of the log that are kept, the newest."""
SHARE = 20
"""A picture is drawn again after this many times what drawing it took: a twentieth of a core at most."""

DOTS = 1500
"""Dots of dropped candidates in a picture, about; of more, each nth."""

NOTHING = '<p class="note">Nothing has been compared yet.</p>'
"""In place of a picture."""

_DRAWING = threading.Lock()
"""matplotlib's settings belong to the whole process."""
_SERIALS = count(1)


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of an event.

    Args:
        seq: Its place in the journal.
        time: Seconds since 1970.
        level: info, warning or error.
    """

    seq: int
    time: float
    text: str
    level: str


class Follow:
    """The fold of a run that somebody looks at.

    While the run is open it is folded from what the search may read. At its end it is folded anew, as the report does
    it: with the verdicts, and with the scores of the test rows. Hold `lock` from `refresh` to the last look at it.

    Args:
        folder: Of the run.

    Attributes:
        tape: The report's fold, with the state.
        log: What is said of the events, the newest last.
        traces: Places in the journal of the search's evaluations that have a trace, by their numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._file = -1
        self._forget()

    def _forget(self) -> None:
        self.serial = next(_SERIALS)
        self.seq, self.over = 0, False
        self._tape: Tape | None = None
        self._words = Words(elsewhere=True)
        self.log: deque[Line] = deque(maxlen=LINES)
        self.traces: dict[int, int] = {}
        self._pictures: dict[tuple[str, bool], tuple[tuple[Any, ...], str]] = {}
        self._due = 0.0

    @property
    def tape(self) -> Tape:
        if self._tape is None:
            raise StoreError(f"the run in {self.folder} has no events yet", hint="wait a moment")
        return self._tape

    @property
    def state(self) -> State:
        return self.tape.state

    def refresh(self) -> None:
        """Fold what is new.

        Raises:
            StoreError: The run is gone, or its journal cannot be read.
        """
        try:
            file = (self.folder / FILE).stat().st_ino
        except OSError:
            self._forget()
            raise StoreError(f"there is no run in {self.folder} any more", hint="choose another one") from None
        try:
            if file != self._file:
                self._forget()
                self._file = file
            fresh = list(read(self.folder, after=self.seq))  # whole, so that no reader stays in the file while we fold
            turned = any(isinstance(entry.event, (RunEnded, RunResumed)) for entry in fresh)
            if turned or (fresh and not self.seq):
                self._forget()
                self.over = ended(self.folder)
                shown: Shown = "none" if not self.over else "whole" if opened(self.folder) else "scores"
                self._fold(list(read_all(self.folder) if self.over else read(self.folder)), shown)
            else:
                self._fold(fresh)
        except AgentError:
            self._file = -1
            raise
        except Exception as error:  # a file that somebody changed may hold any JSON
            self._file = -1
            raise StoreError(
                f"the journal in {self.folder} cannot be followed: {type(error).__name__}: {error}",
                hint="the file is damaged; restore it from a backup. Nothing was changed in it",
            ) from None

    def _fold(self, entries: Iterable[Entry], rows: Shown = "none") -> None:
        for entry in entries:
            event = entry.event
            self.seq = max(self.seq, entry.seq)
            if self._tape is not None:
                self._tape.state.apply(event, entry.time)
                self._tape.apply(event)
            elif isinstance(event, RunStarted):
                self._tape = Tape(State(event, entry.time), event, rows)
            else:
                continue
            said = self._words(event, self._tape.state)
            if said.text:
                self.log.append(Line(entry.seq, entry.time, said.text.strip(), said.level))
            if isinstance(event, EvaluationEnded) and event.purpose == "search" and event.output.get("trace"):
                self.traces[event.id] = entry.seq

    @property
    def result(self) -> Result:
        """What the run has found by now."""
        return Result.of(self.state, self.folder)

    def trace(self, evaluation: int) -> Trace | None:
        """What the program did in one of the search's evaluations; None where that is not known."""
        place = self.traces.get(evaluation)
        entry = next(read(self.folder, after=place - 1), None) if place is not None else None
        if entry is None or not isinstance(entry.event, EvaluationEnded):
            return None
        return Trace.from_json(entry.event.output["trace"])

    def picture(self, by: str, narrow: bool = False, draw: bool = True) -> tuple[str, bool]:
        """The best score over cost as SVG, as the report draws it, and whether that is the newest one.

        Args:
            by: "evaluations" or "usd".
            narrow: For a phone.
            draw: Whether it may be drawn now; else it is "" where there is none yet.
        """
        tape = self.tape
        if not tape.steps:
            return NOTHING, True
        state = (len(tape.steps), len(tape.bits), self.over)
        known, svg = self._pictures.get((by, narrow), ((), ""))
        if known == state:
            return svg, True
        if not draw or (svg and not self.over and time.monotonic() < self._due):
            return svg, False
        with suppress(ImportError):  # once for all pictures, and no part of what one of them takes
            import matplotlib.backends.backend_svg
            import matplotlib.figure  # noqa: F401
        begun = time.thread_time()
        try:
            svg = _drawn(tape, self.result, by, narrow)
        except PrerequisiteError as error:
            svg = f'<p class="note">{escape(error.message)}: {escape(error.fix)}</p>'
        self._due = time.monotonic() + SHARE * (time.thread_time() - begun)
        self._pictures[by, narrow] = (state, svg)
        return svg, True


def _drawn(tape: Tape, result: Result, by: str, narrow: bool) -> str:
    from agent.report import drawing
    from agent.report.view import Goal

    problem = tape.state.problem
    goal = Goal(problem.spoken.name, problem.spoken.unit, "lower" if problem.objective.sign < 0 else "higher")
    every = 1 + len(tape.steps) // DOTS
    steps = [step for place, step in enumerate(tape.steps) if step.decision != "drop" or place % every == 0]
    spent = result.spent if by == "usd" else {**result.spent, "usd": None}
    with _DRAWING:
        view = SimpleNamespace(spent=spent, steps=steps, bits=tape.bits, goal=goal)
        drawn: str = drawing.stair(view, narrow=narrow)
    return drawn
