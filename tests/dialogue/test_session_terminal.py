"""A scripted terminal drives whole sessions."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from agent.dialogue.terminal import PROMPT, Prompting
from agent.events import BudgetChanged, HintGiven, ProposalEnded, RunContinued, RunEnded, RunPaused, ValuePinned
from agent.folders import listing
from agent.results.result import load_result, load_state
from tests.cli_helpers import call, only_run
from tests.session_support import ended, found, keys, problem, prompts, provider, spawn, wait


def stuck(run: Path) -> bool:
    """Whether nothing more can happen before an evaluation ends."""
    state = load_state(run)
    return bool(state.evaluations and state.waiting) and not state.proposals and not state.calls


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_whole_session(tmp_path: Path, term: str) -> None:
    place = problem(tmp_path / "bowl")
    (place / "hold").touch()
    with provider() as running:
        child = spawn(place, cwd=tmp_path, term=term, **keys(running))
        child.expect("/help lists")
        wait((place / "measured").exists, "the first evaluation")
        child.sendline("keep b above 0.5")
        child.expect("noted for the next proposals")
        child.sendline("/pause")
        child.expect("paused: nothing new")
        (place / "hold").unlink()
        child.expect("initial candidate: loss")
        child.sendline("/why 0")
        child.expect("the search builds on it")
        child.sendline("/pin a=0.25")
        child.expect("a stays 0.25")
        child.sendline("/budget evaluations=5")
        child.expect("limits: evaluations 5")
        assert running.calls == 0, "nothing new starts in a pause"
        child.sendline("/resume")
        child.expect("goes on")
        child.expect("EXACT|INITIAL")
        assert ended(child) == 0
    run = only_run(tmp_path / "runs")
    assert [event.text for event in found(run, HintGiven)] == ["keep b above 0.5"]
    assert len(found(run, RunPaused)) == len(found(run, RunContinued)) == 1
    assert found(run, RunEnded)[-1].reason == "evaluations"
    assert load_result(run).spent["evaluations"] == 5 == (place / "measured").stat().st_size
    assert all("keep b above 0.5" in text and "a stays 0.25" in text for text in prompts(running))
    made = [item["values"] for event in found(run, ProposalEnded) for item in event.proposals]
    assert made and all(values["a"] == 0.25 for values in made)
    assert load_result(run).spent["calls"] == running.calls
    assert call("replay", run, cwd=tmp_path).code == 0


def test_what_was_said_survives_kill_and_no_turn_is_paid_twice(tmp_path: Path) -> None:
    place = problem(tmp_path / "bowl")
    with provider() as running:
        child = spawn(place, cwd=tmp_path, term="dumb", **keys(running))
        child.expect("/help lists")
        child.sendline("stay low")
        child.expect("noted for")
        child.sendline("/pin a=0.5")
        child.expect("a stays")
        child.sendline("/budget evaluations=6 calls=40")
        child.expect("limits: evaluations 6, calls 40")
        wait(lambda: running.calls >= 1, "the model was asked")
        (place / "hold").touch()
        run = only_run(tmp_path / "runs")
        wait(lambda: stuck(run), "an evaluation that waits, and all else waits for it")
        os.kill(child.pid, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        (place / "hold").unlink()
        assert listing(run).state == "lost"
        paid = running.calls
        child = spawn("--resume", cwd=tmp_path, term="dumb", **keys(running))
        child.expect("resumed at")
        child.sendline("/status")
        child.expect("hint: stay low.*pinned: a = 0.5")
        assert ended(child) == 0
    result = load_result(run)
    assert result.spent["limits"] == {"evaluations": 6, "calls": 40} and result.spent["evaluations"] == 6
    assert result.spent["calls"] == running.calls > paid
    said = prompts(running)
    assert len(set(said)) == len(said), "no request was sent twice"
    assert all("stay low" in text and "a stays 0.5" in text for text in said[paid:])
    assert found(run, ValuePinned) == [ValuePinned("a", 0.5)] and len(found(run, BudgetChanged)) == 1
    assert call("replay", run, cwd=tmp_path).code == 0


CLEARED = "\x1b[J"
"""Clears a terminal from the cursor down."""


async def test_a_line_that_was_typed_stays_and_one_that_was_not_ended_goes() -> None:
    with create_pipe_input() as keys:
        screen = io.StringIO()
        output = Vt100_Output(screen, lambda: Size(24, 80), term="xterm", enable_bell=False)
        with create_app_session(input=keys, output=output):
            prompting = Prompting(lambda: "here", lambda: None)
            keys.send_text("stay low\r")
            assert await prompting.line() == "stay low"
            typed = screen.getvalue()
            assert typed[: typed.rindex(CLEARED)].endswith("\r\n"), "all below the line that was typed is cleared"
            screen.truncate(0)
            task = asyncio.create_task(prompting.line())
            while PROMPT.strip() not in screen.getvalue():
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            shown = screen.getvalue()
    at = shown.rindex(CLEARED)
    assert not shown[:at].endswith("\r\n") and PROMPT.strip() not in shown[at:], "cleared from the prompt on"
