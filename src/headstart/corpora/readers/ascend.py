"""ASCEND, conversations in Mandarin and English in Hong Kong.

Read through the table reader; lhotse has no recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import CorpusError, Description, Reject, Utterance
from headstart.corpora.readers.table import Columns, FolderCorpus, TableReader
from headstart.corpora.rooted import RootedReader, lines
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

TABLE = "_metadata.csv"
LANGUAGES = {"zh": "zh", "en": "en", "mixed": "zh"}


class AscendCorpus(RecordedCorpus):
    """ASCEND: spontaneous Mandarin-English conversations."""

    reader: Literal["ascend"] = Field(description="`ascend`: ASCEND as it is on the Hugging Face hub.")
    language: str = Field("zh", description="BCP 47 language where an utterance is mixed.")
    splits: dict[str, Split | None] = Field(
        {"train": "train", "validation": "dev", "test": "test"},
        description="The corpus's tables -> our splits; null leaves one out.",
    )


class AscendReader(RootedReader):
    """Reads the table of each split."""

    section = AscendCorpus
    description = Description(
        title="ASCEND, Mandarin-English conversations",
        layout="""
            ASCEND/
              train_metadata.csv validation_metadata.csv test_metadata.csv
                        file_name,transcription,duration,language,original_speaker_id,session_id,topic
              waves/ses1_spk17_L3823_15.3200_0.7810.wav      waves.tar.bz2 is to be unpacked
            """,
        example="path: data/raw/ASCEND",
        source="https://huggingface.co/datasets/CAiRE/ASCEND",
        licence="CC BY-SA 4.0",
        notes=(
            "Tokens are tagged by script. `[UNK]` stays as transcribed: `text: {tags: drop}` drops it.",
            "This is the repository with tables and an archive. Parquet files of the hub have a reader of their own.",
        ),
    )
    contents = f"train{TABLE}"

    def is_root(self, folder: Path) -> bool:
        return any(folder.glob(f"*{TABLE}"))

    def tables(self) -> dict[Path, Split]:
        """The tables that the study uses, with their splits."""
        named = {path.name.removesuffix(TABLE): path for path in sorted(self.root.glob(f"*{TABLE}"))}
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        return list(self.tables())

    def check(self) -> None:
        super().check()
        if not (self.root / "waves").is_dir():
            archive = next(self.root.glob("waves.tar*"), None)
            advice = f'unpack it: tar xf "{archive}" -C "{self.root}"' if archive else "put the recordings there"
            raise CorpusError(f"{self.root / 'waves'}: no such folder; {advice}")

    def entries(self) -> Iterator[Utterance | Reject]:
        for path, split in self.tables().items():
            _, header = next(lines(path), (0, ""))
            columns = Columns(
                audio="file_name" if "file_name" in header else "path",
                utterance_id=None,
                text="transcription",
                language="language",
                speaker="original_speaker_id",
            )
            table = FolderCorpus(
                reader="folder", path=str(self.root), table=path.name, columns=columns, language=self.settings.language
            )
            for entry in TableReader(table).utterances():
                if entry.audio is not None:
                    audio = entry.audio._replace(path=self.relative(self.root / entry.audio.path))
                    entry = replace(entry, audio=audio, utterance_id=Path(audio.path).stem)
                yield replace(self._tagged(entry) if isinstance(entry, Utterance) else entry, split=split)

    def _tagged(self, entry: Utterance) -> Utterance:
        tokens, tags = tokens_by_script(entry.text or "", ("zh", "en"))
        own = {**LANGUAGES, "mixed": self.settings.language}.get(entry.language, entry.language)
        return replace(entry, language=own, tokens=tokens or None, token_languages=tags or None)
