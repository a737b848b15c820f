"""Evaluations gathered into units: a whole measurement of a candidate, or one row of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.events import EvaluationEnded, EvaluationStarted
from agent.goals import Objective

PRINTED = 600
"""Characters of the end of what a candidate printed that are kept with its result."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One complete measurement of a candidate: the mean over the data rows, or a failure."""

    candidate: str
    replicate: int
    pair: int
    purpose: str
    values: dict[str, float] | None
    failure: str = ""
    feedback: str = ""
    seconds: float = 0.0
    example: str | None = None
    sign: str = ""
    fidelity: float = 1.0
    stopped: Mapping[str, float] | None = None
    detail: str = ""
    """Of one that failed, such as the end of a traceback; what the candidate printed; and how long it took."""


class _Part(NamedTuple):
    """What one evaluation adds to a unit; `values` is None where it failed and no floor stands for it."""

    values: dict[str, float] | None
    failure: str
    sign: str
    feedback: str
    seconds: float
    detail: str = ""


class Measuring:
    """Gathers evaluations into units; used for search and gate alike.

    A failed row counts with what `Objective.failed` says. Where an objective has nothing to say, a constraint has
    no value, or the failure looks like a trick, the whole unit is a failure.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[str], rows: int) -> None:
        self._floors = {item.name: item.failed for item in objectives}
        self._names = [*self._floors, *constraints]
        self._rows = rows
        self._open: dict[tuple[str, int, float], list[_Part]] = {}

    def add(self, started: EvaluationStarted, ended: EvaluationEnded) -> Unit | None:
        """The unit that this evaluation completes, if it does."""
        if self._rows <= 1:
            return self.alone(started, ended)
        key = (started.candidate, started.replicate, started.fidelity)
        parts = self._open.setdefault(key, [])
        parts.append(self._part(ended))
        if len(parts) < self._rows:
            return None
        del self._open[key]
        failed = next((part for part in parts if part.values is None), None)
        values = None
        if failed is None:
            values = {n: sum(part.values[n] for part in parts if part.values) / len(parts) for n in self._names}
        words = [part.feedback for part in parts if part.feedback]
        return Unit(
            candidate=started.candidate,
            replicate=started.replicate,
            pair=started.pair,
            purpose=started.purpose,
            values=values,
            failure=failed.failure if failed is not None else "",
            feedback="\n".join(words[:5]),
            seconds=sum(part.seconds for part in parts),
            fidelity=started.fidelity,
            sign=next((part.sign for part in parts if part.sign), ""),
            detail=(failed or parts[0]).detail,
        )

    def alone(self, started: EvaluationStarted, ended: EvaluationEnded) -> Unit:
        """A unit of one row by itself."""
        part = self._part(ended)
        return Unit(
            candidate=started.candidate,
            replicate=started.replicate,
            pair=started.pair,
            purpose=started.purpose,
            values=part.values,
            failure=part.failure,
            feedback=part.feedback,
            seconds=part.seconds,
            example=started.example,
            fidelity=started.fidelity,
            stopped=ended.output.get("stopped") if part.values is None else None,
            sign=part.sign,
            detail=part.detail if started.example is None else "",
        )

    def _part(self, ended: EvaluationEnded) -> _Part:
        seconds, detail = ended.output.get("seconds", 0.0), _detail(ended)
        if ended.score is not None:
            return _Part(ended.score["values"], "", "", ended.score.get("feedback", ""), seconds, detail)
        failure = ended.output.get("failure", {})
        text, sign = f"{failure.get('kind', 'error')}: {failure.get('message', '')}", failure.get("sign", "")
        floors = {name: self._floors.get(name) for name in self._names}
        if self._rows > 1 and not sign and all(value is not None for value in floors.values()):
            return _Part({name: float(v) for name, v in floors.items() if v is not None}, "", "", text, seconds, detail)
        return _Part(None, text, sign, "", seconds, detail)


def _detail(ended: EvaluationEnded) -> str:
    output = ended.output
    failure, log = output.get("failure") or {}, str(output.get("log", "")).strip()
    lines = [str(failure.get("detail", "")).strip()]
    lines += [f"it printed: {log[-PRINTED:]}"] if log else []
    lines += [f"it took {output.get('seconds', 0.0):.3g} s"] if failure or log else []
    return "\n".join(line for line in lines if line)
