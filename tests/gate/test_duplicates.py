"""Programs that are refused because what runs is what ran before, whoever proposes them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.gate.checks import Context
from agent.gate.duplicates import same_program
from agent.goals import Objective
from agent.history import History
from agent.space import Candidate, Space
from agent.texts import Code

SPACE = Space({"program": Code("def solve(x):\n    return tune(0.4, 0, 1)\n", entry="solve")})
TREE = Space({"program": Code({"a.py": "x = tune(0.4, 0, 1)\n", "b.txt": "tune(1, 0, 2)\n"}, files=("*.py", "*.txt"))})
RANGES = "only ranges of holes differ; it runs as candidate 0"


def refused(space: Space, program: Any) -> str:
    """What is said of a program where the initial one is known."""
    check = same_program(space)
    assert check is not None
    history = History(space.candidate(space.initial()), Objective("value"))
    return check.run(Candidate({"program": program}), Context(history=history))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("tune(0.4, 0, 2)", RANGES),
        ("tune(0.4, 0.1, 1, log=True)", RANGES),
        ("tune(0.4, [0.4, 0.5])", RANGES),
        ("0.4", RANGES),
        ("tune(0.4, 0, 2)  # more room", RANGES),
        ("tune(0.4, 0, 1)  # the same", "but for comments, layout and local names it is the program of candidate 0"),
        ("tune(0.5, 0, 1)", ""),
        ("0.5", ""),
        ("tune(0.4, 0, 1) + x", ""),
    ],
)
def test_another_range_is_no_other_program_and_another_value_is(value: str, why: str) -> None:
    assert refused(SPACE, f"def solve(x):\n    return {value}\n") == why


def test_a_tree_is_compared_file_by_file_and_only_python_has_holes() -> None:
    initial = dict(TREE.initial()["program"])
    assert refused(TREE, {**initial, "a.py": "x = 0.4\n"}) == RANGES
    assert not refused(TREE, {**initial, "a.py": "x = 0.5\n"})
    assert not refused(TREE, {**initial, "b.txt": "tune(1, 0, 3)\n"})


def test_what_was_admitted_may_be_measured_again() -> None:
    assert not refused(SPACE, SPACE.initial()["program"])
