"""Without a model: a few questions make a working problem."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.drafting import draft, ranges
from agent.drafting.signature import functions
from agent.errors import ConfigError
from agent.folders import new_run
from agent.parameters import Value
from agent.session import Session
from tests.drafting.support import Person, drafted, reply, tree

TRAIN = """
import math


def helper():
    pass


def train(lr=0.1, layers=3, bias=True, solver="adam", names=(), *, seed=0):
    loss = (math.log10(lr) + 2) ** 2 + 0.1 * (layers - 6) ** 2 + (0.3 if solver == "adam" else 0)
    return loss + 0.1 * bias
"""


async def test_a_function_becomes_a_problem_that_runs_to_a_released_candidate(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    answers = {"File and function": "train.py:train", "solver (now": "adam, sgd", "bias (now": "-", "called": "loss"}
    person = Person(answers)
    found = await draft(folder, person, "none", goal="the loss of train.py", here=folder)
    assert found is not None and found.ready, person.heard
    space = tomllib.loads(tree(folder)["problem.toml"])["space"]
    assert space == {
        "lr": {"type": "float", "low": 0.01, "high": 1.0, "log": True, "default": 0.1},
        "layers": {"type": "int", "low": 1, "high": 12, "default": 3},
        "solver": {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"},
    }
    assert found.setup.settings.models == {}  # "none" holds for the run as well
    assert found.spent["calls"] == 0
    assert tree(folder)["train.py"] == TRAIN
    session = Session.of(found.setup)
    session.settings = replace(session.settings, proposer="coordinate")
    result = await session.run(new_run(tmp_path / "runs", "p"))
    assert result.status == "exact" and result.released["solver"] == "sgd"


async def test_a_command_becomes_a_problem(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text('echo "trial 7"\nexpr $1 \\* $1\n')
    command = {"The command": "sh run.sh {size}", "size: ": "1 20", "called": "area", "higher or a lower": "higher"}
    person = Person({"1 or 2?": "2", **command})
    found = await draft(tmp_path, person, None, goal="x", here=tmp_path)
    assert found is not None and found.ready, person.heard
    assert found.setup.problem.objective.direction == "maximize"
    assert found.findings is not None and found.findings.values[0] == 100  # the default lies in the middle: 10


async def test_a_command_can_be_timed(tmp_path: Path) -> None:
    answers = {"1 or 2?": "2", "The command": "sleep {pause}", "pause: ": "0.01 0.4", "last number": "seconds"}
    found = await draft(tmp_path, Person(answers), None, goal="x", here=tmp_path)
    assert found is not None and found.ready and found.findings is not None
    assert found.setup.problem.objective.name == "seconds" and found.findings.values[0] > 0.2
    assert "import re" not in tree(tmp_path)["evaluate.py"]


async def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    answers = {"1 or 2?": "2", "The command": "ls no-such-{n}", "n: ": "1 5", "Try again": False}
    person = Person(answers)
    found = await draft(tmp_path, person, None, goal="x", here=tmp_path)
    assert found is not None and not found.ready and "exit code" in person.heard
    assert "--model provider:model" in person.heard  # nobody said that there should be no model
    assert found.setup.settings.models["propose"].startswith("local:")


async def test_a_function_of_one_mapping_is_asked_for_its_values(tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").write_text("def score(candidate):\n    return candidate['a'] + candidate['b']\n")
    values = ["a 1 9", "b: 0.0 1.0", ""]
    person = Person({"File and function": "evaluate.py", "Name and range": values})
    found = await draft(tmp_path, person, None, goal="x", here=tmp_path)
    assert found is not None and found.ready, person.heard
    assert list(found.setup.problem.space) == ["a", "b"]
    assert found.written == ("problem.toml", "measure_it.py")  # evaluate.py is the person's own


async def test_answers_that_cannot_be_used_are_asked_again(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(lr=0.1):\n    return lr\n")
    person = Person(
        {
            "File and function": ["nothing.py", "train.py:no", "train.py"],
            "lr (now": ["a b", "5 9", "0.5 0.01", "0.01 1 log"],
            "higher or a lower": ["sideways", "lower"],
            "How many measurements": ["-3", "20", "45"],
        }
    )
    found = await draft(tmp_path, person, None, goal="x", here=tmp_path)
    assert found is not None and found.ready and found.setup.budget.evaluations == 45
    for part in (
        "no Python file 'nothing.py'",
        "here are: train.py",
        "train.py has no no",
        "does not lie between",
        "at least 30",
    ):
        assert part in person.heard


async def test_a_question_is_not_asked_for_ever(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(lr=0.1):\n    return lr\n")
    person = Person({"File and function": "train.py", "lr (now": "what?"})
    assert await draft(tmp_path, person, None, goal="x", here=tmp_path) is None
    assert set(tree(tmp_path)) == {"train.py"} and "Without an answer to that" in person.heard


async def test_a_model_whose_drafts_fail_leads_to_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(lr=0.1):\n    return (lr - 0.5) ** 2\n")
    person = Person({"File and function": "train.py", "lr (now": "0.0 1.0"})
    found, model = await drafted(tmp_path, person, *[reply("[x")] * 4)
    assert len(model.requests) == 4 and person.was_asked("Fill in a template together")
    assert found is not None and found.ready and found.spent["calls"] == 4


def test_the_functions_of_a_file_are_read_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "train.py").write_text(f"open({str(mark)!r}, 'w')\n{TRAIN}")
    first, second = functions(tmp_path / "train.py")
    assert first.name == "train" and second.name == "helper" and not mark.exists()
    assert first.defaults == {"lr": 0.1, "layers": 3, "bias": True, "solver": "adam"}
    assert first.filled == ("seed",) and first.other == ("names",)


@pytest.mark.parametrize("value", [True, 0, 1, -3, 7, 500, 0.0, -0.5, 0.1, 3e-7, 12000.0])
def test_what_is_suggested_fits_the_value(value: Value) -> None:
    assert ranges.spec(ranges.suggested(value), value)["default"] == value


@pytest.mark.parametrize("answer", ["", "1", "1 2 3", "a b", "nan 1", "0 1 log", "5 1", "same, same"])
def test_what_is_no_range_is_refused(answer: str) -> None:
    with pytest.raises(ConfigError):
        ranges.spec(answer, None)


def test_choices_keep_the_value_that_is_used_now() -> None:
    assert ranges.spec("sgd, rmsprop", "adam")["choices"] == ["adam", "sgd", "rmsprop"]
    assert ranges.spec("1, 2", 0.5)["choices"] == [0.5, 1.0, 2.0]
    assert ranges.spec("8, 16, 32", None) == {"type": "categorical", "choices": [8, 16, 32], "default": 8}
