"""A tool that asks another model of the run for a proposal of its own."""

from __future__ import annotations

import json

from agent.code.untrusted import cleaned
from agent.errors import OutputInvalid
from agent.llm.types import Message, ModelRequest
from agent.prompts.render import render
from agent.tools.base import Desk, ToolError, tool_of
from agent.tools.critic import SHOWN
from agent.tools.history import candidate as in_full
from agent.tools.shared import candidate, cards, marked, ranked, row, short

ROLE = "critic"
"""Whose model is asked, unless the option `second` names another role."""
TOKENS = 2000
"""Of a reply, at most."""
LONGEST = 3000
"""Characters of the question."""


async def _second(desk: Desk, question: str = "") -> str:
    """Ask another model for its own proposal: a second opinion on where to go. It costs a model call.

    Args:
        question: What it should look at, and what you found out.
    """
    context = desk.context
    space = context.problem.space
    helper = cards()
    fields = helper.properties(space, list(space), context.champion)
    # What stays as it is may be left out, so that a small change of a long program is a short reply.
    values = {"type": "object", "properties": fields, "additionalProperties": False}
    schema = helper.closed({"why": {"type": "string", "maxLength": 600}, "values": values})
    lines = [row(desk, trial) for trial in ranked(desk)[:SHOWN]]
    lines += [row(desk, trial) for trial in context.history.trials if trial.failure][-SHOWN:]
    request = ModelRequest(
        messages=(
            Message(
                "user",
                render(
                    "second.txt",
                    known=marked(desk, "\n".join(lines)) if lines else "",
                    champion=await in_full(desk),
                    question=cleaned(question, LONGEST),
                ),
            ),
        ),
        system=render("second_system.txt", card=helper.card(context.problem, list(space))),
        schema=schema,
        max_output_tokens=min(TOKENS, 300 + helper.reply_tokens(fields)),
    )
    try:
        reply = await context.consult(request, role=str(desk.options.get("second", ROLE)), key=desk.key)
    except OutputInvalid as error:
        raise ToolError(f"its reply cannot be used: {short(error.message, 300)}", hint="go on without it") from None
    made = candidate(desk, reply.parsed["values"])
    known = f" That is candidate {context.history[made.id].number}." if made.id in context.history else ""
    changed = {change.name: change.after for change in space.diff(context.champion, made)}
    shown = json.dumps(changed, ensure_ascii=False)
    why = cleaned(reply.parsed["why"], 1000)
    return f"Another model proposes to change the champion so.{known}\n{cleaned(shown)}\nwhy: {why}"


second = tool_of(_second, name="second", seconds=None)  # a model call has limits of its own, and is paid for
