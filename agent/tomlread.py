"""Reading a TOML file that somebody wrote, and saying what is wrong with it and in which line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from agent.errors import ConfigError

_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
LONGEST = 80
"""Characters of a line that are shown."""


def read_toml(path: Path, missing: str) -> dict[str, Any]:
    """The bare content of a file.

    Args:
        path: Of the file.
        missing: What to do where there is none.

    Raises:
        ConfigError: There is none, it may not be read, or it is not TOML; shows the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint=missing) from None
    except OSError as error:
        hint = f"it must be a file that you may read; ls -ld {path} shows what it is"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}", hint="save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, hint = str(error), "what was opened must be closed: quotes, brackets and braces"
        if found := _PLACE.fullmatch(said):
            number = int(found[2])
            line = text.split("\n")[number - 1].strip()[:LONGEST]
            said = f"line {number}, column {found[3]}: {found[1]}: {line}"
            hint = 'mend that line; in TOML texts are quoted (name = "text"), and a key or [table] is there once'
        raise ConfigError(f"{path}: {said}", hint=hint) from None
