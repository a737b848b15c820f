"""Word problems as linear programs: what counts is the optimum."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.code import holes
from agent.config import load
from agent.evaluation import Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, outputs, rows

pytest.importorskip("scipy")


def test_a_linear_program_is_solved_in_whole_amounts_or_any() -> None:
    with modules("solver", "harness") as (harness,):
        made = {
            "maximize": True,
            "objective": {"a": 3.0, "b": 2.0},
            "limits": [[{"a": 2.0, "b": 1.0}, "<=", 5.0], [{"b": 1.0}, "<=", 2.0]],
            "whole": False,
        }
        assert harness.optimum(made) == pytest.approx(8.5)
        assert harness.optimum({**made, "whole": True}) == pytest.approx(8)
        assert harness.optimum({**made, "limits": []}) is None, "without a bound there is no optimum"
        low = {**made, "maximize": False, "limits": [[{"a": 1.0}, ">=", 2.0]]}
        assert harness.optimum(low) == pytest.approx(6)
        assert harness.optimum({**made, "objective": {}}) is None
        assert harness.optimum({**low, "limits": [[{"a": 1.0}, ">=", 2.0], [{"a": 1.0}, "<=", 1.0]]}) is None


def test_the_problems_are_what_their_script_makes_and_splits_are_apart() -> None:
    train, val = (rows("solver", f"{name}.jsonl") for name in ("train", "val"))
    assert (len(train), len(val)) == (24, 80)
    assert len({row["input"] for row in [*train, *val]}) == 104
    assert all(row["target"] > 0 for row in [*train, *val])


def solved(text: str, name: str) -> float:
    with modules("solver", "task", "harness") as (task, harness):
        space: dict[str, object] = {}
        exec(holes.plain(text), space)
        read = space["read"]
        scores = []
        for row in rows("solver", name)[::2]:  # half of them are enough to tell
            output = harness.optimum(read(row["input"]))  # type: ignore[operator]
            scores.append(task.Task().score(row, output)["solved"])
    return sum(scores) / len(scores)


def test_the_rules_solve_little_as_they_stand_and_much_with_other_values_in_their_holes() -> None:
    text = (EXAMPLES / "solver" / "read.py").read_text(encoding="utf-8")
    structure = holes.Structure.of(text)
    assert [hole.name for hole in structure.holes] == ["letters", "behind", "whole", "unsaid", "carried"]
    assert solved(text, "val.jsonl") < 0.2
    assert solved(structure.fill([4, 1, True, "<=", True]), "val.jsonl") > 0.8


async def test_it_runs_in_the_sandbox_where_no_answer_is() -> None:
    row = rows("solver", "train.jsonl")[0]
    fixed = f"def read(text):\n    amount = {{'x': 1.0}}\n    limit = [amount, '<=', {row['target']}]\n"
    fixed += "    return {'maximize': True, 'objective': amount, 'limits': [limit], 'whole': False}\n"
    programs = [
        fixed,
        fixed.replace("'maximize': True", "'maximize': False"),
        "def read(text):\n    return None\n",
        "import os\n\n\ndef read(text):\n    return {**os.environ}\n",
    ]
    good, wrong, none, harmful = await outputs(
        "solver", *(Request(Candidate({"program": text}), example="a", row=row) for text in programs)
    )
    assert good.value["values"]["solved"] == 1.0 and wrong.value["values"]["solved"] == 0.0
    assert str(row["target"]) in wrong.value["feedback"]
    assert none.failure is not None and harmful.failure is not None
    with pytest.raises(ValueError, match="os"):
        load(EXAMPLES / "solver").problem.space.candidate({"program": programs[3]})
    with modules("solver", "task") as (task,):
        assert task.Task().question(row) == row["input"]


def test_the_real_problems_are_read_where_they_are_at_hand() -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "nl4opt" / "test.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    name = str(Path(data) / "nl4opt" / "test.jsonl")
    text = (EXAMPLES / "solver" / "read.py").read_text(encoding="utf-8")
    assert 0.0 < solved(text, name) < 0.5
