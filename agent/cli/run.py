"""`truegain run`"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import F, emit, json_option, runs_option
from agent.cli.detached import Log, detach_option, start
from agent.cli.finishing import finish_options, told
from agent.control.detach import inherited
from agent.telling.text import fitted, plain

if TYPE_CHECKING:
    from agent.cli.jsonlines import JsonLines
    from agent.results.result import Result
    from agent.session import Session
    from agent.setup import Setup
    from agent.telling.display import Display

BUDGET = ("evaluations", "calls", "tokens", "usd", "seconds")


def budget_options(function: F) -> F:
    """Limits, each replacing the problem file's."""
    for name, kind, text in reversed(
        [
            ("evaluations", int, "At most N evaluations, the final exam included."),
            ("calls", int, "At most N model calls."),
            ("tokens", int, "At most N tokens."),
            ("usd", float, "At most this many dollars."),
            ("seconds", float, "At most this many seconds, the final exam included."),
        ]
    ):
        function = click.option(f"--{name}", type=kind, metavar="N", help=text)(function)
    return function


unsafe_option = click.option(
    "--unsafe",
    is_flag=True,
    help="Run candidate programs although the sandbox is too weak here; truegain doctor --sandbox says how weak.",
)


def problem_options(function: F) -> F:
    """What replaces keys of the problem file."""
    for option in reversed(
        [
            click.option(
                "--model", metavar="PROVIDER:MODEL", help="Who proposes: openai:…, anthropic:…, local:…, or none."
            ),
            click.option("--proposer", metavar="NAME", help="default, or one of docs/proposers.md, or module:attr."),
            click.option("--seed", type=int, help="Seed of all random numbers of the run."),
            click.option("--workers", type=click.IntRange(min=1), help="Evaluations in flight."),
            unsafe_option,
            click.option(
                "--set",
                "sets",
                multiple=True,
                metavar="KEY=VALUE",
                help="Any key of problem.toml, such as gate.exam_pairs=8.",
            ),
        ]
    ):
        function = option(function)
    return budget_options(function)


def start_options(function: F) -> F:
    """What the search begins with besides the defaults."""
    for option in reversed(
        [
            click.option(
                "--start",
                "starts",
                multiple=True,
                metavar="NAME=VALUE,…",
                help="A point to measure before the first proposal, beside those of problem.toml; may be repeated.",
            ),
            click.option(
                "--warm-from",
                metavar="RUN",
                help="Try the best points of an earlier run first, and avoid those that failed.",
            ),
            click.option(
                "--initial-from",
                metavar="RUN",
                help="Begin with the candidate that an earlier run has released, in place of the defaults.",
            ),
        ]
    ):
        function = option(function)
    return function


def begun(setup: Setup, given: dict[str, Any]) -> Setup:
    """The problem file with the command line's starting points and earlier run.

    Raises:
        ConfigError: A starting point is not one of the space.
    """
    from dataclasses import replace

    from agent.errors import ConfigError
    from agent.warm import read_start, starting_points

    if given["initial_from"]:
        from agent.folders import find, runs_folder
        from agent.results.result import load_result

        earlier = load_result(find(runs_folder(setup.problem.folder, given.get("runs")), given["initial_from"]))
        setup = setup.starting(earlier.released, earlier.run)
    added: list[Mapping[str, Any]] = []
    for text in given["starts"]:
        try:
            added += starting_points(setup.problem.space, [read_start(text)])
        except ConfigError as error:
            raise ConfigError(f"--start {text}: {error.message.removeprefix('starts.0.')}", hint=error.hint) from None
    return replace(setup, starts=(*setup.starts, *added), warm_from=given["warm_from"] or setup.warm_from)


def ending_options(function: F) -> F:
    """Exit codes that scripts may ask for."""
    function = click.option(
        "--fail-if-no-improvement", "wants_gain", is_flag=True, help="Exit with 5 when no gain was shown."
    )(function)
    return click.option("--strict", is_flag=True, help="Exit with 4 when the gate could not decide (unproven).")(
        function
    )


def exit_code(result: Result, strict: bool, wants_gain: bool) -> int:
    """What the process ends with; a search without a gain is a success unless the caller says otherwise."""
    if result.exit_code == 0 and strict and result.status == "unproven":
        return 4
    if result.exit_code == 0 and wants_gain and result.status in ("initial", "unproven"):
        return 5
    return result.exit_code


def overrides(given: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys of problem.toml that the command line replaces.

    Raises:
        ConfigError: A --set without "=".
    """
    import tomllib

    from agent.errors import ConfigError

    out: dict[str, Any] = {}
    for text in given.get("sets") or ():
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise ConfigError(f"--set {text}: an = is missing", hint="such as --set run.workers=4")
        try:
            out[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            out[key] = value
    places = {"model": "models.propose", "proposer": "proposer.name", "seed": "run.seed", "workers": "run.workers"}
    places |= {name: f"budget.{name}" for name in BUDGET}
    out |= {key: given[name] for name, key in places.items() if given.get(name) is not None}
    if given.get("unsafe"):
        out["evaluator.sandbox.unsafe"] = True
    return out


def guarded(setup: Setup) -> None:
    """Refuse a sandbox that is too weak here; where the user wants it all the same, say on stderr what may happen.

    Raises:
        ConfigError, PrerequisiteError: As the evaluator's `guard`.
    """
    guard = getattr(setup.problem.evaluator, "guard", None)
    if guard is not None and (lacking := guard().get("not_stopped")):
        click.echo(f"Unsafe: nothing here keeps candidate code from {', or '.join(lacking)}.", err=True)


def session_of(setup: Setup, display: Display | JsonLines | None = None, service: bool = False) -> Session:
    """The session of a problem file, watched by a display; `service` as in `Session`."""
    from agent.session import Session

    watched_by: dict[str, Any] = {}
    if display is not None:
        watched_by = {"observers": (display,), "progress": display.progress}
        still = getattr(display, "still", None)
        if still is not None and getattr(setup.problem.evaluator, "at_terminal", False):
            still()  # somebody is asked questions there
    return Session.of(setup, service=service, **watched_by)


Make = Callable[["Display | JsonLines", Callable[[Any], None] | None], Any]
"""A run, given who watches it and what it calls when it is about to be driven."""


def driven(make: Make, folder: Path, pipe: int | None, as_json: bool, strict: bool, wants_gain: bool) -> int:
    """Drive a run to its end and say what came out; the exit code.

    Args:
        make: The run.
        folder: Of the run.
        pipe: In a process that `--detach` has started: where its launch record goes.
        as_json: Print the result as one JSON document.
        strict: As in `exit_code`,
        wants_gain: and so is this.
    """
    if pipe is not None:
        return Log(folder, pipe).drive(make, lambda result: exit_code(result, strict, wants_gain))
    result = watched(make, as_json)
    report(result, as_json)
    return exit_code(result, strict, wants_gain)


def watched(make: Make, as_json: bool) -> Result:
    """Drive a run with a display; Ctrl-C is handled by the session."""
    import asyncio

    from agent.telling.display import Display, wants_live

    display = Display(live=wants_live() and not as_json)
    try:
        with display.shown():
            result: Result = asyncio.run(make(display, None))
    except asyncio.CancelledError:  # the second Ctrl-C
        raise click.Abort("truegain resume goes on with what was measured so far") from None
    return result


def again(result: Result) -> str:
    """The command that goes on with a run, without the run's name."""
    import shlex

    from agent.serving.guest import NAME

    if result._state.settings.proposer != NAME:
        return "truegain resume"
    place, here = result.problem.folder, Path.cwd()
    near = place.relative_to(here) if place != here and place.is_relative_to(here) else place
    return f"truegain serve-eval {shlex.quote(str(near))} --resume"


def report(result: Result, as_json: bool, resume: str = "") -> None:
    """The last lines: what was gained with its interval, what it cost, and the next command.

    Args:
        result: Of the run.
        as_json: One JSON document instead.
        resume: The command that goes on with it, if it is not `again`.
    """
    from agent.cli.show import differences
    from agent.results.resultfiles import spent_line, used_up

    if as_json:
        emit(result.to_json())
        return
    changes = result.problem.space.diff(result.initial, result.best)
    click.echo("")
    whole = differences(result) if changes else True
    for line in result.edges:
        click.echo(line)
    if changes or result.edges:
        click.echo("")
    status = "" if result.status == "open" else f"{result.status.upper()}: "
    click.echo(fitted(f"{status}{plain(result.sentence)}", sys.stdout))
    click.echo(fitted(f"Spent: {spent_line(result.spent)}.", sys.stdout))
    if why := used_up(result):
        click.echo(fitted(plain(f"Before the next run: {why}."), sys.stdout))
    name = result.run
    if result.status == "open" or result.reason == "provider":
        stopped = result.reason in ("interrupted", "terminated")
        click.echo("Stopped; everything that was measured is saved." if stopped else f"Stopped: {plain(result.detail)}")
        click.echo(plain(f"Next: {resume or again(result)} {name}"))
    elif result.reason == "evaluator":
        from agent.blame import mending

        first = result.trials[0]
        mend = mending(result.problem, first.failure, first.detail)
        click.echo(plain(f"Next: {mend}, then run again"))
    else:
        click.echo(f"Best and summary: {result.folder}")
        diff = "" if whole else f"truegain diff {name}   "
        click.echo(f"Next: {diff}truegain show {name}   truegain report {name} --open   truegain apply {name}")


@click.command("run", help="Optimize the problem in a folder with a problem.toml.")
@click.argument("problem", type=click.Path(path_type=Path))
@problem_options
@start_options
@ending_options
@finish_options
@detach_option
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, problem: Path, runs: str | None, detach: bool, as_json: bool, **given: Any) -> None:
    from dataclasses import replace

    from agent.config import load
    from agent.folders import new_run, runs_folder

    pipe = inherited()
    if detach and pipe is None:
        ctx.exit(start(ctx.obj[1:], as_json))
    setup = begun(load(problem, overrides(given)), {**given, "runs": runs})
    guarded(setup)
    setup = replace(setup, origin={**setup.origin, "command": list(ctx.obj or ())})
    for note in setup.notes:
        if note.startswith(("Left out", "No model")):
            click.echo(plain(f"Note: {note}"), err=True)
    folder = new_run(runs_folder(setup.problem.folder, runs), setup.problem.name)

    def go(display: Any, hold: Any) -> Any:
        return session_of(setup, display, service=True).run(folder, hold)

    def drive() -> int:
        return driven(go, folder, pipe, as_json, given["strict"], given["wants_gain"])

    ctx.exit(told(folder, given, drive))
