"""Several evaluators that measure the same thing, joined so that fooling one of them gains nothing."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent.errors import ConfigError
from agent.evaluation import Evaluator, Limits, Output, Purpose, Request, Score, measurement
from agent.evaluators.build import build
from agent.evaluators.function import FunctionEvaluator
from agent.executors.measure import drive, failure_of, measure
from agent.space import digest

if TYPE_CHECKING:
    import asyncio

Combine = Literal["mean", "worst", "mean-sd", "uncertainty"]
COMBINE = ("mean", "worst", "mean-sd", "uncertainty")
KAPPA = 1.0
WEIGHT = 5.0
"""For values in [0, 1], whose variance is at most 1/4."""
OWN = ("mean", "sd")
"""Names that the ensemble itself reports, and no member may have."""

log = logging.getLogger(__name__)


def combined(
    values: list[float], direction: str, combine: Combine, kappa: float = KAPPA, weight: float = WEIGHT
) -> tuple[float, float, float]:
    """What an ensemble makes of its members' values, and their mean and standard deviation.

    All but "mean" are pessimistic: lower than the mean when larger is better, higher when smaller is.
    With kappa = 1, one member that is fooled by h moves the mean by h/K and the deviation by
    h sqrt(K-1)/K, so "mean-sd" never gains by it, for any h and K of at least 2, where the members
    agree otherwise.

    Source: worst case and uncertainty weighting from Coste et al., Reward model ensembles help mitigate
    overoptimization (2023), section 4.

    Args:
        values: One per member.
        direction: "minimize" or "maximize".
        combine: "mean", "worst", "mean-sd" (mean ∓ kappa · sd) or "uncertainty" (mean ∓ weight · variance).
        kappa: Standard deviations (of the members as they are, not of a population), at least 0.
        weight: Of the variance, at least 0.
    """
    mean = sum(values) / len(values)
    variance = sum((value - mean) * (value - mean) for value in values) / len(values)
    sd = math.sqrt(variance)
    sign = 1 if direction == "maximize" else -1
    match combine:
        case "mean":
            value = mean
        case "worst":
            value = sign * min(sign * item for item in values)
        case "mean-sd":
            value = mean - sign * kappa * sd
        case "uncertainty":
            value = mean - sign * weight * variance
    return value, mean, sd


class EnsembleEvaluator:
    """Lets several members measure each request and joins their values, example by example.

    Of the objective `name`, the measurement holds the joined value, `name.mean`, `name.sd`, and each
    member's own value as `name.member`, so that a constraint can name it. Any other number that
    members report is passed on as the mean over those that report it; a member's own `name.x` becomes
    `name.member.x`, so that an ensemble can be a member.

    When all members compute, they run one after another. Otherwise they run at the same time, those
    that compute in threads, unless one is exclusive. A member that fails fails the output.

    Args:
        members: By name: a target "module:attr", a callable, an evaluator, or the spec of one. At least two.
        name: The objective that every member measures.
        direction: Of the objective: "minimize" or "maximize".
        combine: How the values are joined; see `combined`.
        kappa: For "mean-sd": standard deviations, at least 0; 1 when None.
        weight: For "uncertainty": weight of the variance, at least 0; 5 when None, for values in [0, 1].
        folder: The problem's folder, for targets and for specs that name none.
        names: The objectives and constraints that a measurement must hold; `name` alone when None.
        exclusive: Whether nothing else of ours may compute while it measures; so it is too when a member asks for it.

    Raises:
        ConfigError: Fewer than two members, a name that cannot be used, or an option that does not fit.
    """

    def __init__(
        self,
        members: Mapping[str, str | Callable[..., Any] | Evaluator | Mapping[str, Any]],
        *,
        name: str,
        direction: Literal["minimize", "maximize"],
        combine: Combine = "mean-sd",
        kappa: float | None = None,
        weight: float | None = None,
        folder: Path | str | None = None,
        names: list[str] | tuple[str, ...] | None = None,
        exclusive: bool = False,
    ) -> None:
        if not isinstance(members, Mapping) or len(members) < 2:
            raise ConfigError("ensemble: members: found fewer than two", hint="name at least two, better three to five")
        wrong = [repr(key) for key in members if not isinstance(key, str) or not key or "." in key or key in OWN]
        if wrong:
            raise ConfigError(
                f"ensemble: a member cannot be called {wrong[0]}",
                hint="any other name without a dot will do; mean and sd are the ensemble's own",
            )
        if direction not in ("minimize", "maximize"):
            raise ConfigError(f"ensemble: direction: found {direction!r}, allowed is minimize or maximize")
        if combine not in COMBINE:
            raise ConfigError(f"ensemble: combine: found {combine!r}, allowed is {', '.join(COMBINE)}")
        for option, value, of in (("kappa", kappa, "mean-sd"), ("weight", weight, "uncertainty")):
            if value is not None and combine != of:
                raise ConfigError(f'ensemble: {option} is for combine = "{of}", not "{combine}"', hint="leave it out")
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (number and value >= 0):
                raise ConfigError(f"ensemble: {option}: found {value!r}, allowed is a number of at least 0")
        self.name = name
        self.direction = direction
        self.combine: Combine = combine
        self.kappa = KAPPA if kappa is None else float(kappa)
        self.weight = WEIGHT if weight is None else float(weight)
        self.names = (name,) if names is None else tuple(names)
        self.members = {key: _member(key, given, name, folder) for key, given in members.items()}
        self._exclusive = exclusive

    def takes(self, name: str) -> bool | None:
        """Whether any member hears of what a parameter of this name would be; None when that is not known."""
        found = [getattr(member, "takes", lambda _: True)(name) for member in self.members.values()]
        return True if True in found else None if None in found else False

    @property
    def exclusive(self) -> bool:
        """Whether it, or a member, must have the machine for itself."""
        return self._exclusive or any(member.exclusive for member in self.members.values())

    @property
    def blocking(self) -> bool:
        """Whether all members compute instead of being awaited."""
        return all(member.blocking for member in self.members.values())

    @property
    def keeps_limits(self) -> bool:
        """Whether all members apply the request's limits themselves."""
        return all(member.keeps_limits for member in self.members.values())

    @property
    def repeat(self) -> bool:
        """Whether any member runs programs more than once to see whether they answer the same."""
        return any(getattr(member, "repeat", False) for member in self.members.values())

    @cached_property
    def spec(self) -> Mapping[str, Any] | None:
        """Plain data to rebuild it from; None when a member has none."""
        specs = {key: member.spec for key, member in self.members.items()}
        if None in specs.values():
            return None
        return {
            "kind": "ensemble",
            "members": {key: dict(spec) for key, spec in specs.items() if spec is not None},
            "name": self.name,
            "direction": self.direction,
            "combine": self.combine,
            "kappa": self.kappa if self.combine == "mean-sd" else None,
            "weight": self.weight if self.combine == "uncertainty" else None,
            "names": list(self.names),
            "exclusive": self._exclusive,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the members' fingerprints and of how they are joined."""
        joined = [self.name, self.direction, self.combine, self.kappa, self.weight]
        return digest(["ensemble", joined, {key: member.fingerprint for key, member in self.members.items()}])

    @property
    def stage_for(self) -> Callable[[Purpose], str]:
        """Which stage a purpose gets, where members have stages of their own, as those that judge programs do.

        Raises:
            AttributeError: None has; as for an evaluator that knows no stages.
        """
        for member in self.members.values():
            found: Callable[[Purpose], str] | None = getattr(member, "stage_for", None)
            if found is not None:
                return found
        raise AttributeError("no member has stages of its own")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the sandbox's layers that all members have that run programs in one."""
        return _common([member.layers for member in self.members.values() if hasattr(member, "layers")])

    def guard(self) -> dict[str, Any]:
        """What the records say of the members' sandboxes; {} where none has one.

        Raises:
            ConfigError, PrerequisiteError: As a member's.
        """
        asked: list[Callable[[], dict[str, Any]]] = [
            member.guard for member in self.members.values() if hasattr(member, "guard")
        ]
        told = [found for guard in asked if (found := guard())]
        if not told:
            return {}
        out: dict[str, Any] = {"layers": list(_common([item["layers"] for item in told]))}
        lacking = dict.fromkeys(what for item in told for what in item.get("not_stopped", ()))
        return {**out, "unsafe": True, "not_stopped": list(lacking)} if lacking else out

    def load(self) -> None:
        """Import the members' code, once."""
        for member in self.members.values():
            load = getattr(member, "load", None)
            if load is not None:
                load()

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The output's value is `{"members": {member: what it produced}}`."""
        outputs = await self._outputs(request, partial)
        whole = Output(
            log="\n".join(f"{key}: {output.log}" for key, output in outputs.items() if output.log),
            usd=sum(output.usd for output in outputs.values()),
            layers=_common([output.layers for output in outputs.values() if output.layers]),
        )
        for key, output in outputs.items():
            if output.failure is not None:
                failure = replace(output.failure, message=f"member {key}: {output.failure.message}")
                return replace(whole, failure=failure)
        whole = replace(whole, value={"members": {key: output.value for key, output in outputs.items()}})
        try:
            self.score(whole)
        except ValueError as error:
            return Output.failed("invalid", str(error), log=whole.log, usd=whole.usd)
        return whole

    def score(self, output: Output) -> Score:
        """Join what the members make of their outputs."""
        found = output.value.get("members") if isinstance(output.value, Mapping) else None
        if not isinstance(found, Mapping) or set(found) != set(self.members):
            raise ValueError(f"an output of each of {', '.join(self.members)} is needed")
        own: list[float] = []
        others: dict[str, list[float]] = {}
        words = []
        for key, member in self.members.items():
            try:
                score = member.score(Output(value=found[key]))
            except ValueError as error:
                raise ValueError(f"member {key}: {error}") from None
            if self.name not in score.values:
                raise ValueError(f"member {key}: {self.name} is missing; found {', '.join(score.values) or 'nothing'}")
            own.append(score.values[self.name])
            for what, number in score.values.items():
                if what != self.name:
                    others.setdefault(self._further(what, key), []).append(number)
            if score.feedback:
                words.append(f"{key}: {score.feedback}")
        value, mean, sd = combined(own, self.direction, self.combine, self.kappa, self.weight)
        values = {
            self.name: value,
            f"{self.name}.mean": mean,
            f"{self.name}.sd": sd,
            **{f"{self.name}.{key}": number for key, number in zip(self.members, own, strict=True)},
        }
        values |= {what: sum(numbers) / len(numbers) for what, numbers in others.items()}
        joined = measurement(Score(values, "\n".join(words)), self.names)
        return Score(joined["values"], joined["feedback"])

    def _further(self, what: str, key: str) -> str:
        """How a further number of a member is called: what is about the objective carries the member's name."""
        own, dot, rest = what.partition(f"{self.name}.")
        return f"{self.name}.{key}.{rest}" if dot and not own else what

    async def _outputs(self, request: Request, report: Callable[[Any], None]) -> dict[str, Output]:
        """The members' outputs; one by one it ends with the first that failed."""
        limits = request.limits
        request = replace(request, rival=None)  # the rival's number is the joined one, which no member's is like
        share = replace(limits, log_chars=limits.log_chars // len(self.members))
        running = sys.modules.get("asyncio")  # a worker in which nothing waits never imports it
        in_loop = running is not None and running._get_running_loop() is not None
        if in_loop and not self.exclusive and not self.blocking:
            return await self._together(replace(request, limits=share), report)
        started = time.monotonic()
        outputs: dict[str, Output] = {}
        for key, member in self.members.items():
            asked = replace(request, limits=_left(share, time.monotonic() - started))
            if in_loop and member.blocking and not self.blocking:
                outputs[key] = await _in_thread(member, asked, self._renamed(key, report))
            else:
                outputs[key] = await measure(member, asked, self._renamed(key, report))
            if outputs[key].failure is not None:
                break
        return outputs

    async def _together(self, request: Request, report: Callable[[Any], None]) -> dict[str, Output]:
        import asyncio

        # All are awaited even when one fails: what they cost is spent, and which one is named must not
        # depend on which was quickest.
        async with asyncio.TaskGroup() as group:
            tasks = {
                key: group.create_task(
                    (_in_thread if member.blocking else measure)(member, request, self._renamed(key, report))
                )
                for key, member in self.members.items()
            }
        cancelled = Output.failed("error", "it cancelled itself (CancelledError)")
        return {key: cancelled if task.cancelled() else task.result() for key, task in tasks.items()}

    def _renamed(self, key: str, report: Callable[[Any], None]) -> Callable[[Any], None]:
        """Passes a member's partial results on, with its name on every number."""

        def renamed(value: Any) -> None:
            try:
                found = measurement(value, ())
            except ValueError:
                found = {"values": {}, "feedback": str(value)}  # a member with partial results of its own form
            numbers = {f"{name}.{key}": number for name, number in found["values"].items()}
            report({"values": numbers, "feedback": found["feedback"]})

        return renamed


def _member(key: str, given: Any, name: str, folder: Path | str | None) -> Evaluator:
    try:
        if isinstance(given, Mapping):
            spec = dict(given)
            place = {"function": "folder", "command": "cwd"}.get(str(spec.get("kind")))
            if place is not None:
                spec = {"names": [name], **({place: str(folder)} if folder is not None else {}), **spec}
            return build(spec)
        if not isinstance(given, str) and hasattr(given, "produce"):
            evaluator: Evaluator = given
            return evaluator
        return FunctionEvaluator(given, folder=folder, names=[name])
    except ConfigError as error:
        raise ConfigError(f"ensemble: member {key}: {error.message}", hint=error.hint) from error


def _common(layers: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What stands in all of some lists, in the order of the first."""
    first, *rest = layers or [()]
    return tuple(name for name in first if all(name in item for item in rest))


def _left(limits: Limits, seconds: float) -> Limits:
    """The limits after some of the time has passed."""
    return limits if limits.seconds is None else replace(limits, seconds=max(0.001, limits.seconds - seconds))


async def _in_thread(member: Evaluator, request: Request, report: Callable[[Any], None]) -> Output:
    """The output of a member that computes, which must not hold up those that wait."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Output] = loop.create_future()

    def settle(output: Output) -> None:
        if not future.done():
            future.set_result(output)

    def work() -> None:
        try:
            output = drive(measure(member, request, report))
        except BaseException as error:  # whatever the user made up; without an answer the others would wait for ever
            output = Output(failure=failure_of(error))
        with contextlib.suppress(RuntimeError):  # an abandoned thread may outlive the loop
            loop.call_soon_threadsafe(settle, output)

    # Not the loop's pool, whose threads would keep the interpreter from exiting when one hangs.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), daemon=True, name="ensemble member").start()
    try:
        return await future
    except asyncio.CancelledError:
        log.warning('a member that was stopped goes on in its thread; set executor = "subprocess" to have it killed')
        raise
