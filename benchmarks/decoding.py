"""Speed of beam search with a language model on one core: by ctc_beam_decoder, beside our own engine.

Both decode the same outputs, which are as doubtful as those of a small network that was fine-tuned on five minutes of
speech: in a frame, beam search follows nine labels.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from child import call

from headstart.corpora.synthetic.grammar import load_grammar
from headstart.decode.arpa import Arpa
from headstart.decode.beam_search import NativeEngine
from headstart.decode.fusion import Fusion, Weights, log_probabilities, search_labels, tokens
from headstart.decode.language_model import ORDERS, write_arpa
from headstart.decode.prefix_search import PythonEngine
from headstart.study.decoding import Search
from headstart.study.text import Text
from headstart.text.normalisation import BLANK, build_vocabulary, normalise

LANGUAGE = "id"
TRAINING, UTTERANCES = 200, 40  # sentences of the language model, and utterances that are decoded
FRAMES = 50  # in a second
FRAMES_A_CHARACTER = 4
ROUNDS = 3


def rows(seconds: float, threads: int) -> list[dict[str, Any]]:
    """Beam search by the native engine beside that by our own engine, for both kinds of models."""
    found = []
    for units in ORDERS:
        results = {"native": [], "own": []}
        for _ in range(ROUNDS):
            for side, own in results.items():
                own.append(call("decoding", "measure", 1, side=side, units=units, seconds=seconds / 2))
        rates = {side: statistics.median(one["rate"] for one in own) for side, own in results.items()}
        memory = {side: max(one["memory_mb"] for one in own) for side, own in results.items()}
        found.append(
            {
                "name": f"beam search, model of {units}",
                "ours": round(rates["native"], 1),
                "peer": round(rates["own"], 1),
                "ratio": round(rates["native"] / rates["own"], 3),
                "unit": "times real time, one core",
                "peer_name": "our own beam search",
                "ours_memory_mb": memory["native"],
                "peer_memory_mb": memory["own"],
                "note": f"beam {Search().beam}, {ORDERS[units]}-grams of {TRAINING} sentences",
            }
        )
    return found


def measure(side: str, units: str, seconds: float) -> dict[str, Any]:
    """Seconds of audio that are decoded in a second of processor time."""
    sentences, vocabulary, outputs = material()
    with tempfile.TemporaryDirectory() as folder:
        decode = decoders(Path(folder) / "lm.arpa", sentences, vocabulary, units)[side]
        decode(outputs[0])
        began, done = time.process_time(), 0
        while not done or time.process_time() - began < seconds:
            for logits_TV in outputs:
                decode(logits_TV)
            done += 1
        audio = done * sum(map(len, outputs)) / FRAMES
        return {"rate": audio / (time.process_time() - began)}


def decoders(
    arpa: Path, sentences: list[str], vocabulary: dict[str, int], units: str
) -> dict[str, Callable[[np.ndarray], str]]:
    """A function from a network's outputs to text for each side."""
    characters = units == "characters"
    write_arpa(arpa, (tokens(sentence, characters) for sentence in sentences), ORDERS[units])
    fusion, labels = Fusion(Arpa(arpa), characters, Weights(0.3, 0.5)), search_labels(vocabulary)
    engines = {
        "native": NativeEngine(labels, fusion, arpa, Search().beam),
        "own": PythonEngine(labels, fusion, Search().beam),
    }

    def searched(engine: NativeEngine | PythonEngine) -> Callable[[np.ndarray], str]:
        return lambda logits_TV: engine.decode(log_probabilities(logits_TV, vocabulary))[0].text

    return {name: searched(engine) for name, engine in engines.items()}


def material() -> tuple[list[str], dict[str, int], list[np.ndarray]]:
    """Training sentences, the vocabulary, and outputs for other sentences, each (frames, labels); always the same."""
    rng, grammar = np.random.default_rng(0), load_grammar(LANGUAGE)
    texts = [normalise(grammar.sample(rng).text, Text(), LANGUAGE) for _ in range(TRAINING + UTTERANCES)]
    vocabulary = build_vocabulary(texts)
    return texts[:TRAINING], vocabulary, [outputs(text, vocabulary, rng) for text in texts[TRAINING:]]


def outputs(text: str, vocabulary: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    """What a network might give for a text, with doubts about its characters."""
    labels = [vocabulary["|" if character == " " else character] for character in text]
    logits_TV = 2.5 * rng.standard_normal((FRAMES_A_CHARACTER * len(labels), len(vocabulary)))
    logits_TV[:, vocabulary[BLANK]] += 15.0
    spelling = np.arange(len(labels)) * FRAMES_A_CHARACTER + 1
    for offset, strength in ((0, 10.0), (1, 6.0)):
        logits_TV[spelling + offset, vocabulary[BLANK]] -= 10.0
        logits_TV[spelling + offset, labels] += strength
    return logits_TV.astype(np.float32)
