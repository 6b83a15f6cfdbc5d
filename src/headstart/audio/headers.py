"""What the headers of audio files say of their length, and whether it agrees with the size of the file.

Only a few kilobytes of a file are read. Where header and size disagree, `decoders.py` decodes the file to learn its
length.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from headstart.audio.sources import Source

if TYPE_CHECKING:
    from headstart.audio.decoders import SoundFileDecoder

HEADER = 1 << 12  # bytes at the beginning of a file within which nearly all headers lie
LONG_HEADER = 1 << 16  # bytes within which also those with large tags lie
SLACK = 1 << 16  # bytes of tags and the like that may stand behind the audio
MAX_FRAMES = 1 << 40  # a header with more, which is eight months at 48 kHz, does not know the length
UNKNOWN_SIZE = 0x7F000000  # WAV: programs that write to a pipe put a size from here to 0xFFFFFFFF, or 0
WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4} | {
    "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1
}  # fmt: skip
MPEG_SAMPLES = {True: 1152, False: 576}  # of a frame of layer III, by whether it is MPEG 1


class HeaderError(ValueError):
    """A header that shows that a file is cut short, or that two were joined. The message is the reject's reason."""


def doubt(decoder: SoundFileDecoder, head: bytes) -> bool:
    """Whether the length that libsndfile takes from a file's header may be wrong.

    Args:
        head: the file's first `HEADER` bytes.
    """
    if not 0 < decoder.frames <= MAX_FRAMES:
        return True
    size = decoder.source.size
    if decoder.form in ("MP3", "MPEG"):
        return _mp3_goes_on(decoder.source, size)
    if decoder.form == "FLAC":
        return _flac_goes_on(decoder.source, head)
    width = WIDTHS.get(decoder.coding)
    return bool(width) and size - decoder.frames * decoder.channels * width > SLACK + size // 20


def check_header(source: Source, head: bytes) -> None:
    """Raise `HeaderError` where a WAV or NIST sphere file does not hold what its header says.

    Args:
        head: the first `HEADER` bytes.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        _check_wav(source, head if b"data" in head else source.part(0, LONG_HEADER))
    elif head[:7] == b"NIST_1A":
        _check_sphere(source, head)


def _check_sphere(source: Source, head: bytes) -> None:
    fields = dict(re.findall(rb"(\w+) -i (\d+)", head[:1024]))
    count, channels, width = (
        int(fields.get(name, 0)) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
    )
    there, stated = source.size - 1024, count * max(1, channels) * width
    if there < 0.99 * stated and b"shorten" not in head[:1024]:
        raise HeaderError(f"truncated: {there} of {stated} bytes, by its header; fetch the file anew")


def _check_wav(source: Source, head: bytes) -> None:
    place, rate = 12, 0
    while place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        if name == b"fmt " and place + 24 <= len(head):
            code, channels, _, rate, block, bits = struct.unpack_from(
                "<HHIIHH", head, place + 8
            )  # rate: bytes a second
            if code in (1, 3) and block != channels * ((bits + 7) // 8):
                raise HeaderError(f"damaged header: {channels} channels of {bits} bits do not take {block} bytes")
        if name == b"data":
            there = source.size - place - 8
            if there < 0.99 * size and size < UNKNOWN_SIZE:
                facts = f"{there / rate:.2f} s of {size / rate:.2f} s" if rate else f"{there} of {size} bytes"
                raise HeaderError(f"truncated: {facts}, by its header; fetch the file anew")
            after = place + 8 + size + size % 2
            if 0 < size <= there and (next_file := source.part(after, 12))[:4] == b"RIFF" and next_file[8:] == b"WAVE":
                raise HeaderError(f"two recordings in one file: another begins at byte {after}; write the file anew")
            return
        place += 8 + size + size % 2


def _mp3_goes_on(source: Source, size: int) -> bool:
    """Whether bytes follow the stream whose length the first frame gives (a Xing or Info tag with frames and bytes)."""
    begin = id3_size(source.part(0, 10))
    head = source.part(begin, 4096)
    tag = max(head.find(b"Xing"), head.find(b"Info"))
    if tag < 0 or len(head) < tag + 16:
        return False  # libsndfile then counts the frames
    flags, frames, length = struct.unpack_from(">III", head, tag + 4)
    return flags & 3 != 3 or abs(size - begin - length) > max(4096, length // 50)


def id3_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag at the beginning of an MP3 or FLAC file."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _flac_goes_on(source: Source, head: bytes) -> bool:
    """Whether a FLAC file is larger than its largest frames together could be."""
    begin = id3_size(head)
    size, head = source.size - begin, source.part(begin, 26) if begin else head
    if head[:4] != b"fLaC" or len(head) < 26:
        return False
    block, largest = struct.unpack_from(">H", head, 8)[0], int.from_bytes(head[15:18], "big")
    frames = int.from_bytes(head[18:26], "big") & (1 << 36) - 1
    return bool(largest and block) and size > SLACK + (frames // block + 1) * largest
