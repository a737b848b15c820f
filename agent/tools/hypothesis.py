"""Tools for what the model supposes: written down before it is tested, and judged when the result is there.

The notebook is journalled, and the next conversation begins with it. What came of the candidate that a hypothesis was
tied to is read from the history, so that it is there whether or not the model cares to write it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from agent.code.untrusted import cleaned
from agent.tools.base import Desk, ToolError, tool_of
from agent.tools.submit import recorded

if TYPE_CHECKING:
    from agent.proposers.base import Context

KEPT = 20
"""Hypotheses that a notebook holds; of more, the oldest that are judged go first."""
CHARS = 300
"""Characters of a hypothesis, and of a lesson."""


async def _hypothesis(desk: Desk, text: str) -> str:
    """Write down what you suppose, before it is tested. Give its number to submit with the proposal that tests it.

    Args:
        text: One sentence that a result can refute.
    """
    if not text.strip():
        raise ToolError("the text is empty")
    found = recorded(desk)
    number = max((item["number"] for item in found), default=0) + 1
    made = {"number": number, "text": _short(text), "decision": desk.context.decision}
    _knowing(made, desk)
    found.append(made)
    if len(found) > KEPT:
        found.remove(next((item for item in found if "verdict" in item), found[0]))
    return f"recorded as hypothesis {number}"


async def _outcome(
    desk: Desk, hypothesis: int, verdict: Literal["supported", "refuted", "undecided"], lesson: str = ""
) -> str:
    """Judge a hypothesis, once what it was tested with has been measured.

    Args:
        hypothesis: Its number.
        verdict: What the result says.
        lesson: What follows for the next proposals.
    """
    item = next((item for item in recorded(desk) if item["number"] == hypothesis), None)
    if item is None:
        known = ", ".join(str(item["number"]) for item in recorded(desk)) or "none"
        raise ToolError(f"there is no hypothesis {hypothesis}", hint=f"recorded are: {known}")
    item["verdict"], item["lesson"] = verdict, _short(lesson)
    _knowing(item, desk)
    return f"hypothesis {hypothesis} is {verdict}"


hypothesis = tool_of(_hypothesis, name="hypothesis", pure=True)
outcome = tool_of(_outcome, name="outcome", pure=True)


def _knowing(item: dict[str, Any], desk: Desk) -> None:
    """Keep which rows were read when something was written: whoever reads it later knows of them too."""
    if rows := dict.fromkeys([*item.get("read", ()), *desk.context.reads]):
        item["read"] = list(rows)


def lines(context: Context, notebook: Mapping[str, Any]) -> list[str]:
    """The hypotheses on record, each with what is known of it, newest last.

    The rows that were read when they were written count as read by whoever is shown them.
    """
    found = notebook.get("hypotheses", ())
    for item in found:
        context.counting(item.get("read", ()))
    return [_line(context, item) for item in found]


def _line(context: Context, item: Mapping[str, Any]) -> str:
    history = context.history
    said = [f"{item['number']}. {item['text']}"]
    candidate = item.get("candidate")
    if candidate is None:
        said.append("not tested")
    elif candidate not in history:
        said.append("what was to test it was refused")
    else:
        trial = history[candidate]
        result = ", ".join(f"{name}={value:.6g}" for name, value in (trial.values or {}).items())
        claim = f", expected {trial.claim:.6g}" if trial.claim is not None else ""
        failure = f" ({_short(context.failure(trial))})" if trial.values is None and trial.failure else ""
        said.append(f"tested with #{trial.number}: {trial.state}{failure}{': ' if result else ''}{result}{claim}")
    if "verdict" in item:
        said.append(item["verdict"] + (f": {item['lesson']}" if item.get("lesson") else ""))
    return " — ".join(said)


def _short(text: str) -> str:
    return " ".join(cleaned(text, 4 * CHARS).split())[:CHARS]
