"""What an agent is told when something is wrong: it has tools to call, and no command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agent.errors import AgentError

BY_KIND = {
    "locked": "list_runs has the run that goes on: observe it to its end, or finish or stop it; then start again",
    "closed": "observe tells its state; once it is finished, result has the verdict",
    "not_running": "observe tells its state; one that is stopped or lost a person resumes, or start begins another",
    "not_served": "observe tells its state; if it is finished, result has the verdict; start begins another one",
    "timeout": "observe it, and try again in a moment",
    "unreachable": "observe it, and try again in a moment",
}
"""What to do about a kind of error."""
BY_HINT = {
    "the problem tells its space": 'list_problems names the parameters, and show_candidate(run, "initial") has values',
    "take ids of training rows (`examples` of the problem)": "read_rows without rows gives some that there are",
}
"""What to do instead of what a program does that asks over HTTP."""
PERSONS = re.compile(r"truegain |(?<!\w)--\w|pip install|problem\.toml|\bexport [A-Z]")
"""A hint that has it is nothing that a tool can do."""
TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list of texts",
    "null": "null",
}
"""What the schemas of the tools call the values that they take."""


class Told(AgentError):
    """An error of another process of ours, in its words.

    Args:
        found: As `AgentError.to_json` gives it.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__(str(found["message"]), hint=str(found["hint"]))
        self.what = str(found["kind"])


def next_step(error: AgentError) -> str:
    """What an agent can do about an error; "" where nothing."""
    kind = getattr(error, "what", error.kind)
    if kind in BY_KIND or error.hint in BY_HINT:
        return BY_KIND.get(kind) or BY_HINT[error.hint]
    if PERSONS.search(error.hint) and "person" not in error.hint:
        return f"only a person can do it, so tell them: {error.hint}"
    return error.hint


def unfit(error: Mapping[str, Any], takes: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What is wrong with one argument of a tool.

    Args:
        error: As pydantic lists them.
        takes: The properties of the tool's schema.
        given: The arguments.
    """
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"no argument {name[:80]}"
    if error["type"] == "missing":
        return f"{name} is missing"
    kinds = [item.get("type") for item in takes[name].get("anyOf", [takes[name]])]
    allowed = " or ".join(TYPES[kind] for kind in kinds)
    return f"{name}: found {json.dumps(given[name], ensure_ascii=False, default=str)[:80]}, allowed is {allowed}"
