"""Resampling of synthetic speech by torchaudio.

Recordings are resampled by soxr (see `headstart.features.resampling`), which is faster. Here a filter stays that the
audio of earlier studies was made with: synthetic corpora keep their samples, and starts trained on them their results.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

# The low-pass filter: a sinc function in a Kaiser window of 48 zero crossings on each side. From 22.05 to 16 kHz, it
# passes frequencies up to 7.3 kHz within 0.1 dB, and attenuates those above 8.2 kHz by 100 dB.
FILTER = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 48,
    "rolloff": 0.96,
    "beta": 10.0,
}


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples at another rate, without what lies above half of the lower one of both.

    Args:
        samples: float32, shape (num_samples,).
        rate: their sampling rate, Hz.
        to: the wanted sampling rate, Hz.

    Returns:
        float32 samples, shape (ceil(num_samples * to / rate),).
    """
    if rate == to:
        return samples
    import torch  # here, because it takes seconds

    with torch.inference_mode():
        return _resampler(rate, to)(torch.from_numpy(np.ascontiguousarray(samples))).numpy()


@cache
def _resampler(rate: int, to: int) -> Any:
    """torchaudio's `Resample`, with filters that are computed in double precision."""
    import torch
    from torchaudio.transforms import Resample

    resampler = Resample(rate, to, **FILTER, dtype=torch.float64)
    resampler.kernel = resampler.kernel.float()
    return resampler
