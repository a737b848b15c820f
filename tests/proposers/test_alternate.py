"""Two proposers in turn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from agent.errors import BudgetExceeded, ConfigError
from agent.events import Event, ProposalEnded
from agent.llm.types import Completion, ModelRequest
from agent.proposers.alternate import Alternate
from agent.proposers.base import TABLE, load
from agent.proposers.coordinate import Coordinate
from agent.testing_proposers import SPACES, Search, adviser, bowl

SPACE = SPACES["wide"]


def arms(events: Iterable[Event]) -> list[str]:
    """Who made each candidate, proposal by proposal."""
    ended = [event for event in events if isinstance(event, ProposalEnded)]
    return [item["source"].partition(":")[0] for event in ended for item in event.proposals]


def reply(request: ModelRequest) -> str:
    count = (request.schema or {})["properties"]["solution"]["minItems"]
    return json.dumps({"solution": [int(request.key("m")[i], 16) for i in range(count)]})


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_both_arms_make_about_as_many_candidates(workers: int) -> None:
    search = Search(Alternate(), SPACE, bowl(SPACE), ask=adviser(reply), budget=81, workers=workers)
    search.run()
    made = arms(search.events)
    assert made[:4] == ["evollm"] * 4 and made[4] == "coordinate"
    assert 0.4 < made.count("evollm") / len(made) < 0.6


def test_each_arm_remembers_what_it_would_alone() -> None:
    search = Search(Alternate(), SPACE, bowl(SPACE), ask=adviser(reply), budget=60)
    memory = search.run().memory["arms"]
    assert set(memory) == {"evollm", "coordinate"}
    assert set(memory["coordinate"]) == {"sweep", "step", "champion", "moved"} and memory["evollm"]["generation"] > 3


def test_when_a_limit_ends_the_models_calls_the_classical_arm_goes_on_and_it_is_told() -> None:
    async def ask(request: ModelRequest) -> Completion:
        raise BudgetExceeded("calls", 0, 0)

    search = Search(Alternate(), SPACE, bowl(SPACE), ask=ask, budget=62)
    state = search.run()
    assert len(state.history) == 61
    assert set(arms(search.events)[4:]) == {"coordinate"}
    told = [r for e in search.events if isinstance(e, ProposalEnded) for r in e.rejections]
    assert told and all(r["source"] == "evollm" and "no model call was made" in r["reason"] for r in told)


def test_it_gets_where_the_classical_arm_gets_with_a_model_that_knows_nothing() -> None:
    def best(proposer: Any, budget: int) -> float:
        state = Search(proposer, SPACE, bowl(SPACE), ask=adviser(reply), budget=budget).run()
        return state.history.value(state.history.ranked(1)[0])

    assert best(Alternate(), 400) <= best(Coordinate(), 200) * 1.5 + 1e-3


def test_proposers_are_found_by_name_or_by_path() -> None:
    assert all(load(name).name == name for name in TABLE)
    assert isinstance(load("agent.proposers.coordinate:Coordinate"), Coordinate)
    for wrong, words in [("corodinate", "choose one of coordinate"), ("nowhere:Thing", ""), ("agent.space:Thing", "")]:
        with pytest.raises(ConfigError, match="proposer") as caught:
            load(wrong)
        assert words in caught.value.hint
