"""NSGA-II through Optuna: the whole history each time, and nothing kept."""

from __future__ import annotations

import asyncio
import builtins
import statistics
from typing import Any

import pytest

from agent import pareto
from agent.errors import ConfigError, PrerequisiteError
from agent.goals import Constraint
from agent.parameters import Categorical, Float
from agent.proposers.base import Proposer
from agent.proposers.nsga2 import NSGA2
from agent.proposers.random import Random
from agent.space import Space
from agent.testing.proposers import SPACES, Search, bowl
from tests.proposers.several import SeveralContract, Two, zdt1, zdt2

optuna = pytest.importorskip("optuna")


class TestContract(SeveralContract):
    steps = 25
    options = {"population": 4}  # noqa: RUF012

    def inner(self) -> Proposer:
        return NSGA2()


def test_it_covers_more_than_random_search() -> None:
    for function, best in ((zdt1, 6.267), (zdt2, 5.933)):
        ours = [Two(NSGA2(), function, seed=seed).run(60).volume for seed in range(5)]
        theirs = [Two(Random(), function, seed=seed).run(60).volume for seed in range(5)]
        gap = statistics.median(best - volume for volume in ours)
        assert gap < 0.9 * statistics.median(best - volume for volume in theirs)


def test_children_take_their_coordinates_from_the_best_of_all() -> None:
    search = Two(NSGA2(), zdt1, options={"population": 6}).run(12)
    front = [t.candidate for t in pareto.front(search.problem, search.history.trials).trials]
    assert len(front) < 6  # so that all of it is among the parents
    children = search.ask(40)
    assert {child.source for child in children} == {"nsga2"}
    encode = search.problem.space.encode
    parts = {round(value, 6) for t in search.history.trials for value in encode(t.candidate)}
    taken = [round(value, 6) for child in children for value in encode(child.values)]
    assert sum(value in parts for value in taken) > 0.6 * len(taken)  # one in five is mutated
    # Parents are six of twelve; those on the front pass on far more than the rest does.
    best = {round(value, 6) for candidate in front for value in encode(candidate)}
    assert sum(value in best for value in taken) > sum(value in parts - best for value in taken)


def test_before_there_are_enough_parents_candidates_are_random() -> None:
    search = Two(NSGA2(), zdt1, options={"population": 6}).run(5)
    assert [proposal.source for proposal in search.ask(2)] == ["nsga2:start", "nsga2:start"]


class Seen:
    """What the sampler was given: Optuna's trials."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trials: list[Any] = []
        create = optuna.trial.create_trial

        def spy(**given: Any) -> Any:
            self.trials.append(create(**given))
            return self.trials[-1]

        monkeypatch.setattr(optuna.trial, "create_trial", spy)


def test_failures_are_told_as_failures_and_constraints_as_violations(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: list[float]) -> tuple[float, ...] | None:
        return None if x[0] > 0.7 else (x[0], x[1], 4 * x[1])

    search = Two(NSGA2(), function, size=2, seed=1, constraint=Constraint("c", max=1.0)).run(20)
    waiting = search.admit(search.ask()[0])
    seen = Seen(monkeypatch)
    search.ask()
    state = optuna.trial.TrialState
    for told, trial in zip(seen.trials, search.history.trials, strict=True):
        if trial.id == waiting.id:
            assert told.state == state.RUNNING
        elif trial.values is None:
            assert told.state == state.FAIL and told.values is None
        else:
            assert told.state == state.COMPLETE
            assert told.values == [trial.values["a"], -trial.values["b"]]  # costs: b is to be made large
            assert told.constraints == {"c": pytest.approx(trial.values["c"] - 1.0)}
    assert {told.state for told in seen.trials} == {state.RUNNING, state.FAIL, state.COMPLETE}


def test_a_choice_between_one_and_true_is_no_trouble() -> None:
    space = Space({"x": Float(0, 1), "kind": Categorical((1, True, 1.0, "1"))})
    search = Two(NSGA2(), lambda x: (x[0], x[1]), space=space, options={"population": 4}).run(25)
    assert {repr(t.candidate["kind"]) for t in search.history.trials} == {"1", "True", "1.0", "'1'"}


def test_nothing_is_said_and_optunas_verbosity_stays(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        Two(NSGA2(), zdt1).run(4)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        assert capfd.readouterr() == ("", "")
    finally:
        optuna.logging.set_verbosity(before)


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *rest)

    search = Two(NSGA2(), zdt1)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PrerequisiteError) as caught:
        search.ask()
    assert caught.value.fix == "pip install 'truegain[optuna]'"


def test_one_objective_is_refused_and_another_proposer_named() -> None:
    search = Search(NSGA2(), SPACES["float"], bowl(SPACES["float"]))
    for ask in (
        lambda: asyncio.run(NSGA2().propose(search.context(), 1)),
        lambda: NSGA2().forecast(search.state.problem, 10, {}),
    ):
        with pytest.raises(ConfigError, match="nsga2 weighs several objectives") as caught:
            ask()
        assert "tpe" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"population": 1}, {"population": 4.0}, {"crossover": 1.1}, {"crossover": "often"}, {"mutation": 1}]
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        Two(NSGA2(), zdt1, options=options).ask()
