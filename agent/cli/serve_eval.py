"""`truegain serve-eval`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import OutFile, json_option, runs_option
from agent.cli.detached import detach_option, start
from agent.cli.run import driven, ending_options, exit_code, guarded, overrides, problem_options, session_of
from agent.control.detach import inherited
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.setup import Setup


@click.command(
    "serve-eval",
    help="Let another program or agent propose the candidates of a PROBLEM, over HTTP on this machine. Our ledger, "
    "journal and gate stay the judge. Prints the address and a token, and ends when the verdict was fetched with "
    "POST /finish. docs/agents.md has the requests.",
)
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--beside", is_flag=True, help="The problem's own proposer searches too; the run ends by itself.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Else any free one.")
@click.option(
    "--token-file",
    type=OutFile(),
    metavar="FILE",
    help="Write url, token and pid there, for you alone (mode 0600), and do not print the token.",
)
@click.option("--resume", "earlier", metavar="RUN", help="Go on with a run that was served, and paid for, before.")
@click.option("--name", hidden=True)
@problem_options
@ending_options
@detach_option
@runs_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    problem: Path,
    port: int,
    token_file: Path | None,
    earlier: str | None,
    name: str | None,
    runs: str | None,
    detach: bool,
    as_json: bool,
    **given: Any,
) -> None:
    from agent.config import load
    from agent.folders import find, new_run, runs_folder
    from agent.serving.address import FILE
    from agent.serving.service import Service

    pipe = inherited()
    if detach and pipe is None:
        ctx.exit(start(ctx.obj[1:], as_json))
    setup = load(problem, overrides(given))
    place = runs_folder(setup.problem.folder, runs)
    folder = find(place, earlier) if earlier is not None else new_run(place, setup.problem.name)
    if name is not None:
        folder = place / name
    setup, changes = _prepared(setup, folder, given) if earlier is not None else (_fresh(setup, given, ctx), {})
    guarded(setup)
    file = token_file if token_file is not None else folder / FILE if pipe is not None else None
    service = Service(
        port,
        file,
        lambda found: _tell(found, as_json, quiet=pipe is not None),
        lingers=not given["beside"] and pipe is None,
    )

    def go(display: Any, hold: Any) -> Any:
        session = session_of(setup, display, service=True)
        return service.drive(
            folder,
            session.run if earlier is None else lambda f, hold: session.resume(f, changes=changes, hold=hold),
            hold,
        )

    if as_json and pipe is None:
        ctx.exit(_lines(go, given))
    ctx.exit(driven(go, folder, pipe, as_json, given["strict"], given["wants_gain"]))


def _fresh(setup: Setup, given: dict[str, Any], ctx: click.Context) -> Setup:
    """A new run with a guest."""
    from dataclasses import replace

    from agent.serving.guest import invited

    settings = invited(setup.settings, given["beside"], setup.problem.folder)
    return replace(setup, settings=settings, origin={**setup.origin, "command": list(ctx.obj or ())})


def _prepared(setup: Setup, folder: Path, given: dict[str, Any]) -> tuple[Setup, dict[str, Any]]:
    """A run that goes on, with the limits that are given; it keeps its settings."""
    from dataclasses import replace

    from agent.cli.run import BUDGET
    from agent.errors import ConfigError
    from agent.results.result import load_state
    from agent.serving.guest import NAME

    state = load_state(folder)
    if state.settings.proposer != NAME:
        raise ConfigError(f"{folder.name} was not served", hint=f"truegain resume {folder.name}")
    limits = {kind: given[kind] for kind in BUDGET if given.get(kind) is not None}
    changes = {"budget": {**state.ledger.budget.to_json(), **limits}} if limits else {}
    server = setup.settings.base_url or state.settings.base_url
    return replace(setup, settings=replace(state.settings, base_url=server), seed=state.seed), changes


def _tell(found: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """Say where it listens."""
    import json

    if quiet:
        return
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(plain(f"Serving {found['run']} on {found['url']}"))
    if found["token_file"]:
        click.echo(plain(f"Token: in {found['token_file']}"))
    else:
        click.echo(f"Token: {found['token']}")
    click.echo("Next: GET /problem, POST /evaluate, POST /finish   (docs/agents.md)\n")


def _lines(go: Any, given: dict[str, Any]) -> int:
    """Drive the run with one JSON document a line: the address when it begins, and the result at the end."""
    import json

    from agent.cli.run import watched

    result = watched(go, True)
    click.echo(json.dumps(result.to_json()))
    return exit_code(result, given["strict"], given["wants_gain"])
