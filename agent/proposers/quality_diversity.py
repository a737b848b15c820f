"""Quality-diversity over programs: the best of every kind, where a kind is given, measured, or learned.

MAP-Elites (Mouret and Clune 2015, arXiv 1504.04909) with a model as the operator of variation, and three ways to say
what a kind is: descriptors by name; with several objectives, cycling as in CycleQD (Kuroki et al. 2024, arXiv
2410.14735, section 3), where each decision takes the next objective as quality and the others as descriptors; or a
behaviour space that is learned, see `agent.evolution.behaviour`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import ConfigError
from agent.evolution import operators
from agent.evolution.archive import Archive
from agent.evolution.behaviour import PROJECTIONS, Projection, traced
from agent.evolution.descriptors import MOST, grid
from agent.evolution.kinds import CYCLE, LEARNED, Kind, Kinds
from agent.problem import Problem
from agent.proposers import programs
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, number, read, wrong


@dataclass(frozen=True, slots=True)
class Options(programs.Options):
    """What a user may set under [proposer.options]: what best_of_n has, and

    Args:
        descriptors: "learned"; "objectives" for cycling; or names, as `agent.evolution.descriptors.grid` takes them.
            Without it: "objectives" where there are several, else "learned".
        projection: Of "learned": "pca" or "random".
        axes: Of "learned": how many.
        bins: Of "learned" and "objectives": for each axis.
        cross: Share of the children that are made of two elites of different cells.
    """

    descriptors: Any = None
    projection: str = "pca"
    axes: int = 2
    bins: int = 6
    cross: float = 0.3

    def __post_init__(self) -> None:
        programs.Options.__post_init__(self)
        check_whole(self, {"axes": 1, "bins": 2})
        if self.projection not in PROJECTIONS:
            raise wrong("projection", self.projection, " or ".join(PROJECTIONS))
        if not number(self.cross) or not 0 <= self.cross <= 1:
            raise wrong("cross", self.cross, "a number from 0 to 1")
        if self.bins**self.axes > MOST:
            raise wrong("axes", self.axes, f"so few that there are at most {MOST} cells")


class QualityDiversity:
    """At most two calls for a child. It remembers nothing; the archives are a fold of the history, which it would make
    again without."""

    name = "quality_diversity"
    needs_model = True
    texts = True

    def __init__(self) -> None:
        self._kinds: Kinds | None = None
        self._made_for: tuple[Problem, Options] | None = None

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children of elites that are drawn with equal chance. What is of no use is recorded.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no program.
        """
        options = read(Options, context.options)
        programs.evolvable(context.problem, self.name)
        archive = (await self._followed(context, options)).archive(context.decision)
        found: dict[str, Proposal] = {}
        for index in range(n):
            made = await self._child(context, options, archive, index)
            if made is not None:
                found.setdefault(context.problem.space.candidate(made.values).id, made)
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Two calls for each candidate, of which the second has the first reply in it as well."""
        chosen = read(Options, options)
        kind_of(problem, chosen)
        return programs.forecast(problem, self.name, candidates, chosen, others=2)

    async def _followed(self, context: Context, options: Options) -> Kinds:
        if self._kinds is None or self._made_for != (context.problem, options):
            self._made_for = (context.problem, options)
            self._kinds = Kinds(context.problem, kind_of(context.problem, options))
        kinds = self._kinds.fitting(context.history)
        for name in kinds.untraced(context.history):
            trace = await context.trace(name)
            kinds.tell(name, traced(trace) if trace is not None else {})
        self._kinds = kinds.follow(context.history)
        return self._kinds

    async def _child(self, context: Context, options: Options, archive: Archive, index: int) -> Proposal | None:
        rng, history = context.rng, context.history
        drawn = [archive.draw(rng).candidate for _ in range(2)] if len(archive) else [history.initial] * 2
        base, other = (history[name] for name in drawn)
        crossed = other.id != base.id and rng.random() < options.cross
        operator = "cross" if crossed else "edit" if base.values is not None else "fix"
        others = [other] if other.id != base.id else []
        name = rng.choice(list(operators.codes(context.problem)))
        context.showing(base, *others)
        request = programs.request(context, options, name, operator, base, others)
        parents = (base.id, other.id) if crossed else (base.id,)
        source = f"{self.name}:llm:{operator}"
        return await programs.asked(
            context, options, request, "", str(index), source, name, base, parents, lambda candidate: ""
        )


def kind_of(problem: Problem, options: Options) -> Kind:
    """What spans the archives.

    Raises:
        ConfigError: It cannot.
    """
    several = len(problem.objectives) > 1
    kind = options.descriptors if options.descriptors is not None else CYCLE if several else LEARNED
    if kind == CYCLE and not several:
        raise ConfigError(
            'proposer.options.descriptors: "objectives" takes one objective as quality and the others as descriptors,'
            " and there is only one",
            hint='declare another objective, or take "learned" or names',
        )
    if kind == CYCLE and options.bins ** (len(problem.objectives) - 1) > MOST:
        raise wrong("bins", options.bins, f"so few that there are at most {MOST} cells")
    if kind == CYCLE:
        return Kind(CYCLE, bins=options.bins)
    if kind == LEARNED:
        projection: Projection = "pca" if options.projection == "pca" else "random"
        return Kind(LEARNED, projection=projection, axes=options.axes, bins=options.bins)
    grid(problem, kind)
    return Kind("", lambda: grid(problem, kind))
