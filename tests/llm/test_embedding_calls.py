"""Embeddings through the gateway: journalled and paid as any call, and refused where a model has none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider, error, ok
from llm_helpers import Desk, say

from agent.errors import ConfigError, ProviderError
from agent.events import CallStarted
from agent.llm import embedding, local, weights
from agent.llm.gateway import Llm
from agent.llm.local import LocalModel
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest
from agent.settings import Settings

Make = Callable[..., Llm]
on_openai = pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
on_one = pytest.mark.parametrize("wire", ["openai-chat"], indirect=True)


async def ask(llm: Llm, *texts: str, role: str = "embed") -> Completion:
    return await llm.complete(embedding.request(texts), role=role, scope="proposal-1/embed")


@pytest.fixture
def name(wire: str) -> str:
    return f"{wire}:fake-1"


@pytest.fixture
def make(options: dict[str, Any], wire: str, sleep: Any) -> Make:
    """Gateways whose role embed has a model behind the wire."""
    from agent.llm.connect import connect

    def made(desk: Desk, **more: Any) -> Llm:
        model = f"{wire}:fake-1"
        models = {"propose": model, "embed": model}
        prices = {model: {"input": 1.0, "output": 2.0}}
        return Llm(desk, models, lambda n: connect(n, options=options), prices, sleep=sleep, **more)

    return made


@on_openai
async def test_each_text_gets_its_vector_at_length_one(provider: FakeProvider, make: Make, desk: Desk) -> None:
    provider.script(ok(input=40))
    async with make(desk) as llm:
        reply = await ask(llm, "aab", "b")
    first, second = embedding.vectors(reply.text, 2)
    assert first[:2] == [round(1e4 * 2 / math.sqrt(5)), round(1e4 / math.sqrt(5))] and second[:2] == [0, 10_000]
    assert provider.requests[0].path.endswith("/embeddings") and provider.requests[0].body["input"] == ["aab", "b"]
    (started,) = desk.started
    assert started.role == "embed" and started.request["embed"] is True
    paid = desk.ledger.by_role["embed"]
    assert (paid.calls, paid.input, paid.output) == (1, 40, 0) and paid.usd == pytest.approx(40e-6)


@on_one
async def test_a_replay_gives_the_same_vectors_without_a_call(provider: FakeProvider, make: Make, desk: Desk) -> None:
    async with make(desk) as llm:
        first = await ask(llm, "aab", "b")
    async with make(Desk(past=desk.events)) as llm:
        assert (await ask(llm, "aab", "b")).text == first.text
    assert provider.calls == 1


@on_one
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop(),
        lambda data: data[0].update(embedding=[1.0]),
        lambda data: data[0].update(embedding="AAAA"),
        lambda data: data[0].update(index=7),
        lambda data: data[0].update(embedding=[math.nan] * 26),
    ],
    ids=["one too few", "another length", "no list", "a foreign index", "no number"],
)
async def test_an_answer_that_is_none_is_a_failure_and_not_a_vector(
    provider: FakeProvider, make: Make, desk: Desk, change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fake_provider

    right = fake_provider.embeddings

    def wrong(*given: Any) -> Any:
        out = right(*given)
        change(out["data"])
        return out

    monkeypatch.setattr(fake_provider, "embeddings", wrong)
    async with make(desk) as llm:
        with pytest.raises(ProviderError, match="the answer cannot be read"):
            await ask(llm, "a", "b")
    assert desk.ended[0].reply is None


async def test_a_model_that_is_not_known_to_give_any_is_not_even_asked(desk: Desk) -> None:
    llm = Llm(desk, {"propose": "openai:gpt-5"}, connect=lambda _: Scripted(["words"]))
    with pytest.raises(ConfigError, match="not known to give embeddings") as caught:
        await ask(llm, "a", role="propose")
    assert "models.embed" in caught.value.hint and not desk.events


@pytest.mark.parametrize(("wire", "sends"), [("openai-chat", True), ("anthropic", False)], indirect=["wire"])
async def test_a_model_named_for_it_is_asked_unless_its_protocol_has_none(
    provider: FakeProvider, make: Make, desk: Desk, sends: bool
) -> None:
    provider.script(error(404, "not_found"))
    async with make(desk) as llm:
        with pytest.raises(ProviderError if sends else ConfigError):
            await ask(llm, "a")
    assert bool(provider.calls) is sends


def test_the_role_takes_no_part_in_batches() -> None:
    models = {"propose": "openai:gpt-5", "embed": "openai:text-embedding-3-small"}
    assert Settings(models=models, batch=True).batched == ("propose",)
    with pytest.raises(ConfigError, match="a list of roles"):
        Settings(models=models, batch=["embed"])


def test_requests_that_want_words_keep_their_hash() -> None:
    assert "embed" not in say().to_json() and embedding.request(["hello"]).key("m:x") != say().key("m:x")
    assert "embed" not in json.dumps(ModelRequest(say().messages, max_output_tokens=1).to_json())


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache that the tests of the embedded model fill, with the real weights in it."""
    folder = tmp_path_factory.getbasetemp() / "weights"
    monkeypatch.delenv("TRUEGAIN_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    weights.locate()
    yield folder


async def test_the_embedded_model_gives_vectors_and_goes_on_talking(
    cache: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "EMBEDDED_BYTES", 150)  # a text of 2000 bytes may take it half a minute
    async with Llm(desk, {"propose": "local:smollm2-135m"}) as llm:
        texts = (
            "Answer step by step.",
            "Think it through, one step at a time.",
            "The cat sat on the mat.",
            "🦊" * 4000,
        )
        near, also, far, _ = embedding.vectors((await ask(llm, *texts, role="propose")).text, 4)
        said = await llm.complete(say("hi", max_output_tokens=3), role="propose", scope="other")

    def product(a: list[int], b: list[int]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / embedding.SCALE**2

    assert len(near) == 576 and product(near, near) == pytest.approx(1, abs=0.01)
    assert product(near, also) > product(near, far) + 0.03, "by what they mean, and not only by their length"
    assert said.text and [event.role for event in desk.of(CallStarted)] == ["propose", "propose"]
    assert desk.ledger.total.usd == 0 and desk.ended[0].spent["input"] > 10


async def test_closing_ends_both_processes_of_the_embedded_model(cache: Path) -> None:
    model = LocalModel("smollm2-135m")
    await model.complete(embedding.request(["a"]), seed=1)
    assert model._vectors is not None and model._vectors._server is not None and model._server is None
    process = model._vectors._server._process
    await model.close()
    assert process.wait(timeout=30) is not None
