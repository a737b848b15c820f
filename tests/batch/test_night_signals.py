"""Who hears a signal, a request to stop and the end of a night, at each moment of a night."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent.batch import work
from agent.batch.plan import load
from agent.batch.stopping import Deadline
from agent.control import client
from agent.control.server import listening
from agent.results.result import Result
from tests.batch.support import Clock, batch, bowl, one_night, problems
from tests.cli_helpers import GATED, TOML, begin, cli, finish, folder, until

QUIET = '[drift]\nsplit = "off"\n'
START = time.mktime((2026, 3, 2, 22, 0, 0, 0, 0, -1))


def two(place: Path, head: str = QUIET) -> Path:
    """A batch of two problems."""
    for name in "ab":
        bowl(place / name, evaluations=30)
    return batch(place, head, "a", "b")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("do", ["stop", "stop-now"])
def test_a_run_that_is_stopped_by_hand_stops_no_other_problem(tmp_path: Path, do: str) -> None:
    place = folder(tmp_path / "a", TOML, GATED)
    bowl(tmp_path / "b")

    def by_hand() -> None:
        until(place / "count", 5)
        (run,) = (tmp_path / "runs").glob("a-*")
        client.ask(run, do)
        (place / "go").touch()

    thread = threading.Thread(target=by_hand)
    thread.start()
    done = one_night(batch(tmp_path, QUIET, "a", "b"))
    thread.join()
    found = problems(done)
    assert done.code == 75 == found["a"]["exit_code"] and found["a"]["status"] == "open"
    assert found["b"]["status"] == "exact" and found["b"]["spent"]["evaluations"] == 12


def test_a_signal_before_the_run_listens_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = work.search

    async def search(*given: Any) -> Any:
        (deadline,) = (each for each in given if isinstance(each, Deadline))
        terminate()
        while not deadline._signals.code:
            await asyncio.sleep(0.001)
        return await real(*given)

    monkeypatch.setattr(work, "search", search)
    done = one_night(two(tmp_path))
    found = problems(done)
    assert done.code == 143 and found["a"]["status"] == "open" and found["b"]["status"] == "waiting"
    assert found["a"]["spent"]["evaluations"] <= 1


def test_a_signal_between_two_runs_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Result.save

    def save(result: Result) -> None:
        terminate()
        real(result)

    monkeypatch.setattr(Result, "save", save)
    done = one_night(two(tmp_path))
    found = problems(done)
    assert done.code == 143 and found["a"]["status"] == "exact" and found["b"]["spent"]["evaluations"] <= 1


def test_signals_go_to_the_innermost_that_wants_them_and_back_to_who_had_them_before() -> None:
    heard: list[str] = []

    async def through() -> None:
        def outer(number: signal.Signals) -> bool:
            heard.append("outer")
            return True

        def inner(number: signal.Signals) -> bool:
            heard.append("inner")
            return len(heard) == 1

        async def sent(count: int) -> None:
            terminate()
            while len(heard) < count:
                await asyncio.sleep(0.001)

        with listening(outer):
            with listening(inner):
                await sent(1)
                await sent(3)
            await sent(4)

    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("caller"))
    try:
        asyncio.run(asyncio.wait_for(through(), 60))
        terminate()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["inner", "inner", "outer", "outer", "caller"]


def test_a_night_that_ends_before_its_run_is_under_way_stops_it(tmp_path: Path) -> None:
    clock = Clock(START)

    def say(level: str, event: str, text: str, /, **fields: Any) -> None:
        clock.now += 70.0 if event == "problem.started" else 0.0

    found = problems(one_night(two(tmp_path), clock, {"until": "60s"}, say=say))
    assert found["a"]["detail"] == "the night is over" and found["a"]["spent"]["evaluations"] <= 1
    assert found["b"]["detail"] == "the night was over before its turn came"


def test_a_night_that_ends_while_a_run_is_planned_begins_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = Clock(START), work.forecast

    async def slow(*given: Any) -> Any:
        clock.now += 70.0
        return await real(*given)

    monkeypatch.setattr(work, "forecast", slow)
    done = one_night(two(tmp_path), clock, {"until": "60s"})
    assert {p["detail"] for p in problems(done).values()} == {"the night was over before its turn came"}
    assert not list((tmp_path / "runs").glob("a-*"))


def test_codes_of_an_earlier_process_are_not_those_of_this_one(tmp_path: Path) -> None:
    file = two(tmp_path)
    seen: list[int] = []

    def stop(event: Any, state: object) -> None:
        if event.type == "evaluation.ended" and not seen:
            seen.append(1)
            terminate()

    first = one_night(file, observers=(stop,))
    from agent.batch.night import night

    second = asyncio.run(night(load(file).only(("b",))))
    assert first.code == 143 and problems(first)["a"]["status"] == "open"
    assert second.name == first.name and second.code == 0 and problems(second)["b"]["status"] == "exact"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_night_that_is_cut_off_while_it_is_told_is_told_again(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    told = tmp_path / "told"
    file = batch(tmp_path, QUIET, "a")
    command = f"sleep 300 & echo $! > {told}.new; mv {told}.new {told}; wait"
    process = begin("batch", file, "--json", "--on-finish", command, cwd=tmp_path)
    end = time.monotonic() + 120
    while not told.exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    cut = finish(process)
    assert cut.code == 143 == cut.json["exit_code"], cut.err
    while _lives(int(told.read_text())):
        assert time.monotonic() < end, "what the command had started is killed with it"
        time.sleep(0.02)
    again = cli("batch", file, "--json", "--on-finish", f"echo again > {told}", cwd=tmp_path)
    assert again.code == 0 and again.json["night"] == cut.json["night"], "no second night's caps"
    assert told.read_text() == "again\n" and again.json["spent"]["night"]["evaluations"] == 12
    assert cli("batch", file, "--json", cwd=tmp_path).json["night"] != cut.json["night"]


def test_a_batch_that_cannot_begin_tells_so(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, QUIET, "a")
    ledger = tmp_path / "runs" / "batches" / "nightly" / "nights.sqlite"
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b"nonsense" * 1000)
    told = tmp_path / "told"
    command = f'echo "$TRUEGAIN_NAME $TRUEGAIN_STATUS $TRUEGAIN_EXIT_CODE" > {told}'
    ran = cli("batch", file, "--json", "--on-finish", command, cwd=tmp_path)
    assert ran.code == 1 and json.loads(ran.out)["error"]["kind"] == "store"
    assert told.read_text() == "nightly failed 1\n"
