"""`truegain list`"""

from __future__ import annotations

import time

import click

from agent.cli.common import emit, json_option, runs_option
from agent.telling.text import brief, table


@click.command("list", help="The runs, newest last.")
@runs_option
@json_option
def command(runs: str | None, as_json: bool) -> None:
    from agent.folders import folders, listing, runs_folder

    where = runs_folder(None, runs)
    found = sorted((listing(folder) for folder in folders(where)), key=lambda item: item.started)
    if as_json:
        emit({"runs_folder": str(where), "runs": [item.to_json() for item in found]})
    elif not found:
        click.echo(f"No runs in {where}.\nNext: truegain init --example sqlite && truegain run sqlite")
    else:
        rows = []
        for item in found:
            begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.started)) if item.started else "–"
            state = f"{item.state} ({item.pid})" if item.pid else item.state
            rows.append((item.name, item.problem or "–", begun, state, brief(item.detail, 80) or item.status or "–"))
        table(rows, ("RUN", "PROBLEM", "BEGUN", "STATE", "STATUS"))
