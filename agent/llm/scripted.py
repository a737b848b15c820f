"""A model that says what it is told to: for unit tests, through the same gateway as every other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.errors import ProviderError
from agent.llm.types import Completion, ModelRequest, Usage

Reply = str | Completion | Exception


class Scripted:
    """A model without a mind.

    Args:
        replies: What it answers, in order; or a function of the request. A text becomes a completion
            whose tokens are words, a completion is returned as it is, an exception is raised.
        name: For messages.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[ModelRequest], Reply], name: str = "scripted:test") -> None:
        self._function = replies if callable(replies) else None
        self._list = iter(()) if callable(replies) else iter(replies)
        self._name = name
        self.requests: list[ModelRequest] = []
        """What it was asked, in order."""
        self.seeds: list[int | None] = []

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """The next reply; see `agent.llm.types.Adapter`.

        Raises:
            ProviderError: The script has no more replies.
        """
        self.requests.append(request)
        self.seeds.append(seed)
        reply = self._function(request) if self._function else next(self._list, None)
        if reply is None:
            raise ProviderError(f"{self._name}: no reply is left for request {len(self.requests)}", fatal=True)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Completion):
            return reply
        heard = " ".join([request.system, *(message.text for message in request.messages)])
        usage = Usage(input=max(1, len(heard.split())), output=max(1, len(reply.split())))
        return Completion(text=reply, usage=usage, model=self._name)

    async def close(self) -> None:
        """Nothing to free."""
