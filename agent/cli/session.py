"""`truegain session`"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import locate, runs_option
from agent.cli.finishing import finish_options, told
from agent.cli.run import (
    BUDGET,
    begun,
    ending_options,
    exit_code,
    guarded,
    overrides,
    problem_options,
    report,
    session_of,
    start_options,
    watched,
)
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.dialogue.terminal import Terminal
    from agent.results.result import Result

OUTPUTS = ("text", "json", "stream-json")
AGAIN = "truegain session --resume"
Drive = Callable[[Any, Any], Any]
"""A run, given who watches it and who is given it before it is driven."""


@click.command(
    "session",
    help="Work on a PROBLEM together with a model that has tools: watch, and guide it at any time. In a folder without"
    " a problem.toml it helps to write one. With -p or --output nobody is asked anything.",
)
@click.argument("problem", type=click.Path(path_type=Path), required=False)
@click.option(
    "--resume",
    "resumed",
    is_flag=False,
    flag_value="last",
    metavar="[RUN]",
    help="Go on with the last session, or with a RUN.",
)
@click.option("-p", "--prompt", "goal", metavar="GOAL", help="Headless: what you want, in words.")
@click.option("--output", type=click.Choice(OUTPUTS), help="Headless: text, one JSON document, or JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="As --output json.")
@click.option("--accept-change", is_flag=True, help="With --resume: go on although evaluator, data or problem changed.")
@problem_options
@start_options
@ending_options
@finish_options
@runs_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    problem: Path | None,
    resumed: str | None,
    goal: str | None,
    output: str | None,
    as_json: bool,
    accept_change: bool,
    runs: str | None,
    **given: Any,
) -> None:
    from agent.dialogue.commands import LEFT
    from agent.dialogue.headless import checked
    from agent.errors import ConfigError

    if as_json and output not in (None, "json"):
        raise ConfigError(f"--json and --output {output} contradict each other", hint="leave one of them out")
    output = "json" if as_json else output
    goal = checked(goal) if goal is not None else ""
    terminal = None
    if not goal and output is None:
        from agent.dialogue.terminal import Terminal

        terminal = Terminal()
    if resumed is not None:
        folder, drive = _resumed(ctx, problem, resumed, runs, given, accept_change, terminal)
    else:
        folder, drive = _new(ctx, problem or Path.cwd(), runs, given, terminal)

    def ended() -> int:
        result = _beside(drive, folder, terminal) if terminal is not None else _headless(drive, goal, output or "text")
        if result.status == "open" and result.detail == LEFT:
            return 0  # the person left, and knew it
        return exit_code(result, given["strict"], given["wants_gain"])

    ctx.exit(told(folder, given, ended))


def _new(
    ctx: click.Context, problem: Path, runs: str | None, given: dict[str, Any], terminal: Terminal | None
) -> tuple[Path, Drive]:
    from dataclasses import replace

    from agent.config import load
    from agent.dialogue.beside import refuse_at_terminal
    from agent.folders import new_run, runs_folder

    paid: list[Any] = []
    if not _file(problem).exists():
        paid += _draft(ctx, problem.parent if problem.suffix == ".toml" else problem, given, terminal)
    changes = overrides(given)
    setup = begun(load(problem, {**_agent(problem, changes), **changes}), {**given, "runs": runs})
    guarded(setup)
    if terminal is not None:
        refuse_at_terminal(setup.problem.evaluator)
    drafting = {"drafting": paid} if paid else {}
    setup = replace(setup, origin={**setup.origin, "command": list(ctx.obj or ()), **drafting})
    for note in setup.notes:
        if note.startswith("Left out"):
            click.echo(plain(f"Note: {note}"), err=True)
    folder = new_run(runs_folder(setup.problem.folder, runs), setup.problem.name)
    return folder, lambda display, hold: session_of(setup, display, service=True).run(folder, hold)


def _file(problem: Path) -> Path:
    """The problem file that is meant.

    Raises:
        ConfigError: It is neither a folder nor a problem file.
    """
    from agent.errors import ConfigError

    if problem.suffix != ".toml" and problem.exists() and not problem.is_dir():
        raise ConfigError(f"{problem} is no problem file", hint="name a folder, or its problem.toml")
    if problem.suffix == ".toml" and problem.name != "problem.toml" and not problem.exists():
        raise ConfigError(f"there is no {problem}", hint="name a folder: truegain session FOLDER helps to write one")
    return problem if problem.suffix == ".toml" else problem / "problem.toml"


def _agent(problem: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """A session's proposer is the agent with tools, unless another one is named or no model could use them.

    Args:
        problem: A folder with a problem file, or the file.
        changes: What the command line replaces, by dotted key.
    """
    import tomllib

    from agent.settings import DEFAULT_MODEL

    try:
        raw = tomllib.loads(_file(problem).read_text(encoding="utf-8"))
        named = "proposer.name" in changes or "name" in raw.get("proposer", {})
        model = str(changes.get("models.propose", raw.get("models", {}).get("propose", DEFAULT_MODEL)))
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # whoever loads it says what is wrong
    if named:
        return {}
    if model == "none" or model.startswith("local:"):
        small = "the built-in model is" if model == DEFAULT_MODEL else f"{model} is"
        why = "there is no model" if model == "none" else f"{small} too small for the agent with tools"
        text = f"the default proposer searches, since {why}; --model provider:model names one for the agent."
        click.echo(plain(f"Note: {text}"), err=True)
        return {}
    return {"proposer.name": "agentic"}


def _draft(
    ctx: click.Context, place: Path, given: dict[str, Any], terminal: Terminal | None
) -> tuple[dict[str, Any], ...]:
    """Help to write the problem, and give what models were paid for that; ends the command where nothing was
    written."""
    from agent.drafting import draft
    from agent.errors import ConfigError
    from agent.ledger import Budget

    missing = f"there is no problem.toml in {place}" if place.is_dir() else f"there is no folder {place}"
    if terminal is None:
        raise ConfigError(
            missing,
            hint="truegain session at a terminal helps to write one; truegain init writes an example",
        )
    terminal.say(f"T{missing[1:]}; I help you to write {'one' if place.is_dir() else 'a problem there'}.")
    limits = Budget(**{name: given[name] for name in BUDGET if given.get(name) is not None})
    again = f"truegain session {place}"
    try:
        written = asyncio.run(draft(place, terminal, given.get("model"), budget=limits))
        if written is None:
            ctx.exit(2)  # there is nothing to search in
        broken = written.findings is not None and not written.ready
        bounds = {**written.setup.budget.to_json(), **limits.to_json()}
        most = ", ".join(f"{limit:g} {kind}" for kind, limit in bounds.items())
        doubt = "It does not work yet. " if broken else "" if written.ready else "It was not tried. "
        all_the_same = " all the same" if doubt else ""
        if written.paid and bounds.keys() & {"calls", "tokens", "usd"}:
            most += ", what is spent on models so far included"
        if not terminal.confirm(f"{doubt}Start the search now{all_the_same}, with at most {most}?"):
            terminal.say(f"Next: {'mend it, then: ' if broken else ''}{again}")
            ctx.exit(3 if broken else 0)
        return written.paid
    except KeyboardInterrupt:
        raise click.Abort(f"nothing more was done, and what was written stays; next: {again}") from None
    except EOFError:
        raise ConfigError(
            "the input ended before all questions were answered; nothing more was done, and what was written stays",
            hint=f"{again} at a terminal asks again",
        ) from None


def _resumed(
    ctx: click.Context,
    problem: Path | None,
    name: str,
    runs: str | None,
    given: dict[str, Any],
    accept_change: bool,
    terminal: Terminal | None,
) -> tuple[Path, Drive]:
    from agent.cli.resume import continued
    from agent.dialogue.beside import refuse_at_terminal
    from agent.errors import ConfigError

    fixed = [item for item in ("model", "proposer", "seed", "starts", "warm_from", "initial_from") if given.get(item)]
    if fixed:
        raise ConfigError(
            f"--{fixed[0].replace('_', '-')} is fixed when a run begins", hint="leave it out, or begin a new session"
        )
    folder = _last(runs) if name == "last" else locate(name, runs)
    setup, changes = continued(folder, problem, given)
    if terminal is not None:
        refuse_at_terminal(setup.problem.evaluator)

    def drive(display: Any, hold: Any) -> Any:
        made = session_of(setup, display, service=True)
        return made.resume(folder, changes=changes, accept_change=accept_change, hold=hold)

    return folder, drive


def _last(runs: str | None) -> Path:
    """The session that was begun last.

    Raises:
        ConfigError: There is none.
    """
    from agent.errors import ConfigError, StoreError
    from agent.folders import folders, listing, runs_folder
    from agent.journal import read

    where = runs_folder(None, runs)
    found: list[tuple[float, Path]] = []
    for folder in folders(where):
        try:
            first = next(read(folder), None)
        except StoreError:
            continue
        words = getattr(first.event, "origin", {}).get("command", []) if first is not None else []
        if "session" in words[:2]:
            found.append((listing(folder).started, folder))
    if not found:
        raise ConfigError(f"there is no session in {where}", hint="truegain list shows the runs; name one of them")
    return max(found)[1]


def _beside(drive: Drive, folder: Path, terminal: Terminal) -> Result:
    """Drive a run with a person beside it."""
    from agent.dialogue.beside import Beside

    async def together() -> Any:
        beside = Beside(terminal)
        try:
            with terminal.shown():
                return await drive(beside, beside.hold)
        finally:
            await beside.close()

    try:
        result: Result = asyncio.run(together())
    except asyncio.CancelledError:  # the second Ctrl-C
        raise click.Abort(f"{AGAIN} {folder.name} goes on with what was measured so far") from None
    report(result, False, AGAIN)
    return result


def _headless(drive: Drive, goal: str, output: str) -> Result:
    """Drive a run with nobody there."""
    from agent.dialogue.headless import Stream, asked

    def hold(run: Any) -> None:
        asked(run, goal)

    if output != "stream-json":
        done = watched(lambda display, _: drive(display, hold), output == "json")
        report(done, output == "json", AGAIN)
        return done
    stream = Stream()
    try:
        result: Result = asyncio.run(drive(stream, hold))
    except asyncio.CancelledError:
        raise click.Abort(f"{AGAIN} goes on with what was measured so far") from None
    stream.end(result)
    return result
