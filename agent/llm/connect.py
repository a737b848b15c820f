"""From a name to a model: `openai:…`, `anthropic:…`, `local:…`, or `scripted:…` in tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.errors import ConfigError
from agent.llm.profiles import Profile, family, profile, split
from agent.llm.types import Adapter

OFFICIAL = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
VARIABLE = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}

OPTIONS = frozenset({"base_url", "api_key", "timeout", "http_client", "profile", "replies", "progress"})


def connect(name: str, *, options: Mapping[str, Any] | None = None) -> Adapter:
    """The model behind a name. Nothing is sent yet.

    Args:
        name: `provider:model`. `openai` speaks Responses to OpenAI itself, and Chat to any server behind a
            base URL; `openai-chat:` and `openai-responses:` choose otherwise.
        options: `base_url` (else OPENAI_BASE_URL or ANTHROPIC_BASE_URL), `api_key` (else the provider's
            variable), `timeout` (seconds of silence after which an attempt has failed), `http_client` (an
            `httpx2.AsyncClient`, which is not closed with the adapter), `profile` (facts that differ from
            `models.toml`), `replies` (of a scripted model), `progress` (told
            how far a download of weights is: bytes so far, bytes in all or 0, and a sentence).

    Raises:
        ConfigError: The name or an option is wrong.
        PrerequisiteError: A package, a key or weights are missing; says how to get them.
    """
    given = dict(options or {})
    unknown = given.keys() - OPTIONS
    if unknown:
        raise ConfigError(f"{name}: unknown options {sorted(unknown)}", hint=f"known are {', '.join(sorted(OPTIONS))}")
    provider, model = split(name)
    if provider == "scripted":
        from agent.llm.scripted import Scripted

        return Scripted(given.get("replies", ()), name)
    if provider == "local":
        from agent.llm.local import LocalModel

        local: Adapter = LocalModel(model, progress=given.get("progress"))
        return local

    from agent.llm.wire import Endpoint

    base_url = server(provider, given.get("base_url"))
    endpoint = Endpoint(
        model=name,
        name=model,
        profile=facts(name, options=given),
        base_url=base_url,
        api_key=given.get("api_key"),
        timeout=float(given.get("timeout", 600.0)),
        http_client=given.get("http_client"),
    )
    wire = endpoint.profile.wire
    if family(provider) == "anthropic":
        from agent.llm.anthropic_messages import AnthropicMessages

        return AnthropicMessages(endpoint)
    if wire == "responses":
        from agent.llm.openai_responses import OpenAIResponses

        return OpenAIResponses(endpoint)
    if wire == "chat":
        from agent.llm.openai_chat import OpenAIChat

        return OpenAIChat(endpoint)
    raise ConfigError(f"{name}: wire is {wire!r}, allowed are responses and chat")


def facts(name: str, *, options: Mapping[str, Any] | None = None) -> Profile:
    """What a model can do, without connecting to it.

    Raises:
        ConfigError: The name or an override is wrong.
    """
    given = options or {}
    compatible = server(split(name)[0], given.get("base_url")) is not None
    return profile(name, compatible=compatible, overrides=given.get("profile"))


def server(provider: str, base_url: str | None = None) -> str | None:
    """The server that is not the provider's own, or None: from the option, else from the environment."""
    origin = family(provider)
    url = base_url or os.environ.get(VARIABLE.get(origin, ""), "") or None
    host = "" if url is None else urlsplit(url).hostname or ""
    return None if f".{host}".endswith(f".{OFFICIAL.get(origin)}") else url
