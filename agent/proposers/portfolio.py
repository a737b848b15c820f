"""The default: several proposers under one budget, and a bandit that asks those more often that earn more.

The bandit reads what code counts from the history: how often each arm was asked, how often what it proposed
was better than all before, and a bonus for arms that were asked little (EVOLvE's guide, Nie et al. 2024,
arXiv 2410.06238, section 4.2, with arms in the place of actions). A model's points are rarer the longer
none of them helped, and one that the surrogate thinks hopeless is not paid for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.bandits import Arm
from agent.code.holes import structures
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.history import Trial
from agent.parameters import Categorical
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.guide import FADE, WINDOW, arm_of, counted, misses, standings
from agent.proposers.options import number, read, wrong
from agent.proposers.table import load
from agent.proposers.tune import SOURCE as TUNE
from agent.texts import Code, Demos, Text

LARGEST = 50
"""Numbers and choices up to which arms with a Gaussian process take part."""
CHOICE = (400, 32)
"""Tokens in and out of a call that chooses an arm, at most."""
WORDY = 12
"""Numbers and choices up to which LLAMBO takes part: its prompts and replies name each of them in each configuration,
at which a small model on one core is slow."""
OWN: Mapping[str, Mapping[str, Any]] = {"evollm": {"population": 1}}
"""Options of arms that the user did not set. The other arms draw around good points better than EvoLLM does."""
MODELS = ("llambo", "evollm")
"""Arms whose points are numbers that a model made up; a surrogate can judge them."""
WRITERS = ("evolve", "optoprime", "reflect", "mipro")
"""Arms in which a model writes texts and programs. `mipro` also searches numbers, in its own way, and so joins where
there are none for the other arms."""
CODERS = ("evolve", "optoprime")
"""Writers whose replies of no use count as points that did not help: a small model may write no program at all."""
UNTRACED = ("code", "pytest", "ensemble", "command")
"""Evaluators that run a program where nothing of it is recorded; `optoprime` is for what reads a trace."""
FLOOR = {"gp": 0.12}
"""Share of the last points below which an arm is asked first: looking everywhere pays late."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        arms: Names of the proposers that take part; empty chooses by the space.
        exploration: Weight of the bonus for arms that were asked little.
        model_share: Largest share of the points that arms with a model may make.
        justify: Whether a model's point that the surrogate thinks hopeless is replaced by the surrogate's own.
        choose: Who chooses the arm: "code" takes the largest value plus bonus, "model" is shown these numbers.
        own: Options of single arms, by name.
    """

    arms: Sequence[str] = ()
    exploration: float = 0.02
    model_share: float = 1 / 3
    justify: bool = True
    choose: str = "code"
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options that a user set; a table under an arm's name is that arm's own options.

        Raises:
            ConfigError: One is unknown or not allowed; says what is.
        """
        own = {name: value for name, value in given.items() if isinstance(value, Mapping)}
        plain = {name: value for name, value in given.items() if name not in own}
        known = [name for name in cls.__slots__ if name != "own"]
        for name in plain:
            if name not in known:
                raise ConfigError(
                    f"proposer.options.{name}: unknown option, allowed is one of {', '.join(known)},"
                    " or a table with an arm's own options"
                )
        return read(cls, {**plain, "own": own})

    def __post_init__(self) -> None:
        if not isinstance(self.arms, (list, tuple)) or not all(isinstance(name, str) for name in self.arms):
            raise wrong("arms", self.arms, "a list of proposers")
        for name, high in (("exploration", 10.0), ("model_share", 1.0)):
            value = getattr(self, name)
            if not number(value) or not 0 <= value <= high:
                raise wrong(name, value, f"a number from 0 to {high:g}")
        if not isinstance(self.justify, bool):
            raise wrong("justify", self.justify, "true or false")
        if self.choose not in ("code", "model"):
            raise wrong("choose", self.choose, "code or model")


class Portfolio:
    """Memory: that of each arm, by name, and the surrogate's fit, which arms share."""

    name = "portfolio"
    needs_model = False
    uses_model = True
    texts = True

    def __init__(self) -> None:
        self._made: dict[str, Proposer] = {}
        """The arms, some of which keep a fold of the history that they would make again without."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """`n` points, each of the arm that the bandit chooses. Numbers in programs count as parameters.

        Raises:
            ConfigError: Nothing in the space can be changed without a model and there is none, or an option is wrong.
            ProviderError: The model cannot be reached.
        """
        options = Options.of(context.options)
        self.check(context.problem, context.options, context.ask is not None)
        memory: dict[str, Any] = dict(context.memory or {})
        memory["arms"] = dict(memory.get("arms", {}))
        if context.ask is not None and context.left.get("calls", math.inf) < 1 and not memory.get("told"):
            context.reject("the limit on model calls is spent; the arms without a model go on alone", self.name)
            memory["told"] = True
        wanted: dict[str, int] = {}
        barred: dict[str, bool] = {}
        """Arms that gave nothing in this decision, and whether they may give something in another one."""
        out: list[Proposal] = []
        while len(out) < n:
            for _ in range(n - len(out)):
                arm = await self._choice(context, options, wanted, barred)
                if not arm:
                    break
                wanted[arm] = wanted.get(arm, 0) + 1
            if not wanted:
                break
            arm = next(iter(wanted))
            made, again = await self._ask(arm, wanted.pop(arm), context, options, memory)
            if not made:
                barred[arm] = again
            out.extend(made)
        context.memory = memory
        context.exhausted = not out and not any(barred.values())
        return out

    def check(self, problem: Problem, options: Mapping[str, Any], model: bool) -> None:
        """Whether some arm can change something.

        Raises:
            ConfigError: There are texts or programs alone, and no model; or an option is wrong.
        """
        if arms_of(problem, Options.of(options), model, bool(structures(problem.space, problem.initial()))):
            return
        others = "or add a float, int, categorical or demos parameter"
        if any(isinstance(item, Code) for item in problem.space.values()):
            others = (
                "or write tune(value, low, high) in the program where a number is, which needs none; or take"
                " --proposer random_edits, which edits by chance"
            )
        raise ConfigError(
            "the proposer 'default' needs a model to change texts and programs, and there is none",
            hint="name one as provider:model, such as local:smollm2-135m; or a proposer of your own as module:attr;"
            f" {others}",
        )

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """The models' arms make at most their share of the candidates."""
        chosen = Options.of(options)
        holes = bool(structures(problem.space, problem.initial()))
        share = candidates if holes or not problem.space.numeric else math.ceil(candidates * chosen.model_share)
        most = (0, 0, 0)
        for arm in arms_of(problem, chosen, True, holes):
            made = load(arm, problem.folder)
            if share and (made.needs_model or arm == TUNE):
                most = max(most, made.forecast(problem, share, _own(arm, chosen, options)))
        if chosen.choose == "model":
            most = (most[0] + candidates, most[1] + candidates * CHOICE[0], most[2] + candidates * CHOICE[1])
        return most

    async def _choice(
        self, context: Context, options: Options, wanted: Mapping[str, int], barred: Collection[str]
    ) -> str:
        """The arm to ask next; "" when none is left."""
        model = context.ask is not None and context.left.get("calls", math.inf) >= 1
        holes = bool(structures(context.problem.space, context.champion))
        arms = [arm for arm in arms_of(context.problem, options, model, holes) if arm not in barred]
        if not arms:
            return ""
        recent = list(context.history.trials)[-WINDOW:]
        asked = Counter(wanted)
        asked.update(arm for arm in map(_refused, context.history.rejections) if arm in CODERS)
        known = {item.name: item for item in standings(recent, arms, options.exploration, asked)}
        # Of texts and programs a model makes the best candidates there are, so that nothing holds it back.
        if holes or not context.problem.space.numeric:
            return max(arms, key=lambda arm: known[arm].value)
        talkers = [arm for arm in arms if load(arm, context.problem.folder).needs_model]
        rest = [arm for arm in arms if arm not in talkers]
        if talkers and (not rest or self._turn(context, options, recent, talkers, wanted)):
            return max(talkers, key=lambda arm: known[arm].value)
        made, _ = counted(recent, arms)
        total = sum(made.values()) + 1e-9
        for arm, share in FLOOR.items():
            if arm in rest and len(recent) > 8 and made[arm] / total < share:
                return arm
        if options.choose == "model" and context.ask is not None and len(rest) > 1:
            chosen = await _chosen(context, [known[arm] for arm in rest])
            if chosen:
                return chosen
        return max(rest, key=lambda arm: known[arm].value)

    def _turn(
        self,
        context: Context,
        options: Options,
        recent: list[Trial],
        talkers: list[str],
        wanted: Mapping[str, int],
    ) -> bool:
        """Whether a model's arm is asked: while its share of the points is below what it has earned."""
        share = options.model_share * 0.5 ** (misses(recent, (context.memory or {}).get("vetoed", [])) / 3.0)
        made, total = float(sum(wanted.get(arm, 0) for arm in talkers)), 1.0 + sum(wanted.values())
        weight = 1.0
        vetoed = set((context.memory or {}).get("vetoed", []))
        for trial in reversed(recent):
            total += weight
            if arm_of(trial) in talkers or trial.number in vetoed:
                made += weight
            weight *= FADE
        return bool(made / total < max(share, 0.02))

    async def _ask(
        self, arm: str, n: int, context: Context, options: Options, memory: dict[str, Any]
    ) -> tuple[list[Proposal], bool]:
        """What an arm proposes, and whether it may have more another time; where it cannot, that is recorded, and
        another arm is asked."""
        arms = memory["arms"]
        own = dict(arms.get(arm) or {}) or None
        shares = arm in ("gp", "trust", "gameopt")
        if shares and memory.get("hyper") is not None:
            own = {**(own or {}), "hyper": memory["hyper"]}
        inner = replace(context, memory=own, options=_own(arm, options, context.options), exhausted=False)
        proposer = self._made.setdefault(arm, load(arm, context.problem.folder))
        try:
            made = await proposer.propose(inner, n)
        except BudgetExceeded as error:
            context.reject(f"no model call was made: {error.message}", arm)
            return [], False
        kept = inner.memory
        if shares and isinstance(kept, dict) and "hyper" in kept:
            memory["hyper"] = kept["hyper"]
            kept = {name: value for name, value in kept.items() if name != "hyper"}
        arms[arm] = kept
        judged = arm not in WRITERS and proposer.needs_model
        # A reply that is of no use says nothing of the next one.
        return self._vetted(made, context, memory) if judged and options.justify else made, (
            arm == "evolve" and not inner.exhausted
        )

    def _vetted(self, made: list[Proposal], context: Context, memory: dict[str, Any]) -> list[Proposal]:
        """A model's points after the checks, as soon as there is enough to fit a surrogate to."""
        from agent.surrogates.points import Points

        space = context.problem.space
        points = Points.of(context.problem, context.history)
        if len(points) < 2 * len(space.numeric) or len(space.numeric) > LARGEST:
            return made
        from agent.proposers.vetting import vetted
        from agent.surrogates.surrogate import Surrogate

        surrogate = Surrogate.fit(
            points, space, seed=context.decision, hyper=memory.get("hyper"), noisy=not context.problem.exact
        )
        memory["hyper"] = surrogate.hyper
        vetoed = memory.get("vetoed", [])
        missed = misses(list(context.history.trials)[-WINDOW:], vetoed)
        out, replaced = vetted(made, context, points, surrogate, missed)
        memory["vetoed"] = [*vetoed, *[len(context.history)] * replaced][-WINDOW:]
        return out


def _refused(rejection: Mapping[str, Any]) -> str:
    """The arm whose reply was of no use."""
    return str(rejection.get("source", "")).partition(":")[0]


def _own(arm: str, chosen: Options, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of an arm. Numbers in programs are tuned by a portfolio as the user wants it: without a model, if the
    user named no arms for it."""
    if arm == TUNE and TUNE not in chosen.own:
        inner = [name for name in chosen.arms if not _writes(name, None)]
        own = {**{name: value for name, value in options.items() if name != "arms"}, "arms": inner}
        return {"by": Portfolio.name if inner else "", "own": own}
    return {**OWN.get(arm, {}), **chosen.own.get(arm, {})}


def _writes(arm: str, folder: Path | None) -> bool:
    """Whether an arm changes texts and programs, or numbers in them."""
    return ":" not in arm and bool(getattr(load(arm, folder), "texts", False))


def arms_of(problem: Problem, options: Options, model: bool, holes: bool = False) -> list[str]:
    """The arms that take part in a problem; none where there are texts alone and no model.

    Args:
        problem: Of the run.
        options: Of the portfolio.
        model: Whether there is one.
        holes: Whether the champion has numbers in its programs that may be tuned: then one arm tunes them, with all
            other numbers, and the others change the structure.

    Raises:
        ConfigError: The user named one that is not known.
    """
    named = [arm for arm in options.arms if model or not load(arm, problem.folder).needs_model]
    if holes:
        named = [arm for arm in named if _writes(arm, problem.folder)] or ([TUNE] if options.arms else [])
    if options.arms:
        return named
    space = problem.space
    words = [name for name in space if name not in space.numeric]
    codes = [name for name in words if isinstance(space[name], Code)]
    demos = any(isinstance(space[name], Demos) for name in words)
    writers = ["evolve"] if model and codes else []
    if writers and (problem.evaluator.spec or {}).get("kind") not in UNTRACED:
        writers.append("optoprime")
    if model and len(words) > len(codes):
        writers.append("reflect")
    if model and not space.numeric and (demos or any(isinstance(space[name], Text) for name in words)):
        writers.append("mipro")
    if holes:
        return [TUNE, *(writers if options.model_share else [])]
    if demos:
        writers.append("bootstrap")
    if not space.numeric:
        return writers
    items = [space[name] for name in space.numeric]
    discrete = all(getattr(item, "levels", None) is not None for item in items)
    mixed = any(isinstance(item, Categorical) for item in items)
    arms = ["coordinate"]
    if len(items) <= LARGEST:
        arms = ["trust", "gp", *arms]
        if discrete and len(items) > 1:
            arms.append("gameopt")
    if not discrete:
        arms.append("catcma" if mixed else "cmaes")
    if not model or options.model_share == 0:
        return [*arms, *(arm for arm in writers if arm == "bootstrap")]
    return [*arms, *(arm for arm in MODELS if arm != "llambo" or len(items) <= WORDY), *writers]


async def _chosen(context: Context, arms: list[Arm]) -> str:
    """The arm that the model chooses with the guide in view; "" when its answer is of no use."""
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    assert context.ask is not None
    names = [item.name for item in arms]
    request = ModelRequest(
        messages=(Message("user", render("portfolio_choose.txt", arms=arms)),),
        system=render("portfolio_choose_system.txt", guidance=context.problem.guidance),
        schema={
            "type": "object",
            "properties": {"method": {"type": "string", "enum": names}},
            "required": ["method"],
            "additionalProperties": False,
        },
        max_output_tokens=32,
        temperature=0.0,
    )
    try:
        completion = await context.ask(request)
    except (OutputInvalid, BudgetExceeded) as error:
        context.reject(f"the choice of a method cannot be used: {error.message}", "portfolio:llm")
        return ""
    return str(completion.parsed["method"])
