"""Where runs go, how they are found again, and which may be removed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.events import RunEnded, RunStarted
from agent.folders import find, folders, listing, new_run, prune, remove, runs_folder
from agent.journal import FILE, Journal
from tests.cli_helpers import call
from tests.cli_helpers import folder as problem_folder


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUEGAIN_RUNS", raising=False)


def make(folder: Path, age: float = 0.0, ended: bool = False, now: float = 1_000_000.0) -> Path:
    store = Journal(folder)
    store.append(RunStarted(folder.name, {"name": "bowl"}, {}, 0, {}, {}, {}), 100.0)
    if ended:
        store.append(RunEnded("finished", "proven", "a", "a", 0), 101.0)
    store.close()
    os.utime(folder / FILE, (now - age, now - age))
    return folder


def test_runs_go_where_the_user_says_then_the_environment_then_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = tmp_path / "project" / "examples" / "bowl"
    problem.mkdir(parents=True)
    assert runs_folder(problem) == problem / "runs"  # no project around it, and a script alone
    (problem / "words.toml").touch()
    assert runs_folder(problem) == problem.parent / "runs"
    (tmp_path / "project" / "pyproject.toml").touch()
    assert runs_folder(problem) == tmp_path / "project" / "runs"
    (problem / ".git").mkdir()
    assert runs_folder(problem) == problem / "runs"
    monkeypatch.setenv("TRUEGAIN_RUNS", str(tmp_path / "else"))
    assert runs_folder(problem) == tmp_path / "else"
    assert runs_folder(problem, tmp_path / "said") == tmp_path / "said"


def test_without_a_problem_the_working_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert runs_folder(None) == here / "runs"
    (here / "problem.toml").touch()
    assert runs_folder(None) == tmp_path / "runs"


def test_commands_find_the_run_of_a_script_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    place = tmp_path / "scripts" / "tune.py"
    place.write_text(
        "from agent import Float, optimize\n\ndef loss(candidate):\n    return candidate['x'] ** 2\n\n"
        "if __name__ == '__main__':\n"
        "    optimize(loss, space={'x': Float(-1, 1)}, model=None, deterministic=True, budget=6)\n"
    )
    root = Path(__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if k != "TRUEGAIN_RUNS"} | {"PYTHONPATH": str(root)}
    for command in ([str(place)], ["-m", "agent", "show", "last"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=place.parent, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout


def test_names_of_runs_sort_by_time_and_never_meet(tmp_path: Path) -> None:
    names = [new_run(tmp_path, "My Büro/../problem!", now).name for now in (1e9, 1e9 + 1, 1.7e9)]
    assert names == sorted(names) and all(name.startswith("my-b-ro-problem-") for name in names)
    assert new_run(tmp_path, "x", 1e9) != new_run(tmp_path, "x", 1e9)
    assert new_run(tmp_path, "???").name.startswith("run-")
    assert new_run(tmp_path, "../../etc/passwd").parent == tmp_path


def test_a_run_is_found_by_name_beginning_path_or_as_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make(tmp_path / "bowl-1"), make(tmp_path / "bowl-2-x", age=50)
    (tmp_path / "notes").mkdir()
    assert list(folders(tmp_path)) == [first, second]
    assert find(tmp_path, "bowl-1") == first
    assert find(tmp_path, "bowl-2") == second
    assert find(tmp_path, "last") == first  # the newest, not the last by name
    assert find(tmp_path / "elsewhere", str(second)) == second
    exact = make(tmp_path / "bowl")
    assert find(tmp_path, "bowl") == exact  # an exact name wins over a beginning
    with pytest.raises(ConfigError, match="could be bowl-1, bowl-2-x"):
        find(tmp_path, "bowl-")
    for name in ("absent", "last"):
        with pytest.raises(ConfigError, match=f"no run '{name}'") as caught:
            find(tmp_path / "elsewhere", name)
        assert "truegain list" in caught.value.hint


def test_the_last_run_is_the_last_written_one_and_not_the_last_one_read(tmp_path: Path) -> None:
    long_ago, now = make(tmp_path / "a", age=90, now=time.time()), time.time()
    recent = make(tmp_path / "b", age=30, now=now)
    assert listing(long_ago).state == "lost"  # reading leaves files behind
    assert find(tmp_path, "last") == recent
    assert prune(tmp_path, days=60 / 86_400, keep=None, now=now) == [long_ago]
    live = Journal(long_ago)
    live.append(RunEnded("finished", "proven", "a", "a", 0), 101.0)
    live.commit()  # what is written is in the log now, and the journal's own time is the old one
    os.utime(long_ago / FILE, (now - 90, now - 90))
    assert find(tmp_path, "last") == long_ago
    live.close()


def test_the_list_shows_what_state_each_run_is_in(tmp_path: Path) -> None:
    done = listing(make(tmp_path / "done", ended=True))
    assert (done.state, done.status, done.problem, done.started, done.pid) == (
        "finished",
        "proven",
        "bowl",
        100.0,
        None,
    )
    assert listing(make(tmp_path / "cut")).state == "lost"
    live = Journal(tmp_path / "cut")
    shown = listing(tmp_path / "cut")
    assert (shown.state, shown.pid) == ("running", os.getpid())
    assert shown.to_json()["folder"] == str(tmp_path / "cut")
    live.close()
    Journal(tmp_path / "empty").close()
    assert (listing(tmp_path / "empty").state, listing(tmp_path / "empty").detail) == ("damaged", "no events yet")
    (tmp_path / "done" / FILE).write_bytes(b"notes" * 100)
    broken = listing(tmp_path / "done")
    assert broken.state == "damaged" and "cannot be read" in broken.detail


def test_pruning_spares_what_is_new_what_is_kept_and_what_runs(tmp_path: Path) -> None:
    now, day = 1_000_000.0, 86_400.0
    ages = {name: make(tmp_path / name, age * day, now=now) for name, age in [("a", 9), ("b", 5), ("c", 3), ("d", 1)]}

    def pruned(days: float | None = None, keep: int | None = None) -> list[str]:
        return sorted(folder.name for folder in prune(tmp_path, days=days, keep=keep, now=now))

    assert pruned(days=4) == ["a", "b"]
    assert pruned(keep=1) == ["a", "b", "c"]
    assert pruned(days=2, keep=3) == ["a"]
    assert pruned(days=20) == []
    live = Journal(ages["a"])
    os.utime(ages["a"] / FILE, (now - 9 * day, now - 9 * day))
    assert pruned(days=4) == ["b"]
    live.close()
    remove(ages["b"])
    assert [folder.name for folder in folders(tmp_path)] == ["a", "c", "d"]


def test_git_leaves_a_new_folder_of_runs_alone_and_an_old_one_as_it_is(tmp_path: Path) -> None:
    place = problem_folder(tmp_path / "p")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert call("run", place, "--evaluations", 6, cwd=tmp_path).code == 0
    said = subprocess.run(["git", "status", "--short"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "runs" not in said and "p/" in said
    (tmp_path / "runs" / ".gitignore").unlink()
    assert call("run", place, "--evaluations", 6, cwd=tmp_path).code == 0
    assert not (tmp_path / "runs" / ".gitignore").exists()
