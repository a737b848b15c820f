"""The conformance tests that plug-in authors get, applied to our own proposers."""

from __future__ import annotations

from typing import ClassVar

from agent.proposers.alternate import Alternate
from agent.proposers.base import Proposer
from agent.proposers.coordinate import Coordinate
from agent.proposers.evollm import EvoLLM
from agent.proposers.random import Random
from agent.testing_proposers import ProposerContract


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


class TestAlternate(ProposerContract):
    def make(self) -> Proposer:
        return Alternate()
