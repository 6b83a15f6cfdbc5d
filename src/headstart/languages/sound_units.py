"""Sound units: audio as strings of clusters, and how alike two sets of such strings are.

After the acoustic token distribution similarity of arXiv 2402.02302: frames are put into clusters, runs of one cluster
count once, frequent sequences of clusters become pieces (there of a unigram model, here by byte-pair encoding, which is
deterministic), and two languages are compared by how often each piece occurs in them. Clusters and pieces are learnt
from all languages together here, so that a similarity is the same in both directions.

The paper takes the cosine of the counts. That of two samples of one language is below 1, and the smaller the samples,
the lower: a language with less audio would be less like any other. `count_similarity` corrects this.

Shape suffixes: N points, T frames, D channels, K clusters, P pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from headstart.features.clusters import centres_of

FIRST = 0x4E00  # the character of cluster 0; those of 2,000 clusters after it are letters, and none combine
TRIALS = 2  # of k-means
RNG_SEED = 2402  # an arbitrary constant, so that equal audio has equal units


@dataclass(frozen=True)
class SoundUnits:
    """What turns frames into counts of pieces.

    Attributes:
        mean, scale: of each channel, (D,): frames are standardised before they are compared to centres.
        centres: of the clusters, (K, D).
        tokenizer: of strings with a character for each cluster.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    centres: NDArray[np.float64]
    tokenizer: Tokenizer

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return self.tokenizer.get_vocab_size()

    def text(self, frames_TD: NDArray) -> str:
        """The string of a clip: a character for each run of frames in one cluster."""
        return cluster_text(frames_TD, self.mean, self.scale, self.centres)

    def counts(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """How often each piece occurs in strings from `text`: (P,)."""
        counts = np.zeros(self.pieces, np.int64)
        for encoding in self.tokenizer.encode_batch(list(texts)):
            np.add.at(counts, encoding.ids, 1)
        return counts

    def plain(self) -> str:
        """The pieces as JSON."""
        return self.tokenizer.to_str()


def cluster_text(frames_TD: NDArray, mean: NDArray, scale: NDArray, centres: NDArray) -> str:
    """The clusters of frames as a string, with a character for each run of frames in one cluster."""
    if not len(frames_TD):
        return ""
    clusters_T = vq((np.asarray(frames_TD, np.float64) - mean) / scale, centres)[0]
    begins = np.flatnonzero(np.diff(clusters_T, prepend=-1))
    return "".join(chr(FIRST + cluster) for cluster in clusters_T[begins].tolist())


def fitted_clusters(points_ND: NDArray, clusters: int) -> tuple[NDArray, NDArray, NDArray]:
    """Mean and scale of the channels, and the centres of clusters of the standardised points."""
    points = np.asarray(points_ND, np.float64)
    mean, scale = points.mean(0), np.maximum(points.std(0), 1e-9)
    return mean, scale, centres_of((points - mean) / scale, clusters, np.random.default_rng(RNG_SEED), TRIALS)


def learnt_pieces(texts: Iterable[str], pieces: int) -> Tokenizer:
    """Byte-pair encoding: the characters of the strings, and the pairs that are joined, the most frequent one first.

    Args:
        texts: one string a clip; pairs are not joined across clips.
        pieces: how many there are at most, characters included; pairs that occur once are not joined.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.train_from_iterator(texts, BpeTrainer(vocab_size=pieces, min_frequency=2, show_progress=False))
    return tokenizer


def stored_pieces(text: str) -> Tokenizer:
    """The reverse of `SoundUnits.plain`.

    Raises:
        ValueError: the text is not what that writes.
    """
    json.loads(text)
    return Tokenizer.from_str(text)


def count_similarity(one: NDArray, other: NDArray) -> float:
    """How alike two distributions of pieces are: an estimate of the cosine of the angle between them.

    For counts x of n pieces that are drawn from shares p, Σ x (x - 1) / (n (n - 1)) has the expectation Σ p², whatever
    n is, and Σ (x / n) (y / m) that of Σ p q. So the amount of audio makes no difference on average, as in Morisita's
    index (1959), which takes the arithmetic mean where the cosine has the geometric one. Two samples of one
    distribution are at about 1, and chance can take them above.

    Args:
        one, other: counts (P,).

    Returns:
        The estimate; NaN where no piece occurs twice on one side.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    squares = [(z * (z - 1)).sum() / max(z.sum() * (z.sum() - 1), 1.0) for z in (x, y)]
    if not all(squares):
        return float("nan")
    return float(x @ y / (x.sum() * y.sum()) / np.sqrt(squares[0] * squares[1]))
