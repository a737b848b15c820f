"""The conformance tests that plug-in authors get, applied to our own proposers."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from agent.llm.types import Completion, ModelRequest
from agent.parameters import Float, Int
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.catcma import CatCMA
from agent.proposers.cmaes import CMAES
from agent.proposers.coordinate import Coordinate
from agent.proposers.evollm import EvoLLM
from agent.proposers.evollm_null import EvoLLMNull
from agent.proposers.gameopt import GameOpt
from agent.proposers.gp import GP, TrustRegion
from agent.proposers.lhs import LatinHypercube
from agent.proposers.llambo import LLAMBO
from agent.proposers.opro import OPRO
from agent.proposers.portfolio import Portfolio
from agent.proposers.random import Random
from agent.proposers.tpe import TPE
from agent.proposers.zo_ranksgd import ZORankSGD
from agent.space import Space
from agent.testing.proposers import SPACES, ProposerContract
from agent.texts import Text


class TestRandom(ProposerContract):
    def make(self) -> Proposer:
        return Random()


class TestCoordinate(ProposerContract):
    def make(self) -> Proposer:
        return Coordinate()


class TestEvoLLM(ProposerContract):
    def make(self) -> Proposer:
        return EvoLLM()


class TestEvoLLMInSmallBlocks(ProposerContract):
    options: ClassVar = {"block": 1, "calls": 3, "population": 2, "resolution": 10}

    def make(self) -> Proposer:
        return EvoLLM()


class TestEvoLLMNull(ProposerContract):
    def make(self) -> Proposer:
        return EvoLLMNull()


class TestLLAMBO(ProposerContract):
    def make(self) -> Proposer:
        return LLAMBO()


class TestLLAMBOThatPredicts(ProposerContract):
    options: ClassVar = {"surrogate": "discriminative", "candidates": 3, "samples": 2}
    steps = 20

    def make(self) -> Proposer:
        return LLAMBO()


class Endpoint(LLAMBO):
    """Asks a model that gives log-probabilities."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        given = context.ask

        async def ask(request: ModelRequest) -> Completion:
            assert given is not None
            told = (("1", -0.5 - int(request.key("scripted:test"), 16) % 5), ("0", -1.0))
            return replace(await given(request), logprobs=told if request.logprobs else ())

        context.ask = ask if given is not None else None
        return await super().propose(context, n)


class TestLLAMBOThatJudges(ProposerContract):
    options: ClassVar = {"surrogate": "generative", "candidates": 3, "templates": 1}
    steps = 20

    def make(self) -> Proposer:
        return Endpoint()


class TestOPRO(ProposerContract):
    def make(self) -> Proposer:
        return OPRO()


class TestGP(ProposerContract):
    def make(self) -> Proposer:
        return GP()


class TestTrustRegion(ProposerContract):
    def make(self) -> Proposer:
        return TrustRegion()


class TestPortfolio(ProposerContract):
    def make(self) -> Proposer:
        return Portfolio()


class TestPortfolioWhoseModelChooses(ProposerContract):
    options: ClassVar = {"choose": "model", "arms": ["trust", "coordinate", "llambo", "opro"], "model_share": 0.5}

    def make(self) -> Proposer:
        return Portfolio()


class TestGameOpt(ProposerContract):
    def make(self) -> Proposer:
        return GameOpt()


class TestCatCMA(ProposerContract):
    def make(self) -> Proposer:
        return CatCMA()


class TestCMAES(ProposerContract):
    spaces: ClassVar = {
        **{name: SPACES[name] for name in ("float", "log", "int", "wide")},
        "numbers": Space({"n": Int(1, 4096, log=True), "x": Float(0, 1), "prompt": Text("Be kind."), "m": Int(1, 3)}),
        "nine values": Space({"n": Int(1, 3), "m": Int(5, 7, log=True)}),
        "two numbers": Space({"n": Int(0, 1)}),
    }
    finite: ClassVar = {"nine values": 9, "two numbers": 2}

    def make(self) -> Proposer:
        return CMAES()


class TestLatinHypercube(ProposerContract):
    def make(self) -> Proposer:
        return LatinHypercube()


class TestTPE(ProposerContract):
    def make(self) -> Proposer:
        pytest.importorskip("optuna")
        return TPE()


class TestZORankSGD(ProposerContract):
    def make(self) -> Proposer:
        return ZORankSGD()
