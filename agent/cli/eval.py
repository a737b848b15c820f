"""`truegain eval`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import OutFile, emit, json_option, runs_option
from agent.cli.run import budget_options, guarded, overrides, unsafe_option
from agent.telling.text import amount, brief, plain, table


@click.command(
    "eval",
    help="Measure the initial candidate, or the one in --values, on the train rows of a PROBLEM, without a search and "
    "without a claim. With --shard 2/8 only the second eighth of the rows is measured; truegain merge joins shards. "
    "Repeated, it goes on with what its file holds. Val and test rows are not touched.",
)
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--shard", metavar="K/N", help="Measure only the Kth of N shares of the rows.")
@click.option(
    "--values",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A candidate as JSON, such as truegain export --json prints; what it leaves out has its default.",
)
@click.option("--out", type=OutFile(), metavar="FILE", help="The result file (eval-NAME-CANDIDATE.jsonl here).")
@click.option("--seed", type=int, help="Of the evaluator's random numbers.")
@click.option("--workers", type=click.IntRange(min=1), help="Evaluations in flight.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of problem.toml.")
@unsafe_option
@budget_options
@runs_option
@json_option
def command(
    problem: Path,
    shard: str | None,
    values: Path | None,
    out: Path | None,
    runs: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    import asyncio

    from agent.config import load
    from agent.folders import runs_folder
    from agent.shardfiles import Shard
    from agent.sharding import evaluate, prepared, values_of

    share = Shard.parse(shard) if shard is not None else Shard()
    setup = load(problem, overrides(given))
    guarded(setup)
    session = prepared(setup, runs_folder(setup.problem.folder, runs))
    candidate = session.problem.initial() if values is None else values_of(values, session.problem)
    part = f"-{share.number}of{share.of}" if share.of > 1 else ""
    path = out or Path(f"eval-{session.problem.name}-{candidate.id[:8]}{part}.jsonl")
    record = asyncio.run(evaluate(session, candidate, share, path, lambda text: click.echo(plain(text), err=True)))
    return told(record.report(), as_json, path)


def told(report: dict[str, Any], as_json: bool, path: Path | None = None) -> int:
    """Print a report; the exit code: 3 where no row has a score."""
    from agent.ledger import lasting, plural

    code = 3 if report["failed"] == report["rows"] else 0
    if as_json:
        emit({**report, "file": None if path is None else str(path)})
        return code
    share = f", shard {report['shard']}" if report["shard"] else ""
    measured = f"{report['rows']} of {report['of']} train rows" if report["of"] > 1 else "measured once"
    click.echo(plain(f"{report['problem']}, candidate {report['candidate'][:8]}: {measured}{share}\n"))
    table(((name, amount(mean)) for name, mean in report["means"].items()), ("WHAT", "MEAN"))
    if report["failed"]:
        click.echo(plain(f"\n{report['failed']} failed: {brief('; '.join(report['failures']), 200)}"))
    spent = report["spent"]
    more = f", {spent['possibly']} more begun and cut off" if spent["possibly"] else ""
    dollars = f", ${spent['usd']:.4f}" if spent["usd"] else ""
    click.echo(f"\nSpent: {plural(spent['evaluations'], 'evaluation')}{more}, {lasting(spent['seconds'])}{dollars}")
    click.echo("Nothing is claimed by this: truegain run proves gains on rows that no search has seen.")
    if path is not None:
        following = f"\nNext: truegain merge {path} … with the files of the other shards" if report["shard"] else ""
        click.echo(plain(f"\nwrote {path}{following}"))
    return code
