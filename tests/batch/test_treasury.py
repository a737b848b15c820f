"""The ledger over nights and months: limits hold exactly, whatever dies, fills up or is damaged."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch.spend import Spend
from agent.batch.treasury import FILE, Grant, Scope, Treasury, room
from agent.errors import RunLocked, StoreError
from agent.lock import LOCK

JANUARY = time.mktime((2026, 1, 31, 22, 0, 0, 0, 0, -1))
CAPS = Scope("caps", {"evaluations": 100, "usd": 1.0}, night=1)


@pytest.fixture
def treasury(tmp_path: Path) -> Iterator[Treasury]:
    made = Treasury(tmp_path / "b")
    made.begin("2026-01-31-1", JANUARY, {"order": []})
    yield made
    made.close()


def spend(evaluations: float, usd: float = 0.0, possibly: float = 0.0) -> Spend:
    return Spend({"evaluations": evaluations, "usd": usd}, {"usd": possibly} if possibly else {})


def test_a_grant_counts_in_full_until_it_is_settled(treasury: Treasury) -> None:
    first = treasury.grant(1, "a", "search", "run-1", JANUARY, {"evaluations": 70}, [CAPS])
    assert first.limits == {"evaluations": 70, "usd": 1.0}
    second = treasury.grant(1, "b", "search", "run-2", JANUARY, {"evaluations": 70}, [CAPS])
    assert second.limits == {"evaluations": 30, "usd": 0.0}
    treasury.settle(first, JANUARY, spend(50, 0.25, possibly=0.125))
    treasury.settle(second, JANUARY, spend(0))
    third = treasury.grant(1, "b", "search", "run-3", JANUARY, {"evaluations": 70}, [CAPS])
    assert third.limits == {"evaluations": 50, "usd": 0.625}, "what was possibly spent counts"


def test_the_least_of_all_scopes_is_granted_and_named() -> None:
    grants = [
        Grant(1, 1, "a", "search", "r", 0.0, "2026-01", {}, spend(60)),
        Grant(2, 2, "b", "search", "s", 0.0, "2026-01", {}, spend(30)),
        Grant(3, 3, "a", "drift", "", 0.0, "2026-02", {}, spend(5)),
    ]
    scopes = [
        Scope("caps", {"evaluations": 100}, night=2),
        Scope("caps.month", {"evaluations": 130, "usd": 3.0}, month="2026-01"),
        Scope("problems.budget", {"evaluations": 80}, night=2, problem="a"),
        Scope("problems.month", {"evaluations": 75}, month="2026-01", problem="a"),
    ]
    found = room({"evaluations": 90, "seconds": 5}, scopes, grants)
    assert found.limits == {"evaluations": 15, "seconds": 5, "usd": 3.0}
    assert found.why == {"evaluations": "problems.month", "seconds": "its own budget", "usd": "caps.month"}


def test_a_run_that_goes_on_is_charged_the_difference_in_the_month_it_was_granted_in(treasury: Treasury) -> None:
    first = treasury.grant(1, "a", "search", "run", JANUARY, {"evaluations": 50}, [])
    treasury.settle(first, JANUARY, spend(40, 0.5))
    treasury.end(1, JANUARY, 0)
    later = JANUARY + 86400
    night = treasury.begin("2026-02-01-1", later, {"order": []})
    second = treasury.grant(night, "a", "search", "run", later, {"evaluations": 50}, [])
    treasury.settle(second, later, spend(65, 0.75).less(treasury.charged("run")))
    assert treasury.spend(month="2026-01").spent == {"evaluations": 40, "usd": 0.5}
    assert treasury.spend(month="2026-02").spent == {"evaluations": 25, "usd": 0.25}
    assert treasury.charged("run").spent == {"evaluations": 65, "usd": 0.75}
    assert treasury.spend(problem="a").to_json()["evaluations"] == 65


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), max_size=12))
def test_no_order_of_grants_and_settlements_passes_a_cap(work: list[tuple[int, float]]) -> None:
    grants: list[Grant] = []
    for wanted, used in work:
        limits = room({"evaluations": wanted}, [Scope("caps", {"evaluations": 100})], grants).limits
        settled = spend(int(limits["evaluations"] * used)) if used < 0.9 else None
        grants.append(Grant(0, 1, "a", "search", "", 0.0, "m", limits, settled))
        assert sum(grant.spend.counts("evaluations") for grant in grants) <= 100


def test_the_file_only_grows(treasury: Treasury) -> None:
    grant = treasury.grant(1, "a", "search", "run", JANUARY, {"evaluations": 5}, [])
    treasury.settle(grant, JANUARY, spend(5))
    with pytest.raises(StoreError):
        treasury.settle(grant, JANUARY, spend(1))
    with sqlite3.connect(treasury.folder / FILE) as db:
        for table in ("nights", "grants", "settlements", "outcomes", "ends"):
            for query in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = 9"):
                if db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                    with pytest.raises(sqlite3.Error, match="append-only"):
                        db.execute(query)
    db.close()


def test_what_was_stored_is_read_again_while_another_holds_the_lock(treasury: Treasury) -> None:
    treasury.grant(1, "a", "search", "run", JANUARY, {"evaluations": 5}, [])
    treasury.outcome(1, "a", "search", JANUARY, {"final": True, "released": {"text": "ünïcode \ud800"}})
    treasury.end(1, JANUARY + 1, 143)
    treasury.end(1, JANUARY + 2, 0)
    reader = Treasury(treasury.folder, write=False)
    (night,) = reader.nights()
    assert (night.name, night.code, night.ended) == ("2026-01-31-1", 0, JANUARY + 2)
    assert reader.grants() == treasury.grants()
    assert reader.outcomes("search")[0][2]["released"] == {"text": "ünïcode \ud800"}
    reader.close()


def test_a_batch_that_never_ran_has_nothing(tmp_path: Path) -> None:
    reader = Treasury(tmp_path / "none", write=False)
    assert reader.nights() == [] and reader.grants() == [] and not (tmp_path / "none").exists()


def test_the_second_process_is_told_who_has_it(treasury: Treasury) -> None:
    with pytest.raises(RunLocked, match=f"process {os.getpid()} works on the batch b") as locked:
        Treasury(treasury.folder)
    assert locked.value.exit_code == 75 and "--status" in locked.value.hint


HOLD = "import sys, time; from pathlib import Path; from agent.batch.treasury import Treasury\n"
HOLD += "Treasury(Path(sys.argv[1])); print('held', flush=True); time.sleep(300)"


def test_a_dead_process_locks_nobody_out_even_if_its_number_lives_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "b"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RunLocked) as locked:
            Treasury(tmp_path / "b")
        assert locked.value.pid == other.pid
        other.send_signal(signal.SIGKILL)
    (tmp_path / "b" / LOCK).write_text(str(os.getppid()))
    Treasury(tmp_path / "b").close()


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_file_spends_nothing_and_stays_as_it_is(tmp_path: Path, damage: str) -> None:
    made = Treasury(tmp_path / "b")
    made.begin("n-1", JANUARY, {"order": []})
    for number in range(50):
        made.settle(made.grant(1, "a" * 200, "search", f"r{number}", JANUARY, {}, []), JANUARY, spend(1))
    made.close()
    path = tmp_path / "b" / FILE
    content = path.read_bytes()
    changed = {
        "text": b"no database" * 99,
        "cut": content[: len(content) // 2],
        "flipped": content[:4096] + bytes(255 - b for b in content[4096:]),
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(StoreError) as wrong:
        broken = Treasury(tmp_path / "b")
        try:
            broken.grants(), broken.nights()
        finally:
            broken.close()
    assert str(path) in wrong.value.message and "backup" in wrong.value.hint
    assert path.read_bytes() == changed


def test_a_newer_file_asks_for_an_upgrade(tmp_path: Path) -> None:
    Treasury(tmp_path / "b").close()
    db = sqlite3.connect(tmp_path / "b" / FILE)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="newer version"):
        Treasury(tmp_path / "b")


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    made = Treasury(tmp_path / "b")
    made.begin("n-1", JANUARY, {"order": []})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(StoreError, match="cannot be written") as full:
            for number in range(500):
                made.outcome(1, "a", "search", JANUARY, {"number": number, "text": "x" * 5000, "final": False})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "free some space" in full.value.hint
    stored = [body["number"] for _, _, body in made.outcomes("search")]
    assert stored and stored == list(range(len(stored)))
    made.outcome(1, "a", "search", JANUARY, {"number": len(stored), "final": True})
    made.close()
