"""The report as one HTML file, and the page that compares runs.

Both open from disk, load nothing, run no script and say so in their content policy. Whatever a model, an evaluator or
a row says is text: the templates escape all of it, and control characters are shown.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from agent.ledger import KINDS, counted
from agent.report import drawing
from agent.report.cards import Card
from agent.report.grid import Grid
from agent.report.view import Goal, View
from agent.report.words import pieces
from agent.results.resultfiles import spent_line
from agent.telling.gate import JUDGED, lines, number, span
from agent.telling.text import amount, brief, plain

if TYPE_CHECKING:
    import jinja2

    from agent.report.comparison import Comparison

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""No script, no network. Styles are inline because each picture carries its own."""

STATUS = {
    "proven": "✓ proven",
    "exact": "✓ exact",
    "unproven": "~ unproven",
    "initial": "✗ no gain shown",
    "open": "… open: nothing is claimed",
}
DECISION = {"initial": "initial", "promote": "kept", "drop": "dropped"}
"""What the race decided, in the words that are used everywhere."""
KIND = {"usd": "dollars", "seconds": "time"}
"""Kinds of spend that have another name for people."""
DEEPEST = 12
"""Levels of the tree that are indented."""


def _clean(value: Any) -> Any:
    """What a template is about to write: texts without control characters, everything else as it is."""
    if type(value) is not str or value.isprintable():
        return value
    return plain(value)


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """What renders the templates: everything is escaped, and an unknown name is an error."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files("agent.report") / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"policy": POLICY, "status_words": STATUS, "decision_words": DECISION, "deepest": DEEPEST}
    made.filters |= {
        "amount": lambda value, unit="": amount(value, brief(unit, 16)),
        "brief": brief,
        "number": number,
        "span": span,
        "counted": counted,
        "kind": lambda kind: KIND.get(kind, kind),
        "shown": _shown,
        "pieces": lambda change: pieces(str(change.before), str(change.after)),
        "capital": lambda text: text[:1].upper() + text[1:],
    }
    return made


def _style() -> str:
    return (files("agent.report") / "style.css").read_text(encoding="utf-8")


def _shown(value: Any) -> str:
    """A parameter's value or a setting for people."""
    import json

    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def report(view: View) -> str:
    """The report of a run.

    Raises:
        PrerequisiteError: matplotlib is missing.
    """
    by_number = {card.number: card for card in view.cards}
    return (
        environment()
        .get_template("report.html")
        .render(
            view=view,
            card=by_number,
            title=f"{view.run}: {view.status}",
            style=_style(),
            spent=spent_line(view.spent),
            judged=JUDGED.get(view.gate.get("kind", ""), ""),
            gate_lines=[] if view.gate["open"] else list(lines(view.gate, view.goal.unit)),
            limits=limits(view),
            stair=drawing.stair(view) if view.steps else "",
            heat={name: _heat(view, name) for name in ("train", "test") if getattr(view, name) is not None},
            repeats=drawing.repeats(view) if view.repeats else "",
            effects=_effects(view),
            front=_front(view),
            trunk=_tree(view, trunk=True),
            tree=_tree(view, trunk=False),
        )
    )


def compare(comparison: Comparison) -> str:
    """The page of several runs.

    Raises:
        PrerequisiteError: matplotlib is missing.
    """
    goals: dict[Goal, list[View]] = {}
    for view in comparison.views:
        if view.steps:
            goals.setdefault(view.goal, []).append(view)
    return (
        environment()
        .get_template("compare.html")
        .render(
            comparison=comparison,
            title=f"{len(comparison.rows)} runs compared",
            style=_style(),
            curves=[drawing.curves(views, part=f"curves-{place}") for place, views in enumerate(goals.values())],
        )
    )


def limits(view: View) -> list[tuple[str, str, str, str]]:
    """What was spent of each kind, what may have been spent besides, and the limit."""
    spent, maybe = view.spent, view.spent["possibly_spent"]
    tokens = spent["tokens"]
    used = {**spent, "tokens": tokens["input"] + tokens["output"]}
    out = []
    for kind in KINDS:
        limit = spent["limits"].get(kind)
        said = "unknown" if used[kind] is None else _quantity(kind, used[kind])
        more = _quantity(kind, maybe[kind]) if maybe.get(kind) else ""
        out.append((kind, said, more, "no limit" if limit is None else _quantity(kind, limit)))
    return out


def _quantity(kind: str, value: float) -> str:
    return f"${value:.4f}" if kind == "usd" else f"{value:,.0f} s" if kind == "seconds" else f"{value:,.10g}"


def _heat(view: View, name: str) -> dict[str, Any]:
    grid: Grid = getattr(view, name)
    draw = drawing.heat_train if name == "train" else drawing.heat_test
    return {"grid": grid, "svg": draw(view), "table": _cells(grid)}


def _cells(grid: Grid) -> str:
    """The table under a heatmap, in as few bytes as HTML allows: it may have 40,000 cells."""
    head = "".join(f'<th><a href="#c{n}">#{n}</a>' for n in grid.numbers)
    out = [f"<table class=cells><thead><tr><th>example{head}<tbody>"]
    for place, example in enumerate(grid.examples):
        cells = (column[place] for column in grid.cells)
        row = "".join("<td>" if c is None else f"<td>{c}" if isinstance(c, str) else f"<td>{c:.4g}" for c in cells)
        out.append(f"<tr><th>{escape(_clean(brief(example, 40)))}{row}")
    return "\n".join([*out, "</table>"])


def _effects(view: View) -> str:
    if view.gate["open"]:
        return ""
    measured = [e for e in view.gate["exams"] if e["effect"] is not None]
    measured += [item for item in view.gate["candidates"] if item["source"] == "report" and item["gain"] is not None]
    return drawing.effects(view) if measured else ""


def _front(view: View) -> dict[str, Any] | None:
    """The Pareto front's picture, and its rows."""
    if view.front is None:
        return None
    goals = list(view.goals)
    x, y = goals[0].name, goals[1].name
    on = {item["number"] for item in view.front["trials"]}
    measured = [
        {
            "number": card.number,
            "x": card.measures[x],
            "y": card.measures[y],
            "kind": "front" if card.number in on else "feasible" if card.feasible else "infeasible",
        }
        for card in view.cards
        if card.measures
    ]
    return {"svg": drawing.front(view, goals[:2], measured), "goals": goals, **view.front}


def _tree(view: View, trunk: bool) -> list[dict[str, Any]]:
    """Candidates below the one they were made from, as lines with a depth.

    Args:
        view: The run.
        trunk: Only those that were ever kept, and what these were made from.
    """
    cards = {card.number: card for card in view.cards}

    def above(card: Card) -> int:
        return next((parent for parent in card.parents if parent < card.number), 0)

    wanted: set[int] = set(cards)
    if trunk:
        wanted = {0, view.best, *(card.number for card in view.cards if card.kept)}
        for start in list(wanted):
            at = start
            while at and above(cards[at]) not in wanted:
                at = above(cards[at])
                wanted.add(at)
    children: dict[int, list[int]] = {}
    for card in view.cards:
        if card.number:
            children.setdefault(above(card), []).append(card.number)
    out, stack = [], [(0, 0)]
    while stack:
        at, depth = stack.pop()
        below = children.get(at, [])
        inside = [child for child in below if child in wanted]
        out.append({"card": cards[at], "depth": depth, "more": len(below) - len(inside)})
        stack += [(child, depth + 1) for child in reversed(inside)]
    return out
