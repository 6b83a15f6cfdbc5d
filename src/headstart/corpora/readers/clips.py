"""Audio files, each with a text file of the same name; or audio files alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.audio.suffixes import AUDIO
from headstart.corpora.annotations import SPEAKER_PATTERN, SpeakerPattern
from headstart.corpora.paths import files_under, utterance_id, without_suffix
from headstart.corpora.reader import AudioReference, CorpusError, Description, RecordedReader, Reject, Utterance
from headstart.corpora.recordings import Recordings
from headstart.corpora.text_files import read_text
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

MOST_CHARACTERS = 20_000  # of a transcript; a longer text file is something else


class ClipsCorpus(RecordedCorpus):
    """Clips with text files of the same name, or clips alone."""

    reader: Literal["clips"] = Field(description="`clips`: audio files, each with a text file of the same name.")
    suffixes: list[str] = Field(
        [".txt", ".lab"], description="Suffixes of text files; the first that a clip has is its transcript."
    )
    speaker_pattern: SpeakerPattern | None = SPEAKER_PATTERN


class ClipsReader(RecordedReader):
    """Reads clips and the text files beside them."""

    section = ClipsCorpus
    description = Description(
        title="Audio files, each with a text file of the same name",
        layout="""
            my_corpus/
              anna/0001.wav
              anna/0001.txt     the transcript, UTF-8; .lab files too
              ben/0001.wav
              ben/0001.txt
              ...
            """,
        example="path: my_corpus, language: sw, speaker_pattern: '^([^/]+)/'",
        notes=(
            "With `transcripts: false`, all audio files of the folder are read as untranscribed speech, without text "
            "files. Clips longer than `max_seconds` are rejected.",
            "A folder of a name in `splits` (`train`, `dev`, `test`, ...) is that split; clips elsewhere are drawn.",
            "Clips without a text file and text files without a clip are rejected.",
        ),
    )

    def __init__(self, settings: ClipsCorpus, raw: str | Path = ""):
        super().__init__(settings, raw)
        self.suffixes = [suffix.lower() for suffix in settings.suffixes]

    def annotations(self) -> list[Path]:
        """The text files, or the audio files of a corpus without transcripts."""
        wanted = self.suffixes if self.settings.transcripts else AUDIO
        return [self.folder / name for name in files_under(self.folder, wanted)]

    def inputs(self) -> list[str]:
        """Nothing but a missing folder: there is a text file for each clip, so all are in `audio_files`."""
        return [] if self.folder.is_dir() else [str(self.folder)]

    def audio_files(self) -> list[str]:
        """The audio files and the text files."""
        return files_under(self.folder, (*AUDIO, *(self.suffixes if self.settings.transcripts else ())))

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance for each audio file, in the order of their paths."""
        self.check()
        texts: dict[str, str] = {}
        if self.settings.transcripts:
            found = files_under(self.folder, self.suffixes)
            found.sort(key=lambda name: self.suffixes.index(os.path.splitext(name)[1].lower()), reverse=True)
            texts = {without_suffix(name): name for name in found}
        recordings = Recordings(files_under(self.folder, AUDIO))
        matched = {recordings.beside(stem): name for stem, name in texts.items()}
        clips = sorted(recordings.by_path.values())
        for number, clip in enumerate(clips, start=1):
            split, left_out = self._split(clip)
            if left_out:
                continue
            known = {"line": number, "utterance_id": utterance_id(clip), "audio": AudioReference(clip), "split": split}
            text = None
            if self.settings.transcripts:
                if clip not in matched:
                    beside = " or ".join(f"{os.path.basename(without_suffix(clip))}{end}" for end in self.suffixes)
                    yield Reject(**known, reason=f"no transcript: there is no {beside} beside it")
                    continue
                text = self._text(matched[clip])
            yield Utterance(**known, text=text, speaker=self._speaker(clip), language=self.settings.language)
        for number, name in enumerate(sorted(texts.values()), start=len(clips) + 1):
            split, left_out = self._split(name)
            clip = recordings.beside(without_suffix(name))
            if (clip is None or matched[clip] != name) and not left_out:
                reason = f"transcript without audio: there is no recording beside {name}"
                yield Reject(line=number, reason=reason, utterance_id=utterance_id(name), split=split)

    def _text(self, name: str) -> str:
        text = " ".join(read_text(self.folder / name).split())
        if len(text) > MOST_CHARACTERS:
            raise CorpusError(
                f"{self.folder / name}: {len(text)} characters, too many for a transcript of one clip. Name the suffix "
                "of transcripts in `suffixes`, or move the file out of the corpus"
            )
        return text

    def _speaker(self, clip: str) -> str | None:
        pattern = self.settings.speaker_pattern
        return match[1] if pattern and (match := re.search(pattern, clip)) else None

    def _split(self, path: str) -> tuple[Split | None, bool]:
        """The split of a file by its first folder, and whether the study leaves it out."""
        folder = path.split(os.sep)[0]
        if os.sep not in path or folder not in self.settings.splits:
            return None, False
        return self.settings.splits[folder], self.settings.splits[folder] is None
