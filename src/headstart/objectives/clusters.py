"""k-means clusters of frames, which objectives take as targets.

Shape suffixes: N frames of a sample, F features, P principal components, G codebooks (sets of clusters), V clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from headstart.encoder.front_end import waveform
from headstart.errors import HeadstartError
from headstart.features.clips import Clips

COMPONENTS = 64  # principal components that are clustered, of those with the largest variance
LEAST_FRAMES, SAMPLE_FRAMES = 20, 200  # frames of the sample for each cluster: the fewest, and as many as are wanted


def sample_frames(
    clips: Clips, clusters: int, seed: int, describe: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Features of the frames of randomly chosen clips.

    Args:
        clusters: that will be formed; there are at least `SAMPLE_FRAMES` frames for each, or all if there are fewer.
        describe: gives the features (T, F) of a clip from its int16 samples (S,).

    Returns:
        Features (N, F).
    """
    found = []
    for i in np.random.default_rng(seed).permutation(len(clips)):
        found.append(describe(waveform(clips, i)))
        if sum(map(len, found)) >= SAMPLE_FRAMES * clusters:
            break
    return torch.cat(found)


def check_enough(x_NF: torch.Tensor, clusters: int, key: str) -> None:
    """Raise `HeadstartError` if there are too few frames for so many clusters; `key` is the setting to lower."""
    if len(x_NF) < LEAST_FRAMES * clusters:
        raise HeadstartError(
            f"{len(x_NF)} frames of audio are too few to initialise a codebook of {clusters} entries; "
            f"give the start more audio, or set {key} lower"
        )


def principal_axes(centred_NF: torch.Tensor) -> torch.Tensor:
    """Axes (F, P) of the principal components of features of zero mean, those with the largest variance first.

    A component is divided by the square root of its standard deviation, so that the first ones do not dominate.
    """
    variance, directions = torch.linalg.eigh(centred_NF.T @ centred_NF / len(centred_NF))
    keep = min(COMPONENTS, centred_NF.shape[1])
    return (directions / variance.clamp(min=1e-8) ** 0.25).flip(1)[:, :keep]


def k_means(z: torch.Tensor, clusters: int, rounds: int = 15) -> torch.Tensor:
    """Centres (clusters, P) of the clusters of frames z (N, P), from randomly chosen frames as the first ones."""
    centres = z[torch.randperm(len(z), device=z.device)[:clusters]]
    for _ in range(rounds):
        nearest = torch.cdist(z, centres).argmin(1)
        counts = torch.bincount(nearest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, nearest, z)
        # A centre without frames is moved to a random frame.
        lost = z[torch.randint(len(z), (clusters,), device=z.device)]
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), lost)
    return centres
