"""Runs in the background: started, found, watched, paused, stopped, killed and taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.control.wire import Control
from agent.folders import listing
from agent.journal import FILE
from agent.lock import is_locked
from tests.background_support import PATIENCE, gone, launched, log, wait
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
    only_run,
    until,
)
from tests.support import entries

__all__ = ["launched"]  # a fixture


# Starting.


def test_detach_prints_one_launch_record_and_the_log_ends_with_what_came_out(
    tmp_path: Path, launched: dict[str, Any]
) -> None:
    run = Path(launched["folder"])
    assert set(launched) == {"run", "folder", "pid", "socket", "log", "next"}
    assert launched["run"] == run.name and launched["log"] == str(run / "log.jsonl")
    control = Control.read(run)
    assert control is not None and (control.socket, control.pid) == (launched["socket"], launched["pid"])
    assert os.getsid(launched["pid"]) == launched["pid"] != os.getsid(0), "a session of its own"
    assert launched["next"][0] == f"truegain status {run.name}"
    assert (run / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert log(launched)[0]["event"] == "run.started", "what happened before the log was opened is in it"
    assert {Path(f"/proc/{launched['pid']}/fd/{n}").resolve() for n in (0, 1)} == {Path("/dev/null")}
    assert Path(f"/proc/{launched['pid']}/cwd").resolve() == tmp_path.resolve()

    (tmp_path / "bowl" / "go").touch()
    gone(run)
    *_, last = log(launched)
    assert (last["event"], last["exit_code"], last["status"]) == ("done", 0, "exact")
    result = call("show", "--json", cwd=tmp_path).json
    assert last["text"] == result["sentence"]
    assert entries(run)[0].event.origin["command"][-2:] == ["--detach", "--json"]  # type: ignore[attr-defined]
    assert not (run / "control").exists() and not Path(launched["socket"]).exists()
    assert call("replay", cwd=tmp_path).code == 0


def test_for_people_the_launch_names_the_log_and_the_next_commands(tmp_path: Path) -> None:
    done = cli("run", folder(tmp_path / "bowl"), "--detach", cwd=tmp_path)
    first, where, following = done.out.splitlines()
    name = re.fullmatch(r"Started (\S+) in the background \(process \d+\)\.", first)
    assert done.code == 0 and name and not done.err
    assert where == f"Log: {tmp_path}/runs/{name[1]}/log.jsonl"
    assert following == f"Next: truegain status {name[1]}   truegain watch {name[1]}   truegain stop {name[1]}"
    gone(tmp_path / "runs" / name[1])


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--evaluations", "1"], 2, "cannot pay for a run"),
        (["--model", "openai:gpt-6-sol", "--proposer", "evollm"], 69, "OPENAI_API_KEY"),
    ],
    ids=["budget", "key"],
)
def test_what_fails_before_it_runs_is_said_as_without_detach(
    tmp_path: Path, arguments: list[str], code: int, words: str, as_json: bool
) -> None:
    folder(tmp_path / "bowl")
    more = ["--json"] if as_json else []
    detached = cli("run", "bowl", *arguments, "--detach", *more, cwd=tmp_path)
    plain = cli("run", "bowl", *arguments, *more, cwd=tmp_path)
    assert (detached.code, detached.out) == (plain.code, plain.out) and detached.code == code
    assert words in detached.out + detached.err
    if not as_json:
        assert detached.err.splitlines()[-2:] == plain.err.splitlines()[-2:]
    assert not call("list", "--json", cwd=tmp_path).json["runs"]


def test_a_second_one_of_the_problem_is_refused_in_the_background_too(tmp_path: Path, launched: dict[str, Any]) -> None:
    done = cli("run", "bowl", "--detach", "--json", cwd=tmp_path)
    assert done.code == 75 and done.json["error"]["pid"] == launched["pid"]


def test_a_run_outlives_the_death_and_the_terminal_of_who_started_it(tmp_path: Path) -> None:
    """A shell on a terminal starts it; then the terminal is closed, which is a SIGHUP, and the shell is killed."""
    folder(tmp_path / "bowl", evaluate=GATED)
    ours, theirs = pty.openpty()
    words = " ".join(f"'{word}'" for word in command("run", "bowl", "--detach", "--json"))
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"{words} > launch.json; touch launched; cat"],
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    wait((tmp_path / "launched").exists, "it was launched")
    record = json.loads((tmp_path / "launch.json").read_text())
    until(tmp_path / "bowl" / "count", 5)
    os.close(ours)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait(PATIENCE)
    assert call("status", "--json", cwd=tmp_path).json["state"] == "running"
    (tmp_path / "bowl" / "go").touch()
    gone(Path(record["folder"]))
    assert log(record)[-1]["exit_code"] == 0


def test_a_run_outlives_a_starter_that_dies_before_it_has_begun(tmp_path: Path) -> None:
    slow = BOWL.replace("def measure", "import time\ntime.sleep(1)\n\ndef measure")
    starter = begin("run", folder(tmp_path / "bowl", evaluate=slow), "--detach", cwd=tmp_path)
    wait(lambda: list((tmp_path / "runs").glob("bowl-*")) if starter.poll() is None else [True], "it is beginning")
    starter.kill()
    starter.communicate(timeout=PATIENCE)
    (run,) = wait(lambda: list((tmp_path / "runs").glob("bowl-*")), "there is a run")
    gone(run)
    assert listing(run).state == "finished"
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["event"] == "done"


def test_what_is_printed_in_the_background_is_in_the_log_line_by_line(tmp_path: Path) -> None:
    module = """
        import os, random

        class Chatty:
            name, needs_model = "chatty", False

            async def propose(self, context, n):
                from agent.proposers.base import Proposal

                print("thinking\\x1b[2J about", n)
                os.write(2, b"from native code\\n")
                return [Proposal({"x": context.rng.uniform(-1, 1), "n": 3}, "chatty") for _ in range(n)]
    """
    (tmp_path / "chatty.py").write_text(textwrap.dedent(module))
    toml = TOML.replace('"coordinate"', '"chatty:Chatty"')
    bowl = folder(tmp_path / "bowl", toml=toml)
    told = ("--on-finish", "echo told; exit 3")
    done = cli("run", bowl, "--detach", "--json", *told, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.code == 0, done.out + done.err
    gone(Path(done.json["folder"]))
    shown = call("logs", "--json", cwd=tmp_path).out.splitlines()
    printed = [json.loads(line) for line in shown if '"printed"' in line]
    assert {line["text"] for line in printed} > {"thinking\\x1b[2J about 1", "from native code"}
    last = json.loads(shown[-1])
    for reading in ("status", "watch", "list", "stop"):
        assert call(reading, cwd=tmp_path).code == 0, "the user's proposer is not needed to look at the run"
    assert (last["event"], last["exit_code"]) == ("done", 0), "although the telling at the end failed, and said so"


# Looking.


def test_status_fits_a_screen_and_two_kilobytes(tmp_path: Path, launched: dict[str, Any]) -> None:
    done = call("status", "--json", cwd=tmp_path)
    found = done.json
    assert len(done.out.encode()) < 2048
    assert (found["state"], found["pid"], found["answers"], found["problem"]) == (
        "running",
        launched["pid"],
        True,
        "bowl",
    )
    assert found["spent"]["evaluations"] == 5 and found["limits"] == {"evaluations": 12}
    assert found["in_flight"]["evaluations"] == 1 and found["busy"]
    assert found["champion"]["search_score"] == pytest.approx(0.38) and found["last"]["type"] == "race.decided"
    people = call("status", cwd=tmp_path).out
    assert f"running (process {launched['pid']})" in people and "evaluations 5 of 12" in people
    assert "in flight: 1 evaluation\n" in people and people.splitlines()[-1].startswith("Next: truegain watch ")
    assert len(people.splitlines()) < 12


def test_status_works_from_the_journal_alone(tmp_path: Path, launched: dict[str, Any]) -> None:
    Path(launched["socket"]).unlink()
    found = call("status", "--json", cwd=tmp_path).json
    assert (found["state"], found["answers"]) == ("running", False) and found["in_flight"]["evaluations"] == 1
    os.kill(launched["pid"], signal.SIGKILL)
    gone(Path(launched["folder"]))
    found = call("status", "--json", cwd=tmp_path).json
    assert (found["state"], found["pid"]) == ("lost", None) and found["next"][0].startswith("truegain resume ")


def test_status_of_hostile_names_stays_small_and_plain(tmp_path: Path) -> None:
    name = "\x1b[31m" + "x" * 5000
    toml = f"name = {json.dumps(name)}\n" + TOML.replace('name = "loss"', f'name = "loss"\nunit = {json.dumps(name)}')
    assert call("run", folder(tmp_path / "bowl", toml=toml), cwd=tmp_path).code == 0
    done = call("status", "--json", cwd=tmp_path)
    assert len(done.out.encode()) < 2048 and done.json["state"] == "finished"
    for shown in (call("status", cwd=tmp_path), call("list", cwd=tmp_path), call("watch", cwd=tmp_path)):
        assert shown.code == 0 and "\x1b" not in shown.out


def test_a_damaged_run_has_a_status_too(tmp_path: Path) -> None:
    call("run", folder(tmp_path / "bowl"), cwd=tmp_path)
    run = only_run(tmp_path / "runs")
    (run / FILE).write_bytes(b"notes" * 1000)
    found = call("status", "--json", cwd=tmp_path)
    assert found.code == 0 and found.json["state"] == "damaged" and "cannot be read" in found.json["detail"]
    stopped = call("stop", "--json", cwd=tmp_path)
    assert stopped.code == 2 and stopped.json["error"]["kind"] == "not_running"


def test_watch_streams_events_from_a_cursor_until_the_end(tmp_path: Path, launched: dict[str, Any]) -> None:
    there = call("watch", "--json", "--no-follow", cwd=tmp_path)
    known = [json.loads(line) for line in there.out.splitlines()]
    assert [event["seq"] for event in known] == list(range(1, len(known) + 1)) and known[0]["type"] == "run.started"
    watching = begin("watch", "--json", "--after", known[-1]["seq"], cwd=tmp_path)
    (tmp_path / "bowl" / "go").touch()
    done = finish(watching)
    new = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0 and new[0]["seq"] == known[-1]["seq"] + 1 and new[-1]["type"] == "run.ended"
    assert {event["audience"] for event in new} == {"search"}
    again = call("watch", "--json", cwd=tmp_path)
    assert [json.loads(line) for line in again.out.splitlines()] == known + new


def test_watching_ends_when_the_run_is_killed_and_ctrl_c_leaves_it_alone(
    tmp_path: Path, launched: dict[str, Any]
) -> None:
    first, second = begin("watch", cwd=tmp_path), begin("watch", "--json", cwd=tmp_path)
    assert first.stdout is not None and second.stdout is not None
    assert first.stdout.readline().startswith("run bowl-") and second.stdout.readline()
    os.kill(first.pid, signal.SIGINT)
    assert finish(first).code == 0 and is_locked(Path(launched["folder"]))
    os.kill(launched["pid"], signal.SIGKILL)
    assert finish(second).code == 0


def drawn(*arguments: object, cwd: Path, during: Callable[[], None]) -> str:
    """What a command draws on a terminal, of which a part is done meanwhile."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(TERM="xterm-256color", COLUMNS="100"),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    pieces: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                pieces.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    wait(lambda: b"in flight: 1 evaluation" in b"".join(pieces), "the table is drawn")
    during()
    assert process.wait(PATIENCE) == 0
    reader.join(PATIENCE)
    os.close(ours)
    return b"".join(pieces).decode()


def test_on_a_terminal_watch_draws_a_table_and_leaves_the_last_one(tmp_path: Path, launched: dict[str, Any]) -> None:
    shown = drawn("watch", cwd=tmp_path, during=(tmp_path / "bowl" / "go").touch)
    assert "━" in shown and "5 of 12" in shown and f"running (process {launched['pid']})" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown[shown.rindex("finished") :])
    assert "EXACT" in last and "12 of 12" in last and "gate: accepted" in last


def test_the_log_is_read_as_text_and_raw(tmp_path: Path, launched: dict[str, Any]) -> None:
    following = begin("logs", "--follow", cwd=tmp_path)
    with open(launched["log"], "ab") as file:
        file.write(b"raw \x1b[2J words \xff\n[1]\n")
    (tmp_path / "bowl" / "go").touch()
    shown = finish(following)
    assert shown.code == 0 and "\x1b" not in shown.out and "raw \\x1b[2J words" in shown.out
    assert shown.out.splitlines()[-1].endswith("(exit code 0)") and "✓ kept" in shown.out
    raw = [json.loads(line) for line in call("logs", "--json", cwd=tmp_path).out.splitlines()]
    assert raw[-1]["event"] == "done" and {"event": "printed", "text": "[1]"} in raw
    call("run", folder(tmp_path / "other"), cwd=tmp_path)
    none = call("logs", "other", "--json", cwd=tmp_path)
    assert none.code == 2 and "truegain watch" in none.json["error"]["hint"]
