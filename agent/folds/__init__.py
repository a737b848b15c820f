"""What each event changes in the state of a run: a module for each topic, as in `agent.events`."""

from __future__ import annotations

from agent.folds import calls, gate, measurements, proposals, races, run
from agent.folds.base import Handlers

HANDLERS: Handlers = {
    **run.HANDLERS,
    **proposals.HANDLERS,
    **measurements.HANDLERS,
    **races.HANDLERS,
    **gate.HANDLERS,
    **calls.HANDLERS,
}
"""Events that are not here change only the ledger and the history, or nothing."""
