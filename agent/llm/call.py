"""One paid call: reserve the worst case, attempt, and settle for what it was.

The order is what keeps limits and journal honest: nothing is sent before its reservation is on the
disk, and whatever comes of it, good or bad, is recorded with what it cost. Only a cancelled call
records nothing more: nobody knows what it cost, so that its reservation stays counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, BudgetExceeded, ProviderError
from agent.events import CallEnded, CallRefused, CallRetried, CallStarted
from agent.llm.estimate import input_bound
from agent.llm.failures import BatchWaits, CallFailed, error_json, failure
from agent.llm.jsontext import sound
from agent.llm.limiter import Limiter
from agent.llm.prices import Prices
from agent.llm.retry import Patience, with_retries
from agent.llm.types import Adapter, Completion, ModelRequest, Recorder, Usage

if TYPE_CHECKING:
    from agent.llm.bulk import Bulk


@dataclass(frozen=True, slots=True)
class Identity:
    """What a call is found by again: who asks (scope), for what (key), and which of the equal ones it is (ordinal)."""

    scope: str
    key: str
    ordinal: int
    role: str
    model: str


class Call:
    """A call of one model.

    Args:
        recorder: The journal and the ledger.
        adapter: The model.
        limiter: Of the model's endpoint.
        prices: For the reservation and the bill.
        identity: Under which it is recorded.
        request: What is sent.
        seed: For a wire that has one.
        patience: For the attempts.
        rng: For the waits between them.
        allowed: Asked before each attempt; raises when the model failed for good in the meantime.
        sleep: Replaced in tests.
        bulk: The model's batches, for a call that can wait.
        begun: The start of this call in an earlier process, which had sent it in a batch or was about to.
    """

    def __init__(
        self,
        recorder: Recorder,
        adapter: Adapter,
        limiter: Limiter,
        prices: Prices,
        identity: Identity,
        request: ModelRequest,
        *,
        seed: int,
        patience: Patience,
        rng: random.Random,
        allowed: Callable[[], None],
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        bulk: Bulk | None = None,
        begun: CallStarted | None = None,
    ) -> None:
        self._recorder = recorder
        self._adapter = adapter
        self._limiter = limiter
        self._prices = prices
        self._identity = identity
        self._request = request
        self._seed = seed
        self._patience = patience
        self._rng = rng
        self._allowed = allowed
        self._sleep = sleep
        self._base_url: str | None = getattr(adapter, "base_url", None)
        self._secrets: tuple[str, ...] = getattr(adapter, "secrets", ())
        self._bulk = bulk
        self._begun = begun
        if begun is not None:
            self._tokens, self._usd = begun.reserved["tokens"], begun.reserved.get("usd")
        else:
            heard = input_bound(request)
            self._tokens = heard + request.max_output_tokens
            self._usd = prices.worst(
                identity.model, heard, request.max_output_tokens, base_url=self._base_url, batch=bulk is not None
            )
        self._number = begun.id if begun is not None else 0
        self._doubtful = recorder.ledger.doubtful(self._number)  # attempts that broke off after they were sent
        self._began = 0.0

    async def run(self) -> Completion:
        """Pay for the call and return its reply, as it is recorded: without keys and credentials.

        Raises:
            BudgetExceeded: The worst case could pass a limit; nothing was sent.
            ConfigError: A limit in dollars is set and the price is unknown; nothing was sent.
            ProviderError: All attempts failed.
            BatchWaits: The reply of a batch cannot be had now. The call stays open.
        """
        if self._begun is None:  # what is reserved for a call that was cut off stays counted
            await self._reserve()
        self._began = time.monotonic()
        try:
            reply = await with_retries(
                self._attempt, rng=self._rng, on_retry=self._retried, patience=self._patience, sleep=self._sleep
            )
        except BatchWaits:
            raise
        except AgentError as error:
            await self._turn()
            self._failed(error)
            raise
        except Exception as error:
            found = failure(error, self._identity.model)
            self._doubtful += 1  # an adapter that breaks its promise may have sent something
            await self._turn()
            self._failed(found)
            raise found from error
        await self._turn()
        return self._succeeded(reply)

    async def _turn(self) -> None:
        await self._recorder.turn("call.ended", self._number)

    async def _reserve(self) -> None:
        reserved: dict[str, Any] = {"calls": 1, "tokens": self._tokens}
        if self._usd is not None:
            reserved["usd"] = self._usd
        who = self._identity
        await self._recorder.turn("call.started", who.scope, who.key, who.ordinal)
        # No await between check and record: calls in parallel see each other's reservations.
        try:
            self._recorder.ledger.check(**self._wanted())
        except BudgetExceeded as error:
            # In the journal because it depends on the moment: what else was reserved just then.
            self._recorder.record(CallRefused(who.scope, who.key, who.ordinal, error.message))
            raise
        self._number = self._recorder.next_call()
        self._recorder.record(
            CallStarted(
                id=self._number,
                scope=who.scope,
                key=who.key,
                ordinal=who.ordinal,
                role=who.role,
                model=who.model,
                reserved=reserved,
                request=self._clean(self._request.to_json()),
                batch=self._bulk is not None,
            )
        )
        await self._recorder.flush()

    def _wanted(self) -> dict[str, float | None]:
        """The worst case, with what must be left for others after it."""
        worst: dict[str, float | None] = {"calls": 1, "tokens": self._tokens, "usd": self._usd}
        withheld = getattr(self._recorder, "withheld", None)
        for kind, amount in (withheld(self._identity.scope) if withheld is not None else {}).items():
            own = worst[kind]
            worst[kind] = None if own is None else own + amount
        return worst

    async def _attempt(self) -> Completion:
        try:
            if self._bulk is not None:
                began = time.monotonic()
                reply = await self._bulk.reply(self._number, self._request, self._seed)
            else:
                async with self._limiter.slot():
                    self._allowed()
                    if self._doubtful:  # known to the next process too, before more is spent
                        await self._recorder.flush()
                    began = time.monotonic()
                    try:
                        # The adapter's own limit is on silence; a stream that trickles for ever is never silent.
                        async with asyncio.timeout(self._patience.attempt):
                            reply = await self._adapter.complete(self._request, seed=self._seed)
                    except TimeoutError as error:
                        raise failure(error, self._identity.model) from error
        except ProviderError as error:
            if getattr(error, "ambiguous", False):
                self._doubtful += 1
                if error.retryable and not self._room():
                    raise _no_room(error) from error
            raise
        return replace(reply, seconds=round(time.monotonic() - began, 6))

    def _room(self) -> bool:
        """Whether one more attempt fits the limits, given that the last one may be billed in full."""
        try:
            self._recorder.ledger.hold(self._number, tokens=self._tokens, usd=self._usd)
        except BudgetExceeded:
            return False
        return True

    def _retried(self, attempt: int, error: ProviderError, wait: float) -> None:
        doubtful = bool(getattr(error, "ambiguous", False))
        self._recorder.record(CallRetried(self._number, attempt, self._clean(error.message), round(wait, 3), doubtful))

    def _succeeded(self, reply: Completion) -> Completion:
        known = reply.usage.input > 0 or reply.usage.output > 0
        usd = self._prices.usd(self._identity.model, reply.usage, base_url=self._base_url, batch=self._bulk is not None)
        reply = replace(reply, usd=usd if known or self._usd == 0 else None)
        try:
            written = reply.to_json()
            clean = self._clean(written)
        except Exception as error:  # nothing that a reply holds may leave its call open, which was billed
            found = failure(error, self._identity.model)
            self._end(None, self._clean(error_json(found)), self._spent(reply.usage, usd, unknown=not known))
            raise found from error
        if clean != written:
            clean.pop("carry", None)  # signed reasoning is refused by its provider when the turn around it has changed
        self._end(clean, None, self._spent(reply.usage, usd, unknown=not known))
        # What was recorded is what the caller sees, so that a replay cannot differ from the first time.
        return Completion.from_json(clean)

    def _failed(self, error: AgentError) -> None:
        priced = self._usd is not None or not self._doubtful  # what was not billed cost nothing at any price
        self._end(None, self._clean(error_json(error)), self._spent(Usage(), 0.0 if priced else None))

    def _end(self, reply: Any, error: Any, spent: dict[str, Any]) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        self._recorder.record(CallEnded(self._number, reply, error, spent, seconds))

    def _spent(self, usage: Usage, usd: float | None, *, unknown: bool = False) -> dict[str, Any]:
        """What is settled. Attempts that broke off, and a reply without a count, stay counted at their worst."""
        spent: dict[str, Any] = {"input": usage.input, "cached": usage.cached, "output": usage.output}
        if usd is not None:
            spent["usd"] = usd
        times = self._doubtful + unknown
        if times:
            spent["possibly_tokens"] = times * self._tokens
            if self._usd is not None:
                spent["possibly_usd"] = times * self._usd
        return spent

    def _clean(self, value: Any) -> Any:
        from agent.redact import redact

        return redact(sound(value), extra_secrets=self._secrets)


def _no_room(error: ProviderError) -> CallFailed:
    return CallFailed(
        f"{error.message}; it may have been billed, and the budget has no room for another attempt",
        retry_after=error.retry_after,
        status=error.status,
        ambiguous=True,
        hint=error.hint,
    )
