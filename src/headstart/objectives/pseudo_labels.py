"""Pseudo-labels for CTC: greedy decoding with a confidence, a cache, and a check for collapse.

They are generated during training, as in slimIPL (Likhomanenko et al. 2021, arXiv 2010.11524) and momentum
pseudo-labelling (Higuchi et al. 2021, arXiv 2106.08922).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from headstart.text.normalisation import collapse

MOST_EMPTY = 0.9  # if a larger share of pseudo-labels is empty, they have collapsed to blanks


class PseudoLabel(NamedTuple):
    """The pseudo-label of one utterance.

    Attributes:
        labels: vocabulary indices, without blanks.
        confidence: mean probability of the best label over the frames that are not blank; 0 if all are blank.
    """

    labels: list[int]
    confidence: float


def greedy_labels(logits_BTV: torch.Tensor, frames: torch.Tensor, blank: int) -> list[PseudoLabel]:
    """Greedy CTC decoding: the most likely label of each frame, with repeats merged and blanks removed.

    Args:
        logits_BTV: unnormalised scores, any float type.
        frames: valid frames of each utterance (B,).
        blank: vocabulary index of the blank.
    """
    best_BT, index_BT = (x.cpu() for x in logits_BTV.float().softmax(-1).max(-1))
    pseudo_labels = []
    for best, path, count in zip(best_BT, index_BT, frames.tolist(), strict=True):
        best, path = best[:count], path[:count]
        not_blank = path != blank
        confidence = float(best[not_blank].mean()) if not_blank.any() else 0.0
        pseudo_labels.append(PseudoLabel(collapse(path.tolist(), blank), confidence))
    return pseudo_labels


class Cache:
    """Pseudo-labels by clip, each of which expires some updates after it was generated.

    Args:
        updates: lifetime of a pseudo-label; 0 turns the cache off.
    """

    def __init__(self, updates: int):
        self.updates = updates
        self.kept: dict[int, tuple[int, PseudoLabel]] = {}  # clip -> update that generated it, pseudo-label

    def get(self, clip: int, update: int) -> PseudoLabel | None:
        made, label = self.kept.get(clip, (update - self.updates, None))
        return label if update - made < self.updates else None

    def put(self, clip: int, update: int, label: PseudoLabel) -> None:
        if self.updates:
            self.kept[clip] = (update, label)

    def state(self) -> dict[str, torch.Tensor]:
        """The whole cache as tensors, with the labels of all clips concatenated."""
        labels = [label.labels for _, label in self.kept.values()]
        return {
            "clips": torch.tensor(list(self.kept), dtype=torch.int64),
            "made": torch.tensor([update for update, _ in self.kept.values()], dtype=torch.int64),
            "confidence": torch.tensor([label.confidence for _, label in self.kept.values()], dtype=torch.float64),
            "lengths": torch.tensor([len(label) for label in labels], dtype=torch.int64),
            "labels": torch.tensor([index for label in labels for index in label], dtype=torch.int64),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue from the tensors that `state` returned."""
        labels = tensors["labels"].split(tensors["lengths"].tolist())
        rows = zip(*(tensors[name].tolist() for name in ("clips", "made", "confidence")), labels, strict=True)
        self.kept = {c: (made, PseudoLabel(label.tolist(), sure)) for c, made, sure, label in rows}


@dataclass
class CollapseDetector:
    """Statistics of recent pseudo-labels, by which collapse is detected.

    Args:
        usual: share of the most frequent label among all labels of the transcripts, for comparison.
        made: pseudo-labels counted so far.
        empty: those of them without any label.
        updates: number of updates that they are from.
    """

    usual: float
    made: int = 0
    empty: int = 0
    updates: int = 0

    def __post_init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def see(self, labels: Sequence[PseudoLabel]) -> None:
        """Count all pseudo-labels of an update, also those that are not trained on."""
        self.updates += 1
        self.made += len(labels)
        self.empty += sum(not label.labels for label in labels)
        for label in labels:
            self.counts.update(label.labels)

    def collapsed(self) -> str | None:
        """A description of the collapse, if the labels counted since `clear` show one; otherwise None.

        Either too many are empty, or one label is too frequent.
        """
        if self.empty > MOST_EMPTY * self.made:
            return f"{self.empty} of {self.made} pseudo-labels are empty"
        share = max(self.counts.values(), default=0) / max(1, self.counts.total())
        # The threshold is half-way between the label's share in transcripts and 100 %.
        if self.counts and share > (1 + self.usual) / 2:
            return f"one label is {share:.0%} of all pseudo-labels, in transcripts it is {self.usual:.0%} at most"
        return None

    def clear(self) -> None:
        """Reset the counts."""
        self.made = self.empty = self.updates = 0
        self.counts.clear()

    def state(self) -> dict[str, torch.Tensor]:
        """The counts as tensors."""
        return {
            "tally": torch.tensor([self.made, self.empty, self.updates]),
            "counts": torch.tensor(list(self.counts.items()), dtype=torch.int64).reshape(-1, 2),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue from the tensors that `state` returned."""
        self.made, self.empty, self.updates = tensors["tally"].tolist()
        self.counts = Counter(dict(tensors["counts"].tolist()))
