"""The reader of synthetic corpora, which `synthesis.py` writes as a folder with a table."""

from __future__ import annotations

from pathlib import Path

from headstart.corpora.table import TableReader
from headstart.study.corpora import Columns, FolderCorpus, SyntheticCorpus

COLUMNS = Columns(
    speaker="speaker",
    language="language",
    split="split",
    tokens="tokens",
    token_languages="token_languages",
    phonemes="phonemes",
)


class SyntheticReader(TableReader):
    """Reads a corpus folder that the synthesiser wrote."""

    def __init__(self, settings: SyntheticCorpus, raw: str | Path):
        language = settings.language.split("-")[0]
        super().__init__(FolderCorpus(reader="folder", path=str(raw), columns=COLUMNS, language=language))

    def check(self) -> None:
        """Check nothing: the corpus does not exist before the workflow runs, because the workflow makes it."""

    def audio_files(self) -> None:
        """None: the synthesiser writes the table and the audio together."""
