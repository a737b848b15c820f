"""Runs from the command line: settings, interruption, resumption, locks, and what is shown meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import Journal
from tests.cli_helpers import (
    BOWL,
    GATED,
    TOML,
    begin,
    call,
    cli,
    command,
    environment,
    finish,
    folder,
    kill,
    only_run,
    until,
)
from tests.support import bodies, entries

NOISY = """
import random

def measure(candidate, seed, replicate):
    noise = random.Random(f"{candidate}{seed}{replicate}").gauss(0, 0.05)
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2 + noise
"""


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRUEGAIN_RUNS", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def open_run(place: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A run that has measured four times and waits for a file `go`; killed at the end if it still runs."""
    process = begin("run", folder(place / "bowl", evaluate=GATED), *arguments, cwd=place)
    try:
        until(place / "bowl" / "count", 5)
        yield process
    finally:
        if process.poll() is None:
            kill(process)


# Settings.


def test_a_run_ends_with_what_was_gained_what_it_cost_and_what_to_do_next(tmp_path: Path) -> None:
    done = cli("run", folder(tmp_path / "bowl"), cwd=tmp_path)
    assert done.code == 0
    name = only_run(tmp_path / "runs").name
    *_, gained, spent, where, following = done.out.splitlines()
    assert gained.startswith("EXACT: loss went from 0.38 to ") and "Spent: 12 evaluations, $0" in spent
    assert where.endswith(f"runs/{name}")
    assert following == f"Next: truegain show {name}   truegain report {name} --open   truegain apply {name}"
    assert "initial candidate: loss 0.38" in done.err and "✓ kept" in done.err and "gate: accepted" in done.err
    assert json.loads((only_run(tmp_path / "runs") / "best" / "candidate.json").read_text())["status"] == "exact"
    assert only_run(tmp_path / "runs").stat().st_mode & 0o777 == 0o700


def test_options_replace_keys_of_the_problem_file(tmp_path: Path) -> None:
    folder(tmp_path / "bowl")
    done = call(
        "run",
        "bowl",
        "--proposer",
        "random",
        "--evaluations",
        5,
        "--seed",
        7,
        "--workers",
        2,
        "--set",
        "gate.race_longest=4",
        "--set",
        "space.x.default=0.5",
        "--json",
        cwd=tmp_path,
    )
    assert done.json["spent"]["evaluations"] == 5 and done.json["initial"]["x"] == 0.5
    started = entries(only_run(tmp_path / "runs"))[0].event
    assert started.seed == 7  # type: ignore[attr-defined]
    chosen = started.settings  # type: ignore[attr-defined]
    assert (chosen["proposer"], chosen["workers"], chosen["race_longest"]) == ("random", 2, 4)
    assert {trial["source"] for trial in call("show", "--all", "--json", cwd=tmp_path).json["trials"][1:]} == {"random"}


@pytest.mark.parametrize("proposer", ["random", "coordinate"])
def test_one_seed_gives_equal_events_and_another_gives_others(tmp_path: Path, proposer: str) -> None:
    bowl = folder(tmp_path / "bowl")
    runs = []
    for number, seed in enumerate((5, 5, 6)):
        place = tmp_path / str(number)
        call("run", bowl, "--proposer", proposer, "--seed", seed, "--runs", place, cwd=tmp_path)
        runs.append(bodies(entries(only_run(place))))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_an_evaluator_that_cannot_score_the_initial_candidate_ends_with_3(tmp_path: Path) -> None:
    folder(tmp_path / "bowl", evaluate="def measure(candidate):\n    raise RuntimeError('no database')\n")
    done = call("run", "bowl", cwd=tmp_path)
    assert done.code == 3
    assert "no database" in done.out and done.out.splitlines()[-1].startswith("Next: mend the evaluator")
    machine = call("run", "bowl", "--json", cwd=tmp_path)
    assert machine.code == 3 and machine.json["reason"] == "evaluator" and machine.json["exit_code"] == 3
    missing = call("run", "bowl", "--set", 'evaluator.function="evaluate:absent"', "--json", cwd=tmp_path)
    assert missing.code in (2, 3) and "absent" in missing.out


def test_a_missing_key_ends_with_69_names_the_variable_and_leaves_no_run(tmp_path: Path) -> None:
    folder(tmp_path / "bowl")
    arguments = ("run", "bowl", "--model", "openai:gpt-5-mini", "--proposer", "evollm")
    done = call(*arguments, "--json", cwd=tmp_path)
    error = done.json["error"]
    assert done.code == 69 and error["kind"] == "prerequisite" and "OPENAI_API_KEY" in error["message"] + error["hint"]
    assert not list((tmp_path / "runs").glob("*"))
    people = call(*arguments, cwd=tmp_path)
    assert people.code == 69 and people.out == "" and "fix: " in people.err


def test_a_command_that_measures(tmp_path: Path) -> None:
    script = """
    import json, sys
    candidate = json.load(open(sys.argv[1]))["candidate"]
    print("a log")
    print(json.dumps({"loss": abs(candidate["x"])}))
    """
    folder(
        tmp_path / "bowl", TOML.replace('function = "evaluate:measure"', 'command = ["python3", "evaluate.py"]'), script
    )
    done = call("run", "bowl", "--evaluations", 8, "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["status"] == "exact"


# While a run is open.


def test_an_open_run_is_listed_locked_and_not_pruned(tmp_path: Path) -> None:
    with open_run(tmp_path, "--json") as process:
        run = only_run(tmp_path / "runs").name
        (listed,) = call("list", "--json", cwd=tmp_path).json["runs"]
        assert (listed["state"], listed["pid"]) == ("running", process.pid)
        assert f"running ({process.pid})" in call("list", cwd=tmp_path).out
        refused = call("resume", run, "--json", cwd=tmp_path)
        assert refused.code == 75
        error = refused.json["error"]
        assert error["kind"] == "locked" and str(process.pid) in error["message"] and error["hint"]
        assert call("prune", "--keep", 0, "--json", cwd=tmp_path).json["removed"] == []
        shown = call("show", run, "--json", cwd=tmp_path).json
        assert shown["status"] == "open" and shown["verdict"] is None
        (tmp_path / "bowl" / "go").touch()
        done = finish(process)
    assert done.code == 0 and done.json["status"] == "exact"
    assert call("list", "--json", cwd=tmp_path).json["runs"][0]["state"] == "finished"


def test_while_a_run_is_open_the_gates_events_are_not_shown(tmp_path: Path) -> None:
    toml = TOML.replace("deterministic = true", "").replace("evaluations = 12", "evaluations = 90")
    assert call("run", folder(tmp_path / "bowl", toml, NOISY), cwd=tmp_path).code == 0
    whole = only_run(tmp_path / "runs")
    known = entries(whole)
    assert any(e.event.audience == "gate" for e in known), "the problem is noisy, so there is an exam"
    journal = Journal(tmp_path / "open" / "bowl")
    for entry in known[:-1]:
        journal.append(entry.event, entry.time)
    journal.commit()
    journal.close()

    shown = call("events", "--runs", tmp_path / "open", "--json", cwd=tmp_path)
    assert {e["audience"] for e in shown.json["events"]} == {"search"}
    result = call("show", "--runs", tmp_path / "open", "--all", "--json", cwd=tmp_path)
    verdict = call("show", "last", "verdict", "--runs", tmp_path / "open", "--json", cwd=tmp_path)
    assert result.json["status"] == "open" and result.json["verdict"] is None and verdict.json["verdict"] is None
    ended = call("events", whole, "--json", cwd=tmp_path).json["events"]
    assert {e["audience"] for e in ended} > {"search"}
    effect = str(call("show", whole, "verdict", "--json", cwd=tmp_path).json["verdict"]["effect"])
    assert effect in str(ended)
    for done in (shown, result, verdict):
        assert effect not in done.out


# Going on.


def test_a_killed_run_goes_on_without_repeating_what_was_measured(tmp_path: Path) -> None:
    with open_run(tmp_path) as process:
        kill(process)
    run = only_run(tmp_path / "runs")
    assert call("list", "--json", cwd=tmp_path).json["runs"][0]["state"] == "lost"
    done = sum(e.event.type == "evaluation.ended" for e in entries(run))
    measured = (tmp_path / "bowl" / "count").stat().st_size
    (tmp_path / "bowl" / "go").touch()
    resumed = call("resume", "--json", cwd=tmp_path)
    assert resumed.code == 0 and resumed.json["run"] == run.name and resumed.json["spent"]["evaluations"] == 12
    assert (tmp_path / "bowl" / "count").stat().st_size == measured + 12 - done
    assert call("replay", cwd=tmp_path).code == 0

    uncut = folder(tmp_path / "uncut" / "bowl")
    call("run", uncut, cwd=tmp_path)
    (other,) = call("list", "--json", "--runs", tmp_path / "uncut" / "runs", cwd=tmp_path).json["runs"]
    best = call("show", other["folder"], "--json", cwd=tmp_path).json["best"]
    assert resumed.json["best"] == best, "as if it had never been cut off"


def test_an_ended_run_goes_on_only_with_more_budget(tmp_path: Path) -> None:
    call("run", folder(tmp_path / "bowl"), cwd=tmp_path)
    refused = call("resume", "--json", cwd=tmp_path)
    assert refused.code == 2 and "has ended" in refused.json["error"]["message"]
    assert "--evaluations" in refused.json["error"]["hint"]
    more = call("resume", "--evaluations", 16, "--workers", 2, "--json", cwd=tmp_path)
    assert more.code == 0 and more.json["spent"]["evaluations"] == 16
    assert call("replay", cwd=tmp_path).code == 0


def test_what_was_set_on_the_command_line_is_set_again_to_go_on(tmp_path: Path) -> None:
    folder(tmp_path / "bowl")
    chosen = ("--set", "space.n.high=7")
    call("run", "bowl", *chosen, cwd=tmp_path)
    assert call("resume", "--evaluations", 14, "--json", cwd=tmp_path).json["error"]["kind"] == "changed"
    assert call("resume", "--evaluations", 14, *chosen, cwd=tmp_path).code == 0


def test_a_problem_that_moved_is_named(tmp_path: Path) -> None:
    call("run", folder(tmp_path / "bowl"), cwd=tmp_path)
    (tmp_path / "bowl").rename(tmp_path / "moved")
    lost = call("resume", "--evaluations", 14, cwd=tmp_path)
    assert lost.code == 2 and "--problem FOLDER" in lost.err
    assert call("resume", "--evaluations", 14, "--problem", "moved", cwd=tmp_path).code == 0


def test_a_changed_evaluator_is_refused_unless_accepted(tmp_path: Path) -> None:
    bowl = folder(tmp_path / "bowl")
    best = call("run", bowl, "--json", cwd=tmp_path).json["best"]
    (bowl / "evaluate.py").write_text(BOWL.replace("0.3", "-0.6"))
    refused = call("resume", "--evaluations", 40, "--json", cwd=tmp_path)
    assert refused.code == 2
    error = refused.json["error"]
    assert error["kind"] == "changed" and "evaluator" in error["message"] and "--accept-change" in error["hint"]
    accepted = call("resume", "--evaluations", 40, "--accept-change", "--json", cwd=tmp_path)
    assert accepted.code == 0 and accepted.json["initial"] == best and accepted.json["best"]["x"] < 0
    assert "epoch.started" in {e["type"] for e in call("events", "--json", cwd=tmp_path).json["events"]}


# Ctrl-C.


def test_one_ctrl_c_finishes_what_is_in_flight_and_saves(tmp_path: Path) -> None:
    with open_run(tmp_path) as process:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "the evaluation in flight is finished first"
        (tmp_path / "bowl" / "go").touch()
        done = finish(process)
    assert done.code == 130 and "Traceback" not in done.err
    run = only_run(tmp_path / "runs")
    assert done.out.splitlines()[-1] == f"Next: truegain resume {run.name}"
    known = [e.event.type for e in entries(run)]
    assert known.count("evaluation.started") == known.count("evaluation.ended")
    assert call("resume", "--json", cwd=tmp_path).json["status"] == "exact"


@pytest.mark.parametrize("as_json", [False, True])
def test_two_ctrl_c_stop_at_once_and_what_was_measured_is_safe(tmp_path: Path, as_json: bool) -> None:
    with open_run(tmp_path, *(["--json"] if as_json else [])) as process:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        done = finish(process)
    assert done.code == 130
    assert "Traceback" not in done.err
    if as_json:
        assert done.json["error"]["kind"] == "interrupted"
    (tmp_path / "bowl" / "go").touch()
    resumed = call("resume", "--json", cwd=tmp_path)
    assert resumed.json["status"] == "exact" and resumed.json["spent"]["evaluations"] == 12


def test_termination_saves_and_ends_with_143(tmp_path: Path) -> None:
    with open_run(tmp_path, "--json") as process:
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.2)
        (tmp_path / "bowl" / "go").touch()
        done = finish(process)
    assert done.code == 143 and done.json["status"] == "open" and done.json["reason"] == "terminated"


# What is drawn.


def watch(*arguments: object, cwd: Path, **env: str) -> tuple[int, str]:
    """A command on a pseudo-terminal: exit code and everything that was drawn on stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(TERM="xterm-256color", **env),
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux ends a pseudo-terminal with an error
        while piece := os.read(ours, 65536):
            drawn += piece
    os.close(ours)
    process.communicate(timeout=60)
    return process.returncode, drawn.decode()


SLOW = BOWL.replace("    return", "    import time\n    time.sleep(0.05)\n    return")


def test_on_a_terminal_a_status_line_is_drawn_and_taken_away(tmp_path: Path) -> None:
    code, drawn = watch("run", folder(tmp_path / "bowl", evaluate=SLOW), cwd=tmp_path)
    assert code == 0
    assert "\x1b[?25l" in drawn and "evaluation " in drawn and "/12" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l"), "the cursor is given back"
    *_, last = drawn.split("\r\n")
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", last) == "", "the status line is gone"
    assert "gate: accepted" in drawn


def test_no_color_means_no_color_and_plain_means_no_drawing(tmp_path: Path) -> None:
    bowl = folder(tmp_path / "bowl")
    _, colored = watch("run", bowl, cwd=tmp_path)
    _, colorless = watch("run", bowl, cwd=tmp_path, NO_COLOR="1")
    colors = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")
    assert "\x1b[32m" in colored and not re.search(r"\x1b\[(?:\d+;)*(?:3|4|9)\d", colorless)
    assert colors.search(colored)
    for variable in ("CI", "CLAUDECODE"):
        _, plain = watch("run", bowl, cwd=tmp_path, **{variable: "1"})
        assert "\x1b" not in plain and "gate: accepted" in plain
    _, machine = watch("run", bowl, "--json", cwd=tmp_path)
    assert "\x1b" not in machine
