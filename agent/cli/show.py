"""`truegain show`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import amount, brief, emit, json_option, locate, plain, run_argument, runs_option, table

if TYPE_CHECKING:
    from agent.history import Trial
    from agent.result import Result


@click.command(
    "show",
    help="A RUN; with a CANDIDATE (its number or the beginning of its id) or 'verdict', that; with --gate, "
    "what the gate found and how far it goes.",
)
@run_argument
@click.argument("what", required=False)
@runs_option
@click.option(
    "--all", "everything", is_flag=True, help="Every candidate, not only the best ones and the promoted ones."
)
@click.option("--gate", "gate", is_flag=True, help="Exams, levels, effects, power and what the search was worth.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="With --gate: draw the effects as SVG.")
@json_option
def command(
    run: str,
    what: str | None,
    runs: str | None,
    everything: bool,
    gate: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    from agent.result import load_result

    if plot is not None and not gate:
        raise click.UsageError("--plot draws what --gate shows; give both")
    result = load_result(locate(run, runs))
    if gate:
        _gate(result, plot, as_json)
    elif what == "verdict":
        _verdict(result, as_json)
    elif what is not None:
        _candidate(result, pick(result, what), as_json)
    elif as_json:
        emit(
            {
                **result.to_json(),
                "trials": [_json(trial) for trial in result.trials] if everything else len(result.trials),
            }
        )
    else:
        _run(result, everything)


def _gate(result: Result, plot: Path | None, as_json: bool) -> None:
    from agent.cli.standings import forest, show
    from agent.errors import ConfigError
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
        "feedback": trial.feedback,
        "parameters": trial.candidate.values_json,
    }


def _run(result: Result, everything: bool) -> None:
    from agent.result import spent_line

    goal = result.problem.objective
    click.echo(f"{result.run}: {result.status}" + (f" ({result.reason})" if result.reason else ""))
    click.echo(plain(result.sentence))
    click.echo(f"Spent: {spent_line(result.spent)}.\n")
    shown = [
        t for t in result.trials if everything or t.state == "champion" or t.reason.startswith(("better", "first"))
    ]
    rows = []
    for trial in [result.trials[0], *(t for t in shown if t.number)]:
        value = amount(trial.values[goal.name] if trial.values else None, goal.unit)
        why = trial.reason or trial.failure or trial.state
        rows.append((trial.number, trial.id[:8], value, trial.source, brief(trial.rationale, 44), brief(why, 70)))
    table(rows, ("#", "CANDIDATE", goal.name.upper() + " (search)", "SOURCE", "CHANGE", "WHY"))
    sources: dict[str, list[Trial]] = {}
    for trial in result.trials[1:]:
        sources.setdefault(trial.source, []).append(trial)
    if sources:
        click.echo("\nBy source: " + "; ".join(_share(name, trials) for name, trials in sorted(sources.items())) + ".")
    changes = result.problem.space.diff(result.initial, result.best)
    if changes:
        click.echo("\nBest against initial:")
        table([(c.name, brief(c.before, 30), brief(c.after, 60)) for c in changes], ("PARAMETER", "INITIAL", "BEST"))
    click.echo(f"\nNext: truegain show {result.run} --gate   truegain diff {result.run}   truegain export {result.run}")


def _share(name: str, trials: list[Trial]) -> str:
    kept = sum(t.reason.startswith(("better", "first")) and t.state in ("champion", "dropped") for t in trials)
    return f"{name} {kept} kept of {len(trials)}"


def _candidate(result: Result, trial: Trial, as_json: bool) -> None:
    if as_json:
        emit({"run": result.run, **_json(trial)})
        return
    click.echo(f"candidate {trial.number} ({trial.id}) of {result.run}: {trial.state}")
    for label, text in (
        ("source", trial.source),
        ("rationale", trial.rationale),
        ("why", trial.reason),
        ("failure", trial.failure),
        ("parents", ", ".join(parent[:8] for parent in trial.parents)),
    ):
        if text:
            click.echo(f"{label}: {plain(text)}")
    if trial.values:
        measured = ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())
        click.echo(f"measured {trial.count} times on average: {measured}" + ("" if trial.feasible else " (infeasible)"))
    if trial.feedback:
        click.echo("feedback: " + plain(trial.feedback))
    click.echo("")
    table([(name, plain(str(value))) for name, value in trial.candidate.items()], ("PARAMETER", "VALUE"))


def _verdict(result: Result, as_json: bool) -> None:
    if as_json:
        emit({"run": result.run, "status": result.status, "sentence": result.sentence, "verdict": result.verdict})
        return
    click.echo(f"{result.status}: {plain(result.sentence)}")
    if result.verdict:
        table([(k, v) for k, v in result.verdict.items() if k != "sentence"], ("FIELD", "VALUE"))
