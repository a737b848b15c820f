"""Ctrl-C and the end of input, at bad moments of a session at a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.events import EvaluationStarted
from agent.folders import listing
from agent.results.result import load_result
from tests.cli_helpers import call, only_run
from tests.fake_provider import Behaviour, Request
from tests.session_support import ended, found, keys, model, problem, prompts, provider, spawn, wait


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_ctrl_c_during_an_evaluation_finishes_it_and_pauses(tmp_path: Path, term: str) -> None:
    place = problem(tmp_path / "bowl")
    (place / "hold").touch()
    with provider() as running:
        child = spawn(place, cwd=tmp_path, term=term, **keys(running))
        child.expect("/help lists")
        wait((place / "measured").exists, "the first evaluation")
        child.sendintr()
        child.expect("paused: nothing new")
        child.expect("truegain session --resume bowl-")
        (place / "hold").unlink()
        child.expect("initial candidate: loss")
        child.sendline("/resume")
        child.expect("EXACT|INITIAL")
        assert ended(child) == 0
    run = only_run(tmp_path / "runs")
    assert (place / "measured").stat().st_size == load_result(run).spent["evaluations"] == 7
    assert call("replay", run, cwd=tmp_path).code == 0


def test_ctrl_c_twice_leaves_at_once_and_resume_goes_on(tmp_path: Path) -> None:
    place = problem(tmp_path / "bowl")
    (place / "hold").touch()
    with provider() as running:
        child = spawn(place, cwd=tmp_path, **keys(running))
        child.expect("/help lists")
        wait((place / "measured").exists, "the first evaluation")
        child.sendintr()
        child.expect("Ctrl-C again leaves")
        child.sendintr()
        child.expect("truegain session --resume bowl-.* goes on")
        assert ended(child) == 130
        (place / "hold").unlink()
        run = only_run(tmp_path / "runs")
        child = spawn("--resume", run.name, cwd=tmp_path, **keys(running))
        child.expect("EXACT|INITIAL")
        assert ended(child) == 0
    assert load_result(run).status in ("exact", "initial")
    assert call("replay", run, cwd=tmp_path).code == 0


def test_ctrl_c_during_a_model_call_waits_for_the_reply_and_pays_once(tmp_path: Path) -> None:
    place = problem(tmp_path / "bowl")
    slow: list[Request] = []

    def answer(request: Request) -> Behaviour:
        if not slow:
            slow.append(request)
            return Behaviour(tools=(("top", {"n": 2}),), gap=1.0)
        return model(request)

    with provider(answer) as running:
        child = spawn(place, cwd=tmp_path, term="dumb", **keys(running))
        child.expect("/help lists")
        wait(lambda: slow, "a model call")
        child.sendintr()
        child.expect("paused: nothing new")
        child.sendline("/status")
        child.expect("is paused in the middle of a proposal; in flight: ")
        child.sendline("/quit")
        child.expect("saved; truegain session --resume goes on")
        child.expect("Next: truegain session --resume")
        assert ended(child) == 0
        assert running.calls == 1
        run = only_run(tmp_path / "runs")
        child = spawn("--resume", cwd=tmp_path, term="dumb", **keys(running))
        child.expect("EXACT|INITIAL")
        assert ended(child) == 0
    said = prompts(running)
    assert len(set(said)) == len(said) == load_result(run).spent["calls"]
    assert call("replay", run, cwd=tmp_path).code == 0


def test_the_end_of_a_terminal_saves_and_leaves(tmp_path: Path) -> None:
    place = problem(tmp_path / "bowl")
    (place / "hold").touch()
    with provider() as running:
        child = spawn(place, cwd=tmp_path, term="dumb", **keys(running))
        child.expect("/help lists")
        wait((place / "measured").exists, "the first evaluation")
        child.sendeof()
        child.expect("the run rests: nobody is there any more")
        (place / "hold").unlink()
        assert ended(child) == 130
    run = only_run(tmp_path / "runs")
    assert listing(run).state == "stopped" and len(found(run, EvaluationStarted)) == 1
