"""A sample of the audio in a folder, in whatever language it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.audio.suffixes import AUDIO
from headstart.features.audio import SAMPLE_RATE
from headstart.features.recordings import BLOCK_S, recording_blocks
from headstart.languages.frames import Samples
from headstart.transcribe.sources import sources

RNG_SEED = 10


def has_audio(folder: Path) -> bool:
    """Whether a folder, or one in it, has a file that is taken for a recording."""
    return any(path.suffix.lower() in AUDIO for path in folder.rglob("*"))


def folder_audio(folder: Path, minutes: float) -> Samples:
    """Clips of 10 s at most, from random recordings of a folder, about as much of each, up to so many minutes.

    Raises:
        HeadstartError: there is no recording.
        AudioError: one cannot be decoded.
    """
    files = sources([folder])
    order = np.random.default_rng(RNG_SEED).permutation(len(files)).tolist()
    wanted = minutes * 60 * SAMPLE_RATE
    share = max(wanted / len(files), BLOCK_S * SAMPLE_RATE)
    clips, total = [], 0
    for place in order:
        taken = 0
        for block in recording_blocks(files[place].path):
            clips.append(block)
            taken += len(block)
            if taken >= share:
                break
        total += taken
        if total >= wanted:
            break
    return Samples(clips)
