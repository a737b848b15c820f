"""`truegain show`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import amount, brief, plain, table

if TYPE_CHECKING:
    from agent.history import Trial
    from agent.results.result import Result
    from agent.results.rowchanges import RowChanges

BEFORE, AFTER = 30, 60
"""Most characters of an initial value and of the best one in a table."""
ROWS = 5
"""Rows that are shown of those that were fixed, and of those that were broken."""


@click.command(
    "show",
    help="A RUN; with a CANDIDATE (its number or the beginning of its id) or 'verdict', that; with --gate, "
    "what the gate found and how far it goes; with --front, the Pareto front of several objectives; with --transcript, "
    "what the models were sent and answered, word for word, in all or in one decision (its number).",
)
@run_argument
@click.argument("what", required=False)
@runs_option
@click.option("--all", "everything", is_flag=True, help="Every candidate, not only those that were kept.")
@click.option("--gate", "gate", is_flag=True, help="Exams, levels, effects, power and what the search was worth.")
@click.option("--front", "front", is_flag=True, help="The Pareto front: what no other candidate beats in everything.")
@click.option("--transcript", "transcript", is_flag=True, help="Every model call, word for word, and every tool call.")
@click.option("--axes", metavar="A,B", help="With --front --plot: the two objectives to draw (the first two).")
@click.option(
    "--reference",
    multiple=True,
    metavar="NAME=NUMBER",
    help="With --front: what is worse does not count; for each objective (else 1 % beyond the worst measured).",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --gate: draw the effects as SVG. With --front: draw the front.",
)
@json_option
def command(
    run: str,
    what: str | None,
    runs: str | None,
    everything: bool,
    gate: bool,
    front: bool,
    transcript: bool,
    axes: str | None,
    reference: tuple[str, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    from agent.results.result import load_result

    if gate + front + transcript > 1:
        raise click.UsageError("--gate, --front and --transcript are three views; give one of them")
    if plot is not None and not (gate or front):
        raise click.UsageError("--plot draws what --gate or --front shows; give one of them too")
    if axes is not None and not (front and plot is not None):
        raise click.UsageError("--axes chooses what --front --plot FILE draws; give both")
    if reference and not front:
        raise click.UsageError("--reference belongs to --front; give both")
    folder = locate(run, runs)
    if transcript:
        from agent.cli.transcript import show as tell

        tell(folder, what, as_json)
        return
    result = load_result(folder)
    if front:
        from agent.cli.front import show

        show(result, axes, reference, plot, as_json)
    elif gate:
        _gate(result, plot, as_json)
    elif what == "verdict":
        _verdict(result, as_json)
    elif what is not None:
        _candidate(result, pick(result, what), as_json)
    elif as_json:
        emit(
            {
                **result.to_json(),
                "row_changes": {split: found.to_json() for split, found in _changed(result).items()},
                "trials": [_json(trial) for trial in result.trials] if everything else len(result.trials),
            }
        )
    else:
        _run(result, everything)


def _gate(result: Result, plot: Path | None, as_json: bool) -> None:
    from agent.errors import ConfigError
    from agent.telling.gate import forest, show
    from agent.wall import opened

    found, unit = result.gate, result.problem.objective.unit
    if not found["open"]:
        found = {**found, "opened": opened(result.folder)}
    if plot is not None:
        if found["open"]:
            raise ConfigError(f"{found['sentence']}: nothing can be drawn", hint="wait for the end of the run")
        title = f"{result.run}: {result.status} ({result.problem.objective.name})"
        try:
            plot.write_text(forest(found, title, unit), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {plot}: {error.strerror}", hint="name a file that can be made") from None
    if as_json:
        emit({"run": result.run, **found})
        return
    show(result.run, found, unit)
    if plot is not None:
        click.echo(f"wrote {plot}", err=True)


def pick(result: Result, what: str) -> Trial:
    """The trial that a number, the beginning of an id, or best/released/initial/champion stands for.

    Raises:
        ConfigError: There is none, or there are several.
    """
    from agent.errors import ConfigError

    known = {
        "best": result.best.id,
        "released": result.released.id,
        "initial": result.initial.id,
        "champion": result.champion,
    }
    if what.isdigit() and int(what) < len(result.trials):
        return result.trials[int(what)]
    hits = [trial for trial in result.trials if trial.id.startswith(known.get(what, what))]
    if len(hits) != 1:
        raise ConfigError(
            f"{'no' if not hits else 'more than one'} candidate {what!r} in {result.run}",
            hint=f"give a number from 0 to {len(result.trials) - 1}, best, released, initial, or more of the id",
        )
    return hits[0]


def _json(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "candidate": trial.id,
        "source": trial.source,
        "state": trial.state,
        "values": trial.values,
        "measurements": trial.count,
        "feasible": trial.feasible,
        "reason": trial.reason,
        "parents": list(trial.parents),
        "rationale": trial.rationale,
        "failure": trial.failure,
        "suspicion": trial.suspicion,
        "partial": {f"{share:g}": cost for share, cost in trial.partial.items()},
        "stopped": trial.stopped,
        "feedback": trial.feedback,
        "parameters": trial.candidate.values_json,
    }


def _changed(result: Result) -> dict[str, RowChanges]:
    """What got better and worse row by row, by split; empty where there are no rows or nothing was found."""
    if result.best == result.initial or not result.problem.by_rows:
        return {}
    return {split: found for split, found in result.changes().items() if found.rows}


def _rows(result: Result) -> None:
    """The rows that the best candidate fixed and broke, a few of each."""
    for split, found in _changed(result).items():
        fixed, broken = len(found.fixed), len(found.broken)
        click.echo(f"\nRows of {split}, initial → best: {fixed} fixed and {broken} broken of {found.rows}")
        kinds = (("fixed", found.fixed), ("broken", found.broken))
        lines = [
            (kind, brief(row.example, 24), amount(row.before), amount(row.after), brief(row.output, 60))
            for kind, rows in kinds
            for row in rows[:ROWS]
        ]
        if lines:
            table(lines, ("", "ROW", "INITIAL", "BEST", "OUTPUT OF THE BEST"))
        if max(len(rows) for _, rows in kinds) > ROWS:
            click.echo(f"The first {ROWS} of each; truegain show {result.run} --json has all.")


def _run(result: Result, everything: bool) -> None:
    from agent.results.resultfiles import spent_line
    from agent.telling.words import since_parent

    goal = result.problem.objective
    click.echo(f"{result.run}: {result.status}" + (f" ({result.reason})" if result.reason else ""))
    click.echo(plain(result.sentence))
    click.echo(f"Spent: {spent_line(result.spent)}.")
    for line in result.beginning:
        click.echo(plain(line[0].upper() + line[1:]) + ".")
    click.echo("")
    shown = [
        t
        for t in result.trials
        if everything
        or t.state == "champion"
        or t.reason.startswith(("better", "first"))
        or t.suspicion in ("suspected", "convicted")
    ]
    rows = []
    space, history = result.problem.space, result._state.history

    def changed(trial: Trial) -> str:
        return since_parent(space, history, trial) if trial.number else ""

    for trial in [result.trials[0], *(t for t in shown if t.number)]:
        value = amount(trial.values[goal.name] if trial.values else None, goal.unit)
        why = trial.reason or trial.failure or trial.state
        what = brief(trial.rationale or changed(trial), 44)
        rows.append((trial.number, trial.id[:8], value, trial.source, what, brief(why, 70)))
    table(rows, ("#", "CANDIDATE", goal.name.upper() + " (search)", "SOURCE", "CHANGE", "WHY"))
    sources: dict[str, list[Trial]] = {}
    for trial in result.trials[1:]:
        sources.setdefault(trial.source, []).append(trial)
    if sources:
        said = [_share(name, trials) for name, trials in sorted(sources.items())]
        click.echo("\nBy source: " + "; ".join(said) + _by_model(result) + ".")
    early = _early(result)
    if early:
        click.echo(f"Stopped early: {early}.")
    whole = True
    if result.best != result.initial:
        click.echo("\nBest against initial:")
        whole = differences(result)
    for line in result.edges:
        click.echo(line)
    _rows(result)
    diff = "" if whole else f"truegain diff {result.run}   "
    click.echo(
        f"\nNext: {diff}truegain show {result.run} --gate   truegain report {result.run}   truegain export {result.run}"
    )


def differences(result: Result) -> bool:
    """What the best candidate changes of the initial one, as a table; of programs how many lines of which files.

    Returns:
        Whether every value could be shown whole.
    """
    from agent.results.resultfiles import differing
    from agent.telling.words import one_line
    from agent.texts import Code

    space = result.problem.space
    changes = space.diff(result.initial, result.best)
    code = [change for change in changes if isinstance(space[change.name], Code)]
    rest, whole = [], True
    for change in changes:
        if change not in code:
            old, new = (brief(value, sys.maxsize) for value in (change.before, change.after))
            if len(old) > BEFORE or len(new) > AFTER:
                whole = False
                old, new = differing(old, new, BEFORE)
            rest.append((change.name, brief(old, BEFORE), brief(new, AFTER)))
    if rest:
        table(rest, ("PARAMETER", "INITIAL", "BEST"))
    for change in code:
        click.echo(f"{change.name}: {one_line(space, change)}   (truegain diff {result.run} shows them)")
    return whole


def _by_model(result: Result) -> str:
    """What share of the proposed candidates is the model's own; "" where none was asked."""
    found = result.model_share
    if not found["made"] and not result.spent["calls"]:
        return ""
    return f"; model {found['made']} of {found['of']} ({100 * found['share']:.0f} %)"


def _early(result: Result) -> str:
    """How many candidates were not measured in full, by where they were stopped."""
    from agent.ledger import plural

    fidelity = result.problem.fidelity
    gone = [trial for trial in result.trials if trial.state == "dropped" and trial.values is None]
    if fidelity is None or not gone:
        return ""
    hopeless = sum(trial.stopped is not None for trial in gone)
    rungs = [max(trial.partial) for trial in gone if trial.stopped is None]
    parts = [f"{rungs.count(rung)} at {fidelity.words(rung)}" for rung in fidelity.rungs if rung in rungs]
    parts += [f"{hopeless} by a hopeless learning curve"] if hopeless else []
    return f"{plural(len(gone), 'candidate')} ({', '.join(parts)})"


def _share(name: str, trials: list[Trial]) -> str:
    kept = sum(t.reason.startswith(("better", "first")) and t.state in ("champion", "dropped") for t in trials)
    return f"{name} {kept} kept of {len(trials)}"


def _candidate(result: Result, trial: Trial, as_json: bool) -> None:
    from agent.ledger import plural
    from agent.texts import Code

    space = result.problem.space
    if as_json:
        emit({"run": result.run, **_json(trial), "at_bounds": list(space.at_bounds(trial.candidate))})
        return
    click.echo(f"candidate {trial.number} ({trial.id}) of {result.run}: {trial.state}")
    for label, text in (
        ("source", trial.source),
        ("rationale", trial.rationale),
        ("why", trial.reason),
        ("failure", trial.failure),
        ("suspicion", trial.suspicion),
        ("parents", ", ".join(parent[:8] for parent in trial.parents)),
        ("at an end of its range", ", ".join(space.at_bounds(trial.candidate))),
    ):
        if text:
            click.echo(f"{label}: {plain(text)}")
    if trial.partial and result.problem.fidelity is not None:
        sign, words = -result.problem.objective.sign, result.problem.fidelity.words
        click.echo("with less effort: " + ", ".join(f"{sign * c:.4g} at {words(s)}" for s, c in trial.partial.items()))
    if trial.values:
        measured = ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())
        times = plural(trial.count, "time") + (" on average" if trial.count > 1 else "")
        click.echo(f"measured {times}: {measured}" + ("" if trial.feasible else " (infeasible)"))
    if trial.feedback:
        click.echo("feedback: " + plain(trial.feedback))
    click.echo("")
    programs = [name for name in space if isinstance(space[name], Code)]
    rest = [(name, plain(str(value))) for name, value in trial.candidate.items() if name not in programs]
    if rest:
        table(rest, ("PARAMETER", "VALUE"))
    parent = next((p for p in trial.parents if p in result._state.history), result.initial.id)
    for name in programs:
        _program(result, trial, name, parent)


def _program(result: Result, trial: Trial, name: str, parent: str) -> None:
    """A program: what it changed of the one it was made from; the initial one whole."""
    from agent.code.changes import line_diffs, texts

    if not trial.number:
        for path, text in texts(trial.candidate[name]).items():
            click.echo(plain(f"{name}/{path}".rstrip("/") + f":\n{text}".rstrip("\n")))
        return
    origin = result._state.history[parent]
    found = list(line_diffs(name, origin.candidate[name], trial.candidate[name]))
    click.echo(f"{name}, against candidate {origin.number}:" + ("" if found else " the same lines"))
    for _, lines in found:
        click.echo(plain("\n".join(lines)))


def _verdict(result: Result, as_json: bool) -> None:
    if as_json:
        emit({"run": result.run, "status": result.status, "sentence": result.sentence, "verdict": result.verdict})
        return
    click.echo(f"{result.status}: {plain(result.sentence)}")
    if result.verdict:
        table([(k, v) for k, v in result.verdict.items() if k != "sentence"], ("FIELD", "VALUE"))
