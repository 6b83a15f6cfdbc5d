"""The registry of corpus readers. `reader.py` says how to add one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field

from headstart.corpora.reader import Reader
from headstart.corpora.readers.clips import ClipsReader
from headstart.corpora.readers.elan import ElanReader
from headstart.corpora.readers.huggingface import HuggingFaceReader
from headstart.corpora.readers.kaldi import KaldiReader
from headstart.corpora.readers.lhotse import LhotseReader
from headstart.corpora.readers.nemo import NemoReader
from headstart.corpora.readers.subtitles import SubtitlesReader
from headstart.corpora.readers.table import TableReader
from headstart.corpora.readers.textgrid import TextGridReader
from headstart.corpora.synthetic.reader import SyntheticReader

# `reader:` of a corpus in the study -> its reader, in the order of the documents.
READERS: dict[str, type[Reader]] = {
    reader.name(): reader
    for reader in (
        SyntheticReader,
        TableReader,
        ClipsReader,
        TextGridReader,
        ElanReader,
        SubtitlesReader,
        KaldiReader,
        NemoReader,
        LhotseReader,
        HuggingFaceReader,
    )
}

# A corpus of the study: the settings section of one of the readers.
Corpus = Annotated[Union[tuple(reader.section for reader in READERS.values())], Field(discriminator="reader")]  # noqa: UP007


def open_reader(settings: Any, raw: str | Path = "") -> Reader:
    """The reader of a corpus.

    Args:
        settings: the corpus's section of the study.
        raw: folder of the corpus where the workflow makes it.
    """
    return READERS[settings.reader](settings, raw)
