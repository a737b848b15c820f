"""Which rows are train, val and test is fixed at their first use, whatever runs, ids and edits come later."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.datasets.data import split
from agent.gate.accountfile import FILE
from agent.gate.accounts import Accounts
from agent.problem import Example
from tests.gate.account_worker import edited, rows


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def never(examples: Sequence[Example]) -> Sequence[Example]:
    raise AssertionError("nothing is left to divide")


def names(examples: Sequence[Example], which: str) -> set[str]:
    return {example.id for example in examples if example.split == which}


def test_membership_is_fixed_at_first_use_and_later_rows_go_to_train(accounts: Accounts, tmp_path: Path) -> None:
    first = accounts.assign(rows(100), "one", splitter=split)
    gate = names(first.examples, "val")
    assert len(gate) == 50 and first.searched == () and first.notes == ()
    before = (tmp_path / FILE).read_bytes()
    renamed = [
        replace(row, id=f"x{row.id}", row={"id": row.id, "question": f" {row.row['question'].upper()} \n"})
        for row in reversed(rows(100))
    ]
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")  # who has nothing to store waits for nobody
        again = accounts.assign(renamed, "two", splitter=never)
    assert names(again.examples, "val") == {f"x{name}" for name in gate}
    assert (tmp_path / FILE).read_bytes() == before  # nothing to store
    grown = accounts.assign(rows(150), "three", splitter=never)
    assert names(grown.examples, "val") == gate and "50 new rows went to train" in grown.notes[0]
    assert accounts.assign(rows(150), "four", splitter=never).notes == ()


def test_an_edited_row_keeps_its_split(accounts: Accounts) -> None:
    first = accounts.assign(rows(100), "one", splitter=split)
    after = accounts.assign([edited(row) for row in rows(100)], "two", splitter=never)
    assert names(after.examples, "val") == {f"edited-{name}" for name in names(first.examples, "val")}
    assert after.searched == () and "nearly repeat rows of one" in after.notes[0]


def test_a_new_gate_has_only_rows_that_no_run_has_seen(accounts: Accounts) -> None:
    first = accounts.assign(rows(100), "one", splitter=split)
    accounts.assign(rows(110), "one", splitter=never)
    assert accounts.new_gate(rows(110)) == 50
    assert not names(accounts.assign(rows(110), "two", splitter=never).examples, "val")
    after = accounts.assign(rows(210), "two", splitter=split)
    gate = names(after.examples, "val")
    assert len(gate) == 50 and gate <= {row.id for row in rows(100, 110)} and after.searched == ()
    assert names(first.examples, "val") <= names(after.examples, "train")
    assert accounts.new_gate([edited(row) for row in rows(210)]) == 50  # near-duplicates retire too


def test_a_row_that_a_search_has_read_is_named_when_it_becomes_val(accounts: Accounts) -> None:
    accounts.assign(rows(30), "one", splitter=split)  # too few for a gate: all are train
    chosen = [replace(row, split="val") if number < 5 else row for number, row in enumerate(rows(30))]
    chosen += [replace(row, split="val") for row in rows(5, 30)]
    chosen.append(replace(edited(rows(6)[5]), split="val"))
    for run in ("two", "three"):  # it is not forgotten
        after = accounts.assign(chosen, run, splitter=split)
        assert set(after.searched) == {*(f"row-{n}" for n in range(5)), "edited-row-5"}
        assert names(after.examples, "val") == {*after.searched, *(f"row-{n}" for n in range(30, 35))}
        assert any("6 rows of val were train in one" in note and "not proven" in note for note in after.notes)


def test_the_stricter_split_stays(accounts: Accounts) -> None:
    given = [replace(row, split=which) for row, which in zip(rows(3), ("test", "val", "train"), strict=True)]
    accounts.assign([*given, *rows(9, 10)], "one", splitter=split)
    looser = [replace(given[0], split="val"), replace(given[1], split="train"), given[2], *rows(9, 10)]
    after = accounts.assign(looser, "two", splitter=never)
    assert [example.split for example in after.examples[:3]] == ["test", "val", "train"]


def test_a_copy_of_a_chosen_val_row_is_taken_out_of_train_in_every_run(accounts: Accounts) -> None:
    data = [*(replace(row, split="val") for row in rows(5)), *rows(20, 5), replace(rows(1)[0], id="copy")]
    data.append(edited(rows(2)[1]))
    kept = {row.id for row in rows(25)}
    for run in ("one", "two"):
        after = accounts.assign(data, run, splitter=split)
        assert {row.id for row in after.examples} == kept and len(names(after.examples, "val")) == 5
        assert after.searched == ()


def test_a_new_gate_takes_no_row_of_a_cluster_that_a_search_has_read(accounts: Accounts) -> None:
    old = [replace(row, cluster=f"user {n % 10}") for n, row in enumerate(rows(40))]
    accounts.assign(old, "one", splitter=split)
    new = [replace(row, cluster=f"user {n % 100}") for n, row in enumerate(rows(200, 40))]
    after = accounts.assign([*old, *new], "two", splitter=split)
    held = {row.cluster for row in after.examples if row.split == "val"}
    assert held and not held & {row.cluster for row in old} and after.searched == ()
    assert len(after.examples) == 240


def test_a_row_is_searched_when_its_cluster_was(accounts: Accounts) -> None:
    old = [replace(row, cluster="user") for row in rows(2)]
    accounts.assign([*old, *rows(9, 10)], "one", splitter=split)
    new = replace(rows(1, 30)[0], cluster="user", split="val")
    after = accounts.assign([*old, *rows(9, 10), new, replace(rows(1, 40)[0], split="val")], "two", splitter=split)
    assert names(after.examples, "val") == {"row-30", "row-40"} and after.searched == ("row-30",)
    assert "row-0" not in names(after.examples, "train") and "2 rows were taken out" in after.notes[0]


def test_a_val_row_that_nearly_repeats_a_test_row_is_taken_out_in_every_run(accounts: Accounts) -> None:
    data = [*(replace(row, split="val") for row in rows(5)), replace(edited(rows(1)[0]), split="test"), *rows(20, 5)]
    first, again = (accounts.assign(data, run, splitter=split).examples for run in ("one", "two"))
    assert first == again and "row-0" not in {row.id for row in again}
