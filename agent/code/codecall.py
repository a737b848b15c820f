"""A program that is a parameter's value, called from the user's own program: in the sandbox."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from agent.errors import ConfigError, EvaluatorError
from agent.tracing.spans import Raised, plain

RUNNER, TYPES = "agent.evaluators.code_runner", "agent.sandbox.types"
ENTRY = "_truegain_entry"
"""Module beside the candidate's files that spreads the arguments."""


class CallFailed(EvaluatorError):
    """A parameter's code failed.

    Args:
        message: What happened.
        status: As in `agent.sandbox.types.Status`: crash, timeout, memory …
        raised: The same with the failing line of the code.
    """

    def __init__(self, message: str, *, status: str, raised: Raised) -> None:
        super().__init__(message)
        self.status, self.raised = status, raised

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(CallFailed, status=self.status, raised=self.raised), (self.message,)


def call(
    name: str,
    parameter: Any,
    value: Any,
    options: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """What the entry of a `Code` value returns.

    Args:
        name: Name of the parameter.
        parameter: Its kind: a `Code` with an entry.
        value: Its text, or its files.
        options: For the sandbox, and `caps`.
        args: Positional arguments: JSON values and numpy arrays.
        kwargs: The others.

    Raises:
        CallFailed: It failed.
        ConfigError: The parameter is no Python code with an entry, or an argument cannot be sent.
        PrerequisiteError: The sandbox cannot work here.
    """
    entry = getattr(parameter, "entry", None)
    if entry is None or parameter.language != "python":
        raise ConfigError(
            f"{name}: there is nothing to call", hint='give the parameter an entry: Code("def f(x): …", entry="f")'
        )
    texts = {f"{name}.py": value} if isinstance(value, str) else dict(value)
    module, _, function = entry.rpartition(":")
    spread = (
        f"from {module or name} import {function} as f\n\n\ndef call(given):\n    return f(*given[0], **given[1])\n"
    )
    types: Any = importlib.import_module(TYPES)
    given = dict(options)
    caps = types.Caps(**given.pop("caps", {}))
    job = types.Job(
        files={path: text.encode("utf-8", "surrogatepass") for path, text in {**texts, f"{ENTRY}.py": spread}.items()},
        entry=f"{ENTRY}:call",
        inputs=[[list(args), dict(kwargs)]],
        caps=caps,
        imports=tuple(given.get("imports", ())),
    )
    try:
        result = _runner(json.dumps(given, sort_keys=True)).run(job)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name}: an argument cannot be sent to the sandbox: {error}",
            hint="call it with numbers, texts, lists, mappings or numpy arrays",
        ) from None
    if result.status == "ok":
        return result.outputs[0]
    where = _place(name, texts, result.detail)
    message = plain(f"{name}: {result.message or result.status}")
    kind, _, said = result.message.partition(": ")
    if not kind.isidentifier():
        kind, said = result.status, result.message
    at = f" ({where[0]}:{where[1]}: {plain(where[2])})" if where[0] else ""
    raise CallFailed(message + at, status=result.status, raised=Raised(kind, plain(said), *where))


@functools.cache
def _runner(options: str) -> Any:
    """The sandbox of this process; it ends with the process."""
    return importlib.import_module(RUNNER).Runner(options=json.loads(options))


def _place(name: str, texts: Mapping[str, str], detail: str) -> tuple[str, int, str]:
    """File, line and text that "file:line function" stands for, in the candidate's own files."""
    place = detail.partition(" ")[0]
    file, _, line = place.rpartition(":")
    path = str(PurePosixPath(file))
    lines = texts.get(path, "").splitlines()
    if not line.isdigit() or not 0 < int(line) <= len(lines):
        return "", 0, ""
    return path, int(line), lines[int(line) - 1].strip()
