"""A problem from an empty folder: a model drafts it, or questions fill it in; then its evaluator is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk
    from agent.drafting.flow import Drafted
    from agent.ledger import Budget
    from agent.paying import Till


async def draft(
    folder: Path,
    talk: Talk,
    model: str | None = None,
    *,
    goal: str = "",
    adapter: Any = None,
    budget: Budget | None = None,
    till: Till | None = None,
    here: Path | None = None,
    base_url: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Drafted | None:
    """Help a person to write a problem folder. Nothing is sent, written or run before a yes to just that.

    Args:
        folder: Where the problem is going to be; made when the first file is written.
        talk: Asks and says.
        model: `provider:model` that drafts; "none" for questions without a model, also in the run; None for questions,
            and the usual model in the run.
        goal: What shall be better, where that was said already.
        adapter: A model object instead of the one of that name, as `agent.llm.scripted` gives one.
        budget: Limits on the calls of the model, the evaluator's while it is tried included.
        till: Where the calls are charged; one of its own, with `budget`, where none is given.
        here: Where the names of files are looked for, beside the folder; the working directory by default.
        base_url: Another server for OpenAI-compatible models.
        progress: Told how far a download of weights is.

    Returns:
        What was written and what was found out about it; None where nothing was written.

    Raises:
        EOFError: There is nobody to answer.
        StoreError: A file cannot be written.
    """
    from agent.drafting.flow import Flow
    from agent.ledger import Budget as Limits
    from agent.paying import Till as Purse

    limits = budget or Limits()
    flow = Flow(
        folder=folder,
        talk=talk,
        model=model,
        goal=goal,
        adapter=adapter,
        budget=limits,
        till=till or Purse(limits),
        here=here or Path.cwd(),
        base_url=base_url,
        progress=progress,
    )
    return await flow.run()
