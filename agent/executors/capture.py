"""Reading what a process prints, without keeping all of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

CHUNK = 65536


class HeadTail:
    """The first and the last bytes of a stream, half of the limit each.

    Args:
        limit: How many bytes are kept; more than that many characters never come out, apart from a
            line that says how much was left out.
    """

    def __init__(self, limit: int) -> None:
        self._half = max(limit, 0) // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._half :] if self._half else b""
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """What was kept, as text; bytes that are not UTF-8 are replaced."""
        tail = bytes(self._tail[-self._half :]) if self._half else b""
        left_out = self._size - len(self._head) - len(tail)
        gap = f"\n… {left_out:,} bytes left out …\n".encode() if left_out and self._half else b""
        return (bytes(self._head) + gap + tail).decode("utf-8", "replace")


class Drain:
    """Reads a pipe on the event loop, as fast as it fills, and passes the bytes on.

    Args:
        descriptor: The reading end; it is closed here.
        feed: Takes the bytes.
    """

    def __init__(self, descriptor: int, feed: Callable[[bytes], None]) -> None:
        self._descriptor: int | None = descriptor
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> bool:
        """Read once; False when there is nothing to read now."""
        if self._descriptor is None:
            return False
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._feed(data)
        return True

    def rest(self) -> None:
        """Read what has been written up to now; at most a pipe's capacity or so, not what a writer keeps adding."""
        for _ in range(32):
            if not self._read():
                break

    def close(self) -> None:
        """Stop reading. May be called twice."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
