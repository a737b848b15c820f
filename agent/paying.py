"""How an evaluator's calls of models are paid: by a run, or by a command that measures outside of one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import BudgetExceeded, ConfigError, PrerequisiteError, ProviderError
from agent.evaluation import Executor, Output, Request
from agent.events import CallEnded, CallStarted, Event
from agent.folds.asks import NOISE
from agent.ledger import Budget, Ledger, plural
from agent.space import digest

if TYPE_CHECKING:
    from agent.llm.gateway import Llm
    from agent.llm.types import Completion, ModelRequest
    from agent.problem import Example
    from agent.session import Session


class Asker:
    """The models as an evaluator asks them (see `agent.evaluation.Ask`); all its calls are of one scope.

    Args:
        llm: The door to the models; None where there are none.
        scope: Under which the calls are recorded.
    """

    def __init__(self, llm: Llm | None, scope: str) -> None:
        self.llm, self.scope = llm, scope
        self.loop = asyncio.get_running_loop()
        """Where it may be called; threads come here."""
        self.over: BudgetExceeded | ProviderError | PrerequisiteError | None = None
        """Why no model can be asked any more, whatever the evaluator made of that."""

    async def __call__(self, request: ModelRequest, role: str) -> Completion:
        """A model's reply.

        Raises:
            BudgetExceeded, ProviderError, PrerequisiteError, ConfigError, OutputInvalid: As the gateway does.
        """
        if self.llm is None:
            raise ConfigError("this run has no model to ask", hint=f'set models.{role} = "provider:model"')
        try:
            return await self.llm.reply(request, role=role, scope=self.scope)
        except (BudgetExceeded, PrerequisiteError) as error:
            self.over = error
            raise
        except ProviderError as error:
            if error.fatal:
                self.over = error
            raise


class Till:
    """What a command spends on models outside of a run: a ledger in memory, and nothing to resume.

    Args:
        budget: The limits on calls, tokens and dollars.
    """

    def __init__(self, budget: Budget) -> None:
        self.ledger = Ledger(Budget(calls=budget.calls, tokens=budget.tokens, usd=budget.usd))
        self.usd: dict[str, float] = {}
        """Dollars by scope, where the price is known."""
        self._scopes: dict[int, str] = {}
        self._calls = 0

    def next_call(self) -> int:
        self._calls += 1
        return self._calls

    async def turn(self, event: str, *key: object) -> None:
        return None

    async def flush(self) -> None:
        return None

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        return None

    def record(self, event: Event) -> None:
        self.ledger.apply(event)
        if isinstance(event, CallStarted):
            self._scopes[event.id] = event.scope
        elif isinstance(event, CallEnded):
            scope = self._scopes[event.id]
            self.usd[scope] = self.usd.get(scope, 0.0) + event.spent.get("usd", 0.0)

    @property
    def words(self) -> str:
        """What was spent, such as "8 model calls, 310 tokens, $0.0002"; "" when no model was asked."""
        spent = self.ledger.to_json()
        if not spent["calls"]:
            return ""
        tokens = spent["tokens"]["input"] + spent["tokens"]["output"]
        usd = spent["usd"]
        price = "price unknown" if usd is None else f"${usd:.4f}" if usd else "$0"
        return f"{plural(spent['calls'], 'model call')}, {tokens:,} tokens, {price}"


class Measuring:
    """An executor for measurements outside of a run. Where the evaluator asks models, that is paid here.

    Args:
        session: With the problem.
        inner: Where the evaluations run.
        llm: The door to the models, whose recorder is `till`; None where the evaluator asks none.
        till: Where the calls are counted.
    """

    def __init__(self, session: Session, inner: Executor, llm: Llm | None, till: Till) -> None:
        self.till = till
        self._problem, self._seed = session.problem, session.seed
        self._inner, self._llm, self._count = inner, llm, 0

    async def submit(self, request: Request) -> Output:
        """As `Executor.submit`; the output's dollars hold the calls.

        Raises:
            BudgetExceeded, ProviderError, PrerequisiteError: No model can be asked any more. Nothing is said of the
                candidate by that.
        """
        if self._llm is None:
            return await self._inner.submit(request)
        self._count += 1
        asker = Asker(self._llm, f"measuring-{self._count}")
        output = await self._inner.submit(request, ask=asker)  # type: ignore[call-arg]
        if asker.over is not None:
            raise asker.over
        return replace(output, usd=output.usd + self.till.usd.get(asker.scope, 0.0))

    async def initial(self, row: Example | None, replicate: int, what: str) -> Output:
        """The initial candidate, measured. As in a run, an evaluator that compares gets another stage from the second
        replicate on, in which the candidate is compared with what it gave first.

        Args:
            row: Of train; None without rows.
            replicate: From 0.
            what: Tells the seeds of different purposes apart.
        """
        problem = self._problem
        name = row.id if row is not None else None
        staged = hasattr(problem.evaluator, "stage_for")  # it has stages of its own
        request = Request(
            problem.initial(),
            example=name,
            row=row.row if row is not None else None,
            seed=int(digest([self._seed, name, f"{what} {replicate}"], 8), 16),
            replicate=replicate,
            stage="full" if staged or not replicate else NOISE,
            limits=problem.limits,
        )
        return await self.submit(request)


@contextlib.asynccontextmanager
async def measuring(session: Session, usd: float | None = None) -> AsyncIterator[Measuring]:
    """Where evaluations outside of a run are made; the models are connected to before the first one.

    An executor that the session was given is left open. The Batch API is not used: somebody waits.

    Args:
        session: With the problem, the models, and the limits on calls, tokens and dollars.
        usd: Another limit in dollars.

    Raises:
        ConfigError, PrerequisiteError, ProviderError: A model is missing, or cannot be had.
    """
    evaluator = session.problem.evaluator
    limits = [limit for limit in (session.budget.usd, usd) if limit is not None]
    till = Till(replace(session.budget, usd=min(limits, default=None)))
    executor = session.make_executor(session.settings)
    llm: Llm | None = None
    try:
        if getattr(evaluator, "uses", ()):
            settings = replace(session.settings, batch=False)
            llm = session.models(settings, session.seed, spoken=False)(till)
            llm.check()
            await llm.start()
            test = getattr(evaluator, "self_test", None)
            if test is not None:
                await test(Asker(llm, "measuring-0"))
        yield Measuring(session, executor, llm, till)
    finally:
        if session.executor is None:
            await executor.close()
        if llm is not None:
            await llm.close()
