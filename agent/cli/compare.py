"""`truegain compare`"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import OutFile, emit, json_option, runs_option
from agent.telling.text import amount, brief, plain, table


@click.command("compare", help="Several RUNs beside each other: status, gain, spend, and the settings that differ.")
@click.argument("run", nargs=-1, required=True)
@runs_option
@click.option("--to", "to", type=OutFile(), help="Write an HTML page with their curves.")
@json_option
def command(run: tuple[str, ...], runs: str | None, to: Path | None, as_json: bool) -> None:
    from agent.ledger import counted
    from agent.report.comparison import comparison
    from agent.report.view import load_view
    from agent.report.writing import located, write
    from agent.telling.gate import span

    folders = list(dict.fromkeys(located(name, runs) for name in run))
    found = comparison([load_view(folder) for folder in folders])
    file: Path | None = None
    if to is not None:
        from agent.report.page import compare

        file = write(to, compare(found))
    if as_json:
        emit({"file": str(file) if file else None, **found.to_json()})
        return
    table(
        [
            (
                row.run,
                row.group,
                row.status,
                amount(row.effect, row.goal.unit),
                span(row.interval),
                amount(row.score, row.goal.unit),
                counted(row.evaluations),
                "unknown" if row.usd is None else f"${row.usd:.4f}",
                f"{row.seconds:.0f} s",
                row.candidates,
            )
            for row in found.rows
        ],
        ("RUN", "", "STATUS", "GAIN", "INTERVAL", "SEARCH SCORE", "EVALUATIONS", "COST", "TIME", "CANDIDATES"),
    )
    if found.differing:
        click.echo("\nSettings that differ:")
        heads = [f"RUN {place}" for place in range(1, len(found.rows) + 1)]
        table([(name, *(brief(value, 40) for value in values)) for name, values in found.differing], ("", *heads))
    click.echo("")
    for line in found.sentences:
        click.echo(plain(line) + ".")
    if file is not None:
        click.echo(f"wrote {file}")
