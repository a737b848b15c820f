"""SPO: what the model is shown. What it finds, and that it finds nothing in hiding, is in test_preference_runs.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.spo import SPO
from agent.proposers.table import load
from agent.space import Space
from agent.testing.proposers import ProposerContract, Search, adviser, bowl
from agent.texts import Text
from tests.proposers.text_spaces import Model

WORDS = Space(
    {"instruction": Text("Answer {question}", placeholders=("question",), max_chars=60), "tone": Text("calm")}
)


def reply(**changes: str) -> dict[str, Any]:
    return {"analysis": "too short", "reasoning": "longer is better", "changes": changes}


def proposed(model: Model | None, n: int = 1, **options: Any) -> tuple[Context, list[Proposal]]:
    context = Search(SPO(), WORDS, bowl(WORDS)).context(7)
    context.ask, context.options = adviser(model) if model else None, options
    return context, asyncio.run(SPO().propose(context, n))


def test_a_reply_is_an_analysis_a_modification_and_whole_texts() -> None:
    model = Model(reply(instruction="Answer at length: {question}"))
    context, (proposal,) = proposed(model)
    assert dict(proposal.values) == {"instruction": "Answer at length: {question}", "tone": "calm"}
    assert (proposal.source, proposal.rationale) == ("spo:llm", "longer is better")
    assert proposal.parents == (context.champion.id,) and not context.rejections
    fields = model.requests[0].schema["properties"]  # type: ignore[index]
    assert list(fields) == ["analysis", "reasoning", "changes"], "the thoughts come before what follows from them"
    assert "Answer {question}" in model.requests[0].messages[0].text
    assert "There are no right answers" in model.requests[0].system


def test_a_text_without_its_placeholder_is_refused_and_told_once() -> None:
    model = Model(reply(instruction="Answer me!"), reply(instruction="Say it: {question}"))
    context, (proposal,) = proposed(model)
    assert proposal.values["instruction"] == "Say it: {question}"
    assert "the text lost {question}" in context.rejections[0]["reason"]
    assert "could not be used: instruction: the text lost {question}" in model.requests[1].messages[0].text


def test_without_a_model_it_says_so_and_texts_stay_as_they_are() -> None:
    context, proposals = proposed(None)
    assert not proposals and context.rejections[0]["reason"] == "there is no model to ask"


def test_a_reply_that_is_none_is_recorded_and_nothing_takes_its_place() -> None:
    context, proposals = proposed(Model("I would rather not."), n=2)
    assert not proposals and context.rejections[0]["detail"] == "I would rather not."


@pytest.mark.parametrize("options", [{"rows": 0}, {"temperature": -1}, {"votes": 4}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.options"):
        proposed(Model(reply()), **options)


def test_the_forecast_counts_the_analysis() -> None:
    problem = Search(SPO(), WORDS, bowl(WORDS)).state.problem
    calls, heard, said = SPO().forecast(problem, 10, {})
    plain = load("optoprime").forecast(problem, 10, {})
    assert calls == plain[0] and heard == plain[1] and said > plain[2]


class TestSPOContract(ProposerContract):
    def make(self) -> Proposer:
        return SPO()
