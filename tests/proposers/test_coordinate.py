"""Coordinate search: what it visits, in which steps, and where it gets."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from itertools import product

import pytest

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Context, Proposal
from agent.proposers.coordinate import Coordinate
from agent.space import Candidate, Space
from agent.testing.proposers import SPACES, Search, bowl, bowl_at
from agent.texts import Text


def propose(context: Context, n: int) -> list[Proposal]:
    return asyncio.run(Coordinate().propose(context, n))


def hopeless(space: Space, budget: int) -> Search:
    """A search in which only the initial candidate works."""

    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        return bowl_at(space, candidate) if candidate == space.initial() else None

    return Search(Coordinate(), space, measure, budget=budget)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["float", "log", "int", "categorical", "mixed", "wide"])
def test_it_reaches_the_best_of_a_separable_function(name: str, seed: int) -> None:
    space = SPACES[name]
    search = Search(
        Coordinate(), space, bowl(space), budget=80 * len(space.numeric) if name != "wide" else 800, seed=seed
    )
    champion = search.run().history[search.state.history.champion]
    # On a choice or a whole number the nearest place to 0.3 is the best there is.
    best = sum(
        min((item.encode(item.decode(u / 2000)) - 0.3) ** 2 for u in range(2001))
        for item in (space[n] for n in space.numeric)  # type: ignore[attr-defined]
    )
    assert search.state.history.value(champion) == pytest.approx(best, abs=1e-3 * len(space.numeric))


def test_it_climbs_as_well_as_it_descends() -> None:
    space = SPACES["mixed"]
    down = Search(Coordinate(), space, bowl(space), budget=60).run().history
    up = Search(
        Coordinate(),
        space,
        lambda c: {"value": -bowl_at(space, c)["value"], "size": 0.0},
        budget=60,
        direction="maximize",
    ).run()
    assert [trial.candidate for trial in up.history.trials] == [trial.candidate for trial in down.trials]
    assert up.history.champion == down.champion


def test_steps_begin_with_a_quarter_of_the_scale_and_are_halved_when_nothing_improves() -> None:
    space = Space({"x": Float(0, 1, default=0.5)})
    values = [trial.candidate["x"] for trial in hopeless(space, 9).run().history.trials]
    assert values[0] == 0.5
    assert [sorted(values[i : i + 2]) for i in (1, 3, 5)] == [[0.25, 0.75], [0.375, 0.625], [0.4375, 0.5625]]


def test_a_whole_number_moves_by_at_least_one() -> None:
    space = Space({"n": Int(1, 1000, log=True, default=2)})
    assert {1, 3} <= {trial.candidate["n"] for trial in hopeless(space, 30).run().history.trials}


def test_each_proposal_changes_one_parameter_of_the_champion_and_says_which() -> None:
    search = hopeless(SPACES["mixed"], 10)
    context = search.context()
    for proposal in propose(context, 9):
        (change,) = context.problem.space.diff(context.champion, proposal.values)
        assert proposal.rationale.startswith(f"{change.name}: ") and proposal.parents == (context.champion.id,)
        assert change.name != "prompt"


def test_choices_that_python_calls_equal_are_tried_each() -> None:
    space = Space({"kind": Categorical((1, True, 1.0))})
    tried = [trial.candidate["kind"] for trial in hopeless(space, 9).run().history.trials]
    assert sorted(map(repr, tried)) == ["1", "1.0", "True"]


def test_a_small_space_is_tried_as_a_whole_even_far_from_the_champion() -> None:
    space = SPACES["eight values"]
    state = hopeless(space, 50).run()
    tried = {tuple(trial.candidate[name] for name in space) for trial in state.history.trials}
    assert tried == set(product((False, True), repeat=3))
    assert state.stop is not None and state.stop.reason == "exhausted"


def test_it_does_not_give_up_when_all_neighbours_of_the_champion_are_known() -> None:
    space = Space({f"flag{number}": Categorical((False, True)) for number in range(40)})
    state = hopeless(space, 121).run()
    assert len(state.history) == 120


def test_what_it_was_given_to_remember_is_not_changed() -> None:
    search = hopeless(SPACES["mixed"], 5)
    search.run()
    context = search.context(9)
    memory = context.memory
    before = copy.deepcopy(memory)
    propose(context, 3)
    assert memory == before != context.memory


def test_texts_alone_are_not_for_it() -> None:
    search = hopeless(Space({"prompt": Text("Be kind.")}), 5)
    with pytest.raises(ConfigError, match="numbers and choices"):
        propose(search.context(), 1)
    with pytest.raises(ConfigError, match="numbers and choices"):
        Coordinate().forecast(search.state.problem, 5, {})
