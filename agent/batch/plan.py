"""A batch file → what a night may do: which problems, under which caps, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from agent.batch.place import Limits, folder_of, is_until, located, plain_name, read
from agent.config import BudgetConfig, _explain, _first, _fix, _Strict
from agent.errors import ConfigError
from agent.ledger import KINDS

if TYPE_CHECKING:
    from agent.setup import Setup

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become folders."""


class _Caps(BudgetConfig):
    """[caps]"""

    month: BudgetConfig = BudgetConfig()


class _Drift(_Strict):
    """[drift]"""

    rows: int = Field(default=40, ge=1)
    split: Literal["train", "test", "off"] = "train"


class _Problem(_Strict):
    """[[problems]]"""

    path: str
    name: str | None = Field(default=None, pattern=NAME)
    priority: int = 0
    model: str | None = None
    proposer: str | None = None
    seed: int | None = None
    workers: int | None = Field(default=None, ge=1)
    set: dict[str, Any] = Field(default_factory=dict)
    budget: BudgetConfig = BudgetConfig()
    month: BudgetConfig = BudgetConfig()


class _Batch(_Strict):
    """The whole file."""

    name: str | None = Field(default=None, pattern=NAME)
    runs: str | None = None
    until: str | None = None
    on_finish: str | None = None
    webhook: str | None = None
    caps: _Caps = _Caps()
    drift: _Drift = _Drift()
    problems: list[_Problem] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One problem of a batch.

    Args:
        name: What the batch calls it; its history is found by it.
        path: Its folder, or its problem.toml.
        priority: Higher goes first.
        overrides: Dotted keys of its problem.toml that the batch replaces.
        budget: Limits for one night.
        month: Limits for a calendar month.
    """

    name: str
    path: Path
    priority: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    budget: Limits = field(default_factory=dict)
    month: Limits = field(default_factory=dict)

    def load(self) -> Setup:
        """Read the problem.

        Raises:
            ConfigError: As `agent.config.load`.
        """
        from agent.config import load

        return load(self.path, self.overrides)


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch file, read and checked. The problems' own files are read when their turn comes.

    Args:
        file: The batch file.
        name: Of the batch; its folder is RUNS/batches/NAME.
        runs: The folder of runs.
        entries: The problems, in the file's order.
        until: When a night ends: a local time as "06:00", or a time after its beginning as "6h"; None for never.
        caps: Shared by all problems, for one night.
        month: Shared by all problems, for a calendar month in local time.
        rows: Rows that a re-scoring measures at most.
        split: Where these rows come from; "off" re-scores nothing.
        on_finish: A command to run after the night.
        webhook: Where the summary is posted after the night.
    """

    file: Path
    name: str
    runs: Path
    entries: tuple[Entry, ...]
    until: str | None = None
    caps: Limits = field(default_factory=dict)
    month: Limits = field(default_factory=dict)
    rows: int = 40
    split: Literal["train", "test", "off"] = "train"
    on_finish: str | None = None
    webhook: str | None = None

    @property
    def folder(self) -> Path:
        """Where the batch keeps its ledger and its summaries."""
        return folder_of(self.runs, self.name)

    def only(self, names: tuple[str, ...]) -> Plan:
        """The same with some of its problems.

        Raises:
            ConfigError: It has no problem of that name.
        """
        known = {entry.name: entry for entry in self.entries}
        for name in names:
            if name not in known:
                raise ConfigError(f"--only {name}: {self.file} has no such problem", hint=f"it has {', '.join(known)}")
        return replace(self, entries=tuple(e for e in self.entries if e.name in names)) if names else self


def load(file: Path, runs: str | Path | None = None, changes: Mapping[str, Any] | None = None) -> Plan:
    """Read a batch file.

    Args:
        file: TOML.
        runs: A folder of runs that replaces the file's.
        changes: What the command line replaces: until, on_finish, webhook and kinds of [caps].

    Raises:
        ConfigError: The file is missing, is not TOML, or a key is unknown or has a value that is not allowed;
            names the file and the key.
    """
    raw = read(file)
    caps = raw.get("caps", {})
    for key, value in (changes or {}).items():
        if key in KINDS and isinstance(caps, dict):
            raw["caps"] = caps = {**caps, key: value}
        else:
            raw[key] = value
    try:
        parsed = _Batch.model_validate(raw)
    except ValidationError as error:
        wrong = _first(error)
        raise ConfigError(_explain(file, wrong), hint=_fix(wrong, _allowed(wrong["loc"]))) from None
    until = parsed.until
    if until is not None and not is_until(until):
        raise ConfigError(
            f"{file}: until: found {until!r}, allowed is a local time or a time after the beginning",
            hint='such as until = "06:00" or until = "6h"',
        )
    where = file.resolve().parent
    entries = tuple(_entry(item, where) for item in parsed.problems)
    names = [entry.name for entry in entries]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(
                f"{file}: problems.{number}.name: {name!r} is there twice",
                hint='give each [[problems]] a name of its own: name = "…"',
            )
    name, place = located(file, raw, runs)
    return Plan(
        file=file.resolve(),
        name=name,
        runs=place,
        entries=entries,
        until=until,
        caps=_limits(parsed.caps),
        month=_limits(parsed.caps.month),
        rows=parsed.drift.rows,
        split=parsed.drift.split,
        on_finish=parsed.on_finish,
        webhook=parsed.webhook,
    )


def _entry(given: _Problem, where: Path) -> Entry:
    path = (where / given.path).resolve()
    folder = path.parent if path.suffix == ".toml" else path
    name = given.name or plain_name(folder.name, "problem")
    places = {"model": "models.propose", "proposer": "proposer.name", "seed": "run.seed", "workers": "run.workers"}
    own = {key: getattr(given, short) for short, key in places.items() if getattr(given, short) is not None}
    return Entry(name, path, given.priority, {**given.set, **own}, _limits(given.budget), _limits(given.month))


def _limits(given: BudgetConfig) -> dict[str, float]:
    return {kind: getattr(given, kind) for kind in KINDS if getattr(given, kind) is not None}


def _allowed(place: tuple[Any, ...]) -> str:
    model: Any = _Batch
    for part in place[:-1]:
        known = getattr(model, "model_fields", {}).get(str(part))
        if known is None:
            continue
        inner = known.annotation
        model = next(
            (c for c in (inner, *getattr(inner, "__args__", ())) if isinstance(c, type) and issubclass(c, BaseModel)),
            model,
        )
    where = f"[{'.'.join(map(str, place[:-1]))}]" if len(place) > 1 else "at the top level"
    return f"allowed {where}: {', '.join(model.model_fields)}"
