"""NSGA-II, a genetic algorithm for several objectives, by way of Optuna.

Deb, Pratap, Agarwal and Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"
(IEEE Trans. Evol. Comput. 6), section III. Optuna's sampler is given the whole history each time, as one
generation: the parents are the best of all that was measured, by rank and crowding, so that it keeps
nothing, never waits for a generation to end, and candidates of others take part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from agent.errors import PrerequisiteError
from agent.history import Trial
from agent.parameters import Categorical
from agent.pareto import costs, several
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import check_whole, number, read, wrong
from agent.space import Space

GENERATION = "NSGAIISampler:generation"
"""Where Optuna keeps a trial's generation, in every storage; without it a trial is nobody's parent."""
TRIES = 50
"""Children in a row that are all known, after which a random candidate is drawn; then a space counts as used up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        population: Parents, at least 2. Optuna's own 50 is more than most budgets hold.
        crossover: Chance that a child mixes two parents, from 0 to 1.
    """

    population: int = 8
    crossover: float = 0.9

    def __post_init__(self) -> None:
        check_whole(self, {"population": 2})
        if not number(self.crossover) or not 0 <= self.crossover <= 1:
            raise wrong("crossover", self.crossover, "a number from 0 to 1")


def optuna_or_fix() -> ModuleType:
    """The package Optuna.

    Raises:
        PrerequisiteError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise PrerequisiteError("this needs the package Optuna", fix="pip install 'truegain[optuna]'") from None
    found: ModuleType = optuna
    return found


class NSGA2:
    """Children of the best candidates, by rank and crowding. It keeps no memory."""

    name = "nsga2"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children; random candidates until there are enough parents.

        Raises:
            ConfigError: There is one objective, the space has no numbers and no choices, or an option is wrong.
            PrerequisiteError: Optuna is not installed.
        """
        options = read(Options, context.options)
        several(context.problem, self.name)
        numeric(context.problem, self.name)
        optuna = optuna_or_fix()
        space, history = context.problem.space, context.history
        study, kinds = self._study(optuna, context, options)
        out: list[Proposal] = []
        made: set[str] = set()
        tries = 0
        bred = sum(_told(trial) for trial in history.trials) >= options.population
        while len(out) < n and tries < 2 * TRIES:
            tries += 1
            if tries <= TRIES:
                unit = _unit(space, study.ask(kinds).params)
                source = self.name if bred else f"{self.name}:start"
            else:
                unit, source = [context.rng.random() for _ in space.numeric], f"{self.name}:random"
            candidate = space.decode(unit, context.champion)
            if candidate.id in history or candidate.id in made:
                continue
            made.add(candidate.id)
            why = "all children were known" if source.endswith(":random") else ""
            out.append(Proposal(candidate, source, why))
            tries = 0
        context.exhausted = not out
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        several(problem, self.name)
        numeric(problem, self.name)
        read(Options, options)
        return 0, 0, 0

    def _study(self, optuna: ModuleType, context: Context, options: Options) -> tuple[Any, dict[str, Any]]:
        """A study in memory that holds the history, and the parameters' distributions in it."""
        problem, space = context.problem, context.problem.space
        sampler = optuna.samplers.NSGAIISampler(
            population_size=options.population, crossover_prob=options.crossover, seed=context.rng.getrandbits(32)
        )
        loud = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # or each study would be announced on stderr
        try:
            study = optuna.create_study(directions=["minimize"] * len(problem.objectives), sampler=sampler)
        finally:
            optuna.logging.set_verbosity(loud)
        kinds = {name: _distribution(optuna, space, name) for name in space.numeric}
        for trial in context.history.trials:
            told, gone = _told(trial), trial.state in ("failed", "dropped")
            state = optuna.trial.TrialState
            study.add_trial(
                optuna.trial.create_trial(
                    state=state.COMPLETE if told else state.FAIL if gone else state.RUNNING,
                    values=list(costs(problem, trial.values or {})) if told else None,
                    params=_params(space, trial),
                    distributions=kinds,
                    constraints=_violations(problem, trial.values or {}) if told else None,
                    system_attrs={GENERATION: 0} if told else None,
                )
            )
        return study, kinds


def _told(trial: Trial) -> bool:
    return trial.values is not None


def _violations(problem: Problem, values: Mapping[str, float]) -> dict[str, float]:
    """How far each constraint is missed; 0 or less keeps it."""
    out = {}
    for item in problem.constraints:
        value = values[item.name]
        beyond = [value - item.max] if item.max is not None else []
        beyond += [item.min - value] if item.min is not None else []
        if beyond:
            out[item.name] = max(beyond)
    return out


def _distribution(optuna: ModuleType, space: Space, name: str) -> Any:
    """Numbers are places on their scale; choices are counted, since 1 and true are one to Optuna."""
    item = space[name]
    if isinstance(item, Categorical):
        return optuna.distributions.CategoricalDistribution(range(item.levels))
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _params(space: Space, trial: Trial) -> dict[str, Any]:
    """A candidate as Optuna knows it."""
    out: dict[str, Any] = {}
    for name, place in zip(space.numeric, space.encode(trial.candidate), strict=True):
        item = space[name]
        out[name] = item.to_bin(trial.candidate[name], item.levels) if isinstance(item, Categorical) else place
    return out


def _unit(space: Space, params: Mapping[str, Any]) -> list[float]:
    """The place in the unit cube of what Optuna proposes."""
    out = []
    for name in space.numeric:
        item, value = space[name], params[name]
        out.append((value + 0.5) / item.levels if isinstance(item, Categorical) else float(value))
    return out
