"""Vectors of texts, so that a surrogate can say which texts are alike: from a model, or by hashing.

A model gives them where one is set for the role embed, or where the proposer's own gives embeddings (the embedded
model does). Else words and pairs of words are hashed (Weinberger et al. 2009, arXiv 0902.2206), which knows no
meaning: two texts are alike when they share words. `Embeddings.how` says which it is, and `why`. Vectors of the two
kinds are never mixed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, StoreError

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

DIMENSIONS = 128
"""Of every vector. A random projection to so many keeps distances to about a tenth (Johnson and Lindenstrauss 1984)."""
TOGETHER = 64
"""Texts in one call."""
CHARACTERS = 6000
"""Of a text that a model is shown."""
SCALE = 127
"""A coordinate is kept as one byte: at length one, times this. That moves a vector by about 3 %."""

Asking = Callable[["ModelRequest"], Awaitable["Completion"]]
"""A call in the role embed; it is journalled, and paid in the ledger."""

_WORD = re.compile(r"\w+|[^\w\s]")


class Embeddings:
    """Vectors by content: a text that is known is not asked for again.

    Args:
        kept: What `to_json` gave, or None at first.
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        given = kept or {}
        self.how: str = given.get("how", "")
        """"model:NAME" as the server calls it, "hashing", or "" while nothing was asked."""
        self.why: str = given.get("why", "")
        """Why it is hashing, or ""."""
        self._known = {key: list(_signed(bytes.fromhex(text))) for key, text in given.get("vectors", {}).items()}

    async def of(self, texts: Sequence[str], ask: Asking | None) -> list[list[float]]:
        """A vector of length one and `DIMENSIONS` numbers for each text. Only these texts are kept.

        When the model fails, all of them are hashed, now and later.

        Args:
            texts: Equal ones get one vector.
            ask: Makes a call; None for hashing.

        Raises:
            StoreError: The journal cannot be written.
        """
        if ask is None and self.how != "hashing":
            self._hash("no model was asked")
        if self.how != "hashing":
            try:
                await self._ask(list(dict.fromkeys(texts)), ask)
            except StoreError:
                raise
            except AgentError as error:
                self._hash(error.message)
            except (ValueError, TypeError) as error:
                self._hash(f"the reply cannot be used: {error}")
        if self.how == "hashing":
            for text in texts:
                self._known.setdefault(_key(text), hashed(text))
        self._known = {_key(text): self._known[_key(text)] for text in texts}
        return [[number / SCALE for number in self._known[_key(text)]] for text in texts]

    def to_json(self) -> dict[str, Any]:
        """What the next decision begins with."""
        kept = {} if self.how == "hashing" else self._known  # what can be made again need not be kept
        vectors = {key: bytes(number & 255 for number in vector).hex() for key, vector in kept.items()}
        return {"how": self.how, "why": self.why, "vectors": vectors}

    def _hash(self, why: str) -> None:
        self.how, self.why, self._known = "hashing", why, {}

    async def _ask(self, texts: Sequence[str], ask: Asking | None) -> None:
        from agent.llm.embedding import request, vectors

        assert ask is not None
        new = [text for text in texts if _key(text) not in self._known]
        for start in range(0, len(new), TOGETHER):
            part = new[start : start + TOGETHER]
            reply = await ask(request([text[:CHARACTERS].strip() or "-" for text in part]))
            how = f"model:{reply.model}"
            if self.how not in ("", how):
                raise ValueError(f"vectors of {how} came after vectors of {self.how}")
            self.how = how
            for text, vector in zip(part, projected(vectors(reply.text, len(part))), strict=True):
                self._known[_key(text)] = vector


def hashed(text: str) -> list[int]:
    """A text's words and pairs of words, each added to one of the places with a sign of its own."""
    words = _WORD.findall(text.casefold())
    out = [0.0] * DIMENSIONS
    for part in (*words, *(f"{a} {b}" for a, b in pairwise(words))):
        number = int.from_bytes(hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        out[(number >> 1) % DIMENSIONS] += 1.0 if number & 1 else -1.0
    return _unit(out)


def projected(vectors: Sequence[Sequence[int]]) -> list[list[int]]:
    """Vectors of any one length at `DIMENSIONS` numbers: times a matrix of random signs that is always the same."""
    import numpy as np

    signs = np.random.Generator(np.random.PCG64(0)).integers(0, 2, (len(vectors[0]), DIMENSIONS)) * 2 - 1
    return [_unit(row) for row in (np.array(vectors) @ signs).tolist()]


def _unit(vector: Sequence[float]) -> list[int]:
    length = math.sqrt(math.fsum(number * number for number in vector))
    return [round(SCALE * number / length) if length else 0 for number in vector]


def _signed(data: bytes) -> Iterator[int]:
    return (number - 256 if number > 127 else number for number in data)


def _key(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
