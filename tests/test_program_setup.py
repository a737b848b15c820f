"""What lies beside a program, and what no program ever gets to see."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent import Float, Programs
from agent.api import make_session, optimize
from agent.config import load
from agent.errors import ConfigError, PrerequisiteError
from agent.proposers.base import Context, Proposal
from agent.texts import Code
from tests.evaluators.test_code_runs import Edits

TOML = """
description = "A number."

[evaluator]
code = "task:Task"
deterministic = true

[[objectives]]
name = "score"
direction = "maximize"

[space.program]
type = "code"
files = {files}
protected = {protected}
entry = "{entry}"

[budget]
evaluations = 9
"""
TASK = """
from answers import SECRET

class Task:
    def inputs(self, seed, stage):
        return [1, 2]

    def score(self, given, output):
        return float(output == given * SECRET)
"""


def problem(folder: Path, files: str = '["pkg/**"]', protected: str = "[]", entry: str = "pkg.main:solve") -> Path:
    for path, text in {
        "pkg/__init__.py": "",
        "pkg/config.py": "LIMIT = 3\n",
        "pkg/main.py": "from pkg.config import LIMIT\n\n\ndef solve(x):\n    return x * LIMIT\n",
        "task.py": TASK,
        "answers.py": "SECRET = 3\n",
        "problem.toml": TOML.format(files=files, protected=protected, entry=entry),
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))
    return folder


def tree(folder: Path, **given: str) -> dict[str, str]:
    return dict(load(problem(folder, **given)).problem.initial()["program"])


def test_a_tree_never_takes_in_what_the_evaluator_is_made_of(tmp_path: Path) -> None:
    for path in ("program.py", "rows.jsonl"):
        (tmp_path / path).write_text("")
    with pytest.raises(ConfigError, match=r"takes in answers\.py, which the evaluator imports"):
        tree(tmp_path, files='["**"]')
    assert set(tree(tmp_path, files='["**"]', protected='["answers.py"]')) == {
        "pkg/__init__.py",
        "pkg/config.py",
        "pkg/main.py",
        "program.py",
        "rows.jsonl",
    }


def test_a_candidate_cannot_bring_them_either(tmp_path: Path) -> None:
    setup = load(problem(tmp_path, files='["**"]', protected='["answers.py"]'))
    value = dict(setup.problem.initial()["program"])
    for path in ("task.py", "problem.toml", "task/__init__.py"):
        with pytest.raises(ValueError, match="protected"):
            setup.problem.space["program"].check({**value, path: ""})


def test_what_is_protected_lies_beside_the_program_as_it_is(tmp_path: Path) -> None:
    setup = load(problem(tmp_path, protected='["pkg/config.py"]'))
    assert set(setup.problem.initial()["program"]) == {"pkg/__init__.py", "pkg/main.py"}
    evaluator = setup.problem.evaluator
    files, _ = evaluator.assembled(setup.problem.initial(), evaluator.load(), "train")  # type: ignore[attr-defined]
    assert files["pkg/config.py"] == b"LIMIT = 3\n" and "answers.py" not in files
    before = load(tmp_path).problem.evaluator.fingerprint
    (tmp_path / "pkg" / "config.py").write_text("LIMIT = 4\n")
    assert load(tmp_path).problem.evaluator.fingerprint != before


def test_a_pattern_that_protects_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"protected: no file in .* fits 'pkg/confg\.py'"):
        load(problem(tmp_path, protected='["pkg/confg.py"]'))


def test_nor_by_another_name(tmp_path: Path) -> None:
    for link in ("alias.py", "pkg/alias.py"):
        place = problem(tmp_path, files='["**"]', protected='["answers.py"]')
        (place / link).symlink_to(place / "task.py")
        with pytest.raises(ConfigError, match="a link to what may not change"):
            load(place)
        (place / link).unlink()


def test_names_with_brackets_are_names(tmp_path: Path) -> None:
    place = problem(tmp_path, files='["**"]', protected='["answers.py"]')
    (place / "rows[1].jsonl").write_text('{"x": 1, "answer": "secret"}\n' * 3)
    with (place / "problem.toml").open("a") as file:
        file.write('[data]\nfile = "rows[1].jsonl"\ntarget = "suite"\n')
    assert "rows[1].jsonl" not in load(place).problem.initial()["program"]


def test_a_proposer_of_the_problems_own_is_no_part_of_the_program(tmp_path: Path) -> None:
    place = problem(tmp_path, files='["**"]', protected='["answers.py"]')
    (place / "mine.py").write_text("class Mine: ...\n")
    assert "mine.py" in load(place).problem.initial()["program"]
    with (place / "problem.toml").open("a") as file:
        file.write('[proposer]\nname = "mine:Mine"\n')
    assert "mine.py" not in load(place).problem.initial()["program"]


def test_links_to_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "odd.py").symlink_to("gone.py")
    with pytest.raises(ConfigError, match="a link to nothing"):
        load(problem(tmp_path))


def test_a_program_is_called_with_one_argument(tmp_path: Path) -> None:
    place = problem(tmp_path)
    text = (place / "problem.toml").read_text().replace("[budget]", "[space.program.x]\n[budget]")
    (place / "problem.toml").write_text(
        text.replace("[space.program.x]\n", "").replace('entry = "', 'signature = "(x, limit)"\nentry = "')
    )
    with pytest.raises(ConfigError, match="called with one argument"):
        load(place)


# From Python.


class Doubling:
    """A task that stands in a script."""

    bounds: Mapping[str, Any] = {}

    def inputs(self, seed: int, stage: str) -> list[int]:
        return [1, 2, 3]

    def score(self, given: int, output: Any) -> float:
        return float(output == 2 * given)


class Better:
    """Proposes the right program."""

    name = "better"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = context.memory is not None
        context.memory = 1
        return [Proposal({"program": "def solve(x):\n    return 2 * x\n"}, "better")]

    forecast = Edits.forecast


SPACE = {"program": Code("def solve(x):\n    return x\n", entry="solve")}


@pytest.mark.parametrize(
    "evaluate", [Doubling, Programs(Doubling, sandbox={"seconds": 20.0})], ids=["class", "Programs"]
)
def test_a_task_is_all_that_optimize_needs(tmp_path: Path, evaluate: Any) -> None:
    result = optimize(
        evaluate,
        space=SPACE,
        objectives="maximize",
        deterministic=True,
        model=None,
        budget=9,
        folder=tmp_path,
        options={"proposer": f"{__name__}:Better"},
    )
    assert result.status == "exact" and "2 * x" in result.best["program"]


def test_a_class_of_this_session_alone_works_too(tmp_path: Path) -> None:
    class Here(Doubling):
        pass

    given = {"space": SPACE, "objectives": "maximize", "deterministic": True, "model": None, "folder": tmp_path}
    result = optimize(Here, budget=9, options={"proposer": f"{__name__}:Better"}, **given)
    assert result.status == "exact"


def test_what_a_task_imports_is_kept_from_programs_in_python_too(tmp_path: Path) -> None:
    import sys

    (tmp_path / "answers_of_it.py").write_text("SECRET = 42\n")
    (tmp_path / "task_of_it.py").write_text("from answers_of_it import SECRET\n" + TASK.split("\n\n", 1)[1])
    (tmp_path / "lib.py").write_text("def solve(x):\n    return x\n")
    sys.path.append(str(tmp_path))
    try:
        import task_of_it  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(ConfigError, match=r"takes in answers_of_it\.py, which the evaluator imports"):
        make_session(task_of_it.Task, space={"p": Code(files=("*.py",), entry="lib:solve")}, folder=tmp_path)


def test_what_is_wrong_with_a_task_is_said_before_anything_runs(tmp_path: Path) -> None:
    class Wrong(Doubling):
        bounds: ClassVar = {"scor": (None, 1.0)}

    def session(evaluate: Any, space: Any = SPACE) -> Any:
        return make_session(evaluate, space=space, objectives="maximize", folder=tmp_path)

    with pytest.raises(ConfigError, match=r"bounds: found \{'scor'"):
        session(Wrong).problem.evaluator.load()
    with pytest.raises(ConfigError, match="the space has none"):
        session(Doubling, {"x": Float(0, 1)})
    with pytest.raises(ConfigError, match="SandboxConfig: second"):
        session(Programs(Doubling, sandbox={"second": 1.0}))
    with pytest.raises(PrerequisiteError, match="there is no module nunpy") as caught:
        session(Programs(Doubling, sandbox={"imports": ["nunpy"]})).problem.evaluator.load()
    assert "pip install nunpy" in caught.value.hint
