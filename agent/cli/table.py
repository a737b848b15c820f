"""The live table of `truegain watch`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.folders import Listing, listing
from agent.ledger import KINDS, counted
from agent.state import State, folded
from agent.telling.text import amount, brief, plain
from agent.telling.words import Said, Words

if TYPE_CHECKING:
    from agent.journal import Entry

KEPT, NEWEST = 4, 6
"""Lines about candidates that were kept, and about anything else, that are shown."""
COLORS = {"running": "green", "finished": "green", "paused": "yellow", "stopping": "yellow", "stopped": "yellow"}


def draw(folder: Path, entries: Iterator[Entry | None]) -> None:
    """Draw a run on stdout until its events end.

    Args:
        folder: Of the run.
        entries: Its events; None where nothing new is there.
    """
    console = Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")))
    state: State | None = None
    words, newest, kept = Words(elsewhere=True), deque[Said](maxlen=NEWEST), deque[Said](maxlen=KEPT)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for entry in entries:
            if entry is not None:
                state = folded(state, entry)
                if state is not None:
                    said = words(entry.event, state)
                    if said.text:
                        (kept if said.style == "green" else newest).append(said)
            elif state is not None:
                live.update(table(state, listing(folder), (kept, newest), time.time()), refresh=True)
        if state is not None:
            live.update(table(state, listing(folder), (kept, newest), time.time()), refresh=True)


def table(state: State, found: Listing, newest: Iterable[deque[Said]], now: float) -> Group:
    """What is drawn of a run.

    Args:
        state: Folded from what the search may see.
        found: Its line in `truegain list`.
        newest: What was said last, of candidates that were kept and of the others.
        now: Seconds since 1970.
    """
    pid = f" (process {found.pid})" if found.pid else ""
    head = Text(plain(state.run), style="bold")
    head.append(f"  {found.state}{pid}", style=COLORS.get(found.state, "red"))
    return Group(head, _standing(state), Text(""), _spent(state, found, now), Text(""), *_lines(newest))


def _standing(state: State) -> Text:
    goal, history = state.problem.objective, state.history
    champion = history[history.champion]
    who = f"#{champion.number} [{champion.source}]" if champion.number else "the initial candidate"
    value = amount((champion.values or {}).get(goal.name), goal.unit)
    line = f"champion {brief(who, 40)}: {brief(goal.name, 40)} {value} (search), of {len(history)} candidates"
    if state.ended is not None:
        return Text(f"{line}\n{state.ended.status.upper()}", style="bold")
    flying = [
        f"{len(items)} {what}{'s' if len(items) > 1 else ''}"
        for what, items in (
            ("evaluation", state.evaluations),
            ("proposal", state.proposals),
            ("model call", state.calls),
        )
        if items
    ]
    return Text(f"{line}\nin flight: {', '.join(flying) or 'nothing'}")


def _spent(state: State, found: Listing, now: float) -> Table:
    out = Table.grid(padding=(0, 2))
    ledger = state.ledger
    for kind in KINDS:
        spent = ledger.evaluations if kind == "evaluations" else ledger.committed(kind)
        if kind == "seconds" and found.state in ("running", "stopping"):
            spent += max(0.0, now - state.last)
        limit = getattr(ledger.budget, kind)
        if not spent and limit is None:
            continue
        said = counted(spent) if kind == "evaluations" else f"${spent:.4f}" if kind == "usd" else f"{spent:,.0f}"
        if limit is None:
            out.add_row(kind, "", said)
        else:
            bar = ProgressBar(max(limit, 1e-12), min(spent, limit), 30, complete_style="cyan", finished_style="yellow")
            out.add_row(kind, bar, f"{said} of {limit:,g}")
    return out


def _lines(newest: Iterable[deque[Said]]) -> Iterator[Text]:
    for group in newest:
        for said in group:
            yield Text(brief(said.text, 400), style=said.style, no_wrap=True, overflow="ellipsis")
