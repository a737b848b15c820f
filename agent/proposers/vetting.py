"""What happens to a model's points before they are paid for: improved, or replaced where the surrogate has no hope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.proposers.base import Context, Proposal
from agent.proposers.gameopt import improved
from agent.surrogates.acquisition import Grid, maximise
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate

BETA = 2.0
"""Standard deviations of optimism."""
SOURCE = "portfolio:ucb"


def vetted(
    made: Sequence[Proposal], context: Context, points: Points, surrogate: Surrogate, missed: float
) -> tuple[list[Proposal], int]:
    """The points that go on to be measured, and how many of them are the surrogate's own.

    On choices and whole numbers alone, a point that single changes improve under the surrogate is improved first
    (the coordinate game of GameOpt, Bal et al. 2025, arXiv 2409.18582). Then it stays, unless the most hopeful place
    there is promises more than the point does by over psi: "LLINBO-Justify" (Chang et al. 2025, arXiv 2505.14756,
    section 4.2). There psi is the largest prior variance divided by the time; here by the model's misses since it last
    helped, so that a model which helps goes on being trusted.

    Args:
        made: The model's.
        context: Replacements are recorded there as rejections.
        points: What was evaluated.
        surrogate: Fitted to them.
        missed: `agent.proposers.guide.misses`.
    """
    space, grid = context.problem.space, Grid(context.problem.space)
    slack = surrogate.prior_sd**2 / (1.0 + missed)
    best = points.x[np.argsort(points.y, kind="stable")[:3]]

    def hope(x: Array) -> Array:
        mean, sd = surrogate.posterior(x)
        return BETA * sd - mean

    out: list[Proposal] = []
    replaced = 0
    for proposal in made:
        candidate = space.candidate(proposal.values)
        if (grid.levels > 0).all():
            better = improved(surrogate, space, candidate, context.history, BETA)
            if better != candidate:
                changed = ", ".join(f"{c.name}: {c.before} → {c.after}" for c in space.diff(candidate, better))
                words = f"{proposal.rationale}; improved under the surrogate: {changed}".removeprefix("; ")
                proposal = replace(proposal, values=better, source=f"{proposal.source}:improved", rationale=words)
                candidate = better
        theirs = float(hope(np.array([space.encode(candidate)]))[0])
        rng = np.random.default_rng(context.rng.getrandbits(64))
        place, ours = maximise(hope, grid, rng, centres=best)
        own = space.decode(place.tolist(), candidate)
        if ours <= theirs + slack or own.id in context.history:
            out.append(proposal)
            continue
        there, elsewhere = (float(surrogate.warp.back(np.array([-value]))[0]) for value in (theirs, ours))
        sign = -context.problem.objective.sign
        words = f"at best {sign * there:.4g} there, and {sign * elsewhere:.4g} elsewhere"
        context.reject(f"the surrogate has no hope for it: {words}", proposal.source)
        why = f"in the place of a point of {proposal.source}"
        out.append(Proposal(own, SOURCE, why, (context.history.champion,)))
        replaced += 1
    return out, replaced
