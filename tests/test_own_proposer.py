"""A proposer of the user's own: where it is found, and a script that names itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.run import session_of
from agent.code.changes import counted_lines, line_diffs
from agent.config import load
from agent.errors import ConfigError
from agent.llm.scripted import Scripted
from agent.proposers.table import canonical
from agent.proposers.table import load as proposer
from tests.cli_helpers import call, environment

DOCS = Path(__file__).parents[1] / "docs" / "code.md"
PROBLEM = """
[evaluator]
function = "own_measure:measure"
deterministic = true
[[objectives]]
name = "value"
[space.program]
type = "code"
default = "def solve(x):\\n    return x + 1\\n"
entry = "solve"
[budget]
evaluations = 8
"""


def folder(place: Path, module: str = "own_edits") -> Path:
    place.mkdir()
    (place / "problem.toml").write_text(PROBLEM)
    (place / "own_measure.py").write_text("def measure(candidate):\n    return float(len(candidate['program']))\n")
    (found,) = re.findall(r"```python\n(from agent\.code\.edits.*?)```", DOCS.read_text(), re.S)
    (place / f"{module}.py").write_text(found)
    return place


async def test_the_proposer_of_the_documentation_runs_from_the_problems_folder(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    reply = "<<<<<<< SEARCH\n    return x + 1\n=======\n    return x\n>>>>>>> REPLACE\n"
    session = session_of(load(place, {"proposer.name": "own_edits:Edits", "evaluator.executor": "inline"}))
    session.model = Scripted([reply, "no program", *["no program"] * 20])
    session.settings.models["propose"] = "scripted:test"
    result = await session.run(tmp_path / "runs" / "own")
    assert result.best["program"] == "def solve(x):\n    return x\n" and result.status == "exact"


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    place = folder(tmp_path / "p", "own_lost")
    for name, said in (
        ("elsewhere:Edits", "there is no module 'elsewhere' in"),
        ("own_lost:Edit", "it has"),
        ("own_lost.py:Edits", 'write "own_lost:Edits"'),
        ("edit", "choose one of"),
        ("qualty-diversity", "did you mean quality_diversity?"),
    ):
        with pytest.raises(ConfigError) as error:
            proposer(name, place)
        assert said in error.value.message + error.value.hint and "evaluator" not in error.value.hint


def test_the_default_proposer_says_who_changes_a_program(tmp_path: Path) -> None:
    done = call("run", folder(tmp_path / "p"), "--model", "none", cwd=tmp_path)
    assert done.code == 2 and "needs a model to change texts and programs" in done.err and "module:attr" in done.err
    assert "'default'" in done.err and "portfolio" not in done.err
    named = call("run", tmp_path / "p", "--model", "none", "--proposer", "evolve", cwd=tmp_path)
    assert named.code == 2 and "--proposer random_edits" in named.err and "or tune" in named.err
    assert "default proposer" not in named.err, "it needs one too"


def test_a_name_may_have_the_other_dash_and_is_kept_as_the_table_has_it(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    for given, kept in [("quality-diversity", "quality_diversity"), ("evollm_null", "evollm-null")]:
        assert session_of(load(place, {"proposer.name": given})).settings.proposer == kept
    assert canonical("a-b:c") == "a-b:c" and canonical("no-body") == "no-body"
    assert proposer("random-edits").name == "random_edits"


@pytest.mark.parametrize("named", ['"selfish:measure"', "measure, options={'proposer': 'selfish:Own'}"])
def test_a_script_that_names_itself_and_is_not_guarded_ends_with_an_error(tmp_path: Path, named: str) -> None:
    more = "" if "options" in named else "options={'proposer': 'random'}, "
    (tmp_path / "selfish.py").write_text(
        "from agent import Float, optimize\n"
        "from agent.proposers.random import Random as Own\n"
        "def measure(c):\n    return c['x']\n"
        f"found = optimize({named}, {more}space={{'x': Float(0, 1)}}, deterministic=True, budget=8, model=None)\n"
        "print(found.sentence)\n"
    )
    done = subprocess.run(
        [sys.executable, "selfish.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert 'below `if __name__ == "__main__":`' in done.stdout + done.stderr


def test_changed_lines_are_counted_by_file() -> None:
    old = {"a.py": "x = 1\ny = 2\n", "b.py": "", "c.py": "--- z\n"}
    new = {**old, "a.py": "x = 1\ny = 3\nz = 4\n", "c.py": "", "new.py": ""}
    assert counted_lines("program", old, new) == "+2 −2 lines in a.py, c.py, new.py"
    assert counted_lines("program", "a\n", "a\nb\n") == "+1 −0 line in program"
    assert counted_lines("program", "a\n", "a") == "the ends of lines in program"
    assert [name for name, _ in line_diffs("program", old, new)] == ["program/a.py", "program/c.py", "program/new.py"]
    five = {f"{name}.py": "1\n" for name in "abcde"}
    assert counted_lines("p", {}, five) == "+5 −0 lines in a.py, b.py, c.py and 2 more files"
