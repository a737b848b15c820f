"""What a model can do, read from `agent/models.toml`; no model is named in code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from agent.errors import ConfigError

Wire = Literal["responses", "chat", "messages", "local"]

FILE = Path(__file__).parent.parent / "models.toml"
LEAST_OUTPUT = 16
"""The smallest limit of output tokens that the Responses protocol takes."""
PROVIDERS = ("openai", "openai-chat", "openai-responses", "anthropic", "local", "scripted")


@dataclass(frozen=True, slots=True)
class Profile:
    """Facts about one model.

    Args:
        wire: The protocol that is spoken.
        context: Tokens of input and output together, or None when unknown.
        max_output: Tokens of output, or None when unknown.
        temperature: Whether a sampling temperature is accepted.
        effort: Whether a reasoning effort is accepted.
        adaptive: Whether thinking is switched on by asking for it, and then follows the effort.
        seed: Whether sampling takes a seed.
        tools: Whether tools are accepted.
        schema: Whether a JSON schema is enforced; otherwise it goes into the prompt.
        logprobs: Whether log-probabilities of tokens can be asked for.
        embeddings: Whether it gives embeddings; a model in the role embed is asked for them in any case.
        limit: What the chat protocol calls the limit of output tokens here.
    """

    wire: Wire
    context: int | None = None
    max_output: int | None = None
    temperature: bool = False
    effort: bool = False
    adaptive: bool = False
    seed: bool = False
    tools: bool = True
    schema: bool = True
    logprobs: bool = True
    embeddings: bool = False
    limit: str = "max_completion_tokens"

    def output_limit(self, asked: int) -> int:
        """The limit of output tokens that is sent: what was asked, as far as the model can."""
        least = LEAST_OUTPUT if self.wire == "responses" else 1
        return max(least, asked if self.max_output is None else min(asked, self.max_output))


def split(name: str) -> tuple[str, str]:
    """Provider and model of a name `provider:model`; the model's own name may hold colons.

    Raises:
        ConfigError: The name has another form, or the provider is unknown.
    """
    provider, colon, model = name.partition(":")
    if not colon or not model or provider not in PROVIDERS:
        raise ConfigError(
            f"{name!r} names no model",
            hint=f"write provider:model, where provider is one of {', '.join(PROVIDERS)}",
        )
    return provider, model


def family(provider: str) -> str:
    """The provider behind a prefix that only chooses the protocol: "openai-chat" is "openai"."""
    return "openai" if provider.startswith("openai-") else provider


def profile(name: str, *, compatible: bool = False, overrides: Mapping[str, Any] | None = None) -> Profile:
    """The facts about a model.

    Args:
        name: `provider:model`; `openai-chat:` and `openai-responses:` choose the protocol.
        compatible: Whether the server is another one than the provider's own.
        overrides: The user's own facts, field by field.

    Raises:
        ConfigError: The name has another form, or an override names no fact.
    """
    provider, model = split(name)
    origin = family(provider)
    table = _facts()
    default = "openai-compatible" if origin == "openai" and compatible else origin
    facts: dict[str, Any] = dict(table["defaults"][default])
    known: Mapping[str, Mapping[str, Any]] = table["models"]
    full = f"{origin}:{model}"
    # A longer prefix says more, so it is laid on top; an exact name is the longest of all.
    for key in sorted((key for key in known if full.startswith(key)), key=len):
        facts.update(known[key])
    if provider != origin:
        facts["wire"] = provider.removeprefix("openai-")
    names = {item.name for item in fields(Profile)}
    for key, value in (overrides or {}).items():
        if key not in names:
            raise ConfigError(f"{name}: {key!r} is no fact about a model", hint=f"known are {', '.join(sorted(names))}")
        facts[key] = value
    return Profile(**facts)


@cache
def _facts() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
