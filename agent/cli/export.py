"""`truegain export`"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import plain


@click.command("export", help="The best candidate of a RUN with its status: as files into --to, or as JSON.")
@run_argument
@runs_option
@click.option("--to", "to", type=click.Path(file_okay=False, path_type=Path), help="Folder to write (the run's best/).")
@json_option
def command(run: str, runs: str | None, to: Path | None, as_json: bool) -> None:
    from agent.results.result import load_result
    from agent.results.resultfiles import write_best

    result = load_result(locate(run, runs))
    if as_json:
        emit(
            {
                "run": result.run,
                "status": result.status,
                "sentence": result.sentence,
                "candidate": result.best.values_json,
                "released": result.released.values_json,
            }
        )
        return
    for path in write_best(to or result.folder / "best", result):
        click.echo(f"wrote {path}")
    click.echo(f"{result.status}: {plain(result.sentence)}")
