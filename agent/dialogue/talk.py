"""How a part of the program talks with the person at the terminal, whatever the terminal is."""

from __future__ import annotations

from typing import Protocol


class Talk(Protocol):
    """Says things and asks questions. A terminal, a pipe and a test each have their own."""

    def say(self, text: str) -> None:
        """Show text, which may have several lines. Control characters in it are not sent to the terminal."""
        ...

    def ask(self, question: str) -> str:
        """One line of answer, without blanks around it; "" when the person just pressed Enter.

        Raises:
            EOFError: There is nobody to answer, or nobody any more.
        """
        ...

    def confirm(self, question: str) -> bool:
        """Whether the answer is yes. Nothing, or anything but a yes, is a no.

        Raises:
            EOFError: As in `ask`.
        """
        ...
