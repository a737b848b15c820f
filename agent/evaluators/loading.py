"""Importing a user's callable by name, so that neither its modules nor ours shadow others."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.evaluators.source import ProblemFolder, locate, search_path, sources
from agent.executors.measure import failure_of


def parse_target(target: str) -> tuple[str, str]:
    """Module and attribute of "module:attr".

    Raises:
        ConfigError: It has another form.
    """
    module, _, attribute = target.partition(":")
    if module.endswith(".py"):
        fixed = module.removesuffix(".py").replace("/", ".").strip(".")
        raise ConfigError(f"evaluator: {target!r} names a file", hint=f'write "{fixed}:{attribute or "evaluate"}"')
    if not all(part.isidentifier() for name in (module, attribute) for part in name.split(".")):
        raise ConfigError(f"evaluator: found {target!r}, allowed is module:function", hint='such as "evaluate:score"')
    return module, attribute


def load_target(module: str, attribute: str, folder: Path | None) -> Callable[..., Any]:
    """The callable that a target names; imports the user's code.

    Raises:
        ConfigError: It cannot be imported, or is not callable; names the module and what to do.
    """
    found = find_target(module, attribute, folder)
    if not callable(found):
        raise ConfigError(f"{module}:{attribute} is {type(found).__name__}, not a function", hint="name a function")
    return found  # type: ignore[no-any-return]


def find_target(module: str, attribute: str, folder: Path | None) -> Any:
    """What a target names, whatever it is; see `load_target`."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(ProblemFolder(folder))
        importlib.invalidate_caches()
    if folder is not None:
        _refuse_mixture(module, folder)
    found = _import(module, folder)
    file = getattr(found, "__file__", None) or "built in"
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"module {module} ({file}) has no {attribute!r}", hint=_instead(found, module, folder))
        found = getattr(found, part)
    return found


_IMPORTING: dict[str, int] = {}
"""Modules of the user's that are being imported just now, and by which thread."""


def _import(module: str, folder: Path | None) -> Any:
    own = _IMPORTING.setdefault(module, threading.get_ident()) == threading.get_ident()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            where = f"in {folder} or " if folder is not None else ""
            raise ConfigError(
                f"there is no module {missing!r} {where}on Python's path",
                hint=f"correct the name, or put {missing.partition('.')[0]}.py into the problem's folder",
            ) from None
        hint = f"install {missing}, or correct the import" if missing else "correct the module; importing it must work"
        raise ConfigError(f"importing {module} failed: {failure_of(error).message}", hint=hint) from error
    finally:
        if own:
            _IMPORTING.pop(module, None)


def refuse_nested_search() -> None:
    """Refuse a search that a module starts while it is imported for another one.

    A script that names itself would start a search in each process that loads its evaluator; and one that names itself
    for its proposer would wait for its own import for ever, since a search has a thread of its own.

    Raises:
        ConfigError: Says where to put the search.
    """
    frames = sys._current_frames()
    for module, thread in list(_IMPORTING.items()):
        frame = frames.get(thread)
        while frame is not None and frame.f_code is not _import.__code__:
            if frame.f_globals.get("__name__") == "agent.api":
                raise ConfigError(
                    f'{module} starts a search whenever it is imported; put that below `if __name__ == "__main__":`'
                )
            frame = frame.f_back


def _instead(found: Any, module: str, folder: Path | None) -> str:
    """What to do about a missing attribute."""
    if folder is not None and locate(module, [str(folder)]) not in (None, locate(module, search_path(folder))):
        return f"rename the module in {folder}, for another one of its name comes first"
    names = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
    return f"it has {', '.join(names)[:200]}" if names else "define it there"


def _refuse_mixture(module: str, folder: Path) -> None:
    """Keep two problems in one process apart: Python has one module of a name, and the first one wins."""
    for name, file in sources(module, folder).items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        others = locate(name, sys.path) if loaded is None else Path(loaded).resolve()
        if others is not None and others.resolve() != file.resolve():
            raise ConfigError(
                f"module {name} is {others} in this process, not {file}",
                hint="rename one of them, or run the evaluator in a subprocess",
            )
