"""Versions of what a result may depend on."""

from __future__ import annotations

import contextlib
import platform
import sys
from importlib import metadata

PACKAGES = ("truegain", "openai", "anthropic", "xllamacpp", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that are installed, and the platform."""
    out = {"python": platform.python_version(), "platform": sys.platform}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            out[name] = metadata.version(name)
    return out
