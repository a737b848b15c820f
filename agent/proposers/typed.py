"""Replies that change some parameters: one JSON type for each, and each change taken or refused by itself.

Nothing is coerced and nothing is repaired: a number is a number, a text is whole, a program is whole or comes as
search/replace blocks. What cannot be taken is told in words; the other changes of the same reply stay.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from agent.code import edits, entries, programs
from agent.llm.jsontext import loads
from agent.parameters import Float, Int, Parameter
from agent.proposers import cards
from agent.space import Candidate, Space, canonical
from agent.texts import Code

REASONING = 600
"""Characters of reasoning in a reply."""


def schema(space: Space, champion: Candidate) -> dict[str, Any]:
    """The JSON schema of a reply: reasoning, and the changes, where every parameter may be left out.

    Ranges are not part of it: the prompt names them, and a value outside of one is refused alone, where a schema
    would refuse the whole reply.

    Args:
        space: Of the problem.
        champion: Its texts tell how long new ones may be.
    """
    fields = {name: _field(space[name], champion[name]) for name in space}
    changes = {"type": "object", "properties": fields, "required": [], "additionalProperties": False}
    return cards.closed({"reasoning": {"type": "string", "maxLength": REASONING}, "changes": changes})


def _field(parameter: Parameter, now: Any) -> dict[str, Any]:
    if isinstance(parameter, (Float, Int)):
        return {"type": "number" if isinstance(parameter, Float) else "integer"}
    if isinstance(parameter, Code) and parameter.tree:
        # Files may be added, so that no list of them would do: blocks and fences name theirs.
        return {"type": "string", "maxLength": max(cards.LONGEST, 2 * max(map(len, now.values()), default=0))}
    fields: dict[str, dict[str, Any]] = cards.properties(Space({"it": parameter}), ["it"], Candidate({"it": now}))
    return fields["it"]


def reply_tokens(shape: Mapping[str, Any]) -> int:
    """Output tokens that a reply of this schema takes at most."""
    parts = shape["properties"]
    return cards.reply_tokens({"reasoning": parts["reasoning"], **parts["changes"]["properties"]})


def taken(space: Space, champion: Candidate, changes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The changes that can be made, and why each of the others cannot.

    Args:
        space: Of the problem.
        champion: What is changed.
        changes: Parameter → new value, as a model gave it.

    Returns:
        New values by name, and one sentence for each change that was refused.
    """
    good: dict[str, Any] = {}
    refused: list[str] = []
    for name, value in changes.items():
        if name not in space:
            known = cards.clip(", ".join(space), cards.WORDS)
            refused.append(f"{cards.clip(str(name), 60)!r}: there is no such parameter; there are {known}")
            continue
        parameter, now = space[name], champion[name]
        try:
            made = parameter.check(_meant(space, parameter, name, value, now))
            if isinstance(parameter, Code) and (wrong := misfit(parameter, now, made)):
                raise ValueError(wrong)
        except ValueError as error:
            refused.append(f"{name}: {error}")
            continue
        if canonical(made) == canonical(now):
            refused.append(f"{name}: this is its value already")
        else:
            good[name] = made
    if not changes:
        refused.append("the reply changes nothing")
    return good, refused


def _meant(space: Space, parameter: Parameter, name: str, value: Any, now: Any) -> Any:
    """A replied value as the parameter takes it."""
    if not isinstance(parameter, Code):
        return cards.matched(space, {name: value})[name]
    if not isinstance(value, str):
        raise ValueError(f"a program text or search/replace blocks are needed, not {type(value).__name__}")
    if parameter.tree:
        return edits.revised_tree(value, now)
    if edits.HEAD in value or value.lstrip().startswith(("```", "~~~")):
        return edits.revised(value, now)
    return value


def misfit(parameter: Code, now: Any, made: Any) -> str:
    """Why a program cannot be called as the one before it; "" when it can.

    A parameter with a `signature` has been checked against that already.
    """
    if parameter.language != "python" or parameter.entry is None or parameter.signature is not None:
        return ""
    module, _, entry = parameter.entry.rpartition(":")
    if parameter.tree:
        stem = module.replace(".", "/")
        path = next((p for p in (f"{stem}.py", f"{stem}/__init__.py") if p in now and p in made), "")
        if not path:
            return ""
        now, made = now[path], made[path]
    was, is_now = entries.kind(now, entry), entries.kind(made, entry)
    if was != is_now:
        return f"{entry} is {is_now}, and has to be {was} as before"
    if not entries.rebound(now, entry) and (line := entries.rebound(made, entry)):
        return f"line {line} gives the name {entry} to something else, or deletes it"
    before = programs.definition(now, entry)
    if isinstance(before, ast.ClassDef):
        return ""
    wrong = programs.misfit(made, entry, f"({ast.unparse(before.args)})")
    wrong = wrong or entries.stricter(made, entry, before.args)
    return f"its signature changed: {wrong}" if wrong else ""


def salvaged(raw: str) -> dict[str, Any] | None:
    """The changes of a reply that does not fit its schema, such as one with an unknown name; None without any."""
    try:
        found = loads(raw)
    except ValueError:
        return None
    changes = found.get("changes") if isinstance(found, dict) else None
    if not isinstance(changes, dict) or not changes:
        return None
    return {"reasoning": str(found.get("reasoning", "")), "changes": changes}
