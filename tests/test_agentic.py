"""The agent: a conversation with tools for each decision, and what ends it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid, ProviderError, StoreError
from agent.integrations import mcp_tools
from agent.llm.types import Completion, ToolCall, Usage
from agent.proposers.agentic import FALLBACK, Agentic
from agent.proposers.base import Proposal
from agent.proposers.effects import Effects
from agent.proposers.table import load
from agent.testing.proposers import ProposerContract
from agent.tools.base import TABLE, Desk, Tool
from agent.tracing.spans import Trace
from tests.agentic_support import Alone, Talker, alone, problem

GOOD = {"changes": {"x": 0.25}, "rationale": "lower is better", "claim": 0.1}


def submit(**given: Any) -> tuple[str, Any]:
    return "submit", {**GOOD, **given}


async def propose(context: Alone, model: Any, n: int = 1, **options: Any) -> list[Proposal]:
    context.ask, context.options = model, options
    return await Agentic().propose(context, n)


async def test_a_model_looks_around_and_submits() -> None:
    context = alone()
    model = Talker([("top", {"n": 2}), ("candidate", {})], [submit()])
    (made,) = await propose(context, model)
    assert dict(made.values) == {"x": 0.25, "kind": "a", "prompt": "Answer {question}"}
    assert (made.source, made.rationale, made.claim) == ("agentic:llm", "lower is better", 0.1)
    assert made.parents == (context.history.champion,)
    first, second = model.requests
    assert {tool.name for tool in first.tools} >= {"submit", "top", "evaluate", "hypothesis", "python"}
    assert "Parameters:" in first.system and "x: number from 0 to 1" in first.system
    assert "12 turns, 40 tool calls" in first.messages[0].text
    assert [item.role for item in second.messages] == ["user", "assistant", "tool", "tool"]
    assert [item.tool_call_id for item in second.messages[2:]] == ["c1-0", "c1-1"]
    assert "left: 11 turns, 38 tool calls" in second.messages[-1].text
    assert [name for name, _, _ in context.record.values()] == ["top", "candidate", "submit"]
    assert not context.rejections


async def test_what_cannot_be_taken_goes_back_with_the_reason_inside_the_conversation() -> None:
    context = alone()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"changes": {"x": 7}}, "x: "),
        ({"changes": {"y": 1}}, "there is no such parameter"),
        ({"changes": {"prompt": "Say something"}}, "question"),
        ({"changes": {}}, "changes nothing"),
        ({"changes": {"x": 0.5}}, "its value already"),
        ({"changes": [1]}, "an object is needed"),
        ({"base": "#9"}, "there is no candidate"),
        ({"hypothesis": 4}, "there is no hypothesis 4"),
        ({"changes": None}, "changes: an object is needed"),
        ({"claim": "low"}, "number is needed"),
        ({"path": "/etc"}, "not asked for"),
    ]
    model = Talker([submit(**given) for given, _ in wrong], [submit()])
    assert len(await propose(context, model)) == 1
    assert len(model.answers) == len(wrong)
    for (text, error), (_, said) in zip(model.answers, wrong, strict=True):
        assert error
        assert said in text


async def test_a_proposal_without_a_reason_is_taken() -> None:
    (made,) = await propose(alone(), Talker([("submit", {"changes": {"x": 0.25}})]))
    assert made.values["x"] == 0.25 and made.rationale == ""


async def test_known_and_doubled_proposals_are_refused_and_several_are_taken() -> None:
    context = alone()
    same = {"x": 0.5, "kind": "b"}
    model = Talker(
        [submit(changes=same), submit(changes={**same, "x": 0.50})],
        [submit(changes={"kind": "b", "x": 0.1}), submit(changes={"x": 0.9})],
    )
    made = await propose(context, model, n=3)
    assert [proposal.values["x"] for proposal in made] == [0.1, 0.9]
    assert "its value already" in model.answers[0][0]


async def test_fewer_than_asked_for_is_told() -> None:
    context = alone()
    assert len(await propose(context, Talker([submit()], "That is all."), n=3)) == 1
    assert "1 of 3 submitted" in context.rejections[0]["reason"]


async def test_the_same_call_again_gets_its_recorded_answer_and_a_third_time_ends_the_conversation() -> None:
    context = alone()
    model = Talker(*[[("top", {"n": 2})]] * 5)
    await propose(context, model, evaluations=0)
    assert len(model.requests) == 4
    assert len(context.record) == 4  # each is on record, but only the first one ran the tool
    (first, _), (again, _), (third, _) = model.answers
    assert "made this call before" in again
    assert first.split("\n")[0] in again
    assert "made 3 times" in third and "last turn" in third
    assert [tool.name for tool in model.requests[-1].tools] == ["submit"]
    assert "made 3 times" in context.rejections[0]["reason"]


@pytest.mark.parametrize(
    ("options", "requests"), [({"turns": 3}, 3), ({"calls": 2}, 3), ({"tokens": 1000, "reply": 700}, 2)]
)
async def test_when_the_allowance_is_spent_one_last_turn_offers_submit_alone(options: Any, requests: int) -> None:
    context = alone()
    turns = [[("top", {"n": number + 1})] for number in range(requests - 1)]
    model = Talker(*turns, [submit()])
    assert len(await propose(context, model, **options)) == 1
    assert len(model.requests) == requests
    assert "last turn: call submit" in model.requests[-1].messages[-1].text
    assert [tool.name for tool in model.requests[-1].tools] == ["submit"]


async def test_tokens_of_all_turns_count_together() -> None:
    def turn(number: int) -> Any:
        calls = (ToolCall(f"c{number}", "top", {"n": number}),)
        return lambda _: Completion("", tool_calls=calls, stop="tool", usage=Usage(input=900, output=100))

    context = alone()
    model = Talker(*map(turn, range(1, 40)))
    await propose(context, model, turns=100, tokens=10_000, reply=16)
    assert 6 <= len(model.requests) <= 10
    assert "tokens" in context.rejections[0]["reason"]


async def test_randomness_of_tools_is_their_own() -> None:
    async def run(record: Any) -> tuple[list[Any], Alone]:
        context = alone(problem(Path(__file__).parent), record=record)
        model = Talker([("roll", {"n": 1}), ("roll", {"n": 2})], [("roll", {"n": 3})])
        return await propose(context, model, tools=["agentic_user_tools:roll"], turns=2), context

    made, context = await run({})
    assert len({text.split("\n")[0] for _, _, (text, _) in list(context.record.values())[:2]}) == 2
    again, later = await run(dict(context.record))
    assert made == again and made[0].source == FALLBACK
    assert not later.ran  # no tool rolled this time, and the draw is the same


async def test_a_last_turn_without_a_proposal_falls_back_to_a_draw_on_record() -> None:
    context = alone()
    (made,) = await propose(context, Talker([("top", {})], [("recent", {})]), turns=2)
    assert made.source == FALLBACK
    assert made.values["prompt"] == "Answer {question}"
    assert "0 of 1 submitted: the allowance is spent" in context.rejections[0]["reason"]


async def test_hundreds_of_calls_in_one_reply_are_cut_and_all_of_them_answered() -> None:
    context = alone()
    many = tuple(ToolCall("same-id", "top", {"n": number + 1}) for number in range(300))
    reply = Completion("", tool_calls=many, stop="tool", usage=Usage(10, output=1), carry=({"type": "reasoning"},))
    model = Talker(lambda _: reply, [submit()])
    await propose(context, model)
    said, *answers = model.requests[1].messages[1:]
    assert len(said.tool_calls) == len(answers) == 16
    assert len({call.id for call in said.tool_calls}) == 16  # told apart, although the server did not
    assert [call.id for call in said.tool_calls] == [answer.tool_call_id for answer in answers]
    assert said.carry == ()
    assert "only the first 16" in answers[-1].text


async def test_unknown_tools_broken_arguments_and_cut_replies_are_answered_in_words() -> None:
    context = alone()
    broken = ToolCall("a", "top", None, '{"n": ')
    model = Talker(
        [("delete_everything", {"path": "/"})],
        lambda _: Completion("", tool_calls=(broken,), stop="tool", usage=Usage(1, output=1)),
        lambda _: Completion("", tool_calls=(ToolCall("b", "submit", None, '{"ch'),), stop="length"),
        lambda _: Completion("thinking about it", stop="length", usage=Usage(1, output=1)),
        [submit()],
    )
    assert len(await propose(context, model)) == 1
    (unknown, _), (arguments, _), (cut, _) = model.answers
    assert "there is no tool 'delete_everything'" in unknown and "submit" in unknown
    assert "not a JSON object" in arguments
    assert "cut off" in cut
    assert "cut off" in model.requests[-1].messages[-1].text
    assert all(error for _, error in model.answers)


async def test_tools_of_one_reply_run_side_by_side() -> None:
    context = alone(problem(Path(__file__).parent))
    model = Talker([("meet", {"who": "a"}), ("meet", {"who": "b"})], [submit()])
    async with asyncio.timeout(60):
        await propose(context, model, tools=["agentic_user_tools:meet"])
    assert [text.split("\n")[0] for text, _ in model.answers] == ["a met b", "b met a"]


async def test_a_users_tool_is_offered_and_one_that_does_not_exist_stops_before_anything_is_spent() -> None:
    context = alone(problem(Path(__file__).parent))
    model = Talker([("lookup", {"gene": "TP53"})], [submit()])
    await propose(context, model, tools=["agentic_user_tools:lookup"], off=["*"])
    assert [tool.name for tool in model.requests[0].tools] == ["lookup", "submit"]
    assert model.answers[0][0].startswith("TP53 is well known")
    with pytest.raises(ConfigError, match="no 'nothing'"):
        Agentic().forecast(context.problem, 10, {"tools": ["agentic_user_tools:nothing"]})
    with pytest.raises(ConfigError, match="two tools with the name lookup"):
        Agentic().forecast(context.problem, 10, {"tools": ["agentic_user_tools:lookup", "agentic_more_tools:lookup"]})


@pytest.mark.parametrize(
    ("left", "rows", "told"), [(50.0, 0, 5), (3.0, 0, 1), (1.0, 0, 0), (25.0, 20, 3), (20.0, 20, 0)]
)
async def test_what_a_proposal_needs_to_be_measured_is_never_looked_away(left: float, rows: int, told: int) -> None:
    context = alone(problem(rows=[f"r{number}" for number in range(rows)]), share=left, each=max(1.0, rows))
    model = Talker([submit()])
    await propose(context, model)
    shown = re.search(r"(\d+) measurement", model.requests[0].messages[0].text)
    assert int(shown[1] if shown else 0) == told


async def test_hypotheses_are_kept_and_shown_with_what_came_of_them() -> None:
    context = alone()
    model = Talker(
        [("hypothesis", {"text": "a lower x\nhelps"}), ("hypothesis", {"text": "kind b is worse"})],
        [submit(hypothesis=1)],
    )
    (made,) = await propose(context, model)
    assert [text.split("\n")[0] for text, _ in model.answers] == [
        "recorded as hypothesis 1",
        "recorded as hypothesis 2",
    ]
    memory = json.loads(json.dumps(context.memory))
    candidate = context.problem.space.candidate(made.values)
    assert memory["hypotheses"][0]["candidate"] == candidate.id

    later = alone(memory=memory, decision=2)
    measured(later, candidate, 0.04, claim=0.1)
    model = Talker(
        [("outcome", {"hypothesis": 1, "verdict": "supported", "lesson": "go lower"})],
        [("outcome", {"hypothesis": 9, "verdict": "refuted"})],
        [submit(changes={"x": 0.1})],
    )
    await propose(later, model)
    shown = model.requests[0].messages[0].text
    assert "1. a lower x helps — tested with #1: measured: loss=0.04, expected 0.1" in shown
    assert "2. kind b is worse — not tested" in shown
    assert "there is no hypothesis 9" in model.answers[1][0]
    assert later.memory["hypotheses"][0]["verdict"] == "supported"

    last = alone(memory=later.memory)
    model = Talker([submit()])
    await propose(last, model)
    assert "was to test it was refused — supported: go lower" in model.requests[0].messages[0].text


async def test_a_conversation_that_is_held_again_runs_no_tool_twice_and_ends_the_same() -> None:
    def model() -> Talker:
        return Talker([("hypothesis", {"text": "lower"}), ("top", {})], [submit(hypothesis=1), ("recent", {})])

    context, first = alone(), model()
    made = await propose(context, first)
    again, second = alone(record=dict(context.record)), model()
    assert [item.to_json() for item in await propose(again, second)] == [item.to_json() for item in made]
    assert again.ran == []
    assert again.memory == context.memory
    assert [item.key("m") for item in second.requests] == [item.key("m") for item in first.requests]


@pytest.mark.parametrize(
    "refusal",
    [
        ConfigError("local:small takes no tools, and this proposer needs them"),
        ProviderError("local:small takes no tools, and this proposer needs them"),  # as a replay raises it
        ProviderError('m: error (400): "auto" tool choice requires a flag', status=400),
        None,
    ],
)
async def test_a_model_without_tools_is_asked_once_for_a_structured_reply(refusal: Exception | None) -> None:
    plain = json.dumps({"proposals": [{"rationale": "why not", "changes": {"x": 0.2, "kind": "a"}, "claim": 0.3}]})
    context = alone()
    model = Talker(*([refusal] if refusal else ["I think x is too large.", "It really is."]), plain)
    (made,) = await propose(context, model)
    assert (made.values["x"], made.claim, made.source) == (0.2, 0.3, "agentic:llm")
    request = model.requests[-1]
    assert request.tools == () and request.schema is not None
    assert "call submit" not in request.system + request.messages[0].text
    assert len(context.rejections) == 1 and "tool" in context.rejections[0]["reason"]

    later = alone(memory=context.memory, decision=2)  # known from then on, and not said again
    model = Talker(plain)
    await propose(later, model)
    assert len(model.requests) == 1 and not later.rejections
    much_later = alone(memory=context.memory, decision=40)
    assert len(await propose(much_later, Talker([submit()]))) == 1
    assert "untooled" not in much_later.memory


async def test_tools_of_servers_go_first_where_a_provider_refuses_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk, /) -> str:
        return "done"

    @asynccontextmanager
    async def opened(given: Any, context: Any) -> AsyncIterator[list[Tool]]:
        yield [Tool(name, "", {"type": "object", "properties": {}}, work) for name in ("far_do", "far_do", "top")]

    monkeypatch.setattr(mcp_tools, "opened", opened)
    servers = [{"name": "far", "command": "x"}]
    refusal = ProviderError("m: error (400): Invalid schema for a function", status=400)
    context, model = alone(), Talker(refusal, [submit()])
    (made,) = await propose(context, model, mcp=servers)
    names = [[tool.name for tool in request.tools] for request in model.requests]
    assert made.values["x"] == 0.25 and names[0] == [*names[1][:-1], "far_do", "submit"] and "top" in names[1]
    assert "without those of servers" in context.rejections[-1]["reason"] and "untooled" not in context.memory

    plain = json.dumps({"proposals": [{"rationale": "why not", "changes": {"x": 0.2}}]})
    context, model = alone(), Talker(refusal, refusal, plain)
    assert (await propose(context, model, mcp=servers))[0].values["x"] == 0.2
    assert [len(request.tools) > 0 for request in model.requests] == [True, True, False]
    limit = ProviderError("m: error (429): slow down with your tools", status=429)
    with pytest.raises(ProviderError, match="slow down"):
        await propose(alone(), Talker(limit), mcp=servers)


@pytest.mark.parametrize("traces", [True, False])
async def test_tools_for_traces_are_offered_where_there_are_traces(traces: bool) -> None:
    async def trace(candidate: str, example: str | None) -> tuple[Trace, str | None] | None:
        return (Trace((), {}), "r1") if traces else None

    context, model = alone(problem(rows=["r1"]), left={"evaluations": 20.0}), Talker([submit()])
    context.effects = Effects(**{**{item.name: unused for item in fields(Effects)}, "trace": trace})
    assert len(await propose(context, model)) == 1
    assert ({"trace", "search_trace"} <= {tool.name for tool in model.requests[0].tools}) == traces
    assert not context.reads, "asking whether there is one reads no row"


async def unused(*_: Any) -> Any:
    pytest.fail("nobody asked for it")


async def test_an_unusable_structured_reply_is_told_asked_again_and_then_drawn() -> None:
    bad = json.dumps({"proposals": [{"rationale": "", "changes": {"x": 3}}]})
    context = alone(memory={"untooled": 1}, decision=2)
    model = Talker(bad, OutputInvalid("no JSON", raw="?"))
    (made,) = await propose(context, model)
    assert made.source == FALLBACK
    assert "x: " in model.requests[1].messages[0].text
    assert len(context.rejections) == 2


async def test_a_refusal_ends_the_conversation() -> None:
    context = alone()
    model = Talker(lambda _: Completion("I will not.", stop="refusal"))
    assert (await propose(context, model))[0].source == FALLBACK
    assert "refused: I will not." in context.rejections[0]["reason"]


@pytest.mark.parametrize("error", [BudgetExceeded("calls", 3, 3), ProviderError("overloaded", retryable=True)])
async def test_what_was_submitted_is_kept_when_a_later_call_fails(error: Exception) -> None:
    context = alone()
    assert len(await propose(context, Talker([submit()], error), n=2)) == 1
    assert "1 of 2 submitted" in context.rejections[0]["reason"]
    with pytest.raises(type(error)):
        await propose(alone(), Talker([("top", {})], error))


async def test_what_must_stop_the_run_stops_it() -> None:
    with pytest.raises(ProviderError):
        await propose(alone(), Talker([submit()], ProviderError("no credit", fatal=True)), n=2)
    context = alone(problem(Path(__file__).parent))
    with pytest.raises(StoreError):
        await propose(context, Talker([("full_disk", {}), ("meet", {"who": "a"})]), tools=[
            "agentic_user_tools:full_disk", "agentic_user_tools:meet"
        ])  # fmt: skip


async def test_hostile_text_of_a_tool_cannot_leave_its_answer() -> None:
    context = alone(problem(Path(__file__).parent))
    model = Talker([("flood", {})], [submit()])
    await propose(context, model, tools=["agentic_user_tools:flood"])
    text = model.requests[1].messages[-1].text
    assert len(text) < 6200
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"turns": 0}, "turns"),
        ({"evaluations": 3}, "a share from 0 to 1"),
        ({"tools": "probe:probe"}, "a list of texts"),
        ({"tools": [print]}, "a list of texts"),
        ({"files": "src"}, r'a list of texts, such as "src/\*\*/\*\.py"'),
        ({"files": ["../**"]}, "a pattern of files in the problem's folder"),
        ({"files": ["/etc/*"]}, "a pattern of files in the problem's folder"),
        ({"second": "nosuch"}, "one of propose, task, judge, critic"),
        ({"tools": ["no_such_module:x"]}, "no module 'no_such_module'"),
        ({"off": ["pythn"]}, "off"),
        ({"temperature": -1}, "temperature"),
        ({"mcp": [{"name": "x"}]}, "a command or a url"),
        ({"tool": []}, "unknown option"),
    ],
)
def test_wrong_options_are_found_before_a_run(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Agentic().forecast(problem(), 10, options)


async def test_a_forecast_is_never_below_what_a_conversation_used() -> None:
    class Long(Talker):
        async def __call__(self, request: Any) -> Any:
            from agent.llm.estimate import input_bound

            reply = await super().__call__(request)
            self.calls, self.heard = len(self.requests), getattr(self, "heard", 0) + input_bound(request)
            return Completion(reply.text, reply.tool_calls, reply.stop, Usage(input_bound(request), output=4000))

    for options in ({}, {"turns": 3}, {"tokens": 9000}, {"calls": 2, "tokens": 200_000}):
        context = alone()
        model = Long(*[[("top", {"n": n + 1}), ("python", {"code": "x" * 500})] for n in range(29)])
        await propose(context, model, **options)
        calls, heard, _ = Agentic().forecast(context.problem, 1, options)
        assert model.calls <= calls
        assert model.heard <= heard, options


def measured(context: Alone, candidate: Any, value: float, claim: float | None = None) -> None:
    """Put a measured candidate into the history."""
    from agent.events import CandidateAdmitted
    from agent.measuring import Unit

    history = context.history
    history.apply(CandidateAdmitted(1, candidate.id, candidate.values_json, "agentic:llm", "", [], claim))
    history.measured(Unit(candidate.id, 0, -1, "search", {"loss": value}), True)


class TestContract(ProposerContract):
    """With a model that calls no tools, which is what the contract's is."""

    steps = 12

    def make(self) -> Any:
        return load("agentic")


def test_the_table_of_tools_is_what_the_agent_offers() -> None:
    from agent.proposers.agentic_options import Options
    from agent.proposers.offering import offered

    everything = problem(rows=["r1"], target="population")
    names = {tool.name for tool in offered(everything, Options(files=["*.md"]))}
    assert names == set(TABLE) - {"pareto"}  # one objective has no trade-offs
    suite = {tool.name for tool in offered(problem(rows=["r1"]), Options(files=["*.md"]))}
    assert names - suite == {"rows", "read_row"}, "in a suite no row is known by itself"
    assert not {"files", "evaluate", "critic"} & {
        tool.name for tool in offered(everything, Options(evaluations=0, consults=0))
    }
