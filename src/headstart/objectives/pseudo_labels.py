"""Pseudo-labels: made from a network's own output, filtered, kept for a while, and watched for collapse.

Labels are made while training goes on, as in slimIPL (Likhomanenko et al. 2021, arXiv 2010.11524) and momentum
pseudo-labelling (Higuchi et al. 2021, arXiv 2106.08922).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

MOST_EMPTY = 0.9  # share of pseudo-labels without a label, above which they have collapsed to blanks


class PseudoLabel(NamedTuple):
    """Vocabulary indices, and the mean probability of the frames that speak (0 where none does)."""

    labels: list[int]
    confidence: float


def greedy_labels(logits_BTV: torch.Tensor, frames: torch.Tensor, blank: int) -> list[PseudoLabel]:
    """The most likely CTC path of each utterance, repeats merged and blanks dropped.

    Args:
        logits_BTV: unnormalised scores, any float type.
        frames: valid frames of each utterance (B,).
    """
    best_BT, index_BT = (x.cpu() for x in logits_BTV.float().softmax(-1).max(-1))
    made = []
    for best, path, count in zip(best_BT, index_BT, frames.tolist(), strict=True):
        best, path = best[:count], path[:count]
        speaks = path != blank
        kept = speaks & torch.cat([torch.ones(min(count, 1), dtype=torch.bool), path[1:] != path[:-1]])
        confidence = float(best[speaks].mean()) if speaks.any() else 0.0
        made.append(PseudoLabel(path[kept].tolist(), confidence))
    return made


class Cache:
    """Pseudo-labels of clips, each good for some updates."""

    def __init__(self, updates: int):
        self.updates = updates
        self.kept: dict[int, tuple[int, PseudoLabel]] = {}  # clip -> the update that made it, and what it made

    def get(self, clip: int, update: int) -> PseudoLabel | None:
        made, label = self.kept.get(clip, (update - self.updates, None))
        return label if update - made < self.updates else None

    def put(self, clip: int, update: int, label: PseudoLabel) -> None:
        if self.updates:
            self.kept[clip] = (update, label)

    def state(self) -> dict[str, torch.Tensor]:
        """All of it, flat."""
        labels = [label.labels for _, label in self.kept.values()]
        return {
            "clips": torch.tensor(list(self.kept), dtype=torch.int64),
            "made": torch.tensor([update for update, _ in self.kept.values()], dtype=torch.int64),
            "confidence": torch.tensor([label.confidence for _, label in self.kept.values()], dtype=torch.float64),
            "lengths": torch.tensor([len(label) for label in labels], dtype=torch.int64),
            "labels": torch.tensor([index for label in labels for index in label], dtype=torch.int64),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
        labels = tensors["labels"].split(tensors["lengths"].tolist())
        rows = zip(*(tensors[name].tolist() for name in ("clips", "made", "confidence")), labels, strict=True)
        self.kept = {c: (made, PseudoLabel(label.tolist(), sure)) for c, made, sure, label in rows}


@dataclass
class Guard:
    """Watches what pseudo-labels are made, and says when they have collapsed.

    Args:
        usual: the most frequent label's share of all labels in the transcripts, for comparison.
    """

    usual: float
    made: int = 0
    empty: int = 0
    updates: int = 0  # whose labels are counted

    def __post_init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def see(self, labels: Sequence[PseudoLabel]) -> None:
        """Count an update's pseudo-labels, whether they were learnt from or not."""
        self.updates += 1
        self.made += len(labels)
        self.empty += sum(not label.labels for label in labels)
        for label in labels:
            self.counts.update(label.labels)

    def collapsed(self) -> str | None:
        """What is wrong with the labels seen since `clear`, or None."""
        if self.empty > MOST_EMPTY * self.made:
            return f"{self.empty} of {self.made} pseudo-labels are empty"
        share = max(self.counts.values(), default=0) / max(1, self.counts.total())
        # Half-way between what transcripts have and nothing else.
        if self.counts and share > (1 + self.usual) / 2:
            return f"one label is {share:.0%} of all pseudo-labels, in transcripts it is {self.usual:.0%} at most"
        return None

    def clear(self) -> None:
        """Begin to count anew."""
        self.made = self.empty = self.updates = 0
        self.counts.clear()

    def state(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs, flat."""
        return {
            "tally": torch.tensor([self.made, self.empty, self.updates]),
            "counts": torch.tensor(list(self.counts.items()), dtype=torch.int64).reshape(-1, 2),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
        self.made, self.empty, self.updates = tensors["tally"].tolist()
        self.counts = Counter(dict(tensors["counts"].tolist()))
