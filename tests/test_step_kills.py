"""Killing a run in the middle of conversations: no reply is paid twice, and no measurement that ended is made again.

The kills are real, and what happened is read from logs that the evaluator and the model keep themselves.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events import CallEnded, CallStarted, EvaluationStarted, LookAsked, ProposalEnded, ToolEnded
from agent.journal import read_all
from agent.llm.types import Message, ModelRequest
from agent.replay import replay
from agent.results.result import load_state
from tests.fake_provider import Behaviour, FakeProvider, Request, ok, tools
from tests.kill_worker import EXECUTED, LIFE
from tests.stepper import TOOLS, model
from tests.test_kill import ROOT, Launcher, Watch, lines

SOAK = bool(os.environ.get("SOAK"))
"""Kill more often, in more kinds of runs; a few of each show whether it holds at all."""
KINDS = [(noisy, workers) for noisy in (False, True) for workers in (1, 4) if SOAK or noisy == (workers == 4)]
KILLS = 15 * len(KINDS) if SOAK else 8 * len(KINDS)


class StepLauncher(Launcher):
    """Forks lives of runs in steps; see `tests.step_kill_worker`."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "tests.step_kill_worker", *words]
        self._popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    made = StepLauncher()
    yield made
    made.close()


class StepWatch(Watch):
    """A look and a candidate may be the same values: the seed tells them apart."""

    def _fold(self, kind: str, body: dict[str, Any]) -> None:
        super()._fold(kind, body)
        if kind == "evaluation.started":
            self.started[body["id"]] += f" {body['seed']}"


@pytest.mark.parametrize(("noisy", "workers"), KINDS)
def test_killing_a_conversation_anywhere_pays_nothing_twice(
    launcher: Launcher, tmp_path: Path, noisy: bool, workers: int
) -> None:
    rng = random.Random(f"step kills {noisy} {workers}")
    kills = inside = 0
    for number in range(1, 1000):
        folder = tmp_path / str(number) / "run"
        folder.parent.mkdir()
        life = {"folder": folder, "noisy": noisy, "workers": workers, "seed": number, "evaluations": 80, "calls": 300}
        watch = StepWatch(folder, number)
        while True:
            end = {}
            if kills < KILLS // len(KINDS):
                end = {"fuse": rng.randint(1, 12), "late": rng.uniform(0, 0.01)}
            ending = launcher.life(**life, **end)
            watch.look()
            if not ending["killed"]:
                break
            kills += 1
            inside += in_conversation(folder)
        assert ending["code"] == 0, "\n".join(lines(folder.parent / LIFE)[-40:])
        ended_well(folder, life, watch)
        if kills >= KILLS // len(KINDS):
            break
    print(f"{kills} kills in {number} runs, {inside} of them between two steps of a conversation")
    assert inside >= kills // 8, "the kills came at the wrong moments to mean anything"


def said(request: Request) -> Behaviour:
    """What `tests.stepper.model` says, for a server that speaks as OpenAI's Chat does."""
    body = request.body
    messages = tuple(Message(m["role"], m.get("content") or "") for m in body["messages"] if m["role"] != "system")
    reply = model(ModelRequest(messages, tools=TOOLS if body.get("tools") else ()))
    if isinstance(reply, str):
        return ok(reply)
    return tools(*((call.name, dict(call.arguments or {})) for call in reply.tool_calls), text=reply.text)


async def test_a_killed_conversation_pays_a_real_server_nothing_twice(tmp_path: Path) -> None:
    rng = random.Random("server kills")
    folder, kills = tmp_path / "run", 0
    launcher = StepLauncher("sdk")
    try:
        async with FakeProvider() as provider:
            provider.answer = said
            life = {"folder": folder, "noisy": False, "workers": 2, "seed": 1, "evaluations": 25, "calls": 200}
            life["url"] = f"{provider.url}/v1"
            while True:
                end = {"fuse": rng.randint(1, 3), "late": rng.uniform(0, 0.1)} if kills < (12 if SOAK else 6) else {}
                ending = await asyncio.to_thread(lambda end=end: launcher.life(**life, **end))
                if not ending["killed"]:
                    break
                kills += 1
            calls, tokens = provider.calls, provider.tokens
    finally:
        launcher.close()
    assert ending["code"] == 0, "\n".join(lines(tmp_path / LIFE)[-40:])
    events = [entry.event for entry in read_all(folder)]
    places = {event.id: (event.scope, event.key, event.ordinal) for event in events if isinstance(event, CallStarted)}
    done = [places[event.id] for event in events if isinstance(event, CallEnded)]
    assert len(set(done)) == len(done), "what was answered is never asked again"
    spent = load_state(folder, everything=True).ledger.to_json()
    assert len(done) <= calls <= len(done) + spent["possibly_spent"]["calls"], "the server's account agrees with ours"
    assert spent["tokens"]["input"] + spent["tokens"]["output"] <= tokens
    assert calls > 20 and kills >= (6 if SOAK else 3)
    tools_done = Counter((e.proposal, e.turn, e.index) for e in events if isinstance(e, ToolEnded))
    assert set(tools_done.values()) == {1}
    for workers in (1, 4):
        assert (await replay(folder, workers))[1] is None


def in_conversation(folder: Path) -> bool:
    """Whether a decision is open that has called a tool or looked."""
    open_ones: set[int] = set()
    for entry in read_all(folder):
        event = entry.event
        if isinstance(event, (ToolEnded, LookAsked)):
            open_ones.add(event.proposal)
        elif isinstance(event, ProposalEnded):
            open_ones.discard(event.id)
    return bool(open_ones)


def ended_well(folder: Path, life: dict[str, Any], watch: Watch) -> None:
    """What must hold at the end of a run, however often it was killed."""
    events = [entry.event for entry in read_all(folder)]
    started = [e for e in events if isinstance(e, EvaluationStarted)]
    # Looks leave what is proposed, and this model may have no more to propose: so a few may be left at the end.
    assert 0 <= life["evaluations"] - len(started) <= life["workers"], "the limit holds, looks and all"
    assert any(e.stage == "look" for e in started)
    lost = load_state(folder, everything=True).ledger.lost_evaluations
    assert len(lines(folder.parent / EXECUTED)) <= life["evaluations"] + lost
    tools = Counter((e.proposal, e.turn, e.index) for e in events if isinstance(e, ToolEnded))
    looks = Counter((e.proposal, e.key) for e in events if isinstance(e, LookAsked))
    assert set(tools.values()) == {1} and set(looks.values()) == {1}, "each is done once"
    for workers in (1, 4):
        assert asyncio.run(replay(folder, workers))[1] is None, "the journal replays to equal events"
