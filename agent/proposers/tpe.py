"""The tree-structured Parzen estimator of Optuna, through the `optuna` extra.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS, section 4; Watanabe 2023
(arXiv 2304.11127) describes what Optuna does. The study lives in memory for one call and is built from
the history: costs as values, what breaks a constraint as such, failures as failed trials, what was given
up with a part of the effort as pruned, and what is not measured yet as running, which Optuna takes for
bad (constant liar) so that it does not propose it again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.errors import PrerequisiteError
from agent.goals import Constraint
from agent.history import Trial
from agent.parameters import Categorical, Float, Int
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import check_whole, read
from agent.space import Candidate, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

SOURCE = "tpe"
REPEATS = 5
"""Known candidates in a row, after which one is drawn at random."""
STEPS = 1000
"""Optuna's steps of a whole measurement."""
RANDOM = 200
"""Random draws in a row that were all known, after which a finite space counts as used up."""
_QUIET = threading.Lock()
"""Optuna's verbosity belongs to the process; two threads must not put back what the other one set."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        startup: Finished trials before the model of the data is used; random draws until then.
        draws: Draws from the estimator, of which the most promising is proposed.
    """

    startup: int = 10
    draws: int = 24

    def __post_init__(self) -> None:
        check_whole(self, {"startup": 0, "draws": 1})


class TPE:
    """Optuna's TPESampler with its defaults. It keeps nothing between calls: the history says it all."""

    name = SOURCE
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """`n` new candidates; where the estimator keeps repeating known ones, a random one, with its own source.

        Raises:
            PrerequisiteError: Optuna is not installed.
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        names = numeric(context.problem, SOURCE)
        optuna()
        return self._propose(context, options, names, n)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called.

        Raises:
            PrerequisiteError: Optuna is not installed.
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        read(Options, options)
        numeric(problem, SOURCE)
        optuna()
        return 0, 0, 0

    def _propose(self, context: Context, options: Options, names: tuple[str, ...], n: int) -> list[Proposal]:
        space, champion = context.problem.space, context.champion
        distributions = _Shared({name: distribution(space, name) for name in names})
        study = _study(context, options, distributions)
        out: list[Proposal] = []
        made: set[str] = set()
        repeats = 0
        while len(out) < n:
            if repeats < REPEATS:
                asked = study.ask(distributions).params
                draw, source = _candidate(space, asked, champion), SOURCE
            else:
                drawn = (space.sample(context.rng) for _ in range(RANDOM))
                new = next((d for d in drawn if d.id not in context.history and d.id not in made), None)
                if new is None:
                    context.exhausted = True
                    break
                draw, source = new, f"{SOURCE}:random"
            if draw.id in context.history or draw.id in made:
                repeats += 1
                continue
            repeats = 0
            made.add(draw.id)
            out.append(Proposal(draw, source, "" if source == SOURCE else "the estimator repeats itself"))
        return out


def optuna() -> Any:
    """The package optuna.

    Raises:
        PrerequisiteError: It is not installed.
    """
    try:
        import optuna as package
    except ImportError:
        raise PrerequisiteError(
            "the proposer tpe and the Optuna integration need the package optuna, which is not installed",
            fix="pip install 'truegain[optuna]'",
        ) from None
    return package


def distribution(space: Space, name: str) -> BaseDistribution:
    """Optuna's word for a parameter. Choices stand for themselves by their number, since 1 and True are equal there."""
    from optuna import distributions

    parameter = space[name]
    if isinstance(parameter, Float):
        return distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Int):
        return distributions.IntDistribution(parameter.low, parameter.high, log=parameter.log)
    assert isinstance(parameter, Categorical)
    return distributions.CategoricalDistribution(list(range(parameter.levels)))


def _study(context: Context, options: Options, distributions: dict[str, BaseDistribution]) -> Study:
    """The history as a study in memory."""
    package = optuna()
    sampler = package.samplers.TPESampler(
        seed=context.rng.getrandbits(32), n_startup_trials=options.startup, n_ei_candidates=options.draws
    )
    with _QUIET:
        # Optuna tells of every new study, and of this one nobody wants to know.
        before = package.logging.get_verbosity()
        package.logging.set_verbosity(package.logging.WARNING)
        try:
            study: Study = package.create_study(sampler=sampler, direction="minimize")
        finally:
            package.logging.set_verbosity(before)
    study.add_trials([_trial(context.problem, trial, distributions) for trial in context.history.trials])
    return study


def _trial(problem: Problem, trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    from optuna.trial import FrozenTrial, TrialState

    now = datetime.now()
    state, cost = TrialState.COMPLETE, None
    if trial.values is None and trial.partial and trial.state == "dropped":
        state = TrialState.PRUNED
    elif trial.values is None:
        state = TrialState.FAIL if trial.state in ("failed", "dropped") else TrialState.RUNNING
    else:
        cost = float(-problem.objective.sign * problem.compared(trial.values))
    made = FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=state,
        value=cost,
        datetime_start=now,
        datetime_complete=None if state == TrialState.RUNNING else now,
        params=_Shared(_params(problem.space, trial.candidate)),
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={round(STEPS * effort): float(cost) for effort, cost in trial.partial.items()},
    )
    for item in problem.constraints:
        if trial.values is not None and not (item.max is None and item.min is None):
            made.set_constraint(item.name, _excess(item, trial.values[item.name]))
    return made


def _excess(constraint: Constraint, value: float) -> float:
    """By how much a value breaks a constraint that has bounds; 0 and below, as Optuna has it, means that it holds."""
    above = value - constraint.max if constraint.max is not None else -math.inf
    below = constraint.min - value if constraint.min is not None else -math.inf
    return max(above, below)


class _Shared(dict[str, Any]):
    """A mapping that nobody changes, so that copies are the same. Optuna copies every trial it is given."""

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


def _params(space: Space, candidate: Candidate) -> dict[str, Any]:
    out = {}
    for name in space.numeric:
        parameter = space[name]
        value = candidate[name]
        out[name] = parameter.to_bin(value, parameter.levels) if isinstance(parameter, Categorical) else value
    return out


def _candidate(space: Space, asked: Mapping[str, Any], base: Candidate) -> Candidate:
    values = base.values_json
    for name, value in asked.items():
        parameter = space[name]
        values[name] = parameter.choices[value] if isinstance(parameter, Categorical) else parameter.check(value)
    return space.candidate(values)
