"""`truegain mcp`"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import runs_option


@click.command(
    "mcp",
    help="""Serve the problems in FOLDERS to a coding agent, over stdio (Model Context Protocol; extra mcp).

    It can estimate, start, observe, stop, fetch results, and measure texts of its own on training rows. It sees no
    held-out row and raises no limit. A run goes on when the agent goes.

    To add it to a client:

    \b
      claude mcp add truegain -- truegain mcp /path/to/problems
      codex mcp add truegain -- truegain mcp /path/to/problems

    \b
    or in the client's JSON:
      {"mcpServers": {"truegain": {"command": "truegain", "args": ["mcp", "/path/to/problems"]}}}
    """,
)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--starts", type=click.IntRange(min=0), default=10, metavar="N", help="Runs it may start (10).")
@runs_option
def command(folders: tuple[Path, ...], starts: int, runs: str | None) -> None:
    import importlib.util

    from agent.errors import PrerequisiteError

    if importlib.util.find_spec("mcp") is None:
        raise PrerequisiteError("the package mcp is missing", fix="pip install 'truegain[mcp]'")
    from agent.serving.mcp import server
    from agent.serving.places import Places
    from agent.serving.tools import Tools

    places = Places(folders, runs)
    if not places.problems():
        click.echo("there is no problem.toml in these folders yet; truegain init writes one", err=True)
    server(Tools(places, starts, runs)).run()
