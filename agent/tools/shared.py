"""What several tools need: candidates by name, a candidate in one line, and marks around what others wrote."""

from __future__ import annotations

import importlib
import json
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from agent.code.untrusted import PRINTED, cleaned, untrusted
from agent.history import Trial
from agent.problem import Problem
from agent.space import Space, digest
from agent.texts import Code, Demos, Text
from agent.tools.base import Desk, ToolError

MOST = 30
"""Lines that a tool lists at most."""
FEW = 8
"""Parameters that a candidate's line shows all of; of more, those that differ from the champion's."""
WORDS = 120
"""Characters of a failure or a text in a line."""
MARKED = 4500
"""Characters between the two marks: an answer with its marks stays below what a tool may say."""


def find(desk: Desk, name: str) -> Trial:
    """The candidate of a name.

    Args:
        desk: Of the call.
        name: "champion", "initial", "best", "#" and a number, or an id or its beginning.

    Raises:
        ToolError: There is none, or several begin so.
    """
    history = desk.context.history
    if name in ("champion", "initial"):
        return history[history.champion if name == "champion" else history.initial]
    if name == "best" and (good := ranked(desk)):
        return good[0]
    if name in history:
        return history[name]
    number = name.removeprefix("#")
    if name.startswith("#") and number.isdecimal() and len(number) < 10 and int(number) < len(history):
        return history.trials[int(number)]
    found = [trial for trial in history.trials if len(name) >= 4 and trial.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    raise ToolError(
        f"{'several candidates begin with' if found else 'there is no candidate'} {cleaned(name, 100)!r}",
        hint="take champion, initial, best, # and a number, or an id that top, recent or failures shows",
    )


def listed(n: int, name: str = "n", most: int = MOST) -> int:
    """How many lines are shown where so many are asked for.

    Raises:
        ToolError: Fewer than one.
    """
    if n < 1:
        raise ToolError(f"{name}: found {n}, allowed is 1 to {most}")
    return min(n, most)


def cost(problem: Problem, trial: Trial) -> float:
    """What race and gate compare of a measured candidate, turned so that smaller is better."""
    return -problem.objective.sign * problem.compared(trial.values or {})


def ranked(desk: Desk) -> list[Trial]:
    """The measured candidates that keep all constraints, best first."""
    problem = desk.context.problem
    good = [trial for trial in desk.context.history.trials if trial.values is not None and trial.feasible]
    return sorted(good, key=lambda trial: (cost(problem, trial), trial.number))


def goal(problem: Problem) -> str:
    """What is compared, and which way is better."""
    return f"{problem.spoken.name} ({'larger' if problem.objective.sign > 0 else 'smaller'} is better)"


def row(desk: Desk, trial: Trial) -> str:
    """A candidate in one line: number, id, state, results, what it consists of, who made it.

    What it was made with counts as read by whoever is shown it, here and below.
    """
    context = desk.context
    context.showing(trial)
    said = [f"#{trial.number} {trial.id[:8]} {trial.state}"]
    if trial.values is not None:
        said.append(" ".join(f"{name}={value:.6g}" for name, value in trial.values.items()))
        said += [] if trial.feasible else ["breaks a constraint"]
    elif trial.failure:
        said.append(short(context.failure(trial)))
    elif trial.stopped:
        said.append("stopped early")
    space = context.problem.space
    names = list(space)
    champion = context.champion
    if len(names) > FEW and trial.id != champion.id:
        names = [change.name for change in space.diff(champion, trial.candidate)]
    said.append(" ".join(value(space, name, trial.candidate[name]) for name in names) or "(as the champion)")
    return "  ".join([*said, f"by {trial.source}"])


def value(space: Space, name: str, item: Any) -> str:
    """A parameter and its value, in a few words where it is long."""
    if isinstance(space[name], Code):
        texts = item.values() if isinstance(item, Mapping) else [item]
        return f"{name}=(program, {sum(len(text.splitlines()) for text in texts)} lines)"
    if isinstance(space[name], Text):
        return f"{name}={json.dumps(short(item, 60), ensure_ascii=False)}" + (
            f" ({len(item)} characters)" if len(item) > 60 else ""
        )
    return f"{name}={number(item)}"


def number(item: Any) -> str:
    """A number to six figures; anything else as JSON."""
    return f"{item:.6g}" if isinstance(item, float) and math.isfinite(item) else json.dumps(item, ensure_ascii=False)


def short(text: str, most: int = WORDS) -> str:
    """A text in one line of at most `most` characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def said(desk: Desk, head: str, lines: Iterable[str], *, foreign: bool | None = None) -> str:
    """An answer: a heading of ours, and lines, between marks where others wrote in them.

    Args:
        desk: Of the call.
        head: Our own words.
        lines: What is shown.
        foreign: Whether a candidate, a model or a row may have written in them; by default, whether the space has
            more than numbers and choices.
    """
    body = "\n".join(lines)
    space = desk.context.problem.space
    if foreign is None:
        foreign = any(isinstance(item, (Text, Code, Demos)) for item in space.values())
    return f"{head}\n{marked(desk, body, origin=LISTED) if foreign else body}"


FILE = "is from files of the problem"
LISTED = "was put together from what programs, rows and models wrote"
"""Where a text between marks comes from, where no program printed it."""


def marked(desk: Desk, text: str, limit: int = MARKED, origin: str = PRINTED) -> str:
    """What a program, a row or another model wrote, between marks; the same call writes the same marks."""
    return untrusted(text, random.Random(digest([desk.context.decision, desk.key])), limit, origin)


def candidate(desk: Desk, values: Mapping[str, Any]) -> Any:
    """The candidate that some values make of the champion.

    Raises:
        ToolError: A name is unknown, or a value is not allowed; says what is.
    """
    context = desk.context
    known = {name: item for name, item in values.items() if name in context.problem.space}
    try:
        return context.problem.space.candidate(
            {**context.champion.values_json, **values, **cards().matched(context.problem.space, known)}
        )
    except (ValueError, RecursionError) as error:
        raise ToolError(
            cleaned(str(error), 400),  # its tail says what is wrong
            hint=f"the parameters are {', '.join(context.problem.space)}; what you leave out is the champion's",
        ) from None


def cards() -> Any:
    """What prompts say of a problem; it stands on the proposers' floor, above this one."""
    return importlib.import_module("agent.proposers.cards")
