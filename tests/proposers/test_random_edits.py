"""Random edits: changes that know nothing, on the champion, the initial program or islands."""

from __future__ import annotations

import ast
import asyncio
import random
import re
from collections.abc import Mapping
from typing import Any

import pytest

from agent.code import holes
from agent.errors import ConfigError
from agent.evolution.mutation import mutated
from agent.parameters import Categorical, Float
from agent.proposers.base import Proposer
from agent.proposers.random_edits import RandomEdits
from agent.space import Candidate, Space
from agent.testing.proposers import SPACES, ProposerContract, Search
from agent.texts import Code, Text
from tests.proposers.evolve_worlds import distance, search

PROGRAM = '''"""What it does."""

import math

LIMIT = 7  # stays


def solve(items):
    """Of the items."""
    rate = tune(0.5, 0, 1)  # a hole
    total = 0
    for item in items:
        if item > LIMIT and item != 9:
            total += item * 2
        else:
            total = total - rate
    return f"{total + 1}" if not items else math.sqrt(total)


def tune(value, *rest, **more):
    return value
'''


CODE = Code("def solve(x):\n    y = x + 4\n    return y\n", entry="solve", signature="(x)")


def measure(candidate: Candidate) -> Mapping[str, float] | None:
    """How far solve(1) is from 40; a program that fails has no value."""
    space: dict[str, Any] = {}
    try:
        exec(candidate["program"], space)
        return {"value": abs(float(space["solve"](1)) - 40.0), "size": 0.0}
    except (ArithmeticError, NameError, TypeError, ValueError):
        return None


class TestRandomEdits(ProposerContract):
    def make(self) -> Proposer:
        return RandomEdits()


def test_an_edit_parses_keeps_the_holes_and_what_is_around_them() -> None:
    found = {mutated(PROGRAM, random.Random(seed)) for seed in range(400)}
    assert None not in found and PROGRAM not in found and len(found) > 80
    for text in found:
        assert text is not None
        tree = ast.parse(text)
        assert {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} == {"solve", "tune"}
        assert "# stays" in text and '"""Of the items."""' in text and "import math" in text
        assert "def tune(value, *rest, **more):\n    return value\n" in text
        assert all(0 <= float(str(hole.value)) <= 1 for hole in holes.find(text))
    joined = "\n".join(str(text) for text in found)
    for one in (
        "LIMIT = 8",  # a number
        "(item >= LIMIT)",  # a comparison
        "(item > LIMIT or item != 9)",  # a connective
        "(item // 2)",  # an operator
        "not (",  # a test, the other way round
        "else:\n            pass\n",  # a statement that was the only one of its block
        "total += item * 2\n            total += item * 2",  # a statement once more
        "    total = 0\n    rate = tune(",  # two statements that changed places
        "total = rate - rate",  # another variable
    ):
        assert one in joined, one
    assert any(hole.value != 0.5 for text in found for hole in holes.find(str(text)))


def test_statements_that_share_a_line_and_texts_with_wide_characters_are_left_whole() -> None:
    text = 'def solve(x):\n    a = "żółć"; b = x + 1\n    if x: return a\n    return b  # ł\n'
    for seed in range(300):
        made = mutated(text, random.Random(seed))
        assert made is not None
        ast.parse(made)
        assert "żółć" in made and made.startswith("def solve(x):\n")


def test_other_languages_are_changed_word_by_word_and_nothing_is_left_to_change_in_an_empty_text() -> None:
    query = "-- Dear ones\nSELECT name FROM goods WHERE price > 20 AND kind = 'a b' ORDER BY name DESC"
    found = {str(mutated(query, random.Random(seed), "sql")) for seed in range(1500)}
    assert all(text.startswith("-- Dear ones\n") for text in found)
    for one in ("price >= 20", "price > 21", "20 or kind", "name asc", "SELECT price FROM", "WHERE price >  AND"):
        assert any(one in text for text in found), one
    assert mutated("", random.Random(0)) is None and mutated(" \n-- no word\n", random.Random(0), "sql") is None
    assert mutated("x = 'text'\n", random.Random(0)) is None, "no number, no operator and no function"


def test_climbing_edits_the_champion_and_gets_nearer() -> None:
    history = Search(RandomEdits(), Space({"program": CODE}), measure, budget=150).run().history
    found = measure(history[history.champion].candidate)
    assert found is not None and found["value"] < 15, "35 at first"
    made = [trial for trial in history.trials if trial.number]
    assert {trial.source for trial in made} == {"random_edits:champion"}
    assert len({trial.parents for trial in made}) > 2


def test_best_of_n_edits_the_initial_program_alone_and_islands_edit_several() -> None:
    parents = {}
    for of in ("initial", "islands"):
        run = Search(RandomEdits(), Space({"program": CODE}), measure, budget=60, options={"of": of, "edits": 1}).run()
        parents[of] = {trial.parents for trial in run.history.trials if trial.number}
    assert len(parents["initial"]) == 1 and len(parents["islands"]) > 3


def test_numbers_choices_and_files_of_a_tree_change_and_texts_do_not() -> None:
    tree = Code({"queries/a.sql": "SELECT 1", "b.py": "def f():\n    return 1\n"}, files=("queries/*.sql", "b.py"))
    space = Space({"tree": tree, "x": Float(0, 1), "kind": Categorical(("a", "b", "c")), "words": Text("Be brief.")})
    run = Search(RandomEdits(), space, lambda candidate: {"value": 0.0, "size": 0.0}, budget=60).run()
    changed: set[str] = set()
    initial = space.initial()
    for trial in run.history.trials:
        changed |= {name for name in space if trial.candidate[name] != initial[name]}
        changed |= {path for path, text in trial.candidate["tree"].items() if text != initial["tree"][path]}
    assert changed == {"tree", "x", "kind", "queries/a.sql", "b.py"}


def test_it_says_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="the space has none"):
        RandomEdits().forecast(Search(RandomEdits(), Space({"words": Text("a")}), distance).state.problem, 1, {})
    problem = search(RandomEdits(), str).state.problem
    assert RandomEdits().forecast(problem, 10, {}) == (0, 0, 0)
    with pytest.raises(ConfigError, match="champion, initial, islands"):
        RandomEdits().forecast(problem, 1, {"of": "best"})
    frozen = Space({"program": Code("def solve(x): return x\n", entry="solve", max_chars=24)})
    context = Search(RandomEdits(), frozen, distance).context()
    assert asyncio.run(RandomEdits().propose(context, 1)) == []
    assert "gave a new program that is allowed" in context.rejections[0]["reason"]


def test_spaces_of_the_contract_have_something_to_edit() -> None:
    assert all(space.numeric for space in SPACES.values())


def test_a_reason_tells_what_was_changed_by_chance() -> None:
    run = search(RandomEdits(), str, budget=12, space=Space({"program": CODE, "x": Float(0, 1)}), measure=measure)
    run.run()
    reasons = [trial.rationale for trial in run.state.history.trials[1:]]
    assert reasons and all(reason.startswith("by chance: ") for reason in reasons)
    assert any(re.search(r"by chance: \+\d+ −\d+ lines? in ", reason) for reason in reasons), reasons
