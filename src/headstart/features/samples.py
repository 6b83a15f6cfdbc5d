"""Checks of decoded samples: what cannot be a recording is rejected, and channels are mixed so that none is lost."""

from __future__ import annotations

import numpy as np

from headstart.audio.sources import AudioError

SILENCE_DBFS = -65.0  # above the level of 16-bit dither and idle converters, well below the faintest usable speech
MAX_PEAK = 100.0  # times full scale, which is 40 dB above it; no recording has a higher peak
FULL_SCALE = 0.999  # a sample from here on is counted as clipped
CLIPPED_NOTED, CLIPPED_REJECTED = 0.01, 0.3  # share of clipped samples from which a clip is named, or rejected
CANCELLED_DB = -12.0  # level of a mix below its channels' mean from which they cancel; unrelated ones lose 3 dB for two


class SampleError(AudioError):
    """A clip that cannot be a recording, because its samples or its sampling rate are impossible."""


def check_numbers(samples: np.ndarray, is_float: bool) -> float:
    """The largest magnitude of all samples, which are finite, and all but a few of them between -1 and 1.

    In compressed formats any number of samples may exceed 1, because whoever writes them does not choose the scale.

    Args:
        samples: float32, shape (frames, channels).
        is_float: whether the file holds floating-point samples.

    Raises:
        SampleError: samples are no numbers, or too many or too far beyond full scale.
    """
    if not samples.size:
        return 0.0
    low, high = float(samples.min()), float(samples.max())
    if low >= -1 and high <= 1:  # NaN fails both comparisons
        return max(-low, high)
    size = np.abs(samples)
    counts = {"NaN": np.isnan(size).sum(), "infinite": np.isinf(size).sum()}
    if any(counts.values()):
        listing = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        raise SampleError(f"samples that are no numbers: {listing}, of {size.size}; write the file anew")
    if is_float and (size <= 1).mean() < 0.99:
        raise SampleError("samples beyond full scale (1.0): write floats between -1 and 1, or integers")
    if count := int((size > MAX_PEAK).sum()):
        facts = f"{count} of {size.size} beyond {MAX_PEAK:g} times full scale, up to {size.max():.3g}"
        raise SampleError(f"absurd samples: {facts}; write the file anew")
    return max(-low, high)


def mix(samples: np.ndarray, channel: int | None) -> tuple[np.ndarray, str | None]:
    """One channel of several, or the mean of those that can be mixed.

    A dead channel beside others is left out of the mix, which it would only make fainter. Where channels cancel each
    other, as those of opposite phase do, the loudest one is taken instead.

    Args:
        samples: float32, shape (frames, channels).
        channel: which one, counted from 0; None for the mix.

    Returns:
        float32 samples, shape (frames,), and what was repaired, or None.

    Raises:
        SampleError: there is no such channel.
    """
    count = samples.shape[1]
    if channel is not None:
        if not 0 <= channel < count:
            raise SampleError(f"no channel {channel}: the audio has {count}, counted from 0")
        return np.ascontiguousarray(samples[:, channel]), None
    if count == 1:
        return samples[:, 0], None
    mixed = samples.mean(axis=1)
    if not len(samples):
        return mixed, None
    energies = np.array([np.dot(row, row) for row in np.ascontiguousarray(samples.T)], np.float64) / len(samples)
    dead = [i for i in range(count) if level(energies[i]) < SILENCE_DBFS]
    if dead and len(dead) < count:
        live = [i for i in range(count) if i not in dead]
        mixed = samples[:, live].mean(axis=1)
        note = f"channel{'s' if len(dead) > 1 else ''} {', '.join(map(str, dead))} of {count} silent, the others taken"
        energies = energies[live]
    else:
        live, note = list(range(count)), None
    if len(live) > 1 and level(energies.mean()) >= SILENCE_DBFS:
        energy = float(np.dot(mixed, mixed)) / len(mixed)
        if level(energy) - level(energies.mean()) < CANCELLED_DB:
            best = live[int(energies.argmax())]
            kept = f"channels of opposite phase, which cancel each other: channel {best} of {count} taken"
            return np.ascontiguousarray(samples[:, best]), kept
    return mixed, note


def check_offset(samples: np.ndarray) -> None:
    """Raise `SampleError` for a clip that holds nothing but a constant offset.

    A clip of zeros passes: it is rejected as silent when its loudness has been measured.
    """
    # A quick test first. In most clips, the middle fifth has far more than -50 dBFS (1e-5) around its mean. The whole
    # then has at least a fifth of that energy around its own mean, which is above -60 dBFS.
    middle = samples[len(samples) * 2 // 5 : len(samples) * 3 // 5]
    if not len(samples) or (len(middle) and np.dot(middle, middle) / len(middle) - middle.mean() ** 2 > 1e-5):
        return
    samples = samples.astype(np.float64)
    mean, around = samples.mean(), level(samples.var())
    if level(np.square(samples).mean()) < SILENCE_DBFS:
        return
    if samples.min() == samples.max():
        raise SampleError(f"constant: every sample is {mean:.4g} of full scale, and there is no sound")
    if around < SILENCE_DBFS:
        raise SampleError(f"constant offset: {mean:.4g} of full scale, and the sound around it has {around:.0f} dBFS")


def check_clipping(samples: np.ndarray, peak: float) -> str | None:
    """What to say of a clip with many samples at full scale, or None.

    Args:
        samples: float32, shape (frames,).
        peak: no sample's magnitude is larger; below full scale, the samples are not looked at.

    Raises:
        SampleError: so many that hardly anything of the sound is left.
    """
    if not len(samples) or peak < FULL_SCALE:
        return None
    share = float((np.abs(samples) >= FULL_SCALE).mean())
    if share >= CLIPPED_REJECTED:
        raise SampleError(
            f"clipped: {share:.0%} of its samples are at full scale; record or convert it at a lower level"
        )
    return f"clipped: {share:.1%} of its samples are at full scale" if share >= CLIPPED_NOTED else None


def level(energy: float) -> float:
    """Level of a mean square of samples, in dB relative to full scale."""
    return float(10 * np.log10(energy + 1e-10))
