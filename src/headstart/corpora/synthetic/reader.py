"""The reader of synthetic corpora: the synthesiser writes a corpus folder with a table."""

from __future__ import annotations

from pathlib import Path

from headstart.corpora.table import TableReader
from headstart.study.sections import Columns, FolderCorpus, SyntheticCorpus

COLUMNS = Columns(
    speaker="speaker",
    language="language",
    split="split",
    tokens="tokens",
    token_languages="token_languages",
    phonemes="phonemes",
)


class SyntheticReader(TableReader):
    """Reads what the synthesiser wrote."""

    def __init__(self, settings: SyntheticCorpus, raw: str | Path):
        language = settings.language.split("-")[0]
        super().__init__(FolderCorpus(reader="folder", path=str(raw), columns=COLUMNS, language=language))

    def check(self) -> None:
        """Nothing has to be there before the workflow runs, which makes the corpus."""

    def audio_files(self) -> None:
        """None: the synthesiser writes the table and the audio together."""
