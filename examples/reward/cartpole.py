"""A pole on a cart: the equations of motion of Barto, Sutton and Anderson (1983), without friction, in numpy.

The state of n systems is an array (4, n): position of the cart in m, its speed in m/s, angle of the pole in rad
(0 is upright), its angular speed in rad/s. The force is in N.
"""

import numpy as np

GRAVITY, CART, POLE, HALF = 9.8, 1.0, 0.1, 0.5  # m/s², kg, kg, and half of the pole's length in m
FORCE, STEP = 10.0, 0.02  # the largest force, and seconds of a step
TRACK, TILT = 2.4, 0.2095  # m and rad: beyond them it has fallen


def step(state, force):
    """The states after one step of Euler's method."""
    x, v, angle, spin = state
    sine, cosine = np.sin(angle), np.cos(angle)
    total = CART + POLE
    push = (force + POLE * HALF * spin**2 * sine) / total
    turn = (GRAVITY * sine - cosine * push) / (HALF * (4 / 3 - POLE * cosine**2 / total))
    speed = push - POLE * HALF * turn * cosine / total
    return np.stack([x + STEP * v, v + STEP * speed, angle + STEP * spin, spin + STEP * turn])


def fallen(state):
    """Which of the systems are off the track, or tilted too far."""
    return (np.abs(state[0]) > TRACK) | (np.abs(state[2]) > TILT)


def starts(seed, n):
    """Initial states: everywhere off the middle, a little or more."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (4, n)) * np.array([[1.0], [0.5], [0.1], [0.5]])


def force(weights, state):
    """What a linear policy does: the largest force to one side or to the other, and less near the balance."""
    return FORCE * np.clip(np.tensordot(weights, state, axes=(-1, 0)), -1, 1)


def balanced(weights, seed, n=20, steps=500):
    """How many steps each of n systems stays up under a policy, 0 to `steps`, with pushes that nobody announced."""
    state, up = starts(seed, n), np.ones(n, dtype=bool)
    rng, count = np.random.default_rng([seed, 1]), np.zeros(n)
    for number in range(steps):
        state = step(state, force(np.asarray(weights, dtype=float), state))
        if number % 50 == 49:
            state[3] += rng.uniform(-0.5, 0.5, n)
        up &= ~fallen(state)
        count += up
        state = np.where(up, state, 0.0)  # what has fallen stays so, and its numbers do not run away
    return count
