"""Instructions and examples chosen together: how versions come about, and how numbers choose among them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.api import optimize
from agent.errors import BudgetExceeded, ConfigError
from agent.goals import Objective
from agent.llm.estimate import input_bound
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.parameters import Categorical, Float
from agent.proposers.base import Proposal, Proposer
from agent.proposers.mipro import MIPRO, TIPS
from agent.results.result import Result
from agent.space import Space
from agent.testing.proposers import ProposerContract, adviser
from agent.texts import Code, Demos, Text
from tests.proposers.text_spaces import TEXTS, Model, masked, scores, wordy
from tests.tools.tool_support import Known, context, inside, measured, with_rows

ROWS = {f"r{number}": {"id": f"r{number}", "question": f"{number} + {number}"} for number in range(6)}
SPACE = {"prompt": Text("Answer."), "demos": Demos(tuple(ROWS.values()), 2)}
UNIT = (Objective("score", "maximize", low=0.0, high=1.0),)


def known(space: Mapping[str, Any] | None = None) -> Known:
    at = context(with_rows(6, space=space or SPACE, objectives=UNIT), ROWS)
    measured(at, {}, rows=scores("111100"))
    return at


def versions(count: int = 50) -> Model:
    return Model(*({"prompt": f"version {number}"} for number in range(count)))


def proposed(at: Known, model: Model | None, n: int = 1, **options: Any) -> list[Proposal]:
    at.ask, at.options = adviser(model) if model else None, {"search": "random", **options}
    return asyncio.run(MIPRO().propose(at, n))


def test_versions_are_written_once_and_then_numbers_choose() -> None:
    at, model = known(), versions()
    (made,) = proposed(at, model)
    assert len(model.requests) == 5 and made.source == "mipro:random"
    assert at.memory["texts"] == {"prompt": ["Answer.", *(f"version {number}" for number in range(5))]}
    assert len(at.memory["sets"]["demos"]) == 6 and at.memory["sets"]["demos"][0] == []
    assert made.values["prompt"] in at.memory["texts"]["prompt"]
    assert made.values["demos"] in at.memory["sets"]["demos"]
    proposed(at, model, n=3)
    assert len(model.requests) == 5


def test_versions_are_grounded_in_rows_examples_and_different_tips() -> None:
    at, model = known(), versions()
    proposed(at, model, rows=2)
    shown = "\n".join(inside(model.prompt))
    assert shown.count("row: ") >= 2 and "example" in shown and 'prompt =\n"Answer."' in model.prompt
    prompts = [request.messages[0].text for request in model.requests]
    assert all(tip in prompt for tip, prompt in zip(TIPS, prompts, strict=False)) and len(set(prompts)) == 5


def test_rows_that_versions_were_made_with_count_as_read_by_every_candidate() -> None:
    at = known()
    proposed(at, versions(), rows=2)
    rows = set(at.memory["read"])
    assert len(rows) == 2
    at.reads.clear()
    for made in proposed(at, versions(), n=8):
        assert rows <= set(made.read) and {f"r{index}" for index in made.values["demos"]} <= set(made.read)


def test_sets_are_made_of_what_was_passed() -> None:
    at = known()
    proposed(at, versions())
    assert {index for chosen in at.memory["sets"]["demos"] for index in chosen} <= {0, 1, 2, 3}


def test_the_search_knows_what_was_measured_and_nothing_of_other_texts() -> None:
    at = known({**SPACE, "limit": Float(0, 1, default=0.5), "kind": Categorical(("a", "b"))})
    proposed(at, versions())
    measured(at, {"prompt": "version 2", "kind": "b"}, rows=scores("111111"))
    measured(at, {"prompt": "from elsewhere"}, rows=scores("111111"))
    seen: list[Any] = []

    class Watch:
        name, needs_model = "watch", False

        async def propose(self, context: Any, n: int) -> list[Proposal]:
            seen.append(context)
            return [Proposal({"prompt": 5, "demos": 0, "limit": 0.125, "kind": "a"}, "watch")]

    from agent.proposers import mipro

    search = Watch()
    (made,) = asyncio.run(mipro._chosen(at, at.memory, search, 1))  # type: ignore[arg-type]
    assert dict(made.values) == {"prompt": "version 4", "demos": [], "limit": 0.125, "kind": "a"}
    trials = seen[0].history.trials
    assert [dict(trial.candidate) for trial in trials] == [
        {"prompt": 0, "demos": 0, "limit": 0.5, "kind": "a"},
        {"prompt": 3, "demos": 0, "limit": 0.5, "kind": "b"},
    ]
    assert [round(trial.values["score"], 3) for trial in trials] == [0.667, 1.0] and seen[0].ask is None


def test_code_stays_as_it_is() -> None:
    at = known({**SPACE, "code": Code("def f(x):\n    return x\n", entry="f")})
    assert proposed(at, versions())[0].values["code"] == "def f(x):\n    return x\n"


def test_unusable_versions_are_recorded_and_cost_only_themselves() -> None:
    space = {"prompt": Text("Answer {q}.", placeholders=("q",))}
    model = Model({"prompt": "lost"}, {"prompt": "Say {q}."}, {"prompt": "Say {q}."}, "no", {"prompt": "Tell {q}."})
    at = known(space)
    proposed(at, model)
    assert at.memory["texts"]["prompt"] == ["Answer {q}.", "Say {q}.", "Tell {q}."]
    reasons = [item["reason"] for item in at.rejections]
    assert len(reasons) == 3 and reasons[0].startswith("the reply cannot be used")
    assert reasons[1:] == ["prompt: the text lost {q}", "prompt: this version is there already"]


def test_without_any_version_it_asks_a_second_time_and_then_ends() -> None:
    at, model = known({"prompt": Text("Answer.")}), Model("no")
    assert proposed(at, model) == [] and not at.exhausted
    assert proposed(at, model) == [] and at.exhausted and len(model.requests) == 10
    assert at.rejections[-1]["reason"].endswith("nothing to choose from")
    assert proposed(at, model) == [] and len(model.requests) == 10, "it asks for ever"


def test_without_a_model_sets_alone_are_chosen_and_that_is_said() -> None:
    at = known()
    made = proposed(at, None, n=3)
    assert made and all(proposal.values["prompt"] == "Answer." for proposal in made)
    assert at.rejections[0]["reason"] == "there is no model to ask, so texts stay as they are"


def test_every_combination_is_proposed_once_and_then_it_ends() -> None:
    at = known({"prompt": Text("Answer.")})
    made = proposed(at, versions(), n=20, instructions=4)
    assert sorted(str(item.values["prompt"]) for item in made) == ["version 0", "version 1", "version 2"]
    for item in made:
        measured(at, item.values, rows=scores("000000"))
    assert proposed(at, versions(), n=2) == [] and at.exhausted


def test_a_limit_is_no_silent_end() -> None:
    with pytest.raises(BudgetExceeded):
        proposed(known(), Model(BudgetExceeded("calls", 3, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"instructions": 0},
        {"sets": 0},
        {"search": "opro"},
        {"search": "mipro"},
        {"search": "nobody"},
        {"measure": -1},
        {"threshold": "x"},
        {"tokens": 1},
        {"rows": -1},
        {"temperature": -1},
        {"x": 1},
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        proposed(known(), versions(), **options)
    with pytest.raises(ConfigError):
        MIPRO().forecast(known().problem, 3, options)


def test_a_space_of_code_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="chooses texts"):
        proposed(known({"code": Code("x = 1")}), versions())


def test_the_forecast_is_an_upper_bound() -> None:
    at, model = known(), Model("no")
    proposed(at, model)
    proposed(at, model)
    calls, tokens, out = MIPRO().forecast(at.problem, 100, {})
    assert len(model.requests) == calls == 10
    assert sum(input_bound(request) - 1024 for request in model.requests) <= tokens
    assert sum(request.max_output_tokens for request in model.requests) <= out


# A task where an instruction is worth nothing without examples of the kind that it names, and the other way round.

KINDS = ("dates", "sums", "names")
DATA = [{"id": f"n{number}", "kind": KINDS[number % 3], "n": number} for number in range(150)]


def judged(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """A third of the rows; with an instruction that names a kind and an example of that kind, that third more."""
    text, shown = candidate["prompt"], {DATA[index]["kind"] for index in candidate["demos"]}
    both = [kind for kind in KINDS if kind in text and kind in shown]
    return float(row["n"] % 6 < 2 + 2 * len(both))


def writer(mask: bool) -> Callable[[ModelRequest], str]:
    """Names the kinds of the rows that the prompt shows: a function of the prompt alone."""

    def say(request: ModelRequest) -> str:
        text = request.messages[0].text
        kinds = list(dict.fromkeys(re.findall(r'"kind": "(\w+)"', masked(text) if mask else text)))
        return json.dumps({"prompt": f"Answer on {' and '.join(kinds[:2])}." if kinds else f"Answer {len(text)}."})

    return say


def chosen(runs: Path, *, mask: bool, search: str = "portfolio") -> Result:
    return optimize(
        lambda candidate, row: judged(candidate, row),
        space={"prompt": Text("Answer."), "demos": Demos(tuple(DATA[:40]), 3)},
        data={"train": DATA[:90], "val": DATA[90:]},
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=700,
        model=Scripted(writer(mask)),
        options={"proposer": "mipro", "options": {"search": search, "rows": 2, "measure": 24}},
        runs=runs,
    )


@pytest.mark.parametrize("search", ["portfolio", "tpe"])
def test_a_run_finds_an_instruction_and_examples_that_go_together(tmp_path: Path, search: str) -> None:
    if search == "tpe":
        pytest.importorskip("optuna")
    result = chosen(tmp_path, mask=False, search=search)
    best = next(trial for trial in result.trials if trial.candidate == result.best)
    assert result.status == "proven" and (best.values or {})["value"] > 0.9
    assert best.source.startswith("mipro:") and result.best["demos"]


def test_the_same_model_gains_nothing_when_the_rows_are_masked(tmp_path: Path) -> None:
    result = chosen(tmp_path, mask=True)
    assert result.status == "initial" and len(result.trials) > 3


class TestMIPROOfNumbers(ProposerContract):
    options: ClassVar = {"search": "coordinate"}
    steps = 20

    def make(self) -> Proposer:
        return MIPRO()


class TestMIPROOfTexts(ProposerContract):
    spaces: ClassVar[Mapping[str, Space]] = dict(reversed(TEXTS.items()))
    finite: ClassVar = {"text": 6, "two texts": 36, "text and demos": 18}
    options: ClassVar = {"search": "random", "sets": 3}
    steps = 25

    def make(self) -> Proposer:
        return MIPRO()

    def reply(self, request: ModelRequest) -> str:
        return wordy(request)
