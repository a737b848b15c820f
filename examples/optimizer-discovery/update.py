from ops import debias, interp, root


def update(w, g, m, v, lr, decay, step):
    m = interp(g, m, tune(0.9, 0.0, 0.9999))
    a = g * g
    v = interp(a, v, tune(0.999, 0.0, 0.9999))
    a = debias(m, tune(0.9, 0.0, 0.9999), step)
    b = debias(v, tune(0.999, 0.0, 0.9999), step)
    b = root(b)
    b = b + tune(1e-08, 1e-08, 100.0, log=True)
    u = a / b
    a = w * decay
    u = u + a
    u = u * lr
    return w - u, m, v


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
