"""ICPL: rounds of candidates, of which the best and the worst are shown, and never a number."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Mapping
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.llm.types import ModelRequest
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.icpl import ICPL, rounds
from agent.space import Candidate, Space
from agent.testing.proposers import ProposerContract, Search, adviser, bowl
from agent.texts import Code

REWARD = "def reward(angle, speed):\n    return 1.0\n"
CODE = Space({"reward": Code(REWARD, entry="reward", signature="(angle, speed)")})


def term(source: str) -> float:
    found = re.search(r"return (-?[\d.]+)", source)
    return float(found[1]) if found else 0.0


def written(value: float) -> str:
    return REWARD.replace("1.0", f"{value:.3f}")


def measured(candidate: Candidate) -> Mapping[str, float] | None:
    """A reward is better the nearer its constant is to 8; odd ones above 20 cannot be run."""
    value = term(candidate["reward"])
    return None if value > 20 else {"value": (value - 8) ** 2, "size": 0.0}


class Writer:
    """A model that goes from the worst beyond the best, as far as it is shown them; else it wanders off."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        text = request.messages[0].text
        rng = random.Random(len(text) + len(self.requests))
        best, _, worst = text.partition("The worst of them:")
        if worst:
            good, bad = term(best), term(worst)
            value = good + rng.uniform(-0.3, 1.5) * (good - bad)
        else:
            value = rng.uniform(0, 3)
        return json.dumps({"reward": written(value)})


def search(budget: int = 40, size: int = 4, writer: Writer | None = None) -> Search:
    made = Search(
        ICPL(), CODE, measured, ask=adviser(writer or Writer()), budget=budget, options={"size": size}, workers=2
    )
    made.run()
    return made


def test_code_of_rewards_gets_better_by_the_order_alone() -> None:
    history = search(budget=80).state.history
    assert abs(term(history[history.champion].candidate["reward"]) - 8) < 1


def test_and_not_where_the_best_and_the_worst_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.proposers.icpl.rounds", lambda *given: [])
    history = search(budget=80).state.history
    assert abs(term(history[history.champion].candidate["reward"]) - 8) > 4


def test_the_prompt_shows_the_best_the_worst_and_what_changed_and_no_number() -> None:
    made, writer = search(budget=18), Writer()
    context = made.context(50)
    context.ask = adviser(writer)
    pairs = rounds(context, 4)
    assert len(pairs) == 3
    asyncio.run(ICPL().propose(context, 1))
    text = writer.requests[0].messages[0].text
    best, worst = pairs[-1]
    place = text.index("The best of the last 4 versions")
    assert place < text.index(best.candidate["reward"]) < text.index("The worst of them")
    assert text.index("The worst of them") < text.rindex(worst.candidate["reward"])
    changed = text.partition("What changed from the best version of the round before")[2]
    assert f"-    return {term(pairs[-2][0].candidate['reward']):.3f}" in changed
    assert f"+    return {term(best.candidate['reward']):.3f}" in changed
    shown = [f"{trial.values['value']:.3g}" for pair in pairs for trial in pair if trial.values]
    assert not any(number in text.replace("return", "") for number in shown if len(number) > 3)


def test_what_failed_belongs_to_no_round() -> None:
    made = Search(ICPL(), CODE, measured, budget=40)
    context, values = made.context(1), iter([30, 1, 40, 2, 50, 3, 60, 4])

    class Fixed(ICPL):
        async def propose(self, context: Context, n: int) -> list[Proposal]:
            value = next(values, None)
            context.exhausted = value is None
            return [] if value is None else [Proposal({"reward": written(value)}, "icpl:llm")]

    made = Search(Fixed(), CODE, measured, budget=40)
    made.run()
    context = made.context(9)
    order = [(term(best.candidate["reward"]), term(worst.candidate["reward"])) for best, worst in rounds(context, 2)]
    assert order == [(2, 1), (4, 3)]
    assert len(rounds(context, 4)) == 1 and not rounds(context, 5)


def proposed(answer: Any, n: int = 1, **options: Any) -> tuple[Context, list[Proposal]]:
    made = Search(ICPL(), CODE, measured)
    context = made.context(3)
    context.options = options
    context.ask = adviser(lambda request: answer if isinstance(answer, str) else json.dumps(answer))
    return context, asyncio.run(ICPL().propose(context, n))


def test_a_first_round_comes_from_the_first_version() -> None:
    context, (proposal,) = proposed({"reward": written(3)})
    assert proposal.source == "icpl:llm" and proposal.parents == (context.history.initial,)


def test_a_program_that_cannot_be_called_so_is_refused_and_told() -> None:
    context, proposals = proposed({"reward": "def other():\n    return 1\n"})
    assert not proposals and len(context.rejections) == 2
    assert "does not define reward" in context.rejections[0]["reason"]


def test_the_same_twice_is_one_candidate() -> None:
    context, proposals = proposed({"reward": written(3)}, n=3)
    assert len(proposals) == 1 and len(context.rejections) == 2


def test_without_a_model_it_says_so() -> None:
    context = Search(ICPL(), CODE, measured).context(1)
    assert asyncio.run(ICPL().propose(context, 1)) == []
    assert context.rejections[0]["reason"] == "there is no model to ask"


@pytest.mark.parametrize("options", [{"size": 1}, {"rows": -1}, {"temperature": "hot"}, {"k": 6}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.options"):
        proposed({"reward": written(3)}, **options)


def test_the_forecast_grows_with_the_program() -> None:
    small = ICPL().forecast(Search(ICPL(), CODE, measured).state.problem, 10, {})
    wide = Space({"reward": Code(REWARD + "# " + "x" * 4000 + "\n", entry="reward")})
    large = ICPL().forecast(Search(ICPL(), wide, bowl(wide)).state.problem, 10, {})
    assert small[0] == large[0] == 20 and large[1] > small[1] + 20 * 1000


class TestICPLContract(ProposerContract):
    def make(self) -> Proposer:
        return ICPL()
