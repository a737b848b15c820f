"""`truegain batch`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, runs_option
from agent.cli.run import BUDGET, budget_options
from agent.telling.text import plain, table

if TYPE_CHECKING:
    from agent.batch.plan import Plan
    from agent.events import Event
    from agent.state import State


@click.command(
    "batch",
    help="Work through the problems of a batch FILE for one night, under its caps: re-score what is in use, then "
    "search. The limits given here replace those of [caps] for this night.",
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--until", metavar="TIME", help='When the night ends: a local time ("06:00") or after its beginning ("6h").'
)
@click.option("--only", multiple=True, metavar="NAME", help="This problem alone; may be repeated.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never"]),
    default="auto",
    show_default=True,
    help="Whether unfinished runs of this batch go on before new ones begin.",
)
@click.option("--no-search", is_flag=True, help="Re-score and report drift, and search nothing.")
@click.option("--dry-run", is_flag=True, help="Show the order, and what each problem would be granted and why.")
@click.option("--status", "asked", is_flag=True, help="Show the nights so far, what they spent, and what comes next.")
@click.option("--print-systemd", is_flag=True, help="Print a systemd service and timer for this file and machine.")
@click.option("--on-finish", metavar="CMD", help="A command to run after the night; it finds its data in TRUEGAIN_….")
@click.option("--webhook", metavar="URL", help="Where the summary is posted after the night.")
@budget_options
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: Path, runs: str | None, as_json: bool, **given: Any) -> None:
    import time

    if sum((given["dry_run"], given["asked"], given["print_systemd"])) > 1:
        raise click.UsageError("--dry-run, --status and --print-systemd exclude each other")
    if given["asked"]:
        from agent.batch.summary import status

        _status(status(file, runs, time.time()), as_json)
        return
    if given["print_systemd"]:
        from agent.batch.units import systemd

        text = systemd(file)
        emit({"units": text}) if as_json else click.echo(text, nl=not text.endswith("\n"))
        return
    plan = _plan(file, runs, given)
    search, resume = not given["no_search"], given["resume"] == "auto"
    if given["dry_run"]:
        import asyncio

        from agent.batch.preview import preview

        _preview(asyncio.run(preview(plan, time.time(), search=search, resume=resume)), as_json)
        return
    ctx.exit(_night(plan, search, resume, as_json, _words(tuple(ctx.obj or ()))))


def _words(given: tuple[str, ...]) -> tuple[str, ...]:
    """The command for the runs' first events, without what may hold a credential."""
    out: list[str] = []
    for word in given:
        private = bool(out) and out[-1] in ("--webhook", "--on-finish")
        name = word.partition("=")[0]
        out.append("…" if private else f"{name}=…" if name in ("--webhook", "--on-finish") and name != word else word)
    return tuple(out)


def _plan(file: Path, runs: str | None, given: dict[str, Any]) -> Plan:
    from agent.batch.plan import load
    from agent.errors import ConfigError
    from agent.notify import refused

    names = (*BUDGET, "until", "on_finish", "webhook")
    changes = {name: given[name] for name in names if given[name] is not None}
    plan = load(file, runs, changes).only(given["only"])
    if given["no_search"] and plan.split == "off":
        raise ConfigError('--no-search with drift.split = "off" leaves nothing to do', hint="leave one of them out")
    wrong = refused(plan.webhook) if plan.webhook else ""
    if wrong:
        raise ConfigError(f"{file}: webhook: {wrong}", hint="give an https address")
    return plan


class _Watch:
    """Watches every run of a night: JSON lines in a log, the usual display on a terminal."""

    def __init__(self, as_json: bool) -> None:
        from agent.cli.jsonlines import JsonLines
        from agent.telling.display import Display, wants_live

        self.lines = None if sys.stderr.isatty() else JsonLines(sys.stderr)
        self.display = Display(live=wants_live() and not as_json)
        self._words: Any = self.lines or self.display

    def __call__(self, event: Event, state: State) -> None:
        from agent.cli.jsonlines import JsonLines
        from agent.telling.words import Words

        if event.type in ("run.started", "run.resumed"):  # what was said of another run is said again
            if self.lines is not None:
                self._words = JsonLines(sys.stderr)
            else:
                self.display._words = Words(few=self.display._live)
        self._words(event, state)

    def progress(self, done: int, total: int, what: str) -> None:
        self._words.progress(done, total, what)

    def say(self, level: str, event: str, text: str, /, **fields: Any) -> None:
        if self.lines is not None:
            self.lines.say(level, event, text, **fields)
        else:
            self.display.line(text, {"warning": "yellow", "error": "red"}.get(level, "bold"))


def _night(plan: Plan, search: bool, resume: bool, as_json: bool, words: tuple[str, ...]) -> int:
    import asyncio

    from agent.batch.night import night
    from agent.batch.outcome import Night
    from agent.cli.finishing import lost
    from agent.notify import finished

    watch = _Watch(as_json)

    def tell(done: Night) -> None:
        for sentence in finished(done.folder, done.document, command=plan.on_finish, webhook=plan.webhook):
            watch.say("warning", "notify.failed", sentence)

    with watch.display.shown():
        try:
            done = asyncio.run(
                night(
                    plan,
                    search=search,
                    resume=resume,
                    say=watch.say,
                    observers=(watch,),
                    progress=watch.progress,
                    command=words,
                    tell=tell,
                )
            )
        except BaseException as error:
            lost(plan.folder, error, plan.on_finish, plan.webhook)
            raise
    if as_json:
        emit(done.document)
    else:
        _report(done.document, done.folder)
    return done.code


def _report(document: dict[str, Any], folder: Path) -> None:
    click.echo(f"Night {document['night']} of {document['name']}: {plain(document['sentence'])}.\n")
    rows = []
    for problem in document["problems"]:
        spent = problem["spent"]
        found = plain(problem.get("sentence") or problem.get("detail") or "–")
        rows.append((problem["problem"], problem["status"], f"{spent['evaluations']:g}", found))
    table(rows, ("PROBLEM", "STATUS", "EVALUATIONS", "FOUND"))
    click.echo("")
    for problem in document["problems"]:
        for note in problem.get("notes", ()):
            click.echo(plain(f"{problem['problem']}: {note}"))
        drift = problem.get("drift") or {}
        said = drift.get("error") or drift.get("sentence")
        if said:
            click.echo(plain(f"{problem['problem']}, drift: {said}"))
        for model in problem.get("models", ()):
            click.echo(plain(f"{problem['problem']}, drift: {model['sentence']}"))
    for warning in document["warnings"]:
        click.echo(warning)
    click.echo(f"\nSummary: {folder / 'summary.md'}")
    for line in document["next"]:
        click.echo(plain(f"Next: {line}"))


def _preview(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(document)
        return
    goes_on = f", which goes on with night {document['goes_on']}" if document["goes_on"] else ""
    click.echo(f"{document['name']}: what the next night would do{goes_on}. Nothing is spent.\n")
    for number, problem in enumerate(document["problems"], 1):
        click.echo(plain(f"{number}. {problem['problem']}: {problem['why']}"))
        if problem["drift_evaluations_at_most"]:
            click.echo(f"   re-scored first: at most {problem['drift_evaluations_at_most']:g} evaluations")
        if "error" in problem:
            click.echo(plain(f"   would fail: {problem['error']['message']}"))
            continue
        if "does" not in problem:
            continue
        since = f", from what {problem['initial_from']} released" if problem["initial_from"] else ""
        if problem["waits"]:
            click.echo(plain(f"   would wait: {problem['waits']}"))
            continue
        click.echo(plain(f"   would {problem['does']}{since}"))
        for kind, amount in problem["granted"].items():
            click.echo(f"   {kind}: {amount:g}, by {problem['because'][kind]}")
        if problem["forecast"]:
            low, high = problem["forecast"]["candidates"] or (None, None)
            if low is not None:
                click.echo(plain(f"   buys {low} to {high} new candidates; {problem['forecast']['proof']}"))
        for note in problem["notes"]:
            click.echo(plain(f"   {note}"))
    click.echo(f"\nNext: {document['next']}")


def _status(document: dict[str, Any], as_json: bool) -> None:
    import time

    from agent.batch.summary import amount

    if as_json:
        emit(document)
        return
    rows = []
    for night in document["nights"][-14:]:
        spent = night["spent"]
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(night["began"]))
        usd = f"${spent['usd']:.4f}" if spent["usd_known"] else f"${spent['usd']:.4f} or more"
        code = "–" if night["exit_code"] is None else night["exit_code"]
        rows.append((night["night"], began, code, amount(spent, "evaluations"), amount(spent, "calls"), usd))
    if rows:
        table(rows, ("NIGHT", "BEGAN", "EXIT", "EVALUATIONS", "CALLS", "SPENT"))
        click.echo("")
    whole, caps = document["spent"]["month"], document["caps"].get("month") or {}
    parts = [
        f"{amount(whole, kind)}{f' of {caps[kind]:g}' if kind in caps else ''} {kind}"
        for kind in BUDGET
        if whole[kind] or kind in caps
    ]
    click.echo(f"{document['month']}: {', '.join(parts) or 'nothing spent'}")
    for name, problem in document["problems"].items():
        said = problem.get("sentence") or problem.get("detail") or ""
        click.echo(plain(f"{name}: {problem['status']}{f': {said}' if said else ''}"))
    click.echo(f"Next: {plain(document['next'])}")
