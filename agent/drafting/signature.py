"""What a Python file says about its functions, read and not run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConfigError
from agent.parameters import Value

FILLED = ("seed", "replicate", "example", "fidelity")
"""Parameters that the evaluator fills in when a function names them; see `agent.evaluators.function`."""
LARGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Signature:
    """A function at the top level of a file.

    Args:
        name: Of the function.
        defaults: Its parameters that a search may change, with their defaults; None for one without.
        filled: Those of `FILLED` that it takes.
        other: Parameters whose defaults are no numbers, texts or truth values; they keep them.
    """

    name: str
    defaults: dict[str, Value]
    filled: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def takes_mapping(self) -> bool:
        """Whether it has the evaluator's form already: one parameter, without a default, for all values."""
        return list(self.defaults.values()) == [None] and not self.other


def functions(path: Path) -> list[Signature]:
    """The functions at the top level of a file, those with parameters first.

    Raises:
        ConfigError: It cannot be read, or is not Python.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path.name} has more than {LARGEST:,} bytes")
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not Python: {error}") from None
    found = [_signature(node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    return sorted(found, key=lambda item: not item.defaults)


def _signature(node: ast.FunctionDef) -> Signature:
    positional = [*node.args.posonlyargs, *node.args.args]
    given: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    given += node.args.defaults
    defaults: dict[str, Value] = {}
    filled, other = [], []
    pairs = [*zip(positional, given, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    for argument, default in pairs:
        if argument.arg in FILLED:
            filled.append(argument.arg)
            continue
        if default is None:
            defaults[argument.arg] = None
            continue
        try:
            value = ast.literal_eval(default)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = None
        if isinstance(value, (bool, int, float, str)):
            defaults[argument.arg] = value
        else:
            other.append(argument.arg)
    return Signature(node.name, defaults, tuple(filled), tuple(other))
