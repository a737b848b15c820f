"""The command line: what each command takes and gives, in a real process that starts somewhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.cli.init import EXAMPLES
from agent.cli.main import COMMANDS, main
from tests.cli_helpers import BOWL, TOML, Ran, begin, call, cli, folder, only_run

ESCAPE = "\x1b[31m\x1b]0;owned\x07\r\x9b2J\u202e"
CONTROL = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))] + ["\u202e"]


def calm(*texts: str) -> bool:
    """Whether nothing in a text could drive a terminal."""
    return not any(char in text for text in texts for char in CONTROL)


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRUEGAIN_RUNS", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a problem `bowl` and one finished run of it; the tests only read it."""
    place = tmp_path_factory.mktemp("finished")
    done = call("run", folder(place / "bowl"), "--evaluations", 16, "--json", cwd=place)
    assert done.code == 0, done.err
    return place


def name_of(place: Path) -> str:
    return only_run(place / "runs").name


# Help, version, wrong words.


def test_help_names_every_command_and_each_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for name in COMMANDS:
        assert f"  {name} " in text
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        # The server of a protocol has stdout for that.
        assert ("--json" in capsys.readouterr().out) == (name != "mcp"), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["list", "--frobnicate"], "No such option"),
        (["run"], "Missing argument 'PROBLEM'"),
        (["run", "x", "--seed", "many"], "not a valid integer"),
        (["run", "x", "--workers", "0"], "x>=1"),
        (["view", "--port", "80x"], "'80x' is not a valid integer."),
        (["eval", "x", "--model", "none"], "No such option '--model'.\n"),
        (["session", "x", "--seed"], "truegain session --help"),
        (["init", "a", "b"], "unexpected extra argument"),
        (["prune"], "--keep"),
        (["prune", "--days", "-1"], "x>=0"),
        (["run", "x", "--set", "seed"], "an = is missing"),
        (["init", "x", "--example", "nothing"], "starter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_end_with_2_and_say_what_is_allowed(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    plain = capsys.readouterr()
    assert end.value.code == 2
    assert plain.out == "" and plain.err.startswith("truegain: ")
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--json"])
    machine = capsys.readouterr()
    error = json.loads(machine.out)["error"]
    assert end.value.code == 2
    assert error["kind"] == "config" and set(error) == {"kind", "message", "hint"}
    assert words in plain.err and words in f"{error['message']}\n{error['hint']}"
    assert error["hint"], "an error says what to do next"
    assert machine.err == ""


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    shown = capsys.readouterr()
    assert end.value.code == 2 and shown.out == ""
    assert shown.err.startswith("Usage: truegain") and "fix:" not in shown.err


def test_version(tmp_path: Path) -> None:
    from importlib.metadata import version

    assert cli("--version", cwd=tmp_path) == Ran(0, f"truegain {version('truegain')}\n", "")


# init, estimate.


@pytest.mark.parametrize("name", EXAMPLES)
def test_init_writes_every_example_and_it_can_be_estimated(tmp_path: Path, name: str) -> None:
    done = call("init", "mine", "--example", name, cwd=tmp_path)
    assert done.code == 0 and done.out.splitlines()[-1].startswith("Next: truegain estimate mine")
    programs = (tmp_path / "mine/task.py").exists()
    assert (tmp_path / "mine/problem.toml").exists()
    found = call("estimate", "mine", "--json", *(["--unsafe"] if programs else []), cwd=tmp_path).json
    assert found["evaluations"]["search"] > 0 and found["model"] == "local:smollm2-135m"


def test_init_lists_the_examples_and_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    assert set(call("init", "--list", "--json", cwd=tmp_path).json["examples"]) == set(EXAMPLES)
    (tmp_path / "empty").mkdir()
    done = call("init", "empty", "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["next"] == "truegain run empty"
    before = (tmp_path / "empty" / "problem.toml").read_bytes()
    again = call("init", "empty", "--example", "sqlite", cwd=tmp_path)
    assert again.code == 2 and "exists and is not empty" in again.err and "fix: " in again.err
    assert (tmp_path / "empty" / "problem.toml").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    assert call("init", "file", cwd=tmp_path).code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_estimate_tells_what_the_budget_buys_without_spending(tmp_path: Path) -> None:
    place = folder(tmp_path / "bowl", evaluate="raise SystemExit('measured')")
    done = call("estimate", "bowl", "--evaluations", 40, cwd=tmp_path)
    assert done.code == 0
    assert "38 evaluations" in done.out and done.out.splitlines()[-1] == "Next: truegain run bowl --evaluations 40"
    assert not (tmp_path / "runs").exists()
    measured = call("estimate", place, "--measure", "--json", cwd=tmp_path)
    assert measured.code == 3 and measured.json["error"]["kind"] == "evaluator"
    folder(place)
    assert call("estimate", place, "--measure", "--json", cwd=tmp_path).json["seconds_per_evaluation"] > 0


# The problem file, and keys on the command line.


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("", "evaluator: missing"),
        ("[evaluator", "must be closed"),
        (TOML + "[budgets]\nusd = 1", "budgets: unknown key"),
        (TOML.replace("timeout = 20", "timeout = 'soon'"), "evaluator.timeout: found 'soon'"),
        (TOML.replace("timeout = 20", "time = 20"), "timeout"),
        (TOML.replace("high = 9", "high = 0"), "space"),
        (TOML.replace('function = "evaluate:measure"', ""), "exactly one of function, command and ensemble"),
        (TOML.replace("evaluations = 12", ""), "would never end"),
        (TOML.replace("evaluations = 12", "evaluations = 1"), "allow at least 3"),
        (TOML.replace('"coordinate"', '"magic"'), "magic"),
        (TOML.replace('name = "loss"', 'name = "loss"\ndirection = "up"'), "maximize"),
    ],
)
def test_a_wrong_problem_file_is_refused_before_anything_is_spent(tmp_path: Path, toml: str, words: str) -> None:
    folder(tmp_path / "bowl", toml)
    done = call("run", "bowl", "--json", cwd=tmp_path)
    error = done.json["error"]
    assert done.code == 2 and done.err == ""
    assert error["kind"] == "config"
    assert words in f"{error['message']} {error['hint']}"
    assert not list((tmp_path / "runs").glob("[!.]*"))


def test_a_folder_without_a_problem_says_how_to_begin(tmp_path: Path) -> None:
    done = call("run", "nowhere", cwd=tmp_path)
    assert done.code == 2 and "there is no nowhere/problem.toml" in done.err and "truegain init" in done.err


# Reading a finished run.


def test_list_show_diff_events_export_and_replay_of_a_finished_run(finished: Path, tmp_path: Path) -> None:
    run = name_of(finished)
    (listed,) = call("list", "--json", cwd=finished).json["runs"]
    assert (listed["run"], listed["state"], listed["status"], listed["pid"]) == (run, "finished", "exact", None)

    shown = call("show", "--json", cwd=finished).json
    assert shown["run"] == run and shown["trials"] == shown["candidates"] and shown["spent"]["evaluations"] == 16
    full = call("show", run[:8], "--all", "--json", cwd=finished).json
    assert [trial["number"] for trial in full["trials"]] == list(range(shown["candidates"]))
    best = call("show", run, "best", "--json", cwd=finished).json
    assert best["parameters"] == shown["best"]
    assert call("show", run, best["candidate"][:6], "--json", cwd=finished).json == best
    assert call("show", run, "verdict", "--json", cwd=finished).json["verdict"]["accepted"] is True

    diff = call("diff", run, "--json", cwd=finished).json
    assert {c["parameter"]: c["after"] for c in diff["changes"]}.items() <= shown["best"].items() and diff["changes"]
    assert call("diff", run, "0", "0", "--json", cwd=finished).json["changes"] == []

    events = call("events", run, "--json", cwd=finished).json["events"]
    assert [e["seq"] for e in events] == sorted(e["seq"] for e in events)
    assert events[0]["type"] == "run.started" and events[-1]["type"] == "run.ended"
    assert len(call("events", run, "--after", events[-1]["seq"] - 1, "--json", cwd=finished).json["events"]) == 1
    raced = call("events", run, "--type", "race.decided", "--json", cwd=finished).json["events"]
    assert raced and {e["type"] for e in raced} == {"race.decided"}

    to = tmp_path / "out"
    exported = call("export", run, "--to", to, cwd=finished)
    assert exported.code == 0 and f"wrote {to}/candidate.json" in exported.out
    assert json.loads((to / "candidate.json").read_text())["candidate"] == shown["best"]
    assert call("export", run, "--json", cwd=finished).json["candidate"] == shown["best"]

    replayed = call("replay", run, "--workers", 3, "--json", cwd=finished).json
    assert replayed == {"run": run, "events": len(events), "equal": True, "difference": None}


def test_for_people_the_last_line_names_the_next_command(finished: Path) -> None:
    run = name_of(finished)
    for arguments in (("show",), ("init", "--list")):
        done = call(*arguments, cwd=finished)
        assert done.code == 0 and done.err == ""
    assert f"truegain export {run}" in call("show", cwd=finished).out.splitlines()[-1]
    table = call("list", cwd=finished).out.splitlines()
    assert table[0].split() == ["RUN", "PROBLEM", "BEGUN", "STATE", "STATUS"] and table[1].startswith(run)
    diff = call("diff", cwd=finished).out.splitlines()
    assert "2 parameters differ" in diff[0] and any(line.startswith("  n: 5 → ") for line in diff)
    assert "all" in call("replay", cwd=finished).out
    assert "exact: " in call("export", cwd=finished).out.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nothing"),
        ("show", "last", "99"),
        ("show", "last", "zz"),
        ("diff", "last", "initial", "zz"),
        ("events", "nothing"),
        ("export", "nothing"),
        ("replay", "nothing"),
        ("resume", "nothing"),
    ],
    ids=" ".join,
)
def test_an_unknown_run_or_candidate_is_a_config_error(finished: Path, arguments: tuple[str, ...]) -> None:
    done = call(*arguments, "--json", cwd=finished)
    assert done.code == 2
    error = done.json["error"]
    assert error["kind"] == "config" and arguments[-1] in error["message"] and error["hint"]


def test_a_beginning_that_fits_several_runs_is_refused(finished: Path, tmp_path: Path) -> None:
    import shutil

    run = finished / "runs" / name_of(finished)
    for name in ("bowl-1", "bowl-2"):
        shutil.copytree(run, tmp_path / "runs" / name)
    done = call("show", "bowl", cwd=tmp_path)
    assert done.code == 2 and "bowl-1, bowl-2" in done.err
    assert call("show", tmp_path / "runs" / "bowl-1", "--json", cwd=finished).json["status"] == "exact", (
        "a path will do"
    )


def test_an_empty_folder_of_runs_says_how_to_begin(tmp_path: Path) -> None:
    done = call("list", cwd=tmp_path)
    assert done.code == 0 and done.out.splitlines()[-1].startswith("Next: truegain init")
    missing = call("show", cwd=tmp_path)
    assert missing.code == 2 and "there is no run" in missing.err
    assert not (tmp_path / "runs").exists(), "reading makes no folder"


def test_a_damaged_run_is_listed_and_refused_and_left_as_it_is(finished: Path, tmp_path: Path) -> None:
    broken = tmp_path / "runs" / "broken"
    broken.mkdir(parents=True)
    (broken / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    (listed,) = call("list", "--json", cwd=tmp_path).json["runs"]
    assert listed["state"] == "damaged"
    shown = call("show", "broken", "--json", cwd=tmp_path)
    assert shown.code == 1 and shown.json["error"]["kind"] == "store"
    assert (broken / "journal.sqlite").read_bytes() == b"not a database at all" * 100


# What a hostile evaluator may not do to a terminal.


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    evaluate = f"""
    EVIL = {ESCAPE!r}
    count = 0
    def measure(candidate):
        global count
        count += 1
        print(EVIL)
        if count % 3 == 0:
            raise ValueError(EVIL)
        return {{"loss": abs(candidate["n"] - 7), "feedback": EVIL}}
    """
    text = (
        TOML
        + f"""
[space.word]
type = "categorical"
choices = ["plain", {json.dumps(ESCAPE)}]
[space.prose]
type = "text"
default = {json.dumps("first" + ESCAPE)}
"""
    )
    toml = text.replace('name = "loss"', 'name = "loss"\nunit = "\\u001b[5mms"')
    folder(tmp_path / "p", toml, evaluate)
    ran = call("run", "p", "--evaluations", 20, "--set", 'proposer.name="random"', cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert calm(ran.out, ran.err) and "EXACT" in ran.out
    said = ""
    for arguments in (
        ["show", "last", "--all"],
        ["show", "last", "0"],
        ["show", "last", "1"],
        ["show", "last", "verdict"],
        ["diff"],
        ["diff", "last", "0", "1"],
        ["events"],
        ["export"],
        ["list"],
        ["replay"],
    ):
        done = call(*arguments, cwd=tmp_path)
        assert done.code == 0, done.err
        assert calm(done.out, done.err), arguments
        said += done.out
    assert "\\x1b" in said, "it is shown, not swallowed"
    machine = call("show", "last", "--all", "--json", cwd=tmp_path)
    assert machine.json["trials"]


def test_an_evaluators_error_is_shown_without_its_control_characters(tmp_path: Path) -> None:
    folder(tmp_path / "p", evaluate=f"def measure(candidate):\n    raise ValueError({ESCAPE!r})\n")
    for arguments in (["run", "p"], ["estimate", "p", "--measure"], ["show"]):
        done = call(*arguments, cwd=tmp_path)
        assert calm(done.out, done.err), arguments
        assert "\\x1b" in done.out + done.err


# prune.


def test_prune_removes_what_is_old_and_says_so_first_with_dry_run(finished: Path, tmp_path: Path) -> None:
    import shutil

    for age, name in enumerate(("new", "old", "older")):
        copy = tmp_path / "runs" / name
        shutil.copytree(finished / "runs" / name_of(finished), copy)
        when = (copy / "journal.sqlite").stat().st_mtime - 86400 * 10 * age
        for path in copy.glob("journal.sqlite*"):
            os.utime(path, (when, when))
    (tmp_path / "runs" / "notes").mkdir()
    dry = call("prune", "--days", 5, "--keep", 2, "--dry-run", "--json", cwd=tmp_path)
    assert dry.json == {"removed": [], "would_remove": ["older"]}
    assert len(list((tmp_path / "runs").glob("[!.]*"))) == 4
    assert call("prune", "--days", 5, cwd=tmp_path).out == "removed old\nremoved older\n"
    assert call("prune", "--days", 5, cwd=tmp_path).out == "Nothing to remove.\n"
    assert call("prune", "--keep", 0, "--json", cwd=tmp_path).json["removed"] == ["new"]
    assert [path.name for path in (tmp_path / "runs").glob("[!.]*")] == ["notes"], "what is no run is left alone"


# Where runs are.


def test_runs_go_where_the_user_says_or_to_the_project_or_beside_the_problem(tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "cron"
    elsewhere.mkdir()
    bowl = folder(work / "bowl")
    for arguments, env, expected in (
        (["--runs", tmp_path / "said"], {"TRUEGAIN_RUNS": str(tmp_path / "variable")}, tmp_path / "said"),
        ([], {"TRUEGAIN_RUNS": str(tmp_path / "variable")}, tmp_path / "variable"),
        ([], {}, work / "runs"),
    ):
        done = cli("run", bowl, "--evaluations", 3, "--json", *arguments, cwd=elsewhere, **env)
        assert Path(done.json["folder"]).parent == expected
    (tmp_path / ".git").mkdir()
    done = cli("run", bowl, "--evaluations", 3, "--json", cwd=elsewhere)
    assert Path(done.json["folder"]).parent == tmp_path / "runs"
    assert cli("list", "--json", cwd=work).json["runs_folder"] == str(tmp_path / "runs")
    assert cli("list", "--json", "--runs", work / "runs", cwd=elsewhere).json["runs"]
    assert not list(elsewhere.iterdir()), "a scheduled run leaves nothing in the folder it was started in"
    assert sorted(path.name for path in bowl.iterdir() if path.name != "__pycache__") == ["evaluate.py", "problem.toml"]


def test_a_runs_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    done = call("run", folder(tmp_path / "p"), "--json", cwd=tmp_path)
    assert done.code == 1 and done.json["error"]["kind"] == "store"


# Names of the user's own files.


@pytest.mark.parametrize("flags", [("-P",), ()], ids=["python -P -m agent", "python -m agent"])
def test_the_users_own_modules_do_not_take_the_place_of_ours(tmp_path: Path, flags: tuple[str, ...]) -> None:
    bowl = folder(tmp_path / "bowl", evaluate="import helper\n" + BOWL)
    trap = "raise SystemExit('the wrong module was imported')\n"
    for place in (tmp_path, bowl):
        for name in ("json", "numpy", "pydantic", "asyncio", "openai", *(["click", "agent"] if flags else [])):
            if flags or place == bowl:
                (place / f"{name}.py").write_text(trap)
    (bowl / "agent.py").write_text(trap)
    (bowl / "helper.py").write_text("")
    done = cli("run", bowl, "--evaluations", 3, "--json", cwd=tmp_path, flags=flags)
    assert done.code == 0, done.out + done.err
    assert cli("list", cwd=tmp_path, flags=flags).code == 0


# Pipes and encodings.


def test_a_reader_that_goes_away_is_no_error(finished: Path) -> None:
    with begin("events", "--json", cwd=finished) as pipe:
        assert pipe.stdout is not None and pipe.stderr is not None
        pipe.stdout.close()
        assert pipe.stderr.read() == ""
    assert pipe.returncode == 0


def test_a_locale_without_our_characters_is_no_error(finished: Path) -> None:
    for arguments in (["show"], ["show", "--json"], ["--help"], ["diff"]):
        done = cli(*arguments, cwd=finished, PYTHONIOENCODING="latin-1")
        assert done.code == 0, done.err
