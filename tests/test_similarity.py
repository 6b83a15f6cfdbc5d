"""PWCCA, SVCCA and CKA: their invariances, what noise gives, and agreement with computations from raw frames."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA

from headstart.analyse.similarity import BlockSums, Components, Pair, canonical, similarities

pytestmark = pytest.mark.usefixtures("one_thread")
CCAS = ("pwcca", "svcca")


def sums_of(left: np.ndarray, right: np.ndarray, blocks: np.ndarray | None = None) -> BlockSums:
    blocks = np.zeros(len(left), int) if blocks is None else blocks
    sums = BlockSums(blocks.max() + 1, left.shape[1], right.shape[1])
    for block in np.unique(blocks):
        sums.add(block, torch.from_numpy(left[blocks == block]), torch.from_numpy(right[blocks == block]))
    return sums


def compared(x: np.ndarray, y: np.ndarray, variance: float = 0.99) -> dict[str, float]:
    """Every measure over all frames."""
    draws = torch.ones(1, 1, dtype=torch.float64)
    found = similarities(sums_of(x, x), sums_of(x, y), sums_of(y, y), draws, variance)
    return {measure: float(value) for measure, (value,) in found.items()}


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Canonical correlations, largest first."""
    left, right = (Components.of(sums_of(side, side).covariance) for side in (x, y))
    covariances = (s.of_components(a, b).covariance for s, a, b in _sums(x, y, left, right))
    return canonical(Pair(left, right, *covariances))[0].flip(0).numpy()


def _sums(x, y, left, right):
    return (sums_of(x, x), left, left), (sums_of(x, y), left, right), (sums_of(y, y), right, right)


def related(frames: int, width: int, other: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two sides that share some of what they vary in, with means and uneven variances."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((frames, 4))
    sides = []
    for channels in (width, other):
        own = noise * rng.standard_normal((frames, channels))
        side = shared @ rng.standard_normal((4, channels)) + own
        sides.append(side * np.geomspace(1, 0.05, channels) + rng.standard_normal(channels))
    return sides[0], sides[1]


def bjorck_golub(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical correlations and x's canonical variates from raw frames, by QR and SVD (Björck & Golub 1973)."""
    qx, qy = (np.linalg.qr(side - side.mean(0))[0] for side in (x, y))
    u, singular, _ = np.linalg.svd(qx.T @ qy, full_matrices=False)
    return singular, qx @ u


def test_a_side_is_like_itself():
    x, _ = related(500, 12, 12)
    assert compared(x, x) == pytest.approx(dict.fromkeys(("pwcca", "svcca", "cka"), 1.0), abs=1e-8)


def test_cca_does_not_see_an_invertible_linear_map():
    x, _ = related(500, 12, 12)
    y = x @ np.random.default_rng(1).standard_normal((12, 12)) + 3
    assert compared(x, y)["pwcca"] == pytest.approx(1, abs=1e-6)
    assert compared(x, y, variance=1.0)["svcca"] == pytest.approx(1, abs=1e-6)
    assert compared(x, y)["cka"] < 0.9


def test_no_measure_sees_a_rotation_and_a_scale():
    x, _ = related(500, 12, 12)
    rotation = scipy.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    for value in compared(x, 7 * x @ rotation - 2).values():
        assert value == pytest.approx(1, abs=1e-6)


def test_pwcca_weights_by_its_first_side():
    x, y = related(400, 10, 6)
    both = np.concatenate([x, 0.3 * np.random.default_rng(2).standard_normal((400, 10))], axis=1)
    assert compared(x, both)["pwcca"] == pytest.approx(1, abs=1e-6)
    assert compared(x, y)["pwcca"] != pytest.approx(compared(y, x)["pwcca"], abs=1e-3)


@pytest.mark.parametrize(("frames", "width", "other"), [(2000, 20, 20), (2000, 40, 10), (600, 10, 30)])
def test_independent_noise_is_at_its_known_floor(frames, width, other):
    # The sum of squared canonical correlations of independent Gaussians has expectation DE / (N - 1).
    means, weighted, kernels = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((frames, width)), rng.standard_normal((frames, other))
        means.append((correlations(x, y) ** 2).mean())
        found = compared(x, y)
        weighted.append(found["pwcca"])
        kernels.append(found["cka"])
    floor = max(width, other) / (frames - 1)
    assert np.mean(means) == pytest.approx(floor, rel=0.05)
    assert np.mean(weighted) < np.sqrt(floor) * 1.05
    assert np.mean(kernels) == pytest.approx(np.sqrt(width * other) / frames, rel=0.1)


def test_correlations_are_those_of_scikit_learn():
    x, y = related(300, 6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = CCA(n_components=5, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [abs(np.corrcoef(a[:, i], b[:, i])[0, 1]) for i in range(5)]
    assert correlations(x, y) == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


def test_correlations_are_those_of_a_generalised_eigenproblem():
    x, y = related(300, 6, 5)
    cov = np.cov(x.T, y.T)
    xx, xy, yy = cov[:6, :6], cov[:6, 6:], cov[6:, 6:]
    squared = scipy.linalg.eigh(xy.T @ scipy.linalg.solve(xx, xy), yy, eigvals_only=True)
    assert correlations(x, y) == pytest.approx(np.sqrt(squared[::-1]), abs=1e-7)


@pytest.mark.parametrize(("width", "other"), [(12, 12), (12, 7), (7, 12)])
def test_pwcca_is_that_of_raw_frames(width, other):
    x, y = related(400, width, other)
    found, variates = bjorck_golub(x, y)
    weights = np.abs(variates.T @ (x - x.mean(0))).sum(1)
    assert correlations(x, y) == pytest.approx(found, abs=1e-7)
    assert compared(x, y)["pwcca"] == pytest.approx(weights @ found / weights.sum(), abs=1e-7)


@pytest.mark.parametrize("variance", [0.8, 0.99, 1.0])
def test_svcca_is_that_of_raw_frames(variance):
    reduced = []
    for side in related(400, 12, 9):
        u, singular, _ = np.linalg.svd(side - side.mean(0), full_matrices=False)
        held = np.cumsum(singular**2) / (singular**2).sum()
        reduced.append(u[:, : np.searchsorted(held, variance - 1e-12) + 1])
    expected = bjorck_golub(*reduced)[0].mean()
    assert compared(*related(400, 12, 9), variance=variance)["svcca"] == pytest.approx(expected, abs=1e-7)


def test_cka_is_that_of_gram_matrices():
    x, y = related(150, 12, 7)
    centring = np.eye(150) - 1 / 150
    k, m = (centring @ side @ side.T @ centring for side in (x, y))
    hsic = [np.trace(a @ b) for a, b in ((k, m), (k, k), (m, m))]
    assert compared(x, y)["cka"] == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2]), abs=1e-9)


def test_dead_and_dependent_channels_change_nothing():
    x, y = related(400, 10, 10)
    dead = np.concatenate([y, np.full((400, 2), 5.0), y[:, :1] + y[:, 1:2]], axis=1).astype(np.float32)
    assert compared(x, dead)["pwcca"] == pytest.approx(compared(x, y)["pwcca"], abs=1e-5)
    assert correlations(x, dead) == pytest.approx(correlations(x, y), abs=1e-5)
    assert compared(x, np.ones((400, 3))) == {"pwcca": 0, "svcca": 0, "cka": 0}


def test_a_large_mean_changes_nothing():
    x, y = related(400, 10, 10)
    blocks = np.arange(400) // 40
    draws = torch.tensor([[1.0] * 10, [0.0, 2.0] * 5], dtype=torch.float64)
    ones, far = (
        similarities(sums_of(a, a, blocks), sums_of(a, b, blocks), sums_of(b, b, blocks), draws)
        for a, b in ((x, y), (x + 1e6, y - 1e7))
    )
    for measure, values in ones.items():
        torch.testing.assert_close(far[measure], values, rtol=0, atol=1e-5)


def test_a_draw_of_blocks_is_a_computation_over_those_frames_repeated():
    x, y = related(600, 8, 6)
    blocks = np.random.default_rng(3).integers(4, size=600)
    draws = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 1, 0]])
    found = similarities(
        sums_of(x, x, blocks), sums_of(x, y, blocks), sums_of(y, y, blocks), torch.from_numpy(draws).double(), 1.0
    )
    for r, drawn in enumerate(draws):
        repeated = np.repeat(np.arange(600), drawn[blocks])
        for measure, value in compared(x[repeated], y[repeated], variance=1.0).items():
            assert float(found[measure][r]) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("smallest", [1.0, 10**-3, 10**-4, 10**-4.9])
def test_a_draw_of_fewer_frames_than_channels_still_has_a_number(smallest):
    """Also where some components vary so little beside others that rounding makes their variance negative."""
    x, y = related(60, 12, 12)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    x, y = ((side * np.geomspace(1, smallest, 12) @ turn).astype(np.float32) for side in (x, y))
    blocks = np.arange(60) // 6
    draws = torch.tensor([[10.0] + [0.0] * 9], dtype=torch.float64)
    for value in similarities(sums_of(x, x, blocks), sums_of(x, y, blocks), sums_of(y, y, blocks), draws).values():
        assert 0 <= float(value) <= 1


def test_sums_do_not_depend_on_how_frames_come():
    x, y = related(100, 5, 4)
    whole, parts = sums_of(x, y), BlockSums(1, 5, 4)
    for at in (slice(0, 1), slice(1, 40), slice(40, 100)):
        parts.add(0, torch.from_numpy(x[at]), torch.from_numpy(y[at]))
    torch.testing.assert_close(parts.covariance, whole.covariance)
    assert whole.covariance.numpy() == pytest.approx(np.cov(x.T, y.T, bias=True)[:5, 5:])
