"""Common Voice's Spontaneous Speech, any release.

Read through the table reader; lhotse has no recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import Description, Reject, Utterance
from headstart.corpora.readers.table import Columns, FolderCorpus, TableReader
from headstart.corpora.rooted import RootedReader
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

AUDIO = "audios"
COLUMNS = Columns(audio="audio_file", utterance_id=None, text="transcription", speaker="client_id", split="split")


class SpontaneousSpeechCorpus(RecordedCorpus):
    """Spontaneous Speech of Common Voice: answers to questions, transcribed by volunteers."""

    reader: Literal["spontaneous_speech"] = Field(
        description="`spontaneous_speech`: one language of Common Voice's Spontaneous Speech."
    )
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev": "dev", "test": "test", "unassigned": None},
        description="The table's splits -> ours; null leaves one out. Transcripts of `unassigned` are not validated.",
    )


class SpontaneousSpeechReader(RootedReader):
    """Reads the one table of a language."""

    section = SpontaneousSpeechCorpus
    description = Description(
        title="Common Voice's Spontaneous Speech, one language of any release",
        layout="""
            sps-corpus-5.0-2026-09-11-qvi/
              ss-corpus-qvi.tsv      client_id  audio_id  audio_file  ...  transcription  ...  split  ...
              audios/spontaneous-speech-qvi-1.mp3
            """,
        example="path: data/raw/sps-corpus-5.0-2026-09-11-qvi, language: qvi",
        source="https://datacollective.mozillafoundation.org; "
        "https://github.com/common-voice/cv-dataset/tree/main/datasets/spontaneous-speech describes it",
        licence="CC0",
        notes=(
            "Recordings without a validated transcript have the split `unassigned`, which is left out. A corpus with "
            "`splits: {unassigned: train, train: null, dev: null, test: null}` and `transcripts: false` is audio for "
            "pre-training.",
            "Tags such as `[disfluency]` and `[noise]` stay as transcribed; `text: {tags: drop}` drops them. Answers "
            "may take minutes: those over `max_seconds` are rejected.",
        ),
    )
    contents = "a table ss-corpus-LANGUAGE.tsv and audios/"

    def is_root(self, folder: Path) -> bool:
        return (folder / AUDIO).is_dir() and any(folder.glob("ss-corpus-*.tsv"))

    def is_meant(self, folder: Path) -> bool:
        wanted = self.settings.language.lower()
        return any(path.stem.lower().removeprefix("ss-corpus-") == wanted for path in folder.glob("ss-corpus-*.tsv"))

    def annotations(self) -> list[Path]:
        return sorted(self.root.glob("ss-corpus-*.tsv"))

    def entries(self) -> Iterator[Utterance | Reject]:
        for path in self.annotations():
            table = FolderCorpus(
                reader="folder",
                path=str(self.root),
                table=path.name,
                columns=COLUMNS,
                splits=self.settings.splits,
                language=self.settings.language,
            )
            for entry in TableReader(table).utterances():
                if entry.audio is not None:
                    audio = entry.audio._replace(path=self.relative(self.root / AUDIO / entry.audio.path))
                    entry = replace(entry, audio=audio, utterance_id=Path(entry.audio.path).stem)
                yield entry
