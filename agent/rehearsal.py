"""What an evaluator tries out with the run's models before the first measurement, such as its judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.folds.costs import SCOPE
from agent.paying import Asker

if TYPE_CHECKING:
    from agent.loop import Run

NUMBER = 0
"""Of no evaluation: under it the calls of a rehearsal are recorded, and a resume finds their replies."""


async def rehearse(run: Run) -> None:
    """Let the evaluator test itself, where it has a `self_test(ask)`. Its calls are recorded and paid.

    Raises:
        EvaluatorError: The evaluator refuses.
        BudgetExceeded, ProviderError: The test cannot be paid, or the model cannot be reached.
    """
    test = getattr(run.problem.evaluator, "self_test", None)
    if test is None or run.state.ended is not None:
        return
    run.settle()  # first, as in a replay, where nothing is tested

    try:
        await test(Asker(run.llm, f"{SCOPE}{NUMBER}"))
    except BaseException:
        await run.flush()  # whoever made the folder may remove it now
        await run.close()
        raise
