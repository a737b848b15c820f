"""The one door to the models: it replays, reserves, journals, limits, retries, prices and validates."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, BudgetExceeded, ConfigError, OutputInvalid, ProviderError
from agent.events import CallEnded, CallStarted
from agent.llm.bulk import AGAIN, WINDOW, Bulk
from agent.llm.call import Call, Identity
from agent.llm.connect import connect as connect_by_name
from agent.llm.connect import facts
from agent.llm.embedding import refused
from agent.llm.failures import BatchWaits, error_from_json
from agent.llm.limiter import Limiter
from agent.llm.prices import Prices
from agent.llm.profiles import Profile, split
from agent.llm.retry import Patience
from agent.llm.schema import Schema
from agent.llm.structured import REPAIR, Shape
from agent.llm.types import Adapter, Completion, Message, ModelRequest, Recorder
from agent.space import digest
from agent.together import together

if TYPE_CHECKING:
    from pydantic import BaseModel

ROLES = ("propose", "task", "judge", "critic", "embed")
"""As in `agent.settings`, which stands above this module."""


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
        batch: Roles whose calls go through the provider's Batch API, for half the price and within a day.
        window: Seconds without another such call after which the gathered ones are sent.
        told: Given a sentence on how far a batch is, when that has changed.

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
        batch: Collection[str] = (),
        window: float | None = None,
        told: Callable[[str], None] | None = None,
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
        self._profiles: dict[str, Profile] = {}
        self._broken: dict[str, ProviderError] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._rng = random.Random(digest([seed, "waits"]))
        self._batch = frozenset(batch)
        self._window = WINDOW if window is None else window
        self._told = told
        self._bulks: dict[str, Bulk] = {}
        self._lost: dict[tuple[str, str, int], CallStarted] | None = None

    async def __aenter__(self) -> Llm:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call would open them again."""
        bulks, self._bulks = self._bulks, {}
        await asyncio.gather(*(bulk.close() for bulk in bulks.values()))
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
            known = f'set models.{role} = "provider:model"' if role in ROLES else f"the roles are {', '.join(ROLES)}"
            raise ConfigError(f"no model is set for the role {role}", hint=known) from None

    def check(self) -> None:
        """Find out before a run what would stop it: connect to every model, without sending anything.

        Raises:
            PrerequisiteError: A package, a key or weights are missing.
            ConfigError: A limit in dollars is set and a price is unknown, or a role's calls are to go through a
                Batch API and its model has none.
        """
        for name in dict.fromkeys(self._models.values()):
            base_url = getattr(self._adapter(name), "base_url", None)
            if self._prices.worst(name, 1, 1, base_url=base_url) is None:
                self._recorder.ledger.check(usd=None)
        for role in self._batch:
            self._bulk(self.model(role))

    async def start(self) -> None:
        """Do now what a model would do at its first call: fetch weights, load them.

        Raises:
            PrerequisiteError: The weights are not here and cannot be fetched.
            ProviderError: They cannot be loaded.
            ConfigError: A role's calls are to go through a Batch API and the server has none.
        """
        for name in {self.model(role) for role in self._batch}:
            if getattr(self._adapter(name), "base_url", None) is not None:
                await self._probe(name)
            self._bulk(name).call_off()
        for name in dict.fromkeys(self._models.values()):
            start = getattr(self._adapter(name), "start", None)
            if start is not None:
                await start()

    @property
    def batched(self) -> bool:
        """Whether calls of any role go through a Batch API, and so may take a day."""
        return bool(self._batch)

    def give_up(self) -> None:
        """End all calls that wait for a batch: nobody needs their replies any more."""
        for bulk in self._bulks.values():
            bulk.give_up()

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

    async def reply(self, request: ModelRequest, *, role: str, scope: str) -> Completion:
        """As `complete`; a request that has a schema is answered as by `structured`."""
        if request.schema is None:
            return await self.complete(request, role=role, scope=scope)
        return await self.structured(request, role=role, scope=scope, schema=request.schema)

    async def complete_all(
        self,
        requests: Sequence[ModelRequest],
        *,
        role: str,
        scope: str,
        schema: Schema | type[BaseModel] | None = None,
    ) -> list[Completion | AgentError]:
        """The replies to many requests, such as one for each candidate of a population; in their order.

        With batch mode they are one batch, as far as the provider takes so many; without it as many are under way
        at once as the server likes.

        Args:
            requests: What to say.
            role: As for `complete`.
            scope: As for `complete`.
            schema: As for `structured`; None for replies that are taken as they are.

        Returns:
            For each request its reply, or the error that it ended with: BudgetExceeded, ProviderError, OutputInvalid.

        Raises:
            ConfigError, PrerequisiteError, StoreError: What every request would end with.
            BatchWaits: Replies cannot be had now, and can be later: go on with the run then.
        """

        async def one(request: ModelRequest) -> Completion | AgentError:
            try:
                if schema is None:
                    return await self.complete(request, role=role, scope=scope)
                return await self.structured(request, role=role, scope=scope, schema=schema)
            except BatchWaits:
                raise
            except (BudgetExceeded, ProviderError, OutputInvalid) as error:
                return error

        return await together(map(one, requests))

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

        if request.embed and not (known := facts(model)).embeddings and (role != "embed" or known.wire == "messages"):
            raise refused(model)

        self._allow(model)
        begun = self._begun(scope, key, ordinal)
        adapter = self._adapter(model)
        profile = getattr(adapter, "profile", None) or self._profile(model)
        bulk = self._bulk(model) if role in self._batch else None
        most = profile.output_limit(request.max_output_tokens)
        call = Call(
            self._recorder,
            adapter,
            self._limiter(getattr(adapter, "endpoint", model)),
            self._prices,
            Identity(scope, key, ordinal, role, model),
            request if most == request.max_output_tokens else replace(request, max_output_tokens=most),
            seed=wire_seed(self._seed, scope, key, ordinal),
            patience=self._limited() if bulk is None else Patience(attempts=AGAIN, seconds=math.inf),
            rng=self._rng,
            allowed=partial(self._allow, model),
            sleep=self._sleep,
            bulk=bulk,
            begun=begun,
        )
        try:
            return await call.run(), mark
        except ProviderError as error:
            if error.fatal:
                self._broken[model] = error
            raise

    def _allow(self, model: str) -> None:
        if model in self._broken:
            raise _again(self._broken[model])

    def _adapter(self, model: str) -> Adapter:
        if model not in self._adapters:
            self._adapters[model] = self._connect(model)
        return self._adapters[model]

    def _profile(self, model: str) -> Profile:
        if model not in self._profiles:
            self._profiles[model] = facts(model)
        return self._profiles[model]

    def _begun(self, scope: str, key: str, ordinal: int) -> CallStarted | None:
        """A call of an earlier process that may be in a batch; every one of those goes on under its own number."""
        if self._lost is None:  # not before the first call: when this is made, nothing is folded yet
            lost = self._recorder.ledger.lost_calls.values()
            self._lost = {(call.scope, call.key, call.ordinal): call for call in lost if call.batch}
        return self._lost.get((scope, key, ordinal))

    def _bulk(self, model: str) -> Bulk:
        if model not in self._bulks:
            wire = getattr(self._adapter(model), "batches", None)
            if wire is None:
                raise no_batches(model)
            self._bulks[model] = Bulk(
                self._recorder,
                model,
                wire(),
                rng=self._rng,
                patience=self._patience,
                allowed=partial(self._allow, model),
                sleep=self._sleep,
                window=self._window,
                told=self._told,
            )
        return self._bulks[model]

    async def _probe(self, model: str) -> None:
        """Whether another server than the provider's own has the endpoints of its Batch API."""
        try:
            await self._bulk(model).probe()
        except ProviderError as error:
            if error.status in ABSENT:
                raise no_batches(model, str(getattr(self._adapter(model), "base_url", ""))) from error
            raise

    def _limiter(self, endpoint: str) -> Limiter:
        return self._limiters.setdefault(endpoint, Limiter())

    def _limited(self) -> Patience:
        """Never wait beyond the end of the search."""
        left = max(self._recorder.ledger.left("seconds"), 1.0)
        return self._patience if left >= self._patience.seconds else replace(self._patience, seconds=left)


ABSENT = frozenset({400, 404, 405, 501})
"""What a server answers that has no Batch API."""


def no_batches(model: str, server: str = "") -> ConfigError:
    """What is said where a model cannot be asked in batches."""
    where = f"the server {server}" if server else model
    return ConfigError(
        f"models.batch: {where} has no Batch API",
        hint="leave models.batch out, or name a model of OpenAI or Anthropic, such as anthropic:MODEL",
    )


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
