"""Embeddings over the OpenAI protocol: one request holds several texts, and its reply the vectors as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.llm import wire
from agent.llm.failures import Malformed
from agent.llm.types import Completion, Message, ModelRequest, Usage
from agent.llm.wire import count, mapping, sequence

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SCALE = 10_000
"""A vector is kept in the journal as whole numbers: its coordinates at length one, times this."""


def request(texts: Sequence[str]) -> ModelRequest:
    """The request for the vectors of some texts, none of them empty."""
    return ModelRequest(tuple(Message("user", text) for text in texts), max_output_tokens=1, embed=True)


def refused(model: str) -> ConfigError:
    """What is said where a model gives no embeddings."""
    return ConfigError(
        f"{model} is not known to give embeddings",
        hint='name a model for them as models.embed = "provider:model", such as "openai:text-embedding-3-small"',
    )


async def answered(client: AsyncOpenAI, name: str, asked: ModelRequest) -> Completion:
    """The reply of `/embeddings`.

    Raises:
        Malformed: The server answered with something else than a vector for each text.
    """
    texts = [message.text for message in asked.messages]
    response = await client.embeddings.create(model=name, input=texts, encoding_format="float")
    reply = wire.answer(response)
    found: list[list[int] | None] = [None] * len(texts)
    for place, item in enumerate(sequence(reply.get("data"), "data")):
        part = mapping(item, "an embedding")
        index = part.get("index", place)
        if type(index) is not int or not 0 <= index < len(texts):
            raise Malformed(f"an embedding has the index {index!r}, and there were {len(texts)} texts")
        found[index] = _whole(part.get("embedding"))
    if None in found or len({len(vector or ()) for vector in found}) != 1:
        raise Malformed(f"{len(texts)} texts did not get {len(texts)} embeddings of one length")
    usage = Usage(input=count(reply.get("usage"), "prompt_tokens"))
    return Completion(json.dumps(found, separators=(",", ":")), usage=usage, model=str(reply.get("model") or ""))


def _whole(vector: Any) -> list[int]:
    """A vector at length one, in whole numbers."""
    numbers = vector if isinstance(vector, list) else []
    if not numbers or not all(isinstance(item, (int, float)) and math.isfinite(item) for item in numbers):
        raise Malformed("an embedding is not a list of numbers")
    length = math.sqrt(math.fsum(item * item for item in numbers))
    return [round(SCALE * item / length) if length else 0 for item in numbers]


def vectors(text: str, count: int) -> list[list[int]]:
    """The vectors in a reply, as it is recorded.

    Raises:
        ValueError: It does not hold so many vectors of one length.
    """
    found: list[list[int]] = json.loads(text)
    whole = isinstance(found, list) and len(found) == count
    if not whole or not all(isinstance(v, list) and v and all(type(i) is int for i in v) for v in found):
        raise ValueError(f"it does not hold {count} vectors")
    if len({len(vector) for vector in found}) != 1:
        raise ValueError("its vectors differ in length")
    return found
