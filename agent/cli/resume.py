"""`truegain resume`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.cli.detached import detach_option, start
from agent.cli.finishing import finish_options, told
from agent.cli.run import BUDGET, budget_options, driven, ending_options, guarded, overrides, session_of, unsafe_option
from agent.control.detach import inherited

if TYPE_CHECKING:
    from agent.setup import Setup


@click.command(
    "resume",
    help="Go on with a RUN that is paused, was cut off or interrupted, or ended at a limit that you raise here.",
)
@run_argument
@click.option("--problem", type=click.Path(path_type=Path), help="The problem's folder, if it moved.")
@click.option("--workers", type=click.IntRange(min=1), help="Evaluations in flight from now on.")
@click.option(
    "--accept-change", is_flag=True, help="Go on from the champion although evaluator, data or problem changed."
)
@unsafe_option
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As it was given to run.")
@budget_options
@ending_options
@finish_options
@detach_option
@runs_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: str,
    problem: Path | None,
    workers: int | None,
    accept_change: bool,
    runs: str | None,
    detach: bool,
    as_json: bool,
    **given: Any,
) -> None:
    from agent.folders import listing

    pipe = inherited()
    folder = locate(run, runs)
    if pipe is None and listing(folder).state == "paused":
        _go(ctx, folder, as_json)
    if detach and pipe is None:
        ctx.exit(start(ctx.obj[1:], as_json))
    setup, changes = continued(folder, problem, {**given, "workers": workers})

    def go(display: Any, hold: Any) -> Any:
        made = session_of(setup, display, service=True)
        return made.resume(folder, changes=changes, accept_change=accept_change, hold=hold)

    def drive() -> int:
        return driven(go, folder, pipe, as_json, given["strict"], given["wants_gain"])

    ctx.exit(told(folder, given, drive))


def continued(folder: Path, problem: Path | None, given: dict[str, Any]) -> tuple[Setup, dict[str, Any]]:
    """The setup of a run that goes on, and what the user changes for the rest of it.

    Args:
        folder: Of the run.
        problem: Its problem's folder, if it moved.
        given: The options sets, unsafe, workers and those of the budget.

    Raises:
        ConfigError: The problem is not there, or not in order.
    """
    from agent.config import load
    from agent.errors import ConfigError
    from agent.results.result import load_state

    state = load_state(folder)
    where = problem or state.problem.folder
    if not (where / "problem.toml").exists():
        raise ConfigError(
            f"the run's problem is not in {where}",
            hint="give --problem FOLDER; a run that was started from Python goes on with optimize(..., resume=RUN)",
        )
    setup = load(where, overrides({"sets": given["sets"], "unsafe": given["unsafe"]}))
    guarded(setup)
    limits = {name: given[name] for name in BUDGET if given.get(name) is not None}
    changes: dict[str, Any] = {}
    if limits:
        changes["budget"] = {**state.ledger.budget.to_json(), **limits}
    if given.get("workers") is not None:
        changes["workers"] = given["workers"]
    server = setup.settings.base_url or state.settings.base_url
    return replace(
        setup, settings=replace(state.settings.placed(setup.settings), base_url=server), seed=state.seed
    ), changes


def _go(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Let a live run that is paused go on, and end."""
    from agent.control.client import ask
    from agent.errors import ConfigError
    from agent.folders import spoken

    default = click.core.ParameterSource.DEFAULT
    given = [name for name in ctx.params if ctx.get_parameter_source(name) is not default]
    changes = [name for name in given if name not in ("run", "runs", "as_json", "detach")]
    if changes:
        raise ConfigError(
            "the run is paused in a live process, and only a stopped one takes other settings",
            hint=f"truegain stop {spoken(folder)}, then resume it with them; or resume it without",
        )
    found = ask(folder, "go")
    if as_json:
        emit({**found, "folder": str(folder)})
    else:
        click.echo(f"{folder.name} goes on in process {found['pid']}.")
        click.echo(f"Next: truegain watch {spoken(folder)}")
    ctx.exit(0)
