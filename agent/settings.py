"""The choices of a run that are not the problem: who proposes, how much at once, how strict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from agent.errors import ConfigError
from agent.gate.evidence import pairs_needed
from agent.gate.exam import GAIN, LEVEL, PAIRS
from agent.gate.levels import weight
from agent.gate.suspicion import JUMP

ROLES = ("propose", "task", "judge", "critic", "embed")
BATCHED = ("openai", "anthropic")
"""How the names of models begin whose providers have a Batch API."""
DEFAULT_MODEL = "local:smollm2-135m"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run; they stand in its first event.

    Args:
        proposer: Name of the proposer; `agent.proposers.table` lists them.
        models: `provider:model` by role: propose, task, judge, critic.
        workers: Evaluations in flight at most; 1 for an exclusive evaluator.
        executor: inline, subprocess, dask, or None for what fits the evaluator.
        isolate: A fresh worker process for every evaluation.
        dask: Of the executor dask: the address of its `scheduler`, and the `resources` that one evaluation takes.
        baseline: Measurements of the initial candidate on a noisy problem.
        race_shortest: Pairs before the race may promote.
        race_longest: Pairs at which the race must decide.
        exam_pairs: Pairs of the final exam on a noisy problem; held back from the budget.
        level: Chance of any false claim: of a run on a noisy problem, or over all runs on the same held-out rows.
        null: What an exam on rows refutes: "mean" (no gain on average) or "exchangeable" (the change did nothing).
        noise: "any", or "gaussian" where it is known that a row's differences are.
        interim: Whether a gain on rows may be examined before the search is over.
        sequential: Whether the last exam on rows stops as soon as the gain is shown.
        smallest_gain: Gain, as a share of a score's range, that the race on rows looks for.
        report: Whether test rows are opened at the end.
        suspicion: Usual deviations beyond which a program's gain is a jump, and is measured again before it counts;
            0 for no quarantine at all. It has no effect where no parameter is a program.
        base_url: Another server for OpenAI-compatible models.
        batch: Roles whose calls go through the provider's Batch API, for half the price and within a day; True means
            every role that has a model.
        options: The proposer's own options.
    """

    proposer: str = "default"
    models: Mapping[str, str] = field(default_factory=lambda: {"propose": DEFAULT_MODEL})
    workers: int = 1
    executor: str | None = None
    isolate: bool = False
    dask: Mapping[str, Any] = field(default_factory=dict)
    baseline: int = 3
    race_shortest: int = 3
    race_longest: int = 10
    exam_pairs: int = PAIRS
    level: float = LEVEL
    null: str = "mean"
    noise: str = "any"
    interim: bool = False
    sequential: bool = False
    smallest_gain: float = 0.08
    report: bool = True
    suspicion: float = JUMP
    base_url: str | None = None
    batch: bool | Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (("workers", 1), ("baseline", 1), ("race_shortest", 1), ("race_longest", self.race_shortest)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"{name}: found {value!r}, allowed is a whole number of at least {low}")
        if not 0 < self.level < 1:
            raise ConfigError(f"level: found {self.level!r}, allowed is a number between 0 and 1, such as 0.05")
        for name, allowed in (("null", ("mean", "exchangeable")), ("noise", ("any", "gaussian"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: found {getattr(self, name)!r}, allowed is {' or '.join(allowed)}")
        if not 0 < self.smallest_gain <= 1:
            raise ConfigError(
                f"smallest_gain: found {self.smallest_gain!r}, allowed is a number above 0 and at most 1",
                hint="it is a share of a score's range, such as 0.08",
            )
        if not 0 <= self.suspicion < float("inf"):
            raise ConfigError(
                f"suspicion: found {self.suspicion!r}, allowed is a number of at least 0",
                hint="such as 6.0, or 0 for no quarantine",
            )
        try:
            json.dumps(dict(self.options), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"options: found {dict(self.options)!r}, which is not JSON: {error}",
                hint="use strings, finite numbers, booleans, lists and mappings",
            ) from None
        foreign = [name for name in self.models.values() if name.startswith("anthropic")]
        if self.base_url is not None and foreign:
            raise ConfigError(
                f"base_url is for OpenAI-compatible models and would not reach {foreign[0]}",
                hint="for another Anthropic server set ANTHROPIC_BASE_URL",
            )
        object.__setattr__(self, "batch", self._in_batches())
        need = pairs_needed(self.level * weight(1) * GAIN)
        if isinstance(self.exam_pairs, bool) or not isinstance(self.exam_pairs, int) or self.exam_pairs < need:
            raise ConfigError(
                f"exam_pairs: found {self.exam_pairs!r}, allowed is a whole number of at least {need}",
                hint=f"fewer pairs can never reach the level of {self.level:g}",
            )

    @property
    def batched(self) -> tuple[str, ...]:
        """The roles whose calls go through the provider's Batch API."""
        return () if isinstance(self.batch, bool) else tuple(self.batch)

    def _in_batches(self) -> list[str]:
        """The roles in batch mode, after a look at whether their models can be asked so."""
        roles = [role for role in ROLES if role != "embed"]  # vectors are wanted at once, and cost next to nothing
        all_of_them = [role for role in self.models if role in roles]
        given = all_of_them if self.batch is True else [] if self.batch is False else self.batch
        if isinstance(given, str) or not isinstance(given, Sequence) or not all(role in roles for role in given):
            raise ConfigError(
                f"batch: found {self.batch!r}, allowed is true, or a list of roles ({', '.join(roles)})",
                hint='such as batch = ["propose"]',
            )
        for role in given:
            if role not in self.models:
                raise ConfigError(
                    f"batch: no model is set for the role {role}", hint=f'set models.{role} = "provider:model"'
                )
            name = self.models[role]
            if not name.startswith(BATCHED):
                raise ConfigError(
                    f"batch: {name} has no Batch API",
                    hint="leave models.batch out, or name a model of OpenAI or Anthropic, such as anthropic:MODEL",
                )
        return list(dict.fromkeys(given))

    def placed(self, given: Settings) -> Settings:
        """These, with the executor and the cluster that `given` names: they may change while a run rests."""
        executor = given.executor or self.executor
        return replace(self, executor=executor, dask=(given.dask or self.dask) if executor == "dask" else {})

    def to_json(self) -> dict[str, Any]:
        out = asdict(self)
        out["models"], out["options"], out["dask"] = dict(self.models), dict(self.options), dict(self.dask)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        """The settings that `to_json` wrote.

        Raises:
            ConfigError: An unknown name; lists the known ones.
        """
        known = {item.name for item in fields(cls)}
        for name in data:
            if name not in known:
                raise ConfigError(f"{name}: unknown setting, allowed is one of {', '.join(sorted(known))}")
        return cls(**data)
