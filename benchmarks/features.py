"""Feature preparation from FLAC on one core, beside a loop with librosa.

Feature preparation decodes, checks, resamples, measures, hashes and writes the store and its manifest. The loop with
librosa decodes and resamples by the same libraries, and makes the same numbers, hashes and samples, a file for each
clip; it checks nothing, and cannot go on where it was stopped. Both write to memory (`/dev/shm`) where there is room,
because only preparation waits until its files are safe on a disk; the rows say where they wrote. Run alone with `python
benchmarks/features.py`, on synthetic speech or on the FLAC files of `--folder`; this also shows how fast the files are
decoded and nothing else is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
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

SYNTHETIC_HOURS = 1.0
OTHER_RATE = 48_000  # Hz
IN_MEMORY, ROOM = Path("/dev/shm"), 2 << 30  # a file system in memory, and the bytes that are needed there


def rows(seconds: float = 6.0, threads: int = 1, folder: str | None = None) -> list[dict[str, Any]]:
    """Hours of audio prepared an hour, from 16 kHz and from 48 kHz. `threads` plays no part, both sides use one core.

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
    in_memory = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if in_memory else None) as temporary:
        if folder is None:
            folder = synthesise_corpus(f"{temporary}/raw", language="en", hours={"train": SYNTHETIC_HOURS}, seed=0)
        files = sorted(str(path) for path in Path(folder).rglob("*.flac"))
        other = [f"{temporary}/{number}.flac" for number in range(len(files))]
        for file, copy in zip(files, other, strict=True):
            samples = resample(soundfile.read(file, dtype="float32")[0], SAMPLE_RATE, OTHER_RATE)
            soundfile.write(copy, samples, OTHER_RATE)
        kinds = {"16 kHz FLAC": files, "48 kHz FLAC": other}
        rows = [preparation_row(librosa, Path(temporary), kinds[kind], kind, seconds) for kind in kinds]
        return [{**row, "note": f"written to {IN_MEMORY if in_memory else 'disk'}"} for row in rows]


def preparation_row(librosa: Any, folder: Path, files: list[str], kind: str, seconds: float) -> dict[str, Any]:
    """Preparation of some files beside the loop with librosa; `decoding` is the speed of decoding alone."""
    manifest, audio_seconds = write_manifest(folder, files)
    outputs = [f"{folder}/{name}" for name in ("audio.arrow", "features.parquet", "rejects.parquet")]
    sides = {
        "ours": lambda: extract_features(manifest, *outputs),
        "peer": lambda: measure_all(librosa, files, folder),
        "decoding": lambda: [soundfile.read(file, dtype="float32") for file in files],
    }
    speeds = {name: audio_seconds / took for name, took in take_turns(sides, seconds).items()}
    return {
        "name": f"feature preparation, {kind}",
        **speeds,
        "ratio": speeds["ours"] / speeds["peer"],
        "unit": "x real time",
        "peer_name": f"librosa {librosa.__version__}, the same samples, numbers and hashes",
    }


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


def measure_all(librosa: Any, files: list[str], folder: Path) -> None:
    """What preparation makes of files, by librosa, as scripts do: the samples of each at 16 kHz, mono, in a file of its
    own, and the numbers and hashes of a feature manifest in another one."""
    measured = []
    (folder / "samples").mkdir(exist_ok=True)
    for number, file in enumerate(files):
        samples, _ = librosa.load(file, sr=SAMPLE_RATE, mono=True)
        energy = librosa.feature.rms(y=samples, frame_length=320, hop_length=320, center=False)
        level = librosa.amplitude_to_db(energy)
        low, high = np.percentile(level, [5, 95])
        pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        np.save(folder / "samples" / f"{number}.npy", pcm)
        loudness = float(20 * np.log10(np.sqrt(np.mean(samples**2)) + 1e-5))
        facts = {"num_samples": len(pcm), "loudness_dbfs": loudness, "snr_db": high - low}
        facts |= {"speech_ratio": float((level > high - 20).mean())}
        measured.append(facts | {"path": file, "content_hash": hashlib.sha256(pcm).hexdigest()[:16]})
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
            print(f"{row['name']}: {row['ours']:.0f} {row['unit']}, {row['peer_name']}: {row['peer']:.0f}, ", end="")
            print(f"decoding alone: {row['decoding']:.0f}")
    except ModuleNotFoundError as error:
        sys.exit(str(error))
