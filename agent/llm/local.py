"""Models that run on this machine, from a GGUF file, by llama.cpp (the package xllamacpp).

llama.cpp serves the OpenAI chat protocol, so that the same adapter speaks to it as to every other server.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from agent.errors import PrerequisiteError, ProviderError
from agent.llm.failures import CallFailed
from agent.llm.hub import Progress
from agent.llm.llama import LlamaProcess
from agent.llm.openai_chat import OpenAIChat
from agent.llm.profiles import profile
from agent.llm.schema import CHECKED, strict
from agent.llm.types import Completion, ModelRequest
from agent.llm.wire import Endpoint

T = TypeVar("T")

EMBEDDED_TOKENS = 2048
"""Of context where embeddings are made."""
EMBEDDED_BYTES = 2000
"""Of a text whose embedding is made: no more tokens than fit, whatever it is. What comes after them does not count."""

PATIENCE_SECONDS = 3600.0
"""The server answers one request after the other, so waiting says nothing about its health."""

GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How replies are spaced: left to itself, a small model spends a third of its tokens on indentation."""

ENFORCED = CHECKED - {"pattern"}
"""What the grammar can say. A regular expression that it cannot read would switch it off without a word."""


class LocalModel:
    """A model on this machine. Its process starts with the first call, and equal models share one.

    Equal requests with equal seeds get equal replies, on the same machine.

    Args:
        name: `smollm2-135m`, a path to a .gguf file, or `hf/ORG/REPO/FILE.gguf`; see `agent.llm.weights`.
        context: Tokens of prompt and reply together that fit.
        progress: Told about a download of the weights.

    Raises:
        PrerequisiteError: The package xllamacpp is missing.
    """

    def __init__(self, name: str, *, context: int = 8192, progress: Progress | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise PrerequisiteError(
                f"local:{name} needs the package xllamacpp, which is not installed", fix="pip install 'truegain[local]'"
            )
        self.endpoint = f"local:{name}"
        self._name = name
        self._context = context
        self._progress = progress
        self._server: LlamaProcess | None = None
        self._chat: _Chat | None = None
        self._vectors: LocalModel | None = None
        self._embeds = False

    async def start(self) -> None:
        """Load the model now, rather than with the first call; fetches the weights if need be.

        Raises:
            ConfigError: The name leads to no model.
            PrerequisiteError: The weights are not here and cannot be fetched.
            ProviderError: The file cannot be loaded.
        """
        if self._server is not None and self._server.alive:
            return
        # The SDK takes as long to import as the model to load, and neither may hold up the event loop.
        server, _ = await asyncio.gather(
            _in_thread(lambda: LlamaProcess.shared(self._name, self._context, self._progress, self._embeds)),
            _in_thread(lambda: importlib.util.find_spec("openai") and importlib.import_module("openai")),
        )
        if server is not self._server:  # another call may have been faster
            before, self._server, self._chat = self._chat, server, _Chat(server)
            if before is not None:
                await before.close()

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """One reply; see `agent.llm.types.Adapter`. Cancelling frees the model for the next call.

        Raises:
            ProviderError: The prompt does not fit, or the model's process ended (retryable).
        """
        if request.embed and not self._embeds:
            return await self._embedding().complete(_cut(request), seed=seed)
        await self.start()
        assert self._server is not None and self._chat is not None
        server, chat = self._server, self._chat
        try:
            return await chat.complete(request, seed=seed)
        except ProviderError as error:
            if "exceeds the available context size" in error.message:
                raise CallFailed(
                    f"{self.endpoint}: the prompt does not fit into the model's {self._context} tokens",
                    status=error.status,
                    hint="show fewer examples or a shorter history, or use a model with more context",
                ) from error
            if error.status is None and await server.ended():
                raise CallFailed(f"{self.endpoint}: {server.obituary()}", retryable=True) from error
            raise

    async def close(self) -> None:
        """Close connections; the last user of a model ends its process."""
        chat, self._chat, self._server = self._chat, None, None
        vectors, self._vectors = self._vectors, None
        if chat is not None:
            await chat.close()
        if vectors is not None:
            await vectors.close()

    def _embedding(self) -> LocalModel:
        """The same model in a process of its own, since one that chats gives no embeddings."""
        if self._vectors is None:
            self._vectors = LocalModel(self._name, context=EMBEDDED_TOKENS, progress=self._progress)
            self._vectors._embeds = True
        return self._vectors


def _cut(request: ModelRequest) -> ModelRequest:
    def cut(text: str) -> str:
        return text.encode("utf-8", "replace")[:EMBEDDED_BYTES].decode("utf-8", "ignore")

    return replace(request, messages=tuple(replace(item, text=cut(item.text)) for item in request.messages))


class _Chat(OpenAIChat):
    """The chat protocol, with JSON replies spaced the way this server can enforce."""

    def __init__(self, server: LlamaProcess) -> None:
        import httpx2

        # No proxy of the environment, and no connection kept: it would belong to one event loop.
        self._http = httpx2.AsyncClient(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
        name = f"local:{server.name}"
        super().__init__(
            Endpoint(
                model=name,
                name=server.name,
                profile=profile(name),
                base_url=f"{server.address}/v1",
                api_key=server.token,
                timeout=PATIENCE_SECONDS,
                http_client=self._http,
            )
        )
        self._compact = server.compact

    async def close(self) -> None:
        await self._http.aclose()

    def _body(self, request: ModelRequest, seed: int | None) -> dict[str, Any]:
        body = super()._body(request, seed)
        if self._compact and request.schema is not None and not request.tools:
            grammar = compact_grammar(request.schema)
            if grammar is not None:
                body.pop("response_format", None)
                body["extra_body"] = {"grammar": grammar}
        return body


def compact_grammar(schema: Mapping[str, Any]) -> str | None:
    """A grammar (in the syntax of llguidance) for JSON that fits the schema, with no more than one space in a row.

    Returns:
        The grammar, or None when the schema says what it could not enforce; the server's own does, then.
    """
    closed = strict(schema, ENFORCED)
    if closed is None or "pattern" in _keywords(schema):
        return None
    return "%llguidance {}\nstart: %json " + json.dumps({**closed, "x-guidance": GUIDANCE})


def _keywords(schema: Any) -> set[str]:
    if isinstance(schema, list | tuple):
        return set().union(*map(_keywords, schema))
    if not isinstance(schema, Mapping):
        return set()
    return set(schema).union(*map(_keywords, schema.values()))


async def _in_thread(work: Callable[[], T]) -> T:
    """Like `asyncio.to_thread`, but an interrupted run does not wait for a download or a model that loads."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def report(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(report, result, error)

    threading.Thread(target=run, name="truegain-local-model", daemon=True).start()
    return await future
