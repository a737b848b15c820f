"""GameOpt: best responses, the check of a single candidate, and whole searches."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.proposers.gameopt import GameOpt, careful, equilibria, improved, moves
from agent.proposers.random import Random
from agent.space import Candidate, Space
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate
from agent.testing.proposers import Measure, Search
from agent.texts import Text

LETTERS = "ACDEFGHI"
PEPTIDE = Space({f"site{k}": Categorical(tuple(LETTERS)) for k in range(6)})
"""Six sites with eight letters each, 262,144 candidates."""


def energy(seed: int) -> Measure:
    """Each site has a preference, and each pair of neighbours has another one: a Potts model, to be made small."""
    rng = np.random.default_rng(seed)
    alone, pairs = rng.normal(size=(6, 8)), 0.7 * rng.normal(size=(5, 8, 8))

    def measure(candidate: Candidate) -> Mapping[str, float]:
        z = [LETTERS.index(candidate[f"site{k}"]) for k in range(6)]
        return {
            "value": float(sum(alone[k, z[k]] for k in range(6)) + sum(pairs[k, z[k], z[k + 1]] for k in range(5))),
            "size": 0.0,
        }

    return measure


class Table:
    """Stands for a surrogate that knows a function exactly; counts the calls."""

    def __init__(self, space: Space, values: Mapping[tuple[Any, ...], float]) -> None:
        self.space, self.values, self.calls = space, values, 0

    def optimistic(self, x: Array, beta: float = 0.0) -> Array:
        self.calls += 1
        decoded = [self.space.decode(row.tolist(), self.space.initial()) for row in x]
        return np.array([self.values[tuple(c[name] for name in self.space.numeric)] - beta for c in decoded])


PAIR = Space({"a": Categorical(("x", "y")), "b": Categorical(("x", "y")), "words": Text("Be kind.")})
LOCKED = Table(PAIR, {("x", "x"): 1.0, ("x", "y"): 3.0, ("y", "x"): 2.0, ("y", "y"): 0.0})
"""Two equilibria: both at x, and both at y, which is better."""


def random_table(seed: int) -> Table:
    rng = random.Random(seed)
    space = Space({"kind": Categorical(("a", "b", "c")), "n": Int(1, 4), "flag": Categorical((False, True))})
    every = itertools.product(("a", "b", "c"), (1, 2, 3, 4), (False, True))
    return Table(space, {values: rng.random() for values in every})


# Players and their moves.


def test_every_value_of_a_choice_is_a_move_and_numbers_have_bins() -> None:
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    space = Space(
        {
            "kind": Categorical(letters),
            "few": Int(1, 9),
            "many": Int(0, 999),
            "log": Int(1, 4, log=True),
            "x": Float(0, 1),
            "words": Text("Be kind."),
        }
    )
    made = moves(space, 10)
    assert [len(places) for places in made] == [26, 9, 10, 4, 10]
    for name, places in zip(space.numeric, made, strict=True):
        assert all(space[name].encode(space[name].decode(place)) == pytest.approx(place) for place in places)  # type: ignore[attr-defined]


# Equilibria.


def test_nobody_gains_by_a_change_alone_at_an_equilibrium() -> None:
    for seed in range(20):
        table = random_table(seed)
        choices = moves(table.space, 20)
        starts = np.array([[places[i % len(places)] for places in choices] for i in range(4)])
        rest, values = equilibria(table.optimistic, choices, starts, [2, 0, 1])
        assert np.all(values <= table.optimistic(starts))
        assert values == pytest.approx(table.optimistic(rest))
        for place, value in zip(rest, values, strict=True):
            for player, places in enumerate(choices):
                alone = np.repeat(place[None, :], len(places), axis=0)
                alone[:, player] = places
                assert value <= table.optimistic(alone).min()


def test_players_that_hold_each_other_in_place_stay_and_the_start_decides() -> None:
    choices = moves(PAIR, 20)
    rest, values = equilibria(LOCKED.optimistic, choices, np.array([[0.25, 0.25], [0.75, 0.75]]), [0, 1])
    assert rest.tolist() == [[0.25, 0.25], [0.75, 0.75]] and values.tolist() == [1.0, 0.0]


def test_all_starts_and_all_moves_of_a_player_are_asked_for_at_once() -> None:
    table = random_table(1)
    starts = np.repeat([[0.5 / 3, 0.125, 0.25]], 50, axis=0)
    equilibria(table.optimistic, moves(table.space, 20), starts, [0, 1, 2], rounds=2)
    assert table.calls <= 1 + 2 * 3


def test_a_player_may_stay_where_no_bin_is() -> None:
    def cost(x: Array) -> Array:
        return np.abs(x[:, 0] - 0.123)

    rest, values = equilibria(cost, [np.array([0.0, 0.5, 1.0])], np.array([[0.124], [0.9]]), [0])
    assert rest.ravel().tolist() == [0.124, 0.0] and values == pytest.approx([0.001, 0.123])


# The check of one candidate.


def test_a_candidate_that_single_changes_improve_is_improved() -> None:
    first = Candidate({"a": "y", "b": "x", "words": "Be brief."})
    better = improved(LOCKED, PAIR, first, known=())
    assert dict(better) == {"a": "y", "b": "y", "words": "Be brief."}


def test_an_equilibrium_is_left_alone_even_where_two_changes_would_help() -> None:
    first = Candidate({"a": "x", "b": "x", "words": "Be kind."})
    assert improved(LOCKED, PAIR, first, known=()) is first


def test_the_improved_candidate_is_new_or_the_given_one_stays() -> None:
    space = Space({f"x{k}": Categorical((0, 1)) for k in range(3)})
    table = Table(space, {z: -float(4 * z[0] + 2 * z[1] + z[2]) for z in itertools.product((0, 1), repeat=3)})
    steps = [Candidate(dict(zip(space.numeric, z, strict=True))) for z in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1))]
    first, one, two, last = steps
    assert improved(table, space, first, known=()) == last
    assert improved(table, space, first, known={last.id}) == two
    assert improved(table, space, first, known={one.id, two.id, last.id}) is first


def test_a_candidate_gets_at_most_as_many_changes_as_it_has_parameters() -> None:
    space = Space({"n": Int(0, 9)})
    table = Table(space, {(n,): -float(n) for n in range(10)})
    table.calls = 0
    assert improved(table, space, Candidate({"n": 0}), known=())["n"] == 9
    assert table.calls == 2, "one place, and all changes of one round"
    words = Space({"words": Text("Be kind.")})
    assert improved(table, words, words.initial(), known=()) == words.initial()


def test_it_works_with_the_real_surrogate() -> None:
    search = Search(Random(), PEPTIDE, energy(3), budget=120, seed=1)
    history = search.run().history
    points = Points.of(search.state.problem, history)
    surrogate = Surrogate.fit(points, PEPTIDE, noisy=False)
    gains = []
    for seed in range(30):
        before = PEPTIDE.sample(random.Random(seed))
        after = improved(surrogate, PEPTIDE, before, history, beta=0.0)
        assert after.id not in history or after is before
        gains.append(energy(3)(before)["value"] - energy(3)(after)["value"])  # type: ignore[index]
    assert sum(gains) / len(gains) > 1.0, "what the surrogate takes for better is not better"


# Whole searches.


def best(proposer: Any, seed: int, budget: int = 60) -> float:
    state = Search(proposer, PEPTIDE, energy(seed), budget=budget, seed=seed).run()
    return min(trial.values["value"] for trial in state.history.trials if trial.values)


def test_it_beats_random_search_on_choices_that_depend_on_each_other() -> None:
    gains = [best(Random(), seed) - best(GameOpt(), seed) for seed in range(3)]
    assert min(gains) > 0.5


def test_it_says_how_a_point_was_made_and_begins_at_random() -> None:
    state = Search(GameOpt(), PEPTIDE, energy(0), budget=40, options={"initial": 10}).run()
    sources = [trial.source for trial in state.history.trials]
    assert sources[1:10] == ["gameopt:random"] * 9
    assert "gameopt" in sources[10:12] and "gameopt:random" not in sources[10:]
    assert all(trial.parents for trial in state.history.trials if trial.source == "gameopt")


def test_neighbours_of_an_equilibrium_come_when_it_is_known() -> None:
    space = Space({"n": Int(0, 14), "m": Int(0, 14)})

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": float((candidate["n"] - 4) ** 2 + (candidate["m"] - 9) ** 2), "size": 0.0}

    trials = Search(GameOpt(), space, measure, budget=40, seed=2).run().history.trials
    assert min(trial.values["value"] for trial in trials if trial.values) == 0
    late = [trial for trial in trials if trial.source == "gameopt:neighbour"]
    assert late and all(4 in trial.candidate.values() or 9 in trial.candidate.values() for trial in late[:5])


def test_places_where_candidates_fail_cost_more() -> None:
    class Model:
        def optimistic(self, x: Array, beta: float) -> Array:
            return -x[:, 0]

        def success(self, x: Array) -> Array:
            return np.where(x[:, 0] > 0.5, 0.25, 1.0)

    def points(failed: int) -> Points:
        y = np.array([-0.5, -0.1, -0.3])
        nothing = np.empty((0, 1))
        return Points(np.zeros((3, 1)), y, np.ones(3), (), np.ones((failed, 1)), nothing)

    x = np.array([[0.4], [0.9]])
    model: Any = Model()
    assert careful(model, points(failed=1), 1.0)(x) == pytest.approx([-0.4, -0.9 + 2 * 0.2])
    assert careful(model, points(failed=0), 1.0)(x) == pytest.approx([-0.4, -0.9])


def test_a_search_turns_away_from_what_fails() -> None:
    space = Space({f"n{k}": Int(0, 7) for k in range(3)})

    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        total = sum(candidate.values())
        return None if total > 12 else {"value": float((candidate["n0"] - 3) ** 2) - total, "size": 0.0}

    trials = Search(GameOpt(), space, measure, budget=60, seed=1).run().history.trials
    assert min(trial.values["value"] for trial in trials if trial.values) <= -11
    assert sum(trial.state == "failed" for trial in trials[30:]) < 20


def test_on_a_noisy_problem_nothing_is_proposed_next_to_a_known_point() -> None:
    space = Space({"x": Float(0, 1)})

    class Beside(Random):
        """Just beside every other place that the game's grid has."""

        async def propose(self, context: Any, n: int) -> Any:
            out = await super().propose(context, n)
            place = (2 * len(context.history) - 1.5) / 20 + 0.004
            return [type(p)({"x": round(place, 6)}, "beside") for p in out]

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": (candidate["x"] - 0.33) ** 2, "size": 0.0}

    search = Search(Beside(), space, measure, budget=11)
    search.run()
    context = search.context()
    object.__setattr__(context.problem, "deterministic", False)
    known = [trial.candidate["x"] for trial in search.state.history.trials]
    assert min(abs(x - 0.325) for x in known) < 0.01, "the game would end here"
    made = asyncio.run(GameOpt().propose(context, 6))
    assert len(made) == 6
    for proposal in made:
        assert proposal.radius == 0.01
        assert min(abs(proposal.values["x"] - x) for x in known) > 0.01
        known.append(proposal.values["x"])


def test_texts_stay_as_the_champion_has_them() -> None:
    space = Space({"n": Int(0, 9), "kind": Categorical(("a", "b")), "words": Text("Be kind.")})

    class Writes(Random):
        async def propose(self, context: Any, n: int) -> Any:
            out = await super().propose(context, n)
            words = [{**p.values, "words": f"Be kind {k}."} for k, p in enumerate(out)]
            return [type(p)(values, "writes") for p, values in zip(out, words, strict=True)]

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": candidate["n"] - 20 * (candidate["words"] != "Be kind."), "size": 0.0}

    search = Search(Writes(), space, measure, budget=12)
    champion = search.run().history[search.state.history.champion].candidate
    assert champion["words"] != "Be kind."
    made = asyncio.run(GameOpt().propose(search.context(), 3))
    assert made and all(proposal.values["words"] == champion["words"] for proposal in made)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": -1},
        {"beta": "2"},
        {"beta": float("nan")},
        {"initial": 1},
        {"initial": 8.0},
        {"starts": 0},
        {"starts": True},
        {"resolution": 1},
        {"betas": 1},
    ],
)
def test_wrong_options_are_refused_before_anything_is_spent(options: dict[str, Any]) -> None:
    problem = Search(GameOpt(), PEPTIDE, energy(0)).state.problem
    with pytest.raises(ConfigError, match=r"proposer\.options\.(beta|initial|starts|resolution)"):
        GameOpt().forecast(problem, 10, options)


def test_a_coarse_game_with_one_start_works_on_numbers() -> None:
    space = Space({"x": Float(0, 1), "y": Float(1e-3, 1, log=True)})

    def measure(candidate: Candidate) -> Mapping[str, float]:
        x, y = space.encode(candidate)
        return {"value": (x - 0.3) ** 2 + (y - 0.7) ** 2 + x * y, "size": 0.0}

    options = {"initial": 2, "starts": 1, "resolution": 4, "beta": 0}
    trials = Search(GameOpt(), space, measure, budget=20, options=options).run().history.trials
    places = {round(p, 6) for t in trials for p in space.encode(t.candidate) if t.source == "gameopt:neighbour"}
    assert {0.125, 0.375, 0.625, 0.875} <= places, "the moves of a coarse game"
    assert min(trial.values["value"] for trial in trials if trial.values) < 0.16


def test_a_space_of_texts_alone_is_refused() -> None:
    problem = Search(Random(), Space({"words": Text("Be kind.")}), energy(0)).state.problem
    with pytest.raises(ConfigError, match="gameopt"):
        GameOpt().forecast(problem, 10, {})
