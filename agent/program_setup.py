"""Evaluators of programs, from a problem file or from Python: what runs, and what lies beside it."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import programs, trees
from agent.errors import ConfigError
from agent.evaluation import Evaluator
from agent.evaluators.loading import parse_target
from agent.evaluators.source import import_path, sources
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

    optimize(Programs(Sorting, imports=["numpy"], seconds=5), space={"program": Code(file="sort.py", entry="solve")}, …)

    Args:
        task: A class with `inputs` and `score` (see `agent.evaluators.code_task.Task`), or "module:Class".
        timing: As [evaluator.timing] of a problem file: `cost`, `repeats`, `against`.
        sandbox: As [evaluator.sandbox] of a problem file: limits, `imports`, `env`, `layers`, `unsafe`, `kind`.
    """

    task: Any
    timing: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)

    def evaluator(self, space: Space, folder: Path, names: Sequence[str], exclusive: bool, repeat: bool) -> Evaluator:
        """The evaluator for a space with programs in it.

        Raises:
            ConfigError: The space has none, or a setting is wrong.
        """
        from pydantic import ValidationError

        from agent.config import SandboxConfig, TimingConfig
        from agent.evaluators.code import CodeEvaluator

        if not any(isinstance(item, Code) for item in space.values()):
            raise ConfigError("a task judges programs, and the space has none", hint='space={"program": Code(…)}')
        try:
            sandbox, timing = SandboxConfig(**self.sandbox), TimingConfig(**self.timing)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{error.title}: {where}: found {first['input']!r}; {first['msg']}") from None
        named = import_path(self.task)
        target = ":".join(named) if named is not None else self.task
        return CodeEvaluator(target, **_given(space, folder, names, sandbox, timing, exclusive, repeat))


def task(value: Any) -> bool:
    """Whether what was given to `optimize` judges programs."""
    return isinstance(value, Programs) or all(callable(getattr(value, name, None)) for name in ("inputs", "score"))


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
    by_name = [name for name in (parsed.proposer.name, chosen.sandbox.kind) if ":" in (name or "")]
    for target in filter(None, (chosen.code, chosen.function, *parsed.gate.checks, *by_name)):
        module = parse_target(target)[0]
        found = sources(module, folder)
        own |= _inside(folder, [found[module]] if module in found else [])
        imported |= _inside(folder, found.values())
    named = [*(chosen.pytest.tests if chosen.pytest else ()), *(chosen.pytest.confirm if chosen.pytest else ())]
    named += chosen.command or []
    if chosen.pytest is not None:
        from agent.evaluators.pytest_suite import CONFIGURES

        named += CONFIGURES
    if parsed.rows is not None:
        named += filter(None, (parsed.rows.file, parsed.rows.train, parsed.rows.val, parsed.rows.test))
    own |= _inside(folder, (folder / name for name in named if name))
    return own, imported - own


def own_source(value: Any, folder: Path) -> tuple[set[str], set[str]]:
    """The file of a task that was given to `optimize`, and the modules that it imports, of those in the folder."""
    made = value.task if isinstance(value, Programs) else value
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
