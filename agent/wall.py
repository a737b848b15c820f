"""The wall: who may read what of a run.

While a run is open, nobody but its writer sees more than the search's events: of the gate, the
accept/reject bit alone. After the end the verdicts and the final report are there to read. The rows
behind them (which example, which score, how long, at what cost) stay closed until somebody opens
them for good with `truegain gate open`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from agent.events import (
    CallEnded,
    CallRefused,
    CallRetried,
    CallStarted,
    EvaluationEnded,
    EvaluationStarted,
    HoldoutFixed,
    RunEnded,
    RunResumed,
    RunStarted,
)
from agent.journal import GATE, Entry, Journal, last, read, read_all
from agent.sqlitefile import connect, explain

ROWS = (EvaluationStarted, EvaluationEnded, HoldoutFixed, CallStarted, CallRefused, CallRetried, CallEnded)
"""Events of the gate and the report that show single rows."""


def ended(folder: Path) -> bool:
    """Whether the run is over, so that its verdicts may be read."""
    # A reply that was under way may come in behind the end.
    newest = last(folder, RunStarted.type, RunResumed.type, RunEnded.type)
    return newest is not None and isinstance(newest.event, RunEnded)


def visible(folder: Path, *, after: int = 0) -> Iterator[Entry]:
    """The events of a run that people and programs may read now, in order.

    Raises:
        StoreError: There is no journal, or it cannot be read.
    """
    if not ended(folder):
        yield from read(folder, after=after)
        return
    rows = opened(folder)
    for entry in read_all(folder, after=after):
        if rows or entry.event.audience == "search" or not isinstance(entry.event, ROWS):
            yield entry


def opened(folder: Path) -> bool:
    """Whether somebody opened the gate's rows of this run.

    Raises:
        StoreError: The gate's file cannot be read.
    """
    if not (folder / GATE).exists():
        return False
    try:
        with contextlib.closing(connect(folder / GATE, read_only=True)) as db:
            return bool(db.execute("SELECT count(*) FROM opened").fetchone()[0])
    except sqlite3.Error as error:
        raise explain(error, folder) from None


def mark_opened(folder: Path, time: float) -> None:
    """Keep for good that somebody opened the gate's rows of this run.

    Raises:
        RunLocked: The run is being written.
        StoreError: It cannot be written.
    """
    journal = Journal(folder)
    try:
        journal.gate_file().execute("INSERT INTO opened VALUES (?)", (time,))
    except sqlite3.Error as error:
        raise explain(error, folder) from None
    finally:
        journal.close()
