"""Tree search over programs: where the next refinement begins."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.code import holes
from agent.errors import ConfigError
from agent.evolution.tree import Tree
from agent.history import History, Trial
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Float
from agent.proposers.base import Ask
from agent.proposers.tree import TreeSearch
from agent.space import Candidate, Space
from agent.testing.search import Search
from agent.texts import Code

SPACE = Space({"program": Code("def solve(x):\n    return [0, 0, 0]\n", entry="solve")})


def trial(name: int, parent: int | None, cost: float | None, state: str = "dropped") -> Trial:
    known: dict[str, Any] = {"values": {"value": cost}} if cost is not None else {"failure": "error: no"}
    parents = () if parent is None else (Candidate({"x": parent}).id,)
    state = state if cost is not None or state != "dropped" else "failed"
    return Trial(Candidate({"x": name}), name, name, "test", parents=parents, state=state, **known)  # type: ignore[arg-type]


PROBLEM = Search(TreeSearch(), SPACE, lambda candidate: None).state.problem
FREE = replace(PROBLEM, constraints=())


def heard(trials: Iterable[Trial], champion: str = "") -> History:
    """A history that has told of all candidates that have a result or have failed."""
    known = list(trials)
    made = History.of(known, champion or known[0].id, FREE.objective)
    made.told = [trial for trial in made.trials if trial.state not in ("queued", "suspected", "racing")]
    made.heard = len(made.told)
    return made


def tree(*trials: Trial, **given: Any) -> Tree:
    return Tree(FREE, **{"paths": True, **given}).follow(heard(trials))


def number(made: Tree, place: str) -> int:
    return made.nodes[place].number


def test_values_are_ranks_and_subtrees_know_their_best() -> None:
    made = tree(trial(0, None, 5.0), trial(1, 0, 900.0), trial(2, 1, 1.0), trial(3, 1, None), trial(4, 0, 5.0))
    nodes = list(made.nodes.values())
    assert [made.value(node.cost) for node in nodes] == [0.75, 0.25, 1.0, 0.0, 0.75]
    assert [made.value(node.best) for node in nodes] == [1.0, 1.0, 1.0, 0.0, 0.75]
    assert [node.visits for node in nodes] == [5, 3, 1, 1, 1]


def test_best_first_refines_the_best_until_it_has_enough_children() -> None:
    made = tree(trial(0, None, 5.0), trial(1, 0, 4.0), trial(2, 0, 6.0), width=2)
    places = []
    for _ in range(7):
        place = made.best_first()
        made.plan(place)
        places.append(number(made, place))
    assert places == [1, 1, 2, 2, 1, 1, 0]


def test_a_failure_is_mended_first_as_often_as_is_allowed_and_a_chain_of_failures_ends() -> None:
    failed = [trial(0, None, 5.0), trial(1, 0, None)]
    assert number(tree(*failed), tree(*failed).best_first()) == 1
    assert number(tree(*failed, repairs=0), tree(*failed, repairs=0).best_first()) == 0
    chain = [*failed, trial(2, 1, None)]
    assert number(tree(*chain), tree(*chain).best_first()) == 0
    assert number(tree(*chain, repairs=2), tree(*chain, repairs=2).best_first()) == 2
    mended = [*failed, trial(2, 1, 1.0)]
    assert number(tree(*mended), tree(*mended).best_first()) == 2
    assert tree(trial(0, None, None), trial(1, 0, None)).best_first() == ""


@pytest.mark.parametrize("state", ["queued", "suspected", "racing"])
def test_what_has_no_result_yet_is_not_refined(state: str) -> None:
    made = tree(trial(0, None, 5.0), trial(1, 0, None, state), width=1)
    assert number(made, made.best_first()) == 0
    assert number(made, made.mcts(0.5, random.Random(0))) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("search", ["best_first", "mcts"])
def test_what_is_no_number_is_no_result(search: str, value: float) -> None:
    known = [trial(0, None, 5.0), trial(1, 0, 4.0), trial(2, 0, value), trial(3, 0, 6.0), trial(4, 1, value)]
    made = tree(*known)
    again = replace(known[1], values={"value": value})  # measured again
    for place in (2, 4):
        assert made.nodes[known[place].id].cost == math.inf
    assert [made.value(made.nodes[item.id].cost) for item in known] == [2 / 3, 1.0, 0.0, 1 / 3, 0.0]
    places = {made.best_first() if search == "best_first" else made.mcts(0.1, random.Random(k)) for k in range(9)}
    assert places <= {known[0].id, known[1].id}
    history = heard(known)
    history.told.append(again)
    history.heard += 1
    later = Tree(FREE, paths=True).follow(history)
    assert number(later, later.best_first()) == 3, "0 has three children, and 1 no result any more"
    assert later.nodes[known[0].id].best == 5.0


def test_mcts_goes_where_the_best_is_and_comes_back_to_what_was_visited_little() -> None:
    known = [trial(0, None, 9.0), trial(1, 0, 1.0), trial(2, 0, 8.0)]
    greedy, curious = tree(*known), tree(*known)
    seen = Counter(_planned(greedy, 0.0) for _ in range(12))
    assert set(seen) == {0, 1} and seen[1] > 6
    assert Counter(_planned(curious, 2.0) for _ in range(12))[2] > 2
    dead = tree(trial(0, None, None), trial(1, 0, None))
    assert dead.mcts(1.0, random.Random(0)) == ""


def _planned(made: Tree, exploration: float) -> int:
    place = made.mcts(exploration, random.Random(0))
    made.plan(place)
    return number(made, place)


def test_a_long_chain_of_thousands_is_no_trouble() -> None:
    made = tree(*(trial(k, k - 1 if k else None, float(-k) if k % 2 == 0 else None) for k in range(4000)))
    assert number(made, made.best_first()) >= 3998
    assert made.mcts(0.1, random.Random(0))


# With a model

GOAL = [3, 1, 4]


def measure(candidate: Candidate) -> Mapping[str, float] | None:
    space: dict[str, Any] = {}
    try:
        exec(holes.plain(candidate["program"]), space)
        value = space["solve"](0)
        return {"value": float(sum(abs(a - b) for a, b in zip(value, GOAL, strict=True))), "size": 0.0}
    except Exception:
        return None


def steps(seed: int, broken: float = 0.0) -> tuple[Ask, list[str]]:
    """A model that changes one number of the program that it is shown first, and at times breaks it."""
    rng, prompts = random.Random(seed), []

    async def ask(request: ModelRequest) -> Completion:
        prompts.append(request.messages[0].text)
        found = re.search(r"return (\[[^\]]*\])", prompts[-1])
        assert found is not None
        value = json.loads(found[1])
        value[rng.randrange(3)] += rng.choice([-1, 1])
        end = "[9]" if rng.random() < broken else ""
        return Completion(
            text=f"One step.\n```python\ndef solve(x):\n    return {value}{end}\n```", model="scripted:test"
        )

    return ask, prompts


@pytest.mark.parametrize("search", ["best_first", "mcts"])
def test_refinements_of_refinements_reach_the_goal(search: str) -> None:
    ask, prompts = steps(0, broken=0.2)
    run = Search(TreeSearch(), SPACE, measure, ask=ask, budget=80, options={"search": search}).run()
    history = run.history
    best = history[history.champion]
    assert best.values == {"value": 0.0, "size": 0.0}
    depth, place = 0, best
    while place.parents:
        depth, place = depth + 1, history[place.parents[0]]
    assert depth >= 8, "each edge is one step"
    sources = Counter(trial.source for trial in history.trials)
    assert sources["tree:llm:edit"] > sources["tree:llm:fix"] > 0
    assert any("list index out of range" in prompt or "fail" in prompt for prompt in prompts)


def test_holes_are_tuned_and_the_model_is_not_asked_for_it() -> None:
    ask, prompts = steps(1)
    space = Space({"program": Code("def solve(x):\n    return [0, 0, tune(0, 0, 9)]\n", entry="solve")})
    run = Search(TreeSearch(), space, measure, ask=ask, budget=12, options={"tune": 1.0}).run()
    assert not prompts
    assert all(trial.source.startswith("tree:tune:") for trial in run.history.trials[1:])
    best = run.history[run.history.champion].values
    assert best is not None and best["value"] == 4.0, "3 + 1 + 0: the hole is as good as it can be"


def test_wrong_options_and_a_space_without_a_program_are_refused() -> None:
    problem = Search(TreeSearch(), SPACE, measure).state.problem
    wrong = ({"search": "dfs"}, {"width": 0}, {"repairs": -1}, {"exploration": -1}, {"tune": 2}, {"depth": 1})
    for options in wrong:
        with pytest.raises(ConfigError, match=rf"proposer\.options\.{next(iter(options))}"):
            TreeSearch().forecast(problem, 1, options)
    assert TreeSearch().forecast(problem, 3, {})[0] == 6
    numbers = Search(TreeSearch(), Space({"x": Float(0, 1)}), measure).state.problem
    with pytest.raises(ConfigError, match="changes programs"):
        TreeSearch().forecast(numbers, 1, {})
