"""Similarity of two representations of the same frames: PWCCA, SVCCA and linear CKA.

Representations are activations x (N, D) and y (N, E). The measures need only covariances, so only sums over frames are
kept, and memory does not grow with the amount of audio.

* Canonical correlation analysis (CCA) finds the directions of x and of y whose projections correlate most. It is
  invariant to invertible linear maps of either side. PWCCA (Morcos et al. 2018, arXiv 1806.05759) averages the
  correlations, weighted by how much of x each direction accounts for. SVCCA (Raghu et al. 2017, arXiv 1706.05806) takes
  the plain mean, over the leading principal components of each side.
* Linear centred kernel alignment (CKA; Kornblith et al. 2019, arXiv 1905.00414) compares the similarities between
  frames on the two sides. It is invariant only to rotations and to scaling of all channels together.

With N frames of independent noise, the mean squared canonical correlation is max(D, E) / (N - 1) and not 0, because CCA
overfits the frames. A hundred frames per channel make this bias small.

Shape suffixes: N frames, G blocks of utterances, D and E channels of x and of y, K and J principal components of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

CUTOFF = 1e-10  # components below this share of the largest variance are rounding errors: dead or dependent channels
RIDGE = 1e-9  # smallest ridge added to variances of 1, for draws with so few frames that a component does not vary
DRAWS_AT_ONCE = 16  # draws computed together: more need more memory, fewer read the sums more often
MEASURES = ("pwcca", "svcca", "cka")


class BlockSums:
    """Sums over frames for each block of utterances, from which the covariance of two sides is computed.

    They are float64 and take blocks x D x E x 8 bytes, whatever the number of frames. As utterances are assigned to
    blocks at random, drawing blocks with replacement is a bootstrap over utterances.
    """

    def __init__(self, blocks: int, left: int, right: int):
        # A mean of each side, subtracted before summing: a large mean would cancel away the digits of the covariance.
        self.origins: tuple[torch.Tensor, torch.Tensor] | None = None
        self.frames_G = torch.zeros(blocks, dtype=torch.float64)
        self.left_GD, self.right_GE = self.frames_G.new_zeros(blocks, left), self.frames_G.new_zeros(blocks, right)
        self.products_GDE = self.frames_G.new_zeros(blocks, left, right)

    def add(self, block: int, left_ND: torch.Tensor, right_NE: torch.Tensor) -> None:
        """Add frames to the sums of a block: activations of both sides, (N, D) and (N, E)."""
        left_ND, right_NE = left_ND.double(), right_NE.double()
        if self.origins is None:
            self.origins = left_ND.mean(0), right_NE.mean(0)
        left_ND, right_NE = left_ND - self.origins[0], right_NE - self.origins[1]
        self.frames_G[block] += len(left_ND)
        self.left_GD[block] += left_ND.sum(0)
        self.right_GE[block] += right_NE.sum(0)
        self.products_GDE[block].addmm_(left_ND.T, right_NE)

    def covariances(self, draws_RG: torch.Tensor) -> torch.Tensor:
        """Covariance over the frames of each draw, (R, D, E); `draws_RG` counts how often a draw has each block."""
        share_RG = draws_RG / (draws_RG @ self.frames_G)[:, None]
        left_RD, right_RE = share_RG @ self.left_GD, share_RG @ self.right_GE
        return torch.tensordot(share_RG, self.products_GDE, 1) - left_RD[:, :, None] * right_RE[:, None]

    @property
    def covariance(self) -> torch.Tensor:
        """Covariance over all frames, (D, E)."""
        return self.covariances(torch.ones_like(self.frames_G)[None])[0]

    def of_components(self, x: Components, y: Components) -> BlockSums:
        """The same sums for the whitened components x of the left side and y of the right side."""
        sums = BlockSums(0, 0, 0)
        sums.frames_G = self.frames_G
        sums.left_GD, sums.right_GE = self.left_GD @ x.whitening_DK, self.right_GE @ y.whitening_DK
        sums.products_GDE = x.whitening_DK.T @ self.products_GDE @ y.whitening_DK
        return sums


@dataclass(frozen=True)
class Components:
    """Principal components of one side: variances (K,), largest first, and directions (D, K)."""

    variances_K: torch.Tensor
    directions_DK: torch.Tensor

    @classmethod
    def of(cls, covariance_DD: torch.Tensor) -> Components:
        """The components with a variance above `CUTOFF` times the largest; none when the side is constant."""
        variances, directions = (found.flip(-1) for found in torch.linalg.eigh(covariance_DD))
        kept = variances > max(CUTOFF * float(variances[0]), 0.0)
        return cls(variances[kept], directions[:, kept])

    @property
    def whitening_DK(self) -> torch.Tensor:
        """Matrix (D, K) that maps activations to components of variance 1."""
        return self.directions_DK / self.variances_K.sqrt()

    def leading(self, share: float) -> int:
        """The number of leading components that together hold `share` of the variance."""
        held_K = self.variances_K.cumsum(0) / self.variances_K.sum()
        return min(int((held_K < share).sum()) + 1, len(held_K))


@dataclass(frozen=True)
class Pair:
    """The components of two sides and the covariances of their whitened components: the input of every measure.

    The components come from all frames, the covariances from all frames or from one bootstrap draw.
    """

    x: Components
    y: Components
    xx_KK: torch.Tensor
    xy_KJ: torch.Tensor
    yy_JJ: torch.Tensor

    @cached_property
    def factor_KK(self) -> torch.Tensor:
        """Cholesky factor of the covariance of x, (K, K)."""
        return _factor(self.xx_KK)

    @cached_property
    def correlation_KJ(self) -> torch.Tensor:
        """Covariance (K, J) of both sides after whitening by their Cholesky factors.

        Its singular values are the canonical correlations. Because the factors are triangular, its leading block is the
        matrix of the leading components.
        """
        half_KJ = torch.linalg.solve_triangular(self.factor_KK, self.xy_KJ, upper=False)
        return torch.linalg.solve_triangular(_factor(self.yy_JJ).T, half_KJ, upper=True, left=False)


def _factor(covariance_KK: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of a covariance plus a ridge on its diagonal.

    The ridge is `RIDGE`, and is multiplied by 10 until the decomposition succeeds. Where a ridge of 1 does not suffice,
    the cause is not rounding, and torch's `LinAlgError` is raised.
    """
    identity_KK, ridge = torch.eye(len(covariance_KK), dtype=torch.float64), RIDGE
    while True:
        shifted_KK = covariance_KK + ridge * identity_KK
        factor_KK, failed = torch.linalg.cholesky_ex(shifted_KK, check_errors=ridge >= 1)  # see above
        if not failed:
            return factor_KK
        ridge *= 10


def canonical(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Canonical correlations (C,), smallest first, and their directions in whitened x (K, C), with C = min(K, J)."""
    squared, directions = torch.linalg.eigh(pair.correlation_KJ @ pair.correlation_KJ.T)
    count = min(pair.correlation_KJ.shape)
    return squared[-count:].clamp(0.0, 1.0).sqrt(), directions[:, -count:]


def pwcca(pair: Pair) -> float:
    """Projection-weighted CCA (Morcos et al. 2018, arXiv 1806.05759): a weighted mean of the canonical correlations.

    The weight of a canonical variate is the sum, over the channels of x, of the absolute value of their inner product.
    Inner products are means over frames here and sums in the paper, which scales all weights alike.
    """
    correlations, directions_KC = canonical(pair)
    loadings_DK = pair.x.directions_DK * pair.x.variances_K.sqrt()  # covariance of channels with whitened components
    weights = (loadings_DK @ (pair.factor_KK @ directions_KC)).abs().sum(0)
    return float(weights @ correlations / weights.sum())


def svcca(pair: Pair, variance: float) -> float:
    """SVCCA (Raghu et al. 2017, arXiv 1706.05806): the mean canonical correlation of leading components.

    These are, on each side, the components that hold the share `variance` of its variance.
    """
    leading = pair.correlation_KJ[: pair.x.leading(variance), : pair.y.leading(variance)]
    return float(torch.linalg.svdvals(leading).clamp(max=1.0).mean())


def cka(pair: Pair) -> float:
    """Linear CKA (Kornblith et al. 2019, arXiv 1905.00414): |Cov(x, y)|² / (|Cov(x, x)| |Cov(y, y)|).

    Norms are Frobenius norms.
    """
    x_K, y_J = pair.x.variances_K.sqrt(), pair.y.variances_K.sqrt()
    between = float((pair.xy_KJ * torch.outer(x_K, y_J)).norm()) ** 2
    within = float((pair.xx_KK * torch.outer(x_K, x_K)).norm() * (pair.yy_JJ * torch.outer(y_J, y_J)).norm())
    return min(between / within, 1.0) if within else 0.0


def similarities(
    xx: BlockSums, xy: BlockSums, yy: BlockSums, draws_RG: torch.Tensor, variance: float = 0.99
) -> dict[str, torch.Tensor]:
    """Every measure for each draw of blocks.

    When a side is constant over all frames, all measures are 0.

    Args:
        xx, xy, yy: sums of x with itself, of x with y, and of y with itself.
        draws_RG: how often each replicate draws each block (R, G), float64. A row of ones gives the estimate.
        variance: share of each side's variance that SVCCA keeps.

    Returns:
        Name of the measure -> (R,), float64.
    """
    x, y = Components.of(xx.covariance), Components.of(yy.covariance)
    if not len(x.variances_K) or not len(y.variances_K):
        return {measure: torch.zeros(len(draws_RG), dtype=torch.float64) for measure in MEASURES}
    sums = (xx.of_components(x, x), xy.of_components(x, y), yy.of_components(y, y))
    rows = []
    for part_RG in draws_RG.split(DRAWS_AT_ONCE):
        for covariances in zip(*(s.covariances(part_RG) for s in sums), strict=True):
            pair = Pair(x, y, *covariances)
            rows.append((pwcca(pair), svcca(pair, variance), cka(pair)))
    return dict(zip(MEASURES, torch.tensor(rows, dtype=torch.float64).T, strict=True))
