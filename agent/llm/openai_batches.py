"""OpenAI's Batch API: a file of requests, a batch that works it off, a file of results and one of errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent.events import BatchStarted
from agent.llm.batches import Outcome, Standing, Status, cancelled, expired
from agent.llm.failures import CallFailed, Malformed, failed_result, failure, unpaid
from agent.llm.types import Completion, ModelRequest
from agent.llm.wire import answer, count, mapping, pieces, sequence

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ENDS: dict[str, Status] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
KEY = "truegain"
"""The key of our tag in a batch's metadata."""
EARLIER = 3600.0
"""Seconds by which the provider's clock may be behind ours."""
FULL = frozenset({"token_limit_exceeded", "rate_limit_exceeded", "slow_down"})
"""Why a batch is refused that may be taken later."""


class OpenAIBatches:
    """A model behind `/batches`.

    Args:
        client: The SDK's.
        model: `provider:model`.
        endpoint: What the requests are for: /v1/responses or /v1/chat/completions.
        body: Makes a request's body.
        read: Reads a reply's body.
    """

    most = 50_000
    room = 190_000_000

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        endpoint: Any,
        body: Callable[[ModelRequest, int | None], dict[str, Any]],
        read: Callable[[Mapping[str, Any]], Completion],
    ) -> None:
        self._client = client
        self._model = model
        self._endpoint = endpoint
        self._read = read
        self.body = body

    async def probe(self) -> None:
        """See `agent.llm.batches.BatchWire`."""
        try:
            await self._client.batches.list(limit=1)
        except Exception as error:
            raise failure(error, self._model) from error

    async def send(self, tag: str, bodies: Mapping[str, dict[str, Any]]) -> str:
        """See `agent.llm.batches.BatchWire`."""
        lines = (
            json.dumps({"custom_id": name, "method": "POST", "url": self._endpoint, "body": body})
            for name, body in bodies.items()
        )
        try:
            content = "\n".join(lines).encode()
            file = answer(await self._client.files.create(file=(f"{tag}.jsonl", content), purpose="batch"))
            place = _name(file)
        except Exception as error:  # a file alone costs nothing
            raise unpaid(failure(error, self._model)) from error
        try:
            batch = await self._client.batches.create(
                input_file_id=place, endpoint=self._endpoint, completion_window="24h", metadata={KEY: tag}
            )
            return _name(answer(batch))
        except Exception as error:
            raise failure(error, self._model) from error

    async def find(self, started: BatchStarted, others: frozenset[str]) -> tuple[str | None, bool]:
        """See `agent.llm.batches.BatchWire`. The tag is in the batch's metadata, so this is certain at once."""
        try:
            async for batch in self._client.batches.list(limit=100):
                data = answer(batch)
                if (data.get("metadata") or {}).get(KEY) == started.tag:
                    return _name(data), False
                if data["created_at"] < started.created - EARLIER:  # the newest come first
                    break
        except Exception as error:
            raise failure(error, self._model) from error
        return None, False

    async def look(self, name: str) -> Standing:
        """See `agent.llm.batches.BatchWire`."""
        try:
            data = answer(await self._client.batches.retrieve(name))
            status = ENDS.get(str(data.get("status")), "waiting")
            counts = data.get("request_counts")
            errors = data.get("errors")
            listed = sequence(errors.get("data"), "errors") if isinstance(errors, Mapping) else []
            return Standing(
                status,
                count(counts, "completed") + count(counts, "failed"),
                count(counts, "total"),
                tuple(str(data[key]) for key in ("output_file_id", "error_file_id") if data.get(key)),
                tuple(self._refused(mapping(item, "an error")) for item in listed),
            )
        except Exception as error:
            raise failure(error, self._model) from error

    def _refused(self, item: Mapping[str, Any]) -> tuple[int, CallFailed]:
        status = 429 if item.get("code") in FULL else 400
        return count(item, "line"), failed_result(item, self._model, status)

    async def lines(self, name: str, standing: Standing) -> AsyncIterator[bytes]:
        """See `agent.llm.batches.BatchWire`."""
        for file in standing.files:
            try:
                async with self._client.files.with_streaming_response.content(file) as response:
                    async for line in pieces(response.iter_bytes()):
                        yield line
            except Exception as error:
                raise failure(error, self._model) from error

    def read(self, line: Mapping[str, Any]) -> Outcome:
        """See `agent.llm.batches.BatchWire`."""
        error = line.get("error")
        if isinstance(error, Mapping):
            code = str(error.get("code"))
            if code in ("batch_expired", "batch_cancelled"):
                return (expired if code == "batch_expired" else cancelled)(self._model)
            return failed_result(error, self._model, 408 if code == "request_timeout" else 0)
        response = mapping(line.get("response"), "the response")
        body = mapping(response.get("body"), "the body")
        status = count(response, "status_code")
        if status != 200:
            detail = body.get("error")
            return failed_result(detail if isinstance(detail, Mapping) else body, self._model, status or 500)
        return self._read(body)

    async def cancel(self, name: str) -> None:
        """See `agent.llm.batches.BatchWire`."""
        try:
            await self._client.batches.cancel(name)
        except Exception as error:
            raise failure(error, self._model) from error


def _name(data: Mapping[str, Any]) -> str:
    name = data.get("id")
    if not isinstance(name, str) or not name:
        raise Malformed("it has no id")
    return name
