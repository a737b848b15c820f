"""problem.toml → a problem with its settings and budget.

Every error names file, key, what was found and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import ConfigError
from agent.evaluation import Evaluator, Limits
from agent.gate.checks import Check, load_check
from agent.goals import Constraint, Goals, Objective
from agent.halving import Fidelity
from agent.ledger import Budget
from agent.problem import Problem
from agent.settings import DEFAULT_MODEL, Settings
from agent.space import Space
from agent.warm import starting_points

if TYPE_CHECKING:
    from agent.data import Dataset

FILE = "problem.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False)


class EnsembleConfig(_Strict):
    """[evaluator.ensemble]: several judges score the same, and their scores become one."""

    members: dict[str, str | dict[str, Any]] = Field(min_length=1)
    objective: str | None = None
    combine: Literal["mean", "worst", "mean-sd", "uncertainty"] = "mean-sd"
    kappa: float | None = Field(default=None, ge=0)
    weight: float | None = Field(default=None, ge=0)


class EvaluatorConfig(_Strict):
    """[evaluator]: a function "module:attr" in the problem's folder, a command, or several judges."""

    function: str | None = None
    command: list[str] | None = None
    ensemble: EnsembleConfig | None = None
    exclusive: bool = False
    deterministic: bool = False
    executor: Literal["inline", "subprocess"] | None = None
    isolate: bool = False
    timeout: float | None = Field(default=None, gt=0)
    memory_mb: int | None = Field(default=None, gt=0)
    env: dict[str, str] = {}


class ObjectiveConfig(_Strict):
    """[[objectives]]"""

    name: str
    direction: Literal["minimize", "maximize"] = "minimize"
    unit: str = ""
    min_effect: float = Field(default=0.0, ge=0)
    min_effect_relative: float = Field(default=0.0, ge=0)
    floor: float | None = None
    low: float | None = None
    high: float | None = None
    weight: float = Field(default=1.0, gt=0)
    numerator: dict[str, float] | None = None
    denominator: dict[str, float] | None = None


class ConstraintConfig(_Strict):
    """[[constraints]]"""

    name: str
    max: float | None = None
    min: float | None = None
    unit: str = ""
    kind: Literal["bound", "limit", "noninferior", "alarm"] = "bound"
    direction: Literal["minimize", "maximize"] = "maximize"
    margin: float = Field(default=0.0, ge=0)
    low: float | None = None
    high: float | None = None


class DataConfig(_Strict):
    """[data]: one file, or one for each split."""

    file: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    target: Literal["population", "suite"] = "population"
    id: str | None = None
    cluster: str | None = None
    answer: str | None = None
    split: str | None = None
    anchor: str | None = None
    ignore: list[str] = []
    skip_bad: bool = False
    val_share: float | None = Field(default=None, ge=0)
    test_share: float | None = Field(default=None, ge=0)


class BudgetConfig(_Strict):
    """[budget]"""

    evaluations: int | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)


class ModelsConfig(_Strict):
    """[models]: `provider:model` by role."""

    propose: str = DEFAULT_MODEL
    task: str | None = None
    judge: str | None = None
    critic: str | None = None
    base_url: str | None = None


class ProposerConfig(_Strict):
    """[proposer]"""

    name: str = "default"
    options: dict[str, Any] = {}


class GateConfig(_Strict):
    """[gate]"""

    baseline: int = Field(default=3, ge=1)
    race_shortest: int = Field(default=3, ge=1)
    race_longest: int = Field(default=10, ge=1)
    exam_pairs: int = Field(default=12, ge=1)
    level: float = Field(default=0.05, gt=0, lt=1)
    null: Literal["mean", "exchangeable"] = "mean"
    noise: Literal["any", "gaussian"] = "any"
    interim: bool = False
    sequential: bool = False
    smallest_gain: float = Field(default=0.08, gt=0, le=1)
    report: bool = True
    claim: Literal["primary", "sum", "dominance"] = "primary"
    checks: list[str] = []


class RunConfig(_Strict):
    """[run]"""

    seed: int = 0
    workers: int = Field(default=1, ge=1)
    warm_from: str | None = None


class FidelityConfig(_Strict):
    """[fidelity]"""

    lowest: float = Field(default=1.0, gt=0, le=1)
    eta: float = 3.0
    unit: str = ""
    full: float | None = Field(default=None, gt=0)
    stop: bool = False
    doubt: float = Field(default=0.05, gt=0, le=0.5)


class PriceConfig(_Strict):
    """[prices."provider:model"]: dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)


class ProblemConfig(_Strict):
    """The whole file."""

    name: str | None = None
    description: str = ""
    evaluator: EvaluatorConfig
    space: dict[str, dict[str, Any]]
    objectives: list[ObjectiveConfig] = Field(min_length=1)
    constraints: list[ConstraintConfig] = []
    starts: list[dict[str, Any]] = []
    data: str | DataConfig | None = None
    budget: BudgetConfig = BudgetConfig()
    models: ModelsConfig = ModelsConfig()
    proposer: ProposerConfig = ProposerConfig()
    gate: GateConfig = GateConfig()
    run: RunConfig = RunConfig()
    fidelity: FidelityConfig | None = None
    prices: dict[str, PriceConfig] = {}


@dataclass(frozen=True, slots=True)
class Setup:
    """A problem file, read and checked.

    Args:
        problem: With its evaluator.
        settings: Who proposes, how much at once, how strict.
        budget: Limits.
        seed: Of the run.
        env: Environment variables for the evaluator's processes.
        checks: The user's own.
        shares: For val and test, where they are given.
        notes: What was found in the data, one sentence each.
        starts: Points that are measured right after the initial candidate.
        warm_from: An earlier run to begin with: its name, its folder, or "last".
    """

    problem: Problem
    settings: Settings
    budget: Budget
    seed: int
    env: Mapping[str, str] | None = None
    checks: tuple[Check, ...] = ()
    shares: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    starts: tuple[Mapping[str, Any], ...] = ()
    warm_from: str | None = None


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> Setup:
    """Read `problem.toml` from a folder (or the file itself).

    Args:
        folder: The problem's folder, or the path of its file.
        overrides: Values by dotted key that replace the file's, such as {"run.workers": 4}.

    Raises:
        ConfigError: The file is missing, is not TOML, or a key is unknown or has a value that is not allowed.
    """
    path = folder if folder.suffix == ".toml" else folder / FILE
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path}", hint="truegain init writes a working problem folder to start from"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", hint="the file must be UTF-8 TOML") from None
    for key, value in (overrides or {}).items():
        _set(raw, key, value, path)
    try:
        parsed = ProblemConfig.model_validate(raw)
    except ValidationError as error:
        wrong = _first(error)
        raise ConfigError(_explain(path, wrong), hint=_allowed(wrong["loc"])) from None
    try:
        return _build(parsed, path.parent.resolve())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None


def _build(parsed: ProblemConfig, folder: Path) -> Setup:
    objectives = tuple(
        _section(f"objectives.{number}", partial(Objective, **item.model_dump()))
        for number, item in enumerate(parsed.objectives)
    )
    constraints = tuple(Constraint(**item.model_dump()) for item in parsed.constraints)
    names = list(_section("gate", lambda: Goals(objectives, constraints, parsed.gate.claim)).reported)
    chosen = parsed.evaluator
    given = DataConfig(file=parsed.data) if isinstance(parsed.data, str) else parsed.data
    data = _data(given, folder) if given is not None else None
    fidelity = Fidelity(**parsed.fidelity.model_dump()) if parsed.fidelity is not None else None
    problem = Problem(
        name=parsed.name or folder.name,
        space=_section("space", lambda: Space.from_spec(parsed.space)),
        evaluator=_evaluator(chosen, folder, names, objectives, fidelity.needs if fidelity is not None else ()),
        objectives=objectives,
        constraints=constraints,
        data=data.examples if data is not None else (),
        deterministic=chosen.deterministic,
        target=given.target if given is not None else "suite",
        claim=parsed.gate.claim,
        labels=data.labels if data is not None else ("id",),
        description=parsed.description.strip(),
        folder=folder,
        limits=Limits(chosen.timeout, chosen.memory_mb),
        prices={name: price.model_dump(exclude_none=True) for name, price in parsed.prices.items()},
        fidelity=fidelity,
    )
    models = {
        role: name
        for role, name in parsed.models.model_dump().items()
        if name not in (None, "none") and role != "base_url"
    }
    settings = _section(
        SECTIONS,
        lambda: Settings(
            proposer=parsed.proposer.name,
            models=models,
            workers=parsed.run.workers,
            executor=chosen.executor,
            isolate=chosen.isolate,
            base_url=parsed.models.base_url,
            options=parsed.proposer.options,
            **parsed.gate.model_dump(exclude={"claim", "checks"}),
        ),
    )
    budget = Budget(**parsed.budget.model_dump())
    return Setup(
        problem,
        settings,
        budget,
        parsed.run.seed,
        chosen.env or None,
        checks=tuple(_section("gate.checks", partial(load_check, name, folder)) for name in parsed.gate.checks),
        shares=_shares(given),
        notes=tuple(data.report.sentences()) if data is not None else (),
        starts=starting_points(problem.space, parsed.starts),
        warm_from=_warm_from(parsed.run.warm_from, folder),
    )


def _warm_from(given: str | None, folder: Path) -> str | None:
    """A run's folder may be named as the file's other paths are; anything else is the name of a run."""
    there = given is not None and (folder / given).is_dir()
    return str(folder / given) if there and given is not None else given


def _shares(given: DataConfig | None) -> dict[str, float] | None:
    if given is None:
        return None
    found = {"val": given.val_share, "test": given.test_share}
    return {name: share for name, share in found.items() if share is not None} or None


def _data(given: DataConfig, folder: Path) -> Dataset:
    """The rows that [data] names."""
    try:
        return _rows(given, folder)
    except ConfigError as error:
        message = error.message.removeprefix("data: ")
        raise ConfigError(f"data: {message}", hint=error.hint.replace("True", "true")) from None


def _ensemble(
    chosen: EvaluatorConfig, given: EnsembleConfig, folder: Path, names: list[str], objectives: tuple[Objective, ...]
) -> Evaluator:
    from agent.evaluators.ensemble import EnsembleEvaluator

    goal = next((item for item in objectives if item.name == (given.objective or objectives[0].name)), None)
    if goal is None:
        raise ConfigError(
            f"evaluator.ensemble.objective: found {given.objective!r}, which is no objective",
            hint=f"name one of {', '.join(item.name for item in objectives)}",
        )
    env = {"env": chosen.env} if chosen.env else {}
    members = {
        name: {**env, **item} if isinstance(item, dict) and item.get("kind") == "command" else item
        for name, item in given.members.items()
    }
    return _section(  # type: ignore[no-any-return]
        "evaluator.ensemble",
        lambda: EnsembleEvaluator(
            members,
            name=goal.name,
            direction=goal.direction,
            combine=given.combine,
            kappa=given.kappa,
            weight=given.weight,
            folder=folder,
            names=names,
            exclusive=chosen.exclusive,
        ),
    )


def _rows(given: DataConfig, folder: Path) -> Dataset:
    from agent.data import load as load_rows
    from agent.data import load_splits

    fields: dict[str, Any] = {name: getattr(given, name) for name in ("id", "cluster", "answer", "anchor")}
    fields |= {"ignore": tuple(given.ignore), "skip_bad": given.skip_bad}
    parts = {name: getattr(given, name) for name in ("train", "val", "test")}
    if given.file is not None:
        if any(parts.values()):
            raise ConfigError(
                "file: names all rows, so train, val and test cannot be given too",
                hint="keep file, or the files of the splits",
            )
        return load_rows(folder / given.file, split=given.split, **fields)
    if parts["train"] is None:
        raise ConfigError("file: missing", hint='[data] file = "rows.jsonl", or train = … and val = …')
    paths = {name: folder / file for name, file in parts.items() if file is not None}
    return load_splits(shares=_shares(given), **paths, **fields)


SECTIONS = {"options": "proposer", "base_url": "models", "workers": "run", "executor": "evaluator"}
"""Where a setting stands that is not in [gate]."""


def _section(name: str | Mapping[str, str], make: Any) -> Any:
    try:
        return make()
    except ConfigError as error:
        key = error.message.replace(":", " ").split()[0]
        where = name if isinstance(name, str) else name.get(key, "gate")
        mark = "." if isinstance(name, Mapping) or error.message.startswith(f"{key}:") else ": "
        raise ConfigError(f"{where}{mark}{error.message}", hint=error.hint) from None


def _evaluator(
    chosen: EvaluatorConfig,
    folder: Path,
    names: list[str],
    objectives: tuple[Objective, ...],
    needs: tuple[str, ...],
) -> Evaluator:
    if sum(item is not None for item in (chosen.function, chosen.command, chosen.ensemble)) != 1:
        raise ConfigError(
            "evaluator: exactly one of function, command and ensemble is needed",
            hint='function = "evaluate:measure", or command = ["python", "measure.py"]',
        )
    if chosen.ensemble is not None:
        return _ensemble(chosen, chosen.ensemble, folder, names, objectives)
    if chosen.function is not None:
        from agent.evaluators.function import FunctionEvaluator

        return FunctionEvaluator(chosen.function, folder=folder, names=names, exclusive=chosen.exclusive, needs=needs)
    from agent.evaluators.command import CommandEvaluator

    return CommandEvaluator(
        chosen.command or [], cwd=folder, names=names, exclusive=chosen.exclusive, env=chosen.env or None
    )


def _set(raw: dict[str, Any], key: str, value: Any, path: Path) -> None:
    *parents, last = key.split(".")
    place = raw
    for name in parents:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{path}: {key}: {name} is not a table")
    place[last] = value


def _first(error: ValidationError) -> dict[str, Any]:
    """The first mistake, at the key as it stands in the file.

    Where a key may be a string or a table, the file says which of them is meant, and only that one is explained.
    """
    found: list[dict[str, Any]] = [{**item} for item in error.errors()]
    meant = [item for item in found if not (item["loc"][-1] == "str" and isinstance(item["input"], dict))]
    first = (meant or found)[0]
    first["loc"] = tuple(part for part in first["loc"] if part not in ALTERNATIVES)
    return first


ALTERNATIVES = ("str", "DataConfig", "dict[str,any]")
"""What pydantic puts into the place of a mistake to tell which alternative it speaks of."""


def _explain(path: Path, first: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{path}: {key}: unknown key"
    if first["type"] == "missing":
        return f"{path}: {key}: missing"
    return f"{path}: {key}: found {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"


def _allowed(place: Sequence[Any]) -> str:
    loc = place[:-1]
    model: Any = ProblemConfig
    for part in loc:
        field = getattr(model, "model_fields", {}).get(str(part))
        if field is None:
            continue
        inner = field.annotation
        candidates = [inner, *getattr(inner, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    where = f"[{'.'.join(map(str, loc))}]" if loc else "at the top level"
    return f"allowed {where}: {', '.join(model.model_fields)}"
