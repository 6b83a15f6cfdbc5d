"""Damaged audio files of many kinds, made from a seed, and a function that treats a worker as bad decoders do."""

import gzip
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

from headstart.workers import Result

RATE = 16_000


def stubborn(task: str) -> Result:
    """Crash, hang or fail where the task asks for it."""
    if task == "crash":
        os.abort()
    if task == "hang":
        time.sleep(600)
    if task.startswith("killed"):  # so many times, which are counted in a file
        _, times, path = task.split()
        with open(path, "a") as file:
            file.write(".")
        if os.path.getsize(path) <= int(times):
            os.kill(os.getpid(), signal.SIGKILL)
    if task == "fail":
        raise KeyError("a mistake in the program")
    return Result(task, task.encode())


class Damaged(NamedTuple):
    """A damaged file, and the samples from -1 to 1 at 16 kHz that it was made from."""

    path: Path
    kind: str
    container: str
    sound: np.ndarray


def write_av(path: Path, samples: np.ndarray, rate: int, codec: str, form: str | None = None) -> None:
    """Encode with FFmpeg; samples of shape (frames,) or (frames, channels)."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        kind = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        resampler = av.AudioResampler(format=kind, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write_sphere(path: Path, samples: np.ndarray, rate: int) -> None:
    """A NIST sphere file, by its specification: a header of 1024 bytes and big-endian samples."""
    fields = [
        "NIST_1A", "   1024", f"sample_count -i {len(samples)}", "sample_n_bytes -i 2", "channel_count -i 1",
        "sample_byte_format -s2 10", f"sample_rate -i {rate}", "sample_coding -s3 pcm", "end_head",
    ]  # fmt: skip
    header = ("\n".join(fields) + "\n").encode()
    path.write_bytes(header.ljust(1024) + (samples * 32767).astype(">i2").tobytes())


CONTAINERS: dict[str, Callable[[Path, np.ndarray, int], None]] = {
    "wav": soundfile.write,
    "flac": soundfile.write,
    "ogg": soundfile.write,
    "opus": lambda path, x, rate: soundfile.write(path, x, rate, format="OGG", subtype="OPUS"),
    "mp3": soundfile.write,
    "sph": write_sphere,
    "m4a": lambda path, x, rate: write_av(path, x, rate, "aac", "ipod"),
    "aac": lambda path, x, rate: write_av(path, x, rate, "aac", "adts"),
    "webm": lambda path, x, rate: write_av(path, x, 48_000, "libopus"),
    "mka": lambda path, x, rate: write_av(path, x, rate, "ac3", "matroska"),
}


def _flipped(content: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[int(place)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    begin = int(rng.integers(len(content) // 4, len(content) // 2))
    length = int(len(content) * rng.uniform(0.1, 0.4))
    return content[:begin] + bytes(length) + content[begin + length :]


# What may happen to a file of any container: name -> new content, from the old one and a generator.
ANY: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "empty": lambda c, r: b"",
    "cut off": lambda c, r: c[: int(len(c) * r.uniform(0.05, 0.9))],
    "cut off in the header": lambda c, r: c[: int(r.integers(1, 60))],
    "without its beginning": lambda c, r: c[int(r.integers(1, 200)) :],
    "bits flipped in the header": lambda c, r: _flipped(c, r.integers(0, min(100, len(c)), 8), r),
    "bits flipped": lambda c, r: _flipped(c, r.integers(min(200, len(c) // 2), len(c), 40), r),
    "zeros inside": _zeroed,
    "zeros only": lambda c, r: bytes(len(c)),
    "random bytes": lambda c, r: r.bytes(len(c)),
    "joined": lambda c, r: c + c,
    "bytes before it": lambda c, r: r.bytes(int(r.integers(1, 500))) + c,
    "bytes after it": lambda c, r: c + r.bytes(int(r.integers(1, 500))),
    "compressed": lambda c, r: gzip.compress(c),
    "an error page": lambda c, r: b"<!doctype html><title>404 Not Found</title><h1>Not Found</h1>" * 20,
    "text": lambda c, r: b"Mana kanchu. " * 300,
    "pieces swapped": lambda c, r: c[: len(c) // 3] + c[2 * len(c) // 3 :] + c[len(c) // 3 : 2 * len(c) // 3],
}


def _field(place: int, form: str, value: int) -> Callable[[bytes, np.random.Generator], bytes]:
    def patch(content: bytes, rng: np.random.Generator) -> bytes:
        changed = bytearray(content)
        struct.pack_into(form, changed, place, value)
        return bytes(changed)

    return patch


# What headers of WAV files may say.
WAV = {
    "WAV: 0 channels": _field(22, "<H", 0),
    "WAV: 3 channels": _field(22, "<H", 3),
    "WAV: 65535 channels": _field(22, "<H", 65535),
    "WAV: 0 Hz": _field(24, "<I", 0),
    "WAV: 1 Hz": _field(24, "<I", 1),
    "WAV: 4 GHz": _field(24, "<I", 0xFFFFFFFF),
    "WAV: data size 0": _field(40, "<I", 0),
    "WAV: data size unknown": _field(40, "<I", 0xFFFFFFFF),
    "WAV: data size too large": _field(40, "<I", 10**7),
    "WAV: data size too small": _field(40, "<I", 4000),
    "WAV: 0 bits": _field(34, "<H", 0),
    "WAV: 8 bits": _field(34, "<H", 8),
    "WAV: another codec": _field(20, "<H", 0x55),
    "WAV: floats": _field(20, "<H", 3),
}
SAMPLES = {
    "samples: NaN": lambda x, r: np.where(np.arange(len(x)) == r.integers(len(x)), np.nan, x),
    "samples: infinite": lambda x, r: np.where(np.arange(len(x)) == r.integers(len(x)), -np.inf, x),
    "samples: 1e29": lambda x, r: np.where(np.arange(len(x)) == r.integers(len(x)), 1e29, x),
    "samples: scale of integers": lambda x, r: x * 32768,
    "samples: zeros": lambda x, r: 0 * x,
    "samples: constant": lambda x, r: 0 * x + 0.3,
    "samples: clipped": lambda x, r: np.clip(x * 1000, -1, 1),
    "samples: opposite phase": lambda x, r: np.stack([x, -x], axis=1),
    "samples: a dead channel": lambda x, r: np.stack([0 * x, x], axis=1),
}


def sound_of(rng: np.random.Generator, seconds: float = 1.5) -> np.ndarray:
    """Sines of different pitches after one another, shape (seconds * RATE,), so that every part of it is told apart."""
    pitches = np.repeat(rng.uniform(150, 1500, 8), round(seconds * RATE / 8))
    return 0.3 * np.sin(2 * np.pi * np.cumsum(pitches) / RATE)


def damaged_files(folder: Path, seed: int, count: int) -> Iterator[Damaged]:
    """Write `count` damaged files: kinds and containers take turns, and what is left to chance comes from the seed."""
    rng = np.random.default_rng(seed)
    cases = [(kind, suffix) for kind in ANY for suffix in CONTAINERS]
    order = [cases[i] for i in rng.permutation(len(cases))]
    wav = [(kind, "wav") for kind in (*WAV, *SAMPLES)]
    for number, (kind, suffix) in enumerate(islice(chain(wav, cycle(order)), count)):
        sound, path = sound_of(rng), folder / f"{number:03d}.{suffix}"
        if kind in SAMPLES:
            soundfile.write(path, SAMPLES[kind](sound, rng).astype(np.float32), RATE, subtype="FLOAT")
        else:
            rate = 48_000 if suffix in ("webm", "mka") else RATE
            encoded = np.repeat(sound, rate // RATE).astype(np.float32)
            CONTAINERS[suffix](path, encoded, rate)
            path.write_bytes((WAV | ANY)[kind](path.read_bytes(), rng))
        if rng.random() < 0.15:  # the suffix says nothing
            path = path.rename(path.with_suffix(rng.choice([".wav", ".mp3", ".flac", ".txt"])))
        yield Damaged(path, kind, suffix, sound)
