"""The candidate's side: a small learner that is trained with the proposed reward, in the sandbox.

The cross-entropy method over linear policies (Rubinstein 1999; for policies Mannor, Rubinstein and Gat 2003): draw
weights, keep the quarter that earns most, and draw around those. It sees short episodes without the pushes, and nobody
tells it that a pole has fallen: what is good, the reward alone says.
"""

import cartpole
import numpy as np
from reward import reward

ROUNDS, POLICIES, EPISODES, STEPS = 8, 24, 4, 60
KEPT = 6


def earned(weights, seed):
    """What each policy earns, as the reward has it: mean over its episodes."""
    states = np.repeat(cartpole.starts(seed, EPISODES)[:, None, :], len(weights), axis=1)  # (4, policies, episodes)
    total = np.zeros(states.shape[1:])
    up = np.ones(total.shape, dtype=bool)
    for _ in range(STEPS):
        force = cartpole.FORCE * np.clip(np.einsum("ps,spe->pe", weights, states), -1, 1)
        states = np.where(up, cartpole.step(states, force), states)
        up &= ~cartpole.fallen(states)
        flat = [part.ravel().tolist() for part in (*states, force)]
        total += np.array([float(reward(*one)) for one in zip(*flat)]).reshape(total.shape)  # noqa: B905
    return np.nan_to_num(total.mean(axis=1), nan=-1e9, posinf=1e9, neginf=-1e9)


def train(seed):
    """The weights of the policy that the learner arrives at."""
    rng = np.random.default_rng([seed, 2])
    mean, spread = np.zeros(4), np.full(4, 3.0)
    for number in range(ROUNDS):
        weights = mean + spread * rng.standard_normal((POLICIES, 4))
        best = weights[np.argsort(-earned(weights, [seed, 3, number]), kind="stable")[:KEPT]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.3 * 0.7**number
    return mean.tolist()
