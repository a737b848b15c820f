"""Changing single values of a problem file: comments, layout and newlines stay as its owner wrote them."""

from __future__ import annotations

import difflib
import io
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Any

_NEWLINE = re.compile("\r\n|\r|\n")


def decoded(data: bytes) -> str:
    """A file's text as `Path.read_text` gives it: UTF-8, every kind of newline as "\\n".

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()


def encoded(text: str, like: bytes) -> bytes:
    """A text as bytes with the newlines of another file.

    Where that one mixes several kinds, lines that both have keep theirs and new ones get the commonest.

    Raises:
        UnicodeError: The text holds half of a surrogate pair, or the other file is not UTF-8.
    """
    old = like.decode("utf-8")
    found = _NEWLINE.findall(old)
    usual = Counter(found).most_common(1)[0][0] if found else "\n"
    if len(set(found)) < 2:
        return text.replace("\n", usual).encode("utf-8")
    lines = text.split("\n")
    ends = [usual] * (len(lines) - 1)
    for there, here, size in difflib.SequenceMatcher(None, _NEWLINE.split(old), lines, False).get_matching_blocks():
        for step in range(min(size, len(found) - there, len(ends) - here)):
            ends[here + step] = found[there + step]
    return "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True)).encode("utf-8")


def with_defaults(data: bytes, values: Mapping[str, Any]) -> bytes:
    """A problem file with other defaults.

    Args:
        data: The file.
        values: The new default by the parameter's name.

    Raises:
        ValueError: The result would not say exactly this, and nothing else.
    """
    import tomlkit

    text = decoded(data)
    wanted = tomllib.loads(text)
    document = tomlkit.parse(text)
    space: Any = document["space"]
    for name, value in values.items():
        wanted["space"][name]["default"] = value
        _set(space[name], value)
    after = encoded(document.as_string(), data)
    if tomllib.loads(decoded(after)) != wanted:
        raise ValueError("the file cannot hold these values without another change")
    return after


def _set(place: Any, value: Any) -> None:
    import tomlkit
    from tomlkit.items import Table

    new: Any = tomlkit.item(value)
    if isinstance(value, str) and "\n" in value and "\r" not in value:
        # One long line with \n in it is nothing to review. The newline right behind the quotes means nothing in TOML.
        quoted = tomlkit.string(value, multiline=True).as_string()
        new = tomlkit.value(quoted if value.startswith("\n") else f'"""\n{quoted[3:]}')
    if "default" in place or not isinstance(place, Table) or place.display_name is None:
        place["default"] = new
        return
    # At the end of the table would be behind the blank lines and comments that belong to the next one.
    keys = [key for key, _ in place.value.body if key is not None]
    place.value._insert_after(keys[-1], "default", new)
