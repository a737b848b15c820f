"""The one door to the models: it replays, reserves, journals, limits, retries, prices and validates."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, OutputInvalid, ProviderError
from agent.events import CallEnded
from agent.llm.call import Call, Identity
from agent.llm.connect import connect as connect_by_name
from agent.llm.connect import facts
from agent.llm.failures import error_from_json
from agent.llm.limiter import Limiter
from agent.llm.prices import Prices
from agent.llm.profiles import split
from agent.llm.retry import Patience
from agent.llm.schema import Schema
from agent.llm.structured import REPAIR, Shape
from agent.llm.types import Adapter, Completion, Message, ModelRequest, Recorder
from agent.space import digest

if TYPE_CHECKING:
    from pydantic import BaseModel


class Llm:
    """The models of one run.

    A call that the recorder already has is answered from there: no network, no money, no event. Equal
    requests of one scope are told apart by counting them, so that n samples stay n, in order. A fatal
    failure of a model (credentials, spend limit) is remembered, and its later calls fail at once.

    Args:
        recorder: The journal and the ledger.
        models: `provider:model` by role.
        connect: Makes a model of its name, at its first call that is not recorded.
        prices: Dollars per million tokens by `provider:model`, before the published ones.
        seed: Of the run; what is sent as a seed follows from it, the scope, the request and its ordinal.
        patience: How long to try.
        sleep: Replaced in tests.

    Raises:
        ConfigError: A name or a price is wrong.
    """

    def __init__(
        self,
        recorder: Recorder,
        models: Mapping[str, str],
        connect: Callable[[str], Adapter] = connect_by_name,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        seed: int = 0,
        *,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        for name in models.values():
            split(name)
        self._recorder = recorder
        self._models = dict(models)
        self._connect = connect
        self._prices = Prices(prices)
        self._seed = seed
        self._patience = patience or Patience()
        self._sleep = sleep
        self._adapters: dict[str, Adapter] = {}
        self._limiters: dict[str, Limiter] = {}
        self._broken: dict[str, ProviderError] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._rng = random.Random(digest([seed, "waits"]))

    async def __aenter__(self) -> Llm:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call would open them again."""
        adapters, self._adapters = self._adapters, {}
        await asyncio.gather(*(adapter.close() for adapter in adapters.values()))

    def model(self, role: str) -> str:
        """The model of a role, as `provider:model`.

        Raises:
            ConfigError: The role has none.
        """
        try:
            return self._models[role]
        except KeyError:
            raise ConfigError(
                f"no model is set for the role {role}", hint=f'set models.{role} = "provider:model"'
            ) from None

    def check(self) -> None:
        """Find out before a run what would stop it: connect to every model, without sending anything.

        Raises:
            PrerequisiteError: A package, a key or weights are missing.
            ConfigError: A limit in dollars is set and a price is unknown.
        """
        for name in dict.fromkeys(self._models.values()):
            base_url = getattr(self._adapter(name), "base_url", None)
            if self._prices.worst(name, 1, 1, base_url=base_url) is None:
                self._recorder.ledger.check(usd=None)

    async def start(self) -> None:
        """Do now what a model would do at its first call: fetch weights, load them.

        Raises:
            PrerequisiteError: The weights are not here and cannot be fetched.
            ProviderError: They cannot be loaded.
        """
        for name in dict.fromkeys(self._models.values()):
            start = getattr(self._adapter(name), "start", None)
            if start is not None:
                await start()

    async def complete(self, request: ModelRequest, *, role: str, scope: str) -> Completion:
        """A model's reply to a request. Ask again for another sample; ask in parallel for n of them.

        A reply that was cut off or refused is returned as such: see `Completion.stop`.

        Args:
            request: What to say.
            role: Which of the models: propose, task, judge or critic.
            scope: Who asks, such as "proposal-12". Calls of one scope begin in the same order every time.

        Raises:
            BudgetExceeded: The call could pass a limit; nothing was sent.
            ConfigError: The role has no model, or a limit in dollars is set and the price is unknown.
            PrerequisiteError: A package, a key or weights are missing.
            ProviderError: The model failed; `fatal` when every further call must fail too.
        """
        return (await self._ask(request, role, scope))[0]

    async def structured(
        self, request: ModelRequest, *, role: str, scope: str, schema: Schema | type[BaseModel]
    ) -> Completion:
        """A reply that fits a schema, in `Completion.parsed`; with one turn of repair if the first does not.

        A reply that was cut off or refused is not repaired, since a second one would end the same way.
        A reply that calls tools is returned as it is, unparsed: run them and ask again.

        Args:
            request: What to say; its own schema is replaced.
            role: As for `complete`.
            scope: As for `complete`.
            schema: A JSON schema (an object), or a pydantic model.

        Raises:
            OutputInvalid: The repaired reply does not fit either. All replies are recorded and paid.
            ConfigError: The schema uses what cannot be checked, and what `complete` raises.
        """
        shape = Shape(schema)
        asked = replace(request, schema=shape.schema)
        first, mark = await self._ask(asked, role, scope)
        if first.tool_calls and first.stop == "tool":
            return first
        try:
            return replace(first, parsed=shape.read(first))
        except OutputInvalid as wrong:
            if first.stop in ("length", "refusal"):
                raise
            turns = (first.as_message(), Message("user", REPAIR.format(reason=wrong.message)))
        repaired = replace(asked, messages=(*asked.messages, *turns))
        # A scope of its own: two samples may be wrong in the same words, and which of them is repaired
        # first depends on the network.
        second, _ = await self._ask(repaired, role, f"{scope}/repair-{mark}")
        return replace(second, parsed=shape.read(second))

    async def _ask(self, request: ModelRequest, role: str, scope: str) -> tuple[Completion, str]:
        """The reply, and a mark that tells this call from all others of its scope."""
        model = self.model(role)
        key = request.key(model)
        ordinal = self._count[scope, key]
        self._count[scope, key] += 1
        mark = f"{key[:8]}-{ordinal}"
        done = self._recorder.recorded(scope, key, ordinal)
        if done is not None and _stands(done):
            if done.reply is None:
                raise error_from_json(done.error or {"message": "the call failed"})
            return Completion.from_json(done.reply), mark

        def allowed() -> None:
            if model in self._broken:
                raise _again(self._broken[model])

        allowed()
        adapter = self._adapter(model)
        profile = getattr(adapter, "profile", None) or facts(model)
        call = Call(
            self._recorder,
            adapter,
            self._limiter(getattr(adapter, "endpoint", model)),
            self._prices,
            Identity(scope, key, ordinal, role, model),
            replace(request, max_output_tokens=profile.output_limit(request.max_output_tokens)),
            seed=wire_seed(self._seed, scope, key, ordinal),
            patience=self._limited(),
            rng=self._rng,
            allowed=allowed,
            sleep=self._sleep,
        )
        try:
            return await call.run(), mark
        except ProviderError as error:
            if error.fatal:
                self._broken[model] = error
            raise

    def _adapter(self, model: str) -> Adapter:
        if model not in self._adapters:
            self._adapters[model] = self._connect(model)
        return self._adapters[model]

    def _limiter(self, endpoint: str) -> Limiter:
        return self._limiters.setdefault(endpoint, Limiter())

    def _limited(self) -> Patience:
        """Never wait beyond the end of the search."""
        left = self._recorder.ledger.left("seconds")
        return replace(self._patience, seconds=min(self._patience.seconds, max(left, 1.0)))


def wire_seed(seed: int, scope: str, key: str, ordinal: int) -> int:
    """What is sent as a call's seed: differs between samples, and is the same when the run is repeated."""
    return int(digest([seed, scope, key, ordinal], 8), 16) >> 1  # 31 bits: servers read a signed integer


def _stands(done: CallEnded) -> bool:
    """Whether a recorded end is used again: replies, and failures that a resumed run must not place anew.

    What stopped a run (credentials, a spend limit, missing weights) has been put right by whoever resumes it.
    """
    if done.reply is not None or done.error is None:
        return True
    return done.error.get("kind") == "provider" and not done.error.get("fatal", False)


def _again(error: ProviderError) -> ProviderError:
    return ProviderError(error.message, retry_after=error.retry_after, fatal=True, status=error.status, hint=error.hint)
