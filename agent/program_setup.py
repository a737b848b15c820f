"""Evaluators of programs, from a problem file or from Python: what runs, and what lies beside it."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code import programs, trees
from agent.errors import ConfigError
from agent.evaluation import Evaluator
from agent.evaluators.loading import parse_target
from agent.evaluators.source import import_path, sources
from agent.goals import Objective
from agent.space import Space
from agent.texts import Code

if TYPE_CHECKING:
    from agent.config import EvaluatorConfig, ProblemConfig, SandboxConfig, TimingConfig

CAPS = (
    "seconds",
    "job_seconds",
    "cpu_seconds",
    "memory_mb",
    "processes",
    "disk_mb",
    "output_bytes",
    "log_chars",
)
"""Which of the sandbox's settings are limits of one job."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What `optimize` measures programs with: a task, run in the sandbox.

    optimize(
        Programs(Sorting, sandbox={"imports": ["numpy"], "seconds": 5.0}),
        space={"program": Code(file="sort.py", entry="solve")},
    )

    Args:
        task: A class with `inputs` and `score` (see `agent.evaluators.code_task.Task`), or "module:Class". Several by
            name judge the same program, and their scores are joined as [evaluator.ensemble] joins them; each measures
            the first objective.
        timing: As [evaluator.timing] of a problem file: `cost`, `repeats`, `against`.
        sandbox: As [evaluator.sandbox] of a problem file: limits, `imports`, `env`, `layers`, `unsafe`, `kind`.
        ensemble: Of several tasks: `combine`, `kappa`, `weight`.
    """

    task: Any
    timing: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    ensemble: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Any:
        """The task, of several the first one: what a problem is called after, and beside which its runs are."""
        return next(iter(self.task.values()), None) if isinstance(self.task, Mapping) else self.task

    def evaluator(
        self,
        space: Space,
        folder: Path,
        goal: Objective,
        names: Sequence[str],
        exclusive: bool,
        repeat: bool,
    ) -> Evaluator:
        """The evaluator for a space with programs in it.

        Raises:
            ConfigError: The space has none, or a setting is wrong.
        """
        from agent.config import SandboxConfig, TimingConfig
        from agent.evaluators.code import CodeEvaluator
        from agent.evaluators.ensemble import EnsembleEvaluator

        if not any(isinstance(item, Code) for item in space.values()):
            raise ConfigError("a task judges programs, and the space has none", hint='space={"program": Code(…)}')
        sandbox, timing = _read(SandboxConfig, self.sandbox), _read(TimingConfig, self.timing)

        def made(task: Any, reported: Sequence[str]) -> Evaluator:
            named = import_path(task)
            target = ":".join(named) if named is not None else task
            return CodeEvaluator(target, **_given(space, folder, reported, sandbox, timing, exclusive, repeat))

        if not isinstance(self.task, Mapping):
            if self.ensemble:
                raise ConfigError("ensemble: there is one task alone", hint='task={"right": Right, "quick": Quick}')
            return made(self.task, names)
        joined: dict[str, Any] = {"name": goal.name, "direction": goal.direction, "names": list(names)}
        if wrong := sorted(set(self.ensemble) - {"combine", "kappa", "weight"}):
            raise ConfigError(f"ensemble: {wrong[0]}: unknown key, allowed are combine, kappa and weight")
        members = {name: made(task, [goal.name]) for name, task in self.task.items()}
        return EnsembleEvaluator(members, **joined, **self.ensemble, folder=folder, exclusive=exclusive)


def task(value: Any) -> bool:
    """Whether what was given to `optimize` judges programs."""
    return isinstance(value, Programs) or all(callable(getattr(value, name, None)) for name in ("inputs", "score"))


def judges(given: Any) -> bool:
    """Whether a member of [evaluator.ensemble] judges programs in the sandbox."""
    return isinstance(given, Mapping) and given.get("kind") in ("code", "pytest")


def member(
    given: Mapping[str, Any], chosen: EvaluatorConfig, space: Space, folder: Path, names: Sequence[str]
) -> Evaluator:
    """A member of an ensemble that judges programs.

    Args:
        given: `kind` and `target` of a task, or `kind` and what [evaluator.pytest] has; `sandbox` and `timing` change
            what the section of that name says, for this member alone.
        chosen: [evaluator].
        space: Of the problem.
        folder: Of the problem.
        names: What the member must measure.

    Raises:
        ConfigError: Says what does not fit.
    """
    from agent.config import EvaluatorConfig, SuiteConfig

    rest = dict(given)
    own: dict[str, Any] = {"exclusive": chosen.exclusive, "deterministic": chosen.deterministic}
    for section in ("sandbox", "timing"):
        shared = getattr(chosen, section)
        changed = {**shared.model_dump(exclude_unset=True), **_table(section, rest.pop(section, {}))}
        own[section] = _read(type(shared), changed)
    if rest.pop("kind") == "pytest":
        return evaluator(EvaluatorConfig(pytest=_read(SuiteConfig, rest), **own), space, folder, list(names))
    if set(rest) != {"target"} or not isinstance(rest["target"], str):
        raise ConfigError(
            f"a member of kind code has {', '.join(sorted(rest)) or 'no target'}, allowed is target, sandbox, timing",
            hint='{ kind = "code", target = "task:Task" }',
        )
    return evaluator(EvaluatorConfig(code=rest["target"], **own), space, folder, list(names))


def _table(section: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{section}: found {given!r}, allowed is a table, as [evaluator.{section}]")
    return given


def _read(section: Any, given: Mapping[str, Any]) -> Any:
    """A section of a problem file from plain data.

    Raises:
        ConfigError: Names the key that is wrong.
    """
    from pydantic import ValidationError

    try:
        return section(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{error.title}: {where}: found {first['input']!r}; {first['msg']}") from None


def evaluator(chosen: EvaluatorConfig, space: Space, folder: Path, names: list[str]) -> Evaluator:
    """The evaluator of [evaluator] code or pytest.

    Raises:
        ConfigError: Says what does not fit.
    """
    needs_initial = chosen.pytest is not None
    rest = _given(
        space, folder, names, chosen.sandbox, chosen.timing, chosen.exclusive, chosen.deterministic, needs_initial
    )
    if chosen.code is not None:
        from agent.evaluators.code import CodeEvaluator

        return CodeEvaluator(chosen.code, **rest)
    assert chosen.pytest is not None
    from agent.evaluators.pytest_suite import PytestEvaluator

    return PytestEvaluator(**chosen.pytest.model_dump(), **rest)


def _given(
    space: Space,
    folder: Path,
    names: Sequence[str],
    limits: SandboxConfig,
    timing: TimingConfig,
    exclusive: bool,
    repeat: bool,
    needs_initial: bool = False,
) -> dict[str, Any]:
    given = limits.model_dump()
    sandbox: dict[str, Any] = {"caps": {name: given.pop(name) for name in CAPS if given[name] is not None}}
    sandbox |= {name: value for name, value in given.items() if value}
    initial = needs_initial or timing.against is not None
    place = partial(_place, folder=folder, asked=not needs_initial)
    return {
        "folder": folder,
        "names": list(names),
        "programs": {name: place(name, item) for name, item in space.items() if isinstance(item, Code)},
        "sandbox": sandbox,
        "timing": timing.model_dump(),
        "exclusive": exclusive,
        "initial": space.bound(folder).initial().values_json if initial else None,
        "repeat": repeat,
    }


def _place(name: str, item: Code, folder: Path, asked: bool) -> dict[str, Any]:
    """Where a program lies, how it is entered, and which files of the problem's folder lie beside it."""
    if asked and item.entry and item.signature and programs.required(item.signature) > 1:
        raise ConfigError(
            f"space.{name}: signature: found {item.signature!r}, and a program is called with one argument, the input",
            hint='such as "(given)"; let inputs() give a list or a mapping where there is more to say',
        )
    suffix = ".py" if item.language == "python" else f".{item.language}"
    out: dict[str, Any] = {"path": None if item.tree else item.file or name + suffix, "entry": item.entry}
    if item.tree and item.protected:
        out["beside"] = _beside(name, item, folder)
    return out


def _beside(name: str, item: Code, folder: Path) -> list[str]:
    out = []
    for pattern in item.protected:
        if isinstance(pattern, Own):
            continue
        found = [path for path in trees.find(folder, [pattern], ()) if not trees.matches(path, owned(item))]
        if not found:
            raise ConfigError(f"space.{name}: protected: no file in {folder} fits {pattern!r}", hint="correct it")
        out += found
    return sorted(set(out))


class Own(str):
    """A protected path that belongs to the evaluator: no part of the program, changed or not."""

    __slots__ = ()


def owned(item: Code) -> list[str]:
    """The paths of a tree's folder that belong to the evaluator."""
    return [path for path in item.protected if isinstance(path, Own)]


def fenced(space: Space, folder: Path, own: Collection[str], imported: Collection[str] = ()) -> Space:
    """The space, with trees that never take in what belongs to the evaluator.

    Args:
        space: Of the problem.
        folder: Of the problem.
        own: Paths of its files, and of folders whose files are all its own.
        imported: Paths of modules that its modules import.

    Raises:
        ConfigError: A candidate may change a module that the evaluator imports.
    """
    out: dict[str, Any] = dict(space)
    for name, item in space.items():
        if not isinstance(item, Code) or not item.tree or item.default is not None:
            continue
        kept = [Own(pattern) for path in map(glob.escape, own) for pattern in (path, f"{path}/**")]
        out[name] = replace(item, protected=(*item.protected, *kept))
        try:
            found = set(trees.find(folder, item.files, out[name].protected))
        except ValueError as error:
            raise ConfigError(f"space.{name}: files: {error}", hint="name other files, or protect it") from None
        if both := sorted(found & set(imported)):
            raise ConfigError(
                f"space.{name}: files takes in {both[0]}, which the evaluator imports",
                hint=f'protected = ["{both[0]}"] keeps it as it is, for programs to read; or take it out of files',
            )
    return Space(out)


def own_files(parsed: ProblemConfig, path: Path) -> tuple[set[str], set[str]]:
    """The files of a problem's folder that are its evaluator's, and the modules there that those import.

    Args:
        parsed: The problem file.
        path: Where it is.
    """
    folder, chosen = path.parent.resolve(), parsed.evaluator
    own, imported = {path.name}, set()
    members = list(chosen.ensemble.members.values()) if chosen.ensemble else []
    told = [item for item in members if isinstance(item, Mapping)]
    kinds = [chosen.sandbox.kind, *(_table("sandbox", item.get("sandbox", {})).get("kind") for item in told)]
    by_name = [name for name in (parsed.proposer.name, *kinds) if ":" in (name or "")]
    targets = [item if isinstance(item, str) else item.get("target") for item in members]
    by_name += [target for target in targets if isinstance(target, str)]
    for target in filter(None, (chosen.code, chosen.function, *parsed.gate.checks, *by_name)):
        module = parse_target(target)[0]
        found = sources(module, folder)
        own |= _inside(folder, [found[module]] if module in found else [])
        imported |= _inside(folder, found.values())
    named = [*(chosen.pytest.tests if chosen.pytest else ()), *(chosen.pytest.confirm if chosen.pytest else ())]
    named += chosen.command or []
    named += [name for item in told for key in ("argv", "tests", "confirm") for name in item.get(key, ())]
    if chosen.pytest is not None or any(item.get("kind") == "pytest" for item in told):
        from agent.evaluators.pytest_suite import CONFIGURES

        named += CONFIGURES
    if parsed.rows is not None:
        named += filter(None, (parsed.rows.file, parsed.rows.train, parsed.rows.val, parsed.rows.test))
    own |= _inside(folder, (folder / name for name in named if name))
    return own, imported - own


def own_source(value: Any, folder: Path) -> tuple[set[str], set[str]]:
    """The file of a task that was given to `optimize`, and the modules that it imports, of those in the folder."""
    made = value.task if isinstance(value, Programs) else value
    if isinstance(made, Mapping):
        pairs = [own_source(task, folder) for task in made.values()]
        mine, theirs = (set().union(*sets) for sets in zip(*pairs, strict=True)) if pairs else (set(), set())
        return mine, theirs - mine
    if isinstance(made, str):
        module, file = parse_target(made)[0], None
    else:
        kind = made if isinstance(made, type) else type(made)
        module, file = kind.__module__, inspect.getsourcefile(kind)
    found = sources(module, folder) if module != "__main__" else {}
    if file is not None and module == "__main__":
        found = {name: path for name, path in sources(Path(file).stem, folder).items() if path.name.endswith(".py")}
    own = _inside(folder, [file] if file is not None else [found[module]] if module in found else [])
    return own, _inside(folder, found.values()) - own


def _inside(folder: Path, files: Any) -> set[str]:
    out = set()
    for file in files:
        place = Path(file).resolve()
        if place != folder and place.is_relative_to(folder) and place.exists():
            out.add(place.relative_to(folder).as_posix())
    return out
