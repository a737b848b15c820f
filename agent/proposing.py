"""Asking a proposer for candidates: what it is given, and what becomes of its answers and failures."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.decide import needed
from agent.effects import Doing
from agent.errors import AgentError, BudgetExceeded, PrerequisiteError, ProviderError, StoreError
from agent.events import ProposalEnded, ProposalStarted, RowRead, StopRequested
from agent.moments import Moment
from agent.proposers.base import Context, Proposal
from agent.space import digest
from agent.wishes import Wishes

if TYPE_CHECKING:
    from agent.loop import Run


async def propose(run: Run, started: ProposalStarted, moment: Moment) -> None:
    """Do what a `proposal.started` asks for, and record what comes of it.

    Args:
        run: That asks.
        started: The decision.
        moment: What the proposer may know: the run as it was at the decision.

    Raises:
        StoreError: The journal cannot be written.
    """
    doing = Doing(run, started.id, moment)
    lost = moment.estranged and not getattr(run.proposer, "any_space", False)
    memory = None if lost else moment.memory
    context = Context(
        problem=moment.wishes.view(run.state.problem),
        history=moment.history,
        rng=random.Random(int(digest([run.state.seed, "proposal", started.id]), 16)),
        ask=doing.ask if run.llm is not None and "propose" in run.state.settings.models else None,
        left=moment.left,
        share=moment.share,
        each=needed(run.state, 1),
        looks=max(0.0, moment.share - needed(run.state, started.n)),
        decision=started.id,
        memory=copy.deepcopy(memory),  # a proposer may change its memory in place; the journal's stays
        options=run.state.settings.options,
        reader=_reader(run, started.id) if run.state.problem.by_rows else None,
        effects=doing.effects(),
        clusters={item.id: item.cluster for item in run.problem.split("train") if item.cluster},
    )
    wishes = moment.wishes
    del moment
    error = ""
    proposals = []
    try:
        made = await run.proposer.propose(context, started.n)
        proposals = [_kept(context, wishes, context.finished(item)) for item in made if _fits(context, item)]
    except BudgetExceeded as caught:
        error, context.exhausted = caught.message, True
    except (ProviderError, PrerequisiteError) as caught:
        if isinstance(caught, PrerequisiteError) or caught.fatal:
            # The proposal stays open: a resume makes it again, and uses the answers it already got.
            await run.turn("stop.requested", "provider")
            run.record(StopRequested("provider", f"{caught.message}\n{caught.hint}".strip()))
            return
        error = caught.message
    except StoreError:
        raise
    except AgentError as caught:
        error = caught.message
    except Exception as caught:  # a proposer of the user's own may do anything; the run goes on and says so
        error = f"{type(caught).__name__}: {caught}"
    told = context.rejections, context.memory, error, context.exhausted, context.over
    ended = ProposalEnded(started.id, proposals, *told)
    try:
        ended.body()
    except (TypeError, ValueError) as caught:
        reason = f"what it proposed, rejected or remembers is not JSON: {caught}"
        ended = ProposalEnded(started.id, [], [], memory, reason)
    del context
    await run.turn("proposal.ended", started.id)
    run.record(ended)


def _kept(context: Context, wishes: Wishes, proposal: dict[str, Any]) -> dict[str, Any]:
    """A proposal as the person wants it; what its proposer chose itself otherwise, it is told of."""
    if not isinstance(proposal.get("values"), dict) or not (wishes.pins or wishes.bans):
        return proposal
    given, champion = proposal["values"], context.champion
    kept = wishes.keep(context.problem.space, given)
    for name in (name for name in kept if kept[name] != given[name] and given[name] != champion.get(name)):
        context.reject(f"the person who runs this wants another {name}; it was changed to that", proposal["source"])
    return {**proposal, "values": kept}


def _fits(context: Context, made: Proposal) -> bool:
    """Whether a proposal's programs are short enough; it is on record where they are not."""
    why = context.problem.overlong(made.values)
    if why:
        context.reject(why, made.source)
    return not why


def _reader(run: Run, proposal: int) -> Callable[[str], Any]:
    async def read(example: str) -> Any:
        if example not in run.state.reads.get(proposal, {}):
            row = await run.row(proposal, example)
            await run.turn("row.read", proposal, example)
            if example not in run.state.reads.get(proposal, {}):  # two tools of one turn may read it at once
                run.record(RowRead(proposal, example, row))
        return copy.deepcopy(run.state.reads[proposal][example])  # as it is stored, without keys and credentials

    return read
