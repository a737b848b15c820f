"""What prompts say of a problem and its history, in as few words as a small model can read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from agent.code.untrusted import cleaned, inline
from agent.history import Trial
from agent.nearness import Nearness
from agent.parameters import Categorical, Float, Int, Parameter
from agent.problem import Problem
from agent.proposers.base import Context
from agent.space import Candidate, Space
from agent.texts import Code, Demos, Text

RADIUS = 0.01
"""How near a model's point may come to an evaluated one: max norm in the unit cube."""
DESCRIPTION = 1500
"""Characters of a problem's description that a prompt holds."""
WORDS = 100
"""Characters of a failure or a rejection that a prompt holds."""
TOLD = 3
"""Failures and rejections that a prompt tells of: the latest."""
WORDING, PROGRAM = 400, 2000
"""Characters that a reply may have for a text or a program, however short the present one is."""
LONGEST = 4000
"""Characters that a text may have in a reply; less where its parameter says so, or where it is far shorter now."""


def cost(problem: Problem, trial: Trial) -> float:
    """What a trial's measurements come to, turned so that smaller is better.

    Raises:
        KeyError: It was not measured.
    """
    return -problem.objective.sign * problem.compared(trial.values or {})


def ranked(context: Context) -> list[Trial]:
    """The measured trials that keep all constraints, best first by what race and gate compare."""
    good = [trial for trial in context.history.trials if trial.values is not None and trial.feasible]
    return sorted(good, key=lambda trial: (cost(context.problem, trial), trial.number))


def rounded(values: Sequence[float]) -> list[str]:
    """Numbers as short texts that still tell them apart: in steps of a hundredth of their spread, or finer."""
    span = max(values) - min(values) if values else 0.0
    if span <= 0 or not math.isfinite(span):
        return [f"{value:.4g}" for value in values]
    digits = 2 - math.floor(math.log10(span))
    largest = max(abs(value) for value in values)
    if digits > 12 or largest >= 1e7:
        figures = min(17, max(4, digits + 1 + math.floor(math.log10(largest))))
        return [f"{value:.{figures}g}" for value in values]
    return [f"{round(value, digits) + 0.0:.{max(0, digits)}f}" for value in values]


def written(parameter: Parameter, value: Any) -> Any:
    """A value as a prompt shows it: real numbers to a thousandth of their range, or to three figures on a log scale."""
    if not isinstance(parameter, Float):
        return value
    if parameter.log:
        # Three figures must tell apart what a narrow range holds.
        more = max(0, math.ceil(-math.log10(parameter.high / parameter.low - 1)))
        return float(f"{value:.{min(17, 3 + more)}g}")
    return round(value, 3 - math.floor(math.log10(parameter.high - parameter.low)))


def configuration(space: Space, values: Any, names: Iterable[str]) -> str:
    """The values of some parameters as a JSON text."""
    return json.dumps({name: written(space[name], values[name]) for name in names}, ensure_ascii=False)


def marked(space: Space, candidate: Candidate, names: Iterable[str]) -> str:
    """The same, with what lies at the end of its range: "(x at its low end)"."""
    ends = ", ".join(f"{name} at its {end} end" for name, end in at_bounds(space, candidate))
    return configuration(space, candidate, names) + (f" ({ends})" if ends else "")


def at_bounds(space: Space, candidate: Candidate) -> list[tuple[str, str]]:
    """Which numbers of a candidate lie within 1 % of an end of their range, and which end: "low" or "high"."""
    out = []
    for name in space.numeric:
        parameter = space[name]
        if isinstance(parameter, Categorical):
            continue
        assert isinstance(parameter, (Float, Int))
        place = parameter.encode(candidate[name])
        if candidate[name] == parameter.low or place <= RADIUS:
            out.append((name, "low"))
        elif candidate[name] == parameter.high or place >= 1 - RADIUS:
            out.append((name, "high"))
    return out


def facts(context: Context, source: str, names: Sequence[str]) -> list[str]:
    """What code knows and a model should: what is left, what an earlier run found, what failed, what of `source` was
    refused lately."""
    space, out = context.problem.space, []
    left = context.left.get("evaluations", math.inf)
    if math.isfinite(left):
        out.append(f"Evaluations left: {left:.0f}.")
    sign = context.problem.objective.sign
    good = sorted(
        (item for item in context.history.warm if item.score is not None), key=lambda p: -sign * (p.score or 0)
    )
    out += [f"in an earlier run: {point.score:.4g} -> {told_of(space, point.values, names)}" for point in good[:TOLD]]
    bad = [point for point in context.history.warm if point.failed]
    out += [f"failed in an earlier run: {told_of(space, point.values, names)}" for point in bad[-TOLD:]]
    for trial in unusable(context)[-TOLD:]:
        context.showing(trial)
        why = _said(context, context.failure(trial)) if trial.values is None else broken(context.problem, trial)
        out.append(f"failed: {told_of(space, trial.candidate, names)} ({why})")
    return out + [f"refused before: {reason}" for reason in refusals(context, source)]


def told_of(space: Space, values: Any, names: Sequence[str]) -> str:
    """A configuration that is not worth many words."""
    return clip(configuration(space, values, names), 4 * WORDS)


def refusals(context: Context, source: str) -> list[str]:
    """Why the latest proposals of a source were refused, each reason once; a model knows no candidate's number."""
    mine = [item for item in context.history.rejections if str(item.get("source", "")).startswith(source)]
    return list(dict.fromkeys(_said(context, anonymous(str(item["reason"]))) for item in mine[-TOLD:]))


def _said(context: Context, text: str) -> str:
    """A failure or refusal on one line; where it may be the words of a program, in quotes and named as such."""
    foreign = any(isinstance(item, Code) for item in context.problem.space.values())
    return inline(text, WORDS) if foreign else line(text)


def anonymous(reason: str) -> str:
    """A reason without the number of a candidate."""
    return re.sub(r"\bcandidate \d+", "a known one", reason)


def unusable(context: Context) -> list[Trial]:
    """The trials that failed or break a constraint, in the order of admission."""
    trials = context.history.trials
    return [t for t in trials if t.state in ("failed", "suspected") or (t.values is not None and not t.feasible)]


def broken(problem: Problem, trial: Trial) -> str:
    """Which constraints a measured trial breaks: "must have size at most 1"."""
    return "must have " + " and ".join(str(item) for item in problem.violated(trial.values or {}))


def line(text: str) -> str:
    """A text of others on one line, cut short."""
    return clip(" ".join(cleaned(text).split()), WORDS)


def clip(text: str, most: int) -> str:
    """A text of at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def metric(problem: Problem) -> str:
    """The name of what is compared, with its unit and which way is better."""
    spoken = problem.spoken
    unit = f" ({spoken.unit})" if spoken.unit else ""
    return f"{spoken.name}{unit}, {'larger' if problem.objective.sign > 0 else 'smaller'} is better"


def card(problem: Problem, names: Sequence[str]) -> str:
    """The problem card, the model card (what is tuned) and the data card (what is known of rows) of LLAMBO
    (Liu et al. 2024, arXiv 2402.03921, section 4)."""
    from agent.prompts.render import render

    return render(
        "card.txt",
        description=clip(problem.description.strip(), DESCRIPTION),
        metric=metric(problem),
        bounds=[f"{bound:g}" for bound in problem.bounds or ()],
        parameters=[f"{name}: {told(problem.space[name])}" for name in names],
        constraints=[str(item) for item in problem.constraints],
        rows=len(problem.split("train")),
        average=not problem.by_rows,
        guidance=problem.guidance,
    )


def told(parameter: Parameter) -> str:
    """A parameter in words: type, range, scale, default."""
    initial = parameter.initial()
    start = json.dumps(float(f"{initial:.4g}") if isinstance(parameter, Float) else initial, ensure_ascii=False)
    if isinstance(parameter, (Float, Int)):
        kind = "number" if isinstance(parameter, Float) else "whole number"
        scale = ", logarithmic scale" if parameter.log else ""
        return f"{kind} from {json.dumps(parameter.low)} to {json.dumps(parameter.high)}{scale}, default {start}"
    if isinstance(parameter, Categorical):
        choices = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in parameter.choices)
        return f"one of {choices}, default {start}"
    if isinstance(parameter, Text):
        most = f" of at most {parameter.max_chars} characters" if parameter.max_chars is not None else ""
        keep = ", ".join(f"{{{name}}}" for name in parameter.placeholders)
        return f"text{most}" + (f" that keeps {keep}" if keep else "")
    if isinstance(parameter, Code):
        return _program(parameter)
    if isinstance(parameter, Demos):
        return f"list of at most {parameter.k} different whole numbers from 0 to {len(parameter.pool) - 1}"
    return f"{parameter.type}, default {clip(start, WORDS)}"


def _program(parameter: Code) -> str:
    """A program in words: its files, what may be added, how it is called, what it may import, its size."""
    call = f"{parameter.entry}{parameter.signature or ''}" if parameter.entry else ""
    if parameter.tree:
        paths = sorted(parameter.initial())
        out = f"program in {parameter.language} of {len(paths)} files: {clip(', '.join(paths), 4 * WORDS)}"
        out += f"; files that fit {' or '.join(parameter.files)} may be added"
        out += f", but not {' or '.join(parameter.protected)}" if parameter.protected else ""
        out += f"; it is entered at {call}" if call else ""
    else:
        out = f"program in {parameter.language}" + (f" that defines {call}" if call else "")
    if parameter.imports is not None:
        out += f"; it may import {', '.join(parameter.imports) or 'nothing'}"
    return out + (f"; at most {parameter.max_chars} characters" if parameter.max_chars is not None else "")


def properties(space: Space, names: Sequence[str], champion: Candidate) -> dict[str, Any]:
    """JSON schemas of parameters by name, in their own units."""
    return {name: _schema(space[name], champion[name]) for name in names}


def _schema(parameter: Parameter, now: Any) -> dict[str, Any]:
    if isinstance(parameter, (Float, Int)):
        kind = "number" if isinstance(parameter, Float) else "integer"
        return {"type": kind, "minimum": parameter.low, "maximum": parameter.high}
    if isinstance(parameter, Categorical):
        return {"enum": list(parameter.choices)}
    if isinstance(parameter, Demos):
        items = {"type": "integer", "minimum": 0, "maximum": len(parameter.pool) - 1}
        return {"type": "array", "items": items, "maxItems": parameter.k}
    limit = parameter.max_chars if isinstance(parameter, (Text, Code)) else None
    if isinstance(parameter, Code) and parameter.tree:
        return closed({path: _text(text, limit, PROGRAM) for path, text in now.items()})
    return _text(str(now), limit, PROGRAM if isinstance(parameter, Code) else WORDING)


def _text(now: str, limit: int | None, least: int) -> dict[str, Any]:
    most = max(least, min(LONGEST, 2 * len(now)), len(now))
    return {"type": "string", "maxLength": most if limit is None else min(most, limit)}


def closed(fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def reply_tokens(fields: dict[str, Any]) -> int:
    """Output tokens that one object with these properties takes at most, in words and figures of usual length."""
    # A digit can be a token, and a small model may write many of them.
    return 16 + sum(24 + len(name) // 2 + _tokens(item) for name, item in fields.items())


def _tokens(item: dict[str, Any]) -> int:
    if "enum" in item:
        return max(len(json.dumps(choice, ensure_ascii=False)) for choice in item["enum"]) // 2
    if "properties" in item:
        return reply_tokens(item["properties"])
    return int(item.get("maxLength", 0)) // 2 + 6 * int(item.get("maxItems", 0))


def matched(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Replied values with each choice as it was declared: JSON knows no difference between 1 and 1.0."""
    out = dict(values)
    for name, value in values.items():
        parameter = space.get(name)
        if isinstance(parameter, Categorical) and not isinstance(value, bool):
            same = [c for c in parameter.choices if c == value and not isinstance(c, bool)]
            if same and all(type(choice) is not type(value) for choice in same):
                out[name] = same[0]
    return out


class Seen:
    """Which candidates are not worth an evaluation, because a history or this decision has them already.

    Args:
        context: Of the decision.
    """

    def __init__(self, context: Context) -> None:
        self._history = context.history
        self._near = Nearness(context.problem.space)
        self._near.add(trial.candidate for trial in context.history.trials)

    def why(self, candidate: Candidate) -> str:
        """Why it is not, such as "repeats candidate 7" or "lies within 1% of candidate 7"; empty when it is new."""
        if candidate.id in self._history:
            return f"repeats candidate {self._history[candidate.id].number}"
        number = self._near.nearest(candidate, RADIUS)
        if number is None:
            return ""
        if number >= len(self._history):
            return "is the same as another one just made"
        return f"lies within {RADIUS:.0%} of candidate {number}"

    def add(self, candidate: Candidate) -> None:
        """One more, which this decision proposes."""
        self._near.add([candidate])
