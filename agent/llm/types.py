"""What is said to a model and what comes back, the same for every provider. All of it is plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Protocol

from agent.events import CallEnded, Event
from agent.ledger import Ledger
from agent.space import digest

Stop = Literal["end", "length", "tool", "refusal", "other"]


_ATOMS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    """A value as plain JSON. Optional fields of a dataclass that hold nothing are left out, so that a field
    which a later version adds does not change the hash of requests that do not use it."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if is_dataclass(kind):
        out = {}
        for name, optional in _fields(kind):
            found = getattr(value, name)
            if optional and (found is None or found is False or found == "" or found == ()):
                continue
            out[name] = found if type(found) in _ATOMS else _plain(found)
        return out
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@cache
def _fields(kind: type) -> tuple[tuple[str, bool], ...]:
    """The fields of a dataclass, and whether each has a default."""
    return tuple((item.name, item.default is not MISSING) for item in fields(kind))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; `schema` is the JSON schema of its arguments (an object)."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for. `arguments` is None when they were not a JSON object; `raw` is what came."""

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str = ""

    @property
    def arguments_json(self) -> str:
        """The arguments as a JSON object; what cannot be read is not sent back, since servers refuse it."""
        return "{}" if self.arguments is None else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Args:
        role: user, assistant, or tool (the result of a tool call).
        text: The words.
        tool_calls: On an assistant turn, the calls it asked for.
        tool_call_id: On a tool turn, the call it answers.
        is_error: On a tool turn, whether the tool failed.
        carry: On an assistant turn, `Completion.carry` of that turn.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    is_error: bool = False
    carry: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Everything a reply depends on; its hash is the key under which the reply is recorded.

    Args:
        messages: The conversation; stateless, so always the whole of it.
        system: Instructions before the conversation.
        schema: JSON schema (an object) that the reply must fit, or None for free text.
        tools: Tools the model may call.
        max_output_tokens: The reply's limit, reasoning included; also the worst case the ledger reserves.
        temperature: Left out where the model does not take it.
        effort: Reasoning effort (low, medium, high), left out where the model does not take it.
        logprobs: How many of the likeliest first tokens to tell of, with their log-probabilities; at most 20.
            A model that cannot tell is a ConfigError.
        embed: Whether the texts of the messages are wanted as vectors, and nothing is said; see `agent.llm.embedding`.
    """

    messages: tuple[Message, ...]
    system: str = ""
    schema: Mapping[str, Any] | None = None
    tools: tuple[ToolSpec, ...] = ()
    max_output_tokens: int = 1024
    temperature: float | None = None
    effort: str | None = None
    logprobs: int | None = None
    embed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The request as plain JSON, without fields that hold nothing."""
        out: dict[str, Any] = _plain(self)
        return out

    def key(self, model: str) -> str:
        """Hash of the request to a model (`provider:model`)."""
        return digest({"model": model, "request": self.to_json()}, 32)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; all zero when the server did not tell.

    Args:
        input: All input, including what was read from or written to the provider's cache.
        cached: Of the input, what was read from the cache.
        cache_written: Of the input, what was written to the cache.
        output: All output, including reasoning.
        reasoning: Of the output, what was spent on reasoning.
    """

    input: int = 0
    cached: int = 0
    cache_written: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply.

    Args:
        text: What it said; for a request with a schema, the JSON text.
        tool_calls: Tools it wants called.
        stop: Why it stopped: end, length (truncated), tool, refusal, other.
        usage: Tokens.
        usd: Dollars, or None when the price is unknown.
        model: The model that the server says answered.
        seconds: Wall-clock seconds of the attempt that succeeded.
        parsed: From `Llm.structured`: the validated value.
        carry: What the provider wants back with this turn (signed reasoning), word for word.
        logprobs: The likeliest first tokens of the text, each with its natural log-probability, likeliest first;
            empty when they were not asked for, or the server did not tell.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    stop: Stop = "end"
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    model: str = ""
    seconds: float = 0.0
    parsed: Any = None
    carry: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[tuple[str, float], ...] = ()

    def as_message(self) -> Message:
        """The reply as the assistant's turn of a conversation that goes on."""
        return Message("assistant", self.text, tool_calls=self.tool_calls, carry=self.carry)

    def to_json(self) -> dict[str, Any]:
        """The reply as plain JSON; `parsed` is left out, since it is made of `text` again."""
        out: dict[str, Any] = _plain(self)
        out.pop("parsed", None)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Completion:
        """The reply that `to_json` wrote."""
        given = dict(data)
        calls = tuple(ToolCall(**call) for call in given.pop("tool_calls", ()))
        carry = tuple(given.pop("carry", ()))
        logprobs = tuple((token, value) for token, value in given.pop("logprobs", ()))
        return cls(tool_calls=calls, carry=carry, logprobs=logprobs, usage=Usage(**given.pop("usage", {})), **given)


class Adapter(Protocol):
    """A model behind one wire format.

    It may also have `profile` (what the model can do), `endpoint` (adapters with the same one share a
    concurrency limit), `base_url` (of a server other than the provider's own) and `secrets` (texts that
    must never be written down).
    """

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """One reply, from one attempt.

        Args:
            request: What to say.
            seed: Makes sampling repeatable where the server can do that.

        Raises:
            ProviderError: The attempt failed; says whether another one may succeed.
        """
        ...

    async def close(self) -> None:
        """Free connections or memory; a second call does nothing."""
        ...


class Recorder(Protocol):
    """Where calls are journalled and paid; the loop's effect runner is one, and so is a test's list.

    It may also have `withheld(scope)`: what a call of that scope must leave of the budget, by kind.
    """

    @property
    def ledger(self) -> Ledger: ...

    def next_call(self) -> int:
        """A call number that was not used before in this run."""
        ...

    async def turn(self, event: str, *key: object) -> None:
        """Return when an event with this type and key may be recorded: at once, except in a replay."""
        ...

    def record(self, event: Event) -> None:
        """Append an event and fold it into the ledger at once."""
        ...

    async def flush(self) -> None:
        """Return when everything recorded so far is durable."""
        ...

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        """The end of a call that was already paid for, or None."""
        ...
