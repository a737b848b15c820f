"""Names, facts and prices of models: what is known, what is the user's own, and what is unknown."""

from __future__ import annotations

import random
import string
import subprocess
import sys

import pytest
from llm_helpers import KEY, say

from agent.errors import ConfigError, PrerequisiteError, ProviderError
from agent.llm.connect import connect, facts, server
from agent.llm.estimate import input_bound, text_bound
from agent.llm.openai_chat import OpenAIChat
from agent.llm.openai_responses import OpenAIResponses
from agent.llm.prices import Prices
from agent.llm.profiles import profile, split
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, Message, ModelRequest, ToolCall, ToolSpec, Usage

# Names.


def test_a_models_own_name_may_hold_colons() -> None:
    assert split("openai:llama3:8b") == ("openai", "llama3:8b")


@pytest.mark.parametrize("name", ["gpt", "openai:", ":m", "acme:m", ""])
def test_other_names_are_refused_with_the_form_they_should_have(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(name)
    assert "provider:model" in caught.value.hint


async def test_openai_speaks_responses_and_other_servers_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = [connect("openai:m"), connect("openai-chat:m"), connect("openai:m", options={"base_url": "http://h/v1"})]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://h/v1")
    made += [connect("openai:m"), connect("openai-responses:m")]
    assert [type(model) for model in made] == [OpenAIResponses, OpenAIChat, OpenAIChat, OpenAIChat, OpenAIResponses]
    for model in made:
        await model.close()


async def test_a_server_of_ones_own_needs_no_key() -> None:
    await connect("openai:m", options={"base_url": "http://localhost:8000/v1"}).close()
    with pytest.raises(PrerequisiteError):
        connect("openai:m")


def test_the_providers_own_servers_are_known() -> None:
    assert server("openai", "https://eu.api.openai.com/v1") is None
    assert server("anthropic", "https://api.anthropic.com") is None
    assert server("openai", "https://api.openai.com.evil.example/v1") is not None


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="tiemout"):
        connect("openai:m", options={"tiemout": 3})
    with pytest.raises(ConfigError, match="wire is"):
        connect("openai:m", options={"base_url": "http://h", "profile": {"wire": "pigeon"}})


# Facts.


def test_an_unknown_model_works_with_its_providers_defaults() -> None:
    assert (profile("openai:unheard-of").wire, profile("openai:unheard-of").context) == ("responses", None)
    served = profile("openai:unheard-of", compatible=True)
    assert (served.wire, served.temperature, served.limit) == ("chat", True, "max_tokens")
    assert profile("anthropic:unheard-of").temperature is False


def test_the_longest_matching_name_wins() -> None:
    assert profile("anthropic:claude-haiku-4-5-20251001").temperature is True
    assert profile("anthropic:claude-haiku-5-5").temperature is False
    assert profile("openai:gpt-5.6-luna").context == 1_050_000
    assert profile("openai:gpt-5-mini").context == 400_000


def test_a_known_model_behind_another_server_keeps_its_facts() -> None:
    proxied = profile("openai:gpt-6-sol", compatible=True)
    assert (proxied.wire, proxied.temperature, proxied.limit) == ("chat", False, "max_completion_tokens")


def test_the_users_own_facts_win() -> None:
    assert facts("openai:m", options={"profile": {"temperature": True}}).temperature is True
    with pytest.raises(ConfigError, match="'temprature' is no fact"):
        profile("openai:m", overrides={"temprature": True})


# Prices.


def test_published_prices_are_used_offline() -> None:
    usage = Usage(input=1_000_000, cached=400_000, output=100_000)
    assert Prices().usd("anthropic:claude-sonnet-5", usage) == pytest.approx(0.6 * 2 + 0.4 * 0.2 + 0.1 * 10)


def test_the_users_prices_go_first_for_either_prefix() -> None:
    prices = Prices({"openai:m": {"input": 3, "output": 5, "cached": 1}})
    usage = Usage(input=100, cached=40, output=10)
    for name in ("openai:m", "openai-chat:m"):
        assert prices.usd(name, usage) == pytest.approx((60 * 3 + 40 * 1 + 10 * 5) / 1e6)


def test_unknown_is_none_and_only_what_runs_here_is_free() -> None:
    assert Prices().usd("openai:unheard-of", Usage(1, output=1)) is None
    assert Prices().worst("openai:unheard-of", 1, 1) is None
    assert Prices().usd("local:m", Usage(1, output=1)) == 0.0


def test_a_name_says_nothing_about_the_price_at_another_server() -> None:
    usage = Usage(input=1000, output=1000)
    assert Prices().usd("openai:gpt-4o", usage) is not None
    assert Prices().usd("openai:gpt-4o", usage, base_url="http://localhost:8000/v1") is None


def test_the_worst_case_counts_writing_to_the_cache() -> None:
    plain = Prices().usd("anthropic:claude-sonnet-5", Usage(input=1000, output=10))
    worst = Prices().worst("anthropic:claude-sonnet-5", 1000, 10)
    assert plain is not None and worst is not None and worst == pytest.approx(plain + 1000 * 0.5 / 1e6)


@pytest.mark.parametrize(
    "rates",
    [{"input": 1}, {"input": -1, "output": 1}, {"input": "1", "output": 1}, {"input": 1, "output": 1, "ouput": 1}],
)
def test_a_wrong_price_is_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="prices"):
        Prices({"openai:m": rates})


# Estimates.


@pytest.mark.parametrize(
    ("text", "tokens"),  # as the byte-level tokenizer of SmolLM2 counts them
    [
        ("", 0),
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("0.123456, 0.234567", 18),
        ("a3f9c2e81b" * 20, 180),
        ("aXbQ9k+Zr/" * 20, 170),
        ("qzxjvkwqzx" * 20, 165),
        ("优化器会阅读历史记录" * 3, 63),
    ],
)
def test_the_estimate_is_not_below_the_real_count(text: str, tokens: int) -> None:
    assert text_bound(text) >= tokens


def test_the_estimate_never_exceeds_the_bytes_nor_falls_below_half() -> None:
    rng = random.Random(1)
    for _ in range(200):
        text = "".join(rng.choices(string.printable + "äß漢🙂", k=rng.randrange(200)))
        size = len(text.encode())
        assert size / 2 <= text_bound(text) <= size


def test_all_that_is_sent_counts() -> None:
    parts = [
        say("x" * 100),
        say("x" * 100, system="y" * 100),
        say("x" * 100, tools=(ToolSpec("t", "d" * 100, {}),)),
        say("x" * 100, schema={"type": "object"}),
        ModelRequest((Message("assistant", "x" * 100, (ToolCall("1", "t", {"q": "z" * 100}),)),)),
        ModelRequest((Message("assistant", "x" * 100, carry=({"type": "thinking", "data": "z" * 100},)),)),
    ]
    base = input_bound(parts[0])
    assert all(input_bound(part) >= base + 50 for part in parts[1:])


# Plain data.


def test_a_request_is_plain_data_and_its_key_ignores_what_holds_nothing() -> None:
    request = ModelRequest((Message("user", ""),), temperature=0.0)
    assert request.to_json() == {
        "messages": [{"role": "user", "text": ""}],
        "max_output_tokens": 1024,
        "temperature": 0.0,
    }
    assert request.key("a:b") != request.key("a:c")
    assert request.key("a:b") == ModelRequest((Message("user", ""),), temperature=0.0, system="").key("a:b")


def test_a_completion_survives_the_journal() -> None:
    reply = Completion(
        "text", (ToolCall("1", "t", None, "{"),), "tool", Usage(1, 2, 3, 4, 5), 0.5, "m", 1.5, carry=({"type": "x"},)
    )
    assert Completion.from_json(reply.to_json()) == reply
    assert reply.as_message().carry == reply.carry


# The scripted model.


async def test_a_script_is_followed_and_then_ends() -> None:
    model = Scripted(["one two", Completion("given"), ProviderError("broken")])
    reply = await model.complete(say("a b c"), seed=1)
    assert (reply.text, reply.usage) == ("one two", Usage(input=3, output=2))
    assert (await model.complete(say(), seed=2)).text == "given"
    for match in ("broken", "no reply is left"):
        with pytest.raises(ProviderError, match=match):
            await model.complete(say(), seed=3)
    assert model.seeds == [1, 2, 3, 3]


async def test_a_script_may_be_a_function_of_the_request() -> None:
    model = connect("scripted:echo", options={"replies": lambda request: request.messages[-1].text.upper()})
    assert (await model.complete(say("hello"), seed=None)).text == "HELLO"


def test_no_sdk_is_loaded_before_the_first_call() -> None:
    heavy = {"openai", "anthropic", "httpx2", "pydantic", "tenacity", "genai_prices", "numpy"}
    code = f"import sys, agent.llm.gateway; print(*sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
