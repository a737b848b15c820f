"""What a budget buys, worked out before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.beforehand import against_itself
from agent.curves import COMPLETE
from agent.evaluating import uses
from agent.gate import levels, standing
from agent.gate.noise import Noise, smallest_gain
from agent.gate.outlook import clusters
from agent.gate.planning import RESERVE, paying
from agent.gate.preview import copied
from agent.ledger import lasting
from agent.proposers.table import load, talks
from agent.refusals import floor
from agent.settings import BATCHED
from agent.warm import sentence

if TYPE_CHECKING:
    from agent.goals import Objective
    from agent.ledger import Budget
    from agent.problem import Split
    from agent.session import Session

WORTHWHILE = 0.2
"""Share of candidates that look better at first and are measured in pairs; a guess that suits local search."""
PAIRED = "fewer when many have to be measured in pairs"
NOT_PAID = "nothing can be proven: the budget pays for no gate example"
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHORT_RACE, LONG_RACE = 5, 40
"""Rows on which most candidates are measured in a race on rows: as long as a clear loser and a tie take."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the evaluations of a run ask of one role's model.

    Args:
        role: task, judge …
        model: `provider:model`.
        calls: Model calls, where every evaluation of the budget is made; None where the evaluator cannot tell.
        tokens: Of those calls, at most.
        usd: Of those tokens, at most; None when the price is unknown.
    """

    role: str
    model: str
    calls: int | None
    tokens: int | None
    usd: float | None

    @property
    def words(self) -> tuple[str, str, str]:
        """A line of the table."""
        if self.calls is None or self.tokens is None:
            return f"{self.role} calls", "as many as the program makes", self.model
        price = "price unknown" if self.usd is None else "free" if self.usd == 0 else f"at most ${self.usd:.4f}"
        return f"{self.role} calls", f"{self.calls:,}", f"{self.model}: at most {self.tokens:,} tokens, {price}"


@dataclass
class Forecast:
    """What a run will take.

    Args:
        evaluations: By part: initial, starts (where there are any), search, exam; search is None when only time
            limits it.
        candidates: Range of new candidates that the search can look at.
        calls: Model calls, at most.
        tokens: Of those calls, at most.
        usd: Of those tokens; None when a price is unknown.
        usd_batched: The same through the provider's Batch API; None where there is none, or a price is unknown.
        batched: Whether the calls go through it.
        asked: What the evaluations ask of models, by role.
        paid: What measuring just now took of models, in words; "" when none was asked.
        seconds_each: Seconds of one evaluation, when it was measured.
        seconds: Of the whole run without the model's time, when that can be told.
        notes: Sentences on the data and the budget.
        data: Rows by split; None without rows.
        proof: What this budget and these data could prove, in one sentence.
        noise: sd, discordance and pairs of the initial candidate against itself, when it was measured.
    """

    evaluations: dict[str, int | None]
    candidates: tuple[int, int] | None
    calls: int | None
    tokens: int | None
    usd: float | None
    model: str
    seconds_each: float | None = None
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)
    data: dict[str, int] | None = None
    proof: str = ""
    noise: dict[str, float] | None = None
    usd_batched: float | None = None
    batched: bool = False
    asked: list[Asked] = field(default_factory=list)
    paid: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "candidates": list(self.candidates) if self.candidates else None,
            "calls_at_most": self.calls,
            "tokens_at_most": self.tokens,
            "usd_at_most": self.usd_batched if self.batched else self.usd,
            "usd_at_most_without_batch": self.usd,
            "usd_at_most_with_batch": self.usd_batched,
            "usd_known": self.usd is not None,
            "model": self.model,
            "seconds_per_evaluation": self.seconds_each,
            "seconds_of_measuring": self.seconds,
            "notes": self.notes,
            "data": self.data,
            "proof": self.proof,
            "noise": self.noise,
            "evaluator_asks": [asdict(item) for item in self.asked],
            "paid": self.paid,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Lines of a table: what, amount, note."""
        search, begins = self.evaluations["search"], self.evaluations.get("starts")
        out = []
        if self.data is not None:
            rows = ", ".join(f"{count} {name}" for name, count in self.data.items())
            held = self.data["val"] + self.data["test"]
            out.append(("data", f"{rows} rows", "val and test are held out" if held else "all are searched on"))
        out += [
            ("initial candidate", f"{self.evaluations['initial']} evaluations", "must succeed, or the run stops"),
            *([("starting points", f"{begins} evaluations", "before the first proposal")] if begins else []),
            ("search", f"{search} evaluations" if search is not None else "until the time is up", ""),
            ("final exam", f"{self.evaluations['exam']} evaluations", self._held()),
        ]
        if self.candidates:
            low, high = self.candidates
            why = f"each takes about {SHORT_RACE} to {LONG_RACE} rows" if self.by_rows else PAIRED
            out.append(("new candidates", f"{low} to {high}", why))
        if self.calls is not None:
            out.append(
                ("model calls", f"at most {self.calls}", f"{self.model}: at most {self.tokens:,} tokens, {self.price}")
            )
        out += [item.words for item in self.asked]
        if self.seconds_each is not None:
            paid = f", for {self.paid}" if self.paid else ""
            out.append(("one evaluation", lasting(self.seconds_each), f"measured just now{paid}"))
        if self.seconds is not None:
            out.append(("measuring", lasting(self.seconds), "without the time the model takes"))
        return out

    @property
    def price(self) -> str:
        """Dollars of the model calls in words, with and without batches where both are possible."""
        if self.usd is None:
            return "price unknown"
        if self.usd == 0:
            return "free"
        if self.usd_batched is None:
            return f"at most ${self.usd:.4f}"
        if self.batched:
            return f"at most ${self.usd_batched:.4f} in batches (${self.usd:.4f} without)"
        return f"at most ${self.usd:.4f} (${self.usd_batched:.4f} with models.batch)"

    @property
    def by_rows(self) -> bool:
        """Whether candidates race row by row."""
        return self.data is not None

    def _held(self) -> str:
        test = self.data is not None and self.data["test"]
        return "held back from the start, for the exam and the report" if test else "held back from the start"


async def forecast(session: Session, measure: bool, runs: Path | None = None) -> Forecast:
    """Work it out; with `measure`, measure the initial candidate against itself a few times.

    Args:
        session: Whose rows are divided here, as the next run's will be.
        measure: Whether to measure: it tells the time of an evaluation and the noise.
        runs: The runs folder whose accounts know what was held out before; None for rows that are new.

    Raises:
        ConfigError: The budget cannot pay for a run.
        EvaluatorError: The initial candidate cannot be scored.
    """
    known = _divide(session, runs)
    if runs is not None:
        session.warm_up(runs)
    session.check()
    problem, settings, budget = session.problem, session.settings, session.budget
    held, initial, rows = floor(problem, settings, budget.evaluations or math.inf)
    before = await against_itself(session) if measure else None
    each, noise = (before.seconds, before.noise) if before is not None else (None, None)
    workers = 1 if problem.evaluator.exclusive else settings.workers
    total: float | None = budget.evaluations
    if each and budget.seconds is not None:
        total = min(total or math.inf, budget.seconds / each * workers)
    begins = len(session.begins) * rows
    search = max(0, int(total) - initial - begins - held) if total is not None else None
    candidates = _candidates(session, search, rows) if search is not None else None
    proposer = load(settings.proposer, problem.folder)
    calls = tokens = None
    usd: float | None = 0.0
    half: float | None = None
    binding: list[str] = []
    model = settings.models.get("propose", "")
    if model and talks(proposer) and candidates is not None:
        from agent.llm.prices import Prices

        calls, heard, said = proposer.forecast(problem, candidates[1], settings.options)
        binding = _binding(budget, calls, heard + said)
        calls = calls if budget.calls is None else min(calls, budget.calls)
        if budget.tokens is not None:  # what is said costs more, so that it comes first of what is left
            said = min(said, budget.tokens)
            heard = min(heard, budget.tokens - said)
        tokens = heard + said
        prices = Prices(problem.prices)
        usd = prices.worst(model, heard, said, base_url=settings.base_url)
        if model.startswith(BATCHED):
            half = prices.worst(model, heard, said, base_url=settings.base_url, batch=True)
    parts = {"initial": initial, **({"starts": begins} if begins else {}), "search": search, "exam": held}
    out = Forecast(parts, candidates, calls, tokens, usd, model, each)
    out.usd_batched, out.batched = half, "propose" in settings.batched
    out.asked = list(_asked(session, budget.evaluations))
    if each is not None and total is not None and math.isfinite(total):
        out.seconds = total * each / workers
    if problem.by_rows:
        out.data = {name: len(problem.split(name)) for name in SPLITS}
    out.proof = _proof(session, known, noise, total or math.inf)
    out.notes = [*binding, *_notes(session, out, known, noise)]
    out.paid = before.paid if before is not None else ""
    if noise is not None:
        out.noise = {"sd": noise.sd, "discordance": noise.discordance, "pairs": noise.pairs}
    return out


def _asked(session: Session, evaluations: int | None) -> Iterable[Asked]:
    """What so many evaluations ask of models; no limit of the run is looked at."""
    problem, settings = session.problem, session.settings
    told = getattr(problem.evaluator, "forecast", None)
    each = told(problem) if told is not None else {}
    for role in uses(problem.evaluator):
        model = settings.models[role]
        if role not in each or evaluations is None:
            yield Asked(role, model, None, None, None)
            continue
        from agent.llm.prices import Prices

        calls, heard, said = (math.ceil(amount * evaluations) for amount in each[role])
        server, batch = settings.base_url, role in settings.batched
        usd = Prices(problem.prices).worst(model, heard, said, base_url=server, batch=batch)
        yield Asked(role, model, calls, heard + said, usd)


def _binding(budget: Budget, calls: int, tokens: int) -> list[str]:
    """Which limits on the model end the search before the evaluations do, at the worst."""
    wanted = {"calls": (budget.calls, calls), "tokens": (budget.tokens, tokens)}
    return [
        f"budget.{name} may end the search first: the candidates take up to {most:,} {name}, and {limit:,} are allowed"
        for name, (limit, most) in wanted.items()
        if limit is not None and limit < most
    ]


def _divide(session: Session, runs: Path | None) -> dict[str, Any]:
    """Divide the rows as the next run would, without writing to the accounts; returns what they know of the gate."""
    if runs is None or not session.problem.by_rows:
        session.divide()
        return {}
    with copied(runs) as place:
        session.divide(place / "estimate")
        assert session.custody is not None
        found = dict(session.custody.fixed().standing)
        gate = session.custody.val
        found["opened"] = bool(gate and session.custody.accounts.standing(gate, session.settings.level).opened)
        session.custody = None
    return found


def _candidates(session: Session, search: int, rows: int) -> tuple[int, int]:
    """How many new candidates the search can look at."""
    if session.problem.by_rows:
        train = max(1, len(session.problem.split("train")))
        return search // min(LONG_RACE, train), search // min(SHORT_RACE, train)
    fidelity = session.problem.fidelity
    counts = fidelity.counts(search / rows) if fidelity is not None else [search // rows]
    high, full = counts[0], counts[-1]
    per_race = 0 if session.problem.deterministic else 2 * session.settings.race_shortest * WORTHWHILE
    if high == full:
        return int(high / (1 + per_race)), high
    return int(high / (1 + per_race * full * rows / max(1, search))), high


def _proof(session: Session, known: dict[str, Any], noise: Noise | None, total: float) -> str:
    """What this budget and these data could prove."""
    problem, settings = session.problem, session.settings
    if problem.exact:
        return "comparisons are exact: every gain can be shown, and the exam costs nothing"
    if not problem.by_rows:
        if noise is not None:
            return noise.sentence(problem, settings, 0, settings.level)
        least = smallest_gain(settings.exam_pairs, settings.level * levels.weight(1), 1.0)
        return (
            f"gains under {least:.2g} standard deviations of one measurement cannot be shown with"
            f" {settings.exam_pairs} pairs; --measure tells how much that is"
        )
    gate = problem.split("val")
    units = clusters(gate)
    paid = units
    if gate and math.isfinite(total):
        paid = int(units * min(1.0, RESERVE * total / 2 / len(gate)))
    if noise is None:  # without a measurement nothing is said about repeats
        noise, problem = Noise(0, 0.0, 0.0, None), replace(problem, deterministic=True)
    level = levels.alone(settings.level, known)
    text = noise.sentence(problem, settings, paid, level) if paid or not units else NOT_PAID
    if paid and problem.of_set:
        text = _of_set(problem.objective, paid, level, text)
    if paid < units:
        text += (
            f" (there are {units}, but at most {RESERVE:.0%} of the budget is held back for the exam;"
            f" {paying(len(gate))} evaluations would pay for all)"
        )
    return text


def _of_set(goal: Objective, units: int, level: float, text: str) -> str:
    """What an exam of so many rows could prove of a number of the whole set; `text` is of a score of single rows."""
    from agent.gate import ofset

    if goal.most is None:
        return f"nothing can be proven of {goal.name}: {ofset.undeclared(goal)}"
    few = ofset.too_few(goal, level, units)
    if few:
        return f"nothing can be proven of {goal.name} with {units} gate examples: {few}"
    return f"{text} ({goal.name} is a number of all rows together: it takes more of them than the score of a row would)"


def _notes(session: Session, found: Forecast, known: dict[str, Any], noise: Noise | None) -> Iterable[str]:
    problem, candidates = session.problem, found.candidates
    if noise is not None and problem.deterministic and noise.differ:
        yield noise.contradiction(problem)
    if found.evaluations["search"] is None:
        yield "only a limit on time is set; --measure tells how many evaluations fit into it"
    if candidates is not None and candidates[0] < 2 * len(problem.space):
        yield f"{candidates[0]} candidates are few for {len(problem.space)} parameters; one look at each takes more"
    if problem.fidelity is not None and len(problem.fidelity.rungs) > 1 and candidates is not None:
        counts = problem.fidelity.counts((found.evaluations["search"] or 0) / max(1, len(problem.data)))
        parts = zip(counts, problem.fidelity.rungs, strict=True)
        most = [f"{count} at {problem.fidelity.words(rung)}" for count, rung in parts if rung < 1]
        yield f"of the new candidates about {', '.join(most)}, and {counts[-1]} in full"
    if problem.fidelity is not None and problem.fidelity.stop:
        yield (
            f"learning curves can stop a measurement once {COMPLETE} are complete; the model calls and candidates above"
            " are told as if none were stopped"
        )
    if problem.data and not problem.by_rows:
        yield f"each measurement covers all {len(problem.data)} rows of the data"
    yield from (note.rstrip(".") for note in session.notes)
    if session.warm:
        yield sentence(session.begins, session.warm)
        yield from session.warm["notes"]
    units = clusters(problem.split("val")) if problem.by_rows else 0
    level = levels.alone(session.settings.level, known)
    if standing.exhausted(units, level):
        yield standing.exhausted_sentence(units, level)
    if known.get("opened"):
        yield "the gate's rows were opened for reading, so what it accepts is unproven; truegain gate new makes another"
