"""Recordings: the length and the channels of one, as far as can be believed, and stretches of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from headstart.audio.decoders import AvDecoder, Decoder, count_frames, open_decoder
from headstart.audio.integrity import DamageError, check_integrity
from headstart.audio.sources import AudioError, find_source

LONG_ENOUGH = 0.95  # share of the length that is expected; the headers of some formats give an approximate one


class Recording(NamedTuple):
    """What is known of a recording without listening to it."""

    seconds: float
    channels: int


def describe_recording(path: str) -> Recording:
    """Length and channels of a recording.

    The length is that of its header where this agrees with the file's size, and decoded otherwise.

    Raises:
        AudioError: it cannot be decoded.
    """
    decoder = open_decoder(find_source(path))
    try:
        frames = decoder.frames
        if isinstance(decoder, AvDecoder) and frames is None:
            frames = count_frames(decoder)
            stated = decoder.stated_seconds
            if stated and frames / decoder.rate < LONG_ENOUGH * stated:
                seconds = frames / decoder.rate
                raise AudioError(f"truncated: {seconds:.2f} s of {stated:.2f} s, by its header; fetch the file anew")
        if not frames:
            raise AudioError("no audio: the file has 0 samples")
        return Recording(frames / decoder.rate, decoder.channels)
    finally:
        decoder.close()


class Recordings:
    """Opens recordings; the one that was read last stays open, because the stretches of one follow one another."""

    def __init__(self):
        self._held: tuple[object, Decoder] | None = None

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[Decoder]:
        """The decoder of a recording; raises `AudioError` where there is none."""
        source = find_source(path)
        key = (path, source.size, source.changed)
        if self._held is None or self._held[0] != key:
            self.close()
            decoder = open_decoder(source)
            self._held = key, decoder
            try:
                note = check_integrity(source, decoder.form, decoder.frames or 0)
            except DamageError as error:
                self.close()
                raise AudioError(str(error)) from None
            decoder.said += filter(None, [note])
        try:
            yield self._held[1]
        except BaseException:
            self.close()  # whatever state it is in
            raise

    def close(self) -> None:
        """Close what is open."""
        if self._held is not None:
            self._held[1].close()
            self._held = None
