"""Whether dask is here, and somebody listens at an address. Imports nothing of dask."""

from __future__ import annotations

import asyncio
import importlib.util
from urllib.parse import urlsplit

from agent.errors import PrerequisiteError

PATIENCE = 1.0
"""Seconds after which it is left to dask to ask on."""


def installed() -> None:
    """Look for the package.

    Raises:
        PrerequisiteError: It is missing.
    """
    if importlib.util.find_spec("distributed") is None:
        raise PrerequisiteError(
            "the dask executor needs the package distributed, which is missing", fix="pip install 'truegain[dask]'"
        )


async def refused(address: str) -> None:
    """Fail at once where nobody listens; dask would ask again and again.

    Args:
        address: Of a scheduler. Of another protocol than tcp and tls nothing is known.

    Raises:
        ConnectionRefusedError: Nobody listens there.
    """
    try:
        place = urlsplit(address)
        if place.scheme in ("tcp", "tls") and place.hostname and place.port:
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.close()
    except ConnectionRefusedError:
        raise
    except (OSError, ValueError):  # dask knows more ways, and has more patience
        return
