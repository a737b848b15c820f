"""Sessions without a terminal: a goal for scripts and CI, and lines that come through a pipe."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.cli.session import _agent
from agent.events import CallStarted, HintGiven, ValuePinned
from agent.events.person import EVENTS
from tests.cli_helpers import Ran, call, command, environment, folder, only_run
from tests.session_support import ROOT, found, keys, problem, prompts, provider


def piped(*arguments: object, cwd: Path, typed: bytes = b"", **env: str) -> Ran:
    """`truegain session` with a pipe as its input."""
    done = subprocess.run(
        command("session", *arguments),
        cwd=cwd,
        env=environment(PYTHONPATH=str(ROOT), **env),
        input=typed,
        capture_output=True,
        timeout=240,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_goal_runs_to_the_end_in_every_output(tmp_path: Path) -> None:
    place = problem(tmp_path / "bowl")
    with provider() as running:
        text = piped(place, "-p", "stay low", cwd=tmp_path, **keys(running))
        assert text.code == 0 and ("EXACT" in text.out or "INITIAL" in text.out) and "stay low" in text.err
        whole = piped(place, "-p", "stay low", "--json", cwd=tmp_path, **keys(running))
        assert whole.code == 0 and whole.json["status"] in ("exact", "initial")
        lines = piped(place, "-p", "stay low", "--output", "stream-json", cwd=tmp_path, **keys(running))
    assert all("stay low" in said for said in prompts(running))
    told = [json.loads(line) for line in lines.out.splitlines()]
    assert told[0]["type"] == "run.started" and told[-1]["type"] == "result" and told[-1]["spent"]["evaluations"] == 7
    assert [item["text"] for item in told if item["type"] == "hint.given"] == ["stay low"]
    runs = sorted((tmp_path / "runs").glob("bowl-*"))
    assert len(runs) == 3 and all(len(found(run, HintGiven)) == 1 for run in runs)
    assert all(call("replay", run, cwd=tmp_path).code == 0 for run in runs)
    again = piped("--resume", runs[-1].name, "-p", "stay low", "--json", cwd=tmp_path)
    assert again.code == 2 and "has ended" in again.json["error"]["message"]


NOISY = """
import random
def measure(candidate, seed=0, replicate=0):
    return candidate["x"] ** 2 + 0.01 * random.Random(f"{candidate} {seed} {replicate}").random()
"""
NOISY_TOML = """
[evaluator]
function = "evaluate:measure"
[space.x]
type = "float"
low = -1
high = 1
default = 0.9
[[objectives]]
name = "loss"
[budget]
evaluations = 50
[proposer]
name = "random"
"""


def test_json_lines_tell_of_the_gate_the_bit_alone(tmp_path: Path) -> None:
    place = folder(tmp_path / "noisy", NOISY_TOML, NOISY)
    ran = piped(place, "--output", "stream-json", cwd=tmp_path)
    told = [json.loads(line) for line in ran.out.splitlines()]
    kinds = {item["type"] for item in told}
    assert "exam.decided" in kinds and not kinds & {"exam.started", "exam.planned", "verdict.reached", "holdout.fixed"}
    assert {item["purpose"] for item in told if item["type"] == "evaluation.ended"} == {"search"}
    assert call("events", only_run(tmp_path / "runs"), "--type", "exam.started", "--json", cwd=tmp_path).json["events"]


def test_lines_from_a_pipe_steer_and_hostile_ones_do_no_harm(tmp_path: Path) -> None:
    place = folder(tmp_path / "noisy", NOISY_TOML, NOISY)
    typed = b"\x1b]0;title\x07look \x00left\n" + b"A" * 1_000_000 + b"\n/\xff\xfe\n/pin x=5\n/pin\n" + b"/nope " * 999
    ran = piped(place, cwd=tmp_path, typed=typed)
    assert ran.code == 0, ran.err
    assert "a line of 1000000 bytes was thrown away" in ran.out and "/nope" in ran.out
    assert not any(char in ran.out + ran.err for char in "\x00\x07\x1b")
    said = found(only_run(tmp_path / "runs"), *EVENTS)
    assert [event.text for event in said] == ["look �left"]


def test_a_script_that_pauses_and_says_no_more_leaves(tmp_path: Path) -> None:
    place = folder(tmp_path / "noisy", NOISY_TOML, NOISY)
    ran = piped(place, cwd=tmp_path, typed=b"/pause\n/status\n")
    assert ran.code == 130 and "nobody is there any more" in ran.out
    assert "Next: truegain session --resume noisy-" in ran.out
    again = piped("--resume", cwd=tmp_path, typed=b"/pin x=0.1\nhello\n")
    run = only_run(tmp_path / "runs")
    assert again.code == 0 and found(run, ValuePinned, HintGiven) == [HintGiven("hello")], again.out
    assert "nothing would be left" in again.out
    assert call("replay", run, cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "-p", "x"), "there is no folder nowhere"),
        ((".", "-p", "x"), "there is no problem.toml in ."),
        (("-p", "x" * 2001), "a goal of 2001 characters"),
        (("-p", " "), "a goal of 0 characters"),
        (("bowl", "--json", "--output", "text"), "contradict"),
        (("--resume", "--output", "json"), "there is no session"),
        (("--resume", "none-such", "--output", "json"), "there is no run"),
        (("--resume", "--model", "openai-chat:m", "-p", "x"), "fixed when a run begins"),
        (("bowl", "-p", "x", "--evaluations", "2"), "cannot pay for a run"),
        (
            ("bowl", "-p", "x", "--set", "models.propose=none", "--proposer", "agentic"),
            "asks a model, and there is none",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(
    tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    problem(tmp_path / "bowl")
    ran = call("session", *arguments, *(() if "--output" in arguments else ("--json",)), cwd=tmp_path)
    if "text" in arguments:
        assert ran.code == 2 and message in ran.out + ran.err
        return
    assert ran.code == 2 and message in ran.json["error"]["message"] and ran.json["error"]["hint"]
    assert not list((tmp_path / "runs").glob("bowl-*"))


def test_the_problem_file_may_name_another_proposer(tmp_path: Path) -> None:
    place = folder(tmp_path / "noisy", NOISY_TOML, NOISY)
    ran = call("session", place, "--json", cwd=tmp_path)
    assert ran.code in (0, 4, 5) and not found(only_run(tmp_path / "runs"), CallStarted)


@pytest.mark.parametrize(
    ("models", "changes", "agentic"),
    [
        ("", {}, False),  # the model that comes with it
        ('propose = "none"', {}, False),
        ('propose = "local:some"', {}, False),
        ('propose = "openai-chat:m"', {}, True),
        ('propose = "openai-chat:m"', {"models.propose": "none"}, False),
        ("", {"models.propose": "openai-chat:m"}, True),
    ],
)
def test_tools_are_for_models_that_can_use_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: str, changes: dict[str, Any], agentic: bool
) -> None:
    (tmp_path / "problem.toml").write_text(f"[models]\n{models}\n")
    assert _agent(tmp_path, changes) == ({"proposer.name": "agentic"} if agentic else {})
    said = capsys.readouterr().err
    assert said.count("\n") == (not agentic) and ("the default proposer searches" in said) is not agentic
    assert _agent(tmp_path, {**changes, "proposer.name": "random"}) == {} and not capsys.readouterr().err
