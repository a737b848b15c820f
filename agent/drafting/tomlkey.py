"""One key of a problem file."""

from __future__ import annotations

import tomllib
from typing import Any

from agent.errors import ConfigError


def changed(text: str, table: str, key: str, value: Any, place: int | None = None, comment: str = "") -> str:
    """A problem file with one key of a table set; everything else stays as it is written.

    Args:
        text: The file.
        table: Such as "evaluator"; made where it is missing.
        key: In it.
        value: The new one.
        place: Which table, of several of that name.
        comment: Behind the value, on its line.

    Raises:
        ConfigError: The file cannot hold it without another change.
    """
    import tomlkit

    document: Any = tomlkit.parse(text)
    wanted = tomllib.loads(text)
    if table not in document:
        document[table] = tomlkit.table()
        wanted[table] = {}
    inside, plain = document[table], wanted[table]
    if place is not None:
        inside, plain = inside[place], plain[place]
    item = tomlkit.item(value)
    if comment:
        item.comment(comment)
    inside[key] = item
    plain[key] = value
    out: str = document.as_string()
    if tomllib.loads(out) != wanted:
        raise ConfigError(f"problem.toml: {table}.{key} cannot be set", hint="write it as a [table] of its own")
    return out
