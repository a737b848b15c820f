"""Conformance tests for the authors of plug-ins: subclass a contract and say how to make your own.

    from agent.testing import ExecutorContract

    class TestMine(ExecutorContract):
        def make(self, evaluator, slots):
            return MyExecutor(evaluator.spec, slots=slots)

They need pytest to collect them, and nothing else.
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.decide import decide
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.evaluation import Evaluator, Executor, Limits, Output, Request
from agent.evaluators.build import build
from agent.evaluators.function import FunctionEvaluator
from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ProposalEnded,
    ProposalStarted,
    RunStarted,
)
from agent.history import History
from agent.ledger import KINDS
from agent.llm.structured import Shape
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.problem import Constraint, Direction, Objective, Problem
from agent.proposers.base import Ask, Context, Proposal, Proposer
from agent.settings import Settings
from agent.space import Candidate, Space
from agent.state import State
from agent.texts import Text

NO_LIMITS = Limits()
PATIENCE = 60.0
"""Seconds after which a test gives up; long, because test machines are busy."""

# ---------------------------------------------------------------- executors


def square(candidate: Mapping[str, Any]) -> tuple[float, str]:
    """A measurement that works."""
    return candidate["x"] ** 2, f"x was {candidate['x']}"


def echo(candidate: Mapping[str, Any], row: Any, *, seed: int, replicate: int, fidelity: float) -> dict[str, float]:
    """What arrived."""
    return {"x": candidate["x"], "row": row["n"], "seed": seed, "replicate": replicate, "fidelity": fidelity}


def misbehave(candidate: Mapping[str, Any], partial: Callable[[Any], None]) -> Any:
    """Whatever the candidate asks for."""
    match candidate["how"]:
        case "raise":
            raise ValueError("no such luck")
        case "exit":
            sys.exit(3)
        case "text":
            return "forty-two"
        case "nan":
            return math.nan
        case "set":
            return {1.0}
        case "hang":
            while True:
                time.sleep(0.05)
        case "partials":
            for step in range(3):
                partial(step)
            return 3
    return os.getpid()


class ExecutorContract:
    """What every executor must do."""

    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        """The executor under test, for this evaluator (it has a spec), with this many slots."""
        raise NotImplementedError

    def run(
        self, function: Callable[..., Any], scenario: Callable[[Executor], Awaitable[None]], slots: int = 1
    ) -> None:
        """Run a scenario against a new executor, and close it."""
        names = ("x",) if function is echo else ("value",)
        evaluator = FunctionEvaluator(f"agent.testing:{function.__name__}", names=names)

        async def whole() -> None:
            executor = self.make(evaluator, slots)
            try:
                await asyncio.wait_for(scenario(executor), PATIENCE)
            finally:
                await executor.close()

        asyncio.run(whole())

    def fails(self, how: str, limits: Limits = NO_LIMITS) -> Output:
        """The output of a candidate that misbehaves, after which the executor must still work."""
        outputs = []

        async def scenario(executor: Executor) -> None:
            outputs.append(await executor.submit(Request(Candidate({"how": how}), limits=limits)))
            assert (await executor.submit(Request(Candidate({"how": "well"})))).failure is None

        self.run(misbehave, scenario)
        (output,) = outputs
        assert output.failure is not None and output.value is None
        assert Output.from_json(json.loads(json.dumps(output.to_json()))) == Output.from_json(output.to_json())
        return output

    def test_a_measurement_arrives_with_feedback_and_time(self) -> None:
        async def scenario(executor: Executor) -> None:
            output = await executor.submit(Request(Candidate({"x": 3})))
            assert output.failure is None
            assert output.value == {"values": {"value": 9.0}, "feedback": "x was 3"}
            assert 0 < output.seconds < PATIENCE

        self.run(square, scenario)

    def test_the_whole_request_arrives(self) -> None:
        async def scenario(executor: Executor) -> None:
            request = Request(Candidate({"x": 1}), example="a", row={"n": 2}, seed=3, replicate=4, fidelity=0.5)
            output = await executor.submit(request)
            assert output.value["values"] == {"x": 1, "row": 2, "seed": 3, "replicate": 4, "fidelity": 0.5}

        self.run(echo, scenario)

    def test_many_at_once_do_not_get_mixed_up(self) -> None:
        async def scenario(executor: Executor) -> None:
            outputs = await asyncio.gather(*(executor.submit(Request(Candidate({"x": x}))) for x in range(50)))
            assert [output.value["values"]["value"] for output in outputs] == [x**2 for x in range(50)]

        self.run(square, scenario, slots=3)

    def test_a_raise_is_an_output(self) -> None:
        failure = self.fails("raise").failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("error", "ValueError: no such luck")

    def test_an_exit_is_an_output(self) -> None:
        failure = self.fails("exit").failure
        assert failure is not None and failure.kind == "exit" and "3" in failure.message

    def test_what_is_not_a_measurement_is_invalid(self) -> None:
        for how in ("text", "nan", "set"):
            failure = self.fails(how).failure
            assert failure is not None and failure.kind == "invalid", how

    def test_a_hang_times_out(self) -> None:
        output = self.fails("hang", Limits(seconds=0.3))
        assert output.failure is not None and output.failure.kind == "timeout"
        assert output.seconds >= 0.3

    def test_partial_results_stream_in_order(self) -> None:
        async def scenario(executor: Executor) -> None:
            seen: list[Any] = []
            output = await executor.submit(Request(Candidate({"how": "partials"})), seen.append)
            assert [item["values"]["value"] for item in seen] == [0, 1, 2]
            assert list(output.partials) == seen
            assert output.value["values"]["value"] == 3

        self.run(misbehave, scenario)

    def test_cancelling_frees_the_slot(self) -> None:
        async def scenario(executor: Executor) -> None:
            task = asyncio.ensure_future(executor.submit(Request(Candidate({"how": "hang"}))))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert (await executor.submit(Request(Candidate({"how": "well"})))).failure is None

        self.run(misbehave, scenario)

    def test_closing_cancels_what_runs(self) -> None:
        async def scenario(executor: Executor) -> None:
            requests = [Request(Candidate({"how": "hang"}), seed=seed) for seed in range(2)]
            tasks = [asyncio.ensure_future(executor.submit(request)) for request in requests]
            await asyncio.sleep(0.3)
            await executor.close()
            await executor.close()
            outputs = [*await asyncio.gather(*tasks), await executor.submit(requests[0])]
            assert [output.failure and output.failure.kind for output in outputs] == ["cancelled"] * 3

        self.run(misbehave, scenario)


# ---------------------------------------------------------------- evaluators


class EvaluatorContract:
    """What every evaluator must do."""

    def make(self) -> Evaluator:
        """A new evaluator; two of them are alike."""
        raise NotImplementedError

    def request(self) -> Request:
        """A request that it can measure."""
        raise NotImplementedError

    def bad_request(self) -> Request | None:
        """A request that fails; None when there is none."""
        return None

    def produce(self, request: Request) -> tuple[Output, list[Any]]:
        """The output of a new evaluator, and the partial results that came before."""
        partials: list[Any] = []
        return asyncio.run(asyncio.wait_for(self.make().produce(request, partials.append), PATIENCE)), partials

    def test_it_measures(self) -> None:
        output, partials = self.produce(self.request())
        assert output.failure is None, output.failure
        assert json.loads(json.dumps([output.value, partials], allow_nan=False)) == [output.value, partials]
        score = self.make().score(output)
        assert score.values
        assert all(isinstance(value, float) and math.isfinite(value) for value in score.values.values())
        assert isinstance(score.feedback, str)

    def test_judging_survives_storage(self) -> None:
        output, _ = self.produce(self.request())
        stored = Output.from_json(json.loads(json.dumps(output.to_json())))
        assert self.make().score(stored) == self.make().score(output)

    def test_what_is_no_output_of_it_is_not_judged(self) -> None:
        try:
            self.make().score(Output(value={"nothing": "of it"}))
        except ValueError:
            return
        raise AssertionError("score() must raise ValueError")

    def test_a_failure_is_an_output(self) -> None:
        request = self.bad_request()
        if request is not None:
            output, _ = self.produce(request)
            assert output.failure is not None and output.failure.message
            assert output.value is None

    def test_it_can_be_rebuilt(self) -> None:
        evaluator = self.make()
        assert isinstance(evaluator.exclusive, bool)
        if evaluator.spec is not None:
            again = build(json.loads(json.dumps(dict(evaluator.spec))))
            assert again.spec == evaluator.spec
            assert again.fingerprint == evaluator.fingerprint
            assert (again.exclusive, again.blocking) == (evaluator.exclusive, evaluator.blocking)

    def test_its_fingerprint_lasts(self) -> None:
        assert self.make().fingerprint == self.make().fingerprint != ""

    def test_a_blocking_one_never_waits(self) -> None:
        evaluator = self.make()
        if evaluator.blocking:
            coroutine = evaluator.produce(self.request(), lambda _: None)
            try:
                coroutine.send(None)
            except StopIteration:
                return
            raise AssertionError("produce() suspended although the evaluator says that it is blocking")


# ---------------------------------------------------------------- proposers


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


Measure = Callable[[Candidate], Mapping[str, float] | None]
"""All numbers of a problem for a candidate; None is a failure."""


class Search:
    """A run in memory: the real decisions, without journal, executor and model gateway.

    Args:
        proposer: Under test.
        space: Of the problem.
        measure: Stands for the evaluator, and is deterministic; gives "value", and "size", which must be at most 1.
        ask: The model, if any.
        budget: Evaluations.
        seed: Of the run.
        options: The proposer's.
        direction: Of "value".
        workers: Candidates that are asked for at once.
    """

    def __init__(
        self,
        proposer: Proposer,
        space: Space,
        measure: Measure,
        *,
        ask: Ask | None = None,
        budget: int = 40,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        direction: Direction = "minimize",
        workers: int = 1,
    ) -> None:
        self.proposer = proposer
        self.measure = measure
        self.ask = ask
        problem = Problem(
            name="search",
            space=space,
            evaluator=FunctionEvaluator(f"agent.testing:{square.__name__}", names=("value", "size")),
            objectives=(Objective("value", direction),),
            constraints=(Constraint("size", max=1.0),),
            deterministic=True,
        )
        started = RunStarted(
            run="search",
            problem=problem.to_json(),
            fingerprints={},
            seed=seed,
            budget={"evaluations": budget},
            settings=Settings(workers=workers, options=options or {}).to_json(),
            initial=problem.initial().values_json,
        )
        self.state = State(started, 0.0)
        self.events: list[Event] = [started]

    def apply(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        self.state.apply(event, 0.0)

    def run(self) -> State:
        """To the end of the run."""
        asyncio.run(asyncio.wait_for(self._run(), PATIENCE))
        return self.state

    async def _run(self) -> None:
        while self.state.ended is None:
            following = decide(self.state)
            assert following, "the run waits for nothing"
            for event in following:
                self.apply(event)
                if isinstance(event, EvaluationStarted):
                    self._evaluate(event)
                elif isinstance(event, ProposalStarted):
                    await self._propose(event)

    def _evaluate(self, started: EvaluationStarted) -> None:
        values = self.measure(self.state.history[started.candidate].candidate)
        output = Output.failed("error", "no value here") if values is None else Output(value={"values": dict(values)})
        score = None if values is None else {"values": dict(values), "feedback": ""}
        self.apply(EvaluationEnded(started.id, started.purpose, output.to_json(), score))

    def context(self, decision: int = 1) -> Context:
        """What the proposer would be given now."""
        state = self.state
        return Context(
            problem=state.problem,
            history=state.history.freeze(),
            rng=random.Random(f"{state.seed} {decision}"),
            ask=self.ask,
            left={kind: state.ledger.left(kind) for kind in KINDS},
            decision=decision,
            memory=copy.deepcopy(state.memory),
            options=state.settings.options,
        )

    async def _propose(self, started: ProposalStarted) -> None:
        context, proposals, error = self.context(started.id), [], ""
        try:
            proposals = [proposal.to_json() for proposal in await self.proposer.propose(context, started.n)]
        except BudgetExceeded as caught:
            error, context.exhausted = caught.message, True
        self.apply(ProposalEnded(started.id, proposals, context.rejections, context.memory, error, context.exhausted))


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
        again = await self._make().propose(twin, n)  # a new one, since a proposer keeps nothing to itself
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
            assert self.make().needs_model or forecast == (0, 0, 0), name
