"""problem.toml → a problem with its settings and budget.

Every error names file, key, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import ConfigError
from agent.settings import DEFAULT_MODEL
from agent.setup import Setup, build
from agent.tomlread import read_toml

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


class SandboxConfig(_Strict):
    """[evaluator.sandbox]: what a candidate's program may take and use."""

    seconds: float = Field(default=10.0, gt=0)
    job_seconds: float | None = Field(default=None, gt=0)
    cpu_seconds: float | None = Field(default=None, gt=0)
    memory_mb: int = Field(default=512, gt=0)
    processes: int = Field(default=1, ge=1)
    disk_mb: int = Field(default=64, ge=1)
    output_bytes: int = Field(default=4 * 2**20, ge=1)
    log_chars: int = Field(default=8000, ge=0)
    imports: list[str] = []
    env: dict[str, str] = {}
    layers: list[str] | None = None
    unsafe: bool = False
    kind: str | None = None


class TimingConfig(_Strict):
    """[evaluator.timing]: how a program's cost is measured."""

    cost: Literal["seconds", "instructions"] | None = None
    repeats: int = Field(default=3, ge=1)
    against: Literal["initial"] | None = None


class SuiteConfig(_Strict):
    """[evaluator.pytest]: test files and folders, and further ones for the gate and the report alone."""

    tests: list[str] = Field(min_length=1)
    confirm: list[str] = []
    plugins: list[str] = []


class PromptConfig(_Strict):
    """[evaluator.prompt]: a prompt that the task model answers, and the metric that scores the answers."""

    template: str = ""
    system: str = ""
    demos: str = ""
    demo: str = ""
    max_output_tokens: int = Field(default=256, ge=1)
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    max_chars: int = Field(default=200_000, ge=1)
    metric: str
    metric_options: dict[str, Any] = {}


class EvaluatorConfig(_Strict):
    """[evaluator]: a function "module:attr" in the problem's folder (with `metric` it may return an answer), a prompt,
    a command, several judges, or for programs a task "module:Class" or a pytest suite."""

    function: str | None = None
    command: list[str] | None = None
    ensemble: EnsembleConfig | None = None
    exclusive: bool = False
    deterministic: bool = False
    executor: Literal["inline", "subprocess", "dask"] | None = None
    isolate: bool = False
    timeout: float | None = Field(default=None, gt=0)
    memory_mb: int | None = Field(default=None, gt=0)
    env: dict[str, str] = {}
    code: str | None = None
    pytest: SuiteConfig | None = None
    sandbox: SandboxConfig = SandboxConfig()
    timing: TimingConfig = TimingConfig()
    duplicates: Literal["program", "behaviour"] = "program"
    prompt: PromptConfig | None = None
    metric: str | None = None
    metric_options: dict[str, Any] = {}


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
    most: float | None = None


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
    """[models]: `provider:model` by role, and which roles' calls go through the provider's Batch API."""

    propose: str = DEFAULT_MODEL
    task: str | None = None
    judge: str | None = None
    critic: str | None = None
    embed: str | None = None
    base_url: str | None = None
    batch: Any = False


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
    suspicion: float = Field(default=6.0, ge=0, allow_inf_nan=False)
    claim: Literal["primary", "sum", "dominance"] = "primary"
    checks: list[str] = []


class RunConfig(_Strict):
    """[run]"""

    seed: int = 0
    workers: int = Field(default=1, ge=1)
    warm_from: str | None = None


class DaskConfig(_Strict):
    """[dask]: the cluster that executor = "dask" uses."""

    scheduler: str | None = None
    resources: dict[str, float] | None = None


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
    cache_written: float | None = Field(default=None, ge=0)


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
    dask: DaskConfig | None = None
    prices: dict[str, PriceConfig] = {}

    @property
    def rows(self) -> DataConfig | None:
        """[data], where a file's name alone means that file."""
        return DataConfig(file=self.data) if isinstance(self.data, str) else self.data


class ScoredConfig(ProblemConfig):
    """The same where a metric scores the answers: what is compared need not be said."""

    objectives: list[ObjectiveConfig] = []


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> Setup:
    """Read `problem.toml` from a folder (or the file itself).

    Args:
        folder: The problem's folder, or the path of its file.
        overrides: Values by dotted key that replace the file's, such as {"run.workers": 4}.

    Raises:
        ConfigError: The file is missing, cannot be read or is not TOML, or a key is unknown or has a value that is not
            allowed.
    """
    path = folder if folder.suffix == ".toml" else folder / FILE
    raw = read_toml(path, missing="truegain init writes a working problem folder to start from")
    for key, value in (overrides or {}).items():
        _set(raw, key, value, path)
    try:
        parsed = (ScoredConfig if _scored(raw) else ProblemConfig).model_validate(raw)
    except ValidationError as error:
        wrong = _first(error)
        raise ConfigError(_explain(path, wrong), hint=_fix(wrong, _allowed(wrong["loc"]))) from None
    try:
        return build(parsed, path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None


def _scored(raw: Mapping[str, Any]) -> bool:
    chosen = raw.get("evaluator")
    return isinstance(chosen, dict) and ("prompt" in chosen or "metric" in chosen)


def _set(raw: dict[str, Any], key: str, value: Any, path: Path) -> None:
    *parents, last = key.split(".")
    place = raw
    for name in parents:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{path}: {key}: {name} is not a table", hint=f"leave {key} out, or make {name} a table")
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
    key = _key(first)
    if first["type"] == "extra_forbidden":
        return f"{path}: {key}: unknown key"
    if first["type"] == "missing":
        return f"{path}: {key}: missing"
    return f"{path}: {key}: found {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"


def _fix(first: Mapping[str, Any], keys: str) -> str:
    """What to do about a mistake: where a value is wrong the message has said what is allowed, not `keys`."""
    return keys if first["type"] in ("extra_forbidden", "missing") else f"give {_key(first)} such a value"


def _key(first: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in first["loc"])


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
