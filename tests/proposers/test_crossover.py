"""Two candidates become one: which two, what the model is told of them, and what code mixes."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.api import optimize
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.goals import Objective
from agent.llm.estimate import input_bound
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.parameters import Float
from agent.proposers.base import Proposal, Proposer
from agent.proposers.crossover import Crossover, mixed
from agent.results.result import Result
from agent.space import Space
from agent.testing.proposers import ProposerContract, adviser
from agent.texts import Demos, Text
from tests.proposers.text_spaces import POOL, TEXTS, Model, scores, wordy
from tests.tools.tool_support import Known, context, inside, measured, with_rows

SPACE = {"prompt": Text("Answer."), "limit": Float(0, 1, default=0.5)}


def known(space: Mapping[str, Any] | None = None) -> Known:
    rows = {f"r{number}": {"question": f"{number} + {number}"} for number in range(6)}
    return context(with_rows(6, space=space or SPACE), rows)


def two(space: Mapping[str, Any] | None = None, **more: Any) -> Known:
    """Two children that are each ahead on rows of their own, and a third one that is never."""
    at = known(space)
    measured(at, {}, rows=scores("000000"))
    measured(at, {"prompt": "In EUR."}, rows=scores("110000"), words="no date")
    measured(at, {"prompt": "With a date.", **more}, rows=scores("001110"), words="no currency")
    measured(at, {"prompt": "Guess."}, rows=scores("000000"))
    return at


def proposed(at: Known, model: Model | None, n: int = 1, **options: Any) -> list[Proposal]:
    at.ask, at.options = adviser(model) if model else None, options
    return asyncio.run(Crossover().propose(at, n))


def test_parents_complement_one_another_and_the_model_sees_where() -> None:
    at, model = two(limit=0.25), Model({"prompt": "In EUR, with a date."})
    (made,) = proposed(at, model)
    assert made.source == "crossover:llm" and made.values["prompt"] == "In EUR, with a date."
    assert set(made.parents) == {at.history.trials[1].id, at.history.trials[2].id}
    assert made.values["limit"] in (0.5, 0.25)
    shown = "\n".join(inside(model.prompt))
    assert '"In EUR."' in model.prompt and '"With a date."' in model.prompt and "limit" not in model.prompt
    assert shown.count("A is better") == 2 and shown.count("B is better") == 2
    assert "feedback: no date" in shown and "feedback: no currency" in shown and len(at.reads) == 4


def test_no_rows_are_read_when_none_are_to_be_shown() -> None:
    at, model = two(), Model({"prompt": "Both."})
    proposed(at, model, rows=0)
    assert at.reads == [] and "begin" not in model.prompt


def test_without_rows_the_best_are_crossed() -> None:
    space = {**SPACE}
    at = context(with_rows(6, space=space))
    for number in range(4):
        measured(at, {"prompt": f"P{number}"}, number)
    made = proposed(at, Model(*({"prompt": f"new {number}"} for number in range(20))), n=20, best=2)
    assert {parent for proposal in made for parent in proposal.parents} == {t.id for t in at.history.trials[3:]}


def test_half_of_all_examples_of_the_parents_are_kept() -> None:
    space = Space({"demos": Demos(POOL, 6)})
    one, other = space.candidate({"demos": [0, 1, 2]}), space.candidate({"demos": [2, 3, 4, 5]})
    for seed in range(20):
        found = mixed(space, one, other, random.Random(seed))["demos"]
        assert len(found) == 3 and set(found) <= {0, 1, 2, 3, 4, 5}
    assert mixed(space, one, one, random.Random(1))["demos"] == [0, 1, 2]


def test_parents_with_the_same_texts_are_mixed_without_a_call() -> None:
    at = known({"prompt": Text("A."), **{name: Float(0, 1, default=0.5) for name in "xyzuvw"}})
    measured(at, dict.fromkeys("xyz", 0.1), rows=scores("100000"))
    measured(at, dict.fromkeys("uvw", 0.9), rows=scores("010000"))
    model = Model({"prompt": "B."})
    (made,) = proposed(at, model)
    assert made.source == "crossover:mix" and not model.requests and made.values["prompt"] == "A."
    assert {made.values[name] for name in "xyz"} <= {0.1, 0.5} and {made.values[name] for name in "uvw"} <= {0.9, 0.5}


def test_without_a_model_each_text_is_one_parents_and_that_is_said() -> None:
    at = two(limit=0.25)
    (made,) = proposed(at, None)
    assert made.source == "crossover:mix" and made.values["prompt"] in ("In EUR.", "With a date.")
    assert at.rejections[0]["reason"].startswith("there is no model to combine texts")


def test_before_two_are_measured_texts_are_paraphrased() -> None:
    (made,) = proposed(known(), Model({"prompt": "Reply."}))
    assert made.source == "crossover:start" and made.values["prompt"] == "Reply."
    at = known()
    (made,) = proposed(at, None)
    assert made.source == "crossover:fallback" and at.rejections


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"prompt": 3}, "the reply cannot be used"),
        ({"prompt": "Guess."}, "the reply repeats candidate"),
        (OutputInvalid("cut off", raw="{"), "the reply cannot be used: cut off"),
    ],
)
def test_what_is_of_no_use_is_recorded(answer: Any, reason: str) -> None:
    at = two({"prompt": Text("Answer.")})
    assert proposed(at, Model(answer)) == [] and at.rejections[0]["reason"].startswith(reason)


def test_a_limit_is_no_silent_end() -> None:
    with pytest.raises(BudgetExceeded):
        proposed(two(), Model(BudgetExceeded("calls", 3, 3)))


@pytest.mark.parametrize("options", [{"best": 1}, {"rows": -1}, {"tokens": 1}, {"temperature": "warm"}, {"x": 1}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        proposed(two(), Model({}), **options)
    with pytest.raises(ConfigError):
        Crossover().forecast(known().problem, 3, options)


def test_the_forecast_is_an_upper_bound() -> None:
    at, model = two(), Model({"prompt": "Both."})
    proposed(at, model)
    calls, tokens, out = Crossover().forecast(at.problem, 1, {})
    (request,) = model.requests
    assert calls == 1 and input_bound(request) - 1024 <= tokens and request.max_output_tokens <= out


# A task that is done when the good parts of several starting points come together.

RULES = ("ISO dates", "two decimals", "surname first", "SI units")


def judged(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    return float(RULES[row["n"] % 4] in candidate["prompt"])


def joiner(mask: bool) -> Callable[[ModelRequest], str]:
    """Keeps every sentence of both versions, once; of a single text it has nothing to say."""

    def say(request: ModelRequest) -> str:
        text = "" if mask else request.messages[0].text
        versions = [json.loads(found) for found in re.findall(r"^prompt =\n(.*)$", text, re.MULTILINE)]
        parts = dict.fromkeys(part for version in versions for part in version.split(". "))
        return json.dumps({"prompt": ". ".join(parts) if len(versions) == 2 else "Answer"})

    return say


def crossed(runs: Path, *, mask: bool) -> Result:
    return optimize(
        lambda candidate, row: judged(candidate, row),
        space={"prompt": Text("Answer")},
        starts=[{"prompt": f"Answer. Use {rule}"} for rule in RULES],
        data=[{"n": number} for number in range(160)],
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=900,
        model=Scripted(joiner(mask)),
        options={"proposer": "crossover"},
        runs=runs,
    )


def test_a_run_brings_together_what_is_good_in_several(tmp_path: Path) -> None:
    result = crossed(tmp_path, mask=False)
    assert sum(rule in str(result.best["prompt"]) for rule in RULES) >= 3 and result.status == "proven"


def test_the_same_model_brings_nothing_together_when_the_versions_are_masked(tmp_path: Path) -> None:
    result = crossed(tmp_path, mask=True)
    assert len(result.trials) >= 5
    assert all(sum(rule in str(trial.candidate["prompt"]) for rule in RULES) <= 1 for trial in result.trials)


class TestCrossoverOfTexts(ProposerContract):
    spaces: ClassVar = dict(reversed(TEXTS.items()))
    finite: ClassVar = {}
    steps = 20

    def make(self) -> Proposer:
        return Crossover()

    def reply(self, request: ModelRequest) -> str:
        return wordy(request)


class TestCrossoverOfNumbers(ProposerContract):
    steps = 20

    def make(self) -> Proposer:
        return Crossover()
