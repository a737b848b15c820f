"""Measuring the released candidate again, night after night, with real evaluators and a real store."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.batch.rescore import Rescore, fix_splits, note_models, rescore
from agent.config import load
from agent.errors import ConfigError
from agent.evaluators.function import FunctionEvaluator
from agent.gate.accounts import Accounts
from agent.goals import Objective
from agent.parameters import Float
from agent.problem import Example, Problem
from agent.session import Session
from agent.setup import Setup
from agent.space import Candidate, Space
from tests.batch.rescore_support import ON_ROWS, again, data_folder, measured, setup
from tests.batch.support import batch, one_night, problems
from tests.fake_provider import FakeProvider, ok
from tests.fake_provider import Request as Asked
from tests.row_support import problem as on_rows
from tests.row_support import rows as questions
from tests.support import Direct

# A deterministic evaluator in a folder of its own, measured in worker processes


def test_each_night_has_the_same_rows_and_a_change_is_told_in_its_night_alone(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "b" / "drift.sqlite"
    first = again(load(place), store, 1)
    assert first.first and (first.evaluations, first.rows, first.wanted, first.before) == (40, 0, 40, None)
    assert not again(load(place), store, 2).drifts
    numbers = measured(place)
    assert sorted(numbers[:40]) == sorted(numbers[40:])
    changed = {str(number): 0.123 for number in numbers[:3]}
    (place / "changed.json").write_text(json.dumps(changed))
    (found,) = again(load(place), store, 3).drifts
    assert (found.kind, found.night) == ("score", "3") and "accuracy differs on 3 of 40 rows" in found.sentence
    quiet = again(load(place), store, 4)
    assert not quiet.drifts and not quiet.first
    assert json.loads(json.dumps(quiet.to_json()))["before"] == quiet.mean
    assert "no drift of accuracy" in quiet.sentence


def test_rows_that_fail_are_failures_and_no_bad_scores(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "drift.sqlite"
    before = again(load(place), store, 1, rows=10)
    (place / "changed.json").write_text(json.dumps({str(measured(place)[0]): None}))
    found = again(load(place), store, 2, rows=10)
    assert found.failed == 1 and found.rows == 9 and found.evaluations == 10
    assert "1 of 10 rows failed that had a score" in found.drifts[0].sentence
    assert "the model says nothing" in found.drifts[0].sentence
    assert found.mean == found.before and before.mean is not None
    (place / "changed.json").write_text(json.dumps({str(number): None for number in range(120)}))
    gone = again(load(place), store, 3, rows=10)
    assert gone.mean is None and gone.failed == 10 and "9 of 10 rows failed that had a score" in gone.sentence


def test_val_rows_are_refused_and_never_measured(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "drift.sqlite"
    for split in ("val", "all"):
        with pytest.raises(ConfigError, match=rf"drift.split: found '{split}', allowed is train or test"):
            again(load(place), store, 1, split=split)
    assert not store.exists() and not (place / "measured").exists()
    given = load(place)
    runs = tmp_path / "runs"
    runs.mkdir()
    again(given, store, 1, rows=1000, runs=runs, most=1000)
    from agent.datasets.data import split

    divided = {item.row["number"]: item.split for item in split(given.problem.data)}
    assert {divided[number] for number in measured(place)} == {"train"}
    assert list(runs.iterdir()) == []


def test_rows_that_a_run_took_for_its_gate_are_not_measured_whatever_a_new_division_says(tmp_path: Path) -> None:
    place, runs = data_folder(tmp_path / "p"), tmp_path / "runs"
    runs.mkdir()
    given = load(place)

    def other(data: Sequence[Example]) -> list[Example]:
        return [replace(item, split="train" if int(item.id[4:]) < 30 else "val") for item in data]

    Accounts(runs).assign(given.problem.data, "earlier", splitter=other)
    found = again(given, tmp_path / "drift.sqlite", 1, rows=1000, runs=runs)
    assert sorted(measured(place)) == list(range(30)) and found.wanted == 30


@pytest.mark.parametrize("shares", [(0.3, 0.5), (0.5, 0.3)])
def test_what_is_val_for_one_problem_of_a_night_is_measured_for_none(
    tmp_path: Path, shares: tuple[float, float]
) -> None:
    """Two problems on the same rows, on the first night: before any run could say whose rows are whose."""
    for name, share in zip("ab", shares, strict=True):
        toml = data_folder(tmp_path / name) / "problem.toml"
        toml.write_text(toml.read_text().replace("[[objectives]]", f"val_share = {share}\n\n[[objectives]]"))
    file = batch(tmp_path, "[drift]\nrows = 1000\n", "a\npriority = 2", "b\npriority = 1")
    done = one_night(file, search=False)
    assert all(problem["drift"]["unreached"] == 0 for problem in problems(done).values())
    for name in "ab":
        given = load(tmp_path / name)
        session = Session(given.problem, given.settings, given.budget, shares=given.shares)
        session.divide(tmp_path / "runs" / "a-run")
        val = {item.row["number"] for item in session.problem.data if item.split == "val"}
        assert len(val) == 120 * shares[0]  # the first one in the night's order has fixed them
        assert not val & {number for each in "ab" for number in measured(tmp_path / each)}


def test_rows_that_a_later_problem_takes_for_its_val_are_not_measured_for_an_earlier_one(tmp_path: Path) -> None:
    mine, runs = questions(30), tmp_path / "runs"
    runs.mkdir()
    theirs = [*(replace(item, split="val") for item in mine[:10]), *questions(10, 50)]
    first, broken, second = setup(on_rows(data=mine)), setup(on_rows(data=theirs[:10])), setup(on_rows(data=theirs))
    fix_splits([first, broken, second], runs, "night 1")
    executor = Direct(first.problem)
    again(first, tmp_path / "drift.sqlite", 1, rows=100, runs=runs, executor=executor)
    assert sorted(str(request.example) for request in executor.requests) == sorted(item.id for item in mine[10:])


def test_test_rows_are_measured_for_who_asks_and_must_exist(tmp_path: Path) -> None:
    data = (*questions(30), *questions(10, 100, split="test"), *questions(10, 200, split="val"))
    given = setup(on_rows(data=data))
    found = again(given, tmp_path / "drift.sqlite", 1, split="test", executor=Direct(given.problem))
    assert found.wanted == 10
    with pytest.raises(ConfigError, match="the problem has no test rows"):
        again(setup(on_rows(data=questions(30))), tmp_path / "drift.sqlite", 2, split="test")
    with pytest.raises(ConfigError, match=r"drift\.rows: found 0"):
        again(given, tmp_path / "drift.sqlite", 2, rows=0)


# Nights between


def nights(tmp_path: Path, shifts: Sequence[float | None], *, deterministic: bool = False) -> list[Rescore]:
    """A night with each shift of all scores; in one with None nothing can be measured."""
    rng, tonight = random.Random(3), 0

    def measure(candidate: Any, row: Any) -> float:
        shift = shifts[tonight]
        if shift is None:
            raise RuntimeError("503")
        return 0.6 + shift + (0 if deterministic else rng.gauss(0, 0.02))

    given = setup(on_rows(measure, questions(30), deterministic=deterministic))
    executor, out = Direct(given.problem), []
    for tonight in range(len(shifts)):
        executor.requests.clear()
        out.append(again(given, tmp_path / "drift.sqlite", tonight, rows=20, executor=executor))
        assert {request.replicate for request in executor.requests} == {tonight}  # drift or not: none is repeated
    return out


@pytest.mark.parametrize("deterministic", [False, True])
def test_an_outage_hides_no_change_that_comes_with_its_end(tmp_path: Path, deterministic: bool) -> None:
    found = nights(tmp_path, [0, 0, 0, None, None, -0.3, -0.3], deterministic=deterministic)
    assert [[item.kind for item in one.drifts] for one in found] == [[], [], [], ["failure"], [], ["score"], []]
    out, still, after, quiet = found[3:]
    assert (out.scored, out.failed, out.failure) == (0, 20, "error: RuntimeError: 503")
    assert "nothing has a score: 20 failed (error: RuntimeError: 503)" in still.sentence
    assert after.before == pytest.approx(0.6, abs=0.02) and after.mean == pytest.approx(0.3, abs=0.02)
    assert quiet.before == after.mean and "0.3" in quiet.sentence
    if not deterministic:
        assert "fails more often: on 20 of 20 rows now" in out.sentence and ", on 0% before" in out.sentence
        assert "3 earlier nights, p" in after.sentence


def test_after_an_outage_the_scores_of_before_are_still_there_to_compare_with(tmp_path: Path) -> None:
    found = nights(tmp_path, [0, 0, 0, None, 0, 0, -0.3, -0.3])
    assert [[item.kind for item in one.drifts] for one in found[3:]] == [["failure"], ["failure"], [], ["score"], []]
    assert "fails less often: on 0 of 20 rows now, on 100% before" in found[4].sentence
    assert "5 earlier nights, p" in found[6].sentence


# What else may change


def test_rows_that_changed_are_told_and_compared_with_nothing(tmp_path: Path) -> None:
    store, data = tmp_path / "drift.sqlite", list(questions(30))
    given = setup(on_rows(data=data))
    again(given, store, 1, executor=Direct(given.problem))
    data[4] = Example(data[4].id, {**data[4].row, "question": "another one", "number": 999})
    new = setup(on_rows(data=[*data[1:], *questions(2, 50)]))
    assert again(new, tmp_path / "other.sqlite", 1, executor=Direct(new.problem)).first
    assert again(given, tmp_path / "other.sqlite", 1, executor=Direct(given.problem)).first  # in the same night
    found = again(new, store, 2, executor=Direct(new.problem))
    (told,) = found.drifts
    assert told.kind == "data"
    assert told.sentence == "rows were 2 added, 1 removed, 1 changed; there are 31, and were 30"
    assert found.rows == 28 and found.evaluations == 31
    again_told = again(new, store, 2, executor=Direct(new.problem))
    assert [item.kind for item in again_told.drifts] == ["data"]
    assert again(new, store, 3, executor=Direct(new.problem)).drifts == ()


def test_a_changed_evaluator_is_told_and_begins_a_reference_of_its_own(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "drift.sqlite"
    again(load(place), store, 1, rows=5)
    (place / "evaluate.py").write_text(ON_ROWS.replace("% 7 / 7", "% 5 / 5"))
    found = again(load(place), store, 2, rows=5)
    assert [item.kind for item in found.drifts] == ["evaluator"] and found.first and found.before is None
    assert again(load(place), store, 3, rows=5).drifts == ()


def test_a_new_candidate_begins_a_reference_of_its_own_and_an_old_one_finds_its_own_again(tmp_path: Path) -> None:
    given, store = setup(on_rows(data=questions(40))), tmp_path / "drift.sqlite"
    old, new = given.problem.initial(), Candidate({"x": 0.3, "kind": "b"})
    for night, candidate, first in ((1, old, True), (2, new, True), (3, new, False), (4, old, False)):
        found = again(given, store, night, candidate=candidate, executor=Direct(given.problem))
        assert found.first is first and found.drifts == ()


def test_a_problem_without_rows_is_measured_twice_or_by_repeats(tmp_path: Path) -> None:
    def time(candidate: Any, replicate: int, seed: int) -> float:
        return 5 + random.Random(f"{replicate} {seed}").gauss(0, 0.1)

    def problem(measure: Callable[..., float], deterministic: bool) -> Setup:
        evaluator = FunctionEvaluator(measure, names=("time",))
        goals = (Objective("time", unit="ms"),)
        return setup(
            Problem("timing", Space({"x": Float(0, 1, default=0.5)}), evaluator, goals, deterministic=deterministic)
        )

    noisy = problem(time, False)
    executor = Direct(noisy.problem)
    nights = [again(noisy, tmp_path / "a.sqlite", night, executor=executor) for night in range(8)]
    assert all(found.evaluations == 12 and not found.drifts for found in nights)
    assert len({request.replicate for request in executor.requests}) == 96  # none is answered from a cache
    assert nights[-1].smallest is not None and nights[-1].smallest < 0.3
    assert f"7 earlier nights (p = {nights[-1].p:.2g}); a shift under" in nights[-1].sentence

    steady, liar = problem(lambda candidate: 5.0, True), problem(time, True)
    assert again(steady, tmp_path / "b.sqlite", 1).evaluations == 2
    (told,) = again(liar, tmp_path / "c.sqlite", 1).drifts
    assert "in one night, but the problem is declared deterministic" in told.sentence


# A model behind the evaluator


async def test_thirty_nights_with_a_provider_find_a_changed_model_on_its_night_and_on_no_other(tmp_path: Path) -> None:
    """The model answers right eight times in ten, and from night 20 on less than two times in ten."""
    from openai import AsyncOpenAI

    rng, tonight = random.Random(7), 0

    def answer(asked: Asked) -> Any:
        hard = 0.15 * random.Random(str(asked.body["messages"])).random()
        return ok("yes" if rng.random() < (0.25 if tonight >= 20 else 0.9) - hard else "no")

    async with FakeProvider() as provider:
        provider.answer = answer
        async with AsyncOpenAI(api_key="none", base_url=provider.url, max_retries=0) as client:

            async def measure(candidate: Any, row: Any) -> float:
                said = await client.chat.completions.create(
                    model="fake", messages=[{"role": "user", "content": row["question"]}]
                )
                return float(said.choices[0].message.content == "yes")

            given = setup(on_rows(measure, questions(60), deterministic=False))
            drifts = []
            for tonight in range(30):
                found = await rescore(
                    given, given.problem.initial(), store=tmp_path / "drift.sqlite", night=f"n{tonight}", most=24
                )
                drifts += found.drifts
                assert found.evaluations == 24
        assert provider.calls == 30 * 24
    assert [(item.kind, item.night) for item in drifts] == [("score", "n20")]
    assert "accuracy is worse" in drifts[0].sentence and "20 earlier nights" in drifts[0].sentence


def test_the_models_of_a_run_are_remembered_by_night(tmp_path: Path) -> None:
    from agent.events import CallEnded, CallStarted
    from agent.journal import Journal

    def run(name: str, model: str) -> Path:
        journal = Journal(tmp_path / name)
        journal.append(CallStarted(1, "proposal-1", "k", 1, "propose", "openai:gpt", {}, {}), time=1.0)
        journal.append(CallEnded(1, {"text": "x", "model": model}, None, {}, 0.1), time=2.0)
        journal.close()
        return tmp_path / name

    store = tmp_path / "drift.sqlite"
    first, second = run("a", "gpt-2026-01"), run("b", "gpt-2026-09")
    assert note_models(store, "p", "1", first) == [] == note_models(store, "p", "2", first)
    (told,) = note_models(store, "p", "3", second)
    assert told.sentence == "openai:gpt is answered by gpt-2026-09 now, and was by gpt-2026-01" and told.night == "3"
    assert [item.kind for item in note_models(store, "p", "3", second)] == ["model"]  # the same night, asked again
    assert note_models(store, "p", "4", second) == [] == note_models(store, "other", "4", second)
