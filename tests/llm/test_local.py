"""The embedded model, for real: its weights come from the package index, and llama.cpp runs them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from llm_helpers import Desk, say

from agent.errors import ConfigError, PrerequisiteError, ProviderError
from agent.llm import llama, weights
from agent.llm.gateway import Llm
from agent.llm.local import LocalModel, compact_grammar
from agent.llm.types import Message, ModelRequest, ToolCall

NAME = "smollm2-135m"
POINT = {
    "type": "object",
    "properties": {"x": {"type": "number", "minimum": -5, "maximum": 5}, "kind": {"enum": ["adam", "sgd"]}},
    "required": ["x", "kind"],
}
STORY = say("Write a very long story about a city. " * 20, max_output_tokens=4000, temperature=1.0)
SHORT = say("hi", max_output_tokens=4, temperature=0.7)


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """A cache with the real weights in it."""
    folder = tmp_path_factory.getbasetemp() / "weights"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRUEGAIN_WEIGHTS", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        weights.locate()
    return folder


@pytest.fixture
def cache(caches, monkeypatch):
    monkeypatch.delenv("TRUEGAIN_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    return caches


@pytest.fixture
async def model(cache):
    model = LocalModel(NAME)
    yield model
    await model.close()


def process(model: LocalModel) -> subprocess.Popen[bytes]:
    return model._server._process


def history(rows: int) -> ModelRequest:
    """A prompt of about 20 tokens a row."""
    lines = [f"score {row * 10}: {row % 10}, {row * 3 % 10}, 4, {row * 7 % 10}" for row in range(rows)]
    return say(
        "\n".join([*lines, "score 999:"]), system="You complete sequences.", max_output_tokens=24, temperature=0.9
    )


async def test_a_reply(model):
    reply = await model.complete(say("Say hello.", max_output_tokens=8, temperature=0.7), seed=1)
    assert reply.text and reply.stop == "length"
    assert reply.usage.output == 8 and reply.usage.input > 8
    assert reply.model == NAME, "not a path of this machine"


async def test_a_reply_with_a_schema_is_compact_json(model):
    for seed in range(5):
        request = say("Propose a point as JSON.", schema=POINT, max_output_tokens=64, temperature=0.9)
        reply = await model.complete(request, seed=seed)
        value = json.loads(reply.text)
        assert list(value) == ["x", "kind"] and -5 <= value["x"] <= 5 and value["kind"] in ("adam", "sgd")
        assert "\n" not in reply.text and "  " not in reply.text and reply.stop == "end"


@pytest.mark.parametrize(
    "schema",
    [
        {**POINT, "properties": {**POINT["properties"], "kind": {"type": "string", "pattern": "^(adam|sgd)$"}}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
    ],
)
async def test_what_the_compact_grammar_cannot_say_is_left_to_the_server(model, schema):
    assert compact_grammar(schema) is None
    reply = await model.complete(say("JSON:", schema=schema, max_output_tokens=200, temperature=0.5), seed=3)
    if reply.stop == "end":
        value = json.loads(reply.text)
        assert value.get("kind") in (None, "adam", "sgd")


async def test_a_build_without_llguidance_gets_schemas_the_usual_way(model):
    await model.start()
    model._chat._compact = False
    reply = await model.complete(say("JSON:", schema=POINT, max_output_tokens=100, temperature=0.5), seed=3)
    assert set(json.loads(reply.text)) == {"x", "kind"}


async def test_through_the_gateway(cache):
    async with Llm(Desk(), {"propose": f"local:{NAME}"}) as llm:
        reply = await llm.structured(
            say("Propose a point as JSON.", max_output_tokens=64, temperature=0.7),
            role="propose",
            scope="test",
            schema=POINT,
        )
    assert -5 <= reply.parsed["x"] <= 5
    assert reply.usd == 0.0


async def test_replies_do_not_depend_on_what_the_cache_holds(model):
    """The first answer reads the prompt; later ones find all of it, a part, or other things in the cache."""
    request = history(12)
    first = await model.complete(request, seed=5)
    assert first.usage.cached == 0 and first.usage.input > 200
    again = await model.complete(request, seed=5)
    assert again.usage.cached == again.usage.input - 1
    await model.complete(history(5), seed=1)
    part = await model.complete(request, seed=5)
    assert 0 < part.usage.cached < part.usage.input - 1
    assert first.text == again.text == part.text

    turn = ModelRequest(
        (*request.messages, Message("assistant", first.text), Message("user", "Go on.")),
        system=request.system,
        max_output_tokens=24,
        temperature=0.9,
    )
    warm = await model.complete(turn, seed=5)  # the model's own words are still in the cache
    await model.close()
    cold = await model.complete(turn, seed=5)
    assert cold.usage.cached == 0 < warm.usage.cached
    assert warm.text == cold.text
    assert (await model.complete(turn, seed=6)).text != cold.text


async def test_parallel_calls_are_answered_one_after_the_other(model):
    alone = [(await model.complete(history(3 + n), seed=n)).text for n in range(4)]
    together = await asyncio.gather(*(model.complete(history(3 + n), seed=n) for n in range(4)))
    assert [reply.text for reply in together] == alone


async def test_a_conversation_may_hold_tool_turns(model):
    call = ToolCall("1", "measure", {"x": 2}, '{"x": 2}')
    request = ModelRequest(
        (Message("user", "go"), Message("assistant", "", tool_calls=(call,)), Message("tool", "7", tool_call_id="1")),
        max_output_tokens=4,
    )
    assert (await model.complete(request, seed=1)).usage.output == 4


async def test_a_prompt_that_does_not_fit_is_refused_for_good(cache):
    model = LocalModel(NAME, context=256)
    try:
        with pytest.raises(ProviderError, match="does not fit into the model's 256 tokens") as caught:
            await model.complete(history(40), seed=1)
        assert not caught.value.retryable and "shorter history" in caught.value.hint
        assert (await model.complete(SHORT, seed=1)).text
    finally:
        await model.close()


@pytest.mark.parametrize("seconds", [0.05, 1.5])
async def test_a_cancelled_call_frees_the_model(model, seconds):
    await model.complete(SHORT, seed=1)
    task = asyncio.create_task(model.complete(STORY, seed=1))
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = time.monotonic()
    await model.complete(SHORT, seed=1)
    assert time.monotonic() - started < 10, "the story alone takes about a minute"


async def test_nothing_starts_before_the_first_call_and_the_loop_goes_on_meanwhile(cache):
    model = LocalModel(NAME)
    assert model._server is None
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await model.start()
    ticking.cancel()
    assert ticks >= 5
    await model.close()


async def test_equal_models_share_a_process_and_the_last_one_ends_it(cache):
    first, second = LocalModel(NAME), LocalModel(NAME)
    await asyncio.gather(first.start(), second.start())
    running = process(first)
    assert process(second) is running
    await first.close()
    assert running.poll() is None and (await second.complete(SHORT, seed=1)).text
    await second.close()
    assert running.poll() == 0
    await second.close()


async def test_a_closed_model_starts_again(model):
    await model.start()
    before = process(model)
    await model.close()
    assert (await model.complete(SHORT, seed=1)).text
    assert process(model) is not before


def test_one_model_in_several_event_loops(cache):
    model = LocalModel(NAME)
    texts = {asyncio.run(model.complete(SHORT, seed=1)).text for _ in range(2)}
    asyncio.run(model.close())
    assert len(texts) == 1


async def test_a_process_that_dies_is_replaced(model):
    await model.complete(SHORT, seed=1)
    task = asyncio.create_task(model.complete(STORY, seed=1))
    await asyncio.sleep(0.3)
    process(model).send_signal(signal.SIGKILL)
    with pytest.raises(ProviderError, match="ended by signal 9") as caught:
        await task
    assert caught.value.retryable
    assert (await model.complete(SHORT, seed=1)).text


async def test_our_own_surroundings_are_left_alone(cache, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)  # a test of another file may have imported it
    before = dict(os.environ)
    model = LocalModel(NAME)
    assert (await model.complete(SHORT, seed=1)).text
    assert dict(os.environ) == before and "xllamacpp" not in sys.modules
    command = Path(f"/proc/{process(model).pid}/cmdline")
    assert not command.exists() or model._server.token not in command.read_text()
    await model.close()


async def test_nobody_else_may_use_the_server(model):
    import httpx2

    await model.start()
    async with httpx2.AsyncClient(trust_env=False) as client:
        reply = await client.post(f"{model._server.address}/v1/chat/completions", json={"messages": []})
    assert reply.status_code == 401


async def test_a_broken_file_is_named_with_its_fault(cache, tmp_path):
    whole = weights.locate(fetch=False)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole.read_bytes()[:5_000_000])
    model = LocalModel(str(broken))
    with pytest.raises(ProviderError, match=r"broken\.gguf.*corrupted or incomplete") as caught:
        await model.complete(SHORT, seed=1)
    assert caught.value.fatal and not caught.value.retryable
    with pytest.raises(ConfigError, match="names no model"):
        await LocalModel("gpt-9").complete(SHORT, seed=1)


async def test_weights_of_ones_own(cache, tmp_path):
    mine = tmp_path / "my model ü.gguf"
    mine.symlink_to(weights.locate(fetch=False))
    model = LocalModel(str(mine))
    assert (await model.complete(SHORT, seed=1)).model == str(mine)
    await model.close()


def test_without_xllamacpp(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match="needs the package xllamacpp") as caught:
        LocalModel(NAME)
    assert caught.value.fix == "pip install 'truegain[local]'"


PRELUDE = """
import asyncio, contextlib, os, sys, threading, time
from agent.llm.local import LocalModel
from agent.llm.types import Message, ModelRequest
model = LocalModel("smollm2-135m")
short = ModelRequest((Message("user", "hi"),), max_output_tokens=4)
story = ModelRequest((Message("user", "Write a long story."),), max_output_tokens=4000)
def say(request):
    return asyncio.run(model.complete(request, seed=1))
def pid():
    print(model._server._process.pid, flush=True)
"""

EXITS = {
    "without closing": "say(short); pid()",
    "with a call under way": """
        say(short); pid()
        def tell():
            with contextlib.suppress(Exception):  # its connection breaks when the interpreter ends
                say(story)
        threading.Thread(target=tell, daemon=True).start()
        time.sleep(1)
    """,
    "with a call cancelled": """
        async def main():
            await model.complete(short, seed=1)
            pid()
            asyncio.create_task(model.complete(story, seed=1))
            await asyncio.sleep(1)
        asyncio.run(main())
    """,
    "while it loads": """
        async def main():
            task = asyncio.create_task(model.start())
            await asyncio.sleep(0.2)
        asyncio.run(main())
    """,
    "after a fork that ends the long way": """
        say(short); pid()
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say(short)
    """,
    "after a fork that uses the model": """
        say(short); pid()
        child = os.fork()
        if child == 0:
            assert say(short).text
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say(short)
    """,
}


def script(text: str) -> list[str]:
    root = str(Path(llama.__file__).parent.parent.parent)
    return [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {root!r})\n{PRELUDE}\n{textwrap.dedent(text)}"]


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends_promptly_and_without_a_word(cache, how):
    started = time.monotonic()
    done = subprocess.run(script(EXITS[how]), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 30
    assert all(gone(int(line)) for line in done.stdout.split())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_no_process_behind(cache, sign):
    with subprocess.Popen(script("say(short); pid(); say(story)"), stdout=-1, stderr=-1, text=True) as run:
        pid = int(run.stdout.readline())
        time.sleep(0.3)
        run.send_signal(sign)
        run.communicate(timeout=120)
    assert gone(pid)
