"""A run with a desk: driven to its end, and served until its verdict was fetched."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.control.server import listening
from agent.serving.address import Address
from agent.serving.desk import Desk
from agent.serving.web import Door

if TYPE_CHECKING:
    from agent.loop import Run
    from agent.results.result import Result


class Drive(Protocol):
    """Drives the run in a folder; `hold` is given it before."""

    def __call__(self, folder: Path, hold: Callable[[Run], Any]) -> Awaitable[Result]: ...


class Service:
    """One run, served.

    Args:
        port: 0 for any free one.
        file: Where the address and the token are written; None for nowhere.
        tell: Called with run, url, token and token_file when it listens. The token is "" where it is in a file.
        lingers: Whether it stays after the end until somebody was given the verdict, or Ctrl-C; not where the
            evaluator is broken, since nobody but its author can do anything then.
    """

    def __init__(self, port: int, file: Path | None, tell: Callable[[dict[str, Any]], None], lingers: bool) -> None:
        self._port, self._file, self._tell, self._lingers = port, file, tell, lingers

    async def drive(self, folder: Path, drive: Drive, hold: Callable[[Run], Any] | None) -> Result:
        """Drive the run and serve it.

        Raises:
            ConfigError: The port is taken, the file is somebody's, and whatever `drive` raises.
        """
        if self._file is not None:
            Address.may_go(self._file)
        desk = Desk()
        door = Door(desk, self._port)
        door.take()

        def begin(run: Run) -> None:
            desk.attach(run)
            url = door.open()
            if self._file is not None:
                Address(url, door.token, os.getpid()).write(self._file)
            where = str(self._file) if self._file is not None else ""
            self._tell({"run": folder.name, "url": url, "token": "" if where else door.token, "token_file": where})
            if hold is not None:
                hold(run)

        try:
            result = await drive(folder, begin)
            if desk.run is not None:
                desk.over(result)
                if self._lingers and result.status != "open" and result.reason != "evaluator":
                    await _told(desk)
                await door.quiet()  # answers that waited for the end are on their way
            return result
        finally:
            await asyncio.to_thread(door.close)
            known = Address.parse(self._file) if self._file is not None else None
            if self._file is not None and known is not None and known.token == door.token:
                with contextlib.suppress(OSError):
                    self._file.unlink(missing_ok=True)


async def _told(desk: Desk) -> None:
    """Until somebody was given the verdict, or Ctrl-C."""

    def heard(number: Any) -> bool:
        desk.told.set()
        return True

    with listening(heard):
        await desk.told.wait()
