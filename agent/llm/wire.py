"""What the wire adapters share: building a client, and reading answers that may not keep their promises."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, PrerequisiteError
from agent.llm.failures import Malformed
from agent.llm.jsontext import loads
from agent.llm.profiles import Profile
from agent.llm.structured import instruction
from agent.llm.types import ModelRequest, ToolCall

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is, and how to get in.

    Args:
        model: `provider:model`.
        name: The model's name at the provider.
        profile: What it can do.
        base_url: A server other than the provider's own, or None.
        api_key: The key; None leaves it to the SDK to find one in the environment.
        timeout: Seconds of silence after which an attempt has failed.
        http_client: Replaces the SDK's own HTTP client; it stays open when the adapter is closed.
    """

    model: str
    name: str
    profile: Profile
    base_url: str | None = None
    api_key: str | None = None
    timeout: float = 600.0
    http_client: httpx2.AsyncClient | None = None

    @property
    def shared(self) -> str:
        """What shares a rate limit: a server, or one model of a provider that counts by model."""
        return self.base_url or self.model


def openai_client(endpoint: Endpoint) -> AsyncOpenAI:
    """A client of the OpenAI SDK.

    Raises:
        PrerequisiteError: The package or the key is missing; names it.
    """
    try:
        import openai
    except ImportError:
        raise PrerequisiteError("the package openai is not installed", fix="pip install openai") from None
    key = endpoint.api_key or os.environ.get("OPENAI_API_KEY")
    if not key:
        if endpoint.base_url is None:
            raise PrerequisiteError(
                f"{endpoint.model} needs a key, and OPENAI_API_KEY is not set", fix="export OPENAI_API_KEY=..."
            )
        key = "none"  # servers of one's own rarely want a key, but the SDK wants a text
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=openai.Timeout(endpoint.timeout, connect=CONNECT_SECONDS),
        http_client=endpoint.http_client,
    )


def system_text(request: ModelRequest, *, explain: bool) -> str:
    """The system prompt; with `explain` also the schema, for a model that cannot be given it otherwise."""
    if not explain or request.schema is None:
        return request.system
    return "\n\n".join(part for part in (request.system, instruction(request.schema)) if part)


def check(request: ModelRequest, endpoint: Endpoint) -> None:
    """Refuse what a model cannot do before anything is sent to it.

    Raises:
        ConfigError: The request has tools, or wants log-probabilities, and the model takes or gives none.
    """
    if request.logprobs and not endpoint.profile.logprobs:
        raise ConfigError(
            f"{endpoint.model} gives no log-probabilities, and this proposer asks for them",
            hint="choose another model, or an option of the proposer that does without them",
        )
    if request.tools and not endpoint.profile.tools:
        raise ConfigError(
            f"{endpoint.model} takes no tools, and this proposer needs them",
            hint="choose another model or another proposer",
        )


def tool_call(call_id: Any, name: Any, arguments: Any) -> ToolCall:
    """A tool call whose arguments came as a JSON text; what is no object, or nested too deeply, stays a text."""
    raw = arguments if isinstance(arguments, str) else ""
    try:
        parsed = loads(raw or "{}")
    except ValueError:
        parsed = None
    return ToolCall(str(call_id or ""), str(name or ""), parsed if isinstance(parsed, dict) else None, raw)


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """The value, which the protocol says is an object.

    Raises:
        Malformed: It is not.
    """
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is not an object")
    return value


def sequence(value: Any, what: str) -> list[Any]:
    """The value, which the protocol says is a list; null counts as empty.

    Raises:
        Malformed: It is neither.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{what} is not a list")
    return value


def first_token(tokens: Any) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens of a reply with their log-probabilities, likeliest first.

    Args:
        tokens: What both of OpenAI's protocols give: a list with an item for each token, or null.
    """
    first = tokens[0] if isinstance(tokens, list) and tokens else None
    found = first.get("top_logprobs") if isinstance(first, Mapping) else None
    told: list[tuple[str, float]] = []
    for item in found if isinstance(found, list) else ():
        value = item.get("logprob") if isinstance(item, Mapping) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            told.append((str(item.get("token") or ""), float(value)))
    return tuple(sorted(told, key=lambda pair: -pair[1]))


async def pieces(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a file that comes in blocks, without empty ones. Only a newline ends a line: the texts inside may
    hold other characters that count as line ends elsewhere."""
    rest = b""
    async for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def count(table: Any, *path: str) -> int:
    """A number of tokens, deep in an answer; 0 where the server leaves it out."""
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    return max(0, int(table)) if isinstance(table, (int, float)) and not isinstance(table, bool) else 0


def answer(response: Any) -> Mapping[str, Any]:
    """An SDK's response object as plain data.

    Raises:
        Malformed: The server answered with something else than JSON, which the SDK hands through as text.
    """
    if isinstance(response, str) or not hasattr(response, "to_dict"):
        raise Malformed(f"it is not a JSON object: {str(response)[:200]!r}")
    # Servers that are almost compatible fill fields with other types; that is no reason to warn.
    return mapping(response.to_dict(warnings=False), "the answer")
