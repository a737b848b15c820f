"""Accuracy of a small neural network, trained by gradient descent, on scikit-learn's digits."""

import json
import sys
import tomllib
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_validate, train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits


@cache
def data():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, test_size=0.2, random_state=0)


def model(candidate):
    return MLPClassifier(
        **candidate,
        solver="sgd",
        learning_rate="invscaling",
        early_stopping=True,
        max_iter=40,
        random_state=0,
    )


def measure(candidate):
    """Return `cv_accuracy`, the mean accuracy of five folds of the 1437 training rows."""
    x, _, y, _ = data()
    with steady():
        folds = cross_validate(model(candidate), x, y, cv=5, n_jobs=1, return_train_score=True, error_score="raise")
    return {
        "cv_accuracy": float(folds["test_score"].mean()),
        "feedback": f"mean accuracy on the rows fitted: {folds['train_score'].mean():.3f}; "
        f"on each left-out fold: {' '.join(f'{score:.3f}' for score in folds['test_score'])}",
    }


def heldout(candidate):
    """Fit the training rows and return `test_accuracy` on the 360 rows that no search may see."""
    x, x_test, y, y_test = data()
    with steady():
        return {"test_accuracy": float(model(candidate).fit(x, y).score(x_test, y_test))}


@contextmanager
def steady():
    # The number of threads changes the order of sums, and with it the last digits of the weights.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 40 epochs are part of the problem
        yield


def main():
    """Print the held-out accuracy of the defaults and of a run's best candidate.

    Usage: python evaluate.py RUN_FOLDER/best/candidate.json
    """
    best = json.loads(Path(sys.argv[1]).read_text())["candidate"]
    defaults = tomllib.loads(Path(__file__).with_name("problem.toml").read_text())["space"]
    initial = {name: parameter["default"] for name, parameter in defaults.items()}
    for label, candidate in (("initial", initial), ("best", best)):
        scores = measure(candidate) | heldout(candidate)
        print(f"{label}: cv_accuracy {scores['cv_accuracy']:.4f}, test_accuracy {scores['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
