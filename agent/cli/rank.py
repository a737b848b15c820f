"""`truegain rank`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, runs_option
from agent.telling.text import brief, plain, table

if TYPE_CHECKING:
    from agent.ordering.result import RankedResult
    from agent.ordering.study import RankedStudy
    from agent.space import Candidate, Space

SECONDS = 600
"""What a program may take for one order."""


@click.command(
    "rank",
    help="Optimize by order alone: put a few candidates in order, round by round, or let a program do it. "
    "PROBLEM is a folder whose problem.toml has a [space]; nothing is measured.",
)
@click.argument("problem", type=click.Path(path_type=Path), required=False)
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Rounds of the search.")
@click.option("--candidates", type=click.IntRange(min=2, max=26), help="How many are shown in a round (4).")
@click.option("--order", "program", metavar="PROGRAM", help="Gets a JSON list on stdin and prints the order.")
@click.option("--proposer", metavar="NAME", help="zo-ranksgd, cmaes, or another one that needs no model.")
@click.option("--seed", type=int, help="Seed of all random numbers.")
@click.option(
    "--pairs", type=click.IntRange(min=5), default=12, show_default=True, help="Pairs of the exam at the end."
)
@click.option("--resume", metavar="RUN", help="Go on with a study: its name in the runs folder, a path, or last.")
@runs_option
@json_option
def command(
    problem: Path | None,
    rounds: int,
    candidates: int | None,
    program: str | None,
    proposer: str | None,
    seed: int | None,
    pairs: int,
    resume: str | None,
    runs: str | None,
    as_json: bool,
) -> None:
    from agent.ordering.loop import drive

    begin = {"candidates": candidates, "proposer": proposer, "seed": seed}
    given = {name: value for name, value in begin.items() if value is not None}
    study, folder = _resumed(resume, problem, given, runs) if resume else _begun(problem, given, runs)
    click.echo(f"study: {folder}", err=True)
    order = _asker(program) if program is not None else _person(study)
    try:
        result = drive(study, order, rounds, pairs)
    except _Enough:
        result = study.result
    except click.Abort:
        raise click.Abort(f"what was told is saved; go on with: truegain rank --resume {folder.name}") from None
    _report(study, result, folder, as_json)


def _begun(problem: Path | None, given: dict[str, Any], runs: str | None) -> tuple[RankedStudy, Path]:
    from agent.folders import new_run, runs_folder
    from agent.ordering.study import RankedStudy

    if problem is None:
        raise click.UsageError("name the folder of a problem, or go on with --resume RUN")
    place = (problem.parent if problem.suffix == ".toml" else problem).resolve()
    space = _space(problem, place)
    folder = new_run(runs_folder(place, runs), f"{place.name}-rank")
    return RankedStudy(space, folder=folder, **given), folder


def _space(problem: Path, place: Path) -> Space:
    """The [space] of a problem file; the rest of it is about measuring."""
    from agent.errors import ConfigError
    from agent.space import Space
    from agent.tomlread import read_toml

    path = place / "problem.toml" if problem.suffix != ".toml" else problem
    raw = read_toml(path, missing="a file with a [space] is all it takes")
    spec = raw.get("space")
    if not isinstance(spec, dict) or not all(isinstance(item, dict) for item in spec.values()):
        raise ConfigError(f"{path}: [space] is missing or is no table of parameters", hint="see docs/problem.md")
    try:
        return Space.from_spec(spec).bound(place)
    except ConfigError as error:
        raise ConfigError(f"{path}: space: {error.message}", hint=error.hint) from None


def _resumed(name: str, problem: Path | None, given: dict[str, Any], runs: str | None) -> tuple[RankedStudy, Path]:
    from agent.errors import ConfigError
    from agent.folders import runs_folder
    from agent.ordering.study import FILE, RankedStudy

    if problem is not None or given:
        raise click.UsageError(
            "--resume goes on as the study began: leave out PROBLEM, --candidates, --proposer, --seed"
        )
    direct = Path(name)
    if (direct / FILE).is_file():
        return RankedStudy.load(direct), direct
    place = runs_folder(None, runs)
    known = sorted((path.parent for path in place.glob(f"*/{FILE}")), key=lambda path: (path / FILE).stat().st_mtime)
    hits = known[-1:] if name == "last" else [path for path in known if path.name.startswith(name)]
    if len(hits) != 1:
        raise ConfigError(
            f"{'no' if not hits else 'more than one'} ranked study {name!r} in {place}",
            hint="give its folder, or more of its name",
        )
    return RankedStudy.load(hits[0]), hits[0]


class _Enough(Exception):
    """The person wants to stop here."""


def _person(study: RankedStudy) -> Callable[[list[Candidate]], Any]:
    from agent.errors import ConfigError
    from agent.ordering.orders import parse

    def order(shown: list[Candidate]) -> Any:
        if study.examining:
            done = study.result.pairs
            head = "The search is over. " if not done else ""
            click.echo(f"\n{head}Pair {done + 1} of the exam:\n", err=True)
        else:
            click.echo(f"\nRound {study.rounds + 1}:\n", err=True)
        rows = [(name, *(brief(one[name], 24) for one in shown)) for name in shown[0]]
        _columns(rows, ("PARAMETER", *(f"[{place}]" for place in range(1, len(shown) + 1))))
        example = " ".join(map(str, range(len(shown), 0, -1)))
        while True:
            try:
                text = click.prompt(f"\nOrder, best first (such as {example}; = between equals; q to stop)", err=True)
            except OSError as error:
                raise ConfigError(
                    f"the order cannot be read: {error}", hint="run it in a terminal, or give --order PROGRAM"
                ) from None
            if text.strip().lower() in ("q", "quit"):
                raise _Enough
            try:
                return parse(text, len(shown))
            except ConfigError as error:
                click.echo(plain(f"{error.message}\n  fix: {error.hint}"), err=True)

    return order


def _columns(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """A table on stderr, so that stdout holds the result alone."""
    import contextlib
    import sys

    with contextlib.redirect_stdout(sys.stderr):
        table(rows, head)


def _asker(program: str) -> Callable[[list[Candidate]], Any]:
    import json
    import shlex
    import subprocess

    from agent.errors import ConfigError, EvaluatorError
    from agent.ordering.orders import parse

    try:
        argv = shlex.split(program)
    except ValueError as error:
        raise ConfigError(f"--order {program}: {error}", hint="write it as in a shell") from None
    if not argv:
        raise ConfigError("--order: the program is missing", hint="such as --order 'python order.py'")

    def order(shown: list[Candidate]) -> Any:
        text = json.dumps([candidate.values_json for candidate in shown])
        try:
            done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluatorError(f"{argv[0]} cannot be run: {error}", hint="see --order") from None
        except subprocess.TimeoutExpired:
            raise EvaluatorError(f"{argv[0]} gave no order within {SECONDS} s", hint=HINT) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise EvaluatorError(f"{argv[0]} ended with code {done.returncode}: {last[:200]}", hint=HINT)
        try:
            return parse(done.stdout, len(shown))
        except ConfigError as error:
            raise EvaluatorError(f"{argv[0]} printed no order: {error.message}", hint=error.hint) from None

    return order


HINT = "what was told before is saved; mend the program and go on with --resume"


def _report(study: RankedStudy, result: RankedResult, folder: Path, as_json: bool) -> None:
    if as_json:
        emit({"study": str(folder), **result.to_json()})
        return
    changes = study.space.diff(result.initial, result.best)
    if changes:
        table([(c.name, brief(c.before, 30), brief(c.after, 60)) for c in changes], ("PARAMETER", "INITIAL", "BEST"))
        click.echo("")
    click.echo(f"{result.status.upper()}: {plain(result.sentence)}")
    if result.status == "open":
        click.echo(f"Next: truegain rank --resume {folder.name}")
