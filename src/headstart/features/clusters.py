"""Acoustic clusters: the utterances of a split, grouped by how they sound.

An utterance is described by statistics of its mel-frequency cepstral coefficients (MFCC), and k-means finds the groups.
Everything is computed in float64 with the same random numbers for every study, so that machines agree.
"""

from __future__ import annotations

import logging
import time
import warnings
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.vq import kmeans2, vq
from scipy.fft import dct

from headstart.corpora.manifests import CLUSTERS, FEATURES, read_columns, write_table
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.logs import Progress

log = logging.getLogger(__name__)

WINDOW, HOP, FFT = 400, 160, 512  # samples: windows of 25 ms, 10 ms apart
BANDS, COEFFICIENTS = 40, 13
STATISTICS = 3 * COEFFICIENTS
SAMPLE_A_CLUSTER = 256  # utterances from which k-means learns a centre; Faiss takes as many
TRIALS, ROUNDS = 5, 30  # of k-means, from other first centres each; the closest one counts
BLOCK = 1000  # windows whose spectra are in memory at once


def cluster_clips(features: str, audio: str, clusters: int, output: str) -> None:
    """Group the utterances of a split by sound, and write the group of each, in the order of the manifest.

    Args:
        features, audio: the files of the split.
        clusters: number of groups. Some may stay empty.
        output: file to write, with the columns of `CLUSTERS`.

    Raises:
        DataError: the split has fewer utterances than `clusters`.
    """
    clips = Clips.open(features, audio)
    if len(clips) < clusters:
        raise DataError(f"{features}: {len(clips)} utterances cannot form {clusters} clusters; lower select.clusters")
    started, progress = time.monotonic(), Progress(features, len(clips), "clips")
    statistics = np.zeros((len(clips), STATISTICS))
    for index in range(len(clips)):
        statistics[index] = mfcc_statistics(clips.audio(index))
        progress.add(1)
    described = time.monotonic()
    groups = k_means(statistics, clusters)
    sizes = np.bincount(groups, minlength=clusters)
    log.info(
        "%s: %.2f h described in %.1f s, %d clusters of %d to %d utterances in %.1f s",
        features, clips.seconds / 3600, described - started, np.count_nonzero(sizes), sizes[sizes > 0].min(),
        sizes.max(), time.monotonic() - described,
    )  # fmt: skip
    names = read_columns(features, FEATURES, ["utterance_id"])["utterance_id"].to_pylist()
    rows = ({"utterance_id": name, "cluster": group} for name, group in zip(names, groups.tolist(), strict=True))
    write_table(output, rows, CLUSTERS)


def mfcc_statistics(samples: ArrayLike) -> np.ndarray:
    """Means and standard deviations over time of 13 MFCC, and standard deviations of their slopes: shape (39,).

    arXiv 2601.20896 takes the means of the MFCC and of their first and second slopes. The mean of a slope is nearly
    zero for any utterance, so that spreads say more. As the cosine transform is orthonormal, the distance between two
    utterances' means is that between their mean log-mel spectra, without fine detail.
    """
    coefficients = mfcc(samples)
    return np.concatenate([coefficients.mean(0), coefficients.std(0), slopes(coefficients).std(0)])


def mfcc(samples: ArrayLike) -> np.ndarray:
    """Mel-frequency cepstral coefficients, shape (T, 13): one row for each whole window, and one at least.

    The audio is scaled to zero mean and unit variance first, as for an encoder, so that loudness makes no difference.

    Args:
        samples: at 16 kHz, shape (S,), of any scale.
    """
    x = np.asarray(samples, np.float64)
    x = (x - x.mean()) / max(x.std(), 1e-9)
    x = np.pad(x, (0, max(0, WINDOW - len(x))))
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP]
    blocks = []
    for start in range(0, len(windows), BLOCK):
        spectrum = np.fft.rfft(windows[start : start + BLOCK] * _hann(), FFT)
        blocks.append(np.log((spectrum.real**2 + spectrum.imag**2) @ _mel_filters() + 1e-6))
    return dct(np.concatenate(blocks), type=2, norm="ortho")[:, :COEFFICIENTS]


def slopes(x: np.ndarray) -> np.ndarray:
    """The slope of the line through five neighbouring rows (T, C), in each column; the outer rows are repeated."""
    x = np.pad(x, ((2, 2), (0, 0)), mode="edge")
    return (2 * (x[4:] - x[:-4]) + x[3:-1] - x[1:-3]) / 10


@cache
def _hann() -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


@cache
def _mel_filters() -> np.ndarray:
    from torchaudio.functional import melscale_fbanks  # here, because it imports torch

    return melscale_fbanks(FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE, mel_scale="htk").double().numpy()


def k_means(points: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """The cluster of each point, shape (N,), between 0 and `clusters` - 1. Some clusters may stay empty.

    Columns of `points` (N, D) are not scaled: those of `mfcc_statistics` have one unit. Of a large set, the centres are
    found on a random sample.
    """
    rng = np.random.default_rng(seed)
    sample = points[np.sort(rng.permutation(len(points))[: SAMPLE_A_CLUSTER * clusters])]
    return vq(points, centres_of(sample, clusters, rng, TRIALS))[0].astype(np.int64)


def centres_of(points: np.ndarray, clusters: int, rng: np.random.Generator, trials: int) -> np.ndarray:
    """The closest centres (K, D) in some trials of k-means, whose centres begin as in k-means++ (Arthur and
    Vassilvitskii 2007)."""
    best, least = None, np.inf
    for _ in range(trials):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of empty clusters, which do no harm
            centres, _ = kmeans2(points, clusters, iter=ROUNDS, minit="++", rng=rng)
        distance = float(np.square(vq(points, centres)[1]).sum())
        if distance < least:
            best, least = centres, distance
    return best
