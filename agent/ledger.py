"""All spend of a run, in one place: evaluations, model calls, tokens, dollars, seconds.

The ledger is a fold over the journal. A spend is first reserved at its worst case (an event ending
in `Started`), then settled at what it was; what was reserved and never settled stays counted, as
*possibly spent*, so a limit holds even across a crash. The same goes for an attempt of a call that
broke off after it was sent: the provider may have billed it, and nobody can tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.errors import BudgetExceeded, ConfigError
from agent.events import (
    BatchEnded,
    BatchStarted,
    BatchSubmitted,
    CallEnded,
    CallRetried,
    CallStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    LookAsked,
)
from agent.halving import PARTS

KINDS = ("evaluations", "calls", "tokens", "usd", "seconds")


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None is no limit.

    Args:
        evaluations: Requests measured, counting each data row and each replicate; a request with a part of the
            effort counts as that part.
        calls: Model calls; a retried call counts once.
        tokens: Input plus output tokens.
        usd: Dollars; needs known prices.
        seconds: Wall-clock seconds over all sessions of the run, until the search ends.
    """

    evaluations: int | None = None
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for kind in KINDS:
            value = getattr(self, kind)
            if value is None:
                continue
            whole = kind in ("evaluations", "calls", "tokens")
            right = isinstance(value, int) if whole else isinstance(value, (int, float)) and math.isfinite(value)
            if isinstance(value, bool) or not right or value < 0:
                raise ConfigError(
                    f"budget.{kind}: found {value!r}, allowed is a {'whole ' if whole else ''}number of at least 0"
                )

    def to_json(self) -> dict[str, Any]:
        """The limits that are set."""
        return {kind: value for kind, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class Account:
    """Spend of one role or model."""

    calls: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float = 0.0
    unpriced: int = 0
    """Calls whose price is unknown; while there are any, `usd` is a lower bound."""

    def to_json(self) -> dict[str, Any]:
        """The spend as plain JSON; `usd` is None while a price is unknown."""
        return {**asdict(self), "usd": None if self.unpriced else self.usd}

    def add(self, more: Mapping[str, Any]) -> None:
        """Add what another one has, each of its fields by name."""
        for name, amount in more.items():
            setattr(self, name, getattr(self, name) + amount)


class Ledger:
    """The fold, and the check before each spend."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._parts = 0
        self.evaluator_usd = 0.0
        self.total = Account()
        self.by_role: dict[str, Account] = {}
        self.by_model: dict[str, Account] = {}
        self.retries = 0
        self.seconds = 0.0
        self._open_calls: dict[int, CallStarted] = {}
        self._open_evaluations: dict[int, int] = {}
        self.lost_calls: dict[int, CallStarted] = {}
        """Calls that were cut off without an answer: possibly spent."""
        self.lost_evaluations = 0
        """Evaluations that were cut off and started again."""
        self.possibly = {"tokens": 0.0, "usd": 0.0}
        """Worst case of the attempts that broke off inside of calls which have ended."""
        self._held: dict[int, dict[str, float]] = {}
        self._doubtful: dict[int, int] = {}
        self.closed = False
        """Whether the run is over, so that nothing may be spent any more."""
        self.batches: dict[int, BatchStarted] = {}
        """Every batch of calls, by its number."""
        self.batch_names: dict[int, str] = {}
        """The provider's ids of the batches that it has taken."""
        self._in_batch: dict[int, int] = {}
        self._read: set[int] = set()
        """Batches whose results were read to the end."""

    def apply(self, event: Event) -> None:
        """Fold one event."""
        if isinstance(event, EvaluationStarted):
            parts = round(event.fidelity * PARTS)
            self._parts += parts
            self._open_evaluations[event.id] = parts
        elif isinstance(event, EvaluationEnded):
            self._parts -= _unused(event, self._open_evaluations.pop(event.id, 0))
            self.evaluator_usd += event.output.get("usd", 0.0)
        elif isinstance(event, LookAsked):
            self._parts += PARTS * event.leaked  # nobody asks for nothing what is held out
        elif isinstance(event, CallStarted):
            self._open_calls[event.id] = event
        elif isinstance(event, CallRetried):
            self.retries += 1
            if event.ambiguous:
                self._doubtful[event.id] = self.doubtful(event.id) + 1
                if event.id in self.lost_calls:  # whose attempts count there
                    self._held.pop(event.id, None)
        elif isinstance(event, CallEnded):
            started = self._open_calls.pop(event.id, None) or self.lost_calls.pop(event.id)
            self._held.pop(event.id, None)
            self._doubtful.pop(event.id, None)
            self._in_batch.pop(event.id, None)
            self._settle(started, event.spent)
        elif isinstance(event, BatchStarted):
            self.batches[event.id] = event
            self._in_batch.update(dict.fromkeys(event.calls, event.id))
        elif isinstance(event, BatchSubmitted):
            self.batch_names[event.id] = event.name
        elif isinstance(event, BatchEnded):
            self._read.add(event.id)

    def _settle(self, started: CallStarted, spent: Mapping[str, Any]) -> None:
        for kind in self.possibly:
            self.possibly[kind] += spent.get(f"possibly_{kind}", 0)
        for account in (
            self.total,
            self.by_role.setdefault(started.role, Account()),
            self.by_model.setdefault(started.model, Account()),
        ):
            account.calls += 1
            account.input += spent.get("input", 0)
            account.cached += spent.get("cached", 0)
            account.output += spent.get("output", 0)
            if "usd" in spent:
                account.usd += spent["usd"]
            else:
                account.unpriced += 1

    def paid(self) -> dict[str, Any]:
        """What models were paid, as plain JSON, for the run that carries it on; none of it is rounded."""
        return {
            "models": {model: asdict(account) for model, account in self.by_model.items()},
            "possibly": {kind: amount + self._reserved(kind) for kind, amount in self.possibly.items()},
        }

    def carry(self, role: str, paid: Mapping[str, Any]) -> None:
        """Take over what was paid before the run for its sake; it counts against the limits as all other spend.

        Args:
            role: What it is called.
            paid: As `paid` gives it.
        """
        for model, account in paid["models"].items():
            self.total.add(account)
            self.by_role.setdefault(role, Account()).add(account)
            self.by_model.setdefault(model, Account()).add(account)
        for kind, amount in paid["possibly"].items():
            self.possibly[kind] += amount

    def batch_of(self, call: int) -> BatchStarted | None:
        """The newest batch that holds a call without an answer."""
        number = self._in_batch.get(call)
        return None if number is None else self.batches[number]

    def doubtful(self, call: int) -> int:
        """How many attempts of a call without an answer broke off before the one that is under way now."""
        return self._doubtful.get(call, 0)

    def given_up(self, model: str) -> list[BatchStarted]:
        """Batches of a model that were taken, that no call waits for, and whose results were not read to the end."""
        done = self._read.union(self._in_batch.values())
        taken = (batch for number, batch in self.batches.items() if number in self.batch_names and number not in done)
        return [batch for batch in taken if batch.model == model]

    def waiting(self) -> list[dict[str, Any]]:
        """Batches with calls that have no answer yet: the provider's id ("" when it is not known), model, calls."""
        return [
            {"id": self.batch_names.get(number, ""), "model": self.batches[number].model, "calls": count}
            for number, count in sorted(Counter(self._in_batch.values()).items())
        ]

    def _at_provider(self) -> list[CallStarted]:
        """Calls in flight that are answered, and paid, whether this process lives or not."""
        found = (self._open_calls.get(call) for call, number in self._in_batch.items() if number in self.batch_names)
        return [call for call in found if call is not None]

    @property
    def evaluations(self) -> float:
        """Evaluations started, each as the share of the full effort that it was given; a whole number where it is."""
        whole, rest = divmod(self._parts, PARTS)
        return whole if rest == 0 else round(self._parts / PARTS, 6)

    def cut(self) -> None:
        """A process died and another takes over: what is open now has no answer coming."""
        self.lose_calls()
        self.lost_evaluations += len(self._open_evaluations)

    def lose_calls(self) -> None:
        """What is asked has no answer coming: nobody listens any more."""
        self.lost_calls.update(self._open_calls)
        self._open_calls.clear()
        self._held.clear()

    def hold(self, call: int, **amounts: float | None) -> None:
        """Hold back more for a call under way, one of whose attempts may have been billed before it broke off.

        This is known to this process alone. After a crash, each of the lost call's attempts that broke off counts in
        full, as its `call.retried` says.

        Args:
            call: Number of a call that has started and not ended.
            amounts: Worst case of the next attempt by kind (tokens, usd); None means unknown.

        Raises:
            BudgetExceeded: A limit could be passed; nothing is held then.
            ConfigError: As in `check`.
        """
        self.check(**amounts)
        held = self._held.setdefault(call, {})
        for kind, amount in amounts.items():
            held[kind] = held.get(kind, 0.0) + (amount or 0.0)

    def _reserved(self, kind: str) -> float:
        reserved: float = sum(call.reserved.get(kind, 0) for call in self._open_calls.values())
        held = sum(amounts.get(kind, 0.0) for amounts in self._held.values())
        return reserved + held + self._lost(kind)

    def _lost(self, kind: str) -> float:
        """Worst case of the calls that were cut off; a retried one may have been billed for every attempt."""
        total = 0.0
        for number, call in self.lost_calls.items():
            times = 1 if kind == "calls" else 1 + self.doubtful(number)
            total += call.reserved.get(kind, 0) * times
        return total

    def committed(self, kind: str) -> float:
        """What counts against a limit: spent, plus reserved and not yet settled."""
        if kind == "evaluations":
            return self._parts / PARTS
        if kind == "seconds":
            return self.seconds
        spent = {
            "calls": self.total.calls,
            "tokens": self.total.input + self.total.output,
            "usd": self.total.usd + self.evaluator_usd,
        }[kind]
        return spent + self.possibly.get(kind, 0.0) + self._reserved(kind)

    def left(self, kind: str) -> float:
        """What may still be spent of a kind; infinity without a limit."""
        limit: float | None = getattr(self.budget, kind)
        if limit is None:
            return math.inf
        if kind == "evaluations":  # in whole parts: a limit is kept exactly
            return max(0.0, (limit * PARTS - self._parts) / PARTS)
        return max(0.0, limit - self.committed(kind))

    def check(self, **amounts: float | None) -> None:
        """Refuse a spend that could pass a limit.

        Args:
            amounts: Worst case by kind; None means unknown.

        Raises:
            BudgetExceeded: A limit could be passed, or the run is over.
            ConfigError: A limit is set on something whose worst case is unknown.
        """
        if self.closed:
            raise BudgetExceeded("calls", 0, 0, message="the run is over")
        for kind, amount in amounts.items():
            limit = getattr(self.budget, kind)
            if limit is None:
                continue
            if amount is None:
                raise ConfigError(
                    f"a limit of {limit:g} {kind} is set, but the price of this model is not known",
                    hint='give its price in problem.toml: [prices."provider:model"] input = …, output = … '
                    "(dollars per million tokens), or limit tokens or calls instead",
                )
            if self.committed(kind) + amount > limit * (1 + 1e-12):
                raise BudgetExceeded(kind, limit, self.committed(kind))

    def to_json(self) -> dict[str, Any]:
        """The spend as plain JSON; `usd_known` is false while a call has no price, and never is unknown shown as 0."""
        known = self.total.unpriced == 0
        batched = self._at_provider()
        sent = {kind: sum(call.reserved.get(kind, 0) for call in batched) for kind in self.possibly}
        for number, call in self._open_calls.items():
            for kind in sent:
                sent[kind] += call.reserved.get(kind, 0) * self.doubtful(number)
        return {
            "evaluations": self.evaluations,
            "evaluations_lost": self.lost_evaluations,
            "calls": self.total.calls,
            "retries": self.retries,
            "tokens": {"input": self.total.input, "cached": self.total.cached, "output": self.total.output},
            "usd": round(self.total.usd + self.evaluator_usd, 9) if known else None,
            "usd_known": known,
            "seconds": round(self.seconds, 3),
            "possibly_spent": {
                "calls": len(self.lost_calls) + len(batched),
                "tokens": int(self._lost("tokens") + self.possibly["tokens"] + sent["tokens"]),
                "usd": round(self._lost("usd") + self.possibly["usd"] + sent["usd"], 9),
            },
            "batches": self.waiting(),
            "by_role": {role: account.to_json() for role, account in self.by_role.items()},
            "by_model": {model: account.to_json() for model, account in self.by_model.items()},
            "limits": self.budget.to_json(),
        }


def at_provider(spent: Mapping[str, Any]) -> int:
    """Of a ledger as JSON: calls that wait in a provider's batch, and count as possibly spent until they have ended."""
    return sum(batch["calls"] for batch in spent.get("batches", ()))


def _unused(ended: EvaluationEnded, parts: int) -> int:
    """What is given back of an evaluation that was stopped: the share of its steps that it did not come to."""
    stopped = ended.output.get("stopped")
    if not stopped or ended.score is not None:
        return 0
    return int(parts * min(1.0, max(0.0, 1 - stopped["step"] / stopped["of"])))


def plural(count: float, what: str) -> str:
    """A number of things in words: "1 line", "2 lines", "0.5 evaluations"."""
    return f"{counted(count)} {what}{'' if count == 1 else 's'}"


def lasting(seconds: float) -> str:
    """A time in words, with two digits or more: "55 µs", "3.2 ms", "4.1 s", "1,330 s"."""
    for limit, size, unit in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms")):
        if 0 < seconds < limit:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:,.0f} s"


def counted(evaluations: float) -> str:
    """A number of evaluations for people: with a decimal only where it has one."""
    return f"{evaluations:.1f}".removesuffix(".0")
