"""A small binding of eSpeak NG, loaded from the `espeakng-loader` wheel: no system package is needed.

eSpeak keeps state from one utterance to the next: the phase of its pitch flutter, which no call resets, and two
random generators, its own and the C library's. To make samples depend on the arguments only, every call here
loads a fresh copy of the library, in under a millisecond, and unloads it afterwards. This needs a dynamic linker
that really unloads libraries (glibc and macOS do, musl does not).
"""

import _ctypes  # for dlclose, which ctypes does not offer
import ctypes
import functools
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import espeakng_loader
import numpy as np

from headstart.errors import HeadstartError

NATIVE_RATE = 22050  # Hz, the rate at which eSpeak computes its formant voices

# Constants of eSpeak's speak_lib.h.
_SYNCHRONOUS = 2  # samples go to the callback, nothing is played, no thread is started
_DONT_EXIT = 0x8000  # report a failed start instead of ending the process
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1
_IPA = 2
_CHARACTERS = 1
_MAX_DATA_PATH = 120  # bytes: eSpeak copies the path into a buffer of 160 and appends file names to it

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_lock = threading.Lock()  # one call at a time: all threads share the C rand() state and the loaded copy


class EspeakError(HeadstartError):
    """eSpeak NG could not be started, or refused a voice or a text."""


@functools.cache
def _data_path() -> bytes:
    path = str(Path(espeakng_loader.get_data_path()).resolve())
    if len(os.fsencode(path)) > _MAX_DATA_PATH:
        # A long path would overflow eSpeak's buffer, so the data are reached through a link with a short path.
        folder = tempfile.TemporaryDirectory(prefix="espeak-")
        _data_path.keep = folder  # removed when the process ends
        link = os.path.join(folder.name, "espeak-ng-data")
        os.symlink(path, link)
        path = link
    return os.fsencode(path)


@functools.cache
def _voice_file(language: str) -> str:
    """The voice file of a language, such as "trk/tr" for "tr", with which eSpeak need not scan all its voices.

    Returns the language itself when its file name has upper-case letters ("gmw/en-US"): eSpeak lower-cases names, and
    finds such a file only by scanning.
    """
    for file in sorted((Path(os.fsdecode(_data_path())) / "lang").glob(f"*/{language}")):
        if file.name == file.name.lower():
            return f"{file.parent.name}/{file.name}"
    return language


@functools.cache
def _languages() -> dict[str, str]:
    """Language tag in lower case -> name of the best voice file for it, such as "zh" -> "cmn", from the voice files."""
    folder = Path(os.fsdecode(_data_path())) / "lang"
    found = []
    for file in (path for path in folder.rglob("*") if path.is_file()):
        found.append((file.name.lower(), 0, file.name))
        # "language en-gb 2": a tag and its priority, of which lower is better and 5 is usual
        for tag, priority in re.findall(r"^language +(\S+) *(\d*)", file.read_text(encoding="utf-8"), re.MULTILINE):
            found.append((tag.lower(), int(priority or 5), file.name))
    return {tag: name for tag, _, name in sorted(found, reverse=True)}  # the best voice of a tag comes last and stays


def language(tag: str) -> str:
    """The eSpeak language for a BCP 47 tag: that of the tag, or else of its longest known prefix ("tr-TR" -> "tr").

    Raises:
        EspeakError: there is none.
    """
    subtags = tag.lower().split("-")
    for count in range(len(subtags), 0, -1):
        if found := _languages().get("-".join(subtags[:count])):
            return found
    raise EspeakError(f"eSpeak NG has no language {tag!r}")


@functools.cache
def variants() -> list[str]:
    """Names of the voice variants in the wheel ("m1", "f2", ...), sorted."""
    return sorted(path.name for path in (Path(os.fsdecode(_data_path())) / "voices" / "!v").iterdir())


@contextmanager
def _fresh_library(voice: str) -> Iterator[ctypes.CDLL]:
    """Context with a freshly loaded and seeded library that has `voice` set; unloads it on exit.

    Raises:
        EspeakError: the library did not start, or there is no such language or variant.
    """
    language, _, variant = voice.partition("+")
    if variant and variant not in variants():  # eSpeak would silently use the voice without a variant
        raise EspeakError(f"eSpeak NG has no voice variant {variant!r}; there are {', '.join(variants())}")
    with _lock:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, _data_path(), _DONT_EXIT)
            if rate != NATIVE_RATE:
                raise EspeakError(f"eSpeak NG did not start with the data in {os.fsdecode(_data_path())}")
            name = _voice_file(language) + ("+" + variant if variant else "")
            if library.espeak_SetVoiceByName(name.encode()) != 0:
                raise EspeakError(f"eSpeak NG has no language {language!r}")
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            ctypes.CDLL(None).srand(1)
            yield library
            library.espeak_Terminate()
        finally:
            _ctypes.dlclose(library._handle)


def version() -> str:
    """Version of the eSpeak NG library in the wheel."""
    with _fresh_library("en") as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode()


def synthesise(
    text: str, voice: str, *, words_per_minute: int = 175, pitch: int = 50, pitch_range: int = 50
) -> np.ndarray:
    """Synthesise `text`.

    Args:
        voice: an eSpeak language with an optional variant, such as "en+m3".
        words_per_minute: 80 to 450.
        pitch, pitch_range: 0 to 100, where 50 is the voice's default.

    Returns:
        Samples in [-1, 1), float32 of shape (num_samples,), at 22,050 Hz.

    Raises:
        EspeakError: unknown language or variant, or a text that gives no sound.
    """
    chunks: list[bytes] = []

    def receive(samples, count: int, _events) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # tells eSpeak to continue

    callback = _CALLBACK(receive)
    with _fresh_library(voice) as library:
        library.espeak_SetSynthCallback(callback)
        # At volume 50, no voice clips.
        settings = {_RATE: words_per_minute, _PITCH: pitch, _RANGE: pitch_range, _VOLUME: 50}
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, int(value), 0)
        encoded = text.encode("utf-8") + b"\0"
        status = library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, _CHARACTERS, 0, _UTF8, None, None)
    if status != 0 or not chunks:
        raise EspeakError(f"eSpeak NG gave no sound for {text!r} with voice {voice!r} (status {status})")
    return np.frombuffer(b"".join(chunks), np.int16).astype(np.float32) / 32768.0


@functools.lru_cache(maxsize=100_000)  # short segments of code-switched speech recur often
def phonemes(text: str, language: str) -> tuple[str, ...]:
    """Phonemes (IPA) of `text` in an eSpeak language: one string per spoken word, phonemes separated by spaces.

    Stress marks are kept. eSpeak joins some short words ("of the"), so there can be fewer strings than words.

    Raises:
        EspeakError: unknown language.
    """
    mode = _IPA | ord("_") << 8  # bits 8 to 23: the character put between phonemes
    buffer = ctypes.create_string_buffer(text.encode("utf-8"))
    pointer = ctypes.c_void_p(ctypes.addressof(buffer))
    clauses = []
    with _fresh_library(language) as library:
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        while pointer.value:  # one clause per call; the pointer is NULL at the end of the text
            clause = library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, mode)
            clauses.append((clause or b"").decode("utf-8"))
    # In "(en)kat(es)", eSpeak marks a word that it reads by another language's rules. The marks are not phonemes.
    words = re.sub(r"\([^)]*\)", "", " ".join(clauses)).split()
    return tuple(" ".join(word.replace("_", " ").split()) for word in words)
