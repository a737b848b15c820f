"""What was measured at night survives: limits, kills, a damaged file, a full disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.batch import measured as measured_module
from agent.batch import measuring
from agent.batch.measured import Measured, Measurements, Spent
from agent.batch.measuring import Interrupted
from agent.batch.rescore import Rescore, rescore, spent
from agent.config import load
from agent.errors import StoreError
from agent.evaluation import Output, Request
from agent.setup import Setup
from tests.batch.rescore_support import ON_ROWS, again, data_folder, measured, setup
from tests.batch.support import Clock
from tests.cli_helpers import environment, kill, until
from tests.row_support import problem as on_rows
from tests.row_support import rows as questions
from tests.support import Direct

# Limits, kills and the store


def test_no_more_than_allowed_is_measured_and_a_second_call_measures_the_rest(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "drift.sqlite"
    assert again(load(place), store, 1, most=0).evaluations == 0
    assert not (place / "measured").exists()
    part = again(load(place), store, 1, most=15.5)
    assert part.evaluations == 15 and len(measured(place)) == 15
    assert again(load(place), store, 1, most=15).evaluations == 15
    whole = again(load(place), store, 1, most=100)
    assert whole.evaluations == 40 and sorted(measured(place)) == sorted(set(measured(place)))
    assert again(load(place), store, 1, most=float("inf")) == whole
    few = again(load(place), store, 2, most=15)
    assert few.rows == 15 and not few.first and "25 of 40 rows were not reached" in few.sentence
    none = again(load(place), store, 3, most=0)
    assert "nothing was measured" in none.sentence and (few.unreached, none.unreached, whole.unreached) == (25, 40, 0)


class Costs(Direct):
    """Each evaluation costs a dollar, or takes so many seconds of a clock that the test turns."""

    def __init__(self, given: Setup, clock: Clock, usd: float = 0.0, seconds: float = 0.0) -> None:
        super().__init__(given.problem)
        self.clock, self.usd, self.took = clock, usd, seconds

    async def submit(self, request: Request, partial: Any = None) -> Output:
        self.clock.now += self.took
        if self.usd:
            await asyncio.sleep(0)  # others may begin meanwhile
        return replace(await super().submit(request), usd=self.usd)


def test_dollars_and_seconds_end_it_in_time_and_what_was_not_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, clock = setup(on_rows(data=questions(30))), Clock(0.0)
    given = replace(plain, settings=replace(plain.settings, workers=4))
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=clock))

    def night(number: int, name: str = "drift.sqlite", **more: Any) -> Rescore:
        limits = {key: more.pop(key) for key in ("seconds", "usd") if key in more}
        cost = {"usd": more.pop("each", 0.0), "seconds": more.pop("takes", 0.0)}
        return again(given, tmp_path / name, number, executor=Costs(given, clock, **cost), **limits)

    whole = night(1, each=1.0)
    assert (whole.usd, whole.unreached) == (30, 0)
    for number, usd, begun in ((2, 7.0, 7), (3, 6.9, 6), (4, 0.0, 0)):  # what one costs is known from the first night
        found = night(number, usd=usd, each=1.0)
        assert (found.evaluations, found.unreached) == (begun, 30 - begun)
        assert f"{30 - begun} of 30 rows were not reached" in found.sentence
    rest = night(2, usd=100.0, each=1.0)
    assert (rest.evaluations, rest.unreached) == (30, 0)
    # Of a first night nobody knows what one costs, so one alone is measured to know it.
    assert night(1, "new.sqlite", usd=0.5, each=1.0).evaluations == 1
    assert night(1, "free.sqlite", usd=0.0).unreached == 0
    assert night(1, "slow.sqlite", seconds=9.0, takes=2.0).evaluations == 4
    assert night(2, "slow.sqlite", seconds=0.0, takes=2.0).evaluations == 0


def test_the_seconds_of_evaluations_side_by_side_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(100.0)
    monkeypatch.setattr(measured_module, "time", SimpleNamespace(time=clock))
    with Measurements(tmp_path / "drift.sqlite") as known:
        number = known.night("p", "1", "c", "e", "d", {})
        both = [known.begin(number, name, "") for name in "ab"]
        for one, ended in zip(both, (103.0, 104.0), strict=True):
            clock.now = ended
            known.end(one, Measured("a", {"x": 1.0}), 0.0, 4.0)
        clock.now = 110.0
        last = known.begin(number, "c", "")
        clock.now = 111.5
        known.end(last, Measured("c", {"x": 1.0}), 0.0, 1.5)
        assert known.spent("p", "1") == Spent(3, 0, 0.0, 5.5)


def test_asked_to_come_to_rest_it_finishes_what_is_in_flight_and_counts_nothing_that_never_began(
    tmp_path: Path,
) -> None:
    rest = asyncio.Event()

    class Heard(Direct):
        async def submit(self, request: Request, partial: Any = None) -> Output:
            if len(self.requests) == 5:
                rest.set()
            await asyncio.sleep(0)  # the others are waiting for a place by now
            return await super().submit(request)

    given, store = setup(on_rows(data=questions(30))), tmp_path / "drift.sqlite"
    executor = Heard(given.problem)
    with pytest.raises(Interrupted, match="the night ended before all of it was measured"):
        again(given, store, 1, executor=executor, rest=rest)
    kept = spent(store, "questions", "1")
    assert (kept.evaluations, kept.possibly) == (len(executor.requests), 0) and 6 <= kept.evaluations < 30
    more = Direct(given.problem)
    found = again(given, store, 1, executor=more, rest=asyncio.Event())
    assert (found.evaluations, found.unreached, found.possibly) == (30, 0, 0)
    rest.set()
    assert again(given, store, 1, executor=more, rest=rest) == found  # there was nothing left to do


KILLED = """
import asyncio, sys
from pathlib import Path
from agent.batch.rescore import rescore
from agent.config import load

given = load(Path(sys.argv[1]))
asyncio.run(rescore(given, given.problem.initial(), store=Path(sys.argv[2]), night="1", most=100))
"""


def test_a_kill_loses_nothing_and_what_was_cut_off_is_possibly_spent(tmp_path: Path) -> None:
    waiting = ON_ROWS.replace("def measure(candidate, row):", "def measure(candidate, row):\n    wait()") + (
        "\nimport time\ndef wait():\n"
        "    count = (HERE / 'measured').read_text().count('\\n') if (HERE / 'measured').exists() else 0\n"
        "    while count >= 7 and not (HERE / 'go').exists():\n"
        "        (HERE / 'stuck').write_text('x'); time.sleep(0.02)\n"
    )
    place, store = data_folder(tmp_path / "p", evaluate=waiting), tmp_path / "drift.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED, str(place), str(store)],
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(place / "stuck", 1)
    finally:
        kill(process)
    (place / "go").touch()
    before = spent(store, "p", "1")
    assert before.evaluations == 7 and before.possibly == load(place).settings.workers
    found = again(load(place), store, 1)
    assert (found.evaluations, found.possibly) == (40, before.possibly)
    assert sorted(set(measured(place))) == sorted(measured(place))  # those that were stuck had not measured yet
    assert again(load(place), store, 2).drifts == ()
    assert spent(tmp_path / "none.sqlite", "p", "1").evaluations == 0


def test_what_is_possibly_spent_counts_against_the_limit(tmp_path: Path) -> None:
    class Hangs(Direct):
        async def submit(self, request: Request) -> Output:
            if len(self.requests) >= 5:
                await asyncio.sleep(60)
            return await super().submit(request)

    given, store = setup(on_rows(data=questions(30))), tmp_path / "drift.sqlite"

    async def cut() -> None:
        task = asyncio.create_task(
            rescore(given, given.problem.initial(), store=store, night="1", most=9, executor=Hangs(given.problem))
        )
        while spent(store, "questions", "1").possibly == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    lost = spent(store, "questions", "1").possibly
    found = again(given, store, 1, most=9, executor=Direct(given.problem))
    assert lost >= 1 and found.evaluations + found.possibly == 9 and found.possibly == lost


def test_a_damaged_store_says_what_to_do_and_measures_nothing(tmp_path: Path) -> None:
    place, store = data_folder(tmp_path / "p"), tmp_path / "drift.sqlite"
    store.write_bytes(b"this is no database, and was never one" * 100)
    with pytest.raises(StoreError, match=r"drift.sqlite cannot be read") as error:
        again(load(place), store, 1)
    assert "move it away" in error.value.hint and not (place / "measured").exists()
    store.unlink()
    again(load(place), store, 1, rows=5)
    with sqlite3.connect(store) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer version"):
        again(load(place), store, 2)


def test_a_full_disk_ends_it_before_anything_more_is_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, store = setup(on_rows(data=questions(500, split="train"))), tmp_path / "drift.sqlite"
    real = Measurements.before

    def small(self: Measurements, problem: str, night: str) -> Any:
        self._db.execute(f"PRAGMA max_page_count={self._db.execute('PRAGMA page_count').fetchone()[0] + 6}")
        return real(self, problem, night)

    monkeypatch.setattr(Measurements, "before", small)
    executor = Direct(given.problem)
    with pytest.raises(StoreError, match="disk is full") as error:
        again(given, store, 1, executor=executor, rows=500, most=500)
    assert "free some space" in error.value.hint and 0 < len(executor.requests) < 200
    monkeypatch.undo()
    kept, more = spent(store, "questions", "1"), Direct(given.problem)
    assert kept.evaluations + kept.possibly >= len(executor.requests)
    found = again(given, store, 1, executor=more, rows=500, most=500)
    assert found.evaluations == found.wanted == kept.evaluations + len(more.requests)


def test_what_was_measured_cannot_be_changed_and_holds_no_row_and_no_key(tmp_path: Path) -> None:
    store = tmp_path / "drift.sqlite"

    def leaky(candidate: Any, row: Any) -> float:
        raise RuntimeError("no: api_key=sk-abcdefghijklmnopqrstuvwxyz123456\nsecond line")

    given = setup(on_rows(leaky, questions(30)))
    found = again(given, store, 1, executor=Direct(given.problem))
    assert (found.failed, found.scored, found.mean) == (30, 0, None) and "nothing has a score: 30" in found.sentence
    with sqlite3.connect(store) as db:
        for table in ("begun", "ended", "nights"):
            with pytest.raises(sqlite3.IntegrityError, match="stays"):
                db.execute(f"DELETE FROM {table}")
        text = "\n".join(db.iterdump())
    assert "sk-abc" not in text and "second line" not in text and questions(1)[0].row["question"] not in text
    assert os.stat(store).st_mode & 0o077 == 0


def test_two_processes_that_make_the_store_at_once_both_get_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from agent.batch.measured import Measurements as Store\n"
        "Store(Path(sys.argv[1])).close()"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", script, str(tmp_path / "drift.sqlite")],
            env={**environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
