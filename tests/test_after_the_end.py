"""A model that answers after the run is over: nothing more is asked of it, and the verdict stays what it was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent import wall
from agent.events import CallStarted, RunEnded
from agent.ledger import Budget
from agent.llm.types import Completion, Message, ModelRequest, Usage
from agent.loop import LEAVE
from agent.proposers.random import Random
from agent.replay import replay
from agent.results.result import load_result
from tests.support import entries, noisy, problem, session


class Late:
    """A model that answers only when the run is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.run: Any = None

    async def complete(self, request: Any, *, seed: int | None) -> Completion:
        while self.run.state.ended is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(self.seconds)
        return Completion(text="nothing of use", usage=Usage(5, 0, 0, 0, 0), model="scripted:late")

    async def close(self) -> None:
        return None


class Both:
    """Proposes at random, and from its third decision on asks a model first, twice."""

    name, needs_model, uses_model = "both", True, True

    async def propose(self, context: Any, n: int) -> Any:
        if context.decision > 2:
            for _ in range(2):
                await context.ask(ModelRequest((Message("user", "Say something."),), max_output_tokens=16))
        return await Random().propose(context, n)


@pytest.mark.parametrize("seconds", [0.05, LEAVE + 60], ids=["late", "never"])
def test_the_verdict_is_there_although_a_reply_comes_in_behind_it(tmp_path: Path, seconds: float) -> None:
    model = Late(seconds)
    chosen = session(
        problem=problem(noisy, deterministic=False),
        proposer="tests.test_after_the_end:Both",
        exam_pairs=6,
        budget=Budget(evaluations=400, seconds=1.0),  # the time is up while the model is asked
        model=model,
    )
    result = asyncio.run(chosen.run(tmp_path / "run", lambda run: setattr(model, "run", run)))
    events = [entry.event for entry in entries(result.folder)]
    end = next(place for place, event in enumerate(events) if isinstance(event, RunEnded))
    assert not any(isinstance(event, CallStarted) for event in events[end:]), "no call begins after the end"
    assert wall.ended(result.folder)
    read = load_result(result.folder)
    assert read.sentence == result.sentence and read.status == result.status != "open"
    assert json.loads((result.folder / "summary.json").read_text())["sentence"] == read.sentence
    lost = read.spent["possibly_spent"]["calls"]
    assert (read.spent["calls"], lost) == ((1, 0) if seconds < LEAVE else (0, 1)), "paid, or shown as possibly spent"
    assert asyncio.run(replay(result.folder))[1] is None
