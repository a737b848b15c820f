"""The default: several arms under one budget, and a bandit that asks those more often that earn more."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from agent.code.holes import plain
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.history import Trial
from agent.ledger import Budget
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Ask, Proposer
from agent.proposers.evolve import Evolve
from agent.proposers.guide import helped, misses, standings
from agent.proposers.portfolio import Options, Portfolio, arms_of
from agent.proposers.random import Random
from agent.proposers.tune import Tune
from agent.space import Candidate, Space
from agent.state import State
from agent.testing.proposers import Search, adviser, bowl, instance
from agent.texts import Code, Demos, Text

BOX = Space({f"x{k}": Float(-5, 5) for k in range(4)})


def run(ask: Ask | None = None, budget: int = 60, space: Space = BOX, **given: Any) -> State:
    measure = given.pop("measure", bowl(space))
    return Search(given.pop("proposer", Portfolio()), space, measure, ask=ask, budget=budget, **given).run()


def sources(state: State) -> Counter[str]:
    return Counter(trial.source.partition(":")[0] for trial in state.history.trials)


def says(wanted: Mapping[str, float]) -> Ask:
    """A model that always wants the same point, in whatever words it is asked for."""

    def reply(request: ModelRequest) -> str:
        assert request.schema is not None

        def fill(schema: Mapping[str, Any]) -> Any:
            properties = schema.get("properties", {})
            if set(properties) & set(wanted):
                return {name: wanted.get(name, 0.0) for name in properties}
            if schema.get("type") == "object":
                return {name: fill(item) for name, item in properties.items()}
            if schema.get("type") == "array" and schema.get("items", {}).get("type") == "object":
                return [fill(schema["items"])] * schema.get("minItems", 1)
            return instance(schema, random.Random(0))

        return json.dumps(fill(request.schema))

    return adviser(reply)


def trial(number: int, source: str, state: str = "dropped", reason: str = "") -> Trial:
    return Trial(Candidate({"x": number}), number, number, source, state=state, reason=reason)  # type: ignore[arg-type]


def test_it_solves_a_bowl_without_a_model() -> None:
    state = run()
    assert state.history.value(state.history[state.history.champion]) < 1e-4
    assert sources(state)["trust"] > 10 and sources(state)["gp"] > 3


def test_every_space_has_arms() -> None:
    spaces = {
        "floats": BOX,
        "choices": Space({"a": Categorical(("x", "y")), "b": Categorical(("x", "y"))}),
        "mixed": Space({"a": Categorical(("x", "y")), "b": Float(0, 1)}),
        "wide": Space({f"x{k}": Float(0, 1) for k in range(80)}),
    }
    found = {}
    for name, space in spaces.items():
        problem = Search(Portfolio(), space, bowl(space)).state.problem
        found[name] = arms_of(problem, Options(), model=False)
    assert found["floats"] == ["trust", "gp", "coordinate", "cmaes"]
    assert "gameopt" in found["choices"] and "cmaes" not in found["choices"]
    assert "catcma" in found["mixed"]
    assert "gp" not in found["wide"] and "cmaes" in found["wide"]


def test_texts_and_programs_have_arms_in_which_a_model_writes() -> None:
    text, code, demos = Text("Answer."), Code("def f(x):\n    return x\n", entry="f"), Demos((1, 2, 3), 2)

    def arms(model: bool, **given: Any) -> list[str]:
        space = Space(given)
        return arms_of(Search(Portfolio(), space, bowl(space)).state.problem, Options(), model)

    assert arms(True, t=text) == ["reflect", "mipro"] and arms(False, t=text) == []
    assert arms(True, c=code) == ["evolve", "optoprime"] and arms(False, c=code) == []
    assert arms(True, t=text, c=code) == ["evolve", "optoprime", "reflect", "mipro"]
    assert arms(True, t=text, d=demos) == ["reflect", "mipro", "bootstrap"] and arms(False, d=demos) == ["bootstrap"]
    mixed = arms(True, t=text, x=Float(0, 1))
    assert mixed[-3:] == ["llambo", "evollm", "reflect"] and mixed[:-1] == arms(True, x=Float(0, 1))
    assert arms(False, t=text, x=Float(0, 1)) == arms(False, x=Float(0, 1))


def test_texts_alone_without_a_model_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="needs a model to change texts") as caught:
        run(space=Space({"t": Text("Answer.")}), measure=lambda candidate: {"value": 0.0, "size": 0.0})
    assert "local:smollm2-135m" in caught.value.hint


def test_a_mixed_space_is_searched_well() -> None:
    space = Space({"n": Int(1, 30), "kind": Categorical(("a", "b", "c", "d")), "x": Float(0, 1), "y": Float(0, 1)})

    def measure(candidate: Candidate) -> dict[str, float]:
        off = abs(candidate["n"] - 17) / 10 + abs(candidate["x"] - 0.8) + (candidate["y"] - 0.2) ** 2
        return {"value": off + (candidate["kind"] != "c"), "size": 0.0}

    def best(proposer: Any, seed: int) -> float:
        state = Search(proposer, space, measure, budget=60, seed=seed).run()
        return state.history.value(state.history[state.history.champion])

    assert max(best(Portfolio(), seed) for seed in range(3)) < min(best(Random(), seed) for seed in range(3))


def test_arms_are_chosen_by_their_share_of_help() -> None:
    trials = [trial(n, "coordinate", reason="better: 1 against 2") for n in range(1, 9)]
    trials += [trial(n, "trust") for n in range(9, 30)]
    first, second = standings(trials, ["trust", "coordinate"], 0.02)
    assert first.name == "coordinate"
    assert first.mean > 0.5 > second.mean


def test_an_arm_that_was_asked_little_gets_a_bonus() -> None:
    trials = [trial(n, "trust") for n in range(1, 40)]
    known = {item.name: item for item in standings(trials, ["trust", "cmaes"], 0.02)}
    assert known["cmaes"].bonus > known["trust"].bonus > 0
    assert all(item.bonus == 0 for item in standings(trials, ["trust", "cmaes"], 0.0))


def test_what_lies_far_back_counts_less() -> None:
    old = [trial(n, "trust", reason="better: 1 against 2") for n in range(1, 20)]
    later = [trial(n, "trust") for n in range(20, 80)]
    before, after = standings(old, ["trust"], 0.0)[0], standings(old + later, ["trust"], 0.0)[0]
    assert after.mean < before.mean / 3


def test_misses_are_counted_since_the_model_last_helped() -> None:
    trials = [
        trial(1, "llambo:llm", reason="better: 1 against 2"),
        trial(2, "llambo:llm"),
        trial(3, "evollm:llm", state="failed"),
        trial(4, "gp"),
    ]
    assert misses(trials, []) == 3.0
    assert misses(trials, [5, 6]) == 4.0
    assert misses(trials[:1], []) == 0.0
    assert helped(trials[0]) and not helped(trials[1])


def test_a_model_whose_points_fail_is_asked_less_and_less() -> None:
    def measure(candidate: Candidate) -> dict[str, float] | None:
        return None if candidate["x0"] > 4.9 else dict(bowl(BOX)(candidate) or {})

    state = run(says({"x0": 4.95, "x1": 0.0, "x2": 0.0, "x3": 0.0}), budget=90, measure=measure)
    talked = [t for t in state.history.trials if t.source.startswith(("llambo", "evollm"))]
    assert 1 <= len(talked) <= 20
    assert sum(t.number > 45 for t in talked) < sum(t.number <= 45 for t in talked)
    assert state.history.value(state.history[state.history.champion]) < 1e-3


def test_a_model_that_knows_the_answer_is_listened_to() -> None:
    near = BOX.decode([0.3] * 4, BOX.initial())
    state = run(says({name: near[name] for name in BOX}), budget=12)
    assert any(t.source.startswith("llambo") and t.state == "champion" for t in state.history.trials)


def test_a_hopeless_point_is_replaced_and_that_is_on_record() -> None:
    state = run(says({f"x{k}": 5.0 for k in range(4)}), budget=70, options={"arms": ["trust", "llambo"]})
    reasons = [item["reason"] for item in state.history.rejections]
    told = any("has no hope" in reason for reason in reasons) or sources(state)["portfolio"] > 0
    assert told
    replaced = [t for t in state.history.trials if t.source == "portfolio:ucb"]
    assert replaced and "in the place of a point of llambo" in replaced[0].rationale


def test_a_point_of_choices_is_improved_before_it_is_paid_for() -> None:
    space = Space({f"b{k}": Categorical((True, False)) for k in range(10)})

    def measure(candidate: Candidate) -> dict[str, float]:
        return {"value": sum(candidate[name] for name in space) * 1.0, "size": 0.0}

    def reply(request: ModelRequest) -> str:
        return json.dumps(instance(request.schema or {}, random.Random(request.key("scripted:test"))))

    options = {"arms": ["coordinate", "llambo"], "model_share": 0.5}
    state = run(adviser(reply), space=space, measure=measure, budget=40, options=options)
    improved = [t for t in state.history.trials if t.source == "llambo:llm:improved"]
    assert improved and all("improved under the surrogate" in t.rationale for t in improved)


def test_without_the_justify_test_nothing_is_replaced() -> None:
    options = {"arms": ["trust", "llambo"], "justify": False}
    state = run(says({f"x{k}": 5.0 for k in range(4)}), budget=50, options=options)
    assert not sources(state)["portfolio"]


def test_a_spent_limit_on_calls_leaves_the_other_arms_at_work() -> None:
    async def spent(request: ModelRequest) -> Completion:
        raise BudgetExceeded("calls", 0, 0)

    state = run(spent, budget=30)
    assert len(state.history) > 25 and not sources(state)["llambo"]
    assert any("no model call was made" in item["reason"] for item in state.history.rejections)


def test_that_the_calls_are_spent_is_said_once() -> None:
    search = Search(Portfolio(), BOX, bowl(BOX), ask=says({"x0": 1.0}), budget=30)
    search.state.ledger.budget = Budget(evaluations=30, calls=0)
    state = search.run()
    told = [item for item in state.history.rejections if "limit on model calls" in item["reason"]]
    assert len(told) == 1 and not sources(state)["llambo"] and not sources(state)["evollm"]


def test_the_model_may_choose_the_arm_with_the_guide_in_view() -> None:
    seen: list[str] = []

    def reply(request: ModelRequest) -> str:
        seen.append(request.messages[0].text)
        assert request.schema is not None
        return json.dumps({"method": "coordinate"})

    options = {"choose": "model", "arms": ["trust", "coordinate"]}
    state = run(adviser(reply), budget=30, options=options)
    assert sources(state)["coordinate"] > 15
    assert "helped in" in seen[0] and "bonus" in seen[0]


def test_a_choice_that_is_no_arm_is_recorded_and_made_by_code() -> None:
    state = run(
        adviser(lambda _: '{"method": "magic"}'), budget=20, options={"choose": "model", "arms": ["trust", "gp"]}
    )
    assert len(state.history) > 15
    assert any("choice of a method" in item["reason"] for item in state.history.rejections)


def test_arms_get_their_own_options() -> None:
    state = run(budget=20, options={"arms": ["gp"], "gp": {"start": 12}})
    starts = [t for t in state.history.trials if t.source == "gp:start"]
    assert len(starts) >= 10


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"arms": "trust"}, "arms"),
        ({"arms": ["magic"]}, "magic"),
        ({"exploration": -1}, "exploration"),
        ({"model_share": 2}, "model_share"),
        ({"justify": "yes"}, "justify"),
        ({"choose": "me"}, "choose"),
        ({"arm": ["gp"]}, "arm"),
        ({"gp": {"beta": "x"}, "arms": ["gp"]}, "beta"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        run(budget=12, options=options)


def test_workers_get_several_points_of_several_arms() -> None:
    state = run(budget=60, workers=4)
    assert len(sources(state)) > 3
    assert state.history.value(state.history[state.history.champion]) < 1e-2


def test_the_guide_counts_what_was_asked_for_already() -> None:
    trials = [trial(n, "trust") for n in range(1, 5)]
    alone = standings(trials, ["trust"], 0.02)[0]
    asked = standings(trials, ["trust"], 0.02, {"trust": 3})[0]
    assert asked.mean < alone.mean and asked.pulls == alone.pulls + 3


# Programs: the model changes the structure, and the numbers in it are tuned

HOLED = Space({"program": Code("def solve(x):\n    return [0, 0, tune(0, 0, 9)]\n", entry="solve")})


def apart(candidate: Candidate) -> Mapping[str, float] | None:
    space: dict[str, Any] = {}
    exec(plain(candidate["program"]), space)
    value = space["solve"](0)
    return {"value": float(sum(abs(a - b) for a, b in zip(value, [2, 1, 6], strict=True))), "size": 0.0}


def stepping() -> Ask:
    """A model that adds a step up or down to one of the two plain numbers; it cannot answer in a form."""
    rng = random.Random(5)

    async def ask(request: ModelRequest) -> Completion:
        if request.schema is not None:
            raise OutputInvalid("it is no JSON")
        found = re.search(r"return \[([^,]*), ([^,]*), (tune\(\d+, 0, 9\))\]", request.messages[0].text)
        assert found is not None
        value = [found[1], found[2]]
        value[rng.randrange(2)] += rng.choice([" - 1", " + 1"])
        text = f"A step.\n```python\ndef solve(x):\n    return [{value[0]}, {value[1]}, {found[3]}]\n```"
        return Completion(text=text, model="scripted:test")

    return ask


def test_structure_and_numbers_of_a_program_share_the_budget() -> None:
    state = run(space=HOLED, measure=apart, ask=stepping(), budget=60)
    made = sources(state)
    assert made["tune"] >= 8 and made["evolve"] >= 8
    assert state.history.value(state.history[state.history.champion]) == 0.0
    helped_by = {trial.source.partition(":")[0] for trial in state.history.trials if helped(trial)}
    assert {"tune", "evolve"} <= helped_by


@pytest.mark.parametrize("proposer", [Portfolio(), Tune()], ids=["default", "tune"])
def test_no_model_is_asked_for_numbers_of_programs(proposer: Proposer) -> None:
    asked: Counter[str] = Counter()
    steps = stepping()

    async def ask(request: ModelRequest) -> Completion:
        asked["program" if "def solve" in request.messages[0].text else "number"] += 1
        return await steps(request)

    state = run(space=HOLED, measure=apart, ask=ask, budget=40, proposer=proposer)
    written = sum(trial.source.startswith("evolve:llm:") for trial in state.history.trials)
    assert asked["number"] == 0 and asked["program"] >= written, asked
    numbers = [trial.source for trial in state.history.trials if trial.source.startswith("tune:")]
    assert not [source for source in numbers if "llm" in source]
    assert sources(state)["tune"] >= 6 and (written > 0) == (proposer.name == "portfolio")
    assert Tune().forecast(state.problem, 10, {}) == (0, 0, 0)


def test_a_model_gives_numbers_of_programs_where_the_user_names_one() -> None:
    asked: list[ModelRequest] = []

    async def ask(request: ModelRequest) -> Completion:
        asked.append(request)
        raise OutputInvalid("it is no JSON")

    run(space=HOLED, measure=apart, ask=ask, budget=12, proposer=Tune(), options={"by": "evollm"})
    assert asked


def test_without_a_model_the_numbers_of_a_program_are_tuned_alone() -> None:
    for given in ({"ask": None}, {"ask": stepping(), "options": {"model_share": 0}}):
        state = run(space=HOLED, measure=apart, budget=20, **given)
        assert set(sources(state)) <= {"initial", "tune"}
        assert state.history.value(state.history[state.history.champion]) == 3.0, "the hole is as good as it can be"


def test_a_program_without_holes_is_evolved_and_useless_replies_do_not_end_the_run() -> None:
    space = Space({"program": Code("def solve(x):\n    return [0, 0, 6]\n", entry="solve")})
    rng, asked = random.Random(2), [0]

    async def ask(request: ModelRequest) -> Completion:
        asked[0] += 1
        found = re.search(r"return \[(-?\d+), (-?\d+), 6\]", request.messages[0].text)
        if found is None or asked[0] <= 4:
            return Completion(text="I cannot do that.", model="scripted:test")
        value = [int(found[1]), int(found[2])]
        value[rng.randrange(2)] += rng.choice([-1, 1])
        text = f"```python\ndef solve(x):\n    return [{value[0]}, {value[1]}, 6]\n```"
        return Completion(text=text, model="scripted:test")

    state = run(space=space, measure=apart, ask=ask, budget=14, options={"arms": ["evolve"]})
    assert sources(state)["evolve"] >= 6


def test_a_program_without_holes_and_without_a_model_is_refused_with_what_to_do() -> None:
    space = Space({"program": Code("def solve(x):\n    return [0, 0, 6]\n", entry="solve")})
    with pytest.raises(ConfigError, match="needs a model") as caught:
        run(space=space, measure=apart)
    assert "tune(value, low, high)" in caught.value.hint and "random_edits" in caught.value.hint


def test_a_users_arms_tune_the_numbers_of_a_program_or_write_it() -> None:
    state = run(space=HOLED, measure=apart, ask=stepping(), budget=12, options={"arms": ["random"]})
    assert {trial.source for trial in list(state.history.trials)[1:]} == {"tune:random"}
    problem = state.problem
    assert arms_of(problem, Options(arms=["random", "evolve", "tune"]), True, True) == ["evolve", "tune"]
    most = Portfolio().forecast(problem, 10, {})
    assert most[0] >= Evolve().forecast(problem, 10, {})[0] == 20


def test_a_model_that_writes_no_program_is_asked_less_and_less() -> None:
    asked = []

    async def ask(request: ModelRequest) -> Completion:
        if request.schema is not None:
            raise OutputInvalid("it is no JSON")
        asked.append(request)
        return Completion(text="I cannot do that.", model="scripted:test")

    space = Space(
        {
            "program": Code(
                "def solve(x):\n    return [tune(9.0, 0, 9), tune(9.0, 0, 9), tune(9.0, 0, 9)]\n", entry="solve"
            )
        }
    )
    state = run(
        space=space, measure=apart, ask=ask, budget=40, options={"model_share": 0.1, "arms": ["tune", "evolve"]}
    )
    assert sources(state)["tune"] >= 30, "nearly all of the budget"
    assert 2 <= len(asked) <= 9, f"{len(asked)} calls, two for each time"
