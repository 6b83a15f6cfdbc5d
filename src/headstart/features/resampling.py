"""Resampling by torchaudio, with filters that are made once for each pair of rates."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

# The low-pass filter: a sinc function in a Kaiser window of 48 zero crossings on each side. From 44.1 or 48 kHz to
# 16 kHz, it passes frequencies up to 7.3 kHz within 0.1 dB, and attenuates those above 8.2 kHz by 100 dB, to less than
# the rounding noise of 16-bit samples.
FILTER = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 48,
    "rolloff": 0.96,
    "beta": 10.0,
}
# The ratio of two rates is taken as a fraction with at most this denominator, because a filter is held for each output
# sample of a period. Common rates are below it; for others, such as 11,127 Hz, pitch changes by less than one in a
# thousand.
LARGEST_PERIOD = 1000
# Output samples that are computed at a time, at least: a convolution with few output channels is several times slower.
LEAST_CHANNELS = 16


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples at another rate, without what lies above half of the lower one of both.

    Args:
        samples: float32, shape (num_samples,).
        rate: their sampling rate, Hz.
        to: the wanted sampling rate, Hz.

    Returns:
        float32 samples, shape (ceil(num_samples * to / rate),), for common rates.
    """
    ratio = Fraction(rate, to).limit_denominator(LARGEST_PERIOD)
    if ratio == 1:
        return samples
    import torch  # here, because it takes seconds, and most jobs with audio do not need it

    with torch.inference_mode():
        return _resampler(ratio.numerator, ratio.denominator)(torch.from_numpy(np.ascontiguousarray(samples))).numpy()


@cache
def _resampler(step: int, period: int) -> Any:
    """torchaudio's `Resample`, with its filters repeated so that at least `LEAST_CHANNELS` samples are made at a time.

    From 48 kHz to 16 kHz, say, every third sample of a convolution with one filter is kept. This is computed as every
    48th sample of a convolution with 16 copies of the filter, each of them shifted by three samples.
    """
    import torch
    from torchaudio.transforms import Resample

    resampler = Resample(step, period, **FILTER, dtype=torch.float64)
    copies = -(-LEAST_CHANNELS // period)
    filters, size = resampler.kernel, resampler.kernel.shape[-1]  # (period, 1, size)
    repeated = filters.new_zeros(copies * period, 1, size + (copies - 1) * step)
    for copy in range(copies):
        repeated[copy * period : (copy + 1) * period, :, copy * step : copy * step + size] = filters
    resampler.kernel = repeated.float()
    resampler.orig_freq, resampler.new_freq = copies * step, copies * period
    return resampler
