"""Studies that use our proposers, and studies as starting points."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, PrerequisiteError
from agent.ledger import Budget
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Context, Proposal
from agent.proposers.cmaes import CMAES
from agent.space import Space
from tests.fake_provider import FakeProvider

optuna = pytest.importorskip("optuna")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from agent.integrations import optuna_study  # noqa: E402
from agent.integrations.optuna import TrueGainSampler, import_study  # noqa: E402


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def bowl(trial: Any) -> float:
    x = trial.suggest_float("x/1", -5, 5)
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    units = trial.suggest_int("units", 32, 256, step=32)
    drop = trial.suggest_float("drop", 0, 0.5, step=0.1)
    kind = trial.suggest_categorical("kind", ["a", None, "b"])
    trial.suggest_int("fixed", 3, 3)
    return (x - 1) ** 2 + abs(units - 96) / 100 + abs(drop - 0.2) + (kind is not None) + rate


def flat(trial: Any) -> float:
    return (trial.suggest_float("x", -5, 5) - 1) ** 2 + (trial.suggest_float("y", -5, 5) + 2) ** 2


def sources(study: Any, name: str) -> list[str]:
    attributes = (trial.system_attrs.get(f"truegain:{name}") for trial in study.trials)
    return [given["chosen"]["source"] for given in attributes if given]


@pytest.mark.parametrize("name", ["catcma", "coordinate", "gp", "lhs", "tpe"])
def test_a_study_uses_a_proposer_on_every_kind_of_parameter(name: str) -> None:
    study = optuna.create_study(sampler=TrueGainSampler(name, seed=1))
    study.optimize(bowl, n_trials=25)
    found = sources(study, name)
    assert len(found) == 24 and all(source.startswith(name) for source in found)  # the first trial is random
    assert len({tuple(sorted(map(repr, trial.params.items()))) for trial in study.trials[1:]}) == 24
    assert study.best_value < study.trials[0].value


def test_it_gets_where_random_search_does_not() -> None:
    study = optuna.create_study(sampler=TrueGainSampler("cmaes", seed=3))
    study.optimize(flat, n_trials=120)
    assert study.best_value < 0.02


def test_a_maximized_study_is_maximized() -> None:
    study = optuna.create_study(direction="maximize", sampler=TrueGainSampler("cmaes", seed=3))
    study.optimize(lambda trial: -flat(trial), n_trials=100)
    assert study.best_value > -1e-2


def test_equal_seeds_give_equal_studies_and_others_do_not() -> None:
    def run(seed: int) -> list[Any]:
        study = optuna.create_study(study_name="same", sampler=TrueGainSampler("cmaes", seed=seed))
        study.optimize(flat, n_trials=12)
        return [trial.params for trial in study.trials]

    assert run(1) == run(1) != run(2)


def test_a_study_goes_on_in_another_process_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"

    def run(*parts: int) -> list[Any]:
        name = "-".join(map(str, parts))
        for part in parts:  # a new sampler knows nothing but the storage
            study = optuna.create_study(
                study_name=name, storage=storage, load_if_exists=True, sampler=TrueGainSampler("cmaes", seed=5)
            )
            # What every sampler draws at first is random, and not from our seed alone.
            if not study.trials:
                study.enqueue_trial({"x": 3.0, "y": 3.0})
            study.optimize(flat, n_trials=part)
        return [trial.params for trial in study.trials]

    assert run(24) == run(10, 3, 11)


def test_several_workers_share_a_study() -> None:
    study = optuna.create_study(sampler=TrueGainSampler("cmaes", seed=2))
    study.optimize(flat, n_trials=60, n_jobs=4)
    values = [trial.value for trial in study.trials if trial.value is not None]
    # Which thread comes first is chance, so how far it gets is too; it gets somewhere.
    assert study.best_value < sorted(values[:20])[10] / 2
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 60


class Seen:
    """A proposer that keeps what it was shown."""

    name = "seen"
    needs_model = False
    contexts: list[Context]

    def __init__(self) -> None:
        self.contexts = []

    def forecast(self, *_: Any) -> tuple[int, int, int]:
        return 0, 0, 0

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        self.contexts.append(context)
        context.memory = (context.memory or 0) + 1
        context.reject("a test says so", "seen")
        draws = [context.problem.space.sample(context.rng) for _ in range(3)]
        return [Proposal(draw, f"seen:{context.memory}", "why", (context.history.champion,)) for draw in draws]


seen = Seen()


@pytest.fixture
def shown() -> list[Context]:
    seen.contexts = []
    return seen.contexts


def sampler(**given: Any) -> TrueGainSampler:
    return TrueGainSampler(f"{__name__}:seen", seed=0, **given)


def test_the_history_has_values_failures_constraints_and_what_runs(shown: list[Context]) -> None:
    study = optuna.create_study(sampler=sampler())

    def objective(trial: Any) -> float:
        value = flat(trial)
        if trial.number == 2:
            raise ValueError("broken")
        if trial.number == 3:
            raise optuna.TrialPruned
        trial.set_constraint("c", 1.0 if trial.number == 4 else -1.0)
        return value

    study.optimize(objective, n_trials=9, catch=(ValueError,))  # the tenth takes the last of a group
    running = study.ask()
    params = {name: running._suggest(name, item) for name, item in study.trials[0].distributions.items()}
    study.sampler.sample_relative(study, _next(study), study.trials[0].distributions)
    history = shown[-1].history
    states = {trial.number: trial for trial in history.trials}
    assert [states[i].values is None for i in range(10)] == [False, False, True, True] + [False] * 5 + [True]
    assert "fail" in states[2].failure and "pruned" in states[3].failure
    assert [states[i].feasible for i in (4, 5)] == [False, True]
    assert states[9].state == "queued" and dict(states[9].candidate) == params
    assert history[history.champion].values == {
        "value": min(t.value for t in study.trials[:9] if t.value and t.number != 4)
    }
    assert states[0].source == "initial" and states[1].source == "seen:1"
    assert history.rejected["seen"] >= 2


def _next(study: Any) -> Any:
    """A trial that has begun, before it has any parameter."""
    number = study._storage.create_new_trial(study._study_id)
    return study._storage.get_trial(number)


def test_what_another_worker_is_about_to_try_is_known(shown: list[Context]) -> None:
    study = optuna.create_study(sampler=sampler())
    study.optimize(flat, n_trials=4)  # a group is used up
    begun = _next(study)  # its values are chosen, and no objective has asked for them yet
    chosen = study.sampler.sample_relative(study, begun, study.trials[0].distributions)
    for _ in range(3):
        study.sampler.sample_relative(study, _next(study), study.trials[0].distributions)
    last = shown[-1].history.trials
    assert next(dict(trial.candidate) for trial in last if trial.state == "queued") == chosen


def test_a_group_of_proposals_is_used_one_by_one(shown: list[Context]) -> None:
    study = optuna.create_study(sampler=sampler())
    study.optimize(flat, n_trials=8)
    assert sources(study, f"{__name__}:seen") == ["seen:1"] * 3 + ["seen:2"] * 3 + ["seen:3"]
    assert len(shown) == 3 and shown[1].memory == 2  # it was given 1


class Silent(Seen):
    async def propose(self, context: Context, n: int) -> list[Proposal]:
        return []


silent = Silent()


def test_where_nothing_is_proposed_the_trial_is_random_and_says_so() -> None:
    name = f"{__name__}:silent"
    study = optuna.create_study(sampler=TrueGainSampler(name, seed=0))
    study.optimize(flat, n_trials=5)
    assert sources(study, name) == [f"{name}:random"] * 4
    assert "random" in study.trials[2].system_attrs[f"truegain:{name}"]["rejections"][0]["reason"]


def test_parameters_under_a_condition_are_random_and_the_others_are_not() -> None:
    def objective(trial: Any) -> float:
        value = flat(trial)
        if trial.number % 2:
            trial.suggest_int("depth", 1, 9)
        return value

    study = optuna.create_study(sampler=TrueGainSampler("cmaes", seed=0))
    study.optimize(objective, n_trials=30)
    assert all(source.startswith("cmaes") for source in sources(study, "cmaes")[1:])
    assert study.best_value < 1.0


def test_a_failed_beginning_is_random() -> None:
    def objective(trial: Any) -> float:
        value = flat(trial)
        if trial.number < 5:
            raise ValueError("not yet")
        return value

    study = optuna.create_study(sampler=TrueGainSampler("cmaes", seed=0))
    study.optimize(objective, n_trials=12, catch=(ValueError,))
    assert len(sources(study, "cmaes")) == 6


def test_a_model_is_asked_within_the_limits() -> None:
    from agent.errors import BudgetExceeded

    study = optuna.create_study(
        sampler=TrueGainSampler("evollm", model="scripted:test", seed=0, budget=Budget(calls=0))
    )
    with pytest.raises(BudgetExceeded):
        study.optimize(flat, n_trials=20)


class Asking(Seen):
    """A proposer that shows what its model said."""

    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        from agent.llm.types import Message, ModelRequest

        assert context.ask is not None
        reply = await context.ask(ModelRequest(messages=(Message("user", context.problem.description),)))
        return [Proposal(context.problem.space.sample(context.rng), "asking", reply.text)]


asking = Asking()


async def test_a_model_is_asked_and_hears_what_the_study_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:asking"
    async with FakeProvider() as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        one = TrueGainSampler(name, model="openai:gpt-5.4-mini", description="tune a bowl", seed=0)
        study = optuna.create_study(sampler=one)
        await asyncio.to_thread(study.optimize, flat, n_trials=4)
        assert provider.calls == 3
        assert "tune a bowl" in str(provider.requests[0].body)
    given = [trial.system_attrs[f"truegain:{name}"]["chosen"]["rationale"] for trial in study.trials[1:]]
    assert given == ["fine"] * 3


def test_what_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        TrueGainSampler("evollm")
    with pytest.raises(ConfigError, match="no proposer"):
        TrueGainSampler("gradient")
    with pytest.raises(ConfigError):
        TrueGainSampler("evollm", model="a model")


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=TrueGainSampler("lhs"))
    with pytest.raises(ConfigError, match="2 objectives"):
        study.optimize(lambda trial: (flat(trial), 1.0), n_trials=2)
    with pytest.raises(ConfigError, match="2 objectives"):
        import_study(study)


def test_wrong_options_reach_the_user() -> None:
    study = optuna.create_study(sampler=TrueGainSampler("cmaes", options={"popsize": 3}))
    with pytest.raises(ConfigError, match="unknown option"):
        study.optimize(flat, n_trials=3)


def test_both_languages_say_the_same() -> None:
    given = {
        "a b": FloatDistribution(0, 1),
        "a_b": FloatDistribution(1e-3, 1, log=True),
        "1st": FloatDistribution(0.1, 0.7, step=0.2),
        "n": IntDistribution(3, 30, step=9),
        "k": IntDistribution(1, 100, log=True),
        "kind": CategoricalDistribution((1, 1.0, None)),
        "one": IntDistribution(2, 2),
    }
    parts = optuna_study.coordinates(given)
    assert [part.key for part in parts] == ["_1st", "a_b", "a_b_", "k", "kind", "n"]
    values = {"a b": 0.25, "a_b": 0.5, "1st": 0.1 + 2 * 0.2, "n": 21, "k": 7, "kind": None}
    for part in parts:
        assert part.theirs(part.ours(values[part.name])) == values[part.name]
        assert part.distribution._contains(part.distribution.to_internal_repr(values[part.name]))
    notes = [part.note for part in parts if part.note]
    assert notes == ["_1st counts steps of 0.2, from 0.1", "n counts steps of 9, from 3"]


def test_a_study_becomes_a_space_and_points() -> None:
    study = optuna.create_study(study_name="old", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x/1", -5, 5)
        drop = trial.suggest_float("drop", 0, 0.5, step=0.1)
        units = trial.suggest_int("units", 1, 64, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.suggest_int("fixed", 3, 3)
        if trial.number == 3:
            raise ValueError
        if trial.number == 4:
            raise optuna.TrialPruned
        trial.set_constraint("c", float(trial.number == 5))
        return x * x + drop + units + (kind == "a")

    study.optimize(objective, n_trials=8, catch=(ValueError,))
    space, points = import_study(study)
    assert dict(space) == {
        "drop": Categorical((0.0, 0.1, 0.2, 0.1 * 3, 0.4, 0.5)),
        "kind": Categorical(("a", "b")),
        "units": Int(1, 64, log=True),
        "x_1": Float(-5, 5),
    }
    assert [point["failed"] for point in points] == [False, False, False, True, False, True, False, False]
    assert [point["score"] for point in points] == [
        None if i in (3, 4, 5) else trial.value for i, trial in enumerate(study.trials)
    ]
    assert {point["source"] for point in points} == {"optuna:old"}
    for point, trial in zip(points, study.trials, strict=True):
        space.candidate(point["values"])
        assert point["values"]["x_1"] == trial.params["x/1"]


def test_points_come_in_a_space_of_the_users_own() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(flat, n_trials=3)
    own = Space({"x": Float(-10, 10), "other": Int(1, 3)})
    space, points = import_study(study, own)
    assert space is own
    assert [point["values"] for point in points] == [{"x": trial.params["x"]} for trial in study.trials]


def test_an_imported_study_warms_a_run(tmp_path: Path) -> None:
    from agent.api import optimize

    study = optuna.create_study(study_name="old", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(flat, n_trials=40)
    space, points = import_study(study)
    result = optimize(
        lambda values: (values["x"] - 1) ** 2 + (values["y"] + 2) ** 2,
        space=space,
        warm_from=points,
        budget=30,
        deterministic=True,
        folder=tmp_path,
        model=None,
        runs=tmp_path / "runs",
        options={"proposer": "random"},
    )
    best = min((point for point in points), key=lambda point: point["score"])
    first = [trial for trial in result.trials if trial.source == "warm:optuna:old"]
    assert dict(first[0].candidate) == best["values"]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda t: t.suggest_float("x", 0, 1) if t.number else t.suggest_float("y", 0, 1), "conditional"),
        (lambda t: t.suggest_float("x", 0, 1 + t.number), "changed its range of x"),
        (lambda t: t.suggest_float("x", 1, 1), "no parameter that varies"),
        (lambda t: float(t.suggest_categorical("x", [None, 1]) is None), "x: Categorical"),
        (lambda t: t.suggest_int("x", 0, 1000, step=5), "grid of 201 values"),
    ],
)
def test_studies_that_are_no_plain_space_are_refused(objective: Any, message: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=2)
    with pytest.raises(ConfigError, match=message) as caught:
        import_study(study)
    assert caught.value.hint


def test_an_empty_study_has_nothing_to_give() -> None:
    with pytest.raises(ConfigError, match="no complete trial"):
        import_study(optuna.create_study())


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "optuna":
            raise ImportError("No module named 'optuna'")
        return load(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "agent.integrations.optuna")
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(PrerequisiteError) as caught:
        importlib.import_module("agent.integrations.optuna")
    assert caught.value.fix == "pip install 'truegain[optuna]'"


def test_cmaes_is_not_kept_between_trials() -> None:
    """Two studies of one sampler do not mix."""
    one = TrueGainSampler("cmaes", seed=0)
    first, second = optuna.create_study(sampler=one), optuna.create_study(sampler=one)
    first.optimize(flat, n_trials=10)
    second.optimize(flat, n_trials=3)
    assert isinstance(one._proposer, CMAES)
    assert second.trials[1].system_attrs["truegain:cmaes"]["memory"]["seen"] == 1
