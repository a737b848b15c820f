"""The parts of the page: pieces of HTML, made by the report's templates and words from a fold."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from agent.ledger import KINDS
from agent.report import page
from agent.report.cards import Allowance, cards, line_texts, standing
from agent.report.view import Difference, Goal, units
from agent.report.warnings import warnings
from agent.results.standings import standings
from agent.telling.gate import lines
from agent.telling.words import since_parent
from agent.texts import Text

if TYPE_CHECKING:
    import jinja2

    from agent.folders import Listing
    from agent.history import Trial
    from agent.view.follow import Follow

PAGE = 50
"""Candidates on one page of the table."""
LOG = 100
"""Lines of the log on one page."""
MEASURED = 200
"""Evaluations of one candidate that are listed, the newest."""
LIVE = ("running", "paused", "stopping")
SHOW: dict[str, Callable[[Trial, set[int]], bool]] = {
    "all": lambda trial, kept: True,
    "kept": lambda trial, kept: trial.number in kept,
    "dropped": lambda trial, kept: trial.state == "dropped" and trial.number not in kept,
    "failed": lambda trial, kept: trial.state == "failed",
    "waiting": lambda trial, kept: trial.values is None and trial.state not in ("failed", "dropped"),
}
"""Which candidates a table may be narrowed to."""


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    def text(name: str) -> str:
        package = "agent.report" if name == "parts.html" else "agent.view"
        return (files(package) / name).read_text(encoding="utf-8")

    made = page.environment().overlay(loader=jinja2.FunctionLoader(text))
    made.filters = {**made.filters, "clock": lambda when: time.strftime("%H:%M:%S", time.localtime(when))}
    return made


def render(name: str, **given: Any) -> str:
    """A template of this package."""
    return _environment().get_template(name).render(**given)


def tag(html: str) -> str:
    """Names a piece of HTML by its content."""
    return hashlib.sha256(html.encode("utf-8", "replace")).hexdigest()[:12]


def runs(found: Sequence[Listing]) -> str:
    """The list of runs."""
    day = {item.name: time.strftime("%Y-%m-%d %H:%M", time.localtime(item.started)) for item in found if item.started}
    return render("runs.html", runs=found, day=day)


def parts(follow: Follow, listing: Listing, asked: Mapping[str, str]) -> dict[str, str]:
    """The parts of a run's page by their names, but for the picture.

    Args:
        follow: The run; its lock is held.
        listing: Its state.
        asked: What to show of the candidates: show (of `SHOW`), find (a text), page (from 0).
    """
    goal = _goal(follow)
    found = standings(follow.state, follow.tape.tally)
    shared = {"goal": goal, "listing": listing, "live": listing.state in LIVE, "follow": follow, "found": found}
    return {
        "head": _head(follow, shared),
        "table": _table(follow, shared, asked),
        "spend": render("spend.html", **shared, spent=follow.result.spent, limits=_limits(follow)),
        "log": render("log.html", log=list(follow.log)[: -LOG - 1 : -1], more=max(0, len(follow.log) - LOG)),
    }


def _goal(follow: Follow) -> Goal:
    problem = follow.state.problem
    return Goal(problem.spoken.name, problem.spoken.unit, "lower" if problem.objective.sign < 0 else "higher")


def _by_rows(follow: Follow) -> bool:
    return bool(follow.tape.problem["examples"])


def _value(follow: Follow, trial: Trial) -> float | None:
    return follow.state.problem.compared(trial.values) if trial.values is not None else None


def _head(follow: Follow, shared: dict[str, Any]) -> str:
    state, result, found = follow.state, follow.result, shared["found"]
    history = state.history
    best = next(trial for trial in result.trials if trial.id == result.best.id)
    told = [] if found["open"] else list(lines(found, shared["goal"].unit))
    flying = {"evaluations": len(state.evaluations), "proposals": len(state.proposals), "calls": len(state.calls)}
    return render(
        "head.html",
        **shared,
        result=result,
        best=best,
        value=_value(follow, best),
        first=_value(follow, history.trials[0]),
        bits=follow.tape.bits,
        gate_lines=told,
        limits=_limits(follow),
        flying=flying if shared["live"] else {},
        warnings=warnings(result, follow.tape, found),
        seconds=state.last - state.begun,
    )


def _limits(follow: Follow) -> list[dict[str, Any]]:
    """What was spent of each kind, and how much of its limit that is."""
    ledger = follow.state.ledger
    out = []
    for kind, used, maybe, limit in page.limits(_spent(follow)):
        most = getattr(ledger.budget, kind)
        share = min(1.0, ledger.committed(kind) / most) if most else None
        if kind in KINDS and (most is not None or used not in ("0", "$0.0000") or kind == "evaluations"):
            out.append({"kind": kind, "used": used, "maybe": maybe, "limit": limit, "share": share})
    return out


def _spent(follow: Follow) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(spent=follow.result.spent)


def _table(follow: Follow, shared: dict[str, Any], asked: Mapping[str, str]) -> str:
    state = follow.state
    history = state.history
    kept = {step.number for step in follow.tape.steps if step.decision == "promote"} | {0}
    right, wanted = SHOW.get(asked.get("show", "all"), SHOW["all"]), asked.get("find", "").casefold()
    trials = [trial for trial in history.trials if right(trial, kept) and _has(trial, wanted)]
    pages = max(1, -(-len(trials) // PAGE))
    place = min(max(0, int(asked.get("page", "0"))), pages - 1)
    newest = trials[::-1][place * PAGE : (place + 1) * PAGE]
    numbers = {name: history[name].number for trial in newest for name in trial.parents if name in history}
    rows = [
        {
            "trial": trial,
            "value": _value(follow, trial),
            "state": _tag(follow, trial, kept),
            "parents": [numbers[name] for name in trial.parents if name in numbers],
            "what": trial.rationale or since_parent(state.problem.space, history, trial),
        }
        for trial in newest
    ]
    given = {"rows": rows, "page": place, "pages": pages, "count": len(trials), "all": len(history)}
    given |= {"claims": any(trial.claim is not None for trial in history.trials), "by_rows": _by_rows(follow)}
    return render("table.html", **shared, **given)


def _has(trial: Trial, wanted: str) -> bool:
    if not wanted:
        return True
    said = (f"#{trial.number}", trial.id, trial.source, trial.rationale, trial.reason, trial.failure)
    return any(wanted in text.casefold() for text in said)


def _tag(follow: Follow, trial: Trial, kept: set[int]) -> str:
    """What is said of a candidate in a word, which is its class too."""
    word = standing(follow.state, trial)
    if word != "suspicious":
        if trial.id == follow.state.history.champion:
            word = "champion"
        elif trial.number in kept:
            word = "kept" if trial.number else "initial"
    return word


def card(follow: Follow, number: int) -> str | None:
    """All of one candidate; None where there is none of this number."""
    state, tape = follow.state, follow.tape
    trials = state.history.trials
    if not 0 <= number < len(trials):
        return None
    space, allowance = state.problem.space, Allowance()
    (found,) = cards(tape, [number], allowance)
    differences = [
        Difference(
            change.name,
            allowance.value(change.before),
            allowance.value(change.after),
            isinstance(space[change.name], Text),
            line_texts(space, change, allowance),
        )
        for change in space.diff(trials[0].candidate, trials[number].candidate)
    ]
    mine = [item for item in tape.measured.get(found.id, ()) if item.started.purpose == "search"]
    measured = [
        {
            "id": item.started.id,
            "example": item.started.example,
            "replicate": item.started.replicate,
            "seconds": float(item.ended.output.get("seconds", 0.0)),
            "value": state.problem.compared(item.ended.score["values"]) if item.ended.score is not None else None,
            "failure": allowance.text(item.failure, 400),
            "traced": item.started.id in follow.traces,
        }
        for item in mine[: -MEASURED - 1 : -1]
    ]
    kept = {step.number for step in tape.steps if step.decision == "promote"} | {0}
    return render(
        "card.html",
        card=found,
        goal=_goal(follow),
        tag=_tag(follow, trials[number], kept),
        differences=differences,
        units=units(state.problem),
        by_rows=_by_rows(follow),
        measured=measured,
        count=len(mine),
    )
