"""Optuna: a sampler that lets an existing study use our proposers, and existing studies as starting points.

study = optuna.create_study(sampler=TrueGainSampler("gp", seed=1))

space, earlier = import_study(study)
truegain.optimize(evaluate, space=space, warm_from=earlier, …)
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

try:
    import optuna
except ImportError:
    from agent.proposers.tpe import optuna as missing

    missing()  # raises PrerequisiteError
    raise

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from agent.errors import ConfigError
from agent.events import CandidateAdmitted, Event, ProposalEnded, RaceDecided
from agent.goals import Objective
from agent.history import History
from agent.integrations.optuna_study import (
    FOREIGN,
    Coordinate,
    coordinates,
    feasible,
    import_study,
    measured,
    single,
    space_of,
)
from agent.inthread import in_thread
from agent.ledger import KINDS, Budget, Ledger
from agent.measuring import Unit
from agent.problem import Problem
from agent.proposers.base import Ask, Context, Proposal
from agent.proposers.table import load
from agent.space import Candidate

if TYPE_CHECKING:
    from agent.events import CallEnded

__all__ = ["TrueGainSampler", "import_study"]

ATTRIBUTE = "truegain"
"""How the attributes begin in which trials keep what was proposed for them."""


class TrueGainSampler(BaseSampler):
    """Samples the parameters that all trials of a study have in common with one of our proposers.

    Everything else is sampled independently and at random: parameters under conditions, and the first trials, as
    long as none is complete. The proposer's memory is an attribute of each trial, so that a study may go on in
    another process, and several workers may share one; at times two of them then build on the same memory, as with
    Optuna's own CMA-ES. Pruned and failed trials are failures to the proposer, never bad values.

    Args:
        proposer: Name of the proposer, or `module:attr`.
        model: `provider:model` for a proposer that asks one.
        seed: Of the randomness; None takes another one each time.
        options: The proposer's own options.
        description: What the study is about, for a model.
        metric: What its value is called, for a model.
        deterministic: Whether equal parameters always give the same value.
        budget: Limits of the model calls of this sampler: calls, tokens, usd.

    Raises:
        ConfigError: There is no such proposer, or it needs a model and has none.
        PrerequisiteError: The model's package or key is missing.
    """

    def __init__(
        self,
        proposer: str = "gp",
        *,
        model: str | None = None,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        description: str = "",
        metric: str = "value",
        deterministic: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self._name = proposer
        self._proposer = load(proposer)
        self._model = model
        self._calls = _Calls(Ledger(budget or Budget()))
        if model is None and self._proposer.needs_model:
            raise ConfigError(f"the proposer {proposer} needs a model", hint='give model = "provider:model"')
        if model is not None:
            from agent.llm.connect import facts

            facts(model)
        self._options = dict(options or {})
        self._description, self._metric, self._deterministic = description, metric, deterministic
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._random = RandomSampler(seed=self._seed)

    def reseed_rng(self) -> None:
        """Give a copy of this sampler, for a thread of its own, its own random numbers where the trial's do not."""
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all complete trials have in common.

        Raises:
            ConfigError: The study has several objectives.
        """
        single(study)
        common = optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))
        return {name: item for name, item in common.items() if not item.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the proposer makes of the study so far; random where it has nothing to propose, and says so.

        Raises:
            ConfigError: The space or the options are not for this proposer.
            BudgetExceeded: A limit keeps it from calling its model.
            ProviderError: The model cannot be reached.
        """
        if not search_space:
            return {}
        key = f"{ATTRIBUTE}:{self._name}"
        view = _View(study, trial, coordinates(search_space), key, self._metric, self._description, self._deterministic)
        rng = random.Random(f"{self._seed} {trial.number}")
        state = view.state
        waiting = [item for item in state.get("waiting", []) if view.new(item["values"])]
        made: dict[str, Any] = {"memory": state.get("memory"), "rejections": []}
        if not waiting:
            context = Context(
                problem=view.problem,
                history=view.history.freeze(),
                rng=rng,
                left=dict.fromkeys(KINDS, float("inf")),
                decision=trial.number + 1,
                memory=state.get("memory"),
                options=self._options,
            )
            proposals = in_thread(self._propose(context, trial.number))  # there may be an event loop in this one
            made = {"memory": context.memory, "rejections": context.rejections}
            waiting = [item for item in (p.to_json() for p in proposals) if view.new(item["values"])]
        if not waiting:
            waiting = [{"values": view.problem.space.sample(rng).values_json, "source": f"{self._name}:random"}]
            made["rejections"] = [
                *made["rejections"],
                {"reason": "nothing new was proposed; this trial is random", "source": self._name},
            ]
        chosen, *rest = waiting
        # Optuna's samplers keep their state like this too; there is no other way to write an attribute from here.
        study._storage.set_trial_system_attr(trial._trial_id, key, {**made, "waiting": rest, "chosen": chosen})
        return view.params(chosen["values"])

    async def _propose(self, context: Context, number: int) -> list[Proposal]:
        if self._model is None:
            return await self._proposer.propose(context, 1)
        from agent.llm.gateway import Llm

        async with Llm(self._calls, {"propose": self._model}, seed=self._seed) as llm:
            context.ask = _asker(llm, f"trial-{number}")
            context.left = {kind: self._calls.ledger.left(kind) for kind in KINDS}
            return await self._proposer.propose(context, 1)


class _View:
    """A study as a proposer sees it: problem and history.

    Args:
        study: With at least one complete trial.
        trial: The one that is sampled now; it is no part of the history.
        parts: The parameters, at least one.
        key: Of the attribute in which trials keep what was proposed.
        metric: Name of the objective.
        description: Of the problem.
        deterministic: Whether equal parameters always give the same value.
    """

    def __init__(
        self,
        study: Study,
        trial: FrozenTrial,
        parts: tuple[Coordinate, ...],
        key: str,
        metric: str,
        description: str,
        deterministic: bool,
    ) -> None:
        self.parts = parts
        trials = [item for item in study.get_trials(deepcopy=False) if item.number != trial.number]
        first = next(item for item in trials if item.state == TrialState.COMPLETE)
        space = space_of(parts, first.params)
        objective = Objective(metric, "maximize" if single(study) == StudyDirection.MAXIMIZE else "minimize")
        notes = [part.note for part in parts if part.note]
        self.problem = Problem.from_json(
            {
                "name": study.study_name,
                "space": space.spec(),
                "exclusive": False,
                "evaluator": {},
                "objectives": [{"name": objective.name, "direction": objective.direction}],
                "constraints": [],
                "examples": [],
                "deterministic": deterministic,
                "description": "\n".join([description, *notes]).strip(),
                "folder": ".",
                "limits": {},
            }
        )
        self.history = History(space.initial(), objective)
        self.state: dict[str, Any] = {}
        for item in trials:
            given = item.system_attrs.get(key)
            if given is not None:
                self.state = given
            self._add(item, given or {})

    def new(self, values: Mapping[str, Any]) -> bool:
        """Whether values fit the space and are not known."""
        try:
            return self.problem.space.candidate(values).id not in self.history
        except ValueError:
            return False  # proposed for a search space that has changed since

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of our space as the study has them."""
        return {part.name: part.theirs(values[part.key]) for part in self.parts}

    def _add(self, trial: FrozenTrial, given: Mapping[str, Any]) -> None:
        """Fold one trial. One that does not have all parameters, or out of range, says nothing about this space."""
        chosen = given.get("chosen", {})
        try:
            candidate = self._candidate(trial, chosen)
        except (KeyError, ValueError):
            return
        number = trial.number + 1
        self._apply(ProposalEnded(number, [], list(given.get("rejections", []))))
        if candidate.id not in self.history:
            source = chosen.get("source", FOREIGN)
            parents = [name for name in chosen.get("parents", []) if name in self.history]
            why = chosen.get("rationale", "")
            self._apply(
                CandidateAdmitted(
                    number, candidate.id, candidate.values_json, source, why, parents, chosen.get("claim")
                )
            )
        if not trial.state.is_finished():
            return
        values = {self.problem.objective.name: float(trial.value)} if measured(trial) else None  # type: ignore[arg-type]
        failure = "" if values is not None else f"the trial was {trial.state.name.lower()}"
        before = self.history[candidate.id].count
        self.history.measured(Unit(candidate.id, before, -1, "search", values, failure), feasible(trial))
        self._race(candidate)

    def _candidate(self, trial: FrozenTrial, chosen: Mapping[str, Any]) -> Candidate:
        if not trial.state.is_finished() and chosen:
            return self.problem.space.candidate(chosen["values"])
        values = {part.key: part.ours(trial.params[part.name]) for part in self.parts}
        return self.problem.space.candidate(values)

    def _race(self, candidate: Candidate) -> None:
        """The better of champion and candidate leads, on what was measured so far."""
        trial, champion = self.history[candidate.id], self.history[self.history.champion]
        if trial.id == champion.id:
            return
        if trial.values is None:
            return self._decide(candidate, "drop", f"failed: {trial.failure}")
        if not trial.feasible:
            return self._decide(candidate, "drop", "infeasible")
        if champion.values is None or not champion.feasible:
            return self._decide(candidate, "promote", "first with a value")
        goal = self.problem.objective
        value, reference = trial.values[goal.name], champion.values[goal.name]
        better = goal.gain(value, reference) > 0
        shown = f"{'better' if better else 'not better'}: {value:.4g} against {reference:.4g}"
        self._decide(candidate, "promote" if better else "drop", shown)

    def _decide(self, candidate: Candidate, decision: str, reason: str) -> None:
        self._apply(RaceDecided(candidate.id, self.history.champion, decision, reason, {}))

    def _apply(self, event: Event) -> None:
        self.history.apply(event)


class _Calls:
    """The model calls of a sampler: counted against its limits, and kept nowhere else."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._number = 0

    def next_call(self) -> int:
        self._number += 1
        return self._number

    async def turn(self, event: str, *key: object) -> None:
        pass

    def record(self, event: Event) -> None:
        self.ledger.apply(event)

    async def flush(self) -> None:
        pass

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        return None


def _asker(llm: Any, scope: str) -> Ask:
    async def ask(request: Any) -> Any:
        return await llm.reply(request, role="propose", scope=scope)

    return ask
