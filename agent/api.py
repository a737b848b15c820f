"""The Python API: `optimize`, its async twin, and ask/tell below them.

from agent import Float, optimize

result = optimize(lambda x: (x["a"] - 0.3) ** 2, space={"a": Float(0, 1)},
                  objectives="minimize", budget=60, deterministic=True, model=None)
print(result.best["a"], result.sentence)
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.datasets.data import Dataset, load, load_splits
from agent.errors import ConfigError
from agent.evaluating import uses
from agent.evaluation import Evaluator, Limits
from agent.events import Event, HoldoutFixed
from agent.folders import find, new_run, runs_folder
from agent.gate.checks import user_check
from agent.goals import Constraint, Goals, Objective
from agent.halving import Fidelity
from agent.inthread import in_thread
from agent.ledger import Budget
from agent.loop import Observer
from agent.parameters import Parameter
from agent.problem import Problem
from agent.program_setup import Programs, fenced, own_source, task
from agent.results.result import Result
from agent.results.resultfiles import exhausted
from agent.session import Session
from agent.settings import ROLES, Settings
from agent.space import Space
from agent.state import State
from agent.warm import Earlier

if TYPE_CHECKING:
    from agent.trace import Param

EVALUATIONS = 100
TARGET = re.compile(r"[\w.]+:[\w.]+|[\w./]+\.py(:\w*)?")
"""How a text is written that names a function, and is no prompt."""
DEFAULT = "default"
"""Stands for the embedded model."""


def make_session(
    evaluate: Callable[..., Any] | str | Evaluator,
    *,
    space: Space | Mapping[str, Parameter] | Sequence[Param],
    data: Any = (),
    target: str = "population",
    claim: str = "primary",
    checks: Sequence[Callable[..., Any]] = (),
    objectives: str | Objective | Sequence[Objective] | None = None,
    constraints: Sequence[Constraint] = (),
    model: Any = DEFAULT,
    budget: int | Budget | None = None,
    seed: int = 0,
    deterministic: bool = False,
    exclusive: bool = False,
    limits: Limits | None = None,
    description: str = "",
    name: str | None = None,
    folder: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    starts: Sequence[Mapping[str, Any]] = (),
    warm_from: Earlier | None = None,
    fidelity: Fidelity | None = None,
    metric: str | Callable[..., Any] | None = None,
    metric_options: Mapping[str, Any] | None = None,
) -> Session:
    """The session that `optimize` runs; the arguments are explained there."""
    from agent.evaluators.preference import compared
    from agent.evaluators.prompt import behind

    where = Path(folder) if folder is not None else _folder_of(evaluate)
    if metric is not None:
        from agent.evaluators.prompt import objective
        from agent.metrics.base import load as load_metric

        if objectives is None:
            objectives = (objective(load_metric(metric, metric_options, where)),)
    elif metric_options:
        raise ConfigError("metric_options: there is no metric", hint='name one, such as metric="exact_match"')
    scored = {} if metric is None else {"metric": metric, "metric_options": metric_options}
    goals = _objectives("minimize" if objectives is None else objectives)
    for what, value, right, allowed in (
        ("checks", checks, isinstance(checks, Sequence) and all(map(callable, checks)), "a list of functions"),
        ("constraints", constraints, _all(constraints, Constraint), "a list of Constraint"),
        ("budget", budget, _whole(budget) or isinstance(budget, Budget | None), "a number of evaluations, or a Budget"),
        ("seed", seed, _whole(seed), "a whole number"),
        ("options", options, options is None or isinstance(options, Mapping), "a mapping of settings"),
        ("limits", limits, limits is None or isinstance(limits, Limits), "Limits"),
        ("fidelity", fidelity, fidelity is None or isinstance(fidelity, Fidelity), "Fidelity, such as Fidelity(0.111)"),
    ):
        if not right:
            raise ConfigError(f"{what}: found {value!r}, allowed is {allowed}")
    names = list(Goals(goals, tuple(constraints), claim).reported)  # type: ignore[arg-type]
    rows = _dataset(data)
    known = Space.of(space)
    if task(evaluate):
        known = fenced(known, where, *own_source(evaluate, where))
        programs = evaluate if isinstance(evaluate, Programs) else Programs(evaluate)
        made = programs.evaluator(known, where, goals[0], names, exclusive, deterministic)
    else:
        needs = fidelity.needs if fidelity is not None else ()
        made = compared(_evaluator(evaluate, where, names, exclusive, needs, scored, known), known, where)
    problem = Problem(
        name=name or _name_of(evaluate),
        space=known,
        evaluator=made,
        objectives=goals,
        constraints=tuple(constraints),
        data=rows.examples if rows is not None else (),
        deterministic=deterministic,
        target=target if rows is not None else "suite",  # type: ignore[arg-type]
        claim=claim,  # type: ignore[arg-type]
        labels=rows.labels if rows is not None else ("id",),
        description=description or _words_of(evaluate),
        folder=where,
        limits=limits or Limits(),
        fidelity=fidelity,
    )
    given = dict(options or {})
    settings: dict[str, Any] = {"models": {}, **given}
    roles = ("propose", *uses(problem.evaluator))
    scripted: Any = None
    if isinstance(model, str):  # one name is for whoever asks
        name_of_all = Settings().models["propose"] if model == DEFAULT else model
        settings["models"] = dict.fromkeys(roles, name_of_all)
    elif isinstance(model, Mapping):
        for role in model:
            if role not in ROLES:
                raise ConfigError(f"model: unknown role {role!r}, allowed are {', '.join(ROLES)}")
        settings["models"], scripted = _models(model)
    elif model is not None:
        if not hasattr(model, "complete"):
            raise ConfigError(
                f"model: found {model!r}, allowed is provider:model, a mapping of roles to such names, None, "
                "or an object with a method complete"
            )
        scripted = model
        settings["models"] = dict.fromkeys(roles, f"scripted:{type(model).__name__}")
    return Session(
        problem=problem,
        settings=Settings.from_json(settings),
        budget=budget if isinstance(budget, Budget) else Budget(evaluations=EVALUATIONS if budget is None else budget),
        seed=seed,
        model=scripted,
        observers=(_warned, *observers),
        checks=tuple(user_check(check) for check in checks),
        starts=starts,
        warm_from=warm_from,
        origin=behind(problem.evaluator),
    )


def _warned(event: Event, state: State) -> None:
    """Say at the start that nothing can be shown, while nothing is spent."""
    if isinstance(event, HoldoutFixed) and (why := exhausted(state)):
        logging.getLogger(__name__).warning("%s: %s", state.run, why)


def _dataset(data: Any) -> Dataset | None:
    """The rows: a `Dataset`, a path, a list or an iterator, or {"train": …, "val": …, "test": …}."""
    if isinstance(data, list) and not data:
        raise ConfigError("data is empty", hint="give at least two rows, or leave data out where there are none")
    if isinstance(data, Sequence) and not isinstance(data, str) and not data:
        return None
    if not isinstance(data, (str, Path, Mapping, Iterable, Dataset)) or isinstance(data, bytes):
        raise ConfigError(
            f"data: found {data!r}, allowed is a list of rows, a path, an iterator or a mapping of splits"
        )
    if isinstance(data, Dataset):
        return data
    try:
        return _read(data)
    except ConfigError as error:  # the hint names the key of a problem file
        call = f"agent.datasets.data.load{'_splits' if isinstance(data, Mapping) else ''}"
        hint = error.hint.replace("with skip_bad = True", f"with data={call}(…, skip_bad=True)")
        raise ConfigError(error.message, hint=hint) from None


def _read(data: Any) -> Dataset:
    if not isinstance(data, Mapping):
        return load(data)
    unknown = [name for name in data if name not in ("train", "val", "test")]
    if unknown or "train" not in data:
        raise ConfigError(f"data: found the splits {', '.join(map(str, data))}, allowed are train, val and test")
    return load_splits(**data)


def _objectives(given: str | Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    if isinstance(given, Objective):
        return (given,)
    if isinstance(given, str):
        return (Objective("value", given),)  # type: ignore[arg-type]
    if not given or not _all(given, Objective):
        raise ConfigError(
            f"objectives: found {given!r}, allowed is minimize, maximize, an Objective, or a list of them"
        )
    return tuple(given)


def _all(given: Any, kind: type) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(item, kind) for item in given)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def known_arguments(given: Mapping[str, Any]) -> None:
    """Refuse keywords that nothing reads.

    Raises:
        ConfigError: There is one; lists those that are allowed.
    """
    allowed = [name for name in inspect.signature(make_session).parameters if name != "evaluate"]
    for name in given:
        if name not in allowed:
            allowed += ["runs", "resume", "accept_change"]
            raise ConfigError(f"{name}: unknown argument", hint=f"allowed are {', '.join(sorted(allowed))}")


def _models(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any] | None]:
    """A mapping of roles to names or model objects, as names, and the objects by name."""
    names: dict[str, str] = {}
    objects: dict[str, Any] = {}
    for role, model in given.items():
        if isinstance(model, str):
            names[role] = model
        elif hasattr(model, "complete"):
            names[role] = f"scripted:{role}-{type(model).__name__}"
            objects[names[role]] = model
        elif model is not None:
            raise ConfigError(
                f"model: {role}: found {model!r}, allowed is provider:model, an object with a method complete, or None"
            )
    return names, objects or None


def _evaluator(
    evaluate: Any,
    folder: Path,
    names: Sequence[str],
    exclusive: bool,
    needs: tuple[str, ...],
    scored: Mapping[str, Any],
    space: Space,
) -> Evaluator:
    if hasattr(evaluate, "produce"):
        if scored:
            raise ConfigError("metric: an evaluator scores for itself", hint="leave metric out")
        made: Evaluator = evaluate
        return made
    from agent.evaluators.prompt import Prompt, PromptEvaluator

    if isinstance(evaluate, Prompt) or (isinstance(evaluate, str) and not TARGET.fullmatch(evaluate)):
        if not scored:
            raise ConfigError(
                "a prompt needs a metric that scores the answers",
                hint='such as metric="exact_match"; or name a function as "module:function"',
            )
        return PromptEvaluator(evaluate, space=space.bound(folder), folder=folder, names=names, **scored)
    if scored:
        from agent.evaluators.program import ProgramEvaluator

        return ProgramEvaluator(evaluate, folder=folder, names=names, exclusive=exclusive, needs=needs, **scored)
    from agent.evaluators.function import FunctionEvaluator

    return FunctionEvaluator(evaluate, folder=folder, names=names, exclusive=exclusive, needs=needs)


def _folder_of(evaluate: Any) -> Path:
    # A script's runs lie beside the script, wherever it was started from; a notebook's in its working directory.
    evaluate = evaluate.first if isinstance(evaluate, Programs) else evaluate
    try:
        source = inspect.getsourcefile(inspect.unwrap(evaluate))
    except TypeError:
        source = None
    return Path(source).parent if source and Path(source).is_file() else Path.cwd()


def _words_of(evaluate: Any) -> str:
    # What an object of a class says about itself (a text, a partial, an evaluator) is not about the problem.
    own = inspect.isroutine(evaluate) or getattr(evaluate, "__doc__", None) != type(evaluate).__doc__
    return (inspect.getdoc(evaluate) or "") if own else ""


def _name_of(evaluate: Any) -> str:
    evaluate = evaluate.first if isinstance(evaluate, Programs) else evaluate
    text = evaluate if isinstance(evaluate, str) else getattr(evaluate, "__name__", type(evaluate).__name__)
    if isinstance(evaluate, str) and not TARGET.fullmatch(text):
        return "prompt"
    return "run" if "<" in text else text.replace(":", "-")


async def optimize_async(
    evaluate: Callable[..., Any] | str | Evaluator,
    *,
    space: Space | Mapping[str, Parameter] | Sequence[Param],
    runs: str | Path | None = None,
    resume: str | Path | None = None,
    accept_change: bool = False,
    **given: Any,
) -> Result:
    """`optimize` for code that has an event loop of its own."""
    known_arguments(given)
    session = make_session(evaluate, space=space, **given)
    root = runs_folder(session.problem.folder, runs)
    if resume is None:
        return await session.run(new_run(root, session.problem.name))
    folder = find(root, str(resume))
    changes = {"budget": session.budget.to_json()} if given.get("budget") is not None else {}
    return await session.resume(folder, changes=changes, accept_change=accept_change)


def optimize(
    evaluate: Callable[..., Any] | str | Evaluator,
    *,
    space: Space | Mapping[str, Parameter] | Sequence[Param],
    data: Any = (),
    objectives: str | Objective | Sequence[Objective] | None = None,
    model: Any = DEFAULT,
    budget: int | Budget | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Make something measurable better, and say whether it was shown to be better.

    Args:
        evaluate: Measures a candidate (a mapping of values): a function, sync or async, "module:attr",
            or an `Evaluator`. It returns a number, `(number, feedback)`, a mapping of names to
            numbers, or a `Score`. With `data` it is called as `evaluate(candidate, row)`. With `metric` it is the task
            program: a prompt template, a `Prompt`, or a function that may return a text, which the metric scores. For
            programs, a class with `inputs` and `score`, or `Programs` of one: they run in the sandbox (docs/code.md).
        space: Parameters by name; or the list of `agent.param` that the program reads.
        data: Rows: a list, an iterator, the path of a .jsonl, .json or .csv file, {"train": …, "val": …, "test": …},
            or an `agent.datasets.data.Dataset` with clusters and answers.
        objectives: "minimize" or "maximize" for a function that returns a number; otherwise `Objective`s,
            of which the first is compared and the others are recorded; None for what the metric reports, or "minimize".
        model: `provider:model` for every role that is asked, a mapping by role (propose, task, judge, critic) of
            names or model objects, a model object, or None for no model.
        budget: Evaluations, or a `Budget` with limits on calls, tokens, dollars and seconds too; 100
            evaluations unless you say otherwise, and what it was when a run is resumed.
        seed: Of the run's random numbers.
        options: Fields of `Settings` (proposer, workers, exam_pairs, base_url …).
        more: target ("population": the rows are a sample, and a part of them is held back to prove gains with;
            "suite": they are the goal itself), claim (what several objectives claim: primary, sum or
            dominance), metric (what scores an answer: a name such as "exact_match", or a function of answer and row),
            metric_options, checks (functions that may refuse a candidate before it is measured), constraints,
            deterministic (measuring twice gives the same number), exclusive, limits, description, name,
            folder, observers; fidelity (`Fidelity`: candidates are measured with a part of the effort first, and
            hopeless measurements are stopped); starts (points to measure right after the defaults, mappings in which
            what is left out takes its default), warm_from (an earlier run on the same or an overlapping space, by
            name, folder or "last", or points as `agent.integrations.optuna` gives them: its best ones are tried first,
            and proposers may know it; its scores are compared with nothing); runs (where run folders go); resume (a
            run to continue) and accept_change.

    Returns:
        The result; its status says whether the gain is proven, exact, unproven, or not there.

    Raises:
        ConfigError: Something in the call is wrong; nothing was spent.
        PrerequisiteError: A package, a key or the model's weights are missing; says how to get them.
        StoreError: The run folder cannot be written.
        RunLocked: The run to resume is being written by another process.

    It runs in a thread of its own, so that it also works where an event loop is running already.
    """
    return in_thread(
        optimize_async(
            evaluate,
            space=space,
            data=data,
            objectives=objectives,
            model=model,
            seed=seed,
            options=options,
            budget=budget,
            **more,
        )
    )
