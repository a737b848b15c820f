"""`truegain diff`"""

from __future__ import annotations

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import brief, plain


@click.command("diff", help="What differs between two candidates of a RUN: initial and best, unless you say otherwise.")
@run_argument
@click.argument("before", default="initial")
@click.argument("after", default="best")
@runs_option
@json_option
def command(run: str, before: str, after: str, runs: str | None, as_json: bool) -> None:
    from agent.cli.show import pick
    from agent.code.changes import line_diffs
    from agent.ledger import plural
    from agent.results.result import load_result
    from agent.texts import Code, Text

    result = load_result(locate(run, runs))
    old, new = pick(result, before), pick(result, after)
    changes = result.problem.space.diff(old.candidate, new.candidate)
    if as_json:
        emit(
            {
                "run": result.run,
                "before": old.id,
                "after": new.id,
                "changes": [{"parameter": c.name, "before": c.before, "after": c.after} for c in changes],
            }
        )
        return
    verb = "differs" if len(changes) == 1 else "differ"
    click.echo(f"{before} ({old.id[:8]}) → {after} ({new.id[:8]}): {plural(len(changes), 'parameter')} {verb}")
    for change in changes:
        if isinstance(result.problem.space[change.name], (Text, Code)):
            for _, lines in line_diffs(change.name, change.before, change.after):
                click.echo(plain("\n".join(lines)))
        else:
            click.echo(f"  {change.name}: {brief(change.before)} → {brief(change.after)}")
