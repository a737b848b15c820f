"""A page of each candidate, within an allowance of characters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.code.changes import counted_lines, line_diffs
from agent.gate.quarantine import CONFIRM, SECOND
from agent.history import Trial
from agent.report.tape import Measured, Tape
from agent.space import Change, Space
from agent.state import State
from agent.texts import Code

TEXT = 4000
"""Characters of one text at most."""
WHOLE = 40_000
"""Characters of a text of the initial or the best candidate at most, where the two are compared."""
TOTAL = 1_000_000
"""Characters of all texts together at most."""
SHOWN = 5
"""Evaluations of a candidate whose outputs are shown at most."""
ROWS = 40
"""Rows of a candidate's page at most, the worst first; the table under the heatmap has all of them."""


@dataclass
class Allowance:
    """What texts may take of a report, which stays small however much a run has written.

    Args:
        each: Characters of one text.
        left: Characters of all texts that are still to come.
        outputs: Evaluations of one candidate whose outputs are shown.
        rows: Examples of one candidate whose scores are listed.
    """

    each: float = TEXT
    left: float = TOTAL
    outputs: float = SHOWN
    rows: float = ROWS
    cut: int = 0
    hidden: int = 0

    @classmethod
    def full(cls) -> Allowance:
        """No limit."""
        return cls(math.inf, math.inf, math.inf, math.inf)

    def text(self, text: str, most: float | None = None) -> str:
        """As much of a text as may be shown; says how much is missing.

        Args:
            text: Whole.
            most: Characters of this one, instead of `each`.
        """
        each = self.each if most is None or self.each == math.inf else most
        room = int(min(len(text), each, max(0.0, self.left)))
        self.left -= room
        if room == len(text):
            return text
        self.cut += len(text) - room
        return f"{text[:room]}… ({len(text) - room:,} more characters)"

    def value(self, value: Any, most: float | None = None) -> Any:
        """A parameter's value; long texts are cut."""
        if isinstance(value, str):
            return self.text(value, most)
        said = json.dumps(value, ensure_ascii=False)
        return value if len(said) <= 200 else self.text(said)

    def sentences(self) -> list[str]:
        """What was left out, in words."""
        out = []
        if self.cut:
            out.append(f"{self.cut:,} characters of long texts")
        if self.hidden:
            out.append(f"the outputs of {self.hidden:,} evaluations (each candidate shows {self.outputs:.0f} at most)")
        return out


@dataclass(frozen=True, slots=True)
class Shown:
    """One evaluation of a candidate, in full.

    Args:
        example: The row, or None.
        replicate: Counts repeats.
        purpose: "search", "report", or "confirm" of one that was measured again before it counts.
        value: The compared number; None when it failed.
        failure: Why it failed, or "".
        texts: By what they are: output, feedback, log, failure detail, partial results.
    """

    example: str | None
    replicate: int
    purpose: str
    seconds: float
    value: float | None
    failure: str
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of one candidate.

    Args:
        number: Order of admission.
        state: See `standing`.
        kept: Whether the race ever made it the champion.
        value: Its search score now; no result.
        measured: Full measurements behind it.
        measures: Mean of each objective and constraint.
        values: By parameter.
        changes: Parameters that differ from its first parent, or from the initial candidate: name, before, after.
        lines: Of programs among them, the unified diff of each file that differs, by its name.
        against: Number of that parent.
        scores: Compared number by example, None where it failed, the worst first; empty without rows.
        rows: How many examples it was measured on.
        paired: On rows that that parent was measured on too: better, worse, of.
        evaluations: Some of them with all that came of them.
    """

    number: int
    id: str
    state: str
    kept: bool
    source: str
    rationale: str
    reason: str
    failure: str
    feedback: str
    parents: list[int]
    claim: float | None
    value: float | None
    measured: int
    feasible: bool
    measures: dict[str, float]
    partial: dict[str, float]
    values: dict[str, Any]
    against: int | None
    changes: list[list[Any]]
    scores: dict[str, float | None] = field(default_factory=dict)
    rows: int = 0
    paired: dict[str, int] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    evaluations: list[Shown] = field(default_factory=list)


def preference(count: int, first: Iterable[int]) -> list[int]:
    """All numbers below `count`, those that matter most first."""
    return list(dict.fromkeys([*first, *range(count)]))


def standing(state: State, trial: Trial) -> str:
    """A candidate's state in a word: that of `agent.history.Trial`; "suspicious" of one that is suspected, or was
    convicted; "unfinished" of one that waited for a word when the run ended."""
    if trial.suspicion in ("suspected", "convicted"):
        return "suspicious"
    waits = trial.number and trial.state in ("queued", "measured", "racing")
    return "unfinished" if waits and state.ended is not None else trial.state


def cards(tape: Tape, order: Iterable[int], allowance: Allowance) -> list[Card]:
    """The pages of all candidates by number; those that come first in `order` get their texts first."""
    return sorted((_card(tape, number, allowance) for number in order), key=lambda card: card.number)


def _card(tape: Tape, number: int, allowance: Allowance) -> Card:
    state = tape.state
    history, problem = state.history, state.problem
    trial = history.trials[number]
    parents = [history[name].number for name in trial.parents if name in history]
    against = None if not number else parents[0] if parents else 0
    changes = [] if against is None else problem.space.diff(history.trials[against].candidate, trial.candidate)
    seen = tape.measured.get(trial.id, [])
    scores = _scores(tape, seen)
    other = {} if against is None else _scores(tape, tape.measured.get(history.trials[against].id, ()))
    sign = problem.objective.sign
    worst = sorted(scores, key=lambda name: -math.inf if scores[name] is None else sign * (scores[name] or 0.0))
    return Card(
        number=number,
        id=trial.id,
        state=standing(state, trial),
        kept=number == 0 or any(step.number == number and step.decision == "promote" for step in tape.steps),
        source=trial.source,
        rationale=allowance.text(trial.rationale),
        reason=allowance.text(trial.reason),
        failure=allowance.text(trial.failure),
        feedback=allowance.text(trial.feedback),
        parents=parents,
        claim=trial.claim,
        value=problem.compared(trial.values) if trial.values is not None else None,
        measured=trial.count,
        feasible=trial.feasible,
        measures=dict(trial.values or {}),
        partial={f"{share:g}": -problem.objective.sign * cost for share, cost in trial.partial.items()},
        values={name: allowance.value(trial.candidate[name]) for name in problem.space},
        against=against,
        changes=[[c.name, *_sides(problem.space, c, allowance)] for c in changes],
        lines={name: text for c in changes for name, text in line_texts(problem.space, c, allowance).items()},
        scores={name: scores[name] for name in worst[: int(min(len(worst), allowance.rows))]},
        rows=len(scores),
        paired=_paired(sign, scores, other),
        evaluations=_shown(tape, seen, allowance),
    )


def _sides(space: Space, change: Change, allowance: Allowance) -> tuple[Any, Any]:
    """A parameter before and after; of a program how many lines of which files differ, see `Card.lines`."""
    if isinstance(space[change.name], Code):
        return "", counted_lines(change.name, change.before, change.after)
    return allowance.value(change.before), allowance.value(change.after)


def line_texts(space: Space, change: Change, allowance: Allowance, most: float | None = None) -> dict[str, str]:
    """The unified diffs of a changed program's files, by name; none of another parameter."""
    if not isinstance(space[change.name], Code):
        return {}
    found = line_diffs(change.name, change.before, change.after)
    return {place: allowance.text("\n".join(lines[2:]), most) for place, lines in found}


def _compared(tape: Tape, item: Measured) -> float | None:
    score = item.ended.score
    return tape.state.problem.compared(score["values"]) if score is not None else None


def _scores(tape: Tape, seen: Iterable[Measured]) -> dict[str, float | None]:
    """The newest full measurement on each row of the search."""
    return {
        item.started.example: _compared(tape, item)
        for item in seen
        if item.started.example is not None and item.started.purpose == "search" and item.full
    }


def _paired(sign: int, own: Mapping[str, float | None], other: Mapping[str, float | None]) -> dict[str, int]:
    """How often it was better and worse than another one, on the rows of both; a failure is worse than a score."""
    gains = [
        (-math.inf if own[name] is None else sign * (own[name] or 0.0))
        - (-1e300 if other[name] is None else sign * (other[name] or 0.0))
        for name in own
        if name in other and (own[name] is not None or other[name] is not None)
    ]
    both = sum(name in other for name in own)
    return {"better": sum(g > 0 for g in gains), "worse": sum(g < 0 for g in gains), "of": both} if both else {}


def _shown(tape: Tape, seen: list[Measured], allowance: Allowance) -> list[Shown]:
    """Evaluations that have something to tell: failures first, then the worst scores, as many as are allowed."""
    sign = tape.state.problem.objective.sign
    told = [(item, found) for item in seen if (found := _texts(item.ended.output, item.ended.score))]
    told.sort(key=lambda pair: (not pair[0].failure, sign * (_compared(tape, pair[0]) or 0.0)))
    room = int(min(len(told), allowance.outputs)) if allowance.left > 0 else 0
    allowance.hidden += len(told) - room
    return [
        Shown(
            example=item.started.example,
            replicate=item.started.replicate,
            purpose=CONFIRM if item.started.stage in SECOND else item.started.purpose,
            seconds=float(item.ended.output.get("seconds", 0.0)),
            value=_compared(tape, item),
            failure=allowance.text(item.failure),
            texts={name: allowance.text(text) for name, text in texts.items()},
        )
        for item, texts in told[:room]
    ]


def _texts(output: Mapping[str, Any], score: Mapping[str, Any] | None) -> dict[str, str]:
    """What an evaluation left besides its numbers."""
    value, failure = output.get("value"), output.get("failure") or {}
    plain = isinstance(value, Mapping) and set(value) <= {"values", "feedback"}
    numbers = isinstance(value, (int, float)) or value is None
    out = {
        "failure": str(failure.get("detail", "")),
        "output": ""
        if plain or numbers
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False),
        "feedback": str((score or {}).get("feedback", "")),
        "log": str(output.get("log", "")),
        "partial results": json.dumps(output["partials"], ensure_ascii=False) if output.get("partials") else "",
    }
    return {name: text for name, text in out.items() if text}
