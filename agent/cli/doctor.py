"""`truegain doctor`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import emit, json_option, runs_option
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.cli.doctor_rows import Row


@click.command(
    "doctor", help="Check this machine and, when given, a PROBLEM's folder. Every failing row prints its fix."
)
@click.argument("problem", required=False, type=click.Path(path_type=Path))
@click.option("--fetch", is_flag=True, help="Fetch the embedded model's weights now, to prepare an image.")
@click.option("--sandbox", is_flag=True, help="Attack the sandbox for candidate code, and see what stops it.")
@click.option("--without", multiple=True, metavar="LAYER", help="With --sandbox: switch a layer off. Repeatable.")
@click.option(
    "--as-batch",
    is_flag=True,
    help="Check as cron or systemd would run it, with next to no environment; PROBLEM may be a batch file.",
)
@click.option(
    "--env-file", type=click.Path(path_type=Path), metavar="FILE", help="With --as-batch: the file with the keys."
)
@runs_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    problem: Path | None,
    fetch: bool,
    sandbox: bool,
    without: tuple[str, ...],
    as_batch: bool,
    env_file: Path | None,
    runs: str | None,
    as_json: bool,
) -> None:
    if sandbox or without:
        from agent.cli.doctor_sandbox import check

        ctx.exit(check(without, as_json))
    if as_batch and fetch:
        raise click.UsageError("--fetch changes this machine, and --as-batch only looks: give one after the other")
    if env_file is not None and not as_batch:
        raise click.UsageError("--env-file belongs to --as-batch; here the keys come from your own environment")
    rows = list(_as_batch(problem, env_file, runs) if as_batch else _rows(problem, fetch, runs))
    bad = [row for row in rows if row.needed and not row.good]
    if as_json:
        emit({"ok": not bad, "checks": [row.to_json() for row in rows]})
    else:
        width = max(len(row.name) for row in rows)
        for row in rows:
            mark = "ok  " if row.good else "FAIL" if row.needed else "-   "
            click.echo(plain(f"{mark} {row.name.ljust(width)}  {row.found}"))
            if not row.good and row.fix:
                click.echo(plain(f"     {' ' * width}  fix: {row.fix}"))
        if not bad:
            click.echo(f"\nNext: {_next(problem, as_batch)}")
    ctx.exit(69 if bad else 0)


def _next(problem: Path | None, as_batch: bool) -> str:
    if as_batch:
        if problem is not None and problem.suffix == ".toml":
            return f"truegain batch {problem} --print-systemd"
        return "name it in a batch file (docs/batch.md), then: truegain batch FILE --print-systemd"
    return f"truegain run {problem}" if problem else "truegain init --example sqlite && truegain run sqlite"


def _rows(problem: Path | None, fetch: bool, runs: str | None) -> Iterator[Row]:
    from agent.cli import doctor_rows
    from agent.folders import runs_folder

    yield from doctor_rows.machine(runs_folder(problem, runs), doctor_rows.asked(problem), fetch=fetch)
    if problem is not None:
        from agent.config import load

        yield from doctor_rows.problem(lambda: load(problem))


def _as_batch(target: Path | None, env_file: Path | None, runs: str | None) -> Iterator[Row]:
    from agent.cli.doctor_batch import rows

    return rows(target, env_file, runs)
