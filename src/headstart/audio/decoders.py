"""Decoders: libsndfile for what it opens, FFmpeg (PyAV) for the rest and where a header is not to be believed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import soundfile

from headstart.audio.headers import HEADER, MAX_FRAMES, HeaderError, check_header, doubt
from headstart.audio.sources import AudioError, Source

SOUNDFILE_ERRORS = (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError)  # TypeError: headerless
MAX_CHANNELS = 64
DAMAGED = 0.01  # share of the packets of a file that may be damaged; a tag between two joined files looks like one
BLOCK = 1 << 18  # frames that are decoded at a time


class SoundFileDecoder:
    """Frames of a file that libsndfile opens."""

    def __init__(self, source: Source):
        self.source, self.file = source, soundfile.SoundFile(source.opened)
        self.rate, self.channels, self.frames = self.file.samplerate, self.file.channels, self.file.frames
        self.form, self.coding = self.file.format, self.file.subtype  # kept: soundfile searches a list each time
        self.is_float = self.coding in ("FLOAT", "DOUBLE")
        self.said: list[str] = []  # of the file as a whole

    def read(self, start: int, frames: int) -> np.ndarray:
        """float32 samples, shape (up to `frames`, channels)."""
        before = 0
        if self.form in ("OGG", "MP3", "MPEG") and (start or self.file.tell()):
            # soundfile jumps after every read. With libsndfile 1.2.2, some 4,000 samples after a jump are wrong in MP3,
            # whose frames need the bits of earlier ones, and a few in Ogg unless the file has just been opened.
            self.close()
            self.file = soundfile.SoundFile(self.source.opened)
            before = min(start, self.rate)
        if start - before != self.file.tell():
            self.file.seek(start - before)
        return self.file.read(before + frames, dtype="float32", always_2d=True)[before:]

    @property
    def notes(self) -> list[str]:
        """What to say of the audio that was read."""
        return self.said

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class AvDecoder:
    """Frames of a file that FFmpeg opens. They are always decoded from the file's beginning.

    So the samples of a stretch do not depend on what was read before it, as they would after seeking to a time that
    the container gives. Stretches in their order are decoded in one pass.
    """

    def __init__(self, source: Source):
        import av  # here, because most corpora do not need it

        self.source, self._av_error = source, av.error.FFmpegError
        self.said: list[str] = []  # of the file as a whole
        self._blocks: Iterator[np.ndarray] = iter(())
        self._held = np.zeros((0, 1), np.float32)
        self._position = 0  # of the first frame of `_held`
        self._open()
        self.frames: int | None = None  # only known when all are decoded
        self.is_float = self.stream.format is not None and self.stream.format.name.startswith(("flt", "dbl"))

    @property
    def form(self) -> str:
        """The container's format."""
        name = self.container.format.name
        return "OGG" if name == "ogg" else "MP4" if "mp4" in name else name

    @property
    def notes(self) -> list[str]:
        """What to say of the audio that was read."""
        passed = [f"{self.damaged} damaged packets passed over"] if self.damaged else []
        return [*self.said, *passed]

    @property
    def stated_seconds(self) -> float | None:
        """The length in the header, where it is one that the container keeps exactly."""
        if not any(kind in self.container.format.name for kind in ("mp4", "matroska", "flac", "ogg")):
            return None
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return self.container.duration / 1e6 if self.container.duration else None

    def _open(self) -> None:
        import av

        av.logging.set_level(None)
        try:
            self.container = av.open(self.source.opened, metadata_errors="ignore")
            if not self.container.streams.audio:
                raise AudioError("undecodable audio: the file has no audio stream")
            self.stream = self.container.streams.audio[0]
            if self.stream.codec_context is None:
                raise AudioError("undecodable audio: there is no decoder for its codec")
            self.stream.thread_count = 1
            self.stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer"}
            self.rate, self.channels = self.stream.rate or 0, self.stream.channels or 0
        except (self._av_error, OSError, ValueError, OverflowError) as error:
            raise _undecodable(error) from None
        self._blocks, self._position = self._decoded(), 0
        self._held = np.zeros((0, self.channels), np.float32)

    def _decoded(self) -> Iterator[np.ndarray]:
        """Blocks of float32 samples, shape (frames, channels). Packets that are damaged are passed over and counted."""
        self.packets = self.damaged = 0
        for packet in self.container.demux(self.stream):
            self.packets += 1
            try:
                frames = packet.decode()
            except self._av_error:
                frames = []
                self.damaged += 1
            self.damaged += sum(frame.is_corrupt for frame in frames)
            if self.damaged > max(2, DAMAGED * self.packets):
                raise AudioError(f"undecodable audio: {self.damaged} of the first {self.packets} packets are damaged")
            for frame in frames:
                if frame.rate != self.rate or len(frame.layout.channels) != self.channels:
                    raise AudioError("undecodable audio: rate or channels change within the file; write the file anew")
                yield _as_floats(frame.to_ndarray(), frame.format, self.channels)

    def read(self, start: int, frames: int) -> np.ndarray:
        """float32 samples, shape (up to `frames`, channels)."""
        if start < self._position:
            self.close()
            self._open()
        parts, wanted = [], start + frames
        position, held = self._position, self._held
        try:
            while True:
                end = position + len(held)
                if end > start:
                    parts.append(held[max(0, start - position) : wanted - position])
                if end >= wanted:
                    break
                if (block := next(self._blocks, None)) is None:
                    self.frames = end
                    break
                position, held = end, block
        except (self._av_error, OSError, ValueError) as error:
            raise error if isinstance(error, AudioError) else _undecodable(error) from None
        self._position, self._held = position, held
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def close(self) -> None:
        """Close the file."""
        self.container.close()


Decoder = SoundFileDecoder | AvDecoder


def open_decoder(source: Source) -> Decoder:
    """The decoder of some audio.

    libsndfile decodes what it opens, unless its header's length is in doubt (see `headers.py`) and FFmpeg decodes more.

    Raises:
        AudioError: nothing decodes it, or its header is damaged.
    """
    decoder, problem = None, None
    try:
        decoder = SoundFileDecoder(source)
    except SOUNDFILE_ERRORS as error:
        problem = error
    try:
        head = source.part(0, HEADER)
        check_header(source, head)
        if decoder is not None:
            _check(decoder)
            if not doubt(decoder, head):
                return decoder
        other = _av(source)
    except HeaderError as error:
        raise AudioError(str(error)) from None
    except OSError as error:
        raise AudioError(f"the file cannot be read: {error.strerror}") from None
    if other is not None and (decoder is None or count_frames(other) > 1.01 * _readable(decoder)):
        _check(other)
        return other
    if decoder is None:
        raise _undecodable(problem)
    if not decoder.frames <= MAX_FRAMES:
        raise AudioError("no length in the header; write the file anew")
    return decoder


def _av(source: Source) -> AvDecoder | None:
    try:
        return AvDecoder(source)
    except AudioError:
        return None


def _check(decoder: Decoder) -> None:
    if not 1 <= decoder.channels <= MAX_CHANNELS:
        raise AudioError(f"{decoder.channels} channels in the header, which is damaged; write the file anew")
    if not decoder.rate:
        raise AudioError("sampling rate of 0 Hz in the header, which is damaged; write the file anew")


def _readable(decoder: SoundFileDecoder) -> int:
    return decoder.frames if decoder.frames <= MAX_FRAMES else 0


def count_frames(decoder: AvDecoder) -> int:
    """Number of frames, by decoding all of them; 0 where that fails."""
    with contextlib.suppress(AudioError):
        position = 0
        while decoder.frames is None:
            position += BLOCK
            decoder.read(position, 0)
    return decoder.frames or 0


def _as_floats(samples: np.ndarray, kind: object, channels: int) -> np.ndarray:
    """FFmpeg's samples as float32 from -1 to 1, shape (frames, channels)."""
    samples = samples.T if kind.is_planar else samples.reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32)


def _undecodable(error: Exception | None) -> AudioError:
    return AudioError(f"undecodable audio: {' '.join(str(error).split())}")
