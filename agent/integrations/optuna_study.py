"""Optuna's distributions and trials as our parameters and points, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int, Numeric
from agent.space import Space

FOREIGN = "optuna"
"""Source of trials that other samplers, or the user, proposed."""
GRID = 100
"""Values of a stepped parameter that may become choices."""


@dataclass(frozen=True, slots=True)
class Coordinate:
    """One parameter of a study, in both languages.

    Args:
        name: As the study has it.
        key: As our space has it: an identifier.
        parameter: Ours. A stepped one is the number of its step, a choice that we cannot have is its text.
        distribution: Optuna's.
    """

    name: str
    key: str
    parameter: Numeric
    distribution: BaseDistribution

    @property
    def note(self) -> str:
        """What a reader of the space has to know of it; "" when it speaks for itself."""
        step = getattr(self.distribution, "step", None)
        if _stepped(self.distribution):
            return f"{self.key} counts steps of {step}, from {getattr(self.distribution, 'low', 0)}"
        return ""

    def ours(self, value: Any) -> Any:
        """A value of the study in our space.

        Raises:
            ValueError: It is not in the parameter's range.
        """
        there = self.distribution
        if isinstance(there, CategoricalDistribution):
            assert isinstance(self.parameter, Categorical)
            return self.parameter.choices[int(there.to_internal_repr(value))]
        if _stepped(there):
            assert isinstance(there, (FloatDistribution, IntDistribution)) and there.step is not None
            return self.parameter.check(round((value - there.low) / there.step))
        return self.parameter.check(value)

    def theirs(self, value: Any) -> Any:
        """A value of our space as the study has it."""
        there = self.distribution
        if isinstance(there, CategoricalDistribution):
            assert isinstance(self.parameter, Categorical)
            return there.choices[self.parameter.to_bin(value, self.parameter.levels)]
        if _stepped(there):
            assert isinstance(there, (FloatDistribution, IntDistribution)) and there.step is not None
            return min(there.high, there.low + value * there.step)
        return value


def coordinates(distributions: Mapping[str, BaseDistribution]) -> tuple[Coordinate, ...]:
    """The parameters of a search space; those with one value alone are left out, since Optuna sets them itself."""
    out: list[Coordinate] = []
    keys: set[str] = set()
    for name, distribution in sorted(distributions.items()):
        if not distribution.single():
            out.append(Coordinate(name, _key(name, keys), _parameter(distribution), distribution))
    return tuple(out)


def space_of(given: Iterable[Coordinate], start: Mapping[str, Any]) -> Space:
    """Our space, with its defaults from a trial's parameters."""
    return Space({item.key: replace(item.parameter, default=item.ours(start[item.name])) for item in given})  # type: ignore[type-var]


def plain_space(distributions: Mapping[str, BaseDistribution]) -> tuple[Space, dict[str, str]]:
    """A space whose values are those of the study, for an evaluator that reads them, and its names by the study's.

    Stepped parameters become choices.

    Raises:
        ConfigError: A parameter cannot be had: its grid is too fine, or its choices are no plain values.
    """
    parameters: dict[str, Numeric] = {}
    names: dict[str, str] = {}
    keys: set[str] = set()
    for name, distribution in sorted(distributions.items()):
        if distribution.single():
            continue
        key = names[name] = _key(name, keys)
        if isinstance(distribution, CategoricalDistribution):
            try:
                parameters[key] = Categorical(tuple(distribution.choices))
            except ConfigError as error:
                raise ConfigError(f"{name}: {error.message}", hint="give space = … with choices of your own") from None
        elif _stepped(distribution):
            assert isinstance(distribution, (FloatDistribution, IntDistribution)) and distribution.step is not None
            count = math.floor((distribution.high - distribution.low) / distribution.step + 1e-8) + 1
            if count > GRID:
                raise ConfigError(
                    f"{name}: a grid of {count} values is too fine for choices, {GRID} are allowed",
                    hint="give space = … with a Float or an Int for it",
                )
            parameters[key] = Categorical(tuple(distribution.low + i * distribution.step for i in range(count)))
        else:
            parameters[key] = _parameter(distribution)
    return Space(parameters), names


def _parameter(distribution: BaseDistribution) -> Numeric:
    if isinstance(distribution, CategoricalDistribution):
        try:
            return Categorical(tuple(distribution.choices))
        except ConfigError:
            texts = [repr(choice) for choice in distribution.choices]
            unique = len(set(texts)) == len(texts)
            return Categorical(tuple(text if unique else f"{i}: {text}" for i, text in enumerate(texts)))
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if _stepped(distribution):
        assert distribution.step is not None
        return Int(0, math.floor((distribution.high - distribution.low) / distribution.step + 1e-8))
    if isinstance(distribution, FloatDistribution):
        return Float(distribution.low, distribution.high, log=distribution.log)
    return Int(distribution.low, distribution.high, log=distribution.log)


def _on_grid(distribution: BaseDistribution | None, value: Any) -> Any:
    """A value of a stepped parameter as `plain_space` spells it: steps of 0.1 can be rounded in more than one way."""
    if isinstance(distribution, (FloatDistribution, IntDistribution)) and _stepped(distribution):
        assert distribution.step is not None
        return distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    return value


def _stepped(distribution: BaseDistribution) -> bool:
    if isinstance(distribution, FloatDistribution):
        return distribution.step is not None
    return isinstance(distribution, IntDistribution) and distribution.step != 1


def _key(name: str, taken: set[str]) -> str:
    """A name as an identifier that is not taken yet."""
    key = re.sub(r"\W", "_", name)
    if not key.isidentifier():
        key = f"_{key}"
    while key in taken:
        key += "_"
    taken.add(key)
    return key


def import_study(study: Study, space: Space | None = None) -> tuple[Space, list[dict[str, Any]]]:
    """A study's search space and its finished trials, as `warm_from` takes them.

    Args:
        study: With one objective; its trials have the same parameters, unless `space` says which ones count.
        space: The problem's own space. By default one is made from the study's distributions: names that are no
            identifiers get underscores, stepped numbers become choices, and parameters with one value are left out.

    Returns:
        The space, and for each complete, failed or pruned trial: values, score (None without one), failed (also when
        it breaks a constraint), source ("optuna:" and the study's name). A pruned trial has no score and did not fail.

    Raises:
        ConfigError: The study has several objectives, no finished trial, parameters under conditions, ranges that
            changed, or choices that are no plain values.
    """
    single(study)
    finished = [item for item in study.get_trials(deepcopy=False) if item.state.is_finished() and item.params]
    complete = [item for item in finished if item.state == TrialState.COMPLETE]
    if not complete:
        raise ConfigError(
            f"the study {study.study_name} has no complete trial", hint="there is nothing to begin with; leave it out"
        )
    if space is None:
        shared = _distributions(study.study_name, complete)
        space, names = plain_space(shared)
    else:
        shared, names = {}, {name: name for name in space}
    out = []
    for item in finished:
        values = {
            key: _on_grid(shared.get(name), item.params[name]) for name, key in names.items() if name in item.params
        }
        if item.state != TrialState.COMPLETE and len(values) < len(names):
            continue  # it broke off before it was known what it tries
        failed = item.state == TrialState.FAIL or (item.state == TrialState.COMPLETE and not feasible(item))
        score = float(item.value) if measured(item) and not failed else None  # type: ignore[arg-type]
        source = f"{FOREIGN}:{study.study_name}"
        out.append({"values": values, "score": score, "failed": failed, "source": source})
    return space, out


def _distributions(study: str, complete: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The distributions that all trials share.

    Raises:
        ConfigError: They differ.
    """
    first = complete[0].distributions
    for trial in complete[1:]:
        other = trial.distributions
        for name in sorted({*first, *other}):
            if name not in first or name not in other:
                raise ConfigError(
                    f"the study {study} is conditional: not every trial has the parameter {name}",
                    hint="give space = … with the parameters that count",
                )
            if first[name] != other[name]:
                raise ConfigError(
                    f"the study {study} has changed its range of {name} from {first[name]} to {other[name]}",
                    hint="give space = … with the range that counts",
                )
    if all(item.single() for item in first.values()):
        raise ConfigError(f"the study {study} has no parameter that varies", hint="there is nothing to search")
    return first


def single(study: Study) -> StudyDirection:
    """The direction of a study's one objective.

    Raises:
        ConfigError: It has several.
    """
    if len(study.directions) != 1:
        raise ConfigError(
            f"the study {study.study_name} has {len(study.directions)} objectives, and one is needed",
            hint="make a study of one of them, or of a weighted sum",
        )
    return study.direction


def measured(trial: FrozenTrial) -> bool:
    """Whether a trial has a value."""
    return trial.state == TrialState.COMPLETE and trial.value is not None


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps all constraints that it tells of."""
    return all(value <= 0 for value in trial.constraints.values())
