"""Tools that a model may call: typed functions, whose JSON schema comes from their signature.

A tool is `async def top(desk: Desk, n: int = 5) -> str`, with a docstring that says what it does and what its
arguments are; so is a user's own function, which may be a plain one and do without the desk. Whatever goes wrong
in a tool goes back to the model as text. What a tool returns is capped, and it has a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from agent.code.untrusted import cleaned
from agent.errors import AgentError, ConfigError, PrerequisiteError, ProviderError, StoreError
from agent.tools.clock import limited

if TYPE_CHECKING:
    from agent.proposers.base import Context

CHARS = 6000
"""Most characters of a tool's answer: its head and its tail."""
SECONDS = 120.0
"""How long a tool may take, unless it says something else."""
CONSULTS = frozenset({"critic", "second"})
"""Tools that ask a model themselves, which has limits of its own."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""What all providers take as a tool's name."""


class ToolError(AgentError):
    """Goes back to the model as text, which tells it what to do next."""

    kind = "tool"


@dataclass
class Desk:
    """What a tool may use; a new one for each call.

    Args:
        context: Of the decision: problem, history, rows of train, measuring and model calls.
        key: Names this call, for `Context.look` and `Context.consult`; a second one of a call takes f"{key}.1" …
        options: The user's options of this tool.
        notebook: What the proposer writes down for itself, JSON by name; journalled, and there again at the next
            decision. Only a tool that says so writes in it; others are given a copy.
    """

    context: Context
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    notebook: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that a model may call.

    Args:
        name: Letters, digits, _ and -.
        description: For the model: what it does and when it is of use.
        schema: JSON schema of its arguments, an object.
        function: Takes the desk and the arguments by name; gives text, or what JSON can say.
        read: Makes the function's arguments of what the model gave. Raises ValueError, in words for the model.
        seconds: How long it may take, without its looks and model calls and while the run rests; None for one with
            limits of its own.
        pure: It reads and writes the notebook and the history alone, and gives the same each time: a conversation that
            goes on after a kill calls it again, in order, where another tool's answer is taken from the record.
        writes: It writes in the notebook, which is journalled with its answer. The calls of such tools in one turn are
            made one after the other, before the others.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    function: Callable[..., Awaitable[Any]]
    read: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    seconds: float | None = SECONDS
    pure: bool = False
    writes: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"tools: {self.name[:80]!r} cannot be the name of a tool",
                hint="take up to 64 letters, digits, _ and -, beginning with a letter",
            )


def tool_of(function: Callable[..., Any], *, name: str = "", **more: Any) -> Tool:
    """A tool of a function.

    Args:
        function: Each parameter with a type (str, int, float, bool, list, dict, Literal, Optional, dataclasses …);
            a docstring with an `Args:` section. A first parameter that is called `desk` is given the Desk and is not
            part of the schema. A plain function runs in a thread of its own, which is abandoned when it takes too long.
        name: Under which the model calls it; by default the function's.
        more: Of what a Tool has: seconds, pure, writes.

    Raises:
        ConfigError: It has no docstring, a parameter without a type, or one that JSON cannot say.
    """
    label = name or getattr(function, "__name__", type(function).__name__)
    parameters = dict(inspect.signature(function).parameters)
    wants_desk = next(iter(parameters), "") == "desk"
    parameters.pop("desk", None)
    description, arguments = _documented(function, label)
    schema, read = _arguments(function, label, parameters, arguments)

    async def run(desk: Desk, /, **given: Any) -> Any:
        place = (desk,) if wants_desk else ()
        if inspect.iscoroutinefunction(function):
            return await function(*place, **given)
        return await _in_thread(lambda: function(*place, **given))

    return Tool(label, description, schema, run, read, **more)


def _documented(function: Callable[..., Any], label: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of a function and of each argument."""
    import docstring_parser

    found = docstring_parser.parse(inspect.getdoc(function) or "")
    if not found.short_description:
        raise ConfigError(f"the tool {label} has no docstring", hint="say in it what the tool does; the model reads it")
    parts = (found.short_description, found.long_description)
    return "\n".join(part for part in parts if part), {
        item.arg_name: " ".join((item.description or "").split()) for item in found.params
    }


def _arguments(
    function: Callable[..., Any], label: str, parameters: Mapping[str, inspect.Parameter], words: Mapping[str, str]
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The schema of a function's arguments, and what reads them."""
    from pydantic import ConfigDict, Field, ValidationError, create_model
    from pydantic.errors import PydanticUserError

    try:
        hints = get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except (NameError, TypeError) as error:
        if "Desk" not in str(error):
            raise ConfigError(f"the types of the tool {label} cannot be read: {error}") from None
        hints = get_type_hints(function, localns={"Desk": Desk})  # imported for the type checker alone
    fields: dict[str, Any] = {}
    for index, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or name not in hints:
            raise ConfigError(
                f"the tool {label}: its parameter {name} has no type, or cannot be given by name",
                hint=f"write it as {name}: str, or int, float, bool, list[str], dict …",
            )
        given: dict[str, Any] = {"alias": name, "description": words.get(name)}
        if parameter.default is not parameter.empty:
            simple = isinstance(parameter.default, (str, int, float, bool, type(None)))
            given |= {"default": parameter.default} if simple else {"default_factory": type(None)}
        fields[f"f{index}"] = (hints[name], Field(**given))
    try:
        model = create_model(label, __config__=ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema()
    except PydanticUserError as error:
        raise ConfigError(f"the tool {label} has a parameter that JSON cannot say: {error.message}") from None

    def read(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            made = model.model_validate(dict(arguments))
        except ValidationError as error:
            raise ValueError("; ".join(_sentences(error))) from None
        return {name: getattr(made, f"f{index}") for index, name in enumerate(parameters) if name in arguments}

    return _plain(schema), read


def _sentences(error: Any) -> list[str]:
    found = error.errors(include_url=False, include_context=False)
    return [f"{'.'.join(map(str, item['loc'])) or 'the arguments'}: {item['msg']}" for item in found[:5]]


def _plain(schema: Any, names: bool = False) -> Any:
    """A schema without the titles that pydantic makes up. `names`: its keys are the user's own."""
    if isinstance(schema, dict):
        kept = {key: item for key, item in schema.items() if names or key != "title"}
        return {key: _plain(item, key in ("properties", "$defs") and not names) for key, item in kept.items()}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What a blocking function gives. A thread cannot be stopped; this one does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error if isinstance(error, Exception) else ToolError(f"it ended with {error!r}"))

    def body() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:  # sys.exit in a user's function must not end the run in silence
            error = ToolError("it raised StopIteration") if isinstance(caught, StopIteration) else caught
        with contextlib.suppress(RuntimeError):  # an abandoned thread may outlive the loop
            loop.call_soon_threadsafe(settle, value, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), daemon=True, name="tool").start()
    return await future


async def call(tool: Tool, desk: Desk, arguments: Mapping[str, Any] | None, *, chars: int = CHARS) -> tuple[str, bool]:
    """What a tool answers, as text for the model, and whether that is an error.

    Args:
        tool: To call.
        desk: Made for this call.
        arguments: Of the model; None when they were not a JSON object.
        chars: Most characters of the answer, at least 100.

    Raises:
        StoreError, PrerequisiteError, ProviderError: Only what must stop the run: a journal that cannot be written,
            something that this machine lacks, credentials that no longer hold.
    """
    if arguments is None:
        return f"the arguments of {tool.name} are not a JSON object; call it again with {_usage(tool)}", True
    try:
        given = tool.read(arguments)
    except (ValueError, RecursionError) as error:
        return cleaned(f"{tool.name} was not called: {error}. It takes {_usage(tool)}", chars), True
    try:
        async with limited(tool.seconds):
            found = await tool.function(desk, **given)
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
        return cleaned(text, chars) or "(nothing)", False
    except (StoreError, PrerequisiteError):
        raise
    except ProviderError as error:
        if error.fatal:
            raise
        return cleaned(f"{tool.name} failed: {error.message}", chars), True
    except AgentError as error:
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        return cleaned(f"{tool.name}: {said}", chars), True
    except TimeoutError:
        limit = f" within {tool.seconds:g} seconds" if tool.seconds is not None else ""
        return f"{tool.name} gave no answer{limit} and was ended; ask for less", True
    except (Exception, SystemExit) as error:  # a user's function may do anything
        return cleaned(f"{tool.name} failed: {type(error).__name__}: {error}", chars), True


def _usage(tool: Tool) -> str:
    """A tool's arguments in one line."""
    required = tool.schema.get("required", ())
    names = [name if name in required else f"{name} (optional)" for name in tool.schema.get("properties", {})]
    return f"one JSON object with {', '.join(names)}" if names else "no arguments: {}"


TABLE: dict[str, str] = {
    "candidate": "agent.tools.history:candidate",
    "critic": "agent.tools.critic:critic",
    "diff": "agent.tools.diff:diff",
    "evaluate": "agent.tools.evaluate:evaluate",
    "failures": "agent.tools.history:failures",
    "files": "agent.tools.files:files",
    "hypothesis": "agent.tools.hypothesis:hypothesis",
    "outcome": "agent.tools.hypothesis:outcome",
    "parameters": "agent.tools.statistics:parameters",
    "pareto": "agent.tools.history:pareto",
    "python": "agent.tools.python:python",
    "read_file": "agent.tools.files:read_file",
    "read_row": "agent.tools.statistics:read_row",
    "recent": "agent.tools.history:recent",
    "rows": "agent.tools.statistics:rows",
    "search_files": "agent.tools.files:search_files",
    "search_trace": "agent.tools.traces:search_trace",
    "second": "agent.tools.second:second",
    "surrogate": "agent.tools.surrogate:surrogate",
    "top": "agent.tools.history:top",
    "trace": "agent.tools.traces:trace",
}
"""Tools by name."""


@cache
def _known(name: str) -> Tool:
    """The tool of the table; made once, since each decision wants them all."""
    module, _, attribute = TABLE[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, Tool):
        return replace(found, name=name)
    return tool_of(found, name=name, seconds=None if name in CONSULTS else SECONDS)


def load(name: str, folder: Path | None = None) -> Tool:
    """The tool of a name, or of the user's own `module:function`, which may be a `Tool` too.

    A function may say as an attribute how long it may take, `function.seconds = 600`, and that it writes in the
    notebook, `function.writes = True`.

    Args:
        name: In the table, or an import path; its module is looked for in the problem's folder too.
        folder: Of the problem.

    Raises:
        ConfigError: There is none, or it is not fit to be a tool; lists the known names.
    """
    if name in TABLE:
        return _known(name)
    if ":" not in name:
        raise ConfigError(
            f"tools: there is no tool {name!r}",
            hint=f"choose of {', '.join(sorted(TABLE))}, or give module:function of your own",
        )
    from agent.evaluators.loading import find_target, load_target

    module, _, attribute = name.partition(":")
    found = find_target(module, attribute, folder)
    if isinstance(found, Tool):
        return found
    writes = getattr(found, "writes", False) is True
    return tool_of(load_target(module, attribute, folder), seconds=_seconds(found, name), writes=writes)


def _seconds(function: Any, name: str) -> float | None:
    found = getattr(function, "seconds", SECONDS)
    if found is not None and (not isinstance(found, (int, float)) or isinstance(found, bool) or not found > 0):
        raise ConfigError(f"the tool {name}: seconds is {found!r}", hint="give a number above 0, or None for no limit")
    return found
