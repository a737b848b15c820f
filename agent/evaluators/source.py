"""Where an evaluator's source is, and what it hashes to, all without running it."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from agent.programs import syntax
from agent.space import canonical, digest

INSTALLED = {"site-packages", "dist-packages"}
OURSELVES = __name__.partition(".")[0]
PLAIN = (str, int, float, bool, type(None))


class ProblemFolder(str):
    """An entry that we appended to sys.path, told apart from the user's own by its type."""

    __slots__ = ()


def search_path(folder: Path | None) -> list[str]:
    """Where modules are found: sys.path without the folders of other problems, then this problem's folder."""
    path = [entry for entry in sys.path if not isinstance(entry, ProblemFolder)]
    return [*path, str(folder)] if folder and str(folder) not in path else path


def locate(module: str, path: Sequence[str]) -> Path | None:
    """The file that importing a module runs, or None when it has none or is not found.

    Follows the import system's rules for files; unlike `importlib.util.find_spec` it imports no
    parent package.
    """
    if module.partition(".")[0] in sys.builtin_module_names:
        return None
    folders = [Path(entry or ".") for entry in path]
    found: Path | None = None
    for part in module.split("."):
        portions = []
        found = None
        for folder in folders:
            package = folder / part
            suffixes = importlib.machinery.all_suffixes()
            files = [package / "__init__.py", *(folder / (part + suffix) for suffix in suffixes)]
            found = next((file for file in files if file.is_file()), None)
            if found is not None:
                break
            if package.is_dir():
                portions.append(package)  # a namespace package, unless a later folder has a module
        folders = [found.parent] if found is not None and found.name == "__init__.py" else portions
        if found is None and not portions:
            return None
    return found


def sources(module: str, folder: Path | None) -> dict[str, Path]:
    """The module's file and those of the modules in the folder that it imports, directly or not, by module name.

    Imports are read from the source: `import` statements anywhere in it, relative ones too, but not
    calls of `importlib`.
    """
    path = search_path(folder)
    found: dict[str, Path] = {}
    waiting = [*_parents(module), module]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] == OURSELVES:
            continue
        file = locate(name, path)
        if file is None or (name != module and not _within(file, folder)):
            continue
        found[name] = file
        waiting += _imports(name, file)
    return found


def _within(file: Path, folder: Path | None) -> bool:
    if folder is None or not file.resolve().is_relative_to(folder):
        return False
    # A folder may hold a virtual environment; what is installed there is no part of the problem.
    return not INSTALLED & set(file.resolve().relative_to(folder).parts)


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def parse(file: Path) -> ast.Module | None:
    """The syntax tree of a source file; None when it is not one, or not valid."""
    if file.suffix != ".py":
        return None
    try:
        return syntax(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _imports(module: str, file: Path) -> Iterator[str]:
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(parse(file) or ast.Module([], [])):
        names = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                kept = parts[: len(parts) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            names = [base, *(f"{base}.{item.name}".strip(".") for item in node.names)]
        for name in names:
            if name:
                yield from _parents(name)
                yield name


def defines_async(module: str, attribute: str, folder: Path | None) -> bool:
    """Whether the source defines the attribute with `async def`; False when the source does not tell."""
    return isinstance(_definition(module, attribute, folder), ast.AsyncFunctionDef)


def declares(module: str, attribute: str, folder: Path | None) -> frozenset[str] | None:
    """The names of a function's parameters; None when the source does not tell, as with a decorated function."""
    found = _definition(module, attribute, folder)
    if found is None or found.decorator_list:
        return None
    return frozenset(item.arg for item in (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs))


def _definition(module: str, attribute: str, folder: Path | None) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    file = locate(module, search_path(folder))
    body: Sequence[ast.stmt] = getattr(parse(file) if file else None, "body", ())
    *outer, last = attribute.split(".")
    for name in outer:
        body = next((n.body for n in reversed(body) if isinstance(n, ast.ClassDef) and n.name == name), ())
    for node in reversed(body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == last:
            return node
    return None


def files_digest(files: Mapping[str, Path]) -> str:
    """Hash of the contents of named files; where they are does not matter."""
    return digest({name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()})


def module_digest(module: str, attribute: str, folder: Path | None) -> str:
    """Hash of everything in the problem's folder that an import-path target runs, and of its module's file."""
    files = sources(module, folder)
    if module not in files:
        # An editable install is found by a hook of its own instead of by path.
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            files[module] = Path(spec.origin)
    return digest([module, attribute, files_digest(files)])


def import_path(function: Any) -> tuple[str, str] | None:
    """Module and attribute under which another process finds the very same function; None when there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(function, (FunctionType, type)) or module in (None, "__main__") or "<" in (name or "<"):
        return None
    loaded = sys.modules.get(str(module))
    if getattr(loaded, "__spec__", None) is None or not getattr(loaded, "__file__", None):
        return None
    found: Any = loaded
    for part in str(name).split("."):
        found = getattr(found, part, None)
    return (str(module), str(name)) if found is function else None


def import_root(module: str) -> Path | None:
    """The folder from which a loaded module was imported; None when it is an installed one."""
    file = Path(sys.modules[module].__file__ or "").resolve()
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.parents[min(depth, len(file.parents) - 1)]
    return None if INSTALLED & set(root.parts) or module.partition(".")[0] in sys.stdlib_module_names else root


def callable_digest(function: Callable[..., Any]) -> str:
    """Hash of the source and the plain constants of a callable that has no import path."""
    return digest(list(_describe(function, set())))


def _describe(value: Any, seen: set[int]) -> Iterator[Any]:
    """What makes up a callable: source, defaults, closure, and the functions and constants of its module it names."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, partial):
        yield from _describe(value.func, seen)
        yield from _plain([value.args, value.keywords])
    elif inspect.ismethod(value):
        yield from _describe(value.__func__, seen)
        yield from _plain(getattr(value.__self__, "__dict__", None))
    elif isinstance(value, FunctionType):
        yield _source(value) or _bytecode(value.__code__)
        yield from _plain([value.__defaults__, value.__kwdefaults__])
        named = inspect.getclosurevars(value)
        for name, item in sorted({**named.globals, **named.nonlocals}.items()):
            yield name
            if isinstance(item, FunctionType) and item.__module__ == value.__module__:
                yield from _describe(item, seen)
            else:
                yield from _plain(item)
    else:
        yield _source(type(value)) or f"{type(value).__module__}.{type(value).__qualname__}"
        yield from _plain(getattr(value, "__dict__", None))


def _plain(value: Any) -> Iterator[Any]:
    """The value where it is JSON, part by part where only some of it is; the rest has no lasting form."""
    if isinstance(value, PLAIN):
        try:
            yield canonical(value)
        except ValueError:
            yield repr(value)  # NaN, infinity
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _plain(item)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _plain(value[key])


def _source(value: Any) -> str | None:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return None


def _bytecode(code: CodeType) -> list[Any]:
    inner = [_bytecode(item) if isinstance(item, CodeType) else list(_plain(item)) for item in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), inner]
