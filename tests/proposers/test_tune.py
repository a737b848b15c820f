"""Numbers in programs, tuned by the numeric proposers without a model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.code import holes
from agent.errors import ConfigError
from agent.parameters import Float
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.portfolio import Portfolio
from agent.proposers.tune import Numbers, Tune
from agent.space import Candidate, Space
from agent.testing.proposers import ProposerContract
from agent.testing.search import Search
from agent.texts import Code, Text
from tests.cli_helpers import call

PROGRAM = """
def solve(x):
    share = tune(0.5, 0, 1)
    depth = tune(3, 1, 64, log=True)
    return share, depth, tune("slow", ["slow", "fast", "faster"])
"""
SPACE = Space({"program": Code(PROGRAM, entry="solve")})


class TestTuneNumbersAlone(ProposerContract):
    options: ClassVar = {"by": "coordinate"}

    def make(self) -> Proposer:
        return Tune()


def answer(text: str) -> Any:
    space: dict[str, Any] = {}
    exec(holes.plain(text), space)
    return space["solve"](0)


def measure(candidate: Candidate) -> Mapping[str, float]:
    share, depth, kind = answer(candidate["program"])
    return {"value": (share - 0.31) ** 2 + math.log(depth / 17) ** 2 + (kind != "fast"), "size": 0.0}


@pytest.mark.parametrize("proposer", [Tune(), Portfolio()], ids=["tune", "default"])
def test_holes_are_tuned_without_a_model(proposer: Tune | Portfolio) -> None:
    history = Search(proposer, SPACE, measure, budget=45).run().history
    best = history[history.champion]
    assert best.values is not None and best.values["value"] < 0.05
    assert answer(best.candidate["program"])[2] == "fast"
    assert {trial.source.partition(":")[0] for trial in history.trials[1:]} == {"tune"}
    shapes = {holes.Structure.of(trial.candidate["program"]).pieces[0] for trial in history.trials}
    assert len(shapes) == 1, "only numbers change"
    assert all(trial.parents and trial.parents[0] in history for trial in history.trials[1:])


@pytest.mark.parametrize("by", ["random", "coordinate", "catcma"])
def test_any_numeric_proposer_can_tune(by: str) -> None:
    history = Search(Tune(), SPACE, measure, budget=30, options={"by": by}).run().history
    initial, best = history[history.initial].values, history[history.champion].values
    assert initial is not None and best is not None and best["value"] < initial["value"]
    assert {trial.source.split(":")[1] for trial in history.trials[1:]} == {by}


def test_numbers_of_the_space_and_of_files_in_a_tree_are_tuned_together() -> None:
    tree = {
        "main.py": "from part import a\n\ndef solve(x):\n    return a + tune(0.5, 0, 1)\n",
        "part.py": "a = tune(0.5, 0, 1)\n",
    }
    space = Space(
        {
            "tree": Code(tree, files=("*.py", "*.txt"), entry="main:solve"),
            "solve": Float(0, 1),
            "words": Text("as they are"),
        }
    )
    numbers = Numbers.of(space, space.initial())
    assert numbers is not None and list(numbers.space) == ["solve", "solve_2", "a"]
    given = numbers.read(space.initial())
    assert given is not None and dict(given) == {"solve": 0.5, "solve_2": 0.5, "a": 0.5}
    made = space.candidate(numbers.write({"solve": 0.1, "solve_2": 0.2, "a": 0.3}))
    assert (
        made["tree"]["part.py"] == "a = tune(0.3, 0, 1)\n" and made["solve"] == 0.1 and made["words"] == "as they are"
    )
    assert numbers.read(made) == Candidate({"solve": 0.1, "solve_2": 0.2, "a": 0.3})
    other = space.candidate({**made, "words": "other ones"})
    assert numbers.read(other) is None, "more than numbers differ"
    more = space.candidate({**made, "tree": {**made["tree"], "notes.txt": "tune(1, 0, 2)"}})
    assert numbers.read(more) is None


class Counting:
    """Remembers how often it was asked about a structure."""

    name, needs_model = "counting", False

    async def propose(self, context: Any, n: int) -> list[Proposal]:
        context.memory = (context.memory or 0) + 1
        share = context.memory / 100
        return [Proposal({**context.champion, "share": share}, "counting", parents=(context.history.initial,))]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


async def test_what_is_remembered_of_one_structure_is_not_told_of_another() -> None:
    search = Search(Tune(), SPACE, measure, budget=5)
    problem, history = search.state.problem, search.state.history
    options = {"by": "tests.proposers.test_tune:Counting"}
    context = Context(problem, history, random.Random(0), options=options)
    shares = []
    for other in (False, False, True):
        if other:
            assert context.memory["own"] == 2
            context.memory = {**context.memory, "of": "another structure"}
        (made,) = await Tune().propose(context, 1)
        assert made.source == "tune:counting" and made.parents == (history.initial,)
        shares.append(answer(made.values["program"])[0])
    assert shares == [0.01, 0.02, 0.01]


class Rewriting:
    """Changes the structure once, and then tunes."""

    name, needs_model, texts = "rewriting", False, True

    async def propose(self, context: Any, n: int) -> list[Proposal]:
        if len(context.history) == 6:
            text = 'def solve(x):\n    return tune(0.5, 0, 1), 17, "fast"\n'
            return [Proposal({"program": text}, "rewriting")]
        return await Tune().propose(context, n)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def test_a_new_structure_starts_afresh_and_the_points_of_the_old_one_stay_out() -> None:
    history = Search(Rewriting(), SPACE, measure, budget=30).run().history
    best = history[history.champion]
    assert "17" in best.candidate["program"] and best.values is not None and best.values["value"] < 1e-3
    late = [trial for trial in history.trials if trial.number > 6]
    assert late and all("17" in trial.candidate["program"] for trial in late)


def test_where_there_is_nothing_to_tune_that_is_said_before_the_run(tmp_path: Path) -> None:
    space = Space({"program": Code("def solve(x):\n    return 1\n", entry="solve")})
    problem = Search(Tune(), space, measure).state.problem
    with pytest.raises(ConfigError, match="nothing to tune") as error:
        Tune().forecast(problem, 1, {})
    assert "tune(value, low, high)" in error.value.hint
    with pytest.raises(ConfigError, match=r"proposer\.options\.by"):
        Tune().forecast(problem, 1, {"by": "tune"})
    with pytest.raises(ConfigError, match="there is no proposer 'nobody'"):
        Tune().forecast(Search(Tune(), SPACE, measure).state.problem, 1, {"by": "nobody"})


TASK = """
class Task:
    def inputs(self, seed, stage):
        return [1]

    def score(self, given, output):
        return {"cost": (output - 0.31) ** 2}
"""
FILE = """
[evaluator]
code = "task:Task"
deterministic = true
[evaluator.sandbox]
unsafe = true
[[objectives]]
name = "cost"
direction = "minimize"
[space.program]
type = "code"
file = "solve.py"
entry = "solve"
"""


@pytest.mark.parametrize("proposer", ["default", "tune"])
def test_a_run_tunes_a_program_in_the_sandbox(tmp_path: Path, proposer: str) -> None:
    folder = tmp_path / "problem"
    folder.mkdir()
    (folder / "problem.toml").write_text(FILE)
    (folder / "task.py").write_text(TASK)
    (folder / "solve.py").write_text("def solve(x):\n    return tune(0.9, 0, 1) * x\n")
    options = ["--runs", tmp_path / "runs", "--model", "none", "--proposer", proposer, "--evaluations", 14, "--json"]
    done = call("run", folder, *options, cwd=tmp_path)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["status"] == "exact"
    (value,) = (hole.value for hole in holes.find(result["best"]["program"]))
    assert abs(value - 0.31) < 0.1, "what is stored has its hole still, with the new number in it"


def test_a_program_without_holes_needs_a_model(tmp_path: Path) -> None:
    (tmp_path / "problem.toml").write_text(FILE)
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "solve.py").write_text("def solve(x):\n    return 0.9 * x\n")
    done = call("run", tmp_path, "--runs", tmp_path / "runs", "--model", "none", "--evaluations", 9, cwd=tmp_path)
    assert done.code != 0 and "needs a model to change texts and programs" in done.err
