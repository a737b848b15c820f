"""What another program may ask of a run: its problem, measurements, candidates, the end and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.decide import search_free
from agent.errors import AgentError, BudgetExceeded, ConfigError
from agent.redact import redact
from agent.serving.line import Line, Refused
from agent.serving.views import candidate_view, goals, why
from agent.space import digest

if TYPE_CHECKING:
    from agent.history import Trial

IDS = 1000
"""Rows of train that are named."""


class Desk(Line):
    """What clients may ask for. All of it may raise AgentError or ValueError."""

    def problem(self) -> dict[str, Any]:
        """What is optimized, and what is left to the search."""
        run = self._run
        problem = run.state.problem
        train = [example.id for example in problem.split("train")]
        return {
            "run": run.state.run,
            "name": problem.name,
            "description": problem.description,
            "space": problem.space.spec(),
            "initial": problem.initial().values_json,
            **goals(problem),
            "by_rows": problem.by_rows,
            "examples": {"count": len(train), "ids": train[:IDS]},
            "open": self._open,
            "left": self._left(),
        }

    def best(self) -> dict[str, Any]:
        """The candidate that the search builds on; after the end, what the gate says."""
        state = self._run.state
        if self.result is not None and self.result.status != "open":
            return self._verdict()
        return {"status": "open", "champion": candidate_view(state, state.history[state.history.champion])}

    async def evaluate(self, body: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Measure values: on rows of train by name, compared with nothing; without rows as a candidate of the run.

        Args:
            body: values; examples, key, rationale, wait (seconds).
            by: Who asks, for the candidate's source.

        Raises:
            ConfigError, ValueError: The values are not of the space, or a check refuses them.
            BudgetExceeded: The search has not that much left.
            Refused: The search is over.
        """
        values, examples = body["values"], body.get("examples")
        state = self._run.state
        if redact(values) != values:
            raise ConfigError(
                "the values hold what looks like a key or a credential", hint="take it out; the journal would mask it"
            )
        candidate = state.problem.space.candidate(values)
        if examples is None and not body.get("apart"):
            request = {"do": "propose", "id": candidate.id, "values": candidate.values_json, "by": by}
            if body.get("rationale"):
                request["rationale"] = body["rationale"]
            return await self._candidate(candidate.id, request, body.get("wait"))
        rows = self._rows(examples or [])
        return await self._asked({"do": "look", "values": candidate.values_json, "examples": rows}, body, by)

    async def rows(self, body: Mapping[str, Any], by: str) -> dict[str, Any]:
        """The content of rows of train. What is proposed later is raced on others, as far as there are any."""
        return await self._asked({"do": "read", "examples": self._rows(body["examples"])}, body, by)

    async def finish(self, wait: float | None = None) -> dict[str, Any]:
        """End the search; the exam follows, and the verdict."""
        if self._open and not any(request["do"] == "finish" for request in self._queue):
            self._asleep = False
            self._queue.append({"do": "finish", "id": "finish"})
            self.changed()
        await self._until(lambda: self.result is not None, wait)
        if self.result is None:
            return {"status": "open", "hint": "the exam is being held; ask again"}
        if self.result.status == "open":
            raise Refused("the run was stopped before its end", hint=f"truegain resume goes on: {self.result.detail}")
        return self._verdict()

    # Helpers.

    def _left(self) -> dict[str, Any]:
        free = search_free(self._run.state) if self._open else 0.0
        return {"evaluations": None if free == float("inf") else int(free)}

    def _rows(self, names: Any) -> list[str]:
        known = {example.id for example in self._run.state.problem.split("train")}
        # One answer to what is held out and to what there is not: it tells nobody which rows exist.
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"there is no row {str(name)[:60]!r} to measure on",
                    hint="take ids of training rows (`examples` of the problem)",
                )
        return list(dict.fromkeys(names))

    async def _asked(self, request: dict[str, Any], body: Mapping[str, Any], by: str) -> dict[str, Any]:
        number = digest([request, str(body.get("key", ""))])
        request = {**request, "id": number, "by": by}
        if number not in self._answers and number not in self._known:
            self._failures.pop(number, None)
            self._put(request)
        await self._until(lambda: number in self._answers or number in self._failures, body.get("wait"))
        if number in self._answers:
            return {"state": "measured", **self._answers[number], "left": self._left()}
        if number in self._failures:
            raise _error(self._failures[number])
        return self._later()

    async def _candidate(self, name: str, request: dict[str, Any], wait: float | None) -> dict[str, Any]:
        state = self._run.state

        def settled() -> Trial | None:
            trial = state.history[name] if name in state.history else None  # noqa: SIM401  (it is no dict)
            over = trial is not None and (not trial.number or trial.state in ("champion", "dropped"))
            return trial if over else None

        if name not in state.history and name not in self._known:
            self._refusals.pop(name, None)
            self._put(request)
        await self._until(lambda: settled() is not None or name in self._refusals, wait)
        if name in state.history:
            self._known.discard(name)
            found = candidate_view(state, state.history[name])
            if settled() is None and not self._asleep:
                found |= self._later()
            return {**found, "left": self._left()}
        if name in self._refusals:
            self._known.discard(name)
            raise ConfigError(f"it is not measured: {why(self._refusals[name])}", hint="change the values")
        return self._later()

    def _later(self) -> dict[str, Any]:
        if self.result is not None or not self._open:
            raise self._closed("the search ended before it was measured")
        return {
            "state": "waiting",
            "hint": "it is not measured yet; ask again with the same values, which costs nothing",
        }

    def _verdict(self) -> dict[str, Any]:
        from agent.serving.views import result_view

        assert self.result is not None
        return result_view(self.result)


def _error(found: Mapping[str, Any]) -> AgentError:
    message, hint = str(found.get("message", "")), str(found.get("hint", ""))
    if found.get("kind") == "budget":
        return BudgetExceeded(
            "evaluations", 0, 0, message=message, hint=hint or "what is left stands in `left` of each answer"
        )
    return ConfigError(message, hint=hint)
