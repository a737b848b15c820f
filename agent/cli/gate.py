"""`truegain gate`"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, locate, runs_option
from agent.telling.text import amount, brief, plain, table

if TYPE_CHECKING:
    from agent.setup import Setup

PROBLEM = click.argument("problem", type=click.Path(path_type=Path))
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(
    "gate", help="What may still be claimed, a new gate, opening its rows, and self-tests. Each command takes --json."
)
def command() -> None:
    pass


@command.command("status", help="The account of a PROBLEM's gate rows: what was examined, and what can still be shown.")
@PROBLEM
@runs_option
@json_option
def status(problem: Path, runs: str | None, as_json: bool) -> None:
    from agent.config import load
    from agent.gate.outlook import outlook

    setup = load(problem)
    where = _runs(setup, runs)
    found = outlook(where, setup.problem, setup.settings.level, setup.shares)
    if as_json:
        emit(found.to_json())
        return
    click.echo(f"{setup.problem.name}: {plain(found.sizes)}.")
    for note in found.notes:
        click.echo(plain(f"Note: {note}"))
    for line in found.sentences:
        click.echo(plain(line))
    if found.exams:
        click.echo("")
        rows = [
            (
                exam["run"],
                exam["exam"],
                "last" if exam["last"] else "interim",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(exam["time"])),
                "–" if exam["planned"] is None else exam["planned"],
                f"{exam['level']:.2g}",
                {True: "accepted", False: "not accepted", None: "not ended"}[exam["accepted"]],
            )
            for exam in found.exams
        ]
        table(rows, ("RUN", "EXAM", "WHEN", "BEGUN", "ROWS", "LEVEL", "BIT"))
    click.echo("")
    if found.usable:
        click.echo(f"Next: truegain run {problem}")
    elif not found.units:
        click.echo(f"Next: add examples to the data of {problem} that no run has seen")
    else:
        click.echo(f"Next: truegain gate new {problem}")


@command.command(
    "new", help="Retire a PROBLEM's gate rows to train; the next run makes a gate of rows no run has seen."
)
@PROBLEM
@YES
@runs_option
@json_option
def new(problem: Path, yes: bool, runs: str | None, as_json: bool) -> None:
    from agent.config import load
    from agent.gate.accounts import Accounts
    from agent.gate.outlook import renewed

    setup = load(problem)
    _needs_rows(setup)
    where = _runs(setup, runs)
    found = renewed(where, setup.problem, setup.settings.level, setup.shares)
    if not as_json:
        click.echo(plain(f"{found['retired']} gate rows would go to train for good. {found['sentence']}"))
    if not found["enough"]:
        click.echo(plain(f"Warning: {found['warning']}"), err=True)
    _confirm("Open a new gate?", yes, as_json)
    retired = Accounts(where, setup.problem.labels).new_gate(setup.problem.data)
    if as_json:
        emit({**found, "retired": retired})
        return
    click.echo(f"{retired} rows retired.\nNext: truegain run {problem}")


@command.command("open", help="Show what the gate measured in a RUN, row by row. It marks the rows for good.")
@click.argument("run")
@click.option("--problem", type=click.Path(path_type=Path), help="The problem's folder, if it moved.")
@click.option("--data", type=click.Path(path_type=Path), help="The file of the rows, for a run started from Python.")
@YES
@runs_option
@json_option
def open_rows(run: str, problem: Path | None, data: Path | None, yes: bool, runs: str | None, as_json: bool) -> None:
    from agent.opening import CONSEQUENCE, check_ended, open_gate
    from agent.results.result import load_state
    from agent.wall import opened

    folder = locate(run, runs)
    check_ended(folder)
    state = load_state(folder)
    rows = _rows(state, problem, data)
    already = opened(folder)
    if not already and state.gate.val:
        click.echo(f"Opening the gate of {folder.name}: {CONSEQUENCE}.", err=True)
    if not already:
        _confirm("Open it?", yes, as_json)
    found = open_gate(folder, rows)
    if as_json:
        emit({"run": folder.name, "rows": found})
        return
    goal = state.problem.objective
    if not found:
        click.echo("The gate measured nothing in this run: no exam was held.")
        return
    lines = [
        (
            item["exam"],
            item["row"] if item["row"] is not None else "–",
            *(amount(item[name], goal.unit) for name in ("released", "champion", "gain")),
            brief(item["content"], 50) if item["content"] is not None else "",
        )
        for item in found
    ]
    table(lines, ("EXAM", "ROW", "RELEASED", "CHAMPION", "GAIN", "CONTENT"))


def _rows(state: Any, problem: Path | None, data: Path | None) -> Any:
    """The rows that a run was started with, from its problem's folder or from a file."""
    from agent.config import load
    from agent.datasets.data import Dataset, Report
    from agent.errors import ConfigError

    if not state.gate.val:
        return None
    if data is not None:
        return data
    where = problem or state.problem.folder
    if not (where / "problem.toml").exists():
        raise ConfigError(
            f"the run's rows are needed to mark their account, and there is no problem.toml in {where}",
            hint="give --problem FOLDER, or --data FILE with the rows; for rows that a program made, call "
            "open_gate(run_folder, rows) from agent.opening there",
        )
    setup = load(where)
    return Dataset(setup.problem.data, Report(len(setup.problem.data)), setup.problem.labels)


@command.command(
    "selftest",
    help="Does the gate keep its word? Without a PROBLEM on made-up worlds, under a minute; with one, on its own "
    "evaluator: the initial candidate against itself, a planted gain, a planted loss, and mirrored directions.",
)
@click.argument("problem", required=False, type=click.Path(path_type=Path))
@click.option("--evaluations", type=click.IntRange(min=2), metavar="N", help="Of the initial candidate, at most.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of problem.toml.")
@json_option
@click.pass_context
def selftest(
    ctx: click.Context, /, problem: Path | None, evaluations: int | None, sets: tuple[str, ...], as_json: bool
) -> None:
    from agent.gate.selftest import synthetic

    def say(text: str) -> None:
        click.echo(plain(text), err=True)

    if problem is None:
        if evaluations is not None:
            raise click.UsageError("--evaluations is for a PROBLEM; the made-up worlds cost nothing")
        from agent.api import optimize

        found = synthetic(optimize, say)
    else:
        import asyncio

        from agent.cli.run import overrides, session_of
        from agent.config import load
        from agent.gate.owntest import own

        found = asyncio.run(own(session_of(load(problem, overrides({"sets": sets}))), evaluations, say))
    good = all(check.passed for check in found)
    if as_json:
        emit({"ok": good, "checks": [check.to_json() for check in found]})
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            click.echo(plain(f"{'ok  ' if check.passed else 'FAIL'} {check.name.ljust(width)}  {check.found}"))
            if not check.passed:
                click.echo(plain(f"     {' ' * width}  means: {check.meaning}"))
                click.echo(plain(f"     {' ' * width}  fix: {check.fix}"))
        click.echo("\nThe gate keeps its word here." if good else "\nDo not trust claims before this is mended.")
    ctx.exit(0 if good else 1)


def _runs(setup: Setup, runs: str | None) -> Path:
    from agent.folders import runs_folder

    return runs_folder(setup.problem.folder, runs)


def _needs_rows(setup: Setup) -> None:
    from agent.errors import ConfigError
    from agent.gate.outlook import without_rows

    if not setup.problem.by_rows:
        raise ConfigError(without_rows(setup.problem), hint="a gate of rows needs [data] with target = population")


def _confirm(question: str, yes: bool, as_json: bool) -> None:
    from agent.errors import ConfigError

    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise ConfigError(f"{question[:-1]}: nobody can be asked here", hint="say --yes")
    click.confirm(question, abort=True, err=True)
