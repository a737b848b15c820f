"""contrib/ is what the functions give for a sample, and its workflow does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.batch.units import Machine, crontab, unit_files
from agent.cli.main import cli
from tests.cli_helpers import TOML, call, environment, folder

CONTRIB = Path(__file__).resolve().parents[1] / "contrib"
SAMPLE = Path("/home/me/tuning/batch.toml")
MACHINE = Machine(
    ("/home/me/tuning/.venv/bin/truegain",), "/home/me/tuning/.venv/bin:/usr/local/bin:/usr/bin:/bin", "me"
)


def test_the_units_and_the_crontab_come_from_the_same_template() -> None:
    made = unit_files(SAMPLE, "batch", MACHINE, stop=660)
    assert {path.name for path in CONTRIB.glob("truegain-*")} == set(made)
    for name, text in made.items():
        assert (CONTRIB / name).read_text() == text
    assert (CONTRIB / "crontab").read_text() == crontab(SAMPLE, machine=MACHINE) + "\n"


def workflow() -> dict[str, Any]:
    document = yaml.safe_load((CONTRIB / "github-workflow.yml").read_text())
    assert isinstance(document, dict)
    return document


def test_the_workflow_gives_keys_to_one_step_and_merges_nothing() -> None:
    (job,) = workflow()["jobs"].values()
    holders = [step["name"] for step in job["steps"] if "secrets." in str(step)]
    assert holders == ["The night"]
    assert workflow()["permissions"] == {"contents": "write"}
    commands = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    active = [line for line in commands if not line.strip().startswith("#")]
    assert not any(word in line for line in active for word in ("gh pr", "git merge", "--force"))
    saved = next(step for step in job["steps"] if "cache/save" in step.get("uses", ""))
    assert saved["if"] == "always()", "a night that fails keeps what it has paid for"


@pytest.mark.parametrize("name", ["list", "apply"])
def test_the_commands_of_the_workflow_exist(name: str) -> None:
    text = (CONTRIB / "github-workflow.yml").read_text()
    assert f"truegain {name}" in text
    assert cli.get_command(None, name) is not None  # type: ignore[arg-type]


def git(place: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=place, env=settings(place), check=True, capture_output=True, text=True
    ).stdout


def settings(place: Path, **more: str) -> dict[str, str]:
    """An environment in which GitHub's address is a repository beside the checkout."""
    who = {f"GIT_{role}_{what}": "ci@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alias = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{place.parent / 'origin.git'}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://x-access-token:token@github.com/me/it",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    return environment(**who, **alias, GH_TOKEN="token", GITHUB_REPOSITORY="me/it", **more)


def test_a_change_is_pushed_once_as_a_branch(tmp_path: Path) -> None:
    """The last step's own script, with its repository on this disk."""
    work = tmp_path / "work"
    folder(work / "bowl")
    (work / ".gitignore").write_text("runs/\n__pycache__/\n")
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "origin.git")], check=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", "-A")
    git(work, "commit", "--quiet", "-m", "begin")
    ran = call("run", work / "bowl", "--proposer", "random", "--seed", 1, "--model", "none", cwd=work)
    assert ran.code == 0, ran.err
    (job,) = workflow()["jobs"].values()
    script = job["steps"][-1]["run"]
    here = Path(sys.executable).parent

    def night() -> str:
        env = settings(work, PATH=f"{here}:{os.environ['PATH']}")
        done = subprocess.run(["bash", "-e", "-c", script], cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    night()
    branches = git(tmp_path / "origin.git", "branch", "--format=%(refname:short)").split()
    assert len(branches) == 1 and branches[0].startswith("truegain/")
    tip = git(tmp_path / "origin.git", "rev-parse", branches[0])
    night()
    assert git(tmp_path / "origin.git", "rev-parse", branches[0]) == tip
    assert git(work, "branch", "--show-current") == "main\n"
    git(work, "merge", "--quiet", branches[0])
    git(tmp_path / "origin.git", "branch", "-D", branches[0])
    night()
    assert git(tmp_path / "origin.git", "branch") == "", "what is merged is not proposed again"
    folder(work / "bowl", TOML.replace("default = 0.9", "default = 0.8"))
    assert "::notice::" in night()
