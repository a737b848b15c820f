"""What a decision costs late in a run, in candidates that are touched; and that a fold made anew is the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.evolution import operators
from agent.evolution.archive import Archive
from agent.evolution.descriptors import grid
from agent.evolution.fold import Epochs, Fold
from agent.evolution.kinds import Kind, Kinds
from agent.evolution.population import Population
from agent.evolution.tree import Tree
from agent.goals import Constraint, Objective
from agent.history import History, Trial
from agent.problem import Problem
from agent.proposers.tree import TreeSearch
from agent.space import Candidate, Space
from agent.testing.search import Search
from agent.texts import Code

SPACE = Space({"program": Code("def solve(x):\n    return 0\n", entry="solve")})
MANY = 5000
"""Candidates before the decision that is watched."""
FEW = 40
"""Candidates that such a decision may touch, however many there are."""


def problem(constraints: tuple[Constraint, ...] = (), several: bool = False) -> Problem:
    made = Search(TreeSearch(), SPACE, lambda candidate: None).state.problem
    objectives = (Objective("value"), Objective("speed", "maximize")) if several else (Objective("value"),)
    return Problem("p", SPACE, made.evaluator, objectives, constraints, deterministic=True)


class Counting:
    """Trials that count which of them are looked at."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials, self.touched = trials, set[int]()

    def __getitem__(self, place: int) -> Trial:
        self.touched.add(self.trials[place].number)
        return self.trials[place]

    def __len__(self) -> int:
        return len(self.trials)

    def append(self, trial: Trial) -> None:
        self.trials.append(trial)


class Growing:
    """A run that grows by a candidate at a time: each is a child of an earlier one, one in six fails."""

    def __init__(self, made: Problem) -> None:
        self.problem, self.rng = made, random.Random(3)
        first = Trial(made.initial(), 0, 0, "initial", values=self.values(0), state="champion")
        self.history = History.of([first], first.id, made.objective)
        self.trials, self.told = Counting([first]), Counting([first])
        self.history.trials, self.history.told = self.trials, self.told  # type: ignore[assignment]
        self.history.heard = 1

    def values(self, number: int) -> dict[str, float]:
        rng = self.rng
        return {"value": 1000.0 - number**0.5 + rng.gauss(0, 9), "size": rng.random() * 2, "speed": rng.random()}

    def add(self, parent: str) -> None:
        number = len(self.trials)
        failed = self.rng.random() < 1 / 6
        known: dict[str, Any] = {"failure": "error", "state": "failed"} if failed else {"state": "dropped"}
        candidate = Candidate({"program": f"def solve(x):\n    return {number}\n"})
        values = None if failed else self.values(number)
        trial = Trial(candidate, number, number, "t", parents=(parent,), values=values, **known)
        self.trials.append(trial)
        self.told.append(trial)
        self.history._number[candidate.id] = number
        self.history.heard += 1


def best_first(fold: Any, decision: int, rng: random.Random) -> str:
    place: str = fold.best_first()
    fold.plan(place)
    return place


def mcts(fold: Any, decision: int, rng: random.Random) -> str:
    place: str = fold.mcts(0.1, rng)
    fold.plan(place)
    return place


def drawn(fold: Any, decision: int, rng: random.Random) -> str:
    archive = fold.archive(decision)
    return archive.draw(rng).candidate if len(archive) else ""


def tournament(fold: Any, decision: int, rng: random.Random) -> str:
    parent = operators.parent(fold, decision % 4, rng)
    return parent.candidate if parent is not None else ""


LIMIT = (Constraint("size", max=1.0),)
FOLDS: dict[str, tuple[Problem, Callable[[Problem], Fold], Callable[[Any, int, random.Random], str]]] = {
    "islands": (problem(LIMIT), lambda made: Population(made, lambda: grid(made)), tournament),
    "tree": (problem(), Tree, best_first),
    "tree with a threshold": (problem(LIMIT), Tree, best_first),
    "learned": (problem(), lambda made: Kinds(made, Kind("learned")), drawn),
    "objectives": (problem(several=True), lambda made: Kinds(made, Kind("objectives")), drawn),
    "named": (problem(LIMIT), lambda made: Kinds(made, Kind("", lambda: grid(made, ["length", "value"]))), drawn),
}


@pytest.mark.parametrize("name", FOLDS)
def test_a_late_decision_touches_a_few_candidates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make, decide = FOLDS[name]
    filed = [0]

    def counting(kind: type, method: str) -> None:
        real = getattr(kind, method)

        def counted(self: Any, *given: Any) -> Any:
            filed[0] += 1
            return real(self, *given)

        monkeypatch.setattr(kind, method, counted)

    counting(Archive, "add")
    counting(Tree, "_set")
    counting(Tree, "_key")
    run, fold, rng = Growing(made), make(made), random.Random(0)
    worst = total = 0
    for decision in range(1, MANY + 1):
        fold = fold.follow(run.history)
        parent = decide(fold, decision, rng) or run.history.initial
        run.trials.touched |= run.told.touched
        touched, filed[0] = len(run.trials.touched) + filed[0], 0
        run.trials.touched, run.told.touched = set(), set()
        total += touched
        worst = max(worst, touched) if decision > MANY - 100 else 0
        run.add(parent)
    assert worst <= FEW, "the last hundred decisions, each by itself"
    assert total <= FEW * MANY


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", FOLDS)
def test_what_is_no_number_is_no_result_and_spoils_no_other(name: str, value: float) -> None:
    made, make, decide = FOLDS[name]
    bad = [item.name for item in (*made.objectives, *made.constraints)]
    run, fold, rng = Growing(made), make(made), random.Random(0)
    twin = make(made)
    for _ in range(90):
        run.add(run.history.initial)
    twin.follow(run.history)
    usual, names = run.values, []
    for number in range(20):
        run.values = (  # type: ignore[method-assign]
            lambda place, number=number: {**usual(place), bad[number % len(bad)]: value}
        )
        run.add(run.history.initial)
        names += [trial.id for trial in run.trials.trials[-1:] if trial.values is not None]  # a failure may be mended
    fold = fold.follow(run.history)
    drawn = {decide(fold, decision, rng) for decision in range(200)}
    assert len(drawn) > 1 and not drawn & set(names)
    if isinstance(fold, Tree) and isinstance(twin, Tree):
        assert fold._costs == sorted(fold._costs)
        known = [trial.id for trial in run.trials.trials[:91]]
        assert [fold.value(fold.nodes[one].cost) for one in known] == [
            twin.value(twin.nodes[one].cost) for one in known
        ]


def test_mcts_walks_down_a_path() -> None:
    made = problem()
    run, fold, rng = Growing(made), Tree(made, paths=True), random.Random(0)
    for decision in range(1, 2001):
        fold = fold.follow(run.history)
        run.trials.touched = set()
        run.add(mcts(fold, decision, rng))
    assert len(run.trials.touched) < 2000 / 5


@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_made_anew_goes_on_as_the_old_one_would(name: str) -> None:
    made, make, decide = FOLDS[name]
    run, fold, rng = Growing(made), make(made), random.Random(0)
    for decision in range(1, 90):
        fold = fold.follow(run.history)
        fresh = make(made).follow(run.history)
        state = rng.getstate()
        again = decide(fresh, decision, rng)
        rng.setstate(state)
        place = decide(fold, decision, rng)
        assert place == again, decision
        run.add(place or run.history.initial)


def test_a_fold_of_another_run_or_of_a_later_view_begins_anew() -> None:
    made = problem()
    run = Growing(made)
    for _ in range(20):
        run.add(run.history.initial)
    early = run.history.freeze()
    early.heard = 10
    for fold in (Tree(made), Kinds(made, Kind("learned")), Population(made, lambda: grid(made))):
        assert fold.follow(run.history) is fold
        other = fold.follow(Growing(made).history)
        assert other is not fold and other.place == 1
        assert fold.follow(early) is not fold and fold.follow(early).place == 10


def test_prices_are_set_ever_more_rarely_and_follow_the_threshold() -> None:
    epochs = Epochs()
    assert [count for count in range(1, 50) if epochs.due(count)] == [
        *range(1, 9),
        10,
        12,
        14,
        16,
        20,
        24,
        28,
        32,
        40,
        48,
    ]
    made = problem(LIMIT)
    run, fold = Growing(made), Tree(made, width=10**6)
    for number in range(1, 80):  # the cheaper, the larger
        values = {"value": 100.0 - number, "size": number / 40, "speed": 0.0}
        candidate = Candidate({"program": f"def solve(x):\n    return {number}\n"})
        trial = Trial(candidate, number, number, "t", values=values, state="dropped")
        run.trials.append(trial)
        run.told.append(trial)
        run.history.heard += 1
    fold = fold.follow(run.history)
    assert fold.nodes[fold.best_first()].number == 40, "the best of those within the threshold"


def test_a_suspected_candidate_is_left_alone_until_it_is_cleared() -> None:
    made = problem()
    run, fold = Growing(made), Tree(made)
    for _ in range(3):
        run.add(run.history.initial)
    fold = fold.follow(run.history)
    best = fold.best_first()
    number = fold.nodes[best].number
    known = run.trials.trials[number]
    run.trials.trials[number] = replace(known, state="suspected", values=None)
    assert fold.follow(run.history).best_first() != best
    run.trials.trials[number] = known
    assert fold.follow(run.history).best_first() == best


@pytest.mark.parametrize("source", ["tune:gp", "tree:tune:gp", "evolve:tune"])
def test_versions_that_were_tuned_do_not_make_a_model_change_the_structure(source: str) -> None:
    made = problem()
    run = Growing(made)
    run.add(run.history.initial)
    run.told.trials[1] = replace(run.told.trials[1], source=source)
    fold = Population(made, lambda: grid(made)).follow(run.history)
    assert sum(map(len, fold.skeletons.values())) == 1, "the initial program alone"
