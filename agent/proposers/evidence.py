"""What a prompt tells of the champion: rows, traces, feedback, and the memory of what else was tried."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.code.untrusted import untrusted
from agent.errors import BudgetExceeded, ConfigError
from agent.history import Trial
from agent.llm.estimate import text_bound
from agent.proposers import cards
from agent.proposers.base import Context
from agent.proposers.packing import Case, ends, packed
from agent.texts import Code, Text
from agent.tracing.spans import plain

LEAST = 400
"""Fewest tokens that evidence can do with."""
MARKS = 200
"""Tokens of the two marks around what a program printed, and of the headings inside."""
LOOKED_AT = 4
"""Rows that are looked at for each one that is shown, where looking costs nothing."""
CHANGE = 300
"""Characters of one changed value in the memory of attempts."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known, before it is packed.

    Args:
        cases: Measurements of the champion, the most telling first.
        memory: Lines on other candidates, worst first.
        names: The parameters.
    """

    cases: Sequence[Case]
    memory: Sequence[str]
    names: Sequence[str]

    @property
    def traced(self) -> bool:
        """Whether a trace is among it."""
        return any(case.trace is not None for case in self.cases)

    def text(self, context: Context, tokens: int, *, cases: bool = True) -> str:
        """All of it in at most so many tokens, between marks; "" where nothing is known.

        Args:
            context: Of the decision; its randomness makes the marks.
            tokens: At least `LEAST`. A quarter is for the memory, or all of it without the cases.
            cases: Whether the measurements are told of, or the memory alone.
        """
        room = tokens - MARKS
        memory = _fitting(self.memory, room // 4 if cases else room)
        heading = "tried before, changes against the parameters now, worst first (result: changes):"
        tail = "\n".join([heading, *memory]) if memory else ""
        head = packed(self.cases, self.names, room - text_bound(tail)) if cases else ""
        both = "\n".join(part for part in (head, tail) if part)
        return untrusted(both, context.rng, len(both) + 100) if both else ""


async def gathered(context: Context, *, trace: bool, rows: int, attempts: int) -> Evidence:
    """Read rows of train and what the champion did on them. They count as read by this decision.

    Args:
        context: Of the decision.
        trace: Whether traces are looked at.
        rows: Most rows: half of them the worst, the others drawn at random.
        attempts: Most candidates in the memory.
    """
    trial = context.history[context.history.champion]
    cases: list[Case] = []
    for name in _rows(context, trial, rows):
        view = await context.read(name)
        seen = await context.trace(trial.id, name) if trace else None
        content = json.dumps(view.row, ensure_ascii=False, default=str)
        cases.append(Case(_title(name, view.measured, view.score), content, view.feedback, seen))
    if not cases and context.effects is not None and context.problem.exact and trial.values is not None:
        cases = await _known(context, trial, rows, trace)
    if not any(case.words for case in cases):
        words = context.feedback(trial) or context.failure(trial)
        seen = await context.trace(trial.id) if trace and not cases else None
        if words or seen is not None:
            cases.insert(0, Case("", "", words, seen))
    return Evidence(cases, _memory(context, attempts), list(context.problem.space))


async def _known(context: Context, trial: Trial, most: int, trace: bool) -> list[Case]:
    """The worst of some rows of a deterministic problem, whose measurements are known one by one and cost nothing."""
    known = [item.id for item in context.problem.split("train")]
    if not known:
        return []
    drawn = context.rng.sample(known, min(len(known), LOOKED_AT * most))
    try:
        found = await context.look(trial.candidate, drawn, key="rows")
    except (BudgetExceeded, ConfigError):
        return []  # the rest of the evidence does without
    objective = context.problem.objective
    scores = {row.example: None if row.values is None else row.values[objective.name] for row in found.rows}
    order = sorted(found.rows, key=lambda row: _merit(scores[row.example], objective.sign))[:most]
    return [
        Case(
            _title(str(row.example), True, scores[row.example]),
            "",
            row.feedback or row.failure,
            row.trace if trace else None,
        )
        for row in order
    ]


def _title(name: str, measured: bool, score: float | None) -> str:
    return f"row {name}:{'' if not measured else ' failed' if score is None else f' {score:.6g}'}"


def _merit(score: float | None, sign: int) -> float:
    """What rows are sorted by, the worst first."""
    return -math.inf if score is None else sign * score


def _rows(context: Context, trial: Trial, most: int) -> list[str]:
    """Ids of rows: failures and the worst results first, then others at random."""
    if context.reader is None:
        return []
    known = [item.id for item in context.problem.split("train")]
    measured = [name for name in known if name in trial.rows]
    sign = context.problem.objective.sign
    out = sorted(measured, key=lambda name: _merit(trial.rows[name][0], sign))[: (most + 1) // 2]
    rest = [name for name in measured or known if name not in out]
    return out + context.rng.sample(rest, min(len(rest), most - len(out)))


def _memory(context: Context, most: int) -> list[str]:
    """The best other candidates and the latest ones, worst first; those that tell the same only once."""
    champion, problem = context.history.champion, context.problem
    others = [trial for trial in context.history.trials if trial.id != champion]
    best = [trial for trial in cards.ranked(context) if trial.id != champion][: most // 2]
    kept = {trial.id for trial in best}
    late = [trial for trial in reversed(others) if trial.id not in kept]
    picked = [*best, *late][:most]
    context.showing(*picked)

    def cost(trial: Trial) -> float:
        return math.inf if trial.values is None else cards.cost(problem, trial)

    picked.sort(key=lambda trial: (-cost(trial), trial.number))
    numbers = iter(cards.rounded([problem.compared(t.values) for t in picked if t.values is not None]))
    lines = []
    for trial in picked:
        result = next(numbers) if trial.values is not None else "failed" if trial.state != "queued" else "not known yet"
        why = cards.broken(problem, trial) if trial.values is not None and not trial.feasible else ""
        if trial.values is None and trial.failure:
            why = cards.line(context.failure(trial))
        elif not why and trial.reason:
            why = cards.line(context.reason(trial))
        lines.append(f"{result}: {_changes(context, trial)}" + (f" ({plain(why)})" if why else ""))
    return list(dict.fromkeys(lines))


def _changes(context: Context, trial: Trial) -> str:
    space = context.problem.space
    out = []
    for change in space.diff(context.champion, trial.candidate):
        if isinstance(space[change.name], (Code, Text)):
            told = _difference(change.before, change.after)
        else:
            told = json.dumps(cards.written(space[change.name], change.after), ensure_ascii=False)
        out.append(f"{change.name} {ends(told, CHANGE)}")
    return ", ".join(out)


def _difference(before: Any, after: Any) -> str:
    """The lines that differ, those of a text of one line as a whole."""
    old, new = ([text] if isinstance(text, str) else list(_joined(text)) for text in (before, after))
    lines = difflib.unified_diff("\n".join(old).split("\n"), "\n".join(new).split("\n"), lineterm="", n=0)
    told = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    if len(told) == 2:
        return json.dumps(told[1][1:], ensure_ascii=False)
    return plain(json.dumps("\n".join(told), ensure_ascii=False))


def _joined(files: Mapping[str, str]) -> list[str]:
    return [f"{path}\n{text}" for path, text in sorted(files.items())]


def _fitting(lines: Sequence[str], tokens: int) -> list[str]:
    """The last lines, which are the best, as far as they fit."""
    out: list[str] = []
    for line in reversed(lines):
        tokens -= text_bound(line) + 1
        if tokens < 0:
            break
        out.append(line)
    return out[::-1]


def variables(context: Context) -> list[tuple[str, str]]:
    """Every parameter with its value, whole: what is shown in part cannot be changed in part."""
    return [(name, _whole(context.champion[name])) for name in context.problem.space]


def _whole(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{path}\n{_fenced(text)}" for path, text in sorted(value.items()))
    return _fenced(value) if isinstance(value, str) and "\n" in value else json.dumps(value, ensure_ascii=False)


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}" if not text.endswith("\n") else f"{fence}\n{text}{fence}"


def outcome(context: Context) -> str:
    """What the champion's measurements come to, in words; "" before the first one."""
    trial = context.history[context.history.champion]
    if trial.values is None:
        return "failed" if trial.failure else ""
    return f"{context.problem.compared(trial.values):.6g}"
