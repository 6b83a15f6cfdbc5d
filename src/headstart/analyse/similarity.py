"""How alike two representations of the same frames are, from sums over the frames: PWCCA, SVCCA and linear CKA.

Representations are activations x (N, D) and y (N, E). All that the measures take of them is covariances, and so all
that is kept of the frames is sums: memory does not grow with audio.

* Canonical correlation analysis (CCA) finds the directions of x and of y whose projections correlate most; an
  invertible linear map of either side changes nothing. PWCCA (Morcos et al. 2018, arXiv 1806.05759) averages the
  correlations by how much of x each direction accounts for, SVCCA (Raghu et al. 2017, arXiv 1706.05806) evenly over
  the leading principal components of each side.
* Linear centred kernel alignment (CKA; Kornblith et al. 2019, arXiv 1905.00414) compares which frames are alike on
  each side. It sees how much directions vary: only a rotation and a common scale change nothing.

With N frames of independent noise the mean squared correlation is max(D, E) / (N - 1) and not 0, because CCA fits what
frames there are: a hundred frames a channel make that small.

Shape suffixes: N frames, G blocks of utterances, D and E channels of x and of y, K and J principal components of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

CUTOFF = 1e-10  # share of the largest variance below which a component is rounding: dead or dependent channels
RIDGE = 1e-9  # added to variances of 1, for draws of so few frames that some component does not vary; at least
DRAWS_AT_ONCE = 16  # bounds memory, and the sums are read once for so many
MEASURES = ("pwcca", "svcca", "cka")


class BlockSums:
    """Sums over frames, from which comes the covariance of two sides, kept for each block of utterances.

    They are float64 and take blocks x D x E x 8 bytes, however many frames there are. Drawing blocks with replacement
    is a bootstrap over utterances, which were dealt to the blocks at random.
    """

    def __init__(self, blocks: int, left: int, right: int):
        # Sums are taken from near the mean, or a channel with a large one would leave nothing of the covariance.
        self.origins: tuple[torch.Tensor, torch.Tensor] | None = None
        self.frames_G = torch.zeros(blocks, dtype=torch.float64)
        self.left_GD, self.right_GE = self.frames_G.new_zeros(blocks, left), self.frames_G.new_zeros(blocks, right)
        self.products_GDE = self.frames_G.new_zeros(blocks, left, right)

    def add(self, block: int, left_ND: torch.Tensor, right_NE: torch.Tensor) -> None:
        """Count these frames in a block."""
        left_ND, right_NE = left_ND.double(), right_NE.double()
        if self.origins is None:
            self.origins = left_ND.mean(0), right_NE.mean(0)
        left_ND, right_NE = left_ND - self.origins[0], right_NE - self.origins[1]
        self.frames_G[block] += len(left_ND)
        self.left_GD[block] += left_ND.sum(0)
        self.right_GE[block] += right_NE.sum(0)
        self.products_GDE[block].addmm_(left_ND.T, right_NE)

    def covariances(self, draws_RG: torch.Tensor) -> torch.Tensor:
        """Covariance of the frames of each draw, a row of how often each block was drawn: (R, D, E)."""
        share_RG = draws_RG / (draws_RG @ self.frames_G)[:, None]
        left_RD, right_RE = share_RG @ self.left_GD, share_RG @ self.right_GE
        return torch.tensordot(share_RG, self.products_GDE, 1) - left_RD[:, :, None] * right_RE[:, None]

    @property
    def covariance(self) -> torch.Tensor:
        """Covariance of all frames (D, E)."""
        return self.covariances(torch.ones_like(self.frames_G)[None])[0]

    def of_components(self, x: Components, y: Components) -> BlockSums:
        """The sums of the sides' whitened components."""
        sums = BlockSums(0, 0, 0)
        sums.frames_G = self.frames_G
        sums.left_GD, sums.right_GE = self.left_GD @ x.whitening_DK, self.right_GE @ y.whitening_DK
        sums.products_GDE = x.whitening_DK.T @ self.products_GDE @ y.whitening_DK
        return sums


@dataclass(frozen=True)
class Components:
    """Principal components of a side: their variances (K,), largest first, and their directions (D, K)."""

    variances_K: torch.Tensor
    directions_DK: torch.Tensor

    @classmethod
    def of(cls, covariance_DD: torch.Tensor) -> Components:
        """All components that are more than rounding: none, where the side never varies."""
        variances, directions = (found.flip(-1) for found in torch.linalg.eigh(covariance_DD))
        kept = variances > max(CUTOFF * float(variances[0]), 0.0)
        return cls(variances[kept], directions[:, kept])

    @property
    def whitening_DK(self) -> torch.Tensor:
        """Takes activations to components of variance 1."""
        return self.directions_DK / self.variances_K.sqrt()

    def leading(self, share: float) -> int:
        """How many components hold this share of the variance."""
        held_K = self.variances_K.cumsum(0) / self.variances_K.sum()
        return min(int((held_K < share).sum()) + 1, len(held_K))


@dataclass(frozen=True)
class Pair:
    """Two sides and the covariances of their whitened components: every measure is a function of it.

    The components are those of all frames. The covariances may be those of some draw of the frames.
    """

    x: Components
    y: Components
    xx_KK: torch.Tensor
    xy_KJ: torch.Tensor
    yy_JJ: torch.Tensor

    @cached_property
    def factor_KK(self) -> torch.Tensor:
        """Cholesky factor of x's covariance."""
        return _factor(self.xx_KK)

    @cached_property
    def correlation_KJ(self) -> torch.Tensor:
        """Covariance of both sides whitened by their Cholesky factors; its singular values are canonical correlations.

        The factors are triangular, so that its leading block is that of the leading components.
        """
        half_KJ = torch.linalg.solve_triangular(self.factor_KK, self.xy_KJ, upper=False)
        return torch.linalg.solve_triangular(_factor(self.yy_JJ).T, half_KJ, upper=True, left=False)


def _factor(covariance_KK: torch.Tensor) -> torch.Tensor:
    """Cholesky factor, with as much of a ridge as rounding asks for where a component hardly varies."""
    identity_KK, ridge = torch.eye(len(covariance_KK), dtype=torch.float64), RIDGE
    while True:
        shifted_KK = covariance_KK + ridge * identity_KK
        factor_KK, failed = torch.linalg.cholesky_ex(shifted_KK, check_errors=ridge >= 1)  # beyond, it is no rounding
        if not failed:
            return factor_KK
        ridge *= 10


def canonical(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Canonical correlations, min(K, J) of them, smallest first, and their directions in whitened x: (K, min(K, J))."""
    squared, directions = torch.linalg.eigh(pair.correlation_KJ @ pair.correlation_KJ.T)
    count = min(pair.correlation_KJ.shape)
    return squared[-count:].clamp(0.0, 1.0).sqrt(), directions[:, -count:]


def pwcca(pair: Pair) -> float:
    """Mean canonical correlation, weighted by x: by the canonical variate's products with x's channels, without sign.

    Products are means over the frames; the paper sums them, which scales all weights alike.
    """
    correlations, directions_KC = canonical(pair)
    loadings_DK = pair.x.directions_DK * pair.x.variances_K.sqrt()  # of the channels on whitened components
    weights = (loadings_DK @ (pair.factor_KK @ directions_KC)).abs().sum(0)
    return float(weights @ correlations / weights.sum())


def svcca(pair: Pair, variance: float) -> float:
    """Mean canonical correlation between the components that hold the share `variance` of each side's variance."""
    leading = pair.correlation_KJ[: pair.x.leading(variance), : pair.y.leading(variance)]
    return float(torch.linalg.svdvals(leading).clamp(max=1.0).mean())


def cka(pair: Pair) -> float:
    """Linear CKA: |Cov(x, y)|² / (|Cov(x, x)| |Cov(y, y)|), with Frobenius norms."""
    x_K, y_J = pair.x.variances_K.sqrt(), pair.y.variances_K.sqrt()
    between = float((pair.xy_KJ * torch.outer(x_K, y_J)).norm()) ** 2
    within = float((pair.xx_KK * torch.outer(x_K, x_K)).norm() * (pair.yy_JJ * torch.outer(y_J, y_J)).norm())
    return min(between / within, 1.0) if within else 0.0


def similarities(
    xx: BlockSums, xy: BlockSums, yy: BlockSums, draws_RG: torch.Tensor, variance: float = 0.99
) -> dict[str, torch.Tensor]:
    """Every measure over the frames of each draw of blocks: name -> (R,).

    A side that never varies is like nothing: all measures are 0.

    Args:
        xx, xy, yy: sums of x with itself, of x with y, and of y with itself.
        draws_RG: how often each block is drawn, a row a replicate; float64. A row of ones is the estimate.
        variance: share of each side's variance that SVCCA keeps.
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
