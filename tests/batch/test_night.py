"""One night after another: where each begins, what it may spend, and that one problem never stops the others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch.plan import load
from agent.batch.spend import Spend
from agent.batch.treasury import Treasury
from agent.journal import FILE
from agent.lock import problem_lock
from agent.results.result import load_result, load_state
from tests.batch.support import Clock, batch, bowl, one_night, problems, provider
from tests.cli_helpers import folder
from tests.fake_provider import Request, error

DAY = 86400.0
QUIET = '[drift]\nsplit = "off"\n'
START = time.mktime((2026, 3, 2, 22, 0, 0, 0, 0, -1))


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


def runs(place: Path, problem: str) -> list[Path]:
    return sorted(path for path in (place / "runs").glob(f"{problem}-*") if path.is_dir())


def test_a_night_begins_with_what_the_last_one_released(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    first = problems(one_night(file, clock))["a"]
    clock.now += DAY
    second = problems(one_night(file, clock))["a"]
    assert first["status"] == second["status"] == "exact"
    assert second["initial_from"] == first["run"]
    before, after = (load_result(tmp_path / "runs" / p["run"]) for p in (first, second))
    assert after.initial == before.released != before.initial
    states = [load_state(tmp_path / "runs" / p["run"]) for p in (first, second)]
    assert [state.seed for state in states] == [0, 1], "it looks at other candidates than last night"
    assert first["drift"]["first"] and "no earlier night" in first["drift"]["sentence"]


def test_files_that_the_user_changed_go_first(tmp_path: Path, clock: Clock) -> None:
    place = bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    first = problems(one_night(file, clock))["a"]
    toml = place / "problem.toml"
    toml.write_text(toml.read_text().replace("default = 0.9", "default = 0.8"))
    clock.now += DAY
    second = problems(one_night(file, clock))["a"]
    assert second["initial_from"] == "" and any(first["run"] in note for note in second["notes"])
    assert load_result(tmp_path / "runs" / second["run"]).initial["x"] == 0.8


def test_released_values_outlive_their_run(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    first = problems(one_night(file, clock))["a"]
    shutil.rmtree(tmp_path / "runs" / first["run"])
    clock.now += DAY
    second = problems(one_night(file, clock))["a"]
    assert load_result(tmp_path / "runs" / second["run"]).initial.values_json == first["released"]


def test_one_failing_problem_stops_no_other(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "typo", toml="\n[nonsense]\n")
    folder(tmp_path / "broken", evaluate="def measure(candidate): raise OSError('no <b>disk</b> | `here`')")
    bowl(tmp_path / "small", evaluations=2)
    bowl(tmp_path / "well")
    file = batch(tmp_path, "", "typo\npriority=9", "missing\npriority=8", "broken\npriority=7", "small", "well")
    done = one_night(file, clock)
    found = problems(done)
    assert {name: problem["exit_code"] for name, problem in found.items()} == {
        "typo": 2,
        "missing": 2,
        "broken": 3,
        "small": 2,
        "well": 0,
    }
    assert done.code == 2, "a wrong configuration is worse than a broken evaluator"
    assert "nonsense" in found["typo"]["detail"] and "typo/problem.toml" in found["typo"]["detail"]
    assert "at least" in found["small"]["detail"]
    assert found["well"]["status"] == "exact" and found["broken"]["status"] == "failed"
    text = (done.folder / "summary.md").read_text()
    assert "<b>" not in text.replace("\\<b\\>", "") and "| typo | failed |" in text
    only = load(file).only(("broken", "well"))
    assert [entry.name for entry in only.entries] == ["broken", "well"]


def test_a_provider_that_refuses_is_not_asked_again_and_its_run_goes_on_the_next_night(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    from tests.batch.support import think

    working = False

    def answer(request: Request) -> object:
        return think(request) if working else error(401, "invalid_api_key")

    with provider(answer) as server:
        model = f'\n[models]\npropose = "openai:fake"\nbase_url = "{server.url}"\n'
        for name in ("first", "second"):
            bowl(tmp_path / name, toml=model, **{'"coordinate"': '"evollm"'})
        bowl(tmp_path / "classical")
        file = batch(tmp_path, '[drift]\nsplit = "off"', "first\npriority=2", "second\npriority=1", "classical")
        done = one_night(file, clock)
        found = problems(done)
        assert done.code == 69
        assert found["first"]["status"] == "open" and found["first"]["exit_code"] == 69
        assert found["second"]["status"] == "skipped" and "refused" in found["second"]["detail"]
        assert found["classical"]["status"] == "exact"
        asked = server.calls
        assert len(runs(tmp_path, "second")) == 0 and asked >= 1
        clock.now += DAY
        working = True
        again = one_night(file, clock)
        found = problems(again)
    assert again.code == 0 and again.name == "2026-03-03-1"
    assert "goes on" in found["first"]["notes"][0] and found["first"]["status"] != "open"
    assert len(runs(tmp_path, "first")) == 1 and found["second"]["spent"]["calls"] > 0
    assert load_state(tmp_path / "runs" / found["first"]["run"]).ledger.evaluations == 12


def test_caps_of_night_and_month_hold_and_nothing_done_is_never_0(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "a")
    bowl(tmp_path / "b")
    head = "[caps]\nevaluations = 20\n[caps.month]\nevaluations = 36\n"
    file = batch(tmp_path, head, "a", "b")
    first = one_night(file, clock)
    found = problems(first)
    assert [found[name]["spent"]["evaluations"] for name in "ab"] == [14, 6], "re-scored first, then in order"
    assert found["b"]["granted"] == {"evaluations": 4} and first.code == 0
    clock.now += DAY
    second = one_night(file, clock)
    assert second.document["spent"]["month"]["evaluations"] == 36
    assert "caps.month.evaluations: 36 of 36 is used (100%)" in second.document["warnings"]
    clock.now += DAY
    third = one_night(file, clock)
    assert third.code == 75 and third.document["spent"]["night"]["evaluations"] == 0
    assert all("nothing is left of caps.month.evaluations" in p["detail"] for p in problems(third).values())
    clock.now += 31 * DAY
    assert one_night(file, clock).code == 0, "a new month"


def test_what_costs_money_is_not_measured_when_none_is_left(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "dear")
    bowl(tmp_path / "free")
    file = batch(tmp_path, "[caps.month]\nusd = 1.0\n", "dear", "free")
    treasury = Treasury(load(file).folder)
    earlier = treasury.begin("2026-03-01-1", START - DAY, {"order": []})
    grant = treasury.grant(earlier, "dear", "search", "old", START - DAY, {}, [])
    treasury.settle(grant, START - DAY, Spend({"usd": 1.5}, roles={"propose": {"usd": 0.5}}))
    treasury.end(earlier, START - DAY, 0)
    treasury.close()
    done = one_night(file, clock)
    found = problems(done)
    assert found["dear"]["detail"] == "nothing is left of caps.month.usd"
    assert found["dear"]["spent"]["evaluations"] == 0 and found["free"]["spent"]["evaluations"] == 14


def test_dollars_without_a_price_are_refused_and_nothing_is_kept_of_the_run(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    model = '\n[models]\npropose = "openai:fake"\nbase_url = "http://127.0.0.1:9"\n'
    bowl(tmp_path / "a", toml=model, **{'"coordinate"': '"evollm"'})
    bowl(tmp_path / "b")
    file = batch(tmp_path, QUIET + "[caps]\nusd = 1.0\n", "a", "b")
    done = one_night(file, clock)
    found = problems(done)
    assert done.code == 2 and "price" in found["a"]["detail"] and found["b"]["status"] == "exact"
    assert not runs(tmp_path, "a") and found["a"]["spent"]["possibly_spent"] == {}


def test_limits_of_a_problem_hold_for_its_night_and_its_month(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, '[drift]\nsplit="off"', "a\nbudget = {evaluations = 8}\nmonth = {evaluations = 13}")
    spent = []
    for _ in range(3):
        done = one_night(file, clock)
        spent.append((done.code, done.document["spent"]["night"]["evaluations"]))
        clock.now += DAY
    assert spent == [(0, 8), (0, 5), (75, 0)]


def test_drift_is_told_when_nothing_is_searched_or_may_be_spent(tmp_path: Path, clock: Clock) -> None:
    place = bowl(tmp_path / "a")
    file = batch(tmp_path, "[caps.month]\nevaluations = 5\n", "a")
    first = one_night(file, clock, search=False)
    assert first.code == 0 and first.document["spent"]["night"]["evaluations"] == 2
    assert not runs(tmp_path, "a")
    clock.now += DAY
    code = (place / "evaluate.py").read_text()
    (place / "evaluate.py").write_text(code.replace("return value", "return 0.5 + value"))
    second = one_night(file, clock, search=False)
    kinds = [drift["kind"] for drift in problems(second)["a"]["drift"]["drifts"]]
    assert "evaluator" in kinds and "1 change by drift" in second.document["sentence"]
    assert "**changed**" in (second.folder / "summary.md").read_text()
    clock.now += DAY
    third = one_night(file, clock, search=False)
    assert third.document["spent"]["month"]["evaluations"] == 5, "never more than the cap"
    clock.now += DAY
    (place / "evaluate.py").write_text(code)
    fourth = one_night(file, clock, search=False)
    assert fourth.code == 75 and fourth.document["spent"]["night"]["evaluations"] == 0
    assert [drift["kind"] for drift in problems(fourth)["a"]["drift"]["drifts"]] == ["evaluator"], "it costs nothing"


SLOW = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate, seed=0, replicate=0):
    with open(HERE / "count", "a") as file:
        file.write(".")
    while (HERE / "count").stat().st_size == 6 and not (HERE / "go").exists():
        time.sleep(0.02)
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
"""
"""The sixth measurement waits until there is a file `go`."""


def test_what_the_end_of_the_night_cuts_off_goes_on_the_next_night(tmp_path: Path, clock: Clock) -> None:
    place = folder(tmp_path / "a", evaluate=SLOW)
    file = batch(tmp_path, '[caps]\nevaluations = 9\n[drift]\nsplit = "off"', "a")

    def say(level: str, event: str, text: str, /, **fields: object) -> None:
        return None

    def watch(event: object, state: object) -> None:
        if getattr(event, "type", "") == "stop.requested" and event.reason == "terminated":  # type: ignore[attr-defined]
            (place / "go").touch()

    first = one_night(file, clock, {"until": "3s"}, say=say, observers=[watch])
    found = problems(first)["a"]
    assert found["status"] == "open" and found["exit_code"] == first.code == 75
    assert found["detail"] == "the night is over" and found["spent"]["evaluations"] == 6
    clock.now += DAY
    second = one_night(file, clock)
    found = problems(second)["a"]
    assert second.code == 0 and second.name != first.name and found["status"] == "exact"
    assert found["granted"] == {"evaluations": 6}, "what its own budget of 12 has left, within a new night's cap"
    assert len(runs(tmp_path, "a")) == 1
    assert load_state(runs(tmp_path, "a")[0]).ledger.evaluations == 12
    assert [night["evaluations"] for night in _spent(file)] == [6, 6], "each night is charged with its own"


def _spent(file: Path) -> list[dict[str, float]]:
    treasury = Treasury(load(file).folder, write=False)
    out = [dict(treasury.spend(night=row.id).spent) for row in treasury.nights()]
    treasury.close()
    return out


@contextlib.contextmanager
def unfinished(tmp_path: Path, clock: Clock) -> Iterator[tuple[Path, Path]]:
    """A batch whose only run was cut off by the end of the night, and its problem."""
    place = folder(tmp_path / "a", evaluate=SLOW)
    file = batch(tmp_path, '[drift]\nsplit = "off"', "a")

    def watch(event: object, state: object) -> None:
        if getattr(event, "type", "") == "stop.requested" and event.reason == "terminated":  # type: ignore[attr-defined]
            (place / "go").touch()

    assert problems(one_night(file, clock, {"until": "3s"}, observers=[watch]))["a"]["status"] == "open"
    clock.now += DAY
    yield file, place


def test_a_run_whose_evaluator_changed_is_given_up_and_a_new_one_begins(tmp_path: Path, clock: Clock) -> None:
    with unfinished(tmp_path, clock) as (file, place):
        (place / "evaluate.py").write_text(SLOW + "\n# changed\nCHANGED = 1\n")
        done = one_night(file, clock)
    found = problems(done)["a"]
    assert done.code == 0 and found["status"] == "exact" and len(runs(tmp_path, "a")) == 2
    assert "is given up" in found["notes"][0] and "evaluator" in found["notes"][0]
    clock.now += DAY
    assert problems(one_night(file, clock))["a"]["notes"] == []


def test_a_run_that_is_damaged_is_given_up_and_counts_as_it_was_settled(tmp_path: Path, clock: Clock) -> None:
    with unfinished(tmp_path, clock) as (file, _):
        (runs(tmp_path, "a")[0] / FILE).write_bytes(b"nonsense" * 1000)
        done = one_night(file, clock)
    found = problems(done)["a"]
    assert done.code == 0 and "is given up" in found["notes"][0]
    assert [night["evaluations"] for night in _spent(file)] == [6, 12]


def test_resuming_may_be_turned_off(tmp_path: Path, clock: Clock) -> None:
    with unfinished(tmp_path, clock) as (file, _):
        done = one_night(file, clock, resume=False)
    assert done.code == 0 and len(runs(tmp_path, "a")) == 2


def test_a_problem_that_somebody_else_runs_is_left_to_them(tmp_path: Path, clock: Clock) -> None:
    place = bowl(tmp_path / "a")
    bowl(tmp_path / "b")
    file = batch(tmp_path, "", "a", "b")
    (tmp_path / "runs").mkdir()
    lock = problem_lock(tmp_path / "runs", place / "problem.toml")
    try:
        done = one_night(file, clock)
    finally:
        lock.release()
    found = problems(done)
    assert done.code == found["a"]["exit_code"] == 75 and found["a"]["error"]["kind"] == "locked"
    assert str(os.getpid()) in found["a"]["detail"] and found["b"]["status"] == "exact"
    assert not runs(tmp_path, "a") and found["a"]["spent"]["evaluations"] == 0, "nothing is measured beside another"
    assert "is running this problem" in found["a"]["drift"]["error"]


def test_the_next_order_follows_what_was_gained(tmp_path: Path, clock: Clock) -> None:
    bowl(tmp_path / "flat", evaluations=12, **{"default = 0.9": "default = 0.3"})
    evaluate = (tmp_path / "flat" / "evaluate.py").read_text()
    (tmp_path / "flat" / "evaluate.py").write_text(evaluate.replace("return value", "return 1.0"))
    bowl(tmp_path / "steep")
    file = batch(tmp_path, "[caps]\nevaluations = 40", "flat", "steep")
    first = one_night(file, clock)
    assert [place["problem"] for place in first.document["order"]] == ["flat", "steep"]
    clock.now += DAY
    second = one_night(file, clock)
    assert [place["problem"] for place in second.document["order"]] == ["steep", "flat"]
    assert "1 earlier night" in second.document["order"][0]["why"]


def test_a_summary_lies_where_people_and_programs_look(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    done = one_night(file, clock)
    place = tmp_path / "runs" / "batches" / "nightly"
    assert done.folder == place / "nights" / "2026-03-02-1"
    assert json.loads((done.folder / "summary.json").read_text()) == done.document
    for name in ("summary.md", "summary.json"):
        assert (place / "latest" / name).read_bytes() == (done.folder / name).read_bytes()
    assert step.read_text() == "before\n" + (done.folder / "summary.md").read_text() + "\n"
    assert f"truegain apply {tmp_path / 'runs' / problems(done)['a']['run']}" in done.document["next"]
    assert one_night(file, clock).name == "2026-03-02-2", "a second night of the same date"
