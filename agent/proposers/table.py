"""Which proposers there are, and how one is found by its name."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.proposers.base import Proposer

TABLE: dict[str, str] = {
    "default": "agent.proposers.portfolio:Portfolio",
    "agentic": "agent.proposers.agentic:Agentic",
    "best_of_n": "agent.proposers.best_of_n:BestOfN",
    "bootstrap": "agent.proposers.bootstrap:Bootstrap",
    "catcma": "agent.proposers.catcma:CatCMA",
    "claps": "agent.proposers.claps:ClaPS",
    "cmaes": "agent.proposers.cmaes:CMAES",
    "coordinate": "agent.proposers.coordinate:Coordinate",
    "crossover": "agent.proposers.crossover:Crossover",
    "evollm": "agent.proposers.evollm:EvoLLM",
    "evolve": "agent.proposers.evolve:Evolve",
    "evollm-null": "agent.proposers.evollm_null:EvoLLMNull",
    "gameopt": "agent.proposers.gameopt:GameOpt",
    "gp": "agent.proposers.gp:GP",
    "instinct": "agent.proposers.instinct:Instinct",
    "icpl": "agent.proposers.icpl:ICPL",
    "lhs": "agent.proposers.lhs:LatinHypercube",
    "llambo": "agent.proposers.llambo:LLAMBO",
    "mipro": "agent.proposers.mipro:MIPRO",
    "nsga2": "agent.proposers.nsga2:NSGA2",
    "opro": "agent.proposers.opro:OPRO",
    "optoprime": "agent.proposers.optoprime:OptoPrime",
    "parego": "agent.proposers.parego:ParEGO",
    "paraphrase": "agent.proposers.paraphrase:Paraphrase",
    "quality_diversity": "agent.proposers.quality_diversity:QualityDiversity",
    "random": "agent.proposers.random:Random",
    "random_edits": "agent.proposers.random_edits:RandomEdits",
    "reflect": "agent.proposers.reflect:Reflect",
    "spo": "agent.proposers.spo:SPO",
    "textgrad": "agent.proposers.textgrad:TextGrad",
    "portfolio": "agent.proposers.portfolio:Portfolio",
    "tpe": "agent.proposers.tpe:TPE",
    "tree": "agent.proposers.tree:TreeSearch",
    "trust": "agent.proposers.gp:TrustRegion",
    "tune": "agent.proposers.tune:Tune",
    "zo-ranksgd": "agent.proposers.zo_ranksgd:ZORankSGD",
}
"""Proposers by name."""

SIDE_BY_SIDE = frozenset({"best_of_n", "evolve"})
"""Proposers of which several decisions may be open at once, as many as there are slots: they ask for one candidate at a
time, leave no memory, and tell their decisions apart by number."""


def talks(proposer: Proposer) -> bool:
    """Whether a proposer asks a model where the run has one."""
    return proposer.needs_model or bool(getattr(proposer, "uses_model", False))


def canonical(name: str) -> str:
    """A proposer's name as the table has it: `-` and `_` are the same there. Any other name stays as it is."""
    if name in TABLE or ":" in name:
        return name
    return next((known for known in TABLE if known.replace("-", "_") == name.replace("-", "_")), name)


def load(name: str, folder: Path | None = None) -> Proposer:
    """The proposer of a name, or of an import path `module:attr` of the user's own.

    Args:
        name: As in the table (`-` for `_` is understood), or `module:attr`.
        folder: The problem's, where a module of the user's own may be.

    Raises:
        ConfigError: There is none; lists the known names, or says where it was looked for.
    """
    name = canonical(name)
    module, _, attribute = TABLE.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, TABLE, n=1)
        meant = f"did you mean {near[0]}? Or " if near else ""
        raise ConfigError(
            f"there is no proposer {name!r}",
            hint=f"{meant}choose one of {', '.join(sorted(TABLE))}, or give module:attr",
        )
    try:
        made = getattr(importlib.import_module(module), attribute) if name in TABLE else _own(name, folder)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the proposer {name!r} cannot be loaded: {error}",
            hint="install the package that is missing, or name another proposer",
        ) from None
    proposer: Proposer = made() if isinstance(made, type) else made
    return proposer


def _own(name: str, folder: Path | None) -> Any:
    """What `module:attr` names, found as evaluators and checks are."""
    from agent.evaluators.loading import find_target, parse_target

    try:
        return find_target(*parse_target(name), folder)
    except ConfigError as error:
        hint = error.hint.replace(", or run the evaluator in a subprocess", "")  # a proposer is in this process
        message, hint = (text.replace("evaluator", "proposer") for text in (error.message, hint))
        raise ConfigError(message, hint=hint) from None
