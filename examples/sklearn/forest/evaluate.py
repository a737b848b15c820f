"""Accuracy of a random forest of ten trees on the breast cancer data of scikit-learn."""

from functools import cache

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_validate, train_test_split


@cache
def data():
    x, y = load_breast_cancer(return_X_y=True)
    return train_test_split(x, y, test_size=0.2, random_state=0)


def model(candidate):
    return RandomForestClassifier(**candidate, n_estimators=10, random_state=0, n_jobs=1)


def measure(candidate):
    """Return `cv_accuracy`, the mean accuracy of five folds of the 455 training rows."""
    x, _, y, _ = data()
    folds = cross_validate(
        model(candidate), x, y, cv=5, n_jobs=1, return_train_score=True, error_score="raise"
    )
    return {
        "cv_accuracy": float(folds["test_score"].mean()),
        "feedback": f"mean accuracy on the rows fitted: {folds['train_score'].mean():.3f}; "
        f"on each left-out fold: {' '.join(f'{score:.3f}' for score in folds['test_score'])}",
    }


def heldout(candidate):
    """Fit the training rows and return `test_accuracy` on the 114 rows that no search may see."""
    x, x_test, y, y_test = data()
    return {"test_accuracy": float(model(candidate).fit(x, y).score(x_test, y_test))}
