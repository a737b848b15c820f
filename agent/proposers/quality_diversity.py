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
from agent.evolution.archive import Archive, Elite
from agent.evolution.behaviour import PROJECTIONS, Behaviour, numbers
from agent.evolution.descriptors import MOST, grid
from agent.evolution.features import features
from agent.evolution.grid import Axis, Grid
from agent.goals import Objective
from agent.history import Trial
from agent.lagrange import Multipliers
from agent.problem import Problem
from agent.proposers import programs
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, number, read, wrong

CYCLE, LEARNED = "objectives", "learned"


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
    """At most two calls for a child. It remembers nothing: the archive is made of the history."""

    name = "quality_diversity"
    needs_model = True
    texts = True

    def __init__(self) -> None:
        self._looks: dict[str, Mapping[str, float]] = {}
        """What programs look like, by candidate: it never changes, and takes time to find out."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children of elites that are drawn with equal chance. What is of no use is recorded.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no program.
        """
        options = read(Options, context.options)
        programs.evolvable(context.problem, self.name)
        archive = archived(context, options, self._looks)
        found: dict[str, Proposal] = {}
        for index in range(n):
            made = await self._child(context, options, archive, index)
            if made is not None:
                found.setdefault(context.problem.space.candidate(made.values).id, made)
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Two calls for each candidate, of which the second has the first reply in it as well."""
        chosen = read(Options, options)
        _kind(problem, chosen)
        return programs.forecast(problem, self.name, candidates, chosen, others=2)

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
        source = f"{self.name}:{operator}"
        return await programs.asked(
            context, options, request, "", str(index), source, name, base, parents, lambda candidate: ""
        )


def archived(context: Context, options: Options, looked: dict[str, Mapping[str, float]]) -> Archive:
    """The elites of a history, in the cells that count in this decision.

    Args:
        context: Of the decision.
        options: Of the proposer.
        looked: What is known of how programs look, by candidate; it is added to.

    Raises:
        ConfigError: A descriptor is unknown, or there are too few objectives for cycling.
    """
    problem = context.problem
    trials = [trial for trial in context.history.trials if trial.values is not None]
    initial = sum(map(len, _texts(problem, problem.initial()).values()))
    prices = Multipliers.of(problem, trials)

    def looks(trial: Trial) -> Mapping[str, float]:
        if trial.id not in looked:
            looked[trial.id] = features(_texts(problem, trial.candidate), initial).numbers
        return looked[trial.id]

    kind = _kind(problem, options)
    if kind == CYCLE:
        goal = problem.objectives[context.decision % len(problem.objectives)]
        return _cycled(problem, goal, trials, options.bins)
    if kind == LEARNED:
        known = [numbers(problem, trial, looks) for trial in trials]
        if not known:
            return Archive(Grid([Axis("axis 0", 1, ())]))
        seed = context.history.initial
        projection = "pca" if options.projection == "pca" else "random"
        space = Behaviour.learned(known, options.axes, options.bins, projection, seed)  # type: ignore[arg-type]
        archive = Archive(space.grid())
        placed = [space.descriptor(one) for one in known]
    else:
        archive = Archive(grid(problem, kind))
        placed = [{**looks(trial), **(trial.values or {})} for trial in trials]
        for descriptor in placed:
            archive.grid.see(descriptor)
    for trial, descriptor in zip(trials, placed, strict=True):
        archive.add(Elite(trial.id, trial.number, prices.cost(trial.values or {}), descriptor))
    return archive


def _kind(problem: Problem, options: Options) -> Any:
    """What spans the archive.

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
    if kind not in (CYCLE, LEARNED):
        grid(problem, kind)
    return kind


def _cycled(problem: Problem, goal: Objective, trials: list[Trial], bins: int) -> Archive:
    """The elites of one objective, with the others as descriptors; edges are quantiles of what was met."""
    axes = []
    for item in problem.objectives:
        if item.name == goal.name:
            continue
        values = sorted((trial.values or {})[item.name] for trial in trials)
        if item.low is not None and item.high is not None:
            axes.append(Axis.even(item.name, item.low, item.high, bins))
        else:
            edges = [values[len(values) * k // bins] for k in range(1, bins)] if values else []
            axes.append(Axis(item.name, bins, tuple(edges)))
    archive = Archive(Grid(axes))
    for trial in trials:
        values_ = dict(trial.values or {})
        cost = -goal.sign * values_[goal.name]
        broken = len(problem.violated(values_))
        archive.add(Elite(trial.id, trial.number, cost, values_, violated=broken))
    return archive


def _texts(problem: Problem, candidate: Mapping[str, Any]) -> dict[str, str]:
    """A candidate's programs by path."""
    return {
        f"{name}/{path}" if path else f"{name}.py": text
        for name, item in operators.codes(problem).items()
        for path, text in item.texts(candidate[name]).items()
    }
