"""The user's own starting points are measured first, whoever proposes; what the model added can be read off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import Budget, Study, optimize
from agent.api import make_session
from agent.config import load
from agent.decide import decide
from agent.errors import ConfigError
from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
    CheckEnded,
    CheckStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    NoiseMeasured,
    ProposalStarted,
    RunStarted,
    StopRequested,
)
from agent.journal import read_all
from agent.ledger import Budget as Limits
from agent.llm.scripted import Scripted
from agent.parameters import Float
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.proposers.table import TABLE
from agent.replay import replay
from agent.results.result import Result, load_result
from agent.session import Session
from agent.state import State
from agent.telling.display import Display
from agent.testing.proposers import SPACES, Search, bowl
from agent.texts import Text
from tests import row_support
from tests.cli_helpers import GATED, TOML, begin, call, folder, kill, only_run, until
from tests.support import SPACE, bodies, entries, loss, noisy, problem, session, thinker

FIRST, SECOND = {"x": 0.3, "n": 6, "kind": "b"}, {"x": -0.2}
COMPLETE = {"x": -0.2, "n": 1, "kind": "a"}


def events(result: Result) -> list[Event]:
    return [entry.event for entry in read_all(result.folder)]


def before_the_first_proposal(happened: list[Event]) -> list[Event]:
    place = next(i for i, event in enumerate(happened) if isinstance(event, ProposalStarted))
    return happened[:place]


def measured(happened: list[Event]) -> list[str]:
    """Candidates in the order in which their measurements came back."""
    begun = {event.id: event.candidate for event in happened if isinstance(event, EvaluationStarted)}
    return list(dict.fromkeys(begun[event.id] for event in happened if isinstance(event, EvaluationEnded)))


def bowl_run(tmp_path: Path, **given: Any) -> Result:
    given.setdefault("starts", [FIRST, SECOND])
    given.setdefault("options", {"proposer": "coordinate"})
    given.setdefault("budget", 20)
    given.setdefault("model", None)
    return optimize(lambda candidate: loss(candidate), space=SPACE, deterministic=True, runs=tmp_path, **given)


def test_starting_points_are_measured_before_anybody_is_asked(tmp_path: Path) -> None:
    result = bowl_run(tmp_path)
    happened = events(result)
    first = before_the_first_proposal(happened)
    assert measured(first) == [trial.id for trial in result.trials[:3]]
    initial, one, two = (trial.candidate.values_json for trial in result.trials[:3])
    assert initial == {"x": 0.9, "n": 1, "kind": "a"} and one == FIRST and two == COMPLETE, "the rest is at its default"
    assert [trial.source for trial in result.trials[:3]] == ["initial", "start", "start"]
    assert [trial.proposal for trial in result.trials[:3]] == [0, 0, 0]
    assert result.best.values_json == FIRST and result.status == "exact"
    assert asyncio.run(replay(result.folder))[1] is None


@pytest.mark.parametrize("proposer", ["coordinate", "random", "evollm"])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_proposer_begins_with_the_same_points(tmp_path: Path, proposer: str, workers: int) -> None:
    starts = [{"x": place / 10} for place in range(-4, 3)]
    model = Scripted(thinker) if proposer == "evollm" else None
    options = {"proposer": proposer, "workers": workers}
    result = bowl_run(tmp_path, starts=starts, options=options, model=model)
    assert [trial.candidate["x"] for trial in result.trials[:8]] == [0.9, *(start["x"] for start in starts)]
    first = before_the_first_proposal(events(result))
    assert set(measured(first)) == {trial.id for trial in result.trials[:8]}, "all are known before the first proposal"
    assert result.spent["evaluations"] == 20
    for count in (1, 3):
        assert asyncio.run(replay(result.folder, count))[1] is None


def test_a_noisy_problem_measures_its_noise_first_and_looks_at_all_starts_before_it_races(tmp_path: Path) -> None:
    starts = [FIRST, {"x": 0.3, "n": 5, "kind": "b"}]
    chosen = session(
        problem=problem(noisy, deterministic=False),
        budget=Limits(evaluations=150),
        proposer="coordinate",
        starts=starts,
    )
    result = asyncio.run(chosen.run(tmp_path / "run"))
    happened = events(result)
    kinds = [event.type for event in happened]
    assert kinds.index("noise.measured") < kinds.index("candidate.admitted") < kinds.index("race.started")
    looked = {
        event.candidate for event in happened[: kinds.index("race.started")] if event.type == "evaluation.started"
    }  # type: ignore[attr-defined]
    assert looked == {trial.id for trial in result.trials[:3]}
    assert result.status == "proven" and result.trials[1].state in ("champion", "dropped")
    assert asyncio.run(replay(result.folder))[1] is None


def test_on_rows_the_race_of_a_start_comes_before_the_first_proposal(tmp_path: Path) -> None:
    better = {"x": 0.3, "kind": "b"}
    only = {"proposer": "tests.row_support:Steps", "options": {"candidates": [{"x": -0.6, "kind": "a"}]}}
    ran = row_support.run(tmp_path / "run", budget=400, starts=[better], **only)
    first = before_the_first_proposal(ran.events)
    decided = [event.decision for event in first if event.type == "race.decided"]  # type: ignore[attr-defined]
    assert decided == ["promote"] and ran.result.trials[1].source == "start"
    assert ran.result.status == "proven" and ran.replays((1, 2))


def test_a_start_that_fails_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    def fragile(candidate: Mapping[str, Any]) -> float:
        if candidate["x"] < 0:
            raise ValueError("too low")
        return loss(candidate)

    result = optimize(
        fragile,
        space=SPACE,
        deterministic=True,
        budget=15,
        model=None,
        runs=tmp_path,
        starts=[SECOND, FIRST],
    )
    assert [trial.state for trial in result.trials[1:3]] == ["failed", "champion"]
    assert "too low" in result.trials[1].failure


# What is refused is an event with a reason, and is shown.


def no_minus(candidate: Mapping[str, Any]) -> str | None:
    return "x is below zero" if candidate["x"] < 0 else None


def test_a_start_goes_through_the_checks_and_each_refusal_is_told(tmp_path: Path) -> None:
    starts = [{"x": 0.9}, SECOND, FIRST, FIRST]
    result = bowl_run(tmp_path, starts=starts, checks=[no_minus])
    refused = [event for event in events(result) if isinstance(event, CandidateRejected) and not event.proposal]
    assert [event.reason.split(":")[0] for event in refused] == [
        "seen before, as candidate 0 (measured)",
        "no_minus",
        "seen before, as candidate 1 (queued)",
    ]
    assert result.trials[1].candidate.values_json == FIRST
    told = result.to_json()["starts"]
    assert told["given"] == 4 and [item["values"]["x"] for item in told["refused"]] == [0.9, -0.2, 0.3]
    assert any("x is below zero" in line for line in result.beginning)
    assert load_result(result.folder).to_json() == result.to_json()
    assert asyncio.run(replay(result.folder))[1] is None


def test_a_refused_start_is_shown_on_a_live_display_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for live in (False, True):
        result = bowl_run(tmp_path, starts=[{"x": 0.9}], observers=[Display(live=live)], budget=6)
        assert "not measured [start]: seen before" in capsys.readouterr().err
    assert "1 starting point before the first proposal" in result.beginning


# Wrong input.


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ([{"x": 0.1}, {"y": 1}], "starts.1.y: there is no such parameter"),
        ([{"x": 7}], "starts.0.x: 7.0 is outside -1 to 1"),
        ([{"n": 2.5}], "starts.0.n: 2.5 is not a whole number"),
        ([{"kind": "z"}], "starts.0.kind: 'z' is not one of"),
        ([{"x": float("nan")}], "starts.0.x: the value must be finite"),
        ([{"x": None}], "starts.0.x: the value must be a number"),
        ([3], "starts.0: found 3"),
        ({"x": 0.1}, "starts: found {'x': 0.1}, allowed is a list"),
        ("x=1", "starts: found 'x=1'"),
        (None, "starts: found None"),
    ],
    ids=str,
)
def test_a_wrong_start_is_named_before_anything_is_spent(tmp_path: Path, starts: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bowl_run(tmp_path / "runs", starts=starts)
    assert words in caught.value.message and not (tmp_path / "runs").exists()


def test_a_start_that_looks_like_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"starts\.0 holds what looks like a key"):
        optimize(
            loss,
            space={**SPACE, "prompt": Text("Hello")},
            model=None,
            runs=tmp_path,
            starts=[{"prompt": "use sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD"}],
        )


def test_the_budget_must_pay_for_all_starts(tmp_path: Path) -> None:
    starts = [{"x": place / 100} for place in range(10)]
    with pytest.raises(ConfigError, match="10 starting points 10") as caught:
        bowl_run(tmp_path, starts=starts, budget=12)
    assert "at least 13" in caught.value.hint
    result = bowl_run(tmp_path, starts=starts, budget=13)
    assert sum(trial.source == "start" for trial in result.trials) == 10 and result.spent["evaluations"] == 13


def test_a_start_costs_as_much_as_its_rows() -> None:
    chosen = make_session(
        loss,
        space=SPACE,
        data=[{"id": str(number)} for number in range(4)],
        target="suite",
        deterministic=True,
        budget=Budget(evaluations=14),
        model=None,
        starts=[SECOND],
    )
    with pytest.raises(ConfigError, match="1 starting points 4"):
        chosen.check()


# The problem file and the command line.

STARTS = TOML + "\n[[starts]]\nx = 0.5\n\n[[starts]]\nx = 0.25\nn = 7\n"


def test_the_problem_file_and_the_command_line_add_up(tmp_path: Path) -> None:
    place = folder(tmp_path / "p", STARTS)
    ran = call("run", place, "--start", "n=3", "--start", "x=1e-1,n=4", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 0 and "4 starting points before the first proposal" in ran.err
    run = only_run(tmp_path / "runs")
    begun = [dict(trial.candidate) for trial in load_result(run).trials[1:5]]
    assert begun == [{"x": 0.5, "n": 5}, {"x": 0.25, "n": 7}, {"x": 0.9, "n": 3}, {"x": 0.1, "n": 4}]
    shown = call("show", run, cwd=tmp_path).out
    assert "4 starting points before the first proposal" in shown and "start " in shown and "kept of 4" in shown


def test_estimate_counts_the_starts(tmp_path: Path) -> None:
    place = folder(tmp_path / "p", STARTS)
    found = call("estimate", place, "--start", "n=3", "--json", cwd=tmp_path).json
    assert found["evaluations"] == {"initial": 2, "starts": 3, "search": 7, "exam": 0}
    assert found["candidates"] == [7, 7]
    assert "starting points" in call("estimate", place, cwd=tmp_path).out


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[[starts]]\nx = 9", "starts.0.x: 9.0 is outside"),
        ("[[starts]]\nx = 0.1\n[[starts]]\nz = 9", "starts.1.z: there is no such parameter"),
        ("starts = 3", "starts: found 3"),
        ("starts = [3]", "starts.0: found 3"),
        ("[run]\nwarm_from = 3", "run.warm_from: found 3"),
    ],
)
def test_an_error_names_the_key_in_the_file(tmp_path: Path, toml: str, words: str) -> None:
    text = toml + TOML if toml.startswith("starts") else TOML + toml
    with pytest.raises(ConfigError) as caught:
        load(folder(tmp_path / "p", text))
    assert words in caught.value.message and "problem.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=9", "--start x=9: x: 9.0 is outside"),
        ("y=1", "--start y=1: y: there is no such parameter"),
        ("x", "found 'x', allowed is name=value"),
        ("x=1,", "found '', allowed is name=value"),
        ("x=0.1,x=0.2", "x stands twice"),
        ("x=2020-01-01", "must be a number, not '2020-01-01'"),
        ("x={ a = 1 }", "must be a number"),
    ],
)
def test_a_wrong_start_on_the_command_line(tmp_path: Path, text: str, words: str) -> None:
    ran = call("run", folder(tmp_path / "p"), "--start", text, "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 2 and words in ran.err and not (tmp_path / "runs").exists()


def test_texts_and_choices_can_be_given_with_or_without_quotes(tmp_path: Path) -> None:
    text = (
        '[space.kind]\ntype = "categorical"\nchoices = ["a", "b, c", true]\n[space.say]\ntype = "text"\ndefault = "x"'
    )
    place = folder(tmp_path / "p", TOML + text)
    for given, kind, say in (
        ('kind="b, c", say="with, a comma"', "b, c", "with, a comma"),
        ("kind=a,say=plain words", "a", "plain words"),
        ("kind=true", True, "x"),
    ):
        ran = call("run", place, "--start", given, "--json", "--runs", tmp_path / given[:6], cwd=tmp_path)
        assert ran.code == 0, ran.err
        started = next(read_all(only_run(tmp_path / given[:6]))).event
        assert isinstance(started, RunStarted)
        assert started.starts[0]["values"] == {"x": 0.9, "n": 5, "kind": kind, "say": say}


# Cut off and taken up again.


def test_a_run_that_is_killed_among_its_starts_goes_on_with_them(tmp_path: Path) -> None:
    starts = "".join(f"\n[[starts]]\nx = 0.{number}" for number in range(6))
    place = folder(tmp_path / "p", TOML + starts, GATED)
    runs = tmp_path / "runs"
    process = begin("run", place, "--runs", runs, cwd=tmp_path)
    until(place / "count", 5)  # the initial candidate twice, two starts, and the third is in flight
    kill(process)
    run = only_run(runs)
    state = load_result(run)
    assert [trial.state for trial in state.trials[3:]] == ["queued", "queued"]
    (place / "go").write_text("")
    ran = call("resume", run, "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    result = load_result(run)
    assert [trial.candidate["x"] for trial in result.trials[1:7]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(trial.source == "start" for trial in result.trials[1:7])
    assert len((place / "count").read_text()) == 13, "only what was in flight was measured again"
    assert result.spent["evaluations"] == 12
    assert call("replay", run, cwd=tmp_path).code == 0


def test_cut_off_anywhere_the_run_arrives_at_the_same_events(tmp_path: Path) -> None:
    """With starts, a check of the user's own, and one thing in flight at a time."""
    from agent.gate.checks import user_check
    from agent.loop import Run

    def fresh() -> Session:
        return session(
            proposer="coordinate", budget=Limits(evaluations=9), starts=[FIRST, {"x": 0.9}, SECOND],
            checks=(user_check(no_minus),),
        )  # fmt: skip

    whole = bodies(entries(asyncio.run(fresh().run(tmp_path / "whole")).folder))
    for cut in range(3, len(whole) - 1, 8):
        run = tmp_path / f"run{cut}"

        def stop(made: Run, cut: int = cut) -> None:
            append = made.journal.append
            count = 1

            def counted(event: Event, time: float) -> Event:
                nonlocal count
                count += 1
                if count > cut:
                    raise KeyboardInterrupt
                return append(event, time)

            made.journal.append = counted  # type: ignore[method-assign]

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(fresh().run(run, stop))
        asyncio.run(fresh().resume(run))
        assert bodies(entries(run), skip=("run.resumed",)) == whole, f"cut after {cut} events"


def test_a_study_hands_the_starts_out_first(tmp_path: Path) -> None:
    asked = []
    with Study(
        space={"x": Float(0, 1)},
        budget=8,
        deterministic=True,
        model=None,
        runs=tmp_path,
        starts=[{"x": 0.1}, {"x": 0.9}],
    ) as study:
        while (request := study.ask()) is not None:
            asked.append(request.candidate["x"])
            study.tell(request, (request.candidate["x"] - 0.3) ** 2)
    assert [place for place in asked if place != 0.5][:2] == [0.1, 0.9]


def test_a_search_in_memory_takes_starts() -> None:
    from agent.proposers.random import Random

    space = SPACES["mixed"]
    start = {**space.initial().values_json, "depth": 9}
    search = Search(Random(), space, bowl(space), starts=[start])
    search.run()
    admitted = next(event for event in search.events if isinstance(event, CandidateAdmitted))
    assert admitted.values == start and admitted.source == "start"
    assert set(measured(before_the_first_proposal(search.events))) == {
        trial.id for trial in search.state.history.trials[:2]
    }


def test_a_problem_that_is_not_deterministic_is_found_out_before_many_starts_are_paid(tmp_path: Path) -> None:
    def liar(candidate: Mapping[str, Any], replicate: int) -> float:
        return float(replicate)

    starts = [{"x": place / 100} for place in range(20)]
    result = optimize(
        liar, space=SPACE, deterministic=True, budget=40, model=None, runs=tmp_path, starts=starts
    )  # fmt: skip
    assert result.reason == "evaluator" and result.spent["evaluations"] <= 4
    assert any(isinstance(event, NoiseMeasured) and event.wrong for event in events(result))


# What the model added.


class Half:
    """Every other candidate is the model's."""

    name = "half"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        x = context.rng.uniform(-1, 1)
        return [Proposal({**COMPLETE, "x": x}, "half:llm" if context.decision % 2 else "half:sample")]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def test_the_share_of_the_model_is_told(tmp_path: Path) -> None:
    result = bowl_run(tmp_path, options={"proposer": "tests.test_starts:Half"}, budget=12)
    assert result.to_json()["model_share"] == {"made": 4, "of": 8, "share": 0.5}, "the starts are nobody's proposals"
    shown = call("show", result.folder, cwd=tmp_path).out
    assert "half:llm" in shown and "; model 4 of 8 (50 %)." in shown
    plain = bowl_run(tmp_path / "plain")
    assert "model" not in call("show", plain.folder, cwd=tmp_path).out, "no model, no share"
    summary = json.loads((plain.folder / "summary.json").read_text())
    assert summary["model_share"]["made"] == 0


# Proposers of the table that work on texts.


class Writer(Half):
    texts = True


@pytest.mark.parametrize(("name", "fine"), [("Half", False), ("Writer", True)])
def test_a_space_without_numbers_is_for_proposers_of_texts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, fine: bool
) -> None:
    monkeypatch.setitem(TABLE, "mine", f"tests.test_starts:{name}")
    chosen = make_session(loss, space={"prompt": Text("Hello")}, model=None, options={"proposer": "mine"})
    if fine:
        chosen.check()
        return
    with pytest.raises(ConfigError, match="'mine' changes numbers and choices, and the space has none"):
        chosen.check()


def test_a_changed_evaluator_is_tried_on_the_starts_again(tmp_path: Path) -> None:
    """A new epoch begins with the champion, and the starting points may be good now."""
    toml = TOML + "\n[[starts]]\nx = 0.3\nn = 6"
    broken = "def measure(candidate):\n    assert candidate['x'] > 0.5\n    return candidate['x']"
    place = folder(tmp_path / "p", toml, broken)
    assert call("run", place, "--runs", tmp_path / "runs", cwd=tmp_path).code == 0
    run = only_run(tmp_path / "runs")
    assert load_result(run).trials[1].state == "failed"
    (place / "evaluate.py").write_text(broken.replace("assert candidate['x'] > 0.5", "pass"))
    assert call("resume", run, "--accept-change", "--evaluations", 30, cwd=tmp_path).code == 0
    again = load_result(run)
    assert again.trials[1].candidate["n"] == 6 and again.trials[1].source == "start" and again.trials[1].values
    assert call("replay", run, cwd=tmp_path).code == 0


def test_the_search_does_not_end_while_a_start_is_checked() -> None:
    """Otherwise the check's answer would come after the run's last event."""
    chosen = session(proposer="coordinate", starts=[FIRST])
    state = State(replace(chosen.started("run"), checks=["mine"]), 0.0)
    happened: list[Event] = []
    while not any(isinstance(event, CheckStarted) for event in happened):
        for event in decide(state):
            happened.append(event)
            state.apply(event, 0.0)
            if isinstance(event, EvaluationStarted):
                score = {"values": {"value": 1.0}, "feedback": ""}
                state.apply(EvaluationEnded(event.id, "search", {"value": 1.0}, score), 0.0)
    state.apply(StopRequested("seconds", "the time for the search is up"), 0.0)
    assert decide(state) == []
    state.apply(CheckEnded(0, "mine", "I do not like it"), 0.0)
    (refused,) = decide(state)
    assert isinstance(refused, CandidateRejected) and refused.reason == "mine: I do not like it"
