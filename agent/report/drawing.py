"""The report's pictures: matplotlib draws them as SVG, and the page's style sheet gives them their colours.

Colours are names here (`INK`, `BEST` …) that matplotlib takes for colours and that become CSS variables in the SVG, so
that one picture is right in light and in dark. Equal input gives equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.errors import PrerequisiteError
from agent.telling.text import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, LINE, BEST, GOOD, BAD, CARD = (f"#0a0b0{number}" for number in range(1, 8))
"""Text, dots of what was dropped, axes, the champion, what was shown, what failed, and the background."""
SERIES = tuple(f"#0a0c0{number}" for number in range(1, 9))
"""Of the runs that are compared."""
_NAMES = {INK: "ink", FAINT: "faint", LINE: "line", BEST: "best", GOOD: "good", BAD: "bad", CARD: "card"} | {
    color: f"series-{number}" for number, color in enumerate(SERIES, 1)
}
LOW, HIGH, FAILED = (0xBC, 0xD6, 0xF1), (0x08, 0x3A, 0x7C), (0xE6, 0x6A, 0x1A)
"""Ends of the heatmap's colours, and what failed; what was not evaluated is the page's background."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDE, NARROW = 9.4, 5.2
"""Inches of a picture for a page, and for a phone; 72 points each, which the text is measured in."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "truegain",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 11,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "path.simplify": False,
}


def _figure(height: float, width: float = WIDE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    return figure, axes


def _styled(function: Any) -> Any:
    """A drawing function whose figure comes back as SVG text; `part` names it where a page draws it more than once."""

    def draw(*given: Any, part: str = "", **more: Any) -> str:
        try:
            import matplotlib
        except ImportError:
            raise PrerequisiteError(
                "the report's pictures need matplotlib, which is not installed", fix="pip install 'truegain[report]'"
            ) from None
        defaults: dict[Any, Any] = dict(matplotlib.rcParamsDefault)  # and not what the user's own file says
        with matplotlib.rc_context({**defaults, "backend": "svg", **_STYLE}), warnings.catch_warnings():
            # The browser has the glyphs that matplotlib measures text without.
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            figure: Figure = function(*given, **more)
            out = io.StringIO()
            figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return _themed(out.getvalue(), part or function.__name__, (function.__doc__ or "").partition("\n")[0])

    return draw


def _themed(svg: str, name: str, label: str) -> str:
    """The picture without a prologue, with the page's fonts and colours, and ids that no other picture has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.S)
    head = rf'<svg \1 role="img" aria-label="{label}" class="{name}">'
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", head, svg, count=1)
    for color, word in _NAMES.items():
        svg = svg.replace(color, f"var(--{word})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r' id="(?:[a-z]+_)+\d+"', "", svg)  # of groups that nothing refers to
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)


def _words(text: str, width: int = 60) -> str:
    """Text for a picture: one line, nothing that draws outside of itself."""
    return brief(text, width)


def _title(axes: Axes, view: Any, narrow: bool = False) -> None:
    """What goes up, above the axis, where it can be read without turning the head."""
    goal = view.goal
    unit = f" in {_words(goal.unit, 12)}" if goal.unit else ""
    what, gap = _words(goal.name, 24 if narrow else 40), "\n" if narrow else " "
    axes.set_title(f"search score: {what}{unit}{gap}({goal.better} is better)", loc="left", fontsize=11)


def _scale(axes: Axes, values: Sequence[float], keep: Sequence[float]) -> None:
    """Of the vertical axis: logarithmic where numbers span much; else without the outliers among them.

    Args:
        axes: To scale.
        values: All that is drawn.
        keep: What must be inside.
    """
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter

    if not values:
        return
    low, high = min(values), max(values)
    if low > 0 and high > 20 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 2000 * low else (1.0,)))
        axes.yaxis.set_major_formatter(_plain())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    quarter, three = np.percentile(values, [25, 75])
    reach = 3 * max(three - quarter, 1e-12 * max(1.0, abs(three)))
    low = min([*keep, max(low, quarter - reach)])
    high = max([*keep, min(high, three + reach)])
    pad = 0.06 * ((high - low) or abs(high) or 1.0)
    axes.set_ylim(low - pad, high + pad)


def _plain() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:g}")


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """Dots; those beyond the axis lie on its end, as arrows."""
    low, high = sorted(axes.get_ylim())
    inside = [(a, b) for a, b in zip(x, y, strict=True) if low <= b <= high]
    axes.plot([a for a, _ in inside], [b for _, b in inside], linestyle="none", **style)
    for end, marker, beyond in (
        (low, "v", [a for a, b in zip(x, y, strict=True) if b < low]),
        (high, "^", [a for a, b in zip(x, y, strict=True) if b > high]),
    ):
        if beyond:
            arrow = {**style, "marker": marker, "label": "beyond this edge"}
            axes.plot(beyond, [end] * len(beyond), linestyle="none", clip_on=False, **arrow)


@_styled
def stair(view: Any, narrow: bool = False) -> Any:
    """The champion's search score over what was spent."""
    by_usd = view.spent["usd"] is not None and view.spent["usd"] > 0
    figure, axes = _figure(4.2, NARROW if narrow else WIDE)

    def cost(item: Any) -> float:
        return float(item.usd if by_usd else item.evaluations)

    line = [s for s in view.steps if s.decision in ("initial", "promote") and s.value is not None]
    drops = [s for s in view.steps if s.decision == "drop" and s.value is not None]
    _scale(axes, [s.value for s in (*line, *drops)], [s.value for s in line])
    end = max(
        [cost(s) for s in (*view.steps, *view.bits)] + [view.spent["usd"] if by_usd else view.spent["evaluations"]]
    )
    for right, label, marker in ((True, "dropped", "o"), (False, "breaks a constraint", "x")):
        some = [s for s in drops if s.feasible == right]
        if some:
            _dots(axes, [cost(s) for s in some], [s.value for s in some], color=FAINT, marker=marker, ms=4, label=label)
    if line:
        x = [*(cost(s) for s in line), end]
        y = [*(s.value for s in line), line[-1].value]
        axes.step(x, y, where="post", color=BEST, linewidth=2, label="champion")
        axes.plot(x[:-1], y[:-1], linestyle="none", marker="o", ms=6, color=BEST, label="kept")
    for accepted, color, style, label in (
        (True, GOOD, "-", "✓ the gate released it"),
        (False, FAINT, ":", "✗ the gate did not accept it"),
    ):
        for place, bit in enumerate(bit for bit in view.bits if bit.accepted == accepted):
            axes.axvline(cost(bit), color=color, linestyle=style, linewidth=1.6, zorder=1, label="" if place else label)
    axes.set_xlim(0, end * 1.01 or 1)
    axes.grid(axis="y")
    axes.set_xlabel("dollars spent" if by_usd else "evaluations")
    _title(axes, view, narrow)
    figure.legend(loc="outside upper left", ncols=2 if narrow else 5, handletextpad=0.4, columnspacing=1.4)
    return figure


@_styled
def heat_train(view: Any) -> Any:
    """Examples by candidates, from the search."""
    return _heat(view, view.train)


@_styled
def heat_test(view: Any) -> Any:
    """Examples by candidates, from the final report."""
    return _heat(view, view.test)


def _heat(view: Any, grid: Any) -> Any:
    import numpy as np
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    figure, axes = _figure(min(7.5, 2.0 + 0.09 * len(grid.examples)))
    scores = [cell for row in grid.cells for cell in row if isinstance(cell, float)]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    ends = np.array([LOW, HIGH], dtype=float)
    pixels = np.zeros((len(grid.examples), len(grid.numbers), 4), dtype=np.uint8)
    for across, column in enumerate(grid.cells):
        for down, cell in enumerate(column):
            if cell is None:
                continue
            share = 0.5 if high == low or isinstance(cell, str) else (cell - low) / (high - low)
            color = np.array(FAILED) if isinstance(cell, str) else ends[0] + share * (ends[1] - ends[0])
            pixels[down, across] = [*color.round().astype(int), 255]
    axes.imshow(
        pixels, aspect="auto", interpolation="none", extent=(-0.5, len(grid.numbers) - 0.5, len(grid.examples), 0)
    )
    places = sorted({round(place) for place in np.linspace(0, len(grid.numbers) - 1, min(11, len(grid.numbers)))})
    axes.set_xticks(places, [f"#{grid.numbers[place]}" for place in places])
    axes.set_yticks([])
    axes.set_xlabel("candidates, in order of admission")
    axes.set_ylabel(f"{len(grid.examples)} examples, the easiest on top")
    if scores:
        colors = LinearSegmentedColormap.from_list("scores", [tuple(c / 255 for c in end) for end in (LOW, HIGH)])
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high if high > low else low + 1), colors), ax=axes, pad=0.015
        )
        bar.set_label(_words(view.goal.name, 40))
        bar.outline.set_visible(False)
    return figure


@_styled
def repeats(view: Any) -> Any:
    """Each full measurement of each candidate, where there are no rows."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(3.6)
    kept = {card.number for card in view.cards if card.kept}
    dots = {n: [value for value in values if value is not None] for n, values in view.repeats.items()}
    failed = [n for n, values in view.repeats.items() if None in values]
    _scale(axes, [v for values in dots.values() for v in values], [v for n in kept for v in dots.get(n, ())])
    for chosen, color, label in ((False, FAINT, "never kept"), (True, BEST, "kept at some time")):
        some = [(n, v) for n, values in dots.items() if (n in kept) == chosen for v in values]
        if some:
            x, y = zip(*some, strict=True)
            _dots(axes, x, y, color=color, marker="o", ms=4.5, alpha=0.75, label=label)
    if failed:
        floor = axes.get_ylim()[0]
        axes.plot(failed, [floor] * len(failed), linestyle="none", marker="x", color=BAD, clip_on=False, label="failed")
    axes.grid(axis="y")
    axes.set_xlabel("candidate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _title(axes, view)
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.4)
    return figure


@_styled
def effects(view: Any) -> Any:
    """Effects of the exams and gains of the report, with intervals."""
    exams, held = view.gate["exams"], view.gate["candidates"]
    bars = [(f"exam {e['number']}, #{e['candidate']}", e["effect"], e["interval"], e["accepted"]) for e in exams]
    bars += [
        (f"test rows, {item['role']}", item["gain"], item["gain_interval"], item["status"] in ("proven", "exact"))
        for item in held
        if item["source"] == "report"
    ]
    bars = [bar for bar in bars if bar[1] is not None][::-1]
    figure, axes = _figure(1.1 + 0.36 * len(bars))
    axes.axvline(0, color=LINE, linewidth=1.2)
    for place, (_, effect, around, good) in enumerate(bars):
        color = GOOD if good else FAINT
        if around is not None:
            axes.plot(around, [place, place], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([effect], [place], marker="o" if good else "s", ms=8, color=color)
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    unit = f" in {_words(view.goal.unit, 12)}" if view.goal.unit else ""
    axes.set_xlabel(f"gain over what was released before{unit}; to the right of the line is better")
    return figure


@_styled
def front(view: Any, goals: Sequence[Any], measured: Sequence[Mapping[str, Any]]) -> Any:
    """Measured candidates by their first two objectives, with those that no other one beats.

    Args:
        view: The run.
        goals: The two objectives.
        measured: number, x, y, kind ("front", "feasible", "infeasible") of each candidate.
    """
    figure, axes = _figure(4.4)
    for kind, color, marker, size in (
        ("infeasible", FAINT, "x", 5),
        ("feasible", FAINT, "o", 4.5),
        ("front", BEST, "o", 7),
    ):
        some = [item for item in measured if item["kind"] == kind]
        if some:
            label = {"front": "on the front", "feasible": "beaten in everything", "infeasible": "breaks a constraint"}[
                kind
            ]
            axes.plot([i["x"] for i in some], [i["y"] for i in some], linestyle="none", marker=marker, ms=size,
                      color=color, label=label)  # fmt: skip
    for item in measured:
        if item["number"] in (view.initial, view.best):
            role = "best" if item["number"] == view.best else "initial"
            axes.annotate(role, (item["x"], item["y"]), xytext=(9, 6), textcoords="offset points", fontsize=10)
    labels = [
        f"{_words(goal.name, 40)}{f' in {_words(goal.unit, 12)}' if goal.unit else ''}"
        f" ({'lower' if goal.sign < 0 else 'higher'} is better)"
        for goal in goals
    ]
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid()
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.4)
    return figure


@_styled
def curves(views: Sequence[Any]) -> Any:
    """Best search score over evaluations, of several runs."""
    figure, axes = _figure(4.6)
    stairs = [[s for s in v.steps if s.decision in ("initial", "promote") and s.value is not None] for v in views]
    values = [s.value for steps in stairs for s in steps]
    _scale(axes, values, values)
    for place, (view, steps) in enumerate(zip(views, stairs, strict=True)):
        if not steps:
            continue
        x = [*(float(s.evaluations) for s in steps), float(view.spent["evaluations"])]
        y = [*(s.value for s in steps), steps[-1].value]
        color, marker = SERIES[place % len(SERIES)], MARKS[place % len(MARKS)]
        axes.step(x, y, where="post", color=color, linewidth=1.8)
        axes.plot(x[:-1], y[:-1], linestyle="none", marker=marker, ms=6, color=color)
        axes.plot([], [], color=color, marker=marker, linewidth=1.8, label=_words(view.run, 44))
        for bit in view.bits:
            if bit.accepted:
                axes.plot([bit.evaluations], [y[-1]], marker="*", ms=13, color=color, markeredgecolor=CARD)
    axes.set_xlim(left=0)
    axes.grid(axis="y")
    axes.set_xlabel("evaluations")
    _title(axes, views[0])
    figure.legend(loc="outside upper left", ncols=2)
    return figure
