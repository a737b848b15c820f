"""OpenAI Responses: the provider's own protocol, spoken statelessly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.llm import embedding, wire
from agent.llm.failures import Malformed, failed_reply, failure
from agent.llm.schema import OPENAI, strict
from agent.llm.types import Completion, Message, ModelRequest, Stop, ToolCall, Usage
from agent.llm.wire import Endpoint, count, mapping, sequence

if TYPE_CHECKING:
    from agent.llm.batches import BatchWire

INCOMPLETE: dict[str, Stop] = {"max_output_tokens": "length", "content_filter": "refusal"}


class OpenAIResponses:
    """A model behind `/responses`.

    Nothing is stored at the provider: the whole conversation is sent each time, so that the journal
    alone is enough to see, repeat and resume it.

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
        """One reply, from one attempt; see `agent.llm.types.Adapter`. This protocol has no seed."""
        wire.check(request, self._at)
        body = self._body(request)
        try:
            if request.embed:
                return await embedding.answered(self._client, self._at.name, request)
            return self._read(wire.answer(await self._client.responses.create(**body)))
        except Exception as error:
            raise failure(error, self._at.model) from error

    def batches(self) -> BatchWire:
        """The same model through the provider's Batch API."""
        from agent.llm.openai_batches import OpenAIBatches

        def body(request: ModelRequest, seed: int | None) -> dict[str, Any]:
            wire.check(request, self._at)
            return self._body(request)

        return OpenAIBatches(self._client, self._at.model, "/v1/responses", body, self._read)

    async def close(self) -> None:
        """Close the connections, unless the HTTP client was handed in."""
        if self._at.http_client is None:
            await self._client.close()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        profile = self._at.profile
        body: dict[str, Any] = {
            "model": self._at.name,
            "input": [item for message in request.messages for item in _items(message)],
            "max_output_tokens": request.max_output_tokens,
            "store": False,
        }
        system = wire.system_text(request, explain=not profile.schema)
        if system:
            body["instructions"] = system
        if request.temperature is not None and profile.temperature:
            body["temperature"] = request.temperature
        if request.effort is not None and profile.effort:
            body["reasoning"] = {"effort": request.effort}
        if request.tools:
            body["parallel_tool_calls"] = True
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema,
                    "strict": False,  # it is on by default here, and our tools have optional arguments
                }
                for tool in request.tools
            ]
            if profile.effort:
                # Without its reasoning back, the model would start to think anew after each tool.
                body["include"] = ["reasoning.encrypted_content"]
        if request.logprobs:
            body["include"] = [*body.get("include", ()), "message.output_text.logprobs"]
            body["top_logprobs"] = request.logprobs
        if request.schema is not None and profile.schema:
            closed = strict(request.schema, OPENAI)
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": "reply",
                    "schema": closed or request.schema,
                    "strict": closed is not None,
                }
            }
        return body

    def _read(self, reply: Mapping[str, Any]) -> Completion:
        status = reply.get("status")
        if status in ("failed", "cancelled") or (reply.get("error") and not reply.get("output")):
            raise failed_reply(mapping(reply.get("error") or {}, "the error"), self._at.model)
        if "output" not in reply:
            raise Malformed("it has no output")
        texts: list[str] = []
        refusals: list[str] = []
        calls: list[ToolCall] = []
        carry: list[Mapping[str, Any]] = []
        logprobs: tuple[tuple[str, float], ...] = ()
        for item in sequence(reply["output"], "output"):
            kind = mapping(item, "an output item").get("type")
            if kind == "message":
                for part in sequence(item.get("content"), "content"):
                    target = refusals if part.get("type") == "refusal" else texts
                    target.append(str(part.get("refusal") or part.get("text") or ""))
                    logprobs = logprobs or wire.first_token(part.get("logprobs"))
            elif kind == "function_call":
                calls.append(wire.tool_call(item.get("call_id"), item.get("name"), item.get("arguments")))
            elif kind == "reasoning" and item.get("encrypted_content"):
                # Without the id: the server would look it up, and nothing is stored there.
                carry.append(
                    {"type": kind, "summary": item.get("summary") or [], "encrypted_content": item["encrypted_content"]}
                )
        return Completion(
            text="".join(texts or refusals),
            tool_calls=tuple(calls),
            stop=_stop(reply, refused=bool(refusals), called=bool(calls)),
            usage=_usage(reply.get("usage")),
            model=str(reply.get("model") or ""),
            carry=tuple(carry),
            logprobs=logprobs,
        )


def _stop(reply: Mapping[str, Any], *, refused: bool, called: bool) -> Stop:
    if reply.get("status") == "incomplete":
        return INCOMPLETE.get(str((reply.get("incomplete_details") or {}).get("reason")), "other")
    if refused:
        return "refusal"
    return "tool" if called else "end"


def _items(message: Message) -> list[dict[str, Any]]:
    """A turn as input items; calls and their results are items of their own here."""
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
    if not message.text and not message.tool_calls:
        return []  # reasoning must be followed by what it led to
    items = [dict(item) for item in message.carry if item.get("type") == "reasoning"]
    if message.text:
        items.append({"role": message.role, "content": message.text})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments_json}
        for call in message.tool_calls
    ]
    return items


def _usage(usage: Any) -> Usage:
    """Input counts include the cached ones here."""
    return Usage(
        input=count(usage, "input_tokens"),
        cached=count(usage, "input_tokens_details", "cached_tokens"),
        cache_written=count(usage, "input_tokens_details", "cache_write_tokens"),
        output=count(usage, "output_tokens"),
        reasoning=count(usage, "output_tokens_details", "reasoning_tokens"),
    )
