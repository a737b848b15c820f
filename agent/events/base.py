"""What every event of a run is: plain data that goes into the journal as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

JSON = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escape = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Event:
    """Base of the events."""

    type: ClassVar[str] = ""
    default_audience: ClassVar[str] = "search"

    @property
    def audience(self) -> str:
        return self.default_audience

    def body(self) -> str:
        """The fields as JSON text, as they are stored."""
        names: tuple[str, ...] = tuple(type(self).__slots__)
        plain = {name: getattr(self, name) for name in names}
        text = _encode(plain)
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, as a model may write it, can only be stored escaped
            text = _escape(plain)
        return text
