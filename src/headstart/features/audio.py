"""Audio: a clip decoded to 16 kHz mono, checked, and measured."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import soundfile

from headstart.features.resampling import resample

SAMPLE_RATE = 16_000
RATES = (1000, 1_000_000)  # Hz; a header with another sampling rate is damaged
SILENCE_DBFS = -65.0  # above the level of 16-bit dither and idle converters, well below the faintest usable speech
MAX_PEAK = 100.0  # times full scale, which is 40 dB above it; no recording has a higher peak


class SampleError(ValueError):
    """A clip that cannot be a recording, because its samples or its sampling rate are impossible."""


def load_audio(path: str, offset_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """Decode a clip to 16 kHz mono.

    Returns:
        int16 samples, shape (num_samples,).

    Raises:
        soundfile.LibsndfileError: the file is missing or cannot be decoded.
        SampleError: samples are not finite or far beyond full scale, there is no sound beside a constant offset, or the
            sampling rate is none of `RATES`.
    """
    with soundfile.SoundFile(path) as file:
        rate, subtype = file.samplerate, file.subtype
        if not RATES[0] <= rate <= RATES[1]:
            raise SampleError(f"sampling rate of {rate} Hz in the header, which is damaged; write the file anew")
        if offset_s:
            file.seek(round(offset_s * rate))
        frames = -1 if duration_s is None else round(duration_s * rate)
        samples = file.read(frames, dtype="float32", always_2d=True)
    check_numbers(samples, subtype)
    samples = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    _check_offset(samples)  # before resampling, which adds flanks to a constant clip
    if rate != SAMPLE_RATE:
        samples = resample(samples, rate, SAMPLE_RATE)
    return to_int16(samples)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples, of which those beyond full scale are clipped, as int16."""
    samples = np.clip(samples, -1.0, 1.0)
    samples *= 32767
    return np.rint(samples, out=samples).astype(np.int16)


def check_numbers(samples: np.ndarray, subtype: str) -> None:
    """Raise `SampleError` unless all samples are finite, and all but a few peaks are between -1 and 1.

    In compressed formats any number of samples may exceed 1, because whoever writes them does not choose the scale.
    """
    if not samples.size or (samples.min() >= -1 and samples.max() <= 1):  # NaN fails both comparisons
        return
    size = np.abs(samples)
    counts = {"NaN": np.isnan(size).sum(), "infinite": np.isinf(size).sum()}
    if any(counts.values()):
        listing = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        raise SampleError(f"samples that are no numbers: {listing}, of {size.size}; write the file anew")
    if subtype in ("FLOAT", "DOUBLE") and (size <= 1).mean() < 0.99:
        raise SampleError("samples beyond full scale (1.0): write floats between -1 and 1, or integers")
    if count := int((size > MAX_PEAK).sum()):
        facts = f"{count} of {size.size} beyond {MAX_PEAK:g} times full scale, up to {size.max():.3g}"
        raise SampleError(f"absurd samples: {facts}; write the file anew")


def _check_offset(samples: np.ndarray) -> None:
    """Raise `SampleError` for a clip that holds nothing but a constant offset.

    A clip of zeros passes: it is rejected as silent when its loudness has been measured.
    """
    # A quick test first: most clips have far more than the -50 dBFS around their mean that 1e-5 stands for.
    if not len(samples) or np.dot(samples, samples) / len(samples) - samples.mean() ** 2 > 1e-5:
        return
    samples = samples.astype(np.float64)
    mean, level = samples.mean(), _dbfs(samples.var())
    if _dbfs(np.square(samples).mean()) < SILENCE_DBFS:
        return
    if samples.min() == samples.max():
        raise SampleError(f"constant: every sample is {mean:.4g} of full scale, and there is no sound")
    if level < SILENCE_DBFS:
        raise SampleError(f"constant offset: {mean:.4g} of full scale, and the sound around it has {level:.0f} dBFS")


def _dbfs(energy: float) -> float:
    """Level of a mean square of samples, in dB relative to full scale."""
    return float(10 * np.log10(energy + 1e-10))


def measure(samples: np.ndarray) -> dict[str, Any]:
    """Loudness, signal-to-noise ratio and share of speech of a clip, estimated from the energy of 20 ms frames.

    Args:
        samples: int16, shape (num_samples,), 16 kHz.

    Returns:
        `loudness_dbfs` (RMS), `snr_db` (95th over 5th percentile of frame energy, an estimate that needs pauses),
        `speech_ratio` (frames within 20 dB of the 95th percentile), `num_samples`, `content_hash`.
    """
    energy = samples.astype(np.float32)
    energy /= 32768
    np.square(energy, out=energy)
    frames = energy[: len(energy) // 320 * 320].reshape(-1, 320) if len(energy) >= 320 else energy[None]
    level_db = 10 * np.log10(frames.mean(axis=1) + 1e-10)
    low, high = np.percentile(level_db, [5, 95])
    return {
        "num_samples": len(samples),
        "loudness_dbfs": float(10 * np.log10(energy.mean() + 1e-10)) if len(energy) else -100.0,
        "snr_db": float(high - low),
        "speech_ratio": float((level_db > high - 20).mean()),
        "content_hash": content_hash(samples),
    }


def content_hash(samples: np.ndarray) -> str:
    """Short hash of a clip's int16 samples: 16 hexadecimal digits."""
    return hashlib.sha256(samples).hexdigest()[:16]
