"""`truegain status`"""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.status import LIVE, standing
from agent.telling.text import amount, plain


@click.command("status", help="Where a RUN is: its state, what it has found and spent, and what to do next.")
@run_argument
@runs_option
@json_option
def command(run: str, runs: str | None, as_json: bool) -> None:
    found = standing(locate(run, runs))
    if as_json:
        emit(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from agent.ledger import plural

    pid = f" (process {found['pid']})" if found["pid"] else ""
    detail = f": {found['detail']}" if found["detail"] else ""
    click.echo(plain(f"{found['run']}: {found['state']}{pid}{detail}"))
    if "champion" in found:
        champion, spent, limits = found["champion"], found["spent"], found["limits"]
        value = amount(champion["search_score"], champion["unit"])
        number = champion["candidate"]
        click.echo(
            plain(
                f"champion: {f'#{number}' if number else 'the initial candidate'},"
                f" {champion['objective']} {value} (search), of {found['candidates']} candidates"
            )
        )
        parts = []
        for kind, value in spent.items():
            limit = limits.get(kind)
            if value or limit is not None or kind == "evaluations":
                shown = (
                    "unknown" if value is None else f"{value:,.0f}" if kind in ("tokens", "seconds") else f"{value:g}"
                )
                parts.append(f"{kind} {shown}{f' of {limit:g}' if limit is not None else ''}")
        click.echo("spent: " + ", ".join(parts))
        if found["at_provider"]:
            click.echo(f"waiting: {plural(found['at_provider'], 'call')} in a batch at the provider")
        if found["state"] in LIVE:
            flying = [
                f"{count} {kind if count > 1 else kind.removesuffix('s')}"
                for kind, count in found["in_flight"].items()
                if count
            ]
            click.echo("in flight: " + (", ".join(flying) or "nothing"))
        if found["last"]:
            age = max(0.0, time.time() - found["last"]["time"])
            click.echo(plain(f"last: {found['last']['text']} ({ago(age)} ago)"))
    if found["log"]:
        click.echo(plain(f"log: {found['folder']}/{found['log']}"))
    click.echo(plain("Next: " + "   ".join(found["next"])))


def ago(seconds: float) -> str:
    """A time span in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
