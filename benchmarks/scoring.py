"""Scoring throughput: our error counts and jiwer, called an utterance at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from child import call

from headstart.corpora.synthetic.grammar import load_grammar

UTTERANCES = 500
SENTENCES = (1, 5)  # in an utterance
ERRORS = 0.15  # share of characters that a hypothesis replaces, drops or doubles
COUNTS = ("hits", "substitutions", "deletions", "insertions")


def rows(seconds: float, rounds: int, threads: int) -> list[dict[str, Any]]:
    """One row: words and characters of an utterance counted."""
    runs = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, results in runs.items():
            results.append(call("scoring", "measure", threads, side=side, seconds=seconds / 2))
    ours, peer = (statistics.median(one["rate"] for one in runs[side]) for side in ("ours", "peer"))
    return [
        {
            "name": "scoring, words and characters",
            "ours": round(ours, 1),
            "peer": round(peer, 1),
            "ratio": round(ours / peer, 3),
            "unit": "utterances/s",
            "peer_name": f"jiwer {version('jiwer')}, an utterance at a time",
            "ours_memory_mb": max(one["memory_mb"] for one in runs["ours"]),
            "peer_memory_mb": max(one["memory_mb"] for one in runs["peer"]),
            "note": "ours includes putting together the row of the score file",
        }
    ]


def measure(side: str, seconds: float) -> dict[str, Any]:
    """Utterances a second."""
    pairs = utterances()
    count = {"ours": our_counts, "peer": peer_counts}[side]()
    count(pairs[:20])
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        count(pairs)
        done += 1
    return {"rate": done * len(pairs) / (time.perf_counter() - began)}


def our_counts() -> Callable[[list[tuple[str, str]]], list[dict[str, int]]]:
    from headstart.score.score_file import score_columns

    return lambda pairs: [score_columns(reference, hypothesis) for reference, hypothesis in pairs]


def peer_counts() -> Callable[[list[tuple[str, str]]], list[dict[str, int]]]:
    import jiwer

    def count(pairs: list[tuple[str, str]]) -> list[dict[str, int]]:
        rows = []
        for reference, hypothesis in pairs:
            words = jiwer.process_words(reference, hypothesis)
            chars = jiwer.process_characters(reference, hypothesis)
            row = {f"word_{name}": getattr(words, name) for name in COUNTS}
            rows.append(row | {f"char_{name}": getattr(chars, name) for name in COUNTS})
        return rows

    return count


def utterances() -> list[tuple[str, str]]:
    """References, and hypotheses with errors in their characters; always the same."""
    rng, grammar = np.random.default_rng(0), load_grammar("en")
    pairs = []
    for _ in range(UTTERANCES):
        reference = " ".join(grammar.sample(rng).text for _ in range(rng.integers(*SENTENCES)))
        wrong = (rng.random(len(reference)) < ERRORS) * rng.integers(1, 4, len(reference))
        edited = [(c, "e", "", c + c)[kind] for c, kind in zip(reference, wrong, strict=True)]
        pairs.append((reference, "".join(edited)))
    return pairs
