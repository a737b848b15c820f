"""What the bodies of requests may hold."""

from __future__ import annotations

import json
import re
from typing import Any

BY = re.compile(r"[A-Za-z0-9_.-]{1,32}")
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "/evaluate": {
        "values": dict,
        "examples": list,
        "apart": bool,
        "key": str,
        "rationale": str,
        "by": str,
        "wait": (int, float),
    },
    "/rows": {"examples": list, "by": str, "wait": (int, float)},
    "/finish": {"wait": (int, float)},
}
"""What the bodies may hold."""
WORDS: dict[type | tuple[type, ...], str] = {
    dict: "an object",
    list: "a list",
    bool: "true or false",
    str: "a string",
    (int, float): "a number",
}
NEEDED = {"/evaluate": "values", "/rows": "examples"}


class Unfit(Exception):
    """A request that is none; with the HTTP status that says so."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


def parsed(path: str, text: bytes) -> dict[str, Any]:
    """A body, checked for what the path may be given.

    Raises:
        Unfit: Says what is wrong.
    """

    def number(word: str) -> Any:
        raise Unfit(400, f"the body has {word}, which is no JSON number", "send a finite number")

    try:
        body = json.loads(text or b"{}", parse_constant=number)
    except (ValueError, RecursionError):
        raise Unfit(400, "the body is not JSON", 'send an object such as {"values": {"x": 1}}') from None
    fields = FIELDS[path]
    if not isinstance(body, dict):
        raise Unfit(400, "the body is no JSON object", f"known are the fields {', '.join(fields)}")
    for name, value in body.items():
        if name not in fields:
            raise Unfit(400, f"there is no field {str(name)[:60]!r}", f"known are {', '.join(fields)}")
        if not isinstance(value, fields[name]) or (isinstance(value, bool) and fields[name] is not bool):
            raise Unfit(400, f"{name} has the wrong type", f"send {WORDS[fields[name]]}")
    needed = NEEDED.get(path)
    if needed is not None and needed not in body:
        raise Unfit(400, f"{needed} is missing", f"send an object with the field {needed}")
    if not all(isinstance(item, str) for item in body.get("examples", ())):
        raise Unfit(
            400, "examples is a list of ids", "send ids of training rows (`examples` of the problem) as strings"
        )
    if "by" in body and not BY.fullmatch(body["by"]):
        raise Unfit(400, "by is a short name", "letters, digits, and . _ - only")
    if body.get("wait", 0) < 0:
        raise Unfit(400, "wait is a number of seconds", "send 0 or more")
    return body
