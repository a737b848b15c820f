def update(w, g, m, v, lr, decay, step):
    a = w * decay
    a = a + g
    m = m * tune(0.9, 1e-08, 100.0, log=True)
    m = m + a
    u = m * lr
    return w - u, m, v


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
