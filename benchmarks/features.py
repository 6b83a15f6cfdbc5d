"""Feature preparation from FLAC on one core, beside loops with librosa.

Feature preparation decodes, checks, resamples, measures, hashes and writes the store and its manifest. One loop with
librosa decodes and resamples by the same libraries, and makes the same numbers, hashes and samples, in files of the
simplest kind; it checks nothing, and cannot go on where it was stopped. The other only decodes and takes the RMS.
Run alone with `python benchmarks/features.py`, on synthetic speech or on the FLAC files of `--folder`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from headstart.corpora.manifests import MANIFEST, write_table
from headstart.corpora.synthetic.synthesis import synthesise_corpus
from headstart.features.audio import SAMPLE_RATE
from headstart.features.extraction import extract_features
from headstart.features.resampling import resample

SYNTHETIC_HOURS = 0.25
OTHER_RATE = 48_000  # Hz


def rows(seconds: float = 6.0, threads: int = 1, folder: str | None = None) -> list[dict[str, Any]]:
    """Hours of audio prepared an hour, from 16 kHz and from 48 kHz. `threads` plays no part, all sides use one core.

    Args:
        seconds: least time to measure each side for; sides take turns, and the median of their turns counts.
        folder: where to look for FLAC files, all at 16 kHz; None for synthetic speech.

    Raises:
        ModuleNotFoundError: librosa is not installed; says how to install it.
    """
    try:
        import librosa
    except ModuleNotFoundError as error:
        message = "librosa is not installed: pip install 'headstart[bench]', or pip install librosa"
        raise ModuleNotFoundError(message) from error
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = synthesise_corpus(f"{temporary}/raw", language="en", hours={"train": SYNTHETIC_HOURS}, seed=0)
        files = sorted(str(path) for path in Path(folder).rglob("*.flac"))
        other = [f"{temporary}/{number}.flac" for number in range(len(files))]
        for file, copy in zip(files, other, strict=True):
            samples = resample(soundfile.read(file, dtype="float32")[0], SAMPLE_RATE, OTHER_RATE)
            soundfile.write(copy, samples, OTHER_RATE)
        found = preparation_rows(librosa, Path(temporary), files, "16 kHz FLAC", seconds)
        return found + preparation_rows(librosa, Path(temporary), other, "48 kHz FLAC", seconds)


def preparation_rows(librosa: Any, folder: Path, files: list[str], kind: str, seconds: float) -> list[dict[str, Any]]:
    """A row for each of the two loops."""
    manifest, audio_seconds = write_manifest(folder, files)
    outputs = [f"{folder}/{name}" for name in ("audio.arrow", "features.parquet", "rejects.parquet")]
    peers = {
        "samples, numbers and hashes": lambda: measure_all(librosa, files, folder),
        "decoding and RMS only": lambda: measure_all(librosa, files),
    }
    sides = {"ours": lambda: extract_features(manifest, *outputs), **peers}
    speeds = {name: audio_seconds / took for name, took in take_turns(sides, seconds).items()}
    return [
        {
            "name": f"feature preparation, {kind}",
            "ours": speeds["ours"],
            "peer": speeds[name],
            "ratio": speeds["ours"] / speeds[name],
            "unit": "x real time",
            "peer_name": f"librosa {librosa.__version__}, {name}",
        }
        for name in peers
    ]


def write_manifest(folder: Path, files: list[str]) -> tuple[str, float]:
    """Write a manifest of whole files; returns its path and the seconds of audio in it."""
    durations = [soundfile.info(file).duration for file in files]
    facts = {"offset_s": 0.0, "language": "und"}
    table = (
        {"utterance_id": file, "audio_path": file, "duration_s": duration, **facts}
        for file, duration in zip(files, durations, strict=True)
    )
    write_table(folder / "manifest.parquet", table, MANIFEST)
    return str(folder / "manifest.parquet"), sum(durations)


def measure_all(librosa: Any, files: list[str], folder: Path | None = None) -> None:
    """What librosa offers of the same: decoding to 16 kHz mono, and the level of 20 ms frames and of the clip.

    With a folder, also the other numbers of a feature manifest and the hashes, and all samples in one file.
    """
    stored = open(folder / "samples.raw", "wb") if folder else None
    measured = []
    for file in files:
        samples, _ = librosa.load(file, sr=SAMPLE_RATE, mono=True)
        level = librosa.amplitude_to_db(librosa.feature.rms(y=samples, frame_length=320, hop_length=320, center=False))
        low, high = np.percentile(level, [5, 95])
        rms = np.sqrt(np.mean(samples**2))
        if stored:
            pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
            stored.write(pcm)
            facts = {"num_samples": len(pcm), "loudness_dbfs": float(20 * np.log10(rms + 1e-5)), "snr_db": high - low}
            facts |= {"speech_ratio": float((level > high - 20).mean())}
            measured.append(facts | {"path": file, "content_hash": hashlib.sha256(pcm).hexdigest()[:16]})
    if stored:
        stored.close()
        (folder / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def take_turns(sides: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Median time of a call of each, after one that does not count, until each has run for `seconds`."""
    taken = {name: [] for name in sides}
    for run in sides.values():
        run()
    while any(sum(times) < seconds for times in taken.values()):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="least time to measure each side for")
    parser.add_argument("--folder", help="where to look for FLAC files; by default speech is synthesised")
    try:
        for row in rows(**vars(parser.parse_args())):
            print(f"{row['name']}: {row['ours']:.0f} {row['unit']}, {row['peer_name']}: {row['peer']:.0f}")
    except ModuleNotFoundError as error:
        sys.exit(str(error))
