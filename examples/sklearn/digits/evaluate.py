"""One handwritten digit, right or wrong, by a support vector machine that was fitted to 300 other ones."""

from functools import cache, lru_cache

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

FITTED = 300
"""The first images fit the model; rows.jsonl names images behind them."""


@cache
def images():
    return load_digits(return_X_y=True)


@lru_cache(maxsize=64)
def model(kernel, c, gamma, components):
    x, y = images()
    machine = SVC(kernel=kernel, C=c, gamma=gamma)
    return make_pipeline(PCA(components, random_state=0), machine).fit(x[:FITTED], y[:FITTED])


def measure(candidate, row):
    """Return `right`: 1 when the row's image is recognised, else 0."""
    x, y = images()
    fitted = model(candidate["kernel"], candidate["c"], candidate["gamma"], candidate["components"])
    said, digit = int(fitted.predict(x[row["image"] : row["image"] + 1])[0]), int(y[row["image"]])
    return {"right": float(said == digit), "feedback": "" if said == digit else f"a {digit} was taken for a {said}"}
