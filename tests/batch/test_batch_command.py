"""`truegain batch` as a process: signals, locks, logs, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.results.result import load_state
from tests.batch.support import batch, bowl, one_night, problems, said
from tests.cli_helpers import GATED, TOML, Ran, begin, call, cli, finish, folder, kill, until
from tests.test_imports import HEAVY, loaded

QUIET = '[drift]\nsplit = "off"\n'


def gated(place: Path, name: str = "a") -> Path:
    """A problem whose fifth measurement waits until there is a file `go`."""
    return folder(place / name, TOML, GATED)


def only(place: Path) -> Path:
    (found,) = [path for path in (place / "runs").glob("a-*") if path.is_dir()]
    return found


def test_a_night_in_a_log_and_in_one_document(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    ran = cli("batch", file, "--json", cwd=tmp_path)
    assert ran.code == 0 == ran.json["exit_code"] and problems(ran.json)["a"]["status"] == "exact"
    lines = said(ran.err)
    assert all(line.keys() >= {"ts", "level", "run", "event", "text"} for line in lines)
    events = [line["event"] for line in lines]
    assert events[0] == "night.begins" and events[-1] == "night.ended"
    assert {"problem.started", "run.started", "run.ended", "problem.ended"} <= set(events)
    run = problems(ran.json)["a"]["run"]
    assert load_state(tmp_path / "runs" / run).origin["command"][:2] == ["truegain", "batch"]
    text = cli("batch", file, cwd=tmp_path)
    assert text.code == 0 and "Night " in text.out and "Next: truegain" in text.out


def test_sigterm_saves_and_the_same_command_goes_on_with_the_same_night(tmp_path: Path) -> None:
    place = gated(tmp_path)
    bowl(tmp_path / "b")
    file = batch(tmp_path, QUIET + "[caps]\nevaluations = 20\n", "a", "b")
    process = begin("batch", file, "--json", cwd=tmp_path)
    until(place / "count", 5)
    os.kill(process.pid, signal.SIGTERM)
    wait_for(process, "stop.requested")
    (place / "go").touch()
    stopped = finish(process)
    assert stopped.code == 143 == stopped.json["exit_code"], stopped.err
    found = problems(stopped.json)
    assert found["a"]["status"] == "open" and found["b"]["status"] == "waiting" and "run" not in found["b"]
    assert found["a"]["spent"]["evaluations"] == 5 == (place / "count").stat().st_size
    again = cli("batch", file, "--json", cwd=tmp_path)
    assert again.code == 0 and again.json["night"] == stopped.json["night"], "its caps are one night's"
    found = problems(again.json)
    assert found["a"]["spent"]["evaluations"] == 12 and found["b"]["spent"]["evaluations"] == 8
    assert (place / "count").stat().st_size == 12, "nothing was measured twice"


def wait_for(process: subprocess.Popen[str], event: str) -> list[dict]:
    """Read its log until an event was told."""
    assert process.stderr is not None
    lines = []
    while True:
        lines.append(json.loads(process.stderr.readline()))
        if lines[-1]["event"] == event:
            return lines


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    place = gated(tmp_path)
    file = batch(tmp_path, QUIET, "a")
    process = begin("batch", file, "--json", cwd=tmp_path)
    until(place / "count", 5)
    os.kill(process.pid, signal.SIGTERM)
    wait_for(process, "stop.requested")
    os.kill(process.pid, signal.SIGTERM)
    stopped = finish(process)
    assert stopped.code == 143 and problems(stopped.json)["a"]["status"] == "open", stopped.err
    (place / "go").touch()
    again = cli("batch", file, "--json", cwd=tmp_path)
    assert again.code == 0 and problems(again.json)["a"]["spent"]["evaluations"] == 12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_re_scoring_that_was_cut_off_keeps_what_was_measured(tmp_path: Path, number: int) -> None:
    rows = "\n".join(json.dumps({"id": f"r{n}", "word": f"word {n} of {n * n}", "n": n}) for n in range(40))
    toml = TOML.replace("evaluations = 12", "evaluations = 300") + '\n[data]\nfile = "rows.jsonl"\ntarget = "suite"\n'
    place = folder(tmp_path / "a", toml, GATED.replace("candidate,", "candidate, row,"))
    (place / "rows.jsonl").write_text(rows + "\n")
    file = batch(tmp_path, "[drift]\nrows = 10\n", "a")
    process = begin("batch", file, "--json", "--no-search", cwd=tmp_path)
    until(place / "count", 5)
    os.kill(process.pid, number)
    (place / "go").touch()
    stopped = finish(process)
    assert stopped.code == (143 if number == signal.SIGTERM else -signal.SIGKILL), stopped.err
    if number == signal.SIGTERM:
        found = problems(stopped.json)["a"]
        assert "error" in found["drift"] and 5 <= _used(found["spent"]) < 10
    again = cli("batch", file, "--json", "--no-search", cwd=tmp_path)
    found = problems(again.json)["a"]
    assert again.code == 0 and again.json["night"].endswith("-1"), "it is the same night"
    assert found["drift"]["evaluations"] + found["drift"]["possibly"] == 10 == _used(found["spent"])
    assert "error" not in found["drift"] and found["spent"]["possibly_spent"].get("evaluations", 0) <= 1


def _used(spent: dict) -> float:
    return spent["evaluations"] + spent["possibly_spent"].get("evaluations", 0)


def test_a_second_batch_of_the_same_file_ends_with_75_and_the_pid(tmp_path: Path) -> None:
    place = gated(tmp_path)
    file = batch(tmp_path, QUIET, "a")
    process = begin("batch", file, cwd=tmp_path)
    try:
        until(place / "count", 5)
        second = cli("batch", file, "--json", cwd=tmp_path)
        assert second.code == 75 and second.json["error"]["kind"] == "locked"
        assert second.json["error"]["pid"] == process.pid and str(process.pid) in second.json["error"]["message"]
        asked = cli("batch", file, "--status", "--json", cwd=tmp_path)
        assert asked.code == 0 and asked.json["working"] == process.pid
        assert asked.json["nights"][0]["exit_code"] is None
        assert asked.json["nights"][0]["spent"]["possibly_spent"]["evaluations"] == 12, "what is granted counts"
    finally:
        kill(process)
    after = call("batch", file, "--status", cwd=tmp_path)
    assert "was interrupted" in after.out
    (place / "go").touch()
    assert cli("batch", file, cwd=tmp_path).code == 0
    assert load_state(only(tmp_path)).resumes == 1


def tree(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if "__pycache__" not in path.parts)


def test_a_dry_run_tells_order_and_grants_and_leaves_nothing_behind(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    bowl(tmp_path / "b")
    bowl(tmp_path / "typo", toml="\n[nonsense]\n")
    file = batch(tmp_path, "[caps]\nevaluations = 22\n", "a", "b\npriority = 1", "typo")
    before = tree(tmp_path)
    ran = call("batch", file, "--dry-run", "--json", cwd=tmp_path)
    assert ran.code == 0 and tree(tmp_path) == before
    first, second, third = ran.json["problems"]
    assert [first["problem"], second["problem"], third["problem"]] == ["b", "a", "typo"]
    assert first["granted"] == {"evaluations": 12} and first["because"] == {"evaluations": "its own budget"}
    assert second["granted"] == {"evaluations": 6} and second["because"] == {"evaluations": "caps"}
    assert first["does"] == "begin a new run" and first["forecast"]["evaluations"]["search"] == 10
    assert "nonsense" in third["error"]["message"]
    text = call("batch", file, "--dry-run", "--evaluations", 6, cwd=tmp_path)
    assert "would wait: caps.evaluations: 2 evaluations cannot pay for a run" in text.out and tree(tmp_path) == before
    done = cli("batch", file, "--json", cwd=tmp_path)
    granted = {name: problem.get("granted") for name, problem in problems(done.json).items()}
    assert granted == {"b": {"evaluations": 12}, "a": {"evaluations": 6}, "typo": None}, "it did what it had told"


def test_status_before_and_after(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "[caps.month]\nevaluations = 100\n", "a")
    assert "nothing was done yet" in call("batch", file, "--status", cwd=tmp_path).out
    assert not (tmp_path / "runs").exists()
    assert cli("batch", file, cwd=tmp_path).code == 0
    told = call("batch", file, "--status", cwd=tmp_path)
    assert told.code == 0 and "14 of 100 evaluations" in told.out and "a: exact" in told.out


def test_a_damaged_ledger_spends_nothing(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    ledger = tmp_path / "runs" / "batches" / "nightly" / "nights.sqlite"
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b"nonsense" * 1000)
    for more in ((), ("--status",), ("--dry-run",)):
        ran = call("batch", file, "--json", *more, cwd=tmp_path)
        assert ran.code == 1 and ran.json["error"]["kind"] == "store" and "backup" in ran.json["error"]["hint"]
    assert ledger.read_bytes() == b"nonsense" * 1000 and not (tmp_path / "count").exists()


def test_the_end_is_told_to_a_command_by_environment_and_file(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    told = tmp_path / "told"
    ran = cli("batch", file, "--on-finish", f'echo "$TRUEGAIN_NAME $TRUEGAIN_EXIT_CODE" > {told}', cwd=tmp_path)
    assert ran.code == 0 and told.read_text() == "nightly 0\n"
    wrong = cli("batch", file, "--on-finish", "exit 7", "--json", cwd=tmp_path)
    assert wrong.code == 0, "a message that does not get through is no failure of the night"
    assert any(line["event"] == "notify.failed" and line["level"] == "warning" for line in said(wrong.err))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dry-run", "--status"), "exclude each other"),
        (("--only", "nothing"), "no such problem"),
        (("--until", "soon"), "until: found 'soon'"),
        (("--webhook", "http://example.org/x"), "webhook"),
        (("--usd", "-1"), "caps.usd"),
    ],
)
def test_what_is_wrong_on_the_command_line_costs_nothing(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    bowl(tmp_path / "a")
    ran: Ran = call("batch", batch(tmp_path, "", "a"), *arguments, "--json", cwd=tmp_path)
    assert ran.code == 2 and message in ran.json["error"]["message"] and not (tmp_path / "runs").exists()


def test_nothing_to_do_is_refused(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    ran = call("batch", batch(tmp_path, QUIET, "a"), "--no-search", cwd=tmp_path)
    assert ran.code == 2 and "nothing to do" in ran.err


@pytest.mark.parametrize("more", ["--help", "--status"])
def test_asking_loads_nothing_heavy(tmp_path: Path, more: str) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, QUIET, "a")
    assert one_night(file).code == 0
    assert not loaded("batch", str(file), more, cwd=tmp_path) & set(HEAVY)


def test_a_webhook_is_no_part_of_a_run(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    address = "https://127.0.0.1:9/services/T000/B000/secret"
    ran = cli("batch", batch(tmp_path, QUIET, "a"), f"--webhook={address}", "--on-finish", "true", cwd=tmp_path)
    assert ran.code == 0
    command = load_state(only(tmp_path)).origin["command"]
    assert command[-3:] == ["--webhook=…", "--on-finish", "…"]
    assert "secret" not in (tmp_path / "runs/batches/nightly/latest/summary.json").read_text()


def test_units_for_this_machine_name_the_file(tmp_path: Path) -> None:
    bowl(tmp_path / "a")
    file = batch(tmp_path, "", "a")
    ran = call("batch", file, "--print-systemd", cwd=tmp_path)
    assert ran.code == 0 and str(file) in ran.out and "[Timer]" in ran.out


def test_off_a_terminal_an_error_is_a_json_line_too(tmp_path: Path) -> None:
    file = batch(tmp_path, "", "missing")
    ran = cli("batch", file, "--only", "nosuch", cwd=tmp_path)
    (line,) = ran.err.splitlines()
    said = json.loads(line)
    assert ran.code == 2 and said["level"] == said["event"] == "error" and "nosuch" in said["text"] and said["hint"]


def test_after_a_kill_a_dry_run_predicts_what_the_next_command_grants(tmp_path: Path) -> None:
    place = gated(tmp_path)
    bowl(tmp_path / "b")
    file = batch(tmp_path, QUIET + "[caps]\nevaluations = 25\n", "a", "b")
    process = begin("batch", file, "--json", cwd=tmp_path)
    until(place / "count", 5)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    told = call("batch", file, "--dry-run", "--json", cwd=tmp_path).json
    (place / "go").touch()
    again = cli("batch", file, "--json", cwd=tmp_path)
    assert again.code == 0 and told["goes_on"] == again.json["night"]
    really = {name: found["granted"]["evaluations"] for name, found in problems(again.json).items()}
    assert {item["problem"]: item["granted"]["evaluations"] for item in told["problems"]} == really
