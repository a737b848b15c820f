"""`truegain resume`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from agent.cli.common import json_option, locate, run_argument, runs_option
from agent.cli.run import BUDGET, budget_options, ending_options, exit_code, overrides, report, session_of, watched


@click.command(
    "resume", help="Go on with a RUN that was cut off, interrupted, or ended at a limit that you raise here."
)
@run_argument
@click.option("--problem", type=click.Path(path_type=Path), help="The problem's folder, if it moved.")
@click.option("--workers", type=click.IntRange(min=1), help="Evaluations in flight from now on.")
@click.option(
    "--accept-change", is_flag=True, help="Go on from the champion although evaluator, data or problem changed."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As it was given to run.")
@budget_options
@ending_options
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
    as_json: bool,
    **given: Any,
) -> None:
    from agent.config import load
    from agent.errors import ConfigError
    from agent.result import load_state

    folder = locate(run, runs)
    state = load_state(folder)
    where = problem or state.problem.folder
    if not (where / "problem.toml").exists():
        raise ConfigError(
            f"the run's problem is not in {where}",
            hint="give --problem FOLDER; a run that was started from Python goes on with optimize(..., resume=RUN)",
        )
    setup = load(where, overrides({"sets": given["sets"]}))
    limits = {name: given[name] for name in BUDGET if given.get(name) is not None}
    changes: dict[str, Any] = {}
    if limits:
        changes["budget"] = {**state.ledger.budget.to_json(), **limits}
    if workers is not None:
        changes["workers"] = workers
    server = setup.settings.base_url or state.settings.base_url
    setup = replace(setup, settings=replace(state.settings, base_url=server), seed=state.seed)

    def go(display: Any) -> Any:
        return session_of(setup, display).resume(folder, changes=changes, accept_change=accept_change)

    result = watched(go, as_json)
    report(result, as_json)
    ctx.exit(exit_code(result, given["strict"], given["wants_gain"]))
