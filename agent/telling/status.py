"""Where a run is: its state, what it has found and spent, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.telling.text import brief

LIVE = ("running", "paused", "stopping")
NEXT = {
    "running": ("watch", "pause", "stop"),
    "paused": ("resume", "stop"),
    "stopping": ("watch", "stop {} --now"),
    "finished": ("show", "report", "apply"),
    "stopped": ("resume", "show"),
    "lost": ("resume", "show"),
    "damaged": (),
}
"""Commands that make sense next, by the state of the run."""


def standing(folder: Path) -> dict[str, Any]:
    """Where a run is, as far as the search may know it, in less than two kilobytes.

    The journal and the lock tell; the run's socket, where it answers, what is in flight at this moment.

    Args:
        folder: Of the run.

    Raises:
        StoreError: The folder holds no journal.
    """
    from agent.control.client import ask
    from agent.control.detach import LOG
    from agent.control.wire import ControlError
    from agent.errors import StoreError
    from agent.folders import listing, spoken

    found = listing(folder)
    state, live = found.state, None
    if state in LIVE:
        try:
            live = ask(folder, "status", timeout=2.0)
            state = live["state"]
        except ControlError as error:  # it has ended meanwhile, or cannot be asked
            if error.what == "not_running":
                found = listing(folder)
                state = found.state
    out: dict[str, Any] = {
        "run": brief(folder.name, 80),
        "folder": str(folder),
        "problem": brief(found.problem, 80),
        "state": state,
        "pid": found.pid,
        "answers": live is not None,
        "detail": brief(found.detail, 200),
    }
    try:
        out |= _journal(folder)
    except StoreError as error:  # damaged, or so young that it has no events
        out["detail"] = out["detail"] or brief(error.message, 200)
    if live is not None:
        out["busy"], out["in_flight"] = live["busy"], live["in_flight"]
    out["log"] = LOG if (folder / LOG).exists() else None
    name = spoken(folder)
    verbs = [verb if "{}" in verb else f"{verb} {{}}" for verb in NEXT[state]]
    out["next"] = [f"truegain {verb.format(name)}" for verb in verbs] or ["truegain list"]
    return out


def _journal(folder: Path) -> dict[str, Any]:
    """What the journal says."""
    from agent.events import ExamDecided
    from agent.journal import read
    from agent.ledger import at_provider
    from agent.results.result import load_state
    from agent.state import folded
    from agent.telling.words import Words

    state, words, last, exams = None, Words(elsewhere=True), {}, [0, 0]
    for entry in read(folder):
        state = folded(state, entry)
        if state is None:
            continue
        said = words(entry.event, state)
        if said.text:
            text = brief(said.text.strip(), 160)
            last = {"seq": entry.seq, "time": entry.time, "type": entry.event.type, "text": text}
        if isinstance(entry.event, ExamDecided):
            exams[0] += 1
            exams[1] += entry.event.accepted
    if state is None:
        state = load_state(folder)  # says that there are no events
    goal, history = state.problem.objective, state.history
    champion = history[history.champion]
    value = (champion.values or {}).get(goal.name)
    spent = state.ledger.to_json()
    return {
        "champion": {
            "candidate": champion.number,
            "objective": brief(goal.name, 60),
            "search_score": value,
            "unit": brief(goal.unit, 20),
            "source": brief(champion.source, 40),
        },
        "candidates": len(history),
        "exams": {"decided": exams[0], "accepted": exams[1]},
        "status": state.ended.status if state.ended else "open",
        "spent": {
            "evaluations": spent["evaluations"],
            "calls": spent["calls"],
            "tokens": spent["tokens"]["input"] + spent["tokens"]["output"],
            "usd": spent["usd"],
            "seconds": spent["seconds"],
        },
        "limits": spent["limits"],
        "in_flight": {
            "evaluations": len(state.evaluations),
            "proposals": len(state.proposals),
            "calls": len(state.calls),
        },
        "at_provider": at_provider(spent),
        "last": last,
    }
