"""MAP-Elites: the best of each cell of behaviour space, with draws that take the same time however many came by.

Source: Mouret and Clune 2015, "Illuminating search spaces by mapping elites" (arXiv 1504.04909), section 3.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from agent.evolution.grid import Cell, Grid


@dataclass(frozen=True, slots=True)
class Elite:
    """What an archive keeps of a candidate.

    Args:
        candidate: Its id; the values are in the history.
        number: Of its trial.
        cost: Small is good, negative ones too: -sign * value of what is compared.
        descriptor: By axis.
        size: Characters of its programs: of two equals the shorter one stays.
        behaviour: Equal for candidates with the same results (`agent.evolution.population.behaviour`).
        violated: How many constraints it breaks: whoever breaks fewer is better, whatever the cost.
        migrant: Came from another island, and does not travel on.
    """

    candidate: str
    number: int
    cost: float
    descriptor: Mapping[str, float]
    size: int = 0
    behaviour: str = ""
    violated: int = 0
    migrant: bool = False

    @property
    def rank(self) -> tuple[int, float, int, int]:
        """By which elites are compared, the best first: broken constraints, cost, then length, then age."""
        return self.violated, self.cost, self.size, self.number


class Archive:
    """One elite for each cell that was reached.

    Everything is bounded by the number of cells; `add`, `draw` and `remove` take constant time.

    Args:
        grid: The cells; may be shared by archives of one fold.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._waiting: dict[str, Elite] = {}
        """All that was filed before the grid's edges were set, `agent.evolution.grid.SAMPLE` at most."""
        self._cells: dict[Cell, Elite] = {}
        self._order: list[Cell] = []
        """The filled cells, for draws."""
        self._place: dict[Cell, int] = {}
        self._home: dict[str, Cell] = {}
        """The cell of each elite, by candidate."""
        self._top: Elite | None = None
        """The best one; None where it has to be looked for."""

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Elite]:
        return iter([self._cells[cell] for cell in self._order])

    def __contains__(self, candidate: str) -> bool:
        return candidate in self._home or candidate in self._waiting

    def get(self, cell: Cell) -> Elite | None:
        """The elite of a cell."""
        return self._cells.get(cell)

    def find(self, candidate: str) -> Elite | None:
        """The elite that is this candidate, or may be one when the grid's edges are set."""
        cell = self._home.get(candidate)
        return self._waiting.get(candidate) if cell is None else self._cells[cell]

    def add(self, elite: Elite) -> bool:
        """File a candidate; it stays if its cell is empty or its elite is not as good. True when it stayed.

        A candidate that is there already is filed anew with its present cost, so that luck does not stay on record.
        """
        self.remove(elite.candidate)
        if not self.grid.settled:
            self._waiting[elite.candidate] = elite
        cell = self.grid.cell(elite.descriptor)
        there = self._cells.get(cell)
        if there is not None and there.rank <= elite.rank:
            return False
        if there is None:
            self._place[cell] = len(self._order)
            self._order.append(cell)
        else:
            self._home.pop(there.candidate)
        self._cells[cell] = elite
        self._home[elite.candidate] = cell
        if len(self) == 1 or (self._top is not None and elite.rank < self._top.rank):
            self._top = elite
        return True

    def remove(self, candidate: str) -> bool:
        """Take a candidate out, as one that was convicted; its cell is then empty. False where it is none."""
        waited = self._waiting.pop(candidate, None) is not None
        cell = self._home.pop(candidate, None)
        if cell is None:
            return waited
        del self._cells[cell]
        if self._top is not None and self._top.candidate == candidate:
            self._top = None
        place, last = self._place.pop(cell), self._order.pop()
        if last != cell:
            self._order[place] = last
            self._place[last] = place
        return True

    def refile(self) -> None:
        """File all anew, after the grid's edges were set: also who was not the best of a cell before."""
        elites = list(self._waiting.values())
        self.__init__(self.grid)  # type: ignore[misc]
        for elite in elites:
            self.add(elite)

    @property
    def top(self) -> Elite | None:
        """The best one; None where the archive is empty."""
        if self._top is None and self._cells:
            self._top = min(self, key=lambda elite: elite.rank)
        return self._top

    def draw(self, rng: random.Random) -> Elite:
        """One at random, each with equal chance.

        Raises:
            IndexError: It is empty.
        """
        return self._cells[self._order[rng.randrange(len(self._order))]]

    def tournament(self, rng: random.Random, size: int) -> Elite:
        """The best of some that are drawn with equal chance."""
        return min((self.draw(rng) for _ in range(max(1, size))), key=lambda elite: elite.rank)

    def near(self, cell: Cell, rng: random.Random, tries: int = 8) -> Elite | None:
        """One in a cell beside this one, at most two bins away on each axis; None where a few tries find none."""
        for _ in range(tries):
            found = self._cells.get(tuple(place + rng.randint(-2, 2) for place in cell))
            if found is not None and self._home[found.candidate] != cell:
                return found
        return None

    def best(self, count: int = 1) -> list[Elite]:
        """The best ones; takes time in proportion to the cells."""
        return sorted(self, key=lambda elite: elite.rank)[:count]

    def migrants(self, count: int) -> list[Elite]:
        """The best that were born here, marked as travellers."""
        born = [elite for elite in self if not elite.migrant]
        return [replace(elite, migrant=True) for elite in sorted(born, key=lambda elite: elite.rank)[:count]]
