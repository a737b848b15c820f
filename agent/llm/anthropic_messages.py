"""Anthropic Messages, streamed: without a stream the SDK refuses large limits of output tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.errors import PrerequisiteError
from agent.llm.failures import Malformed, failure
from agent.llm.schema import strict
from agent.llm.types import Completion, Message, ModelRequest, Stop, ToolCall, Usage
from agent.llm.wire import (
    CONNECT_SECONDS,
    Endpoint,
    answer,
    check,
    count,
    mapping,
    sequence,
    system_text,
    tool_call,
)

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from agent.llm.batches import BatchWire

STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool",
    "refusal": "refusal",
}
THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class AnthropicMessages:
    """A model behind `/v1/messages`.

    Raises:
        PrerequisiteError: The SDK or the credentials are missing.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._at = endpoint
        self._client = _client(endpoint)
        self.profile = endpoint.profile
        self.endpoint = endpoint.shared
        self.base_url = endpoint.base_url
        self.secrets = tuple(key for key in (self._client.api_key, self._client.auth_token) if key)

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """One reply, from one attempt; see `agent.llm.types.Adapter`. This protocol has no seed."""
        check(request, self._at)
        body = self._body(request)
        try:
            async with self._client.messages.stream(**body) as stream:
                try:
                    message = await stream.get_final_message()
                except (ValueError, RuntimeError, AssertionError, LookupError) as error:
                    raise Malformed(str(error) or "the stream was empty") from error
            return self._read(answer(message))
        except Exception as error:
            raise failure(error, self._at.model) from error

    def batches(self) -> BatchWire:
        """The same model through the provider's Batch API."""
        from agent.llm.anthropic_batches import AnthropicBatches

        def body(request: ModelRequest) -> dict[str, Any]:
            check(request, self._at)
            return self._body(request)

        return AnthropicBatches(self._client, self._at.model, body, self._read)

    async def close(self) -> None:
        """Close the connections, unless the HTTP client was handed in."""
        if self._at.http_client is None:
            await self._client.close()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        profile = self._at.profile
        closed = strict(request.schema) if request.schema is not None and profile.schema else None
        body: dict[str, Any] = {
            "model": self._at.name,
            "max_tokens": request.max_output_tokens,
            "messages": _messages(request.messages),
        }
        # Where strict mode cannot say what the schema says (free keys), the prompt says it.
        system = system_text(request, explain=closed is None)
        if system:
            body["system"] = system
        output: dict[str, Any] = {}
        if closed is not None:
            output["format"] = {"type": "json_schema", "schema": closed}
        if request.effort is not None and profile.effort:
            output["effort"] = request.effort
            if profile.adaptive:
                body["thinking"] = {"type": "adaptive"}
        if output:
            body["output_config"] = output
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in request.tools
            ]
            # A loop of tool calls sends the same beginning again and again; single requests would only pay
            # the surcharge for writing to the cache.
            body["cache_control"] = {"type": "ephemeral"}
        if request.temperature is not None and profile.temperature:
            body["extra_body"] = {"temperature": request.temperature}
        return body

    def _read(self, reply: Mapping[str, Any]) -> Completion:
        reason = reply.get("stop_reason")
        if reason is None:
            raise Malformed("the stream ended before the reply did")
        stop = STOPS.get(str(reason), "other")
        texts: list[str] = []
        calls: list[ToolCall] = []
        carry: list[Mapping[str, Any]] = []
        for block in sequence(reply.get("content"), "content"):
            kind = mapping(block, "a content block").get("type")
            if kind == "text":
                texts.append(str(block.get("text") or ""))
            elif kind == "tool_use":
                calls.append(tool_call(block.get("id"), block.get("name"), json.dumps(block.get("input"))))
            elif kind in THOUGHTS:
                carry.append(block)
        if stop == "length" and calls:
            # The SDK completes JSON that was cut off; what it made up must not be taken for arguments.
            last = calls[-1]
            calls[-1] = ToolCall(last.id, last.name, None, last.raw)
        text = "".join(texts)
        if stop == "refusal" and not text:
            text = str((reply.get("stop_details") or {}).get("explanation") or "")
        return Completion(
            text=text,
            tool_calls=tuple(calls),
            stop=stop,
            usage=_usage(reply.get("usage")),
            model=str(reply.get("model") or ""),
            carry=tuple(carry),
        )


def _client(endpoint: Endpoint) -> AsyncAnthropic:
    try:
        import anthropic
    except ImportError:
        raise PrerequisiteError("the package anthropic is not installed", fix="pip install anthropic") from None
    missing = PrerequisiteError(
        f"{endpoint.model} needs a key, and ANTHROPIC_API_KEY is not set", fix="export ANTHROPIC_API_KEY=..."
    )
    try:
        client = anthropic.AsyncAnthropic(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=anthropic.Timeout(endpoint.timeout, connect=CONNECT_SECONDS),
            http_client=endpoint.http_client,
            open_telemetry=False,  # each call is traced once, by us, with its retries
        )
    except anthropic.AnthropicError as error:
        raise missing from error
    # The SDK also knows profiles on disk and identity federation, so that the variable alone says nothing.
    if not (client.api_key or client.auth_token or client.credentials):
        raise missing
    return client


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The conversation as turns of blocks; results of tools are blocks of the user's turn."""
    out: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if out and out[-1]["role"] == role:
            out[-1]["content"] += blocks
        elif blocks:
            out.append({"role": role, "content": blocks})
    return out


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}
        return [result | {"is_error": True} if message.is_error else result]
    if not message.text and not message.tool_calls:
        return []  # a turn may not be empty, nor consist of thoughts alone
    blocks = [dict(item) for item in message.carry if item.get("type") in THOUGHTS]
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments or {})}
        for call in message.tool_calls
    ]
    return blocks


def _usage(usage: Any) -> Usage:
    """Input counts exclude what was read from or written to the cache here, so that they are added."""
    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    return Usage(
        input=count(usage, "input_tokens") + cached + written,
        cached=cached,
        cache_written=written,
        output=count(usage, "output_tokens"),
        reasoning=count(usage, "output_tokens_details", "thinking_tokens"),
    )
