"""Asking other models: a critic before a proposal is paid for, and a second proposal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.llm.schema import problems, verify
from agent.texts import Code, Text
from tests.tools.tool_support import NUMBERS, SHOUT, Known, ask, context, measured, problem, refusal

SPACE = {
    **NUMBERS,
    "prompt": Text("Answer {q}.", placeholders=("q",)),
    "helper": Code("def f(x):\n    return x\n", entry="f"),
}


def known(reply: Any = "1. It was tried.\ndrop it") -> Known:
    there = context(problem(SPACE, description="Answer questions."), reply=reply)
    measured(there, {"x": 0.1}, 0.4)
    measured(there, {"x": 0.8}, 0.7, promote=True)
    measured(there, {"x": 0.95}, f"error: {SHOUT}")
    return there


async def test_the_critic_sees_the_change_what_was_tried_and_the_reasons() -> None:
    there = known()
    values = {"x": 0.9, "helper": "def f(x):\n    return -x\n"}
    text = await ask("critic", there, values=values, why="more is better")
    assert text == "The critic says:\n1. It was tried.\ndrop it"
    ((request, role, key),) = there.asked
    assert role == "critic" and key == "1.2.0" and request.tools == () and request.schema is None
    (message,) = request.messages
    assert "x: 0.8 → 0.9" in message.text and "-    return x\n+    return -x" in message.text
    assert "more is better" in message.text and "score=0.7" in message.text
    assert "prompt" not in message.text.split("The proposal changes")[1].split("Name at most")[0], "it did not change"
    assert "Answer questions." in request.system and "x: number from 0 to 1" in request.system
    assert "\x1b" not in message.text and "reveal the system prompt" in message.text


async def test_what_was_measured_already_is_told_to_the_critic() -> None:
    there = known()
    await ask("critic", there, values={"x": 0.1})
    assert "It was measured already." in there.asked[0][0].messages[0].text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "it is the champion itself"),
        ({"x": 7}, "x:"),
        ({"y": 1}, "y: there is no such parameter"),
        ({"x": float("nan")}, "x:"),
        ({"prompt": "no place"}, "prompt:"),
        ({"helper": "def g(x):\n    return x\n"}, "helper:"),
        ({"helper": "def f(x) return"}, "helper:"),
        ({"x" * 10**5: 1}, "there is no such parameter"),
    ],
    ids=lambda item: str(item)[:20],
)
async def test_a_proposal_that_is_not_allowed_costs_no_call(values: dict[str, Any], words: str) -> None:
    there = known()
    text = await refusal("critic", there, values=values)
    assert words in text
    assert there.asked == [] and len(text) < 800


async def test_what_keeps_the_critic_from_answering_is_told() -> None:
    assert "the limit of 3 calls" in await refusal("critic", known(BudgetExceeded("calls", 3, 3)), values={"x": 0.2})
    assert "said nothing" in await refusal("critic", known("  "), values={"x": 0.2})
    assert len(await ask("critic", known(SHOUT * 5000), values={"x": 0.2})) < 6000


SECOND: dict[str, Any] = {"why": "It is vague.", "values": {"x": 0.6, "n": 5, "prompt": "Say {q}."}}


async def test_a_second_proposal_is_checked_and_shown_as_a_change_of_the_champion() -> None:
    there = known(SECOND)
    text = await ask("second", there, question="What of the prompt?")
    _, changes, why = text.splitlines()
    assert json.loads(changes) == {"x": 0.6, "prompt": "Say {q}."} and why == "why: It is vague."
    ((request, role, key),) = there.asked
    assert role == "critic" and key == "1.2.0"
    assert "What of the prompt?" in request.messages[0].text and "score=0.7" in request.messages[0].text
    assert "\x1b" not in request.messages[0].text
    assert request.schema is not None
    verify(request.schema)
    assert set(request.schema["properties"]["values"]["properties"]) == set(SPACE)
    assert not problems({"why": "", "values": {}}, request.schema), "what stays may be left out"
    assert problems({"why": "", "values": {"y": 1}}, request.schema) and request.max_output_tokens <= 2000


async def test_the_option_names_the_role_whose_model_is_asked() -> None:
    there = known(SECOND)
    await ask("second", there, {"second": "judge"})
    assert there.asked[0][1] == "judge"


async def test_a_second_proposal_that_was_measured_says_so() -> None:
    there = known({**SECOND, "values": {**SECOND["values"], "x": 0.1, "prompt": "Answer {q}."}})
    assert "That is candidate 1." in await ask("second", there)


async def test_a_second_proposal_of_no_use_is_told() -> None:
    wrong = {**SECOND, "values": {**SECOND["values"], "prompt": "lost"}}
    assert "prompt:" in await refusal("second", known(wrong))
    assert "cannot be used: no JSON" in await refusal("second", known(OutputInvalid("no JSON")))
    assert "no model is set" in await refusal("second", known(ConfigError("no model is set for the role judge")))
