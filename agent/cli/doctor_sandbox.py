"""`truegain doctor --sandbox`"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from agent.cli.common import emit


def check(without: Sequence[str], as_json: bool) -> int:
    """Run the hostile set and print what became of it.

    Args:
        without: Layers to switch off.
        as_json: One JSON document instead of the tables.

    Returns:
        The exit code: 0 when every attack was stopped and no honest candidate was disturbed, else 1.
    """
    from agent.sandbox.drill import Outcome, drill
    from agent.sandbox.layers import NAMES, probe, require

    unknown = sorted(set(without) - set(NAMES))
    if unknown or "process" in without:
        raise click.UsageError(
            f"there is no layer {unknown[0]!r}" if unknown else "the layer process cannot be switched off"
        )

    layers = probe()
    if not as_json:
        for layer in layers:
            on = layer.on and layer.name not in without
            note = layer.stops if on else "switched off" if layer.on else layer.why
            click.echo(f"{'on ' if on else 'off'} {layer.name.ljust(11)} {note}")
        click.echo()

    def report(outcome: Outcome) -> None:
        if not as_json:
            mark, by = ("ok  ", ", ".join(outcome.by)) if outcome.stopped else ("FAIL", "not stopped")
            click.echo(f"{mark} {outcome.attack.name.ljust(23)} {by.ljust(38)} {_short(outcome.said)}")

    outcomes, honest, active = asyncio.run(drill(without=without, report=report))
    missed = [outcome for outcome in outcomes if not outcome.stopped]
    weak = require(active)
    alone = {
        name: [outcome.attack.name for outcome in outcomes if outcome.by == (name,)]
        for name in active
        if name != "process"
    }
    if as_json:
        emit(
            {
                "ok": not missed and honest,
                "layers": [
                    {"name": layer.name, "on": layer.name in active, "why": layer.why, "stops": layer.stops}
                    for layer in layers
                ],
                "attacks": [
                    {
                        "name": outcome.attack.name,
                        "tries": outcome.attack.tries,
                        "stopped": outcome.stopped,
                        "by": outcome.by,
                        "said": outcome.said,
                    }
                    for outcome in outcomes
                ],
                "honest_unchanged": honest,
                "only_by": {name: names for name, names in alone.items() if names},
                "unsafe_needed": weak is not None,
            }
        )
        return 1 if missed or not honest else 0
    click.echo()
    for name, names in alone.items():
        if names:
            click.echo(f"Nothing but {name} stops: {', '.join(names)}.")
    click.echo(f"Honest candidates beside them: {'scores unchanged' if honest else 'DISTURBED'}.")
    if missed:
        click.echo(f"Not stopped by {', '.join(active)}: {', '.join(outcome.attack.name for outcome in missed)}.")
    else:
        click.echo(f"All {len(outcomes)} attacks were stopped.")
    if weak is not None:
        click.echo(f"A run would be refused: {weak.message}. Fix: {weak.hint}.")
    return 1 if missed or not honest else 0


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else text[:69] + "…"
