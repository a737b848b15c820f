"""What ties a run to the accounts of its rows."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.events import ExamPlanned, HoldoutFixed, ReportPlanned
from agent.gate.accountfile import FILE
from agent.gate.accounts import Accounts
from agent.gate.checks import LEAKS_ALLOWED
from agent.gate.custody import Custody
from agent.problem import Example
from tests.row_support import problem, rows

ALPHA = 0.05


def data() -> list[Example]:
    return [*rows(20), *rows(30, start=20, split="val"), *rows(10, start=50, split="test")]


@pytest.fixture
def custody(tmp_path: Path) -> Callable[..., Custody]:
    def make(run: str = "run#1", given: list[Example] | None = None, **more: object) -> Custody:
        return Custody(Accounts(tmp_path), run, problem(data=given or data()), ALPHA, **more)  # type: ignore[arg-type]

    return make


def exam(number: int = 1, last: bool = True, pairs: int = 30) -> ExamPlanned:
    return ExamPlanned(number, "new", "old", pairs, last, {})


def test_rows_are_named_in_an_order_that_their_content_does_not_explain(custody: Callable[..., Custody]) -> None:
    fixed = custody().fixed()
    assert fixed.audience == "gate"
    assert sorted(row for row, _ in fixed.val) == sorted(f"row-{n}" for n in range(20, 50))
    assert sorted(row for row, _ in fixed.test) == sorted(f"row-{n}" for n in range(50, 60))
    assert [row for row, _ in fixed.val] != [f"row-{n}" for n in range(20, 50)]
    assert custody(given=list(reversed(data()))).fixed().val == fixed.val, "whatever order the data had"
    assert fixed.standing == {"tests": 0, "accepts": 0, "run": 1, "id": "run#1", "units": 20}


def test_rows_of_a_cluster_stand_side_by_side(custody: Callable[..., Custody]) -> None:
    clustered = [replace(row, cluster=f"user {n % 5}") for n, row in enumerate(data())]
    clusters = [cluster for _, cluster in custody(given=clustered).fixed().val]
    changes = sum(a != b for a, b in itertools.pairwise(clusters))
    assert changes == len(set(clusters)) - 1 == 4
    assert all(cluster == row for row, cluster in custody().fixed().val), "a row alone is its own cluster"


def test_without_held_out_rows_nothing_is_asked(custody: Callable[..., Custody]) -> None:
    bare = custody(given=list(rows(20)))
    assert bare.fixed() == HoldoutFixed([], [], {"tests": 0, "accepts": 0, "run": 1, "id": "run#1", "units": 20})
    assert bare.to_json() == {}


async def test_an_exam_is_charged_once_however_often_it_is_begun(custody: Callable[..., Custody]) -> None:
    first = await custody().begin(exam(), 0)
    assert (first.id, first.champion, first.released, first.pairs) == (1, "new", "old", 30)
    assert 0 < first.level < ALPHA
    assert first.account == {"tests": 0, "accepts": 0, "pending": 0, "run": 1, "taken": 0}
    assert await custody().begin(exam(), 0) == first
    assert custody().to_json()["tests"] == 1


async def test_the_level_counts_exams_runs_and_bits(custody: Callable[..., Custody]) -> None:
    one = await custody().begin(exam(last=False), 0)
    await custody().end(1, True)
    two = await custody().begin(exam(2), 0)
    assert two.account == {"tests": 1, "accepts": 1, "pending": 0, "run": 1, "taken": 1}
    await custody().end(2, False)
    three = await custody("run#2").begin(exam(), 0)
    assert three.account == {"tests": 2, "accepts": 1, "pending": 0, "run": 2, "taken": 0}
    assert three.level < min(one.level, two.level) and one.level + two.level + three.level <= ALPHA
    assert custody("run#3").fixed().standing == {"tests": 3, "accepts": 1, "run": 3, "id": "run#3", "units": 20}


async def test_a_bit_stands_when_it_is_written(custody: Callable[..., Custody], tmp_path: Path) -> None:
    await custody().begin(exam(), 0)
    await custody().end(1, True)
    await custody().end(1, True)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("SELECT accepted FROM exams").fetchall() == [(1,)]
    with pytest.raises(StoreError, match="other verdict"):
        await custody().end(1, False)
    with pytest.raises(StoreError, match="never begun"):
        await custody().end(2, True)


async def test_what_makes_a_proof_worthless_is_said_when_the_exam_begins(custody: Callable[..., Custody]) -> None:
    assert "barred" not in (await custody().begin(exam(), LEAKS_ALLOWED)).account
    leaky = await custody("leaky").begin(exam(), LEAKS_ALLOWED + 1)
    assert leaky.account["barred"] == f"{LEAKS_ALLOWED + 1} proposals repeated held-out answers"
    searched = await custody("searched", searched=("row-20", "row-21")).begin(exam(), 0)
    assert searched.account["barred"] == "an earlier search has read 2 of the gate's rows"
    custody().accounts.open_gate(run="run#1", rows=custody().val)
    opened = await custody("later").begin(exam(), 0)
    assert "opened for reading in run run#1" in opened.account["barred"]


async def test_a_run_that_repeats_too_many_answers_opens_the_rows_for_all_runs(custody: Callable[..., Custody]) -> None:
    leaky = custody("leaky")
    for _ in range(LEAKS_ALLOWED):
        await leaky.leaked(0)  # all at once: none of them is in the journal yet
    assert "barred" not in (await custody("second").begin(exam(), 0)).account
    await custody("leaky").leaked(LEAKS_ALLOWED)  # a resume has counted those in the journal
    assert "opened for reading in run leaky" in (await custody("third").begin(exam(), 0)).account["barred"]
    own = await leaky.begin(exam(), LEAKS_ALLOWED + 1)
    assert own.account["barred"] == f"{LEAKS_ALLOWED + 1} proposals repeated held-out answers"


async def test_reports_have_openings_of_their_own(custody: Callable[..., Custody]) -> None:
    planned = ReportPlanned(["old", "new"], 10)
    first = await custody().report(planned)
    assert first.opening == 1 and await custody().report(planned) == first
    second = await custody("run#2").report(planned)
    assert second.opening == 2 and second.level == pytest.approx(first.level / 4)
    assert (await custody().begin(exam(), 0)).account["tests"] == 0, "a report is no exam"


async def test_an_account_that_cannot_be_written_charges_nothing(
    custody: Callable[..., Custody], tmp_path: Path
) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StoreError, match=FILE.partition(".")[0]):
        await custody().begin(exam(), 0)
    (tmp_path / FILE).rmdir()
    assert (await custody().begin(exam(), 0)).account["tests"] == 0


async def test_other_candidates_on_the_same_test_rows_are_another_opening(custody: Callable[..., Custody]) -> None:
    first = await custody().report(ReportPlanned(["old", "new"], 10))
    assert await custody().report(ReportPlanned(["new", "old"], 10)) == first
    later = await custody().report(ReportPlanned(["old", "newer"], 10))
    assert later.opening == 2 and later.level == pytest.approx(first.level / 4)


def test_an_exam_that_ends_within_a_cluster_has_a_random_part_of_it(custody: Callable[..., Custody]) -> None:
    together = [replace(row, cluster="one") if row.split == "val" else row for row in data()]
    order = [row for row, _ in custody(given=together).fixed().val]
    assert order != sorted(order) and sorted(order) == sorted(f"row-{n}" for n in range(20, 50))
