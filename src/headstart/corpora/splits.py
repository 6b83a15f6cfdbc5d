"""Splits: drawing those that a corpus does not have, and looking for sentences that they share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from headstart.corpora.reader import CorpusError, Reader, Reject, Utterance
from headstart.study.fields import Split

Rows = dict[Split, list[dict[str, Any]]]
Node = tuple[str, str]  # kind and name of what must not be torn apart


def missing_splits(reader: Reader, entries: Iterable[Utterance | Reject]) -> dict[Split, float]:
    """The splits that a corpus does not have, each with the share of the training rows that becomes it."""
    present = {entry.split for entry in entries}
    shares: dict[Split, float] = {"dev": reader.settings.dev_share, "test": reader.settings.test_share}
    return {split: share for split, share in shares.items() if split not in present}


def draw_keys(entries: Sequence[Utterance | Reject]) -> list[str]:
    """The key by which the split of each entry is drawn: entries with the same key come into the same split.

    A speaker stays in one split, and so does a recording that several utterances are stretches of: an interview links
    its speakers. An utterance without a speaker that is alone in its recording stays with those of the same text.

    The key of a group is the first of its speakers in the order of the alphabet, or of its recordings or texts where
    no speaker is known. It is the same whatever else is in the corpus, so adding rows moves a group only where they
    link it to another.
    """
    recordings = Counter(entry.audio.path for entry in entries if entry.audio)
    own = [_nodes(entry, recordings) for entry in entries]
    leaders: dict[Node, Node] = {}
    for entry, (first, *others) in zip(entries, own, strict=True):
        for other in others if entry.split in (None, "train") else ():  # the corpus has divided the others itself
            _join(leaders, first, other)
    return [_leader(leaders, nodes[0])[1] for nodes in own]


def _nodes(entry: Utterance | Reject, recordings: Counter[str]) -> list[Node]:
    """What an entry must stay together with. Kinds are named so that the first in the alphabet is the key."""
    path = entry.audio.path if entry.audio else ""
    shared = [("1 recording", path.lower())] if path and recordings[path] > 1 else []
    speaker = getattr(entry, "speaker", None)
    if speaker:
        return [("0 speaker", speaker.lower()), *shared]
    return shared or [("2 text", entry.draw_key)]


def _leader(leaders: dict[Node, Node], node: Node) -> Node:
    """The first node of the group that a node belongs to."""
    root = node
    while (above := leaders.get(root, root)) != root:
        root = above
    while node != root:  # shorten the way for the next time
        leaders[node], node = root, leaders[node]
    return root


def _join(leaders: dict[Node, Node], one: Node, other: Node) -> None:
    one, other = sorted((_leader(leaders, one), _leader(leaders, other)))
    if one != other:
        leaders[other] = one


def draw_split(shares: dict[Split, float], key: str) -> Split:
    """The split of a training row, by a hash of its key: adding rows to a corpus never moves the others."""
    digest = hashlib.sha256(key.encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in shares.items():
        if draw < share:
            return split
        draw -= share
    return "train"


def check_drawn(reader: Reader, shares: dict[Split, float], rows: Rows, rejects: Rows, keys: Iterable[str]) -> None:
    """Raise `CorpusError` when a split that should be drawn got nothing.

    Args:
        keys: what was drawn; see `draw_keys`.
    """
    for split, share in shares.items():
        if share and rows["train"] and not rows[split] and not rejects[split]:
            count = f"{len(set(keys))} {reader.drawn_units} (those of one recording count as one)"
            advice = ", ".join((*reader.split_advice, f"raise {split}_share from {share:g}"))
            raise CorpusError(
                f"{reader.source}: of its {count}, none was drawn for {split}. "
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
