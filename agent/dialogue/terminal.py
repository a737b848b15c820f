"""Where a person types while output arrives: with prompt_toolkit on a terminal that can, and plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import click

from agent.telling.display import may_draw
from agent.telling.text import fitted, plain

LIMIT = 8000
"""Most characters of a line; longer ones are thrown away, and that is said."""
PIECE = 65_536
PROMPT = "› "


class TooLong(ValueError):
    """A line that was thrown away; its text says how long it was."""


class Reader(Protocol):
    """Reads lines. `line` is for an event loop that must go on meanwhile, `ask` for where nothing else happens."""

    async def line(self) -> str:
        """The next line.

        Raises:
            EOFError: There are no more.
            TooLong: It was longer than `LIMIT`.
        """
        ...

    def ask(self, question: str) -> str:
        """The next line after a question; raises as `line`."""
        ...

    def shown(self) -> contextlib.AbstractContextManager[Any]:
        """While output arrives."""
        ...


class Plain:
    """Lines of a pipe, a file or a simple terminal, read by a thread of their own, which ends with the process.

    Args:
        source: Descriptor to read.
    """

    def __init__(self, source: int) -> None:
        self._source = source
        self._ready: deque[str | TooLong | None] = deque()
        self._changed = threading.Condition()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._thread = threading.Thread(target=self._pump, name="typed lines", daemon=True)

    def _pump(self) -> None:
        held, length = b"", 0
        while True:
            try:
                data = os.read(self._source, PIECE)
            except OSError:  # the terminal is gone, or there never was one
                data = b""
            *whole, rest = data.split(b"\n")
            for piece in whole:
                self._put(held + piece[: 4 * LIMIT], length + len(piece))
                held, length = b"", 0
            held, length = (held + rest)[: 4 * LIMIT], length + len(rest)
            if not data:
                if length:
                    self._put(held, length)
                self._tell(None)
                return

    def _put(self, data: bytes, length: int) -> None:
        text = data.decode("utf-8", "replace")
        if length > 4 * LIMIT or len(text) > LIMIT:
            self._tell(TooLong(f"a line of {length} bytes was thrown away; at most {LIMIT} characters are read"))
        else:
            self._tell(text)

    def _tell(self, item: str | TooLong | None) -> None:
        with self._changed:
            self._ready.append(item)
            self._changed.notify_all()
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # its loop has gone
                waiter[0].call_soon_threadsafe(_wake, waiter[1])

    def _taken(self) -> str:
        item = self._ready[0]
        if item is None:  # it stays: whoever asks again hears the same
            raise EOFError
        self._ready.popleft()
        if isinstance(item, TooLong):
            raise item
        return item.strip()

    def _begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    async def line(self) -> str:
        self._begin()
        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                if self._ready:
                    return self._taken()
                future = loop.create_future()
                self._waiter = loop, future
            await future

    def ask(self, question: str) -> str:
        self._begin()
        sys.stdout.write(question)
        sys.stdout.flush()
        with _interruptible(), self._changed:
            while not self._ready:
                self._changed.wait()
            return self._taken()

    def shown(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a wait at once, also in an event loop, which would only hear of it after the wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Prompting:
    """A line at the bottom of a terminal that stays whole while output arrives above it.

    Args:
        toolbar: What stands below the line, asked twice a second.
        interrupted: Told of Ctrl-C while a line is typed.
    """

    def __init__(self, toolbar: Callable[[], str], interrupted: Callable[[], None]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("c-c")
        def _(event: Any) -> None:
            event.current_buffer.reset()
            interrupted()

        @keys.add("enter")
        def _(event: Any) -> None:
            event.app.erase_when_done = False  # what was typed stays
            event.current_buffer.validate_and_handle()

        # History stays in memory: what was typed is in the journal, without keys and credentials.
        self._session: Any = PromptSession(key_bindings=keys)
        self._asking: Any = PromptSession()
        self._toolbar = toolbar

    async def line(self) -> str:
        self._session.app.erase_when_done = True  # a line that nobody ended, because the run did
        text: str = await self._session.prompt_async(
            PROMPT, bottom_toolbar=lambda: plain(self._toolbar()), refresh_interval=0.5, handle_sigint=False
        )
        return _short(text)

    def ask(self, question: str) -> str:
        return _short(self._asking.prompt(question, in_thread=True))  # a loop may be running here

    def shown(self) -> contextlib.AbstractContextManager[Any]:
        from prompt_toolkit.patch_stdout import patch_stdout

        return patch_stdout(raw=True)


def _short(text: str) -> str:
    if len(text) > LIMIT:
        raise TooLong(f"a line of {len(text)} characters was thrown away; at most {LIMIT} are read")
    return text.strip()


class Terminal:
    """Says and asks, as `agent.dialogue.talk.Talk`.

    `toolbar` and `interrupted` may be set later, as `Prompting` takes them.
    """

    def __init__(self) -> None:
        self.toolbar: Callable[[], str] = str
        self.interrupted: Callable[[], None] = lambda: None
        drawn = may_draw(sys.stdout) and may_draw(sys.stdin) and importlib.util.find_spec("prompt_toolkit") is not None
        self.reader: Reader
        if drawn:
            self.reader = Prompting(lambda: self.toolbar(), lambda: self.interrupted())
        else:
            self.reader = Plain(_descriptor())
        self.styled = drawn and not os.environ.get("NO_COLOR")
        self.typed = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        """Whether a person types, and no script."""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While output arrives and lines are typed."""
        with self.reader.shown():
            yield

    def say(self, text: str, style: str = "") -> None:
        """Show text.

        Args:
            text: May have several lines.
            style: As rich names them: "bold", "dim", "green" …
        """
        text = fitted(plain(text), sys.stdout)
        if self.styled and style:
            words = style.split()
            color = next((word for word in words if word not in ("bold", "dim")), None)
            text = click.style(text, fg=color, bold="bold" in words or None, dim="dim" in words or None)
        click.echo(text, color=self.styled)

    def ask(self, question: str) -> str:
        """As `Talk`. A line that is too long is asked for again."""
        while True:
            try:
                return self.reader.ask(f"{fitted(plain(question), sys.stdout)} ")
            except TooLong as error:
                self.say(str(error))

    def confirm(self, question: str) -> bool:
        """As `Talk`."""
        return self.ask(f"{question} [y/N]").lower() in ("y", "yes")


def _descriptor() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none: nothing is ever typed
        return -1
