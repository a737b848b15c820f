"""The screens: which genes there are, what each scored, and which are hits. Only the lab may look at the scores."""

from __future__ import annotations

import csv
import json
import random
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Screen:
    """A screen that was done before, so that it can be done again gene by gene.

    Args:
        name: Of the screen.
        task: What the genes are wanted for, in words.
        measured: What a score is, in words.
        scores: By gene.
        hits: The genes to be found.
        batch: Genes in a round.
    """

    name: str
    task: str
    measured: str
    scores: Mapping[str, float]
    hits: frozenset[str]
    batch: int

    @property
    def genes(self) -> list[str]:
        """All genes, by the alphabet: a file in the order of its scores would give them away."""
        return sorted(self.scores)

    def shuffled(self, seed: int) -> Screen:
        """The same scores and hits, dealt out to the genes at random: what is reported in the control."""
        genes = self.genes
        others = random.Random(f"shuffled {seed}").sample(genes, len(genes))
        of = dict(zip(genes, others, strict=True))
        scores = {gene: self.scores[of[gene]] for gene in genes}
        return Screen(
            self.name, self.task, self.measured, scores, frozenset(g for g in genes if of[g] in self.hits), self.batch
        )


def read(folder: Path, name: str) -> Screen:
    """A screen of BioDiscoveryAgent's repository: `NAME.csv` (gene, score) and `NAME.json` (task, hits)."""
    about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["gene"], float(row["score"])) for row in csv.DictReader(stream)]
    scores = dict(reversed(rows))  # of a gene that stands there twice, the first row counts
    hits = frozenset(about["hits"]) & scores.keys()
    return Screen(name, about["Task"], about["Measurement"], scores, hits, about.get("genes_per_round", 128))


def synthetic(genes: int = 1000, seed: int = 0) -> Screen:
    """A screen of made-up genes in families: a family has a name and a mean, and the top twentieth are the hits."""
    rng = random.Random(seed)
    scores: dict[str, float] = {}
    while len(scores) < genes:
        family = "".join(rng.choices(string.ascii_uppercase, k=4))
        mean = rng.gauss(0, 1)
        for number in range(rng.randint(1, 12)):
            scores[f"{family}{number + 1}"] = round(mean + rng.gauss(0, 1), 3)
    scores = dict(list(scores.items())[:genes])
    hits = frozenset(sorted(scores, key=scores.__getitem__)[-genes // 20 :])
    task = "identify the genes with the highest scores; the names are made up, and genes of a family are alike"
    return Screen("synthetic", task, "a score without a unit", scores, hits, 32)
