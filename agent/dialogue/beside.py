"""A person beside a run: sees what arrives, types at any time, and stops it with Ctrl-C without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

from agent.control.server import Steering, listening
from agent.dialogue.arrivals import Arrivals
from agent.dialogue.commands import LEFT, Commands
from agent.dialogue.terminal import Terminal, TooLong
from agent.errors import AgentError, ConfigError
from agent.events import EvaluationEnded, Event, RunContinued, RunPaused, StopRequested
from agent.telling.display import Display, standing

if TYPE_CHECKING:
    from agent.loop import Run
    from agent.state import State

HELLO = "Type guidance for the model at any time. /help lists the commands; Ctrl-C finishes the turn and pauses."


class Beside(Display):
    """An observer of the run that also takes lines and signals.

    Args:
        terminal: Where the person is.
    """

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(live=False)
        self._terminal = terminal
        self._arrivals = Arrivals()
        self._run: Run | None = None
        self._steering: Steering
        self._task: asyncio.Task[None] | None = None
        self._until = contextlib.ExitStack()
        self._presses = 0
        self._heard = True
        """Whether the person can still say something."""
        terminal.toolbar = self._toolbar
        terminal.interrupted = self._interrupted

    def line(self, text: str, style: str = "") -> None:
        self._terminal.say(text, style)

    def __call__(self, event: Event, state: State) -> None:
        arrived = self._arrivals(event, state)
        if arrived:
            self.line(arrived, "dim")
        if isinstance(event, RunPaused):
            self.line("  » paused: nothing new starts. /resume goes on, /quit leaves", "yellow")
        elif isinstance(event, StopRequested) and event.detail == LEFT:
            self.line(f"  » {LEFT}", "yellow")
        elif isinstance(event, RunContinued):
            self.line("  » goes on", "bold")
        elif not isinstance(event, EvaluationEnded):  # of those the arrivals say it
            super().__call__(event, state)

    def hold(self, run: Run) -> None:
        """Begin to listen; called in the task that drives the run."""
        self._run, self._steering = run, Steering(run)
        self._commands = Commands(run, self._steering, self._terminal.say, self._terminal.reader.line)
        self._until.enter_context(listening(self._pressed))
        self._task = asyncio.get_running_loop().create_task(self._listen(), name="the person")
        if self._terminal.typed:
            self.line(HELLO)

    async def close(self) -> None:
        """Listen no more."""
        self._until.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        while True:
            try:
                line = await self._terminal.reader.line()
            except TooLong as error:
                self.line(f"  ! {error}")
                continue
            except EOFError:
                self._gone()
                return
            if line.split(" ")[0] == "/resume":
                self._presses = 0
            try:
                await self._commands.do(line)
            except Exception as error:  # a defect of ours is no reason to end somebody's run
                self.line(f"  ! {type(error).__name__}: {error}", "red")

    def _gone(self) -> None:
        """The person has left: at a terminal as by /quit; a script has said all it had to say, and the run goes on."""
        self._heard = False
        run = self._run
        if run is not None and (self._terminal.typed or run.state.paused):
            self._steering.stop("interrupted", "nobody is there any more; finishing what is in flight")

    def _pressed(self, number: signal.Signals | int) -> bool:
        """Ctrl-C: once finishes the turn and pauses, twice leaves at once. Other signals are not for us."""
        run = self._run
        if number != signal.SIGINT or not self._heard or run is None:
            return False
        self._presses += 1
        if self._presses > 1 or run.state.ended is not None or run.state.halt is not None:
            self._steering.cancel()
            return True
        try:
            self._steering.pause()
        except AgentError as error:
            self.line(f"  ! {error.message}")
        self.line(f"  Ctrl-C again leaves at once; later: truegain session --resume {run.state.run}")
        return True

    def _interrupted(self) -> None:
        self._pressed(signal.SIGINT)

    def _toolbar(self) -> str:
        if self._run is None:
            return "starting"
        state = self._run.state
        return ("paused · " if state.paused else "") + standing(state)


def refuse_at_terminal(evaluator: Any) -> None:
    """Refuse an evaluator that reads answers from the terminal itself.

    Raises:
        ConfigError: It does.
    """
    if getattr(evaluator, "at_terminal", False):
        raise ConfigError(
            "the problem's own judge asks a person at this terminal, and a session would read the answers",
            hint="truegain run PROBLEM asks you; a session's /judge compares pairs of other problems",
        )
