"""The error level belongs to rows: it outlives runs, ids, edits, crashes and processes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.datasets.data import split
from agent.errors import StoreError
from agent.gate.accountfile import FILE
from agent.gate.accounts import Accounts, Begun
from agent.gate.levels import level
from agent.problem import Example
from tests.gate.account_worker import edited, rows

ALPHA = 0.05
WORKER = Path(__file__).with_name("account_worker.py")


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def begin(accounts: Accounts, gate: Sequence[Example], run: str = "one", exam: int = 0, last: bool = True) -> Begun:
    return accounts.begin(run=run, exam=exam, rows=gate, alpha=ALPHA, last=last, planned=len(gate))


def examine(accounts: Accounts, gate: Sequence[Example], run: str = "one", exam: int = 0, **options: bool) -> Begun:
    """One exam from its begin to its end."""
    accepted = options.pop("accepted", False)
    begun = begin(accounts, gate, run, exam, **options)
    accounts.end(run=run, exam=exam, accepted=accepted, note={})
    return begun


# Levels.


def test_levels_follow_from_all_exams_on_the_rows_in_all_runs(accounts: Accounts) -> None:
    gate = rows(20)
    story = [  # run, exam, last, bit, then what counts: tests, accepts, number of the run, interim exams taken
        ("one", 0, False, True, 0, 0, 1, 0),
        ("one", 1, False, False, 1, 1, 1, 1),
        ("two", 0, False, True, 2, 1, 2, 0),
        ("one", 2, True, False, 3, 2, 1, 2),
        ("one", 3, False, False, 4, 2, 3, 0),  # it went on after its final exam, as a new run
        ("two", 1, True, False, 5, 2, 2, 1),
        ("three", 0, True, False, 6, 2, 4, 0),
    ]
    for run, exam, last, bit, tests, accepts, number, taken in story:
        begun = examine(accounts, gate, run, exam, last=last, accepted=bit)
        assert (begun.tests, begun.accepts, begun.number_of_run, begun.taken) == (tests, accepts, number, taken)
        expected = level(ALPHA, accepts=accepts, tests=tests, run=number, taken=taken, last=last)
        assert begun.level == expected and begun.pending == 0


def test_an_exam_that_never_ended_counts_as_either_outcome(accounts: Accounts) -> None:
    gate = rows(20)
    for exam in range(2):
        examine(accounts, gate, exam=exam, last=False, accepted=True)
    begin(accounts, gate, "crashed")
    begun = begin(accounts, gate, "later")
    assert (begun.tests, begun.accepts, begun.pending, begun.number_of_run) == (3, 2, 1, 3)
    outcomes = [level(ALPHA, accepts=2 + bit, tests=3, run=3, taken=0, last=True) for bit in (0, 1)]
    assert begun.level == pytest.approx(min(outcomes)) and max(outcomes) > 2 * min(outcomes)


@dataclass(frozen=True)
class Node:
    """Where a history of bits has come to: the file, each run's next exam, and the exams whose end is still to come."""

    folder: Path
    known: tuple[tuple[str, int, bool], ...] = ()
    exams: tuple[int, ...] = (0, 0, 0)
    waiting: tuple[tuple[str, int, bool], ...] = ()


def all_levels(node: Node, seed: int, depth: int, gate: Sequence[Example]) -> float:
    """The sum of the levels over all histories of bits, for a policy that knows those bits which have come out."""
    if depth == 0:
        return 0.0
    accounts, policy = Accounts(node.folder), random.Random(f"{seed} {depth} {node.known}")
    run, last = policy.randrange(3), policy.random() < 0.5
    name, exam = f"run-{run}", node.exams[run]
    total = begin(accounts, gate, name, exam, last).level
    assert begin(Accounts(node.folder), gate, name, exam, last).level == total  # as after a crash
    ends = [policy.random() < 0.6 for _ in (*node.waiting, None)]  # the others stay open: slow, or crashed
    exams = tuple(count + (place == run) for place, count in enumerate(node.exams))
    for bit in (False, True):
        folder = node.folder / str(bit)
        folder.mkdir()
        shutil.copy(node.folder / FILE, folder)
        known, waiting = list(node.known), []
        for told, item in zip(ends, (*node.waiting, (name, exam, bit)), strict=True):
            if told:
                Accounts(folder).end(run=item[0], exam=item[1], accepted=item[2], note={})
                known.append(item)
            else:
                waiting.append(item)
        total += all_levels(Node(folder, tuple(known), exams, tuple(waiting)), seed, depth - 1, gate)
    return total


@pytest.mark.parametrize("seed", range(2))
def test_the_levels_of_all_histories_of_all_runs_sum_to_at_most_alpha(tmp_path: Path, seed: int) -> None:
    total = all_levels(Node(tmp_path), seed, 6, rows(5))
    assert 0.25 * ALPHA < total <= ALPHA * (1 + 1e-9)


# The same exam again.


def test_an_exam_that_begins_again_is_charged_once(accounts: Accounts) -> None:
    gate = rows(20)
    first = begin(accounts, gate, last=False)
    assert begin(accounts, list(reversed(gate)), last=False) == first
    accounts.end(run="one", exam=0, accepted=True, note={"metric": "f1"})
    assert begin(accounts, gate, last=False) == replace(first, accepted=True)
    assert accounts.standing(gate, ALPHA).tests == 1


def test_an_exam_goes_on_as_it_began_or_not_at_all(accounts: Accounts) -> None:
    gate = rows(20)
    begin(accounts, gate)
    for other in ({"rows": gate[1:]}, {"alpha": 0.1}, {"last": False}, {"planned": 3}):
        given = {"rows": gate, "alpha": ALPHA, "last": True, "planned": 20, **other}
        with pytest.raises(StoreError, match="begun with other"):
            accounts.begin(run="one", exam=0, **given)  # type: ignore[arg-type]
    assert accounts.standing(gate, ALPHA).tests == 1


def test_a_verdict_stands(accounts: Accounts) -> None:
    gate = rows(20)
    with pytest.raises(StoreError, match="never begun"):
        accounts.end(run="one", exam=0, accepted=True, note={})
    examine(accounts, gate, accepted=True)
    accounts.end(run="one", exam=0, accepted=True, note={})
    with pytest.raises(StoreError, match="other verdict"):
        accounts.end(run="one", exam=0, accepted=False, note={})
    assert [exam.accepted for exam in accounts.history(gate)] == [True]


# Rows are known by what they say.


@pytest.mark.parametrize(
    "change",
    [
        lambda gate: [replace(row, id=f"new-{row.id}", row={**row.row, "id": 7 + n}) for n, row in enumerate(gate)],
        lambda gate: [replace(row, row={"question": f"  {row.row['question'].upper()}\n"}) for row in gate],
        lambda gate: [edited(row) for row in gate],
        lambda gate: [*rows(19, 100), gate[0]],
        lambda gate: [*rows(19, 100), edited(gate[0])],
    ],
    ids=["ids", "blanks and case", "a word in each row", "one row shared", "one near-duplicate shared"],
)
def test_a_gate_set_inherits_the_account_of_any_row_it_shares(accounts: Accounts, change) -> None:  # type: ignore[no-untyped-def]
    gate = rows(20)
    examine(accounts, gate)
    begun = examine(accounts, change(gate), "two")
    assert begun.accounts == (1,) and (begun.tests, begun.number_of_run) == (1, 2)
    assert begin(accounts, change(gate)[:1], "three").tests == 2  # what was new has joined


def test_rows_that_were_never_examined_have_all_of_alpha(accounts: Accounts) -> None:
    sums = [Example(f"s{n}", {"question": f"What is the sum of the two numbers {n} and {n + 1}?"}) for n in range(20)]
    examine(accounts, sums)
    others = [Example(f"t{n}", {"question": f"What is the sum of the two numbers {n} and {n + 2}?"}) for n in range(20)]
    for gate in (rows(20), others):
        begun = examine(accounts, gate, gate[0].id)
        assert begun.tests == 0 and begun.level == pytest.approx(0.75 * ALPHA)


def test_a_set_that_joins_two_accounts_is_charged_to_both_at_less_than_either(accounts: Accounts) -> None:
    left, right = rows(20), rows(20, 20)
    for exam in range(3):
        examine(accounts, left, exam=exam, last=False)
    examine(accounts, right, "two", accepted=True)
    examine(accounts, right, "three")
    both = examine(accounts, [*left[:10], *right[:10]], "four")
    assert both.accounts == (1, 2) and (both.tests, both.accepts, both.number_of_run) == (5, 1, 3)
    assert both.level == level(ALPHA, accepts=1, tests=5, run=3, taken=0, last=True)
    alone = [level(ALPHA, accepts=b, tests=m, run=r, taken=0, last=True) for b, m, r in ((0, 3, 2), (1, 2, 3))]
    assert both.level < min(alone)
    assert (begin(accounts, left, "five").tests, begin(accounts, right, "six").tests) == (4, 3)


def test_a_near_duplicate_of_two_accounts_brings_both_along_ever_after(accounts: Accounts) -> None:
    middle, head, tail = (row.row["question"] for row in (*rows(1, words=48), *rows(2, 1, words=8)))
    for run, text in (("one", f"{head} {middle}"), ("two", f"{middle} {tail}")):
        assert examine(accounts, [Example(run, text)], run).tests == 0
    for run in ("three", "four"):
        assert begin(accounts, [Example("middle", middle)], run).accounts == (1, 2)


# A human looks, and reports.


def test_after_a_human_opened_the_gate_every_later_exam_says_so(accounts: Accounts) -> None:
    gate = rows(20)
    before = examine(accounts, gate)
    accounts.open_gate(run="one", rows=gate[:1])
    assert begin(accounts, gate) == replace(before, accepted=False)
    begun = begin(accounts, [edited(row) for row in gate[5:]], "two")
    assert [look.run for look in begun.opened] == ["one"] and begun.opened[0].time > 1e9
    assert accounts.standing(gate, ALPHA).opened == begun.opened
    assert begin(accounts, rows(20, 50), "three").opened == ()


def test_rows_opened_before_any_exam_are_marked_too(accounts: Accounts) -> None:
    accounts.open_gate(run="zero", rows=rows(20))
    assert [look.run for look in begin(accounts, rows(20)).opened] == ["zero"]


def test_each_report_on_the_same_rows_has_a_smaller_level(accounts: Accounts) -> None:
    held = rows(20)
    examine(accounts, held)  # an exam is no report
    first = accounts.report(run="one", rows=held, alpha=ALPHA)
    assert first.number == 1 and first.level == pytest.approx(ALPHA * 0.607927, rel=1e-5)
    assert accounts.report(run="one", rows=held, alpha=ALPHA) == first
    others = [accounts.report(run=f"run {n}", rows=[edited(held[n]), *rows(3, 50)], alpha=ALPHA) for n in range(5)]
    assert [report.number for report in others] == [2, 3, 4, 5, 6] and others[0].level == pytest.approx(first.level / 4)
    assert accounts.report(run="fresh", rows=rows(5, 80), alpha=ALPHA).number == 1


def test_the_standing_says_what_is_left_and_when_no_exam_can_accept(accounts: Accounts, tmp_path: Path) -> None:
    gate = rows(8)
    fresh = accounts.standing(gate, ALPHA)
    assert (fresh.accounts, fresh.runs, fresh.left) == ((), 0, ALPHA) and not (tmp_path / FILE).exists()
    assert fresh.next == pytest.approx(0.75 * ALPHA) and fresh.needed == 5 and not fresh.exhausted
    begun = examine(accounts, gate)
    after = accounts.standing(gate, ALPHA)
    assert after.spent == begun.level and after.left == ALPHA - begun.level and after.runs == 1
    assert after.next == level(ALPHA, accepts=0, tests=1, run=2, taken=0, last=True)
    assert after.needed == 9 and after.exhausted and not accounts.standing(gate, 0.5).exhausted


def test_the_history_tells_every_exam_in_order(accounts: Accounts) -> None:
    gate = rows(20)
    examine(accounts, gate, last=False, accepted=True)
    begin(accounts, gate, "two")
    told = [(exam.run, exam.exam, exam.last, exam.planned, exam.accepted) for exam in accounts.history(gate)]
    assert told == [("one", 0, False, 20, True), ("two", 0, True, 20, None)]
    assert accounts.history(rows(5, 50)) == []


# The file.


def test_the_file_holds_no_content_and_no_measured_value(accounts: Accounts, tmp_path: Path) -> None:
    secret = [Example("canary-id", {"question": "canary " * 5 + " ".join(f"word{n}" for n in range(20))}, answer="mum")]
    accounts.assign([replace(secret[0], split="val"), *rows(5)], "one", splitter=split)
    begin(accounts, secret)
    for note in ({"effect": "x"}, {"metric": 0.31}, {"method": "x" * 101}):
        with pytest.raises(ValueError, match="a note holds"):
            accounts.end(run="one", exam=0, accepted=True, note=note)  # type: ignore[arg-type]
    accounts.end(run="one", exam=0, accepted=True, note={"method": "sign test"})
    held = (tmp_path / FILE).read_bytes()
    assert b"sign test" in held and not any(word in held for word in (b"canary", b"word7", b"mum"))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"", b"no database" * 500], ids=["empty", "garbage"])
def test_a_damaged_file_is_no_fresh_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    for call in (lambda a: begin(a, rows(5)), lambda a: a.standing(rows(5), ALPHA)):
        with pytest.raises(StoreError, match="cannot be read") as caught:
            call(Accounts(tmp_path))
        assert "backup" in caught.value.hint
    assert (tmp_path / FILE).read_bytes() == content


def test_a_file_of_a_newer_version_is_left_alone(accounts: Accounts, tmp_path: Path) -> None:
    examine(accounts, rows(5))
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer version"):
        begin(accounts, rows(5), "two")


def test_what_was_charged_cannot_be_deleted_or_changed(accounts: Accounts, tmp_path: Path) -> None:
    examine(accounts, rows(5))
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        for statement in ("DELETE FROM exams", "DELETE FROM charges", "UPDATE exams SET accepted = 1"):
            with pytest.raises(sqlite3.IntegrityError, match="never given back"):
                db.execute(statement)


def test_a_network_mount_is_refused(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.lock.filesystem", lambda path: "nfs4")
    with pytest.raises(StoreError, match="network mount"):
        begin(accounts, rows(5))


# Processes.


def worker(folder: Path, run: str, count: int, how: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[2])}
    command = [sys.executable, str(WORKER), str(folder), run, str(count), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_processes_never_lose_or_double_a_charge(tmp_path: Path) -> None:
    running = [worker(tmp_path, run, 30) for run in ("one", "two")]
    said = [process.communicate(timeout=60)[0].splitlines() for process in running]
    counted = [int(line.split()[2]) for lines in said for line in lines if line.startswith("begun")]
    assert sorted(counted) == list(range(60))  # each exam saw all that had begun before it
    exams = Accounts(tmp_path).history(rows(20))
    assert len(exams) == 60 and all(exam.accepted is not None for exam in exams)
    assert sum(bool(exam.accepted) for exam in exams) == 20


@pytest.mark.parametrize("lines", [1, 6, 21])
def test_a_killed_process_gives_nothing_back(tmp_path: Path, lines: int) -> None:
    with worker(tmp_path, "one", 10**6) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += [line.split() for line in process.stdout if line.endswith("\n")]
    accounts, gate = Accounts(tmp_path), rows(20)
    found = {exam.exam: exam for exam in accounts.history(gate)}
    for kind, exam, *rest in said:
        if kind == "begun":
            assert found[int(exam)].level == float.fromhex(rest[1])
        else:
            assert found[int(exam)].accepted == (int(exam) % 3 == 0)
    last = max(found)
    resumed = accounts.begin(run="one", exam=last, rows=gate, alpha=ALPHA, last=False, planned=20)
    assert resumed.level == found[last].level and accounts.standing(gate, ALPHA).tests == len(found)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with worker(tmp_path, "one", 100, "full") as process:
        said = process.communicate(timeout=60)[0].splitlines()
    assert said[-1].startswith("error cannot use") and "free some space" in said[-1]
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        begun = sum(line.startswith("begun") for line in said)
        assert db.execute("SELECT count(*), count(DISTINCT exam) FROM charges").fetchone() == (begun, begun)
        assert db.execute("SELECT count(*) FROM members").fetchone() == (40 * begun,) and begun > 0


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examine(Accounts(folder), rows(20), "before")
        (folder / FILE).chmod(0o444)
        folder.chmod(0o555)
        with worker(folder, "one", 1, "readonly") as process:
            said = process.communicate(timeout=60)[0]
        folder.chmod(0o755)
        assert said.startswith("error cannot use") and "permissions" in said
        assert len(Accounts(folder).history(rows(20))) == 1
