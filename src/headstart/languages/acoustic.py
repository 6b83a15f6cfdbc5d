"""How alike languages sound: the job that measures it on a study's training audio, and its file.

It needs no table of languages, and works for a language that nobody has described. What it measures is audio, though:
voices, rooms and microphones count too. Each clip is therefore normalised by itself, and clips are drawn from all of a
language's corpora alike.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headstart.encoder.checkpoint_files import checkpoint_content
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.files import derived, written_whole
from headstart.jobs import SimilarityJob, SplitFiles
from headstart.languages.frames import Sounds, frames_of
from headstart.languages.pairs import Pairs
from headstart.languages.sound_units import (
    SoundUnits,
    cluster_text,
    count_similarity,
    fitted_clusters,
    learnt_pieces,
    stored_pieces,
)
from headstart.study.similarity import Acoustic

log = logging.getLogger(__name__)
RNG_SEED = 402
FACTS = ("languages", "encoder", "layer", "minutes", "recipe")  # attributes in the file that are no arrays
FRAMES_A_CLUSTER = 100  # from which k-means learns a centre
CLIPS_AT_ONCE = 16  # where not all are needed


@dataclass(frozen=True)
class AcousticSimilarity:
    """A measurement.

    Attributes:
        languages: their tags.
        halves: counts of pieces in two halves of each language's clips, (2, languages, P).
        units: what clips were turned into counts with.
        encoder, layer: the checkpoint folder whose frames these are, and its layer; None for cepstral coefficients.
        minutes: of audio of each language, at most.
        recipe: what it was measured from.
    """

    languages: list[str]
    halves: NDArray[np.int64]
    units: SoundUnits
    encoder: str | None
    layer: int | None
    minutes: float
    recipe: dict[str, Any]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Counts of pieces, (languages, P)."""
        return self.halves.sum(0)

    def pairs(self) -> Pairs:
        """The similarity of each pair of languages, 1 at most."""
        counts = dict(zip(self.languages, self.counts, strict=True))
        return Pairs.of((a, b, min(1.0, count_similarity(counts[a], counts[b]))) for a, b in combinations(counts, 2))

    def within(self) -> dict[str, float]:
        """Of each language, how alike the two halves of its clips are: what two corpora of one language could reach."""
        return {name: count_similarity(*self.halves[:, place]) for place, name in enumerate(self.languages)}

    def of_audio(self, sounds: Sounds, name: str) -> dict[str, float]:
        """How alike other audio is to each of the languages, 1 at most.

        Args:
            sounds: the clips.
            name: of the audio, for messages.

        Raises:
            DataError: the audio is too short.
            CheckpointError: the encoder is not there any more.
        """
        texts = [self.units.text(frames) for frames in frames_of(sounds, self.encoder, self.layer)]
        counts = self.units.counts(texts)
        found = [count_similarity(counts, own) for own in self.counts]
        if not np.isfinite(found).all():
            raise DataError(f"{name}: {sum(sounds.lengths) / SAMPLE_RATE:.1f} s of audio are too little to compare")
        return {language: min(1.0, value) for language, value in zip(self.languages, found, strict=True)}

    def write(self, path: str | Path) -> None:
        """Write the measurement as one safetensors file."""
        units = self.units
        tensors = {"halves": self.halves, "mean": units.mean, "scale": units.scale, "centres": units.centres}
        facts = {key: getattr(self, key) for key in FACTS} | {"pieces": units.plain()}
        with written_whole(path) as temporary:
            # In one value, because safetensors writes several in any order.
            save_file(tensors, temporary, {"facts": json.dumps(facts, sort_keys=True)})

    @classmethod
    def read(cls, path: str | Path) -> AcousticSimilarity:
        """A measurement from its file; raises `BrokenFileError` if that is missing, or damaged and set aside."""
        errors = (SafetensorError, ValueError, KeyError, TypeError)
        with derived(path, *errors), safe_open(path, "numpy") as file:
            facts = json.loads(file.metadata()["facts"])
            arrays = [file.get_tensor(key) for key in ("mean", "scale", "centres")]
            units = SoundUnits(*arrays, stored_pieces(facts["pieces"]))
            return cls(halves=file.get_tensor("halves"), units=units, **{key: facts[key] for key in FACTS})


def measure_similarity(job: SimilarityJob) -> None:
    """Measure how alike the languages of a study sound, and write it.

    Raises:
        DataError: there is too little audio, or the encoder has no such layer.
        CheckpointError: the encoder cannot be loaded.
    """
    clips = {name: drawn_clips(splits, job.settings.minutes) for name, splits in job.languages.items()}
    measurement(clips, job.settings, job.encoder, similarity_recipe(job)).write(job.output)


def similarity_recipe(job: SimilarityJob) -> dict[str, Any]:
    """Everything that a measurement depends on: settings, encoder and audio."""
    return {
        "stage": job.stage,
        "version": job.version,
        "settings": job.settings.model_dump(mode="json"),
        "encoder": job.encoder and checkpoint_content(job.encoder),
        "content": {name: drawn_clips(splits, job.settings.minutes).content for name, splits in job.languages.items()},
    }


def recorded_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe in a measurement's file; None if there is none."""
    try:
        with safe_open(path, "numpy") as file:
            return json.loads(file.metadata()["facts"])["recipe"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def measurement(
    clips: Mapping[str, Sounds], options: Acoustic, encoder: str | None, recipe: dict[str, Any]
) -> AcousticSimilarity:
    """How alike some languages sound.

    Args:
        clips: of each language, in random order.
        options: how it is measured; `encoder` stands for its `start`.
        encoder: checkpoint folder; None for cepstral coefficients.
        recipe: goes into the result.

    Raises:
        DataError: there is too little audio, or the encoder has no such layer.
        CheckpointError: the encoder cannot be loaded.
    """
    started = time.monotonic()
    for name, sounds in clips.items():
        if len(sounds) < 2:
            raise DataError(f"{name}: one clip in this language is too little audio to compare languages by sound")
    wanted = -(-FRAMES_A_CLUSTER * options.clusters // len(clips))
    points = [_first_frames(sounds, wanted, encoder, options.layer) for sounds in clips.values()]
    if sum(map(len, points)) < options.clusters:
        raise DataError(
            f"{sum(map(len, points))} frames of all languages cannot form {options.clusters} clusters; lower "
            "similarity.acoustic.clusters"
        )
    mean, scale, centres = fitted_clusters(np.concatenate(points), options.clusters)
    texts = {}
    for name, sounds in clips.items():
        frames = frames_of(sounds, encoder, options.layer)
        texts[name] = [cluster_text(frames_TD, mean, scale, centres) for frames_TD in frames]
        log.info("%s: %.1f minutes, %.0f s", name, sum(sounds.lengths) / SAMPLE_RATE / 60, time.monotonic() - started)
    pieces = learnt_pieces((text for group in texts.values() for text in group), options.pieces)
    units = SoundUnits(mean, scale, centres, pieces)
    halves = np.array([[units.counts(group[half::2]) for group in texts.values()] for half in (0, 1)])
    result = AcousticSimilarity(list(clips), halves, units, encoder, options.layer, options.minutes, recipe)
    for name, value in result.within().items():
        if not np.isfinite(value):
            raise DataError(
                f"{name}: {sum(clips[name].lengths) / SAMPLE_RATE:.0f} s of audio are too little to compare"
            )
        log.info("%s: two halves of its clips are alike by %.3f", name, value)
    for (one, other), value in result.pairs().values.items():
        log.info("%s and %s are alike by %.3f", one, other, value)
    return result


def drawn_clips(splits: Sequence[SplitFiles], minutes: float) -> Clips:
    """Random clips of some splits, as many of each, up to so many minutes in all and at least one of each, in random
    order."""
    rng = np.random.default_rng(RNG_SEED)
    parts = []
    for split in splits:
        clips = Clips.open(split.features, split.audio)
        parts.append(clips.take(rng.permutation(len(clips))).first(minutes / len(splits)))
    joined = Clips.concatenate(parts)
    return joined.take(rng.permutation(len(joined)))


def _first_frames(sounds: Sounds, count: int, encoder: str | None, layer: int | None) -> NDArray:
    """The frames of the first clips, `count` if there are as many: (N, D)."""
    found: list[NDArray] = []
    for frames in _frames_in_turn(sounds, encoder, layer):
        found.append(frames)
        if sum(map(len, found)) >= count:
            break
    return np.concatenate(found)[:count]


def _frames_in_turn(sounds: Sounds, encoder: str | None, layer: int | None) -> Iterator[NDArray]:
    for start in range(0, len(sounds), CLIPS_AT_ONCE):
        yield from frames_of(sounds.take(range(start, min(start + CLIPS_AT_ONCE, len(sounds)))), encoder, layer)
