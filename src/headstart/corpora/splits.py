"""Splits: drawing those that a corpus does not have, and looking for sentences that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from headstart.corpora.reader import CorpusError, Reader, Reject, Utterance
from headstart.study.fields import Split

Rows = dict[Split, list[dict[str, Any]]]


def missing_splits(reader: Reader, entries: Iterable[Utterance | Reject]) -> dict[Split, float]:
    """The splits that a corpus does not have, each with the share of the training rows that becomes it."""
    present = {entry.split for entry in entries}
    shares: dict[Split, float] = {"dev": reader.settings.dev_share, "test": reader.settings.test_share}
    return {split: share for split, share in shares.items() if split not in present}


def draw_split(shares: dict[Split, float], key: str) -> Split:
    """The split of a training row, by a hash of its key: adding rows to a corpus never moves the others."""
    digest = hashlib.sha256(key.encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in shares.items():
        if draw < share:
            return split
        draw -= share
    return "train"


def check_drawn(reader: Reader, shares: dict[Split, float], rows: Rows, rejects: Rows) -> None:
    """Raise `CorpusError` when a split that should be drawn got nothing."""
    for split, share in shares.items():
        if share and rows["train"] and not rows[split] and not rejects[split]:
            advice = ", ".join((*reader.split_advice, f"raise {split}_share from {share:g}"))
            raise CorpusError(
                f"{reader.source}: of its few {reader.drawn_units}, none was drawn for {split}. "
                f"{advice[0].upper()}{advice[1:]}, or, where the study does not use it, set {split}_share: 0"
            )


def shared_sentences(rows: Rows) -> list[str]:
    """Notes on sentences that a dev or test split shares with the training split."""
    trained = {(row["text"] or "").lower() for row in rows["train"]} - {""}
    notes = []
    for split in ("dev", "test"):
        shared = sum((row["text"] or "").lower() in trained for row in rows[split])
        if shared:
            notes.append(f"{split}: {shared} of {len(rows[split])} sentences also occur in train")
    return notes
