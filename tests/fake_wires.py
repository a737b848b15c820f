"""What a fake provider does with one request, and what that looks like on each wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """What to do with one request."""

    kind: str = "reply"  # reply, error, drop, cut, overload, malformed, html, hang
    text: str = ""
    tools: tuple[tuple[str, Any], ...] = ()
    stop: str = "end"  # end, length, refusal
    input: int = 11
    cached: int = 0
    written: int = 0
    output: int = 7
    reasoning: int = 0
    thought: str = ""  # opaque reasoning that the client must hand back
    usage: bool = True
    logprobs: tuple[tuple[str, float], ...] = ()  # of the first token, for those who ask
    gap: float = 0.0  # seconds before each piece of a stream, or before the body
    status: int = 200
    error: JSON = field(default_factory=dict)
    headers: JSON = field(default_factory=dict)


def ok(text: str = "fine", **more: Any) -> Behaviour:
    return Behaviour(text=text, **more)


def structured(value: Any, **more: Any) -> Behaviour:
    return Behaviour(text=json.dumps(value), **more)


def tools(*calls: tuple[str, Any], **more: Any) -> Behaviour:
    """Tool calls in parallel: (name, arguments); arguments as text are sent as they are."""
    return Behaviour(tools=calls, **more)


def truncated(text: str, **more: Any) -> Behaviour:
    return Behaviour(text=text, stop="length", **more)


def refusal(text: str = "I will not do that.", **more: Any) -> Behaviour:
    return Behaviour(text=text, stop="refusal", **more)


def error(status: int, kind: str = "some_error", code: str | None = None, **headers: str) -> Behaviour:
    detail = {"type": kind, "code": code, "message": f"the server says {kind}"}
    return Behaviour("error", status=status, error=detail, headers={k.replace("_", "-"): v for k, v in headers.items()})


def rate_limited(*, seconds: float | str | None = None, ms: float | None = None) -> Behaviour:
    headers = {} if seconds is None else {"retry_after": str(seconds)}
    return error(429, "rate_limit_error", **headers, **({} if ms is None else {"retry_after_ms": str(ms)}))


def spend_stop() -> Behaviour:
    """Looks like a rate limit, and is not: on both wires the code alone tells."""
    found = error(429, "insufficient_quota", "insufficient_quota")
    found.error["details"] = {"error_code": "enforced_spend_limit_reached"}
    return found


def drop(when: str = "middle") -> Behaviour:
    """Break the connection, before the answer or in the middle of it (where it is billed)."""
    return Behaviour("drop", text="half of an answer", stop=when)


MALFORMED = Behaviour("malformed", text="half of an answer")
HTML = Behaviour("html")
HANG = Behaviour("hang")
CUT = Behaviour("cut", text="half of an answer")
OVERLOAD = Behaviour("overload", text="half of an answer")  # an error event inside of a stream


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _token(act: Behaviour) -> list[JSON]:
    told = [{"token": token, "bytes": list(token.encode()), "logprob": value} for token, value in act.logprobs]
    return [{**told[0], "top_logprobs": told}] if told else []


def chat(act: Behaviour) -> JSON:
    message: JSON = {"role": "assistant", "content": act.text or None}
    if act.stop == "refusal":
        message = {"role": "assistant", "content": None, "refusal": act.text}
    if act.tools:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": _text(given)}}
            for i, (name, given) in enumerate(act.tools)
        ]
    reason = "length" if act.stop == "length" else "tool_calls" if act.tools else "stop"
    choice: JSON = {"index": 0, "message": message, "finish_reason": reason}
    if act.logprobs:
        choice["logprobs"] = {"content": _token(act), "refusal": None}
    out: JSON = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-1",
        "choices": [choice],
    }
    if act.usage:
        out["usage"] = {
            "prompt_tokens": act.input,
            "completion_tokens": act.output,
            "total_tokens": act.input + act.output,
            "prompt_tokens_details": {"cached_tokens": act.cached, "cache_write_tokens": act.written},
            "completion_tokens_details": {"reasoning_tokens": act.reasoning},
        }
    return out


def embeddings(act: Behaviour, texts: list[str]) -> JSON:
    """A text's vector counts its letters; they come in any order."""
    data = [
        {"object": "embedding", "index": i, "embedding": [float(text.count(c)) for c in "abcdefghijklmnopqrstuvwxyz"]}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": act.input, "total_tokens": act.input}
    return {"object": "list", "data": data[::-1], "model": "fake-vectors", "usage": usage}


def responses(act: Behaviour) -> JSON:
    output: list[JSON] = []
    if act.thought:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": act.thought})
    if act.text:
        kind = (
            {"type": "refusal", "refusal": act.text}
            if act.stop == "refusal"
            else {"type": "output_text", "text": act.text, "logprobs": _token(act)}
        )
        output.append({"type": "message", "id": "msg_1", "role": "assistant", "content": [kind | {"annotations": []}]})
    output += [
        {"type": "function_call", "id": f"fc_{i}", "call_id": f"call_{i}", "name": name, "arguments": _text(given)}
        for i, (name, given) in enumerate(act.tools)
    ]
    out: JSON = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "fake-1",
        "status": "incomplete" if act.stop == "length" else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if act.stop == "length" else None,
        "output": output,
    }
    if act.usage:
        out["usage"] = {
            "input_tokens": act.input,
            "output_tokens": act.output,
            "total_tokens": act.input + act.output,
            "input_tokens_details": {"cached_tokens": act.cached, "cache_write_tokens": act.written},
            "output_tokens_details": {"reasoning_tokens": act.reasoning},
        }
    return out


def anthropic_events(act: Behaviour) -> list[JSON]:
    blocks: list[tuple[JSON, list[JSON]]] = []
    if act.thought:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((start, [{"type": "signature_delta", "signature": act.thought}]))
    if act.text:
        half = len(act.text) // 2
        parts = [{"type": "text_delta", "text": part} for part in (act.text[:half], act.text[half:])]
        blocks.append(({"type": "text", "text": ""}, parts))
    for i, (name, given) in enumerate(act.tools):
        start = {"type": "tool_use", "id": f"call_{i}", "name": name, "input": {}}
        blocks.append((start, [{"type": "input_json_delta", "partial_json": _text(given)}]))
    # Their input count leaves out what was read from or written to the cache.
    plain = act.input - act.cached - act.written
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": act.cached,
        "cache_creation_input_tokens": act.written,
        "output_tokens": 1,
    }
    final = {"output_tokens": act.output, "output_tokens_details": {"thinking_tokens": act.reasoning}}
    if not act.usage:
        usage, final = {"input_tokens": 0, "output_tokens": 0}, {"output_tokens": 0}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake-1", "content": [], "usage": usage}
    events: list[JSON] = [{"type": "message_start", "message": message}]
    for index, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = {"length": "max_tokens", "refusal": "refusal"}.get(act.stop, "tool_use" if act.tools else "end_turn")
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": final})
    return [*events, {"type": "message_stop"}]


def message(act: Behaviour) -> JSON:
    """What Anthropic answers without a stream, as in the results of a batch."""
    content: list[JSON] = []
    if act.thought:
        content.append({"type": "thinking", "thinking": "", "signature": act.thought})
    if act.text:
        content.append({"type": "text", "text": act.text})
    for i, (name, given) in enumerate(act.tools):
        content.append({"type": "tool_use", "id": f"call_{i}", "name": name, "input": given})
    reason = {"length": "max_tokens", "refusal": "refusal"}.get(act.stop, "tool_use" if act.tools else "end_turn")
    usage = {
        "input_tokens": act.input - act.cached - act.written,
        "cache_read_input_tokens": act.cached,
        "cache_creation_input_tokens": act.written,
        "output_tokens": act.output,
        "service_tier": "batch",
    }
    out: JSON = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake-1", "content": content}
    return {**out, "stop_reason": reason, "usage": usage}
