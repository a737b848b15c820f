"""What a night may spend, when runs go on: no credit, no spend of somebody else, nothing of the gate's shown."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.batch import accounts, rescore, summary
from agent.batch.limits import changes, total
from agent.batch.plan import load
from agent.batch.spend import Spend
from agent.batch.treasury import Grant, Scope, Treasury, room
from agent.batch.work import Unfinished, read_state, session_of
from agent.errors import ConfigError
from agent.events import BatchStarted, BatchSubmitted, CallEnded, CallStarted, EvaluationStarted
from agent.journal import read
from agent.ledger import Budget, Ledger
from tests.batch.support import Clock, batch, bowl, one_night, problems
from tests.cli_helpers import GATED, TOML, begin, cli, folder, kill, until

QUIET = '[drift]\nsplit = "off"\n'
START = time.mktime((2026, 3, 2, 22, 0, 0, 0, 0, -1))
DAY = 86400.0


class Stop:
    """Stops a run by a signal after so many evaluations."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, event: Any, state: object) -> None:
        if event.type == "evaluation.ended":
            self.count -= 1
            if self.count == 0:
                os.kill(os.getpid(), signal.SIGTERM)


def unfinished(ledger: Ledger) -> Unfinished:
    return Unfinished("r", SimpleNamespace(ledger=ledger))  # type: ignore[arg-type]


def test_a_limit_on_seconds_is_kept_only_where_the_caps_and_the_night_leave_so_much() -> None:
    ledger = Ledger(Budget(seconds=30.0))
    ledger.seconds = 2.5
    assert changes({"seconds": 27.0}, unfinished(ledger), 27.5) == {}
    assert changes({"seconds": 1.0}, unfinished(ledger), 1.0) == {"budget": {"seconds": 3.5}}


def test_seconds_of_the_caps_bind_a_run_that_goes_on(tmp_path: Path) -> None:
    bowl(tmp_path / "a", evaluations=60)
    file, clock = batch(tmp_path, QUIET, "a"), Clock(START)
    first = one_night(file, clock, {"seconds": 300.0}, observers=(Stop(3),))
    clock.now += DAY
    second = problems(one_night(file, clock, {"seconds": 50.0}, observers=(Stop(3),)))["a"]
    assert first.code == 143 and second["granted"]["seconds"] == 50.0
    (resumed,) = [e.event for e in read(tmp_path / "runs" / second["run"]) if e.event.type == "run.resumed"]
    assert 50.0 <= resumed.changes["budget"]["seconds"] < 100.0


def test_a_batched_call_of_an_earlier_night_is_no_credit_of_a_later_one(tmp_path: Path) -> None:
    january, february = (time.mktime((2026, *at, 22, 0, 0, 0, 0, -1)) for at in ((1, 31), (2, 1)))
    treasury, cap = Treasury(tmp_path / "b"), {"tokens": 20000.0}
    month = Scope("caps.month", cap, month="2026-02")
    ledger = Ledger(Budget(tokens=20000))
    reserved = {"calls": 1, "tokens": 9000}
    for number in (1, 2):
        ledger.apply(CallStarted(number, "s", "k", number, "propose", "openai:m", reserved, {}, batch=True))
    ledger.apply(BatchStarted(1, "openai:m", "tag", [1, 2], january))
    ledger.apply(BatchSubmitted(1, "batch_1"))
    sent = Spend.of(ledger)
    first = treasury.grant(treasury.begin("n1", january, {}), "a", "search", "r", january, {}, [Scope("caps", cap)])
    treasury.settle(first, january, sent)
    night = treasury.begin("n2", february, {})
    second = treasury.grant(night, "a", "search", "r", february, {}, [month], (sent, sent))
    limits = total(second.limits, unfinished(ledger), treasury.charged("r", night))
    assert limits == {"tokens": 20000}, "what the answers set free is January's"
    assert total({"tokens": 2000}, unfinished(ledger), sent) == {"tokens": 20000}, "the same night has held it back"
    for number in (1, 2):
        ledger.apply(CallEnded(number, {}, None, {"input": 500, "output": 500, "cached": 0}, 1.0))
    treasury.settle(second, february, Spend.of(ledger).less(sent))
    assert room({}, [month], treasury.grants()).limits == {"tokens": 18000}, "not 36000"
    assert treasury.spend(month="2026-02").to_json()["possibly_spent"] == {}
    assert treasury.charged("r").spent["tokens"] == 2000
    treasury.close()


def test_a_credit_of_one_run_is_no_room_for_another() -> None:
    credit = Spend({"tokens": 100}, {"tokens": -900})
    grants = [
        Grant(1, 1, "a", "search", "r", 0.0, "m", {}, credit),
        Grant(2, 1, "b", "search", "s", 0.0, "m", {"tokens": 50}),
    ]
    assert room({}, [Scope("caps", {"tokens": 1000}, night=1)], grants).limits == {"tokens": 850}


def test_evaluations_that_were_cut_off_count_once_each() -> None:
    ledger = Ledger(Budget(evaluations=10))
    ledger.apply(EvaluationStarted(id=1, candidate="c", example=None, replicate=0, seed=0, purpose="search"))
    for _ in range(2):
        spent = Spend.of(ledger)
        assert spent.counts("evaluations") == 2 and spent.possibly["evaluations"] == 1


def test_what_is_measured_again_after_a_kill_is_in_the_caps(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", TOML, GATED)
    file = batch(tmp_path, QUIET + "[caps]\nevaluations = 10\n", "a")
    process = begin("batch", file, cwd=tmp_path)
    until(place / "count", 5)
    kill(process)
    (place / "go").touch()
    done = cli("batch", file, "--json", cwd=tmp_path)
    spent = done.json["spent"]["night"]
    assert done.code == 0 and (place / "count").stat().st_size == 10, "the cap, with what was measured twice"
    assert (spent["evaluations"], spent["possibly_spent"]) == (9, {"evaluations": 1})
    assert "9 (possibly 1 more)" in summary.markdown(done.json)


def test_a_re_scoring_is_told_what_the_caps_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bowl(tmp_path / "a")
    file, given = batch(tmp_path, "[caps]\nseconds = 50\nusd = 1.5\n", "a"), {}
    real = rescore.rescore

    async def watched(*args: Any, **named: Any) -> Any:
        given.update(named)
        return await real(*args, **named)

    monkeypatch.setattr(rescore, "rescore", watched)
    one_night(file, Clock(START), {"until": "20s"}, search=False)
    assert (given["seconds"], given["usd"]) == (20.0, 1.5)
    one_night(file, Clock(START + DAY), {"until": "2h"}, search=False)
    assert (given["seconds"], given["usd"]) == (50.0, 1.5)


def test_what_was_done_by_hand_with_an_open_run_is_charged_to_no_night(tmp_path: Path) -> None:
    bowl(tmp_path / "a", evaluations=400)
    bowl(tmp_path / "b")
    file, clock = batch(tmp_path, QUIET + "[caps]\nevaluations = 60\n", "a", "b"), Clock(START)
    first = problems(one_night(file, clock, observers=(Stop(10),)))["a"]
    run = tmp_path / "runs" / first["run"]
    session = session_of(load(file).entries[0].load(), Budget(evaluations=400), (Stop(80),))
    asyncio.run(session.resume(run, changes={"budget": {"evaluations": 400}}))
    by_hand = read_state(run)
    assert by_hand is not None and by_hand.ledger.evaluations > 80
    clock.now += DAY
    second = one_night(file, clock, observers=(Stop(20),))
    spent = problems(second)["a"]["spent"]["evaluations"]
    state = read_state(run)
    assert state is not None and spent == state.ledger.evaluations - by_hand.ledger.evaluations <= 60
    assert second.document["spent"]["night"]["evaluations"] == spent


def test_an_open_run_shows_what_the_search_has_spent_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    treasury = Treasury(tmp_path / "b")
    night = treasury.begin("2026-03-02-1", START, {"order": [], "file": "x"})
    grant = treasury.grant(night, "a", "search", "r", START, {"evaluations": 900}, [])
    (tmp_path / "runs" / "r").mkdir(parents=True)
    whole, part = Ledger(Budget()), Ledger(Budget())
    whole._parts, part._parts = (round(count * whole_effort()) for count in (602, 486))
    monkeypatch.setattr(accounts.work, "read_state", lambda folder: SimpleNamespace(ledger=whole))
    monkeypatch.setattr(accounts, "load_state", lambda folder: SimpleNamespace(ledger=part))
    plan = SimpleNamespace(runs=tmp_path / "runs")
    treasury.settle(grant, START, *accounts.found(plan, treasury, grant))  # type: ignore[arg-type]
    assert treasury.spend(night=night).spent["evaluations"] == 602, "the caps know all of it"
    assert treasury.shown(night=night).spent["evaluations"] == 486
    treasury.outcome(night, "a", "search", START, {"run": "r", "final": True})
    assert treasury.shown(night=night).spent["evaluations"] == 602, "once it is over, everybody does"
    treasury.close()


def whole_effort() -> int:
    from agent.halving import PARTS

    return PARTS


def test_two_batch_files_of_one_name_do_not_share_a_ledger(tmp_path: Path) -> None:
    files = []
    for place in (tmp_path / "p", tmp_path / "q"):
        bowl(place / "app")
        files.append(batch(place, QUIET, "app"))
        files[-1].write_text(files[-1].read_text().replace('runs = "runs"', f'runs = "{tmp_path}/runs"'))
    mine, other = files
    assert one_night(mine).code == 0
    with pytest.raises(ConfigError, match="belongs to another batch of the same name") as refused:
        one_night(other)
    assert str(mine) in refused.value.message and "name = " in refused.value.hint
    with pytest.raises(ConfigError):
        summary.status(other, None, START)
    mine.unlink()  # it was moved
    assert one_night(other).code == 0


def test_an_evaluator_that_scores_no_row_is_no_success(tmp_path: Path) -> None:
    bowl(tmp_path / "well")
    bowl(tmp_path / "broken")
    (tmp_path / "broken" / "evaluate.py").write_text("def measure(candidate): raise OSError('it is gone')\n")
    done = one_night(batch(tmp_path, "", "well", "broken"), search=False)
    found = problems(done)
    assert done.code == 3 == found["broken"]["exit_code"] and found["broken"]["status"] == "failed"
    assert "it is gone" in found["broken"]["detail"] and found["well"]["exit_code"] == 0


def test_a_re_scoring_that_ends_in_an_error_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(*args: Any, **named: Any) -> Any:
        raise ConfigError("drift.split: the problem has no test rows")

    bowl(tmp_path / "a")
    monkeypatch.setattr(rescore, "rescore", wrong)
    file = batch(tmp_path, "", "a")
    done = one_night(file, search=False)
    assert done.code == 2 and problems(done)["a"]["detail"] == "drift.split: the problem has no test rows"
    searched = one_night(file)
    assert searched.code == 2 and problems(searched)["a"]["status"] == "exact"


@pytest.mark.parametrize(
    "text", ["see https://evil.example/x", "WWW.evil.example", "$x$", "a@b.example", "#12", "&lt;b"]
)
def test_what_is_live_on_a_page_is_quoted_as_code(text: str) -> None:
    assert summary._cell(f"{text} `` | <b>") == f"``` {text} `` ¦ <b> ```"


def test_other_text_is_escaped() -> None:
    assert summary._cell("went from 2 to 1 [a](b) | `c`") == "went from 2 to 1 \\[a\\](b) \\| \\`c\\`"
    assert len(summary._cell("$" * 999)) < 410
