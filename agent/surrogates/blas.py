"""Linear algebra in one thread.

Our matrices are small, and threads that wait for busy cores cost far more than they save: a fit of 0.1 s took 17 s.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_thread() -> AbstractContextManager[object]:
    """While it is open, numpy's linear algebra in this process uses one thread."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
