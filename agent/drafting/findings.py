"""What trying a new evaluator showed, and what that means in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.evaluation import Failure
from agent.gate.noise import Noise
from agent.parameters import Value

if TYPE_CHECKING:
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
        paid: What models were paid for it, in words.
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
    paid: str = ""

    @property
    def constant(self) -> bool:
        """Whether nothing that was tried changed the score."""
        return bool(self.still) and not self.moved


def sentences(session: Session, found: Findings) -> Iterator[str]:
    """What the findings mean, for people; not for a failure."""
    problem = session.problem
    goal = problem.objective
    unit = f" {goal.unit}" if goal.unit else ""
    first = f"{goal.name} is {found.values[0]:.6g}{unit} at the defaults; one evaluation takes {found.seconds:.2g} s."
    yield first + (f" Models were paid for it: {found.paid}." if found.paid else "")
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
