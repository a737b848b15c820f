"""What every topic gives: the functions that fold its events, by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.events import Event

if TYPE_CHECKING:
    from agent.state import State

Handlers = dict[type[Event], Callable[["State", Any], None]]
