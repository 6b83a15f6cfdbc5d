"""Recordings of any length, decoded to 16 kHz mono block by block, so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from headstart.features.audio import RATES, SAMPLE_RATE, SampleError, check_numbers, to_int16
from headstart.features.resampling import resample

BLOCK_S = 10  # whole seconds, so that blocks begin on samples of both rates
MARGIN_S = 1  # decoded on both sides of a block and dropped after resampling, whose filters reach beyond the block
UNREADABLE = (soundfile.LibsndfileError, SampleError, RuntimeError, OSError, TypeError)
"""What `recording_blocks` and `recording_seconds` raise for a file that cannot be decoded."""


def recording_seconds(path: str | Path) -> float | None:
    """How long a recording is by its header; None where that does not say it."""
    seconds = soundfile.info(str(path)).duration
    return seconds if 0 < seconds < 1e6 else None


def recording_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The int16 samples of a recording at 16 kHz, mono, in blocks of `BLOCK_S` seconds; the last one may be shorter.

    Together they are the samples that `load_audio` returns for the whole file, which has no sound that would be judged
    as a whole, such as a constant offset.

    Raises:
        soundfile.LibsndfileError: the file is missing or cannot be decoded.
        SampleError: samples are not finite or far beyond full scale, or the sampling rate is none of `RATES`.
    """
    with soundfile.SoundFile(str(path)) as file:
        rate, subtype = file.samplerate, file.subtype
        if not RATES[0] <= rate <= RATES[1]:
            raise SampleError(f"sampling rate of {rate} Hz in the header, which is damaged; write the file anew")
        held, before = np.zeros(0, np.float32), 0  # decoded samples, the first `before` seconds of them emitted already
        while True:
            samples = file.read(BLOCK_S * rate, dtype="float32", always_2d=True)
            check_numbers(samples, subtype)
            last = len(samples) < BLOCK_S * rate
            held = np.concatenate([held, samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]])
            whole = to_int16(resample(held, rate, SAMPLE_RATE))
            end = len(whole) if last else (len(held) // rate - MARGIN_S) * SAMPLE_RATE
            if end > before * SAMPLE_RATE:
                yield whole[before * SAMPLE_RATE : end]
            if last:
                return
            kept = 2 * MARGIN_S * rate
            held, before = held[-kept:], MARGIN_S
