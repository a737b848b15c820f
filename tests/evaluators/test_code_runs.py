"""Programs from problem.toml to the verdict: edits by a scripted model, run in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.api import optimize_async
from agent.cli.run import session_of
from agent.code.edits import EditRejected, revised
from agent.config import load
from agent.errors import ConfigError
from agent.evaluators.code import CodeEvaluator
from agent.evaluators.pytest_suite import PytestEvaluator
from agent.gate.checks import Context as CheckContext
from agent.gate.duplicates import Duplicates
from agent.journal import read_all
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.results.result import load_result
from agent.results.resultfiles import write_best
from agent.space import Candidate
from agent.texts import Code
from tests.evaluators import code_helpers

TOML = """
[evaluator]
code = "squares:Task"
deterministic = true
duplicates = "{duplicates}"

[evaluator.sandbox]
kind = "{kind}"
unsafe = true
seconds = 20

[[objectives]]
name = "right"
direction = "maximize"

[budget]
evaluations = 12

[space.program]
type = "code"
file = "program.py"
entry = "solve"
signature = "(x)"
imports = ["math"]

[proposer]
name = "{proposer}"
"""
TASK = """
class Task:
    def inputs(self, seed, stage):
        return [2, 3] if stage == "smoke" else list(range(2, 12))
    def score(self, given, output):
        return float(output == given * given)
"""
PROGRAM = """\
def solve(x):
    if x > 3:
        return 0
    total = x
    return total * x
"""


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"


REPLIES = [
    block("    total = x\n    return total * x", "    square = x  # named better\n    return square * x"),
    block("    if x > 4:", "    if x > 5:"),
    block("def solve(x):", "import os\ndef solve(x):"),
    block("def solve(x):", "def solve(y):\n    x = y"),
    block("    if x > 3:", "    if x > 3 + 1 / 0:"),
    block("    if x > 3:", "    if x > 6:"),
    "```python\ndef solve(x):\n    return x * x\n```",
]
"""What the model says, in order: a new name, a wrong anchor, a forbidden import, another signature, a crash, gains."""


class Edits:
    """A model that says what stands above, and no search at all."""

    name = "edits"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        told = int(context.memory or 0)
        if told >= len(REPLIES):
            context.exhausted = True
            return []
        context.memory = told + 1
        champion = context.champion
        try:
            text = revised(REPLIES[told], champion["program"])
        except EditRejected as error:
            context.reject(str(error), "edits")
            return []
        return [Proposal({"program": text}, f"edits:{told}", parents=(champion.id,))]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def told(run: Path) -> str:
    """Everything that a run's journal says."""
    return "\n".join(entry.event.body() for entry in read_all(run))


def problem(folder: Path, kind: str = "plain_box:Plain", duplicates: str = "program") -> Path:
    (folder / "squares.py").write_text(TASK)
    (folder / "plain_box.py").write_text(Path(code_helpers.__file__).read_text())  # workers find no tests package
    (folder / "program.py").write_text(PROGRAM)
    text = TOML.format(kind=kind, duplicates=duplicates, proposer=f"{__name__}:Edits")
    (folder / "problem.toml").write_text(text if kind else text.replace('kind = ""\n', ""))
    return folder


@pytest.mark.parametrize("kind", ["plain_box:Plain", ""], ids=["plain", "sandbox"])
async def test_edits_from_the_reply_to_the_verdict(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p").mkdir()
    session = session_of(load(problem(tmp_path / "p", kind)))
    result = await session.run(tmp_path / "runs" / "one")
    assert result.status == "exact" and "return x * x" in result.best["program"]
    said = told(tmp_path / "runs" / "one")
    for words in (
        "but for comments, layout and local names it is the program of candidate 0",
        "block 1: the search text does not occur; nearest are the lines from 2",
        "line 1 imports os, allowed is math",
        "does not take (x)",
        "crash on the smoke inputs: ZeroDivisionError",
    ):
        assert words in said, words
    again = load_result(tmp_path / "runs" / "one")
    written = {path.name: path.read_text() for path in write_best(tmp_path / "best", again)}
    assert written["program.py"] == result.best["program"]


class Learned:
    """Proposes one program, which knows the answers that the search asks for and no others."""

    name = "learned"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = context.memory is not None
        context.memory = 1
        return [Proposal({"program": "def solve(x):\n    return x * x if x < 1000 else 0\n"}, "learned")]

    forecast = Edits.forecast


@pytest.mark.parametrize(("hidden", "status"), [(1000, "initial"), (500, "proven")])
async def test_the_exam_is_on_inputs_that_the_search_never_saw(tmp_path: Path, hidden: int, status: str) -> None:
    (tmp_path / "p").mkdir()
    place = problem(tmp_path / "p")
    base = f"base = {hidden} if stage == 'confirm' else 2"
    text = TASK.replace("        return [2, 3]", f"        {base}\n        return [2, 3]")
    text = text.replace("list(range(2, 12))", "[base + (seed + n) % 400 for n in range(4)]")
    (place / "squares.py").write_text(text)
    wanted = {"gate.exam_pairs": 8, "budget.evaluations": 40, "proposer.name": f"{__name__}:Learned"}
    setup = load(place, {**wanted, "evaluator.deterministic": False})
    result = await session_of(setup).run(tmp_path / "runs" / "one")
    assert result.status == status and '"purpose":"gate"' in told(tmp_path / "runs" / "one")


async def test_programs_that_answer_alike_are_not_paid_for(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    session = session_of(load(problem(tmp_path / "p", duplicates="behaviour")))
    result = await session.run(tmp_path / "runs" / "one")
    said = told(tmp_path / "runs" / "one")
    assert said.count("on the smoke inputs it answers as candidate 0") == 2 * 2, "both gains answer 2 and 3 as before"
    assert "behaviour: crash on the smoke inputs" in said and result.status == "initial"


def test_a_check_remembers_what_the_history_says() -> None:
    class History(list[Any]):
        @property
        def trials(self) -> History:
            return self

    class Trial:
        def __init__(self, number: int, text: str) -> None:
            self.number, self.candidate = number, Candidate({"t": text})
            self.id = self.candidate.id

    def key(candidate: Mapping[str, Any]) -> str:
        if candidate["t"] == "broken":
            raise ValueError("it fails")
        return str(candidate["t"]).lower()

    asked = Duplicates(key, "it is")
    past = History([Trial(0, "a"), Trial(1, "broken"), Trial(2, "B"), Trial(3, "b")])
    context = CheckContext(history=past)  # type: ignore[arg-type]
    assert asked({"t": "A"}, context) == "it is candidate 0" and asked({"t": "bB"}, context) == ""
    assert asked({"t": "c"}, context) == "" and asked({"t": "A"}, CheckContext()) == "it is candidate 0"
    assert all(asked({"t": text}, context) == "" for text in "aBb"), "what is known may be looked at again"
    past.extend([Trial(4, "c"), Trial(5, "d")])
    assert asked({"t": "C"}, context) == "it is candidate 4" and asked({"t": "D"}, context) == "it is candidate 5"


def changed(folder: Path, before: str, after: str) -> Path:
    path = problem(folder) / "problem.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    return folder


def test_what_stands_in_the_file_reaches_the_evaluator(tmp_path: Path) -> None:
    timing = '[evaluator.timing]\ncost = "seconds"\nagainst = "initial"\n[[objectives]]'
    made = load(changed(tmp_path, "[[objectives]]", timing)).problem.evaluator
    assert isinstance(made, CodeEvaluator) and made.exclusive
    assert made.spec["programs"] == {"program": {"path": "program.py", "entry": "solve"}}
    assert made.spec["sandbox"]["caps"]["seconds"] == 20 and made.spec["initial"] == {"program": PROGRAM}
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_a(): pass")
    suite = changed(tmp_path, 'code = "squares:Task"', 'pytest = { tests = ["tests"] }')
    (suite / "problem.toml").write_text((suite / "problem.toml").read_text().replace('"right"', '"score"'))
    assert isinstance(load(suite).problem.evaluator, PytestEvaluator)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('code = "squares:Task"', 'code = "squares:Task"\nfunction = "a:b"', "exactly one of"),
        ('code = "squares:Task"', 'pytest = { tests = ["tests"] }', "does not give right"),
        ('code = "squares:Task"', 'function = "squares:Task"', "sandbox"),
        ("seconds = 20", "seconds = 0", "sandbox.seconds"),
        ("seconds = 20", "second = 20", "sandbox.second: unknown key"),
        ('duplicates = "program"', 'duplicates = "looks"', "duplicates"),
        ("[[objectives]]", '[evaluator.timing]\nagainst = "initial"\n[[objectives]]', "measures a cost"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(changed(tmp_path, before, after))


def test_the_files_of_a_tree_are_part_of_where_a_run_came_from(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("def solve(x):\n    return x\n")
    made = load(
        changed(tmp_path, 'file = "program.py"\nentry = "solve"', 'files = ["pkg/*.py"]\nentry = "pkg.a:solve"')
    )
    assert set(made.origin["files"]) == {"problem.toml", "pkg/a.py"}
    assert made.problem.initial()["program"] == {"pkg/a.py": "def solve(x):\n    return x\n"}


class Copies:
    """Proposes the initial program in other words."""

    name = "copies"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = context.memory is not None
        context.memory = 1
        return [Proposal({"program": "def solve(x):  # other words\n    z = x\n    return z\n"}, "copies")]

    forecast = Edits.forecast


async def test_copies_are_not_paid_for_in_the_python_api_either(tmp_path: Path) -> None:
    calls = []

    def measure(candidate: Mapping[str, Any]) -> float:
        calls.append(candidate)
        return 1.0

    result = await optimize_async(
        measure,
        space={"program": Code("def solve(x):\n    w = x\n    return w\n", entry="solve")},
        deterministic=True,
        model=None,
        budget=9,
        folder=tmp_path,
        options={"proposer": f"{__name__}:Copies"},
    )
    assert len(result.trials) == 1 and len(calls) == 2, "the second one asks whether it is deterministic"
