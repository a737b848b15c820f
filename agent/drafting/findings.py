"""What trying a new evaluator showed, and what that means in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from agent.evaluation import Failure
from agent.gate.noise import Noise
from agent.ledger import lasting, plural
from agent.parameters import Value

if TYPE_CHECKING:
    from agent.ledger import Budget, Ledger
    from agent.session import Session


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of it.

    Args:
        kind: "deterministic": the same with every seed and in another process; "seeded": the same with the same seed;
            "noisy": different although nothing was.
        values: Of the initial candidate, first row.
        noise: Of the initial candidate against itself.
        seconds: Of one evaluation.
        moved: By parameter: the value that was tried, and the score; None where it failed there.
        still: Parameters whose move changed nothing.
        failure: Why the initial candidate has no score; then nothing else is known.
        printed: The end of what the evaluator printed when it failed.
        evaluations: How many were made.
        ledgers: What models were paid for it, if any were asked.
    """

    kind: Literal["deterministic", "seeded", "noisy"] = "deterministic"
    values: tuple[float, ...] = ()
    noise: Noise = field(default_factory=lambda: Noise(0, 0.0, 0.0, None))
    seconds: float = 0.0
    moved: dict[str, tuple[Value, float | None]] = field(default_factory=dict)
    still: tuple[str, ...] = ()
    failure: Failure | None = None
    printed: str = ""
    evaluations: int = 0
    ledgers: tuple[Ledger, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether nothing that was tried changed the score."""
        return bool(self.still) and not self.moved


def left(budget: Budget, ledgers: Sequence[Ledger]) -> Budget:
    """What a budget still has for models after several ledgers, each of which began with nothing."""
    used = {kind: math.fsum(item.committed(kind) for item in ledgers) for kind in ("calls", "tokens", "usd")}
    limits = {kind: getattr(budget, kind) for kind in used}
    rest = {kind: max(0, limit - used[kind]) for kind, limit in limits.items() if limit is not None}
    return replace(budget, **{kind: value if kind == "usd" else int(value) for kind, value in rest.items()})


def spent(ledgers: Sequence[Ledger]) -> dict[str, Any]:
    """Calls, tokens and dollars of models together; dollars are None where a price is unknown."""
    parts = [item.to_json() for item in ledgers]
    unknown = any(part["usd"] is None for part in parts)
    return {
        "calls": sum(part["calls"] for part in parts),
        "tokens": {kind: sum(part["tokens"][kind] for part in parts) for kind in ("input", "output")},
        "usd": None if unknown else math.fsum(part["usd"] for part in parts),
    }


def spent_line(paid: Mapping[str, Any]) -> str:
    """The same in words."""
    usd = paid["usd"]
    price = "price unknown" if usd is None else f"${usd:.4f}" if usd else "$0"
    tokens = paid["tokens"]
    return f"{plural(paid['calls'], 'model call')} ({tokens['input']:,} tokens in, {tokens['output']:,} out), {price}"


def sentences(session: Session, found: Findings) -> Iterator[str]:
    """What the findings mean, for people; not for a failure."""
    problem = session.problem
    goal = problem.objective
    unit = f" {goal.unit}" if goal.unit else ""
    each = lasting(found.seconds)
    yield f"{goal.name} is {found.values[0]:.6g}{unit} at the defaults; one evaluation takes {each}."
    if found.kind == "deterministic":
        yield f"All {len(found.values)} measurements are the same, whatever the seed: it is deterministic."
    else:
        why = (
            "the same seed gives the same number, other seeds give others"
            if found.kind == "seeded"
            else ("even the same seed gives other numbers")
        )
        low, high = min(found.values), max(found.values)
        yield f"It is noisy: {why} ({low:.6g} to {high:.6g}{unit})."
        if not problem.by_rows:
            said = found.noise.sentence(problem, session.settings, 0, session.settings.level)
            yield f"{said[:1].upper()}{said[1:]}; more pairs (gate.exam_pairs) show smaller ones, and cost evaluations."
    for name, (value, score) in found.moved.items():
        if score is None:
            yield f"Where {name} is {_brief(value)} it fails; the search is told when that happens."
    if found.constant:
        yield (
            f"The number did not move, although {_list(found.still)} did. As it is there is nothing to search for: the"
            " evaluator may not use the candidate, or the ranges may be too narrow."
        )
    elif found.still:
        yield f"{_list(found.still)} changed nothing where it was tried alone; that may be right."


def _list(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _brief(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
