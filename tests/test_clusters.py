"""Acoustic clusters: MFCC against torchaudio's, k-means against scikit-learn's, and that alike clips come together."""

import numpy as np
import pytest
import torch
import torchaudio
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from headstart.corpora.manifests import CLUSTERS, read_table
from headstart.errors import DataError
from headstart.features.clusters import cluster_clips, k_means, mfcc, mfcc_statistics, slopes


def test_coefficients_are_torchaudios():
    samples = np.random.default_rng(0).standard_normal(9_000)
    samples = np.convolve(samples, np.hanning(30), "same")  # some shape in the spectrum
    shape = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "f_min": 20.0, "center": False}
    reference = torchaudio.transforms.MFCC(16_000, 13, log_mels=True, melkwargs=shape).double()
    ours = mfcc(samples)
    scaled = (samples - samples.mean()) / samples.std()
    # torchaudio centres its windows of 400 samples in 512, so it begins 56 samples later.
    theirs = reference(torch.from_numpy(np.pad(scaled, 56)))[:, : len(ours)].T.numpy()
    assert ours.shape == (1 + (9_000 - 400) // 160, 13)
    np.testing.assert_allclose(ours[:-1], theirs[: len(ours) - 1], atol=1e-3)


def test_slopes_are_torchaudios():
    x = np.random.default_rng(1).standard_normal((50, 13))
    theirs = torchaudio.functional.compute_deltas(torch.from_numpy(x.T), 5).T.numpy()
    np.testing.assert_allclose(slopes(x), theirs, atol=1e-12)


def test_loudness_makes_no_difference_and_short_clips_have_statistics():
    samples = np.random.default_rng(2).standard_normal(8_000)
    np.testing.assert_allclose(mfcc_statistics(samples), mfcc_statistics(0.01 * samples + 3), atol=1e-9)
    assert np.isfinite(mfcc_statistics(samples[:100])).all()
    assert np.isfinite(mfcc_statistics(np.zeros(100, np.int16))).all()


def test_clusters_are_as_tight_as_scikit_learns():
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((12, 10)) * 3
    points = np.concatenate([centre + rng.standard_normal((80, 10)) for centre in centres])
    reference = KMeans(12, n_init=10, random_state=0).fit(points)
    ours = k_means(points, 12)
    spread = sum(((points[ours == k] - points[ours == k].mean(0)) ** 2).sum() for k in set(ours))
    assert spread <= 1.15 * reference.inertia_
    assert adjusted_rand_score(ours, reference.labels_) > 0.8
    assert (k_means(points, 12) == ours).all()


def test_clips_that_sound_alike_come_into_one_cluster(make_clips, tmp_path):
    """Thirty clips of three kinds of noise, in a mixed order, of different lengths and loudness."""
    rng, kinds = np.random.default_rng(4), np.arange(30) % 3

    def noise(kind: int) -> np.ndarray:
        white = rng.standard_normal(rng.integers(8_000, 24_000))
        shaped = (
            white,
            np.cumsum(white) - np.convolve(np.cumsum(white), np.ones(400) / 400, "same"),
            np.diff(white, 2),
        )
        return shaped[kind] * rng.uniform(0.02, 0.1) / shaped[kind].std()

    make_clips(tmp_path, [noise(kind) for kind in kinds])
    files = (str(tmp_path / "a.parquet"), str(tmp_path / "a.arrow"))
    cluster_clips(*files, 3, str(tmp_path / "clusters.parquet"))
    rows = read_table(tmp_path / "clusters.parquet", CLUSTERS)
    assert [row["utterance_id"] for row in rows] == [f"clip{number:03d}" for number in range(30)]
    assert adjusted_rand_score(kinds, [row["cluster"] for row in rows]) == 1.0
    with pytest.raises(DataError, match="30 utterances cannot form 31 clusters; lower select.clusters"):
        cluster_clips(*files, 31, str(tmp_path / "x.parquet"))
