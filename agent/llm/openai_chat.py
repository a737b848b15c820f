"""OpenAI Chat Completions: what every other server speaks (llama.cpp, vLLM, Ollama, gateways)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.llm import embedding, wire
from agent.llm.failures import Malformed, failed_reply, failure
from agent.llm.schema import OPENAI, strict
from agent.llm.types import Completion, Message, ModelRequest, Stop, Usage
from agent.llm.wire import Endpoint, count, mapping, sequence

if TYPE_CHECKING:
    from agent.llm.batches import BatchWire

STOPS: dict[str, Stop] = {
    "stop": "end",
    "length": "length",
    "tool_calls": "tool",
    "function_call": "tool",
    "content_filter": "refusal",
}


class OpenAIChat:
    """A model behind `/chat/completions`.

    Raises:
        PrerequisiteError: The SDK or the key is missing.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._at = endpoint
        self._client = wire.openai_client(endpoint)
        self.profile = endpoint.profile
        self.endpoint = endpoint.shared
        self.base_url = endpoint.base_url
        self.secrets = (self._client.api_key,)

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """One reply, from one attempt; see `agent.llm.types.Adapter`."""
        wire.check(request, self._at)
        body = self._body(request, seed)
        try:
            if request.embed:
                return await embedding.answered(self._client, self._at.name, request)
            return self._read(wire.answer(await self._client.chat.completions.create(**body)))
        except Exception as error:
            raise failure(error, self._at.model) from error

    def batches(self) -> BatchWire:
        """The same model through the provider's Batch API."""
        from agent.llm.openai_batches import OpenAIBatches

        def body(request: ModelRequest, seed: int | None) -> dict[str, Any]:
            wire.check(request, self._at)
            return self._body(request, seed)

        return OpenAIBatches(self._client, self._at.model, "/v1/chat/completions", body, self._read)

    async def close(self) -> None:
        """Close the connections, unless the HTTP client was handed in."""
        if self._at.http_client is None:
            await self._client.close()

    def _body(self, request: ModelRequest, seed: int | None) -> dict[str, Any]:
        profile = self._at.profile
        system = wire.system_text(request, explain=not profile.schema)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [_message(item) for item in request.messages if item.text or item.tool_calls or item.role == "tool"]
        body: dict[str, Any] = {
            "model": self._at.name,
            "messages": messages,
            profile.limit: request.max_output_tokens,
        }
        if request.temperature is not None and profile.temperature:
            body["temperature"] = request.temperature
        if request.effort is not None and profile.effort:
            body["reasoning_effort"] = request.effort
        if seed is not None and profile.seed:
            body["seed"] = seed
        if request.logprobs:
            body["logprobs"], body["top_logprobs"] = True, request.logprobs
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
                }
                for tool in request.tools
            ]
        if request.schema is not None and profile.schema:
            closed = strict(request.schema, OPENAI)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": closed or request.schema, "strict": closed is not None},
            }
        return body

    def _read(self, reply: Mapping[str, Any]) -> Completion:
        if not reply.get("choices"):
            error = reply.get("error")
            if isinstance(error, Mapping):
                raise failed_reply(error, self._at.model)
            raise Malformed("it has no choices")
        choice = mapping(sequence(reply["choices"], "choices")[0], "the choice")
        message = mapping(choice.get("message"), "the message")
        calls = tuple(
            wire.tool_call(call.get("id"), function.get("name"), function.get("arguments"))
            for call in sequence(message.get("tool_calls"), "tool_calls")
            if (function := mapping(call.get("function"), "the function"))
        )
        stop: Stop = STOPS.get(str(choice.get("finish_reason")), "other")
        if message.get("refusal"):
            stop = "refusal"
        elif calls and stop in ("end", "other"):
            stop = "tool"  # some servers say "stop" after tool calls
        return Completion(
            text=str(message.get("content") or message.get("refusal") or ""),
            tool_calls=calls,
            stop=stop,
            usage=_usage(reply.get("usage")),
            model=str(reply.get("model") or ""),
            logprobs=_first_token(choice.get("logprobs")),
        )


def _first_token(given: Any) -> tuple[tuple[str, float], ...]:
    return wire.first_token(given.get("content")) if isinstance(given, Mapping) else ()


def _message(item: Message) -> dict[str, Any]:
    if item.role == "tool":
        return {"role": "tool", "tool_call_id": item.tool_call_id, "content": item.text}
    out: dict[str, Any] = {"role": item.role, "content": item.text}
    if item.tool_calls:
        out["content"] = item.text or None
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in item.tool_calls
        ]
    return out


def _usage(usage: Any) -> Usage:
    """Input counts include the cached ones here."""
    return Usage(
        input=count(usage, "prompt_tokens"),
        cached=count(usage, "prompt_tokens_details", "cached_tokens"),
        cache_written=count(usage, "prompt_tokens_details", "cache_write_tokens"),
        output=count(usage, "completion_tokens"),
        reasoning=count(usage, "completion_tokens_details", "reasoning_tokens"),
    )
