"""Anthropic's Message Batches: the requests go in one call, the results come as JSON lines in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.events import BatchStarted
from agent.llm.batches import Outcome, Standing, cancelled, expired
from agent.llm.failures import Malformed, failed_result, failure
from agent.llm.jsontext import loads
from agent.llm.types import Completion, ModelRequest
from agent.llm.wire import answer, count, mapping, pieces

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

SLACK = 600.0
"""Seconds by which the provider's clock and ours may differ."""
SENDING = 1800.0
"""Seconds in which a batch is sent: attempts begin for a quarter of an hour, and the last one may be a long upload."""
KINDS = ("processing", "succeeded", "errored", "canceled", "expired")


class AnthropicBatches:
    """A model behind `/v1/messages/batches`.

    Args:
        client: The SDK's.
        model: `provider:model`.
        body: Makes a request's body.
        read: Reads a message.
    """

    most = 100_000
    room = 240_000_000

    def __init__(
        self,
        client: AsyncAnthropic,
        model: str,
        body: Callable[[ModelRequest], dict[str, Any]],
        read: Callable[[Mapping[str, Any]], Completion],
    ) -> None:
        self._client = client
        self._model = model
        self._body = body
        self._read = read

    def body(self, request: ModelRequest, seed: int | None) -> dict[str, Any]:
        """See `agent.llm.batches.BatchWire`. This protocol has no seed."""
        body = self._body(request)
        return {**body, **body.pop("extra_body", {})}

    async def probe(self) -> None:
        """See `agent.llm.batches.BatchWire`."""
        try:
            await self._client.messages.batches.list(limit=1)
        except Exception as error:
            raise failure(error, self._model) from error

    async def send(self, tag: str, bodies: Mapping[str, dict[str, Any]]) -> str:
        """See `agent.llm.batches.BatchWire`. The tag is in the names of the requests."""
        requests: Any = [{"custom_id": name, "params": body} for name, body in bodies.items()]
        try:
            name = answer(await self._client.messages.batches.create(requests=requests)).get("id")
            if not isinstance(name, str) or not name:
                raise Malformed("the batch has no id")
            return name
        except Exception as error:
            raise failure(error, self._model) from error

    async def find(self, started: BatchStarted, others: frozenset[str]) -> tuple[str | None, bool]:
        """See `agent.llm.batches.BatchWire`.

        A batch has no words of ours in its description here. One of the right size that was made at about that time is
        ours or not, and the names of its results tell, as soon as it is done.
        """
        unclear = False
        try:
            async for batch in self._client.messages.batches.list(limit=100):
                data = answer(batch)
                name = str(data.get("id"))
                late = _created(data, started.created) - started.created
                if late < -SLACK:  # the newest come first
                    break
                if late > SENDING + SLACK:
                    continue
                size = sum(count(data, "request_counts", kind) for kind in KINDS)
                if name in others or size != len(started.calls):
                    continue
                if data.get("processing_status") != "ended":
                    unclear = True
                elif data.get("results_url") and await self._ours(name, started.tag):
                    return name, False
        except Exception as error:
            raise failure(error, self._model) from error
        return None, unclear

    async def _ours(self, name: str, tag: str) -> bool:
        found = False
        async for line in self.lines(name, Standing("completed")):
            try:
                found = str(mapping(loads(line.decode()), "a result").get("custom_id")).startswith(f"{tag}-")
                break
            except (ValueError, Malformed):
                continue
        return found

    async def look(self, name: str) -> Standing:
        """See `agent.llm.batches.BatchWire`."""
        try:
            data = answer(await self._client.messages.batches.retrieve(name))
            counts = data.get("request_counts")
            of = sum(count(counts, kind) for kind in KINDS)
            over = data.get("processing_status") == "ended"
            return Standing("completed" if over else "waiting", of - count(counts, "processing"), of)
        except Exception as error:
            raise failure(error, self._model) from error

    async def lines(self, name: str, standing: Standing) -> AsyncIterator[bytes]:
        """See `agent.llm.batches.BatchWire`."""
        try:
            async with self._client.messages.batches.with_streaming_response.results(name) as response:
                async for line in pieces(response.iter_bytes()):
                    yield line
        except Exception as error:
            raise failure(error, self._model) from error

    def read(self, line: Mapping[str, Any]) -> Outcome:
        """See `agent.llm.batches.BatchWire`."""
        result = mapping(line.get("result"), "the result")
        kind = result.get("type")
        if kind == "succeeded":
            return self._read(mapping(result.get("message"), "the message"))
        if kind == "expired":
            return expired(self._model)
        if kind == "canceled":
            return cancelled(self._model)
        if kind != "errored":
            raise Malformed(f"a result is {str(kind)[:40]!r}")
        outer = mapping(result.get("error"), "the error")
        inner = outer.get("error")
        return failed_result(inner if isinstance(inner, Mapping) else outer, self._model)

    async def cancel(self, name: str) -> None:
        """See `agent.llm.batches.BatchWire`."""
        try:
            await self._client.messages.batches.cancel(name)
        except Exception as error:
            raise failure(error, self._model) from error


def _created(data: Mapping[str, Any], otherwise: float) -> float:
    try:
        return datetime.fromisoformat(str(data.get("created_at"))).timestamp()
    except ValueError:
        return otherwise
