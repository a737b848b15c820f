"""A problem file that was read → the problem with its settings and budget, ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code import trees
from agent.errors import ConfigError
from agent.evaluation import Evaluator, Limits
from agent.gate.checks import Check, load_check
from agent.gate.duplicates import same_behaviour
from agent.goals import Constraint, Goals, Objective
from agent.halving import Fidelity
from agent.ledger import Budget
from agent.parameters import Value
from agent.problem import Problem
from agent.program_setup import evaluator as program_evaluator
from agent.program_setup import fenced, judges, own_files
from agent.program_setup import member as program_member
from agent.proposers.table import TABLE, canonical
from agent.proposers.table import load as load_proposer
from agent.settings import Settings
from agent.space import Space
from agent.texts import Code
from agent.warm import starting_points

if TYPE_CHECKING:
    from agent.config import DataConfig, EnsembleConfig, EvaluatorConfig, ProblemConfig
    from agent.datasets.data import Dataset


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
        notes: What was found in the data, and what to know of a model that nobody named, one sentence each.
        starts: Points that are measured right after the initial candidate.
        warm_from: An earlier run to begin with: its name, its folder, or "last".
        origin: What `RunStarted.origin` says: the user's files with their hashes, whose candidate is the initial one,
            and the prompt behind outputs that are compared.
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
    origin: Mapping[str, Any] = field(default_factory=dict)

    def starting(self, values: Mapping[str, Value], run: str) -> Setup:
        """The same with another initial candidate: the one that an earlier run has released.

        Args:
            values: Of that candidate; parameters it does not know keep their defaults.
            run: The earlier run's name.

        Raises:
            ConfigError: A value does not fit the space; names the parameter.
        """
        known = {name: value for name, value in values.items() if name in self.problem.space}
        try:
            space = self.problem.space.starting(known)
        except ValueError as error:
            raise ConfigError(
                f"the candidate of {run} does not fit the space: {error}",
                hint="widen the parameter, or leave the earlier run out",
            ) from None
        origin = {**self.origin, "initial_from": run}
        return replace(self, problem=replace(self.problem, space=space), origin=origin)


def build(parsed: ProblemConfig, path: Path) -> Setup:
    """What a problem file means.

    Args:
        parsed: The file.
        path: Where it is; other paths in it are relative to its folder.

    Raises:
        ConfigError: Parts of it do not fit together, or what it names cannot be read.
    """
    folder = path.parent.resolve()
    from agent.evaluators.preference import compared
    from agent.evaluators.prompt import behind

    objectives = tuple(
        _section(f"objectives.{number}", partial(Objective, **item.model_dump()))
        for number, item in enumerate(parsed.objectives)
    )
    constraints = tuple(Constraint(**item.model_dump()) for item in parsed.constraints)
    space = _section("space", lambda: fenced(Space.from_spec(parsed.space), folder, *own_files(parsed, path)))
    chosen = parsed.evaluator
    if not objectives:
        objectives = (_objective(chosen, folder),)
    names = list(_section("gate", lambda: Goals(objectives, constraints, parsed.gate.claim)).reported)
    given = parsed.rows
    data = _data(given, folder) if given is not None else None
    fidelity = Fidelity(**parsed.fidelity.model_dump()) if parsed.fidelity is not None else None
    problem = Problem(
        name=parsed.name or folder.name,
        space=space,
        evaluator=compared(
            _evaluator(chosen, space, folder, names, objectives, fidelity.needs if fidelity is not None else ()),
            space,
            folder,
        ),
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
        if name not in (None, "none") and role not in ("base_url", "batch")
    }
    settings = _section(
        SECTIONS,
        lambda: Settings(
            proposer=parsed.proposer.name,
            models=models,
            workers=parsed.run.workers,
            executor=chosen.executor,
            isolate=chosen.isolate,
            dask=parsed.dask.model_dump(exclude_none=True) if parsed.dask is not None else {},
            base_url=parsed.models.base_url,
            batch=parsed.models.batch,
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
        checks=(
            *_behaves(chosen, problem),
            *(_section("gate.checks", partial(load_check, name, folder)) for name in parsed.gate.checks),
        ),
        shares=_shares(given),
        notes=(*(data.report.sentences() if data is not None else ()), *_unnamed(parsed, space)),
        starts=starting_points(problem.space, parsed.starts),
        warm_from=_warm_from(parsed.run.warm_from, folder),
        origin={"files": _files(parsed, path, space), **behind(problem.evaluator)},
    )


def _unnamed(parsed: ProblemConfig, space: Space) -> list[str]:
    """What to know where a proposer has programs written by the default model, which nobody named."""
    name = canonical(parsed.proposer.name)
    if "propose" in parsed.models.model_fields_set or name not in TABLE:
        return []
    if not any(isinstance(item, Code) for item in space.values()) or not load_proposer(name).needs_model:
        return []
    return [
        f"No model is named, so {name} asks {parsed.models.propose}, which is small and rarely writes a program that"
        " works; name another one with --model provider:model"
    ]


def _files(parsed: ProblemConfig, path: Path, space: Space) -> dict[str, str]:
    """SHA-256 of the files that hold defaults: the problem file itself, and texts and programs in files of their own.

    They are what a candidate may be written back to.
    """
    names = [path.name, *(item["file"] for item in parsed.space.values() if isinstance(item.get("file"), str))]
    for item in space.values():
        if isinstance(item, Code) and item.tree and item.default is None:
            names += trees.find(path.parent, item.files, item.protected)
    return {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in names}


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


def _objective(chosen: EvaluatorConfig, folder: Path) -> Objective:
    """What is compared where the file has no [[objectives]]: the metric's first number."""
    given = chosen.prompt or chosen
    assert given.metric is not None, "else the file has objectives"
    from agent.evaluators.prompt import objective
    from agent.metrics.base import load

    metric, options = given.metric, given.metric_options
    return _section("evaluator", lambda: objective(load(metric, options, folder)))  # type: ignore[no-any-return]


def _ensemble(
    chosen: EvaluatorConfig,
    given: EnsembleConfig,
    space: Space,
    folder: Path,
    names: list[str],
    objectives: tuple[Objective, ...],
) -> Evaluator:
    """Several judges of the same thing; those of programs share [evaluator.sandbox] and [evaluator.timing]."""
    from agent.evaluators.ensemble import EnsembleEvaluator

    goal = next((item for item in objectives if item.name == (given.objective or objectives[0].name)), None)
    if goal is None:
        raise ConfigError(
            f"evaluator.ensemble.objective: found {given.objective!r}, which is no objective",
            hint=f"name one of {', '.join(item.name for item in objectives)}",
        )
    env = {"env": chosen.env} if chosen.env else {}
    members: dict[str, Any] = {
        name: {**env, **item} if isinstance(item, dict) and item.get("kind") == "command" else item
        for name, item in given.members.items()
    }
    for name, item in given.members.items():
        if isinstance(item, dict) and judges(item):
            made = partial(program_member, item, chosen, space, folder, [goal.name])
            members[name] = _section(f"evaluator.ensemble.members.{name}", made)
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
    from agent.datasets.data import load as load_rows
    from agent.datasets.data import load_splits

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


SECTIONS = {"options": "proposer", "base_url": "models", "batch": "models", "workers": "run", "executor": "evaluator"}
"""Where a setting stands that is not in [gate]."""


def _section(name: str | Mapping[str, str], make: Any) -> Any:
    try:
        return make()
    except ConfigError as error:
        key = error.message.replace(":", " ").split()[0]
        where = name if isinstance(name, str) else name.get(key, "gate")
        mark = "." if isinstance(name, Mapping) or error.message.startswith(f"{key}:") else ": "
        raise ConfigError(f"{where}{mark}{error.message}", hint=error.hint) from None


def _behaves(chosen: EvaluatorConfig, problem: Problem) -> list[Check]:
    """That a program does not answer as one that was measured already, where that is asked for."""
    if chosen.duplicates != "behaviour":
        return []
    if chosen.code is None:
        raise ConfigError(
            'evaluator.duplicates: "behaviour" goes by the smoke inputs of a task',
            hint="leave it out, or take code instead",
        )
    return [same_behaviour(problem.evaluator, problem.limits)]


def _evaluator(
    chosen: EvaluatorConfig,
    space: Space,
    folder: Path,
    names: list[str],
    objectives: tuple[Objective, ...],
    needs: tuple[str, ...],
) -> Evaluator:
    kinds = {name: getattr(chosen, name) for name in ("function", "prompt", "command", "ensemble", "code", "pytest")}
    if sum(item is not None for item in kinds.values()) != 1:
        raise ConfigError(
            "evaluator: exactly one of function, command and ensemble is needed, or a prompt, or for programs code or"
            " pytest",
            hint='function = "evaluate:measure", or command = ["python", "measure.py"]',
        )
    if chosen.code is not None or chosen.pytest is not None:
        return _section("evaluator", partial(program_evaluator, chosen, space, folder, names))  # type: ignore[no-any-return]
    sandboxed = chosen.ensemble is not None and any(map(judges, chosen.ensemble.members.values()))
    for name in ("sandbox", "timing", "duplicates"):
        if name in chosen.model_fields_set and not (sandboxed and name != "duplicates"):
            raise ConfigError(
                f"evaluator.{name} is for programs that are run in the sandbox",
                hint='take code = "task:Task" or pytest = { tests = ["tests"] }, or leave it out',
            )
    if chosen.ensemble is not None:
        return _ensemble(chosen, chosen.ensemble, space, folder, names, objectives)
    if chosen.metric is not None and chosen.function is None:
        raise ConfigError(
            "evaluator.metric scores what a function answers", hint="of a prompt it is evaluator.prompt.metric"
        )
    if chosen.prompt is not None:
        from agent.evaluators.prompt import PromptEvaluator

        plain = chosen.prompt.model_dump(exclude={"metric", "metric_options"})
        scored: dict[str, Any] = {"metric": chosen.prompt.metric, "metric_options": chosen.prompt.metric_options}
        bound = space.bound(folder)
        return _section(  # type: ignore[no-any-return]
            "evaluator", lambda: PromptEvaluator(plain, space=bound, folder=folder, names=names, **scored)
        )
    if chosen.metric is not None and chosen.function is not None:
        from agent.evaluators.program import ProgramEvaluator

        more: dict[str, Any] = {"metric": chosen.metric, "metric_options": chosen.metric_options}
        rest: dict[str, Any] = {"folder": folder, "names": names, "exclusive": chosen.exclusive, "needs": needs}
        target = chosen.function
        return _section("evaluator", lambda: ProgramEvaluator(target, **more, **rest))  # type: ignore[no-any-return]
    if chosen.function is not None:
        from agent.evaluators.function import FunctionEvaluator

        return FunctionEvaluator(chosen.function, folder=folder, names=names, exclusive=chosen.exclusive, needs=needs)
    from agent.evaluators.command import CommandEvaluator

    return CommandEvaluator(
        chosen.command or [], cwd=folder, names=names, exclusive=chosen.exclusive, env=chosen.env or None
    )
