"""Feature preparation from 16 kHz FLAC on one core, beside librosa, and resampling beside soxr.

Feature preparation decodes, measures, hashes and writes the store and its manifest; librosa decodes and takes the
RMS of each clip.
Run alone with `python benchmarks/features.py`, on synthetic speech or on the FLAC files of `--folder`.
"""

from __future__ import annotations

import argparse
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
RATES = (22_050, 44_100, 48_000)


def rows(seconds: float = 6.0, threads: int = 1, folder: str | None = None) -> list[dict[str, Any]]:
    """Hours of audio prepared, and resampled, an hour. `threads` plays no part, both sides use one core.

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
        manifest, audio_seconds = write_manifest(Path(temporary), files)
        outputs = [f"{temporary}/{name}" for name in ("audio.arrow", "features.parquet", "rejects.parquet")]
        sides = {"ours": lambda: extract_features(manifest, *outputs), "peer": lambda: measure_all(librosa, files)}
        speeds = {name: audio_seconds / took for name, took in take_turns(sides, seconds).items()}
    row = {"name": "feature preparation, 16 kHz FLAC", **speeds, "ratio": speeds["ours"] / speeds["peer"]}
    row |= {"unit": "x real time", "peer_name": f"librosa {librosa.__version__}, decoding and RMS only"}
    return [row, *resampling_rows(seconds)]


def resampling_rows(seconds: float) -> list[dict[str, Any]]:
    """Hours of audio resampled to 16 kHz an hour, beside soxr in its default quality, on clips of 6 s."""
    import soxr
    import torch

    threads, made = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for rate in RATES:
        clip = 0.1 * np.random.default_rng(0).standard_normal(6 * rate, dtype=np.float32)
        sides = {
            "ours": lambda clip=clip, rate=rate: resample(clip, rate, SAMPLE_RATE),
            "peer": lambda clip=clip, rate=rate: soxr.resample(clip, rate, SAMPLE_RATE),
        }
        speeds = {name: 6 / took for name, took in take_turns(sides, seconds / len(RATES)).items()}
        row = {"name": f"resampling, {rate} Hz", **speeds, "ratio": speeds["ours"] / speeds["peer"]}
        made.append({**row, "unit": "x real time", "peer_name": f"soxr {soxr.__version__}"})
    torch.set_num_threads(threads)
    return made


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


def measure_all(librosa: Any, files: list[str]) -> None:
    """What librosa offers of the same: decoding to 16 kHz mono, and the level of 20 ms frames and of the clip."""
    for file in files:
        samples, _ = librosa.load(file, sr=SAMPLE_RATE, mono=True)
        level = librosa.amplitude_to_db(librosa.feature.rms(y=samples, frame_length=320, hop_length=320, center=False))
        np.percentile(level, [5, 95])
        np.sqrt(np.mean(samples**2))


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
