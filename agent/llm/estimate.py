"""How many tokens a request can be at most, without any provider's tokenizer.

The ledger reserves this much before a call, so it errs upwards. A tokenizer that works on bytes never
makes more tokens than there are bytes, which is what digits, punctuation and everything outside ASCII
are counted as: some models spend one token on each digit. Words of letters are shorter: every
tokenizer in use has merges for pairs of letters, so that a run of them is counted as half its length.
English prose comes out at about 2.5 times its real count, and numbers and code at 1 to 2 times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agent.llm.types import ModelRequest

_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[ \t\r\n]+")

FRAME = 64
"""Tokens around every request."""
TURN = 16
"""Tokens around a message, a tool or a tool call."""
PREAMBLE = 1024
"""Providers put instructions of their own before tools and schemas: some hundreds of tokens."""


def text_bound(text: str) -> int:
    """An upper bound of a text's tokens."""
    runs = [match.end() - match.start() for match in _RUN.finditer(text)]
    return len(text.encode("utf-8", "surrogatepass")) - sum(length // 2 for length in runs)


def input_bound(request: ModelRequest) -> int:
    """An upper bound of a request's input tokens."""
    total = FRAME + text_bound(request.system)
    for message in request.messages:
        total += TURN + text_bound(message.text)
        total += sum(TURN + text_bound(call.name) + _json(call.arguments or call.raw) for call in message.tool_calls)
        total += sum(_json(item) for item in message.carry)
    for tool in request.tools:
        total += TURN + text_bound(tool.name) + text_bound(tool.description) + _json(tool.schema)
    if request.schema is not None:
        total += _json(request.schema)
    if request.tools or request.schema is not None:
        total += PREAMBLE
    return total


def _json(value: Mapping[str, Any] | str) -> int:
    return text_bound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
