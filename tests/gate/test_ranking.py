"""Many candidates in order: the best one first where there is one, and a circle where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from agent.gate.ranking import bradley_terry, from_rankings, minimax, rank, ranking_gradient, ranking_weights

ROCK_PAPER_SCISSORS = [[0, 2, 8], [8, 0, 2], [2, 8, 0]]
LADDER = [[0, 7, 9], [3, 0, 7], [1, 3, 0]]


def drawn(rates: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Wins in n comparisons of each pair."""
    wins = np.zeros(rates.shape)
    for i in range(len(rates)):
        for j in range(i):
            wins[i, j] = rng.binomial(n, rates[i, j])
            wins[j, i] = n - wins[i, j]
    return wins


# ---------------------------------------------------------------- Bradley–Terry


def test_strengths_tell_the_win_rates() -> None:
    true = np.array([1.0, 0.2, -0.4, -0.8])
    rates = 1 / (1 + np.exp(true[None, :] - true[:, None]))
    assert bradley_terry(1e5 * rates) == pytest.approx(true, abs=1e-3)


def test_two_candidates_have_the_odds_of_their_wins() -> None:
    strengths = bradley_terry([[0, 30], [10, 0]], prior=1e-6)
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3), abs=1e-4)
    assert strengths.sum() == pytest.approx(0)


def test_the_unbeaten_and_the_never_compared_have_finite_strengths() -> None:
    strengths = bradley_terry([[0, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert np.isfinite(strengths).all()
    assert strengths[0] > strengths[2] > strengths[1] and strengths[2] == pytest.approx(strengths[3])
    assert bradley_terry([[0]]).tolist() == [0.0]


def test_the_solution_is_where_expected_wins_are_the_wins() -> None:
    rng = np.random.default_rng(2)
    wins = rng.integers(0, 20, (6, 6)).astype(float)
    np.fill_diagonal(wins, 0)
    strengths = bradley_terry(wins, prior=1e-9)
    rates = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    assert ((wins + wins.T) * rates).sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-4)


# ---------------------------------------------------------------- the minimax winner


def test_rock_paper_scissors_is_mixed_evenly() -> None:
    winner = minimax(ROCK_PAPER_SCISSORS)
    assert winner.weights == pytest.approx([1 / 3] * 3) and winner.support == (0, 1, 2)
    assert winner.value == pytest.approx(0, abs=1e-9)


def test_an_uneven_circle_weighs_each_by_the_margin_between_the_others() -> None:
    # 0 beats 1 by a, 1 beats 2 by b, 2 beats 0 by c: the weights are as b : c : a.
    wins = np.zeros((3, 3))
    for winner, loser, margin in [(0, 1, 30), (1, 2, 10), (2, 0, 5)]:
        wins[winner, loser], wins[loser, winner] = 49 + margin, 49 - margin
    assert minimax(wins).weights == pytest.approx(np.array([10, 5, 30]) / 45)
    assert minimax(wins).support == (0, 1, 2)


def test_who_beats_all_others_is_alone() -> None:
    winner = minimax(LADDER)
    assert winner.support == (0,) and winner.weights.tolist() == [1.0, 0.0, 0.0] and winner.value == 0.0
    assert minimax([[0]]).support == (0,)


@pytest.mark.parametrize("k", [3, 5, 10, 30])
def test_nobody_beats_the_winner(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(20):
        rates = rng.uniform(0.2, 0.8, (k, k))
        wins = drawn(rates, 10, rng)
        winner = minimax(wins)
        payoffs = (wins + 1) / (wins + wins.T + 2) - 0.5
        np.fill_diagonal(payoffs, 0)
        assert winner.weights.min() >= 0 and winner.weights.sum() == pytest.approx(1)
        assert winner.value == pytest.approx((winner.weights @ payoffs).min())
        assert 1e-9 > winner.value > -np.log(k) / 2000 - 1e-9
        assert all(payoffs[i] @ winner.weights > -0.01 for i in winner.support)


def test_fewer_rounds_keep_their_promise_where_nothing_can_be_verified() -> None:
    wins = np.array([[0, 6, 9], [6, 0, 9], [3, 3, 0]])  # 0 and 1 tie: no unique winner
    for rounds in (50, 200):
        winner = minimax(wins, rounds)
        assert winner.support == (0, 1) and winner.weights[0] == pytest.approx(winner.weights[1])
        assert winner.value > -np.log(3) / rounds


# ---------------------------------------------------------------- the order, and the circle


def test_rock_paper_scissors_is_a_circle_of_three() -> None:
    ranking = rank(ROCK_PAPER_SCISSORS)
    assert sorted(ranking.cycle) == [0, 1, 2] and ranking.strengths == pytest.approx([0, 0, 0])
    assert ranking.sentence(["rock", "paper", "scissors"]) == (
        "There is no single best candidate: rock, paper and scissors beat each other in a circle;"
        " keep all of them as parents."
    )


def test_a_circle_below_the_best_is_none() -> None:
    wins = np.full((4, 4), 0.0)
    wins[1:, 1:] = ROCK_PAPER_SCISSORS
    wins[0, 1:] = 10
    assert rank(wins).order[0] == 0 and rank(wins).cycle == ()


def test_a_circle_at_the_top_leaves_the_loser_out() -> None:
    wins = np.zeros((4, 4))
    wins[1:, 1:] = ROCK_PAPER_SCISSORS
    wins[1:, 0] = 6  # the first loses to each of the three
    wins[0, 1:] = 4
    ranking = rank(wins)
    assert sorted(ranking.cycle) == [1, 2, 3] and ranking.order[-1] == 0


def test_transitive_data_have_an_order_and_no_circle() -> None:
    ranking = rank(LADDER)
    assert ranking.order == (0, 1, 2) and ranking.cycle == ()
    assert ranking.sentence() == "candidate 0 ranks first of 3."
    turned = rank(np.array(LADDER).T)
    assert turned.order == (2, 1, 0) and turned.strengths == pytest.approx([-s for s in ranking.strengths], abs=1e-6)
    rng = np.random.default_rng(4)
    for _ in range(30):
        true = rng.normal(0, 1, 8)
        rates = 1 / (1 + np.exp(true[None, :] - true[:, None]))
        ranking = rank(1000 * rates)
        assert ranking.cycle == () and list(ranking.order) == np.argsort(-true).tolist()


def test_ties_are_no_circle() -> None:
    for k in (1, 2, 4):
        even = rank(np.full((k, k), 5.0))
        assert even.cycle == () and even.order == tuple(range(k))
    assert rank([[0, 5, 9], [5, 0, 9], [1, 1, 0]]).cycle == ()
    assert rank([[0]]).sentence(["a"]) == "a is the only one."


def test_the_best_is_found_more_often_than_by_the_largest_weight() -> None:
    rng, found, by_weight = np.random.default_rng(0), 0, 0
    for _ in range(150):
        true = rng.normal(0, 0.5, 5)
        wins = drawn(1 / (1 + np.exp(true[None, :] - true[:, None])), 20, rng)
        found += bradley_terry(wins).argmax() == true.argmax()
        by_weight += minimax(wins, 300).weights.argmax() == true.argmax()
    assert found > by_weight and found / 150 > 0.65


WRONG = [[[0, 1]], [], [[0, -1], [0, 0]], [[0, float("nan")], [0, 0]], [[0, float("inf")], [0, 0]]]


@pytest.mark.parametrize("wins", WRONG, ids=str)
def test_what_is_no_matrix_of_wins_is_refused(wins: list[list[float]]) -> None:
    for read in (bradley_terry, minimax, rank):
        with pytest.raises(ValueError, match="wins must be"):
            read(wins)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="prior"):
        bradley_terry(LADDER, prior=0)
    with pytest.raises(ValueError, match="rounds"):
        minimax(LADDER, rounds=0)


# ---------------------------------------------------------------- rankings


def test_a_ranking_is_a_win_over_everything_after_it() -> None:
    wins = from_rankings([["a", "b", "c"], ["b", "a"], ["a", "c"], []], ["a", "b", "c"])
    assert wins.tolist() == [[0, 1, 2], [1, 0, 1], [0, 0, 0]]
    assert rank(from_rankings([["c", "a", "b"]] * 3, ["a", "b", "c"])).order == (2, 0, 1)


def test_a_ranking_that_cannot_be_read_says_which() -> None:
    with pytest.raises(ValueError, match="ranking 2 names 'd'"):
        from_rankings([["a", "b"], ["a", "d"]], ["a", "b"])
    with pytest.raises(ValueError, match="ranking 1 names a candidate twice"):
        from_rankings([["a", "b", "a"]], ["a", "b"])
    with pytest.raises(ValueError, match="occurs twice"):
        from_rankings([], ["a", "a"])


# ---------------------------------------------------------------- search by ranks alone


@pytest.mark.parametrize(("m", "top"), [(2, 1), (5, 1), (5, 3), (5, 5), (9, 4)])
def test_the_weights_are_wins_minus_losses(m: int, top: int) -> None:
    weights = ranking_weights(m, top)
    assert weights.sum() == 0
    for rank_, weight in enumerate(weights):
        won = m - 1 - rank_ if rank_ < top else 0
        lost = min(rank_, top)
        assert weight == won - lost


def test_it_points_downhill_on_a_quadratic() -> None:
    rng = np.random.default_rng(6)
    theta, centre = np.array([3.0, -2.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0, -1.0])
    downhill = 2 * (centre - theta) / np.linalg.norm(2 * (centre - theta))
    for top in (1, 3, 8, None):
        cosines = []
        for _ in range(200):
            offsets = rng.standard_normal((8, 4))
            order = np.argsort([((theta + 0.01 * x - centre) ** 2).sum() for x in offsets])
            step = ranking_gradient(offsets, order.tolist(), top)
            cosines.append(step @ downhill / np.linalg.norm(step))
        assert np.mean(cosines) > 0.6
        assert np.mean(np.array(cosines) > 0) > 0.95


def test_it_descends_by_rankings_alone() -> None:
    rng, theta = np.random.default_rng(8), np.array([3.0, -2.0])
    for step in range(60):
        offsets = rng.standard_normal((6, 2))
        order = np.argsort([((theta + 0.1 * x) ** 2).sum() for x in offsets])
        theta = theta + 0.3 * 0.95**step * ranking_gradient(offsets, order.tolist())
    assert np.linalg.norm(theta) < 0.5


def test_one_pair_is_the_difference_of_its_offsets() -> None:
    assert ranking_gradient([[1.0, 0.0], [0.0, 1.0]], [1]).tolist() == [-1.0, 1.0]
    assert ranking_gradient([[1.0], [2.0], [4.0]], [2, 0, 1], top=1).tolist() == [(2 * 4 - 1 - 2) / 2]


@pytest.mark.parametrize(("order", "top"), [([], None), ([0], 2), ([0, 0], 2), ([0, 3], 2), ([0, 1, 2], 0), ([-1], 1)])
def test_an_order_that_does_not_fit_is_refused(order: list[int], top: int | None) -> None:
    with pytest.raises(ValueError, match="order must name"):
        ranking_gradient([[1.0], [2.0], [3.0]], order, top)


def test_one_perturbation_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="at least two"):
        ranking_gradient([[1.0]], [0])
