"""`truegain prune`"""

from __future__ import annotations

import time

import click

from agent.cli.common import emit, json_option, runs_option


@click.command(
    "prune", help="Remove runs older than --days, or all but the newest --keep; running ones are never touched."
)
@runs_option
@click.option("--days", type=click.FloatRange(min=0), help="Remove runs not written to for this many days.")
@click.option("--keep", type=click.IntRange(min=0), help="Keep the newest N whatever their age.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def command(runs: str | None, days: float | None, keep: int | None, dry_run: bool, as_json: bool) -> None:
    from agent.errors import ConfigError
    from agent.folders import prune, remove, runs_folder

    if days is None and keep is None:
        raise ConfigError("nothing says which runs are old", hint="give --days N, --keep N, or both")
    old = prune(runs_folder(None, runs), days=days, keep=keep, now=time.time())
    if not dry_run:
        for folder in old:
            remove(folder)
    if as_json:
        emit(
            {
                "removed": [] if dry_run else [f.name for f in old],
                "would_remove": [f.name for f in old] if dry_run else [],
            }
        )
        return
    for folder in old:
        click.echo(f"{'would remove' if dry_run else 'removed'} {folder.name}")
    if not old:
        click.echo("Nothing to remove.")
