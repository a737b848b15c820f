"""What another program or agent is shown of a run: what the search may know, and after the end the verdict."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.history import SUSPICIOUS
from agent.redact import redact
from agent.serving.guest import CHECKED

if TYPE_CHECKING:
    from agent.history import Trial
    from agent.problem import Problem
    from agent.results.result import Result
    from agent.state import State

WORDS = 2000
"""Characters of an evaluator's words, of a rationale and the like."""
EVENTS, BYTES = 50, 12_000
"""Events of one answer at most, and about how long it may be."""


def goals(problem: Problem) -> dict[str, Any]:
    """What is measured, and which way is better."""
    return {
        "objectives": [
            {"name": item.name, "direction": item.direction, "unit": item.unit} for item in problem.objectives
        ],
        "constraints": [str(item) for item in problem.constraints],
    }


def candidate_view(state: State, trial: Trial) -> dict[str, Any]:
    """A candidate, as the search knows it. Where candidates are measured row by row, words on single rows are left
    out: they may quote a row, and whoever reads one is to say so (see `Context.read`)."""
    rows = state.problem.by_rows
    reason = trial.reason
    if rows and reason.startswith(("failed: ", SUSPICIOUS)):
        reason = ": ".join(reason.split(": ")[:2])
    shown: dict[str, Any] = redact(
        {
            "candidate": trial.number,
            "id": trial.id,
            "state": trial.state,
            "search": dict(trial.values) if trial.values is not None else None,
            "measurements": trial.count,
            "feasible": trial.feasible,
            "source": trial.source,
            "rationale": trial.rationale[:WORDS],
            "reason": reason[:WORDS],
            "failure": (trial.failure.partition(":")[0] if rows else trial.failure)[:WORDS],
            "feedback": "" if rows else trial.feedback[:WORDS],
            "parents": [parent[:8] for parent in trial.parents],
            "values": trial.candidate.values_json,
        }
    )
    return shown


def why(reason: str) -> str:
    """Why a candidate was refused, for a guest: whichever check it was, in the same words (see `CHECKED`)."""
    return reason if reason.startswith(("not allowed: ", "seen before", "not asked for: ", "within ")) else CHECKED


def result_view(result: Result) -> dict[str, Any]:
    """The end of a run: the verdict, what it changes, and where it lies.

    Where the gate has measured what the search has not, its figures stay with the person: with them a guest could
    make the next candidate for these very rows.
    """
    spent = result.spent if result.problem.exact else _search_spent(result)
    shown: dict[str, Any] = redact(
        {
            "run": result.run,
            "status": result.status,
            "reason": result.reason,
            "sentence": result.sentence if result.problem.exact else _sentence(result),
            "released": result.released.values_json,
            "best": result.best.values_json,
            "diff": result.diff,
            "changes": [
                {"parameter": c.name, "before": c.before, "after": c.after}
                for c in result.problem.space.diff(result.initial, result.best)
            ],
            "verdict": _verdict(result),
            "candidates": len(result.trials),
            "spent": {kind: spent[kind] for kind in ("evaluations", "calls", "tokens", "usd", "seconds")},
            "folder": str(result.folder),
            "files": str(result.folder / "best"),
        }
    )
    return shown


def _search_spent(result: Result) -> dict[str, Any]:
    """What the search has spent. The tokens of an exam are a sum over its rows, and a candidate may choose of what."""
    from agent.journal import read
    from agent.results.result import load_state

    return load_state(result.folder, read(result.folder)).ledger.to_json()


def _verdict(result: Result) -> dict[str, Any] | None:
    if result.verdict is None:
        return None
    return {"accepted": bool(result.verdict["accepted"]), "gain": _gain(result)}


def _gain(result: Result) -> str:
    """Ends of the interval of a gain that was shown, each with one digit; "" where there is none."""
    around = result.verdict.get("interval") if result.verdict and result.verdict["accepted"] else None
    return " to ".join(f"{end:.1g}" for end in around) if around else ""


def _sentence(result: Result) -> str:
    """What was gained, without the figures."""
    name = result.problem.spoken.name
    if result.reason == "evaluator":
        return result.sentence
    if result.status == "proven":
        gain = f", about {_gain(result)}" if _gain(result) else ""
        said = f"{name}: a gain was shown on what the search has not measured{gain}."
    elif result.status == "unproven":
        said = f"{name}: the best candidate looked better to the search, and nothing is proven."
    else:
        said = f"{name}: no gain was shown."
    return f"{said} A person sees the figures: truegain show {shlex.quote(str(result.folder))}"


def events_view(folder: Path, cursor: int, limit: int = EVENTS) -> dict[str, Any]:
    """The search's events behind a place, in words, and the place to go on from.

    Args:
        folder: Of the run.
        cursor: The last event that is known; 0 for none.
        limit: Events at most.

    Raises:
        StoreError: The journal cannot be read.
    """
    from agent.events import CandidateRejected, LookAsked, RunEnded, RunStarted
    from agent.journal import read
    from agent.state import State
    from agent.telling.words import Words

    state: State | None = None
    out: list[dict[str, Any]] = []
    words, size, more, end = Words(elsewhere=True), 0, False, 0
    for entry in read(folder):
        if state is not None:
            state.apply(entry.event, entry.time)
        elif isinstance(entry.event, RunStarted):
            state = State(entry.event, entry.time)
        if state is None:
            continue
        event = entry.event
        if isinstance(event, CandidateRejected):
            event = replace(event, reason=why(event.reason))
        elif isinstance(event, LookAsked) and event.check:
            event = replace(event, check=CHECKED)
        said, end = words(event, state).text.strip(), entry.seq
        if isinstance(event, RunEnded) and event.reason == "evaluator":
            said += f": the initial candidate cannot be scored: {event.detail}"
        if entry.seq <= cursor:
            continue
        if said and (len(out) >= limit or size > BYTES):
            more = True
            break
        cursor = entry.seq
        if said:
            told: dict[str, Any] = {"seq": entry.seq, "type": entry.event.type, "text": said[:WORDS]}
            candidate = getattr(entry.event, "candidate", "")
            if candidate and candidate in state.history:
                told["candidate"] = state.history[candidate].number
            out.append(told)
            size += len(told["text"])
    return {"events": redact(out), "cursor": cursor, "more": more, "end": end}
