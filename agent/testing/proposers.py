"""Conformance tests for the authors of proposers, and a run in memory to drive one.

    from agent.testing.proposers import ProposerContract

    class TestMine(ProposerContract):
        def make(self):
            return MyProposer()

They need pytest to collect them, and nothing else.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
)
from agent.history import History
from agent.llm.structured import Shape
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Ask, Context, Proposal, Proposer
from agent.proposers.table import talks
from agent.space import Candidate, Space
from agent.testing.search import Measure as Measure
from agent.testing.search import Remembering
from agent.testing.search import Search as Search
from agent.texts import Text


def instance(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A random value that fits a JSON schema of the plain kind that proposers ask with."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(list(schema["enum"]))
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], rng)
    match schema.get("type"):
        case "object":
            return {name: instance(item, rng) for name, item in schema.get("properties", {}).items()}
        case "array":
            fewest = schema.get("minItems", 1)
            count = rng.randint(fewest, schema.get("maxItems", fewest + 2))
            return [instance(schema["items"], rng) for _ in range(count)]
        case "integer":
            return rng.randint(schema.get("minimum", 0), schema.get("maximum", 9))
        case "number":
            return rng.uniform(schema.get("minimum", 0.0), schema.get("maximum", 1.0))
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    return "words"


def adviser(reply: Callable[[ModelRequest], str]) -> Ask:
    """A model for proposers without a gateway: what `reply` says, checked against the request's schema."""

    async def ask(request: ModelRequest) -> Completion:
        completion = Completion(text=reply(request), model="scripted:test")
        if request.schema is None:
            return completion
        return replace(completion, parsed=Shape(request.schema).read(completion))

    return ask


SPACES: dict[str, Space] = {
    "float": Space({"x": Float(-1, 1)}),
    "log": Space({"x": Float(1e-6, 1.0, log=True)}),
    "int": Space({"n": Int(-50, 50)}),
    "categorical": Space({"kind": Categorical(("a", "b", 1, True, 0.5, "c", "d"))}),
    "mixed": Space(
        {
            "rate": Float(1e-5, 1.0, log=True, default=1e-3),
            "prompt": Text("Answer {question}", placeholders=("question",)),
            "size": Int(1, 4096, log=True),
            "kind": Categorical(("a", "b", "c")),
            "depth": Int(1, 9),
            "share": Float(0, 1),
        }
    ),
    "wide": Space({f"x{number}": Float(-5, 5) for number in range(20)}),
    "two values": Space({"kind": Categorical(("a", "b"))}),
    "eight values": Space({f"x{number}": Categorical((False, True)) for number in range(3)}),
    "twelve values": Space({"n": Int(1, 3), "kind": Categorical(("a", "b")), "flag": Categorical((False, True))}),
}
"""What a proposer for numbers and choices must be able to search."""

FINITE = {"categorical": 7, "two values": 2, "eight values": 8, "twelve values": 12}


def bowl(space: Space) -> Measure:
    """Separable, with its best value near 0.3 of every scale."""

    return lambda candidate: bowl_at(space, candidate)


def bowl_at(space: Space, candidate: Candidate) -> dict[str, float]:
    """`bowl` at a candidate."""
    return {"value": sum((place - 0.3) ** 2 for place in space.encode(candidate)), "size": 0.0}


def rough(space: Space) -> Measure:
    """The same where a quarter of the candidates fail and a quarter are not feasible, but never the initial one."""

    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        kind = 3 if candidate == space.initial() else int(candidate.id, 16) % 4
        return None if kind == 0 else {**bowl_at(space, candidate), "size": 2.0 if kind == 1 else 0.0}

    return measure


class _Checked:
    """A proposer that is held to the contract at each call."""

    needs_model = True

    def __init__(self, contract: ProposerContract) -> None:
        self._make = contract.make
        self.name = contract.make().name
        self.forecast = contract.make().forecast

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        seen = _picture(context.history)
        context.ask, failed = _counted(context.ask)
        twin = replace(context, memory=copy.deepcopy(context.memory), rejections=[], rng=copy.deepcopy(context.rng))
        proposals = await self._make().propose(context, n)
        assert len(context.rejections) >= len(failed), "nobody is told that the model gave nothing usable"
        done = _done(context)
        again = await self._make().propose(twin, n)  # a new one, since a proposer keeps nothing to itself
        assert _done(twin) == done, "a decision that is made again measures or runs something else"
        assert _picture(context.history) == seen, "the history was changed"
        plain = [proposal.to_json() for proposal in proposals]
        assert plain == [proposal.to_json() for proposal in again], "equal contexts gave different proposals"
        assert context.memory == twin.memory, "equal contexts left different memories"
        assert (context.rejections, context.exhausted) == (twin.rejections, twin.exhausted)
        assert json.loads(json.dumps(context.memory, allow_nan=False)) == context.memory, "memory is not plain JSON"
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain, "a proposal is not plain JSON"
        for rejection in context.rejections:
            assert rejection["reason"] and rejection["source"] and json.dumps(rejection)
        for proposal in proposals:
            context.problem.space.candidate(proposal.values)
            assert proposal.source.strip(), "a proposal does not say how it was made"
            assert all(parent in context.history for parent in proposal.parents)
        return proposals


def _counted(given: Ask | None) -> tuple[Ask | None, list[Exception]]:
    """The same model, and what it raised."""
    failed: list[Exception] = []

    async def ask(request: ModelRequest) -> Completion:
        assert given is not None
        try:
            return await given(request)
        except (OutputInvalid, BudgetExceeded) as error:
            failed.append(error)
            raise

    return (ask if given is not None else None), failed


def _done(context: Context) -> int:
    """Looks and tools of a decision so far."""
    doing = getattr(context.effects.step, "__self__", None) if context.effects is not None else None
    return doing.done if isinstance(doing, Remembering) else 0


def _picture(history: History) -> str:
    return repr((history.trials, history.champion, list(history.rejections), history.rejected))


class ProposerContract:
    """What every proposer of numbers and choices must do.

    A proposer for other spaces gives its own `spaces`. The model is a function of the request, `reply`;
    by default it says something that fits the request's schema and makes no sense.
    """

    spaces: Mapping[str, Space] = SPACES
    finite: Mapping[str, int] = FINITE
    """Of the spaces, those that can be used up, with the number of their candidates."""
    options: Mapping[str, Any] = {}
    steps = 40
    """Evaluations of each search."""

    def make(self) -> Proposer:
        """A new proposer; two of them are alike."""
        raise NotImplementedError

    def reply(self, request: ModelRequest) -> str:
        """What the model says; equal requests get equal replies."""
        rng = random.Random(request.key("scripted:test"))
        return "words" if request.schema is None else json.dumps(instance(request.schema, rng))

    def search(self, name: str, measure: Callable[[Space], Measure] = rough, **given: Any) -> Search:
        """A search that has come to its end, with each of its proposals checked."""
        space = self.spaces[name]
        given = {"ask": adviser(self.reply), "budget": self.steps, "options": self.options, **given}
        search = Search(_Checked(self), space, measure(space), **given)
        search.run()
        return search

    def test_proposals_fit_their_space_and_can_be_repeated(self) -> None:
        for name in self.spaces:
            search = self.search(name)
            admitted = [event for event in search.events if isinstance(event, CandidateAdmitted)]
            assert admitted, f"{name}: nothing was proposed"
            wrong = [e.reason for e in search.events if isinstance(e, CandidateRejected) and "not allowed" in e.reason]
            assert not wrong, f"{name}: {wrong[0]}"

    def test_several_can_be_asked_for_at_once(self) -> None:
        for name in self.spaces:
            assert self.search(name, bowl, workers=5).state.ended is not None

    def test_it_goes_on_when_everything_fails(self) -> None:
        def hopeless(space: Space) -> Measure:
            return lambda candidate: bowl_at(space, candidate) if candidate == space.initial() else None

        for name in self.spaces:
            search = self.search(name, hopeless)
            assert search.state.history.champion == search.state.history.initial
            if name not in self.finite:
                assert len(search.state.history) > self.steps / 2, f"{name}: it gave up"

    def test_it_begins_with_an_empty_history(self) -> None:
        for name, space in self.spaces.items():
            search = Search(_Checked(self), space, bowl(space), ask=adviser(self.reply), options=self.options)
            assert asyncio.run(search.proposer.propose(search.context(), 2)), name

    def test_a_space_that_is_used_up_ends_the_search(self) -> None:
        for name, size in self.finite.items():
            state = self.search(name, bowl, budget=4 * size + 20).state
            assert len(state.history) <= size
            assert state.stop is not None and state.stop.reason == "exhausted", f"{name}: {state.stop}"

    def broken(self, error: Exception, share: int) -> int:
        """Search with a model that raises at one of `share` requests; gives how often it did."""
        raised = 0
        if not talks(self.make()):
            return raised

        async def ask(request: ModelRequest) -> Completion:
            nonlocal raised
            if int(request.key("scripted:test"), 16) % share:
                return await adviser(self.reply)(request)
            raised += 1
            raise error

        for name in self.spaces:
            self.search(name, bowl, ask=ask)
        return raised

    def test_an_unusable_reply_is_never_replaced_in_silence(self) -> None:
        for share in (1, 2):
            raised = self.broken(OutputInvalid("the reply holds no JSON object", raw="I would rather not."), share)
            assert raised or not self.make().needs_model, "no call was made, so nothing was tested"

    def test_a_limit_on_the_model_is_told_or_raised(self) -> None:
        for share in (1, 2):
            raised = self.broken(BudgetExceeded("calls", 3, 3), share)
            assert raised or not self.make().needs_model, "no call was made, so nothing was tested"

    def test_it_works_without_a_model_or_says_that_it_needs_one(self) -> None:
        search = self.search(next(iter(self.spaces)), bowl, ask=None)
        assert len(search.state.history) > 1 or self.make().needs_model

    def test_texts_alone_are_refused_or_searched(self) -> None:
        space = Space({"prompt": Text("Be kind.")})
        search = Search(_Checked(self), space, bowl(space), ask=adviser(self.reply), options=self.options)
        try:
            assert search.run().ended is not None
        except ConfigError as error:
            assert error.hint

    def test_its_forecast_is_whole_numbers(self) -> None:
        for name, space in self.spaces.items():
            problem = Search(self.make(), space, bowl(space)).state.problem
            forecast = self.make().forecast(problem, 10, self.options)
            assert len(forecast) == 3 and all(type(part) is int and part >= 0 for part in forecast), name
            assert talks(self.make()) or forecast == (0, 0, 0), name
