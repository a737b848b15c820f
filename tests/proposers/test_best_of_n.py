"""Best of N: samples that know of nothing but the initial program."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import ConfigError
from agent.llm.types import ModelRequest
from agent.parameters import Float
from agent.proposers.best_of_n import BestOfN
from agent.space import Space
from agent.testing.proposers import Search, bowl
from tests.proposers.evolve_worlds import edited, fenced, search


def test_all_samples_are_asked_for_in_the_same_words() -> None:
    requests: list[ModelRequest] = []

    def model(request: ModelRequest) -> str:
        requests.append(request)
        return fenced(len(requests))

    state = search(BestOfN(), model, budget=15).run()
    trials = list(state.history.trials)
    assert len(trials) > 10
    assert {trial.parents for trial in trials if trial.number} == {(trials[0].id,)}
    assert {trial.source for trial in trials if trial.number} == {"best_of_n:llm:rewrite"}
    words = {request.messages[0].text.partition("Evaluations left")[0] for request in requests}
    assert len(words) == 1
    assert "x + 0" in words.pop()
    assert not any("tune(" in request.system for request in requests), "nobody tunes here"


def test_edits_are_on_request_and_a_reply_of_no_use_has_one_more_try() -> None:
    replies = iter(["nothing", edited(0, 8), "nothing", "nothing"])
    run = search(BestOfN(), lambda request: next(replies), options={"operator": "edit"})
    context = run.context()
    (made,) = asyncio.run(BestOfN().propose(context, 1))
    assert made.values["program"].endswith("x + 8\n")
    assert len(context.rejections) == 1
    again = run.context(2)
    assert asyncio.run(BestOfN().propose(again, 1)) == []
    assert len(again.rejections) == 2


def test_it_is_refused_where_there_is_no_program_or_no_such_operator() -> None:
    space = Space({"x": Float(0, 1)})
    with pytest.raises(ConfigError, match="the space has none"):
        BestOfN().forecast(Search(BestOfN(), space, bowl(space)).state.problem, 1, {})
    with pytest.raises(ConfigError, match="rewrite or edit"):
        BestOfN().forecast(search(BestOfN(), str).state.problem, 1, {"operator": "cross"})


def test_the_forecast_counts_the_repair_turn() -> None:
    problem = search(BestOfN(), str).state.problem
    calls, tokens_in, tokens_out = BestOfN().forecast(problem, 10, {})
    without = BestOfN().forecast(problem, 10, {"repair": False})
    assert (calls, without[0]) == (20, 10)
    assert tokens_in > 2 * without[1]
    assert tokens_out == 2 * without[2]
