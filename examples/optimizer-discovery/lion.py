from ops import interp, sign


def update(w, g, m, v, lr, decay, step):
    u = interp(g, m, tune(0.9, 0.0, 0.9999))
    u = sign(u)
    m = interp(g, m, tune(0.99, 0.0, 0.9999))
    a = w * decay
    u = u + a
    u = u * lr
    return w - u, m, v


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
