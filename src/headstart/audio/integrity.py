"""Whether the whole of a compressed file is what its decoder takes it for. This reads the file, but decodes nothing.

MP3 frames say how long they are, and Ogg pages how long and which they are, so that what is missing between them is
noticed. Formats without such marks, such as WAV, do not show that something inside them was changed.
"""

from __future__ import annotations

import struct

from headstart.audio.headers import id3_size
from headstart.audio.sources import Source

FLAC_START = b"fLaC\x00\x00\x00\x22"
OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
# kbit/s of an MP3 frame by its index: of MPEG 1, and of MPEG 2 and 2.5 (ISO/IEC 11172-3 and 13818-3, layer III)
BITRATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by MPEG version
JUNK = 0.02  # share of the bytes of an MP3 file that may belong to no frame; tags lie between joined files
NO_END = "the Ogg stream has no end, and may be cut short"


class DamageError(ValueError):
    """A file that is damaged, or holds more than is decoded. The message is the reject's reason."""


def check_integrity(source: Source, form: str, frames: int) -> str | None:
    """What to say of a file's damage, or None.

    Args:
        form: `form` of its decoder.
        frames: that the decoder will give.

    Raises:
        DamageError: what is decoded is not what the file was.
    """
    if form not in ("FLAC", "OGG", "MP3", "MPEG", "MP4"):
        return None
    content = source.part(0, source.size)
    if form == "FLAC":
        if (place := content.rfind(FLAC_START)) > content.find(FLAC_START):  # a tag may precede the first
            raise _second(place)
        return None
    if form == "MP4":
        return _check_mp4(content)
    return _check_ogg(content) if form == "OGG" else _check_mp3(content, frames)


def _second(place: int) -> DamageError:
    return DamageError(f"two recordings in one file: another begins at byte {place}; write the file anew")


def _check_ogg(content: bytes) -> str | None:
    """Follow the pages of an Ogg stream."""
    place, expected, flags = 0, {}, 0
    while place < len(content):
        if content[place : place + 4] != b"OggS" or len(content) < place + 27:
            raise DamageError(f"damaged: no Ogg page at byte {place} of {len(content)}; fetch the file anew")
        flags, (stream, number), segments = content[place + 5], struct.unpack_from("<II", content, place + 14), 0
        segments = content[place + 26]
        if flags & OGG_FIRST and expected and (stream in expected or max(expected.values()) > 1):
            raise _second(place)
        if number != expected.get(stream, number):
            raise DamageError(f"damaged: Ogg pages are missing before byte {place}; fetch the file anew")
        expected[stream] = number + 1
        place += 27 + segments + sum(content[place + 27 : place + 27 + segments])
    if place > len(content):
        raise DamageError("truncated: the last Ogg page is cut off; fetch the file anew")
    return None if flags & OGG_LAST else NO_END


def _check_mp4(content: bytes) -> None:
    """Follow the boxes of an MP4 file."""
    place, first = 0, True
    while place + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if size == 1 and place + 16 <= len(content):
            size = struct.unpack_from(">Q", content, place + 8)[0]
        if name == b"ftyp" and not first:
            raise _second(place)
        if size == 0:  # to the end of the file
            return
        if size < 8 or place + size > len(content):
            raise DamageError(f"damaged: the MP4 box at byte {place} has {size} of {len(content)} bytes")
        place, first = place + size, False


def _check_mp3(content: bytes, frames: int) -> str | None:
    """Follow the frames of an MP3 stream."""
    place, end = id3_size(content), len(content)
    if content[-128:-125] == b"TAG":
        end -= 128
    found = samples = junk = rate = 0
    while place < end:
        frame = _frame(content, place)
        if frame is None or not _goes_on(content, place + frame[0], end):
            place, junk = place + 1, junk + 1
            continue
        length, samples, rate = frame
        if found or not _is_tag(content[place : place + length]):
            found += 1
        place += length
    if place > end and rate:
        raise DamageError("truncated: the last MP3 frame is cut off; fetch the file anew")
    heard = found * samples
    if samples and abs(frames - heard) > max(4 * samples, 0.02 * heard):
        raise DamageError(f"damaged: {frames / rate:.2f} s by its header, {heard / rate:.2f} s in its frames")
    if junk > JUNK * end:
        raise DamageError(f"damaged: {junk} of its {end} bytes belong to no MP3 frame; fetch the file anew")
    return f"{junk} bytes that belong to no MP3 frame" if junk else None


def _frame(content: bytes, place: int) -> tuple[int, int, int] | None:
    """Bytes, samples and sampling rate of the MP3 frame at a place; None where there is none."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
        return None
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or not 0 < bitrate < 15 or rate == 3:
        return None
    first, rate = version == 3, RATES[version][rate]
    samples = 1152 if first else 576
    return samples // 8 * 1000 * BITRATES[first][bitrate] // rate + (head[2] >> 1 & 1), samples, rate


def _goes_on(content: bytes, place: int, end: int) -> bool:
    """Whether another frame, a tag or the end of the file is at a place."""
    after = content[place : place + 4]
    return place >= end or after[:3] in (b"ID3", b"TAG") or after == b"APET" or _frame(content, place) is not None


def _is_tag(frame: bytes) -> bool:
    return b"Xing" in frame[:64] or b"Info" in frame[:64]
