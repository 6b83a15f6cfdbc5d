"""Synthesis of corpora: sentences from a grammar, synthesised with eSpeak NG and mixed with noise.

A corpus is a pure function of the arguments: the same call writes the same bytes in any process.
"""

import csv
import logging
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from headstart.corpora.synthetic import espeak
from headstart.corpora.synthetic.grammar import Grammar, Sentence, load_grammar
from headstart.corpora.synthetic.resampling import resample
from headstart.errors import HeadstartError
from headstart.files import place_folder
from headstart.logs import Progress

log = logging.getLogger(__name__)

# eSpeak's voice variants by split, the same for all corpora, so that no test voice occurs in any training split.
# The "other" voices are equally many, with different timbre: whispered, creaky, breathy, childlike, Klatt synthesis.
VARIANTS = {
    "usual": {
        "train": tuple("m1 m2 m3 m5 m6 m8 f1 f3 f4 Andrea Annie Mario pedro robert".split()),
        "dev": ("m4", "steph", "Gene"),
        "test": ("m7", "f2", "f5", "paul", "Diogo"),
    },
    "other": {
        "train": tuple(
            "Alex Mike Nguyen Reed anika belinda boris croak gustave klatt klatt4 marcelo travis whisper".split()
        ),
        "dev": ("victor", "shelby", "robosoft4"),
        "test": ("adam", "grandma", "grandpa", "sandro", "zac"),
    },
}
SPLITS = tuple(VARIANTS["usual"])
SPEAKERS_PER_VARIANT = 4  # each with its own base rate, pitch and pitch range
# Share of all sentences that a split may use. A hash of its text decides to which split a sentence belongs,
# so no sentence is in two splits, whatever the corpus, seed and size.
_SENTENCE_SHARE = {"train": 0.70, "dev": 0.10, "test": 0.20}

COLUMNS = tuple("id path language speaker split duration_s text tokens token_languages phonemes".split())
LEVEL_DB = -23.0  # dBFS, RMS of the whole clip, before a random gain
GAIN_DB = (-6.0, 3.0)
PAD_S = (0.05, 0.25)  # noise without speech before and after the speech
CROSS_FADE_S = 0.010
_MAX_REDRAWS = 1000


@dataclass(frozen=True)
class Speaker:
    """An eSpeak variant with a base rate (words per minute), pitch and pitch range (eSpeak's 0 to 100)."""

    name: str
    variant: str
    words_per_minute: float
    pitch: float
    pitch_range: float


@dataclass(frozen=True)
class _Clip:
    """Everything that determines the audio of one clip."""

    id: str
    split: str
    sentence: Sentence
    speaker: Speaker
    seed: tuple[int, ...]


def synthesise_corpus(
    directory: str | Path,
    *,
    language: str,
    hours: dict[str, float],
    seed: int,
    snr_db: tuple[float, float] = (5.0, 25.0),
    words_per_minute: tuple[float, float] = (120, 220),
    pitch: tuple[float, float] = (20, 80),
    voices: str = "usual",
    bandwidth_hz: tuple[float, float] | None = None,
    sample_rate: int = 16000,
) -> Path:
    """Synthesise a corpus as `metadata.tsv` and `clips/*.flac` (mono, 16 bits) in `directory`, and return `directory`.

    The columns of metadata.tsv are COLUMNS. `language` is the sentence's matrix language; `tokens` and
    `token_languages` are separated by spaces, with one BCP 47 tag per token; `phonemes` is eSpeak's IPA, with spaces
    between phonemes and " | " between spoken words (eSpeak joins some short words).

    Sentences are unique in dev and test, and in train as long as new ones are found. The corpus is written beside
    `directory` and renamed at the end; an older corpus there is replaced.

    Args:
        language: a grammar of the package, monolingual ("en") or code-switched ("en-es").
        hours: hours of audio of the splits "train", "dev" and "test"; a split ends with the clip that reaches them.
        seed: seed of speakers, sentences and noise.
        snr_db: range in dB from which each clip's signal-to-noise ratio is drawn.
        words_per_minute, pitch: ranges of eSpeak's rate and pitch (0 to 100) for the speakers.
        voices: "usual" or "other", the key in VARIANTS of the speakers' voices; everything else is drawn alike.
        bandwidth_hz: frequencies that are left of speech and noise, such as (300, 3400) of a telephone; None for all.
        sample_rate: in Hz.

    Raises:
        ValueError: an unknown language, split or kind of voices, a range whose lower end is above its upper end, or
            frequencies that the sampling rate cannot represent.
        HeadstartError: the grammar has no more sentences, or `directory` contains something other than a corpus.
    """
    directory = Path(directory)
    grammar = load_grammar(language)
    unknown = sorted(set(hours) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {unknown[0]!r} in hours; there are {', '.join(SPLITS)}")
    if voices not in VARIANTS:
        raise ValueError(f"unknown voices {voices!r}; there are {', '.join(VARIANTS)}")
    ranges = {"snr_db": snr_db, "words_per_minute": words_per_minute, "pitch": pitch}
    if bandwidth_hz:
        ranges["bandwidth_hz"] = bandwidth_hz
        if not 0 < bandwidth_hz[0] < bandwidth_hz[1] <= sample_rate / 2:
            raise ValueError(f"bandwidth_hz is {bandwidth_hz}: it lies between 0 and {sample_rate / 2:g} Hz")
    for name, (low, high) in ranges.items():
        if low > high:
            raise ValueError(f"{name} is ({low}, {high}): the lower end comes first")
    # The table may be missing in an older corpus: Snakemake deletes it before it makes the corpus again.
    if directory.exists() and {path.name for path in directory.iterdir()} - {"metadata.tsv", "clips"}:
        raise HeadstartError(f"{directory} is not a corpus folder; it is left alone")

    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "clips").mkdir(parents=True)
    progress = Progress(language, sum(hours.values()), "h")
    rows = []
    for split in SPLITS:
        clips = _clips(grammar, split, seed, words_per_minute, pitch, VARIANTS[voices][split])
        seconds_left = 3600.0 * hours.get(split, 0.0)
        while seconds_left > 0:
            clip = next(clips)
            audio = _render(clip, snr_db, words_per_minute, pitch, bandwidth_hz, sample_rate)
            row = _write_clip(partial, clip, audio, sample_rate)
            rows.append(row)
            seconds_left -= len(audio) / sample_rate
            progress.add(len(audio) / sample_rate / 3600)

    with open(partial / "metadata.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writeheader()
        writer.writerows(rows)
    if directory.exists():
        shutil.rmtree(directory)
    place_folder(partial, directory)
    log.info("%s: %d clips, %.2f h in %s", language, len(rows), progress.done, directory)
    return directory


def _stream(*parts: int | str) -> tuple[int, ...]:
    """A seed for numpy from numbers and names; different parts give independent random streams."""
    return tuple(part if isinstance(part, int) else zlib.crc32(part.encode("utf-8")) for part in parts)


def sentence_split(text: str) -> str:
    """The split to which a sentence belongs, in every corpus and with every seed."""
    position = zlib.crc32(text.encode("utf-8")) / 2**32
    for split, share in _SENTENCE_SHARE.items():
        position -= share
        if position < 0:
            return split
    return SPLITS[-1]


def draw_speakers(
    language: str,
    split: str,
    seed: int,
    words_per_minute: tuple[float, float],
    pitch: tuple[float, float],
    variants: tuple[str, ...],
) -> list[Speaker]:
    """The speakers of a split: SPEAKERS_PER_VARIANT for each variant, with random rate, pitch and pitch range."""
    rng = np.random.default_rng(_stream(seed, language, split, "speakers"))
    return [
        Speaker(
            name=f"{language}_{variant.lower()}_{number}",
            variant=variant,
            words_per_minute=rng.uniform(*words_per_minute),
            pitch=rng.uniform(*pitch),
            pitch_range=rng.uniform(30, 70),
        )
        for variant in variants
        for number in range(1, SPEAKERS_PER_VARIANT + 1)
    ]


def _clips(
    grammar: Grammar,
    split: str,
    seed: int,
    words_per_minute: tuple[float, float],
    pitch: tuple[float, float],
    variants: tuple[str, ...],
) -> Iterator[_Clip]:
    """The clips of a split, without end: speakers take turns in random order, each with a new sentence."""
    speakers = draw_speakers(grammar.name, split, seed, words_per_minute, pitch, variants)
    rng = np.random.default_rng(_stream(seed, grammar.name, split, "sentences"))
    used: set[str] = set()
    number = 0
    while True:
        for index in rng.permutation(len(speakers)):
            sentence = _new_sentence(grammar, split, rng, used)
            number += 1
            seeds = _stream(seed, grammar.name, split, number)
            yield _Clip(f"{grammar.name}_{split}_{number:06d}", split, sentence, speakers[index], seeds)


def _new_sentence(grammar: Grammar, split: str, rng: np.random.Generator, used: set[str]) -> Sentence:
    redraws = 0
    while True:
        sentence = grammar.sample(rng)
        if sentence_split(sentence.text) != split:
            continue
        redraws += 1
        if sentence.text not in used or (split == "train" and redraws > _MAX_REDRAWS):
            used.add(sentence.text)
            return sentence
        if redraws > _MAX_REDRAWS:
            raise HeadstartError(f"grammar {grammar.name!r} ran out of {split} sentences after {len(used)}")


def _render(
    clip: _Clip,
    snr_db: tuple[float, float],
    words_per_minute: tuple[float, float],
    pitch: tuple[float, float],
    bandwidth_hz: tuple[float, float] | None,
    sample_rate: int,
) -> np.ndarray:
    """The noisy audio of a clip, float32 of shape (num_samples,)."""
    rng = np.random.default_rng(clip.seed)
    # Rate and pitch vary slightly between the clips of a speaker, as they do in natural speech.
    rate = np.clip(clip.speaker.words_per_minute * rng.uniform(0.94, 1.06), *words_per_minute)
    height = np.clip(clip.speaker.pitch + rng.uniform(-4, 4), *pitch)
    speech = speak(
        clip.sentence.segments(),
        clip.speaker.variant,
        words_per_minute=round(rate),
        pitch=round(height),
        pitch_range=round(clip.speaker.pitch_range),
        sample_rate=sample_rate,
    )
    before, after = (round(rng.uniform(*PAD_S) * sample_rate) for _ in range(2))
    noise = coloured_noise(before + len(speech) + after, rng, sample_rate)
    audio = mix_at_snr(speech, noise, rng.uniform(*snr_db), offset=before)
    if bandwidth_hz:
        audio = band_pass(audio, bandwidth_hz, sample_rate)
    return set_level(audio, LEVEL_DB + rng.uniform(*GAIN_DB))


def _write_clip(folder: Path, clip: _Clip, audio: np.ndarray, sample_rate: int) -> dict[str, str]:
    """Write the audio of a clip below `folder` and return its row of the metadata."""
    path = f"clips/{clip.id}.flac"
    pcm = np.round(audio * 32767).astype(np.int16)
    # Level 0 is the fastest; on noisy speech, higher levels make files only a few per cent smaller.
    soundfile.write(folder / path, pcm, sample_rate, format="FLAC", subtype="PCM_16", compression_level=0.0)
    spoken = [word for tag, text in clip.sentence.segments() for word in espeak.phonemes(text, tag)]
    return {
        "id": clip.id,
        "path": path,
        "language": clip.sentence.language,
        "speaker": clip.speaker.name,
        "split": clip.split,
        "duration_s": f"{len(audio) / sample_rate:.4f}",
        "text": clip.sentence.text,
        "tokens": " ".join(clip.sentence.tokens),
        "token_languages": " ".join(clip.sentence.token_languages),
        "phonemes": " | ".join(spoken),
    }


def speak(
    segments: list[tuple[str, str]],
    variant: str,
    *,
    words_per_minute: int,
    pitch: int,
    pitch_range: int,
    sample_rate: int,
) -> np.ndarray:
    """Synthesise (language, text) segments as one clean utterance of one voice, float32 of shape (num_samples,).

    Each segment is read by the rules of its own language. Silence around segments is trimmed, and segments are joined
    with a cross-fade of 10 ms.
    """
    fade = round(CROSS_FADE_S * espeak.NATIVE_RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    joined = np.zeros(0, np.float32)
    for language, text in segments:
        voice = f"{language}+{variant}"
        samples = espeak.synthesise(
            text, voice, words_per_minute=words_per_minute, pitch=pitch, pitch_range=pitch_range
        )
        samples = trim_silence(samples, espeak.NATIVE_RATE)
        if len(joined) >= fade and len(samples) >= fade:
            overlap = joined[-fade:] * (1 - ramp) + samples[:fade] * ramp
            joined = np.concatenate([joined[:-fade], overlap, samples[fade:]])
        else:
            joined = np.concatenate([joined, samples])
    return resample(joined, espeak.NATIVE_RATE, sample_rate)


def trim_silence(samples: np.ndarray, sample_rate: int, threshold_db: float = -45.0) -> np.ndarray:
    """Remove samples below `threshold_db` (relative to the peak) at both ends, except for 10 ms; 1-D samples."""
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 10 ** (threshold_db / 20))
    margin = round(0.010 * sample_rate)
    return samples[max(0, loud[0] - margin) : loud[-1] + 1 + margin] if len(loud) else samples


def coloured_noise(num_samples: int, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Gaussian noise, float32 of shape (num_samples,), of no particular level.

    Its power falls as 1/f^a, with a drawn from 0 (white) to 2 (brown). With probability 0.3, its amplitude is modulated
    at 0.3 to 4 Hz.
    """
    slope = rng.uniform(0, 2)
    length = -(-num_samples // 4000) * 4000  # small prime factors make the Fourier transform fast
    frequency = np.fft.rfftfreq(length, 1 / sample_rate)
    # Flat below 50 Hz; otherwise most of the power of brown noise would be inaudibly low.
    shape = (np.maximum(frequency, 50.0) ** (-slope / 2)).astype(np.float32)
    spectrum = rng.standard_normal(2 * len(shape), dtype=np.float32).view(np.complex64) * shape
    noise = np.fft.irfft(spectrum, length)[:num_samples].astype(np.float32)
    if rng.uniform() < 0.3:
        depth, rate, phase = rng.uniform(0.3, 0.9), rng.uniform(0.3, 4.0), rng.uniform(0, 2 * np.pi)
        time_s = np.arange(num_samples, dtype=np.float32) / sample_rate
        noise *= 1 + depth * np.sin(2 * np.pi * rate * time_s + phase, dtype=np.float32)
    return noise


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float, offset: int = 0) -> np.ndarray:
    """Scale `noise`, and add `speech` to it from sample `offset` on; returns the shape of `noise`.

    The ratio of the mean power of the speech (over its own samples) to that of the noise (over all samples) is `snr_db`
    dB.
    """
    ratio = np.mean(np.square(speech)) / np.mean(np.square(noise))
    mixed = noise * np.float32(np.sqrt(ratio / 10 ** (snr_db / 10)))
    mixed[offset : offset + len(speech)] += speech
    return mixed


def band_pass(audio: np.ndarray, band_hz: tuple[float, float], sample_rate: int) -> np.ndarray:
    """Keep a band of frequencies, as a channel does: float32 of the same shape.

    The gain is that of Butterworth filters of the fourth order, forwards and backwards (no phase): one half at both
    ends of the band, and 1/257 an octave further.
    """
    low, high = band_hz
    frequency = np.maximum(np.fft.rfftfreq(len(audio), 1 / sample_rate), 1e-9)
    gain = 1 / (1 + (low / frequency) ** 8) / (1 + (frequency / high) ** 8)
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio)).astype(np.float32)


def set_level(audio: np.ndarray, level_db: float) -> np.ndarray:
    """Scale `audio` to an RMS of `level_db` dBFS, or to a peak of 0.99 if the peak would be higher."""
    gain = 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(audio)))
    return audio * np.float32(min(gain, 0.99 / np.abs(audio).max()))
