"""Optuna's TPE as a proposer."""

from __future__ import annotations

import asyncio
import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, PrerequisiteError
from agent.events import CandidateAdmitted
from agent.measuring import Unit
from agent.parameters import Categorical, Float, Int
from agent.proposers.random import Random
from agent.proposers.tpe import TPE
from agent.space import Space
from agent.testing.proposers import SPACES, Search, bowl, rough
from tests.cli_helpers import call, folder

optuna = pytest.importorskip("optuna")

SPACE = Space(
    {
        "rate": Float(1e-4, 1.0, log=True),
        "size": Int(1, 512, log=True),
        "share": Float(-1, 1),
        "kind": Categorical((1, True, 1.0, "a")),
    }
)


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The studies that are made, in order."""
    made: list[Any] = []
    create = optuna.create_study

    def spy(**given: Any) -> Any:
        made.append(create(**given))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", spy)
    return made


def test_the_study_says_what_the_history_says(studies: list[Any]) -> None:
    search = Search(TPE(), SPACE, rough(SPACE), budget=40, direction="maximize")
    search.run()
    history = search.state.history
    waiting = SPACE.sample(search.context(7).rng)
    history.apply(CandidateAdmitted(99, waiting.id, waiting.values_json, "other", "", [], None))
    asyncio.run(TPE().propose(search.context(99), 1))
    told = studies[-1].trials[: len(history)]
    State = optuna.trial.TrialState
    assert {trial.state for trial in told} == {State.COMPLETE, State.FAIL, State.RUNNING}
    for ours, theirs in zip(history.trials, told, strict=True):
        if ours.values is None:
            assert theirs.state == (State.RUNNING if ours.state == "queued" else State.FAIL)
            continue
        assert theirs.value == -ours.values["value"]  # smaller is better there
        assert theirs.constraints == {"size": ours.values["size"] - 1.0}
        assert (max(theirs.constraints.values()) <= 0) == ours.feasible
        assert theirs.params["size"] == ours.candidate["size"]
        assert theirs.params["rate"] == ours.candidate["rate"]
        found = SPACE["kind"].choices[theirs.params["kind"]]  # type: ignore[attr-defined]
        assert (type(found), found) == (type(ours.candidate["kind"]), ours.candidate["kind"])


def test_what_was_given_up_halfway_counts_as_pruned(studies: list[Any]) -> None:
    search = Search(TPE(), SPACE, bowl(SPACE), budget=10)
    search.run()
    history = search.state.history
    draw = SPACE.sample(search.context(7).rng)
    history.apply(CandidateAdmitted(99, draw.id, draw.values_json, "other", "", [], None))
    history._put(replace(history[draw.id], state="dropped", partial={0.111: 4.0, 0.333: 3.0}))
    asyncio.run(TPE().propose(search.context(99), 1))
    told = studies[-1].trials[len(history) - 1]
    assert told.state == optuna.trial.TrialState.PRUNED and told.intermediate_values == {111: 4.0, 333: 3.0}


def test_what_runs_is_not_proposed_again(studies: list[Any]) -> None:
    search = Search(TPE(), SPACE, bowl(SPACE), budget=30)
    search.run()
    proposals = asyncio.run(TPE().propose(search.context(50), 6))
    candidates = {SPACE.candidate(proposal.values).id for proposal in proposals}
    assert len(candidates) == 6
    # Those that were asked for before count as running for the next one, in one study.
    assert len(studies[-1].get_trials(states=[optuna.trial.TrialState.RUNNING])) >= 6


def test_it_is_better_than_random_search() -> None:
    def found(proposer: Any, seed: int) -> float:
        state = Search(proposer, SPACES["wide"], bowl(SPACES["wide"]), budget=70, seed=seed).run()
        return state.history.value(state.history[state.history.champion])

    assert sum(found(TPE(), s) for s in range(2)) < 0.8 * sum(found(Random(), s) for s in range(2))


def test_a_history_of_failures_alone_is_no_obstacle() -> None:
    search = Search(TPE(), SPACE, bowl(SPACE))
    history = search.state.history
    for number in range(60):
        draw = SPACE.sample(search.context(number).rng)
        if draw.id not in history:
            history.apply(CandidateAdmitted(number, draw.id, draw.values_json, "other", "", [], None))
        history.measured(Unit(draw.id, 0, -1, "search", None, "error: no value"), True)
    assert len(asyncio.run(TPE().propose(search.context(70), 3))) == 3


def test_where_it_repeats_itself_a_random_candidate_says_so() -> None:
    space = Space({"kind": Categorical(tuple("abcdefgh")), "flag": Categorical((False, True))})
    state = Search(TPE(), space, bowl(space), budget=60).run()
    assert state.stop is not None and state.stop.reason == "exhausted"
    assert len(state.history) == 16
    assert {trial.source for trial in state.history.trials} <= {"initial", "tpe", "tpe:random"}


def test_the_users_logging_stays_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        Search(TPE(), SPACE, bowl(SPACE), budget=6).run()
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
    assert "study" not in capfd.readouterr().err


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "optuna":
            raise ImportError("No module named 'optuna'")
        return load(name, *rest, **more)

    search = Search(TPE(), SPACE, bowl(SPACE))
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(PrerequisiteError) as caught:
        asyncio.run(TPE().propose(search.context(), 1))
    assert caught.value.fix == "pip install 'truegain[optuna]'"
    with pytest.raises(PrerequisiteError):
        TPE().forecast(search.state.problem, 5, {})


@pytest.mark.parametrize("options", [{"startup": -1}, {"draws": 0}, {"draws": True}, {"seed": 1}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    search = Search(TPE(), SPACE, bowl(SPACE), options=options)
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        asyncio.run(TPE().propose(search.context(), 1))


def test_the_startup_is_random() -> None:
    def first(startup: int) -> list[Any]:
        search = Search(TPE(), SPACE, bowl(SPACE), budget=14, options={"startup": startup})
        search.run()
        return [trial.id for trial in search.state.history.trials]

    # The random draws are the same; where the model begins they part.
    assert first(20)[:5] == first(5)[:5] and first(20) != first(5)


def test_a_run_without_optuna_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    ran = call("run", folder(tmp_path / "p"), "--proposer", "tpe", cwd=tmp_path)
    assert ran.code == 69 and "truegain[optuna]" in ran.err
    assert not list((tmp_path / "runs").glob("*/journal.sqlite"))


def test_a_wrong_option_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    ran = call("run", folder(tmp_path / "p"), "--proposer", "tpe", "--set", "proposer.options.stiff=1", cwd=tmp_path)
    assert ran.code == 2 and "stiff" in ran.err
    assert not list((tmp_path / "runs").glob("*/journal.sqlite"))
