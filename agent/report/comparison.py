"""Several runs beside each other: what each one claims, what it took, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.report.view import Goal, View

MEASURED = ("evaluator", "data", "problem")
"""Fingerprints that must be equal for two runs to measure the same thing."""
CLAIM = (
    "A comparison of search scores claims nothing: what each run claims is its own verdict,"
    " and no test was held between runs"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Args:
        group: Runs with the same letter have the same evaluator, data and problem.
        effect: Of the best candidate over the initial one, measured away from the search; None while the run is open,
            and where nothing was measured so.
        interval: Of the effect.
        score: The champion's search score, which is no result.
        candidates: Tried, the initial one not counted.
    """

    run: str
    problem: str
    group: str
    status: str
    goal: Goal
    effect: float | None
    interval: list[float] | None
    score: float | None
    evaluations: float
    calls: int
    usd: float | None
    seconds: float
    candidates: int
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """What `truegain compare` shows.

    Args:
        rows: One for each run, in the order in which they were named.
        differing: Settings that are not the same in all runs: name, and the value in each run.
        sentences: Which runs are comparable, why others are not, and what that claims.
        views: Of the runs.
    """

    rows: list[Row]
    differing: list[tuple[str, list[Any]]]
    sentences: list[str]
    views: list[View]

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON; what each run holds is in `truegain report --json`."""
        return {
            "runs": [asdict(row) for row in self.rows],
            "differing": [{"setting": name, "values": values} for name, values in self.differing],
            "sentences": self.sentences,
        }


def comparison(views: Sequence[View]) -> Comparison:
    """The comparison of these runs."""
    groups: dict[tuple[Any, ...], str] = {}
    for view in views:
        groups.setdefault(_key(view), _letters(len(groups)))
    rows = [_row(view, groups[_key(view)]) for view in views]
    return Comparison(rows, _differing(views), _sentences(views, rows), list(views))


def _letters(number: int) -> str:
    """A, B … Z, AA, AB …"""
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("A") + last)


def _key(view: View) -> tuple[Any, ...]:
    found = view.made["fingerprints"]
    return tuple(found.get(name) for name in MEASURED)


def _row(view: View, group: str) -> Row:
    best: dict[str, Any] = {} if view.gate["open"] else view.gate["candidates"][-1]
    return Row(
        run=view.run,
        problem=view.problem,
        group=group,
        status=view.status,
        goal=view.goal,
        effect=best.get("gain"),
        interval=best.get("gain_interval"),
        score=view.cards[view.champion].value,
        evaluations=view.spent["evaluations"],
        calls=view.spent["calls"],
        usd=view.spent["usd"],
        seconds=view.spent["seconds"],
        candidates=len(view.cards) - 1,
        sentence=view.sentence,
    )


def _settings(view: View) -> dict[str, Any]:
    """Everything a run was given, by one name each."""
    out = {"seed": view.seed, "initial candidate": view.cards[view.initial].id[:8]}
    for part in ("settings", "budget", "versions"):
        for name, value in view.made[part].items():
            out[f"{part}.{name}"] = value
    return out


def _differing(views: Sequence[View]) -> list[tuple[str, list[Any]]]:
    found = [_settings(view) for view in views]
    names = dict.fromkeys(name for settings in found for name in settings)
    rows = [(name, [settings.get(name) for settings in found]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _sentences(views: Sequence[View], rows: Sequence[Row]) -> list[str]:
    out = []
    groups: dict[str, list[View]] = {}
    for view, row in zip(views, rows, strict=True):
        groups.setdefault(row.group, []).append(view)
    for letter, some in groups.items():
        if len(some) > 1:
            names = ", ".join(view.run for view in some)
            out.append(f"{letter}: {names} have the same evaluator, data and problem, and may be compared")
    first = views[0]
    for letter, some in groups.items():
        if _key(some[0]) == _key(first):
            continue
        parts = [name for name, a, b in zip(MEASURED, _key(first), _key(some[0]), strict=True) if a != b]
        names = ", ".join(view.run for view in some)
        out.append(
            f"{letter}: {names} cannot be compared with {first.run}: another {_listed(parts)}; numbers of both do not"
            " mean the same"
        )
    out += [f"{view.run} is open: nothing is claimed before it ends" for view in views if view.open]
    return [*out, CLAIM]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
