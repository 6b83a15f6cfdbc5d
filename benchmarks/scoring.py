"""Scoring throughput: every metric of a tagged list, and jiwer's words and characters."""

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
STRETCH = 4  # words of one language, before the next one
COUNTS = ("hits", "substitutions", "deletions", "insertions")
PEERS = {"peer": "an utterance at a time", "peer_list": "the whole list at once"}
Pairs = list[tuple[str, str]]


def rows(seconds: float, rounds: int, threads: int) -> list[dict[str, Any]]:
    """One row for each way to call jiwer: a list scored by all metrics, and its words and characters by jiwer."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], **{side: [] for side in PEERS}}
    for _ in range(rounds):
        for side, results in runs.items():
            results.append(call("scoring", "measure", threads, side=side, seconds=seconds / len(runs)))
    rates = {side: statistics.median(one["rate"] for one in results) for side, results in runs.items()}
    memory = {side: max(one["memory_mb"] for one in results) for side, results in runs.items()}
    return [
        {
            "name": "scoring, all metrics",
            "ours": round(rates["ours"], 1),
            "peer": round(rates[side], 1),
            "ratio": round(rates["ours"] / rates[side], 3),
            "unit": "utterances/s",
            "peer_name": f"jiwer {version('jiwer')}, words and characters, {how}",
            "ours_memory_mb": memory["ours"],
            "peer_memory_mb": memory[side],
            "note": "ours: rows of the score file and counts by all metrics of a tagged list",
        }
        for side, how in PEERS.items()
    ]


def measure(side: str, seconds: float) -> dict[str, Any]:
    """Utterances a second."""
    pairs = utterances()
    count = {"ours": our_counts, "peer": peer_counts, "peer_list": peer_list_counts}[side]()
    count(pairs[:20])
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        count(pairs)
        done += 1
    return {"rate": done * len(pairs) / (time.perf_counter() - began)}


def our_counts() -> Callable[[Pairs], Any]:
    from headstart.score.metrics import counts_by_metric
    from headstart.score.score_file import language_columns, score_columns
    from headstart.score.score_table import ScoreTable

    def count(pairs: Pairs) -> Any:
        rows = []
        for reference, hypothesis in pairs:
            runs = [(("en", "es")[i // STRETCH % 2], word) for i, word in enumerate(reference.split())]
            languages = language_columns(reference, runs)
            rows.append({**languages, **score_columns(reference, hypothesis, text=f"{reference.capitalize()}.")})
        return counts_by_metric(ScoreTable({name: [row[name] for row in rows] for name in rows[0]}))

    return count


def peer_counts() -> Callable[[Pairs], Any]:
    import jiwer

    def count(pairs: Pairs) -> list[dict[str, int]]:
        rows = []
        for reference, hypothesis in pairs:
            words = jiwer.process_words(reference, hypothesis)
            chars = jiwer.process_characters(reference, hypothesis)
            row = {f"word_{name}": getattr(words, name) for name in COUNTS}
            rows.append(row | {f"char_{name}": getattr(chars, name) for name in COUNTS})
        return rows

    return count


def peer_list_counts() -> Callable[[Pairs], Any]:
    import jiwer

    def count(pairs: Pairs) -> Any:
        references, hypotheses = map(list, zip(*pairs, strict=True))
        return jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)

    return count


def utterances() -> Pairs:
    """References, and hypotheses with errors in their characters; always the same."""
    rng, grammar = np.random.default_rng(0), load_grammar("en")
    pairs = []
    for _ in range(UTTERANCES):
        reference = " ".join(grammar.sample(rng).text for _ in range(rng.integers(*SENTENCES)))
        wrong = (rng.random(len(reference)) < ERRORS) * rng.integers(1, 4, len(reference))
        edited = [(c, "e", "", c + c)[kind] for c, kind in zip(reference, wrong, strict=True)]
        pairs.append((reference, " ".join("".join(edited).split())))
    return pairs
