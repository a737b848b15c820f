"""doctor and estimate: what is wrong is said with its fix, before anything is spent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.main import cli
from agent.errors import AgentError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def checks(result: Result) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(result.stdout)["checks"]}


def test_a_sound_machine_passes_and_missing_keys_do_not_matter() -> None:
    rows = checks(call("doctor", "--json"))
    assert rows["python"]["ok"] and rows["sqlite"]["ok"] and rows["runs folder"]["ok"]
    assert not rows["openai key"]["ok"] and not rows["openai key"]["needed"]
    assert "OPENAI_API_KEY" in rows["openai key"]["fix"]


def test_a_key_matters_to_the_problem_that_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "p"
    assert call("init", str(folder)).exit_code == 0
    with (folder / "problem.toml").open("a") as file:
        file.write('\n[models]\npropose = "openai:some-model"\n')
    result = call("doctor", str(folder), "--json")
    assert result.exit_code == 69
    rows = checks(result)
    assert rows["openai key"]["needed"] and rows["evaluator"]["ok"]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0000000000")
    assert call("doctor", str(folder), "--json").exit_code == 0


def test_missing_weights_are_fetched_by_the_first_run_or_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    row = checks(call("doctor", "--json"))["model weights"]
    assert not row["ok"] and not row["needed"] and "doctor --fetch" in row["fix"]
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    result = call("doctor", "--fetch", "--json")
    assert result.exit_code == 69
    assert checks(result)["model weights"]["needed"]


def test_a_broken_problem_has_a_row_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    call("init", str(folder))
    (folder / "evaluate.py").write_text("def measure(candidate):\n    raise RuntimeError('no license')\n")
    result = call("doctor", str(folder), "--json")
    assert result.exit_code == 69
    assert "no license" in checks(result)["problem"]["found"]


def test_an_unwritable_runs_folder_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("")
        row = checks(call("doctor", "--json", "--runs", str(blocked / "runs")))["runs folder"]
    else:
        tmp_path.chmod(0o500)
        row = checks(call("doctor", "--json", "--runs", str(tmp_path / "runs")))["runs folder"]
    assert not row["ok"] and "--runs" in row["fix"]


def test_estimate_says_what_the_budget_buys() -> None:
    found = json.loads(call("estimate", str(EXAMPLES / "sqlite"), "--json").stdout)
    assert found["evaluations"] == {"initial": 3, "search": 143, "exam": 24}
    assert found["candidates"][0] < found["candidates"][1] == 143
    assert found["calls_at_most"] > 0 and found["usd_at_most"] == 0


def test_estimate_shows_an_unknown_price_as_unknown() -> None:
    found = json.loads(
        call("estimate", str(EXAMPLES / "starter"), "--model", "openai:nobody-knows-this", "--json").stdout
    )
    assert found["usd_at_most"] is None and found["usd_known"] is False
    assert "price unknown" in call("estimate", str(EXAMPLES / "starter"), "--model", "openai:nobody-knows-this").stdout


def test_estimate_stays_within_the_limits_on_the_model_and_says_which_binds() -> None:
    def found(*more: str) -> dict[str, Any]:
        text = call("estimate", str(EXAMPLES / "starter"), "--model", "anthropic:claude-haiku-5-5", *more, "--json")
        return json.loads(text.stdout)

    free, calls, tokens = found(), found("--calls", "3"), found("--tokens", "5000")
    assert free["calls_at_most"] > 3 and free["tokens_at_most"] > 5000
    assert calls["calls_at_most"] == 3 and tokens["tokens_at_most"] == 5000
    assert 0 < tokens["usd_at_most"] < free["usd_at_most"]
    assert f"up to {free['calls_at_most']:,} calls, and 3 are allowed" in " ".join(calls["notes"])
    assert "budget.tokens" in " ".join(tokens["notes"]) and "budget." not in " ".join(free["notes"])


def test_estimate_refuses_a_budget_that_cannot_pay_for_the_exam() -> None:
    result = call("estimate", str(EXAMPLES / "sqlite"), "--evaluations", "20")
    assert isinstance(result.exception, AgentError)
    assert "24" in result.exception.message and "at least 28" in result.exception.hint


# As cron and systemd would run it


def batched(*arguments: object) -> Result:
    return call("doctor", "--as-batch", *map(str, arguments), "--json")


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    assert call("init", str(folder)).exit_code == 0
    return folder


def test_a_sound_problem_passes_without_the_callers_environment(starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-shell-0000")
    monkeypatch.setenv("PYTHONPATH", str(starter))
    monkeypatch.chdir(starter)
    result = batched(starter)
    rows = checks(result)
    assert result.exit_code == 0, result.output
    assert rows["evaluator p"]["ok"] and rows["locks"]["ok"] and rows["disk"]["ok"] and rows["locale"]["ok"]
    assert not rows["openai key"]["ok"], "the shell's key is not cron's"
    assert os.path.isabs(rows["truegain"]["found"].split()[0])
    assert str(starter) not in rows["working directory"]["found"]


def test_the_key_comes_from_the_env_file_and_is_never_shown(starter: Path, tmp_path: Path) -> None:
    with (starter / "problem.toml").open("a") as file:
        file.write('\n[models]\npropose = "openai:some-model"\n')
    (starter / "evaluate.py").write_text(
        "import os\ndef measure(candidate):\n    raise RuntimeError('with ' + os.environ.get('OTHER', 'nothing'))\n"
    )
    result = batched(starter)
    assert result.exit_code == 69 and checks(result)["openai key"]["needed"]
    assert "in the env file" in checks(result)["openai key"]["fix"]
    keys = tmp_path / "keys.env"
    keys.write_text("OPENAI_API_KEY=sk-very-secret-0000\nOTHER=hush-hush-hush\n")
    assert "chmod 600" in checks(batched(starter, "--env-file", keys))["env file"]["fix"]
    keys.chmod(0o600)
    result = batched(starter, "--env-file", keys)
    rows = checks(result)
    assert rows["openai key"]["ok"] and rows["env file"]["found"].endswith("OPENAI_API_KEY, OTHER")
    assert not rows["problem p"]["ok"] and "RuntimeError" in rows["problem p"]["found"]
    assert "very-secret" not in result.output and "hush" not in result.output


def test_a_command_that_only_the_shells_path_knows_is_named(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bench").write_text("#!/bin/sh\necho '{\"loss\": 1}'\n")
    (tools / "bench").chmod(0o755)
    toml = (starter / "problem.toml").read_text().replace('function = "evaluate:measure"', 'command = ["bench"]')
    (starter / "problem.toml").write_text(toml)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    row = checks(batched(starter))["command p"]
    assert not row["ok"] and "PATH=" in row["fix"]
    keys = tmp_path / "keys.env"
    keys.write_text(f"PATH={tools}:/usr/bin:/bin\n")
    keys.chmod(0o600)
    rows = checks(batched(starter, "--env-file", keys))
    assert rows["command p"]["ok"] and rows["evaluator p"]["ok"]


def test_each_problem_of_a_batch_file_is_checked(starter: Path, tmp_path: Path) -> None:
    assert call("init", str(tmp_path / "q")).exit_code == 0
    (tmp_path / "q" / "problem.toml").write_text("nothing = 1\n")
    (tmp_path / "nightly.toml").write_text('[[problems]]\npath = "p"\n[[problems]]\npath = "q"\n')
    result = batched(tmp_path / "nightly.toml")
    rows = checks(result)
    assert result.exit_code == 69 and rows["evaluator p"]["ok"] and not rows["problem q"]["ok"]
    (tmp_path / "nightly.toml").write_text("[[problems]]\n")
    row = checks(batched(tmp_path / "nightly.toml"))["batch file"]
    assert not row["ok"] and "problems.0.path" in row["found"]


def test_a_locale_or_home_that_does_not_work_has_its_fix(starter: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.env"
    keys.write_text("LC_ALL=POSIX\nPYTHONCOERCECLOCALE=0\nPYTHONUTF8=0\nHOME=/nowhere\n")
    keys.chmod(0o600)
    rows = checks(batched(starter, "--env-file", keys))
    assert not rows["locale"]["ok"] and "LANG=C.UTF-8" in rows["locale"]["fix"]
    assert not rows["home"]["ok"] and rows["working directory"]["found"].startswith("/,")


def test_runs_that_others_can_change_are_named(starter: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    row = checks(batched(starter, "--runs", runs))["permissions"]
    assert not row["ok"] and row["fix"] == f"chmod o-w {runs}"


def test_whether_apply_could_make_a_branch_is_told_and_not_needed(starter: Path) -> None:
    row = checks(batched(starter))["git p"]
    assert not row["ok"] and not row["needed"] and "git repository" in row["found"]


def test_a_python_that_does_not_start_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cli.doctor_batch.bare", lambda given: {"HOME": "/", "PYTHONHOME": "/nowhere"})
    result = batched()
    assert result.exit_code == 69 and "does not start" in checks(result)["truegain"]["found"]


def test_options_that_do_not_go_together() -> None:
    assert "--as-batch" in str(call("doctor", "--env-file", "x").output)
    assert "--fetch" in str(call("doctor", "--as-batch", "--fetch").output)
