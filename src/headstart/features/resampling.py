"""Resampling by soxr, which needs neither torch nor a filter of its own for each pair of rates."""

from __future__ import annotations

import numpy as np
import soxr

# soxr's own default. To 16 kHz from a higher rate, it passes frequencies up to 7.3 kHz within 0.01 dB, and attenuates
# those above 8 kHz by 120 dB, to less than the rounding noise of 16-bit samples.
QUALITY = "HQ"


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples at another rate, without what lies above half of the lower one of both.

    Args:
        samples: float32, shape (num_samples,).
        rate: their sampling rate, Hz.
        to: the wanted sampling rate, Hz.

    Returns:
        float32 samples, shape (num_samples * to / rate,), rounded to the nearest whole number.
    """
    return samples if rate == to else soxr.resample(samples, rate, to, QUALITY)


class ResamplingStream:
    """The same for samples that come in blocks: what is returned for all blocks together is what `resample` returns.

    Args:
        rate: their sampling rate, Hz.
        to: the wanted sampling rate, Hz.
    """

    def __init__(self, rate: int, to: int):
        self._stream = None if rate == to else soxr.ResampleStream(rate, to, 1, "float32", QUALITY)

    def add(self, samples: np.ndarray, last: bool) -> np.ndarray:
        """Take a block, float32 of shape (num_samples,), and return what is ready: with the last one, all the rest."""
        return samples if self._stream is None else self._stream.resample_chunk(samples, last)
