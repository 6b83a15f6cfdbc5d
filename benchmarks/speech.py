"""Synthetic speech to train on: clips of 2 to 15 s that have been through the feature stage."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from headstart.corpora.manifests import MANIFEST, write_table
from headstart.corpora.synthetic.synthesis import synthesise_corpus
from headstart.features.audio import SAMPLE_RATE, load_audio
from headstart.features.extraction import extract_features

LENGTHS = (2.0, 15.0)  # seconds


def synthesise(folder: Path, seconds: float) -> dict[str, str]:
    """Write about `seconds` of English and return the paths `features` and `audio` of `Clips.open`.

    Synthetic sentences are short, so each clip joins as many as fit into a length drawn evenly from `LENGTHS`.
    """
    synthesise_corpus(folder / "raw", language="en", hours={"train": seconds / 3600}, seed=0)
    with open(folder / "raw" / "metadata.tsv", encoding="utf-8", newline="") as table:
        sentences = list(csv.DictReader(table, delimiter="\t"))
    rng, rows, audio, text, limit = np.random.default_rng(0), [], [], [], 0.0
    for sentence in sentences:
        samples = load_audio(str(folder / "raw" / sentence["path"]))
        if audio and sum(map(len, audio)) + len(samples) > limit:
            rows.append(_write_clip(folder / f"clip{len(rows):04d}.wav", audio, text))
            audio, text = [], []
        if not audio:
            limit = rng.uniform(*LENGTHS) * SAMPLE_RATE
        audio.append(samples)
        text.append(sentence["text"])
    rows.append(_write_clip(folder / f"clip{len(rows):04d}.wav", audio, text))
    write_table(folder / "manifest.parquet", rows, MANIFEST)
    paths = {"features": str(folder / "clips.parquet"), "audio": str(folder / "clips.arrow")}
    extract_features(str(folder / "manifest.parquet"), **paths, rejects=str(folder / "rejects.parquet"))
    return paths


def _write_clip(path: Path, audio: list[np.ndarray], text: list[str]) -> dict[str, object]:
    samples = np.concatenate(audio)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    facts = {"utterance_id": path.stem, "audio_path": str(path), "offset_s": 0.0, "language": "en"}
    return {**facts, "duration_s": len(samples) / SAMPLE_RATE, "text": " ".join(text)}
