"""What a newcomer does wrong: one sentence with what to do, the right exit code, and nothing left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.folders import find, folders
from agent.journal import Journal
from agent.session import Session
from tests.cli_helpers import call, folder
from tests.test_folders import make


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUEGAIN_RUNS", raising=False)


# Files that may not be read, and runs that never began.


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let this user not read files of that name, whoever it is: root may read them all."""
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_an_evaluator_that_may_not_be_read_is_one_sentence_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    forbid(monkeypatch, "evaluate.py")
    done = call("run", folder(tmp_path / "bowl"), "--model", "none", *options, cwd=tmp_path)
    assert done.code == 2 and "Traceback" not in done.err
    error = done.json["error"] if options else {"message": done.err, "hint": done.err}
    assert "bowl/evaluate.py: this user may not use it" in error["message"] and "chmod" in error["hint"]
    assert list(folders(tmp_path / "runs")) == []


def test_ctrl_c_before_anything_was_measured_leaves_no_run(tmp_path: Path) -> None:
    class Far:
        """An executor that is still connecting."""

        def __init__(self) -> None:
            self.asked = asyncio.Event()

        async def ready(self) -> None:
            self.asked.set()
            await asyncio.Event().wait()

    async def interrupted() -> None:
        far: Any = Far()
        session = Session.of(load(folder(tmp_path / "bowl")), executor=far)
        going = asyncio.ensure_future(session.run(tmp_path / "runs" / "one"))
        await asyncio.wait_for(far.asked.wait(), 60)
        assert (tmp_path / "runs" / "one").exists()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

    asyncio.run(interrupted())
    assert list(folders(tmp_path / "runs")) == []


def test_last_is_no_run_that_never_began(tmp_path: Path) -> None:
    make(tmp_path / "one", age=100)
    young = Journal(tmp_path / "young")
    assert find(tmp_path, "last").name == "young", "it is about to begin"
    young.close()
    assert find(tmp_path, "last").name == "one"


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve-eval", "bowl", "--model", "none", "--token-file"),
        ("eval", "bowl", "--out"),
        ("report", "last", "--to"),
        ("compare", "last", "--to"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_whose_folder_is_missing_is_refused_before_a_run_begins(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder(tmp_path / "bowl")
    make(tmp_path / "runs" / "one")
    done = call(*arguments, tmp_path / "nowhere" / "file", cwd=tmp_path)
    assert done.code == 2 and f"{arguments[-1]} {tmp_path}/nowhere/file: there is no folder" in done.err, done.err
    assert "mkdir -p" in done.err
    assert [run.name for run in folders(tmp_path / "runs")] == ["one"] and not (tmp_path / "nowhere").exists()


def test_a_problem_file_that_may_not_be_read_is_not_called_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(tmp_path / "bowl")

    def refused(path: Path, **_: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    for command in ("run", "eval", "rank"):
        done = call(command, place, cwd=tmp_path)
        assert done.code == 2 and "problem.toml cannot be read: Permission denied" in done.err, done.err
        assert "TOML" not in done.err and "ls -ld" in done.err


@pytest.mark.parametrize("arguments", [("view", "--no-open", "--json"), ("list",)], ids=lambda arguments: arguments[0])
def test_a_folder_of_runs_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "closed").mkdir()

    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    monkeypatch.setattr("agent.view.server.Server.serve_forever", lambda server: None)
    done = call(*arguments, "--runs", tmp_path / "closed", cwd=tmp_path)
    assert done.code == 2 and "closed: this user may not use it" in done.out + done.err
    assert "http://" not in done.out


def test_a_folder_of_runs_that_may_not_be_written_is_not_taken_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    place = folder(tmp_path / "bowl")
    monkeypatch.setattr(Path, "mkdir", refused)
    done = call("run", place, "--runs", tmp_path / "closed", cwd=tmp_path)
    assert done.code == 1 and f"cannot write in {tmp_path}/closed: Permission denied" in done.err
    assert "--runs FOLDER" in done.err and "resume" not in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--set", "evaluator.executor=ray"],
            ["found 'ray'", "'inline', 'subprocess' or 'dask'", "evaluator.executor"],
        ),
        (["--evaluations", "-3"], ["found -3", "greater than or equal to 0", "budget.evaluations"]),
    ],
    ids=str,
)
def test_of_a_wrong_value_the_fix_is_about_the_value(tmp_path: Path, options: list[str], said: list[str]) -> None:
    done = call("run", folder(tmp_path / "bowl"), *options, cwd=tmp_path)
    assert done.code == 2 and all(words in done.err for words in said)
    assert f"fix: give {said[-1]} such a value" in done.err and "function, command" not in done.err


def test_init_in_a_folder_that_may_not_be_used_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def refused(path: Path, **more: Any) -> bool:
        if path.name == "x":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, **more)

    monkeypatch.setattr(Path, "exists", refused)
    done = call("init", "closed/x", cwd=tmp_path)
    assert done.code == 2 and done.err.startswith("truegain: closed/x: this user may not use it"), done.err


def test_without_out_the_result_file_is_here_under_the_documented_name(tmp_path: Path) -> None:
    done = call("eval", folder(tmp_path / "bowl"), "--json", cwd=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    assert done.json["file"] == file.name == f"eval-bowl-{done.json['candidate'][:8]}.jsonl"
