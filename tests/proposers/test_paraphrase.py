"""Good prompts in other words: whose, what the prompt asks for, what becomes of a reply."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
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
from agent.proposers.paraphrase import STYLES, Paraphrase
from agent.results.result import Result
from agent.testing.proposers import ProposerContract, adviser
from agent.texts import Text
from tests.proposers.text_spaces import TEXTS, Model, scores, wordy
from tests.tools.tool_support import Known, context, measured, with_rows

SPACE = {"prompt": Text("Answer {question}.", placeholders=("question",)), "limit": Float(0, 1, default=0.5)}


def known(space: Mapping[str, Any] | None = None) -> Known:
    return context(with_rows(6, space=space or SPACE), {})


def proposed(at: Known, model: Model | None, n: int = 1, **options: Any) -> list[Proposal]:
    at.ask, at.options = adviser(model) if model else None, options
    return asyncio.run(Paraphrase().propose(at, n))


def test_the_text_is_said_anew_and_everything_else_stays() -> None:
    at, model = known(), Model({"prompt": "Reply to {question}."})
    measured(at, {"limit": 0.25}, rows=scores("111111"), promote=True)
    (made,) = proposed(at, model, best=1)
    assert dict(made.values) == {"prompt": "Reply to {question}.", "limit": 0.25}
    assert made.parents == (at.history.champion,) and made.source == "paraphrase:llm"
    assert 'prompt =\n"Answer {question}."' in model.prompt and "limit" not in model.prompt


def test_better_candidates_are_parents_more_often_and_bad_ones_never() -> None:
    at = known()
    names = [measured(at, {"limit": step / 10}, rows=scores(f"{step}" * 6)) for step in range(1, 5)]
    model = Model(*({"prompt": f"Say {{question}} {number}"} for number in range(200)))
    made = [proposal.parents[0] for proposal in proposed(at, model, n=200)]
    counts = [made.count(name) for name in names]
    assert counts[0] == 0 and counts[3] > counts[2] > counts[1] > 10


def test_styles_differ_and_earlier_variants_are_told_with_their_result() -> None:
    at = known()
    measured(at, {}, rows=scores("000000"))
    child = measured(at, {"prompt": "Reply {question}."}, rows=scores("100000"))
    model = Model(*({"prompt": f"Say {{question}} {number}"} for number in range(30)))
    proposed(at, model, n=30, best=2)
    prompts = [request.messages[0].text for request in model.requests]
    assert sum(any(style and style in prompt for prompt in prompts) for style in STYLES) >= 4
    of_first = [prompt for prompt in prompts if 'prompt =\n"Answer' in prompt]
    assert of_first and all('0.166667: {"prompt": "Reply {question}."}' in prompt for prompt in of_first)
    assert child in at.history and all("Tried before" not in prompt for prompt in prompts if prompt not in of_first)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"prompt": "Reply."}, "the reply cannot be used: prompt: the text lost {question}"),
        ({"prompt": "Answer {question}."}, "the reply repeats candidate 0"),
        ("I would rather not.", "the reply cannot be used"),
    ],
)
def test_what_is_of_no_use_is_recorded_and_told_by_the_next_prompt(answer: Any, reason: str) -> None:
    at, model = known(), Model(answer)
    assert proposed(at, model) == [] and at.rejections[0]["reason"].startswith(reason)
    at.history.rejections.append(at.rejections[0])
    at.history.rejected["paraphrase:llm"] = 1
    at.memory = {"told": 0}
    proposed(at, model)
    assert "An earlier reply could not be used: the reply" in model.prompt and at.memory == {"told": 1}
    proposed(at, model)
    assert "An earlier reply" not in model.prompt


def test_two_equal_replies_make_one_candidate() -> None:
    at = known()
    assert len(proposed(at, Model({"prompt": "Say {question}"}), n=2)) == 1
    assert at.rejections[0]["reason"] == "the reply is the same as another one just made"


def test_without_a_model_or_without_a_text_it_says_so() -> None:
    at = known()
    assert proposed(at, None) == [] and at.rejections[0]["reason"] == "there is no model to ask"
    with pytest.raises(ConfigError, match="changes texts, and the space has none"):
        proposed(known({"limit": Float(0, 1)}), Model({}))


def test_a_limit_is_no_silent_end() -> None:
    with pytest.raises(BudgetExceeded):
        proposed(known(), Model(BudgetExceeded("calls", 3, 3)))
    at = known()
    assert proposed(at, Model(OutputInvalid("cut off", raw="{"))) == [] and at.rejections


@pytest.mark.parametrize("options", [{"best": 0}, {"temperature": -1}, {"style": "x"}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        proposed(known(), Model({}), **options)
    with pytest.raises(ConfigError):
        Paraphrase().forecast(known().problem, 3, options)


def test_the_forecast_is_an_upper_bound() -> None:
    at, model = known(), Model({"prompt": "Say {question}"})
    for number in range(9):
        measured(at, {"prompt": f"Tell {{question}} {number}"}, rows=scores("0"))
    proposed(at, model)
    calls, tokens, out = Paraphrase().forecast(at.problem, 1, {})
    (request,) = model.requests
    assert calls == 1 and input_bound(request) - 1024 <= tokens and request.max_output_tokens <= out


# A task on which some words do better than others that mean the same.

WORDS = {"answer": "solve", "carefully": "step by step", "question": "problem", "short": "brief"}


def worded(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """A quarter of the rows for each better word, and nothing without every fact that the text must keep."""
    text = candidate["prompt"]
    if not all(fact in text for fact in ("EUR", "2 decimals", "no tax")):
        return 0.0
    return float(row["n"] % 4 < sum(word in text for word in WORDS.values()))


def writer(mask: bool) -> Callable[[ModelRequest], str]:
    """Changes one word of the text that the prompt shows: which one is a function of the prompt."""

    def say(request: ModelRequest) -> str:
        text = request.messages[0].text
        now = "" if mask else json.loads(re.search(r"^prompt =\n(.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
        place = zlib.crc32(text.encode())
        old = sorted(WORDS)[place % len(WORDS)]
        return json.dumps({"prompt": now.replace(old, WORDS[old]) if old in now else f"{now}{' ' * (place % 97)}"})

    return say


def reworded(runs: Path, *, mask: bool) -> Result:
    return optimize(
        lambda candidate, row: worded(candidate, row),
        space={"prompt": Text("Now answer the question carefully: short, in EUR, 2 decimals, no tax.")},
        data=[{"n": number} for number in range(120)],
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=1200,
        model=Scripted(writer(mask)),
        options={"proposer": "paraphrase"},
        runs=runs,
    )


def test_a_run_finds_the_better_words(tmp_path: Path) -> None:
    result = reworded(tmp_path, mask=False)
    assert sum(word in str(result.best["prompt"]) for word in WORDS.values()) >= 3 and result.status == "proven"


def test_the_same_model_finds_none_when_the_text_is_masked(tmp_path: Path) -> None:
    result = reworded(tmp_path, mask=True)
    assert result.status == "initial" and len(result.trials) > 3


class TestParaphraseContract(ProposerContract):
    spaces: ClassVar = TEXTS
    finite: ClassVar = {}
    steps = 20

    def make(self) -> Proposer:
        return Paraphrase()

    def reply(self, request: ModelRequest) -> str:
        return wordy(request)
