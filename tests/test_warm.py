"""A run may begin with what an earlier one found; its scores stay foreign, and the gate's part stays closed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import Constraint, Objective, Study, optimize
from agent.api import make_session
from agent.config import load
from agent.errors import ConfigError, StoreError
from agent.events import CandidateRejected, EvaluationStarted, RunStarted
from agent.journal import FILE, GATE, read_all
from agent.parameters import Categorical, Float, Int, Parameter
from agent.proposers.base import Context, Proposal
from agent.replay import replay
from agent.results.result import Result, load_result, load_state
from agent.space import Space, digest
from agent.texts import Text
from agent.warm import take
from tests import row_support
from tests.cli_helpers import GATED, TOML, begin, call, folder, kill, only_run, until

SPACE: dict[str, Parameter] = {
    "x": Float(-1, 1, default=0.9),
    "n": Int(1, 9, default=1),
    "kind": Categorical(["a", "b", "c"]),
}


def loss(candidate: Mapping[str, Any]) -> float:
    """A bowl; everything with kind = "c" fails."""
    if candidate.get("kind") == "c":
        raise ValueError("c does not work")
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate.get("n", 6) - 6) ** 2 + (candidate.get("kind") == "a")


def search(runs: Path, space: Mapping[str, Parameter] = SPACE, **given: Any) -> Result:
    given = {"deterministic": True, "budget": 60, "model": None, "options": {"proposer": "random"}, **given}
    return optimize(lambda candidate: loss(candidate), space=space, runs=runs, **given)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run of 60 evaluations, in a folder of runs of its own."""
    return search(tmp_path_factory.mktemp("older"))


def beside(older: Result, tmp_path: Path) -> Path:
    """A folder of runs that holds a copy of the earlier one."""
    shutil.copytree(older.folder, tmp_path / "runs" / older.run)
    return tmp_path / "runs"


def first(result: Result) -> RunStarted:
    event = next(read_all(result.folder)).event
    assert isinstance(event, RunStarted)
    return event


def ranked(older: Result) -> list[float]:
    """The scores of the earlier run, best first."""
    return sorted(trial.values["value"] for trial in older.trials if trial.values)


def test_the_best_points_are_tried_first_and_the_failed_ones_remembered(older: Result, tmp_path: Path) -> None:
    result = search(beside(older, tmp_path), warm_from=older.run)
    started = first(result)
    assert [start["source"] for start in started.starts] == [f"warm:{older.run}"] * 5
    assert started.starts[0]["values"] == older.best.values_json
    points = started.warm["points"]
    good = [point["score"] for point in points if not point["failed"]]
    assert good == sorted(good) and good[0] == ranked(older)[0] and set(good) <= set(ranked(older))
    failed = [trial.candidate.values_json for trial in older.trials if trial.state == "failed"]
    assert failed and [point["values"] for point in points if point["failed"]] == failed
    assert all(point["score"] is None for point in points if point["failed"])
    assert [trial.source for trial in result.trials[1:6]] == [f"warm:{older.run}"] * 5
    assert result.trials[1].candidate == older.best and result.trials[1].count == 1, "it was measured anew"
    words = f"warm start from {older.run}: 5 points to try first, {len(failed)} that failed to avoid"
    assert result.beginning == [words]
    assert asyncio.run(replay(result.folder))[1] is None


def test_points_of_a_heap_are_tried_once(tmp_path: Path) -> None:
    """An earlier local search ends in many points within 1 % of each other."""
    heap = [{"values": {"x": 0.3 + step / 1000}, "score": step / 10} for step in range(8)]
    apart = [{"values": {"x": 0.7}, "score": 5.0}]
    result = search(tmp_path, {"x": Float(-1, 1, default=0.9)}, warm_from=heap + apart)
    assert [start["values"]["x"] for start in first(result).starts] == [0.3, 0.7]


@pytest.mark.parametrize(("budget", "tried"), [(60, 5), (39, 3), (9, 0)])
def test_at_most_a_tenth_of_the_evaluations_goes_to_them(
    older: Result, tmp_path: Path, budget: int, tried: int
) -> None:
    result = search(beside(older, tmp_path), warm_from="last", budget=budget)
    started = first(result)
    assert len(started.starts) == tried and len([p for p in started.warm["points"] if not p["failed"]]) == 5
    assert result.spent["evaluations"] == budget


def test_what_is_known_anyway_is_not_tried_twice(older: Result, tmp_path: Path) -> None:
    best = older.best.values_json
    result = search(beside(older, tmp_path), warm_from=older.run, starts=[best])
    started = first(result)
    assert [start["source"] for start in started.starts[:2]] == ["start", f"warm:{older.run}"]
    assert best not in [start["values"] for start in started.starts[1:]]


# Foreign scores stay foreign.


class Reader:
    """Draws at random, and keeps what it was told of earlier points in its memory."""

    name = "reader"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.memory = [[dict(w.values), w.score, w.failed, w.source] for w in context.history.warm]
        return [Proposal(context.problem.space.sample(context.rng), self.name)]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def test_a_proposer_may_read_them_and_they_are_no_trials(older: Result, tmp_path: Path) -> None:
    runs = beside(older, tmp_path)
    result = search(runs, warm_from=older.run, options={"proposer": "tests.test_warm:Reader"}, budget=20)
    state = load_state(result.folder)
    told = first(result).warm["points"]
    assert state.memory == [[p["values"], p["score"], p["failed"], f"warm:{older.run}"] for p in told]
    admitted = sum(entry.event.type == "candidate.admitted" for entry in read_all(result.folder))
    assert len(state.history) == 1 + admitted, "a point of before is a trial only when it was proposed here"


def test_a_lie_about_a_score_changes_nothing_but_the_order(tmp_path: Path) -> None:
    """Race and gate compare what was measured here, whatever an earlier run claims."""

    def told(score: float) -> Result:
        points = [{"values": {"x": 0.9, "n": 9, "kind": "a"}, "score": score, "failed": False, "source": "liar"}]
        return search(tmp_path, warm_from=points, budget=30)

    for lie in (-1e300, 1e300):
        result = told(lie)
        assert result.trials[1].source == "warm:liar" and result.trials[1].values == {"value": pytest.approx(1.54)}
        assert result.trials[1].state == "dropped" and result.best != result.trials[1].candidate
        best = min(trial.values["value"] for trial in result.trials if trial.values)
        assert result.verdict is not None and result.verdict["after"] == best
    journal = [json.loads(entry.event.body()) for entry in read_all(result.folder)][1:]
    assert "1e+300" not in json.dumps([event for event in journal if "rationale" not in event])


def test_a_proposal_near_a_point_that_failed_is_refused(tmp_path: Path) -> None:
    space: dict[str, Parameter] = {"x": Float(-1, 1, default=0.9)}
    points = [{"values": {"x": 0.5}, "score": None, "failed": True, "source": "study"}]
    for radius, refused in ((0.01, True), (0.0, False)):
        options = {"proposer": "tests.test_warm:Close", "options": {"radius": radius}}
        result = search(tmp_path, space, warm_from=points, options=options, budget=8)
        reasons = [e.event.reason for e in read_all(result.folder) if isinstance(e.event, CandidateRejected)]
        assert ("within 1 % of a point that failed in study" in reasons) is refused
        assert asyncio.run(replay(result.folder))[1] is None


class Close(Reader):
    """Proposes a point beside one that failed."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = True
        return [Proposal({"x": 0.51}, self.name, radius=context.options["radius"])]


# Other spaces.


def test_a_narrower_space_takes_what_fits_and_says_what_does_not(older: Result, tmp_path: Path) -> None:
    space: dict[str, Parameter] = {"x": Float(-0.2, 0.2), "kind": Categorical(["b", "c"])}
    started = first(search(beside(older, tmp_path), space, warm_from=older.run))
    here = Space(space)
    for point in started.warm["points"]:
        here.candidate(point["values"])
    notes = " ".join(started.warm["notes"])
    assert "x: left at its default in" in notes and "is outside -0.2 to 0.2" in notes
    assert "not remembered" in notes
    old = [t.candidate["x"] for t in older.trials if t.state == "failed" and -0.2 <= t.candidate["x"] <= 0.2]
    assert [p["values"]["x"] for p in started.warm["points"] if p["failed"]] == old, "others are not what failed"


def test_a_wider_space_has_its_defaults_where_the_run_knew_nothing(older: Result, tmp_path: Path) -> None:
    space = {**SPACE, "x": Float(-10, 10), "depth": Int(1, 5), "say": Text("Hello")}
    started = first(search(beside(older, tmp_path), space, warm_from=older.run))
    assert started.starts[0]["values"] == {**older.best.values_json, "depth": 3, "say": "Hello"}
    assert started.warm["notes"] == []


def test_a_space_of_other_parameters_is_refused(older: Result, tmp_path: Path) -> None:
    runs = beside(older, tmp_path)
    with pytest.raises(ConfigError, match="has no parameter of this problem: it searched x, n, kind"):
        optimize(lambda c: c["rate"], space={"rate": Float(0, 1)}, model=None, runs=runs, warm_from=older.run)
    assert [item.name for item in runs.iterdir() if item.is_dir()] == [older.run], "no run was begun"


def test_a_space_in_which_nothing_fits_is_refused(older: Result, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to begin with"):
        search(beside(older, tmp_path), {"x": Float(50, 60)}, warm_from=older.run)


def test_infeasible_points_are_judged_by_the_bounds_of_today(tmp_path: Path) -> None:
    def measure(candidate: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": candidate["x"] ** 2, "size": 10 * candidate["x"]}

    def go(most: float, **given: Any) -> Result:
        return optimize(
            measure,
            space={"x": Float(0, 1, default=0.1)},
            objectives=Objective("loss", "maximize"),
            constraints=[Constraint("size", max=most)],
            deterministic=True,
            budget=30,
            model=None,
            options={"proposer": "random"},
            runs=tmp_path,
            **given,
        )

    strict = go(4)
    infeasible = [trial for trial in strict.trials if trial.values and not trial.feasible]
    assert infeasible
    same, loose = first(go(4, warm_from=strict.run)), first(go(9, warm_from=strict.run))
    assert sum(point["failed"] for point in same.warm["points"]) == len(infeasible)
    assert all(point["values"]["x"] <= 0.4 for point in same.warm["points"] if not point["failed"])
    best = next(point for point in loose.warm["points"] if not point["failed"])
    assert 0.4 < best["values"]["x"] <= 0.9


def test_a_run_for_another_goal_gives_its_points_without_their_scores(older: Result, tmp_path: Path) -> None:
    runs = beside(older, tmp_path)
    given = {"warm_from": older.run, "deterministic": True, "model": None, "budget": 50, "runs": runs}
    upward = first(optimize(lambda c: -loss(c), space=SPACE, objectives="maximize", **given))
    assert all(point["score"] is None for point in upward.warm["points"])
    assert "searched for value (minimize), and not for value (maximize)" in upward.warm["notes"][0]
    assert upward.starts[0]["values"] == older.best.values_json, "its best are what was best there"


# Which runs can be named, and what is read of them.


def test_an_open_run_can_be_begun_from(tmp_path: Path) -> None:
    place, runs = folder(tmp_path / "p", TOML, GATED), tmp_path / "runs"
    process = begin("run", place, "--runs", runs, cwd=tmp_path)
    try:
        until(place / "count", 5)
        other = folder(tmp_path / "q", TOML.replace("= 12", "= 30"))
        ran = call("run", other, "--warm-from", "last", "--runs", runs, "--json", cwd=tmp_path)
        assert ran.code == 0, ran.err
        assert ("warm start from p-" in ran.err and "point to try first" in ran.err) or "points to try first" in ran.err
    finally:
        kill(process)
    assert load_result(Path(ran.json["folder"])).trials[1].source.startswith("warm:p-")


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "foreign", "hollow"])
def test_a_corrupt_run_is_refused_with_words(older: Result, tmp_path: Path, damage: str) -> None:
    runs = beside(older, tmp_path)
    journal = runs / older.run / FILE
    if damage == "garbage":
        journal.write_bytes(b"no database" * 500)
    elif damage == "cut":
        journal.write_bytes(journal.read_bytes()[:5000])
    elif damage == "empty":
        journal.write_bytes(b"")
    else:
        with sqlite3.connect(journal) as db:
            db.execute("DROP TRIGGER no_update")
            if damage == "foreign":
                db.execute("UPDATE events SET type = 'from.the.future' WHERE seq = 9")
            else:
                db.execute("UPDATE events SET body = '{}' WHERE seq = 1")
    with pytest.raises(StoreError) as caught:
        search(runs, warm_from=older.run)
    assert caught.value.hint
    assert [item.name for item in runs.iterdir() if item.is_dir()] == [older.run]


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        search(tmp_path, warm_from="nobody")


def test_nothing_of_the_old_run_is_needed_later(older: Result, tmp_path: Path) -> None:
    """Resume, replay and show read the new run's journal alone."""
    runs = beside(older, tmp_path)
    place = folder(tmp_path / "p", TOML.replace("= 12", "= 40"), GATED)
    process = begin("run", place, "--warm-from", older.run, "--runs", runs, cwd=tmp_path)
    until(place / "count", 5)
    kill(process)
    shutil.rmtree(runs / older.run)
    (place / "go").write_text("")
    run = only_run(runs)
    assert call("resume", run, cwd=tmp_path).code == 0
    assert [trial.source for trial in load_result(run).trials[1:5]] == [f"warm:{older.run}"] * 4
    assert call("replay", run, cwd=tmp_path).code == 0
    assert f"Warm start from {older.run}: 4 points to try first" in call("show", run, cwd=tmp_path).out


def test_the_problem_file_names_a_run_by_name_or_by_a_folder_beside_it(older: Result, tmp_path: Path) -> None:
    place = folder(tmp_path / "p", TOML.replace("= 12", "= 20") + '[run]\nwarm_from = "../old"')
    shutil.copytree(older.folder, tmp_path / "old")
    assert Path(str(load(place).warm_from)).resolve() == tmp_path / "old"
    ran = call("run", place, "--json", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 0 and ran.json["starts"] == {"given": 2, "refused": [], "warm_from": "old"}
    found = call("estimate", place, "--json", "--runs", tmp_path / "runs", cwd=tmp_path).json
    assert found["evaluations"]["starts"] == 2
    assert any("warm start from old: 2 points to try first" in note for note in found["notes"])
    ran = call("run", place, "--warm-from", "nope", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 2 and "there is no run 'nope'" in ran.err, "the command line has the last word"


def test_a_study_begins_with_an_earlier_run_too(older: Result, tmp_path: Path) -> None:
    runs, asked = beside(older, tmp_path), []
    with Study(space=SPACE, budget=20, deterministic=True, model=None, runs=runs, warm_from=older.run) as study:
        while (request := study.ask()) is not None:
            asked.append(request.candidate)
            study.tell(request, loss({**request.candidate, "kind": "b"}))
    assert older.best in asked[:3]


# Points by themselves, as the import of an Optuna study gives them.


def test_points_can_be_given_by_themselves(tmp_path: Path) -> None:
    points = [
        {"values": {"x": 0.1}, "score": 3.0, "failed": False, "source": "optuna:old"},
        {"values": {"x": 0.2}, "score": 1.0, "failed": False, "source": "optuna:old"},
        {"values": {"x": 0.4, "lost": 3}, "score": 2.0, "failed": False, "source": "optuna:old"},
        {"values": {"x": -0.9}, "score": None, "failed": True, "source": "optuna:old"},
        {"values": {"x": 0.0}, "score": None, "failed": False, "source": "optuna:old"},
    ]
    result = search(tmp_path, warm_from=points)
    started = first(result)
    assert [start["values"]["x"] for start in started.starts] == [0.2, 0.4, 0.1], "best first; the rest at its default"
    assert {start["source"] for start in started.starts} == {"warm:optuna:old"}
    assert result.beginning == ["warm start from optuna:old: 3 points to try first, 1 that failed to avoid"]
    assert started.warm["notes"] == ["1 point without a score left out"]


def test_a_larger_score_is_better_where_the_goal_says_so() -> None:
    points = [{"values": {"x": 0.1}, "score": 3.0}, {"values": {"x": 0.2}, "score": 1.0}]
    chosen = make_session(loss, space=SPACE, objectives="maximize", model=None, warm_from=points)
    chosen.warm_up(Path("nowhere"))
    assert [start["values"]["x"] for start in chosen.begins] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([3], "warm_from.0: found 3"),
        ([{"values": {"x": 1}}, {"values": 3}], "warm_from.1.values: found 3"),
        ([{"score": 1.0}], "warm_from.0.values: found None"),
        ([{"values": {"x": 1}, "score": "good"}], "warm_from.0.score: found 'good'"),
        ([{"values": {"x": 1}, "score": float("nan")}], "warm_from.0.score: found nan"),
        ([{"values": {"x": 1}, "score": True}], "warm_from.0.score: found True"),
        ([{"values": {"x": 1}, "failed": "no"}], "warm_from.0.failed: found 'no'"),
        ([{"values": {"x": 1}, "source": ""}], "warm_from.0.source: found ''"),
        ([{"values": {"x": 1}, "value": 3}], "warm_from.0.value: unknown key"),
        ([{"values": {"rate": 1}, "score": 1.0}], "none of the points has a parameter of this problem"),
        ([], "nothing to begin with"),
        ({"values": {}}, "warm_from: found"),
        (7, "warm_from: found 7"),
    ],
    ids=str,
)
def test_wrong_points_are_named_before_anything_is_spent(tmp_path: Path, points: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search(tmp_path / "runs", warm_from=points)
    assert words in caught.value.message
    assert not (tmp_path / "runs").exists()


# Rows that are held out.

BETTER = {"x": 0.3, "kind": "b"}
ONLY = {"proposer": "tests.row_support:Steps", "options": {"candidates": [BETTER]}}


ROWS = tuple(replace(row, id=digest(row.row)) for row in row_support.rows(200))
"""Rows without ids of their own: they are known by their content."""


@pytest.fixture(scope="module")
def by_rows(tmp_path_factory: pytest.TempPathFactory) -> row_support.Ran:
    return row_support.run(tmp_path_factory.mktemp("rows") / "old", data=ROWS, budget=400, **ONLY)


def test_nothing_of_the_gate_is_read(by_rows: row_support.Ran, tmp_path: Path) -> None:
    """A copy without the gate's file, or with one that nobody can read, gives the very same points."""
    problem = by_rows.session.problem
    found = take(problem, by_rows.folder, by_rows.folder.parent)
    assert found["points"][0]["values"] == BETTER
    held = {example.id for example in problem.data if example.split != "train"}
    assert held and not any(name in json.dumps(found) for name in held)
    copy = tmp_path / by_rows.folder.name
    shutil.copytree(by_rows.folder, copy)
    (copy / GATE).write_bytes(b"not for you" * 1000)
    assert take(problem, copy, tmp_path) == found
    (copy / GATE).unlink()
    assert take(problem, copy, tmp_path) == found


def test_the_accounts_of_rows_are_as_they_would_be_without_it(by_rows: row_support.Ran, tmp_path: Path) -> None:
    standing = []
    for name, warm in (("plain", None), ("warm", by_rows.folder)):
        runs = tmp_path / name
        shutil.copytree(by_rows.folder.parent, runs)
        ran = row_support.run(runs / name, data=ROWS, budget=400, warm_from=warm and runs / "old", **ONLY)
        fixed = next(event for event in ran.events if event.type == "holdout.fixed")
        held = {row for row, _ in [*fixed.val, *fixed.test]}  # type: ignore[attr-defined]
        before = by_rows.split("val") + by_rows.split("test")
        assert held == {example.id for example in before}, "the rows stay where they were"
        searched = {e.example for e in ran.events if isinstance(e, EvaluationStarted) and e.purpose == "search"}
        assert not searched & held
        exam = next(event for event in ran.events if event.type == "exam.started")
        known = {key: value for key, value in fixed.standing.items() if key != "id"}  # type: ignore[attr-defined]
        standing.append((known, exam.level, exam.account))  # type: ignore[attr-defined]
        assert (ran.result.trials[1].source == "warm:old") is (warm is not None)
        assert ran.replays()
    assert standing[0] == standing[1]


def test_rows_that_the_earlier_search_has_read_prove_nothing_here(by_rows: row_support.Ran, tmp_path: Path) -> None:
    """In another folder of runs nobody else would know that the rows were searched on."""
    seen = {example.id for example in by_rows.split("train")}
    problem = row_support.problem(data=[replace(row, split="val" if row.id in seen else "train") for row in ROWS])
    with pytest.raises(ConfigError, match=f"has searched on {len(seen)} of the rows that are held out here") as caught:
        take(problem, by_rows.folder, tmp_path)
    assert str(by_rows.folder.parent) in caught.value.hint
    assert take(problem, by_rows.folder, by_rows.folder.parent)["points"], "the accounts beside the runs know it"
