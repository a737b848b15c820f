"""How a user's function asks models: `ask("…")`, awaited in an async function and plain in a sync one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from agent.evaluation import Ask

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

Said = str | Sequence[Mapping[str, str]]
"""A prompt, or the turns of a conversation as OpenAI writes them: {"role": "user", "content": "…"}."""

MAX_OUTPUT_TOKENS = 1024


def request(
    prompt: Said,
    system: str = "",
    max_output_tokens: int = MAX_OUTPUT_TOKENS,
    temperature: float | None = 0.0,
    schema: Mapping[str, Any] | None = None,
) -> ModelRequest:
    """What a function said, as a request.

    Raises:
        ValueError: It is neither a text nor a list of turns.
    """
    from agent.llm.types import Message, ModelRequest

    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if not turns or not all(isinstance(turn, Mapping) and {"role", "content"} <= set(turn) for turn in turns):
        raise ValueError('ask() takes a text, or a list of {"role": "user", "content": "…"}')
    before = [turn["content"] for turn in turns if turn["role"] == "system"]
    return ModelRequest(
        messages=tuple(Message(t["role"], t["content"]) for t in turns if t["role"] != "system"),  # type: ignore[arg-type]
        system="\n\n".join([*([system] if system else []), *before]),
        schema=schema,
        max_output_tokens=max_output_tokens,
        temperature=temperature,
    )


def _read(reply: Completion, schema: Mapping[str, Any] | None) -> Any:
    return reply.text if schema is None else reply.parsed


def awaited(ask: Ask) -> Callable[..., Awaitable[Any]]:
    """For async functions: `await ask(prompt, role="task", system="", …)` gives the text, or what fits the schema."""

    async def asking(prompt: Said, *, role: str = "task", **given: Any) -> Any:
        return _read(await ask(request(prompt, **given), role), given.get("schema"))

    return asking


def plain(ask: Ask) -> Callable[..., Any]:
    """For sync functions, which run in a thread: the same without `await`."""

    def asking(prompt: Said, *, role: str = "task", **given: Any) -> Any:
        asked = request(prompt, **given)
        return _read(_there(ask, asked, role).result(), given.get("schema"))

    return asking


def across(ask: Ask) -> Ask:
    """The run's `ask` for another event loop, that of a thread."""

    async def asking(asked: Any, role: str) -> Any:
        return await asyncio.wrap_future(_there(ask, asked, role))

    return asking


class Heard:
    """An `ask` that remembers what was said with it, for a judge that is to see the prompt.

    Args:
        ask: The run's.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.loop = getattr(ask, "loop", None)
        self.said: list[str] = []

    async def __call__(self, request: ModelRequest, role: str) -> Completion:
        self.said.append(shown(request))
        reply: Completion = await self._ask(request, role)
        return reply


def shown(request: ModelRequest) -> str:
    """A request as a judge reads it: the system prompt, then the turns."""
    return "\n\n".join([*([request.system] if request.system else []), *(turn.text for turn in request.messages)])


def _there(ask: Ask, asked: Any, role: str) -> Future[Any]:
    async def one() -> Any:
        return await ask(asked, role)

    loop: asyncio.AbstractEventLoop = ask.loop  # type: ignore[attr-defined]
    return asyncio.run_coroutine_threadsafe(one(), loop)
