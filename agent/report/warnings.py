"""What to know before believing a run: one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.ledger import at_provider
from agent.report.tape import Tape
from agent.results.result import Result

FEW = 30
"""Held-out rows below which a plausible gain is rarely shown."""
SMALL = 10
"""Candidates below which little was tried."""


def warnings(result: Result, tape: Tape, gate: Mapping[str, Any]) -> list[str]:
    """The warnings of a run.

    Args:
        result: Of the run.
        tape: Its events.
        gate: Its standings; only the bits while it is open.
    """
    state = tape.state
    out = list(result.edges)
    held = tape.problem.get("held_out", {}).get("val", 0)
    if state.problem.by_rows and held < FEW:
        out.append(f"the gate has {held} rows: only large gains can be shown; give more rows")
    if state.noise_found is not None and (state.noise_found.discordance or state.noise_found.wrong):
        out.append(f"noise: {state.noise_found.sentence}")
    tried = len(result.trials) - 1
    if state.ended is not None and tried < SMALL:
        out.append(f"{tried} candidates were tried: a larger budget would search more")
    out += _failing(result, tape)
    out += _suspicious(result)
    if state.leaks:
        out.append(f"{state.leaks} proposals were refused because they repeat held-out answers")
    if state.epoch:
        out.append(f"the problem was changed {state.epoch} times: what was measured before a change is not shown")
    out += _gate(gate)
    spent = result.spent
    if not spent["usd_known"]:
        out.append("the price of a model is not known, so the dollars are not")
    waiting = at_provider(spent)
    if waiting:
        out.append(f"{waiting} calls wait in a batch at the provider, and will be billed")
    if spent["possibly_spent"]["calls"] > waiting:
        lost = spent["possibly_spent"]["calls"] - waiting
        out.append(f"{lost} calls were cut off without an answer, and may have been billed")
    out += [f"a starting point was {line}" for line in result.beginning if line.startswith("not measured")]
    return out


def _failing(result: Result, tape: Tape) -> list[str]:
    out = []
    seen = [item for items in tape.measured.values() for item in items]
    failed = sum(bool(item.failure) for item in seen)
    if failed * 5 > len(seen):
        out.append(f"{failed} of {len(seen)} evaluations failed: see the failures")
    refused, tried = len(tape.rejected), len(result.trials) - 1
    if refused > tried:
        out.append(f"{refused} proposals were refused and {tried} measured: see the reasons")
    return out


def _suspicious(result: Result) -> list[str]:
    found = [trial for trial in result.trials if trial.suspicion]
    if not found:
        return []
    held = sum(trial.suspicion == "cleared" for trial in found)
    gone = [f"#{trial.number}" for trial in found if trial.suspicion == "convicted"]
    many = "1 candidate was" if len(found) == 1 else f"{len(found)} candidates were"
    out = f"{many} suspicious; measured again on fresh inputs, {held} held"
    if gone:
        out += f" and {len(gone)} did not ({', '.join(gone[:5])}{', …' if len(gone) > 5 else ''}): read what they do"
    return [out]


def _gate(gate: Mapping[str, Any]) -> list[str]:
    out = []
    if gate.get("barred"):
        out.append(f"{gate['barred']}; nothing can be proven on these rows any more")
    alpha = gate.get("alpha")
    if alpha and alpha["sentence"]:
        out.append(str(alpha["sentence"]))
    return out
