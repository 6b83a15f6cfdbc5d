"""Recordings of any length, decoded to 16 kHz mono block by block, so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headstart.audio.decoders import SOUNDFILE_ERRORS, AvDecoder, open_decoder
from headstart.audio.recordings import Recordings
from headstart.audio.sources import AudioError, find_source
from headstart.features.audio import RATES, SAMPLE_RATE, to_int16
from headstart.features.resampling import ResamplingStream
from headstart.features.samples import SampleError, check_numbers, mix

BLOCK_S = 10  # decoded at a time


def recording_seconds(path: str | Path) -> float | None:
    """How long a recording is by its header; None where that does not say it.

    Raises:
        AudioError: the file is missing or cannot be decoded.
    """
    decoder = open_decoder(find_source(str(path)))
    try:
        if decoder.frames is not None:
            return decoder.frames / decoder.rate
        return decoder.stated_seconds if isinstance(decoder, AvDecoder) else None
    finally:
        decoder.close()


def recording_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The int16 samples of a recording at 16 kHz, mono, in blocks of about `BLOCK_S` seconds; the last may be shorter.

    Together they are the samples that `load_audio` returns for the whole file, except where that judges the file as a
    whole: here, silent and cancelling channels are looked for in each block, and nothing is refused as a constant
    offset or as clipped.

    Raises:
        AudioError: the file is missing or cannot be decoded, samples are not finite or far beyond full scale, or the
            sampling rate is none of `RATES`.
    """
    recordings = Recordings()
    try:
        with recordings.opened(str(path)) as decoder:
            rate = decoder.rate
            if not RATES[0] <= rate <= RATES[1]:
                raise SampleError(f"sampling rate of {rate} Hz in the header, which is damaged; write the file anew")
            stream, position, last = ResamplingStream(rate, SAMPLE_RATE), 0, False
            while not last:
                try:
                    samples = decoder.read(position, BLOCK_S * rate)
                except SOUNDFILE_ERRORS as error:
                    raise (
                        error if isinstance(error, AudioError) else AudioError(f"undecodable audio: {error}")
                    ) from None
                check_numbers(samples, decoder.is_float)
                position += len(samples)
                last = len(samples) < BLOCK_S * rate
                block = stream.add(mix(samples, None)[0], last)
                if len(block):
                    yield to_int16(block)
    finally:
        recordings.close()
