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


def test_estimate_refuses_a_budget_that_cannot_pay_for_the_exam() -> None:
    result = call("estimate", str(EXAMPLES / "sqlite"), "--evaluations", "20")
    assert isinstance(result.exception, AgentError)
    assert "24" in result.exception.message and "at least 28" in result.exception.hint
