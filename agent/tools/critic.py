"""A tool that has another model attack a proposal before it is paid for."""

from __future__ import annotations

from typing import Any

from agent.code.untrusted import cleaned
from agent.llm.types import Message, ModelRequest
from agent.prompts.render import render
from agent.tools.base import Desk, ToolError, tool_of
from agent.tools.diff import changed
from agent.tools.shared import candidate, cards, find, marked, ranked, row, short

LONGEST = 3000
"""Characters of the reasons that a proposal comes with."""
TOKENS = 700
SHOWN = 5


async def _critic(desk: Desk, values: dict[str, Any], why: str = "") -> str:
    """Have a critic attack a proposal before it is measured: why it may fail, or not be better. It costs a model call.

    Args:
        values: The proposal's parameters by name; what it leaves out is the champion's.
        why: Why you expect it to be better.
    """
    context = desk.context
    made = candidate(desk, values)
    champion = find(desk, "champion")
    changes = context.problem.space.diff(champion.candidate, made)
    if not changes:
        raise ToolError("it is the champion itself", hint="change something first")
    lines = [line for change in changes for line in changed(desk, change.name, change.before, change.after)]
    failed = [trial for trial in context.history.trials if trial.failure][-SHOWN:]
    known = [row(desk, trial) for trial in (*ranked(desk)[:SHOWN], *failed)]
    request = ModelRequest(
        messages=(
            Message(
                "user",
                render(
                    "critic.txt",
                    known=marked(desk, "\n".join(known)),
                    champion=champion.id[:8],
                    changes=marked(desk, "\n".join(lines)),
                    why=cleaned(why, LONGEST),
                    measured=made.id in context.history,
                ),
            ),
        ),
        system=render("critic_system.txt", card=cards().card(context.problem, list(context.problem.space))),
        max_output_tokens=TOKENS,
    )
    reply = await context.consult(request, role="critic", key=desk.key)
    if not reply.text.strip():
        raise ToolError(f"the critic said nothing ({short(reply.stop)})", hint="go on without it")
    return f"The critic says:\n{cleaned(reply.text)}"


critic = tool_of(_critic, name="critic", seconds=None)  # a model call has limits of its own, and is paid for
