"""The registry of corpus readers. `reader.py` says how to add one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field

from headstart.corpora.reader import Reader
from headstart.corpora.readers.aishell import AishellReader
from headstart.corpora.readers.arzen import ArzenReader
from headstart.corpora.readers.ascend import AscendReader
from headstart.corpora.readers.babel import BabelReader
from headstart.corpora.readers.chat import ChatReader
from headstart.corpora.readers.clips import ClipsReader
from headstart.corpora.readers.common_voice import CommonVoiceReader
from headstart.corpora.readers.cs_fleurs import CsFleursReader
from headstart.corpora.readers.elan import ElanReader
from headstart.corpora.readers.fleurs import FleursReader
from headstart.corpora.readers.huggingface import HuggingFaceReader
from headstart.corpora.readers.kaldi import KaldiReader
from headstart.corpora.readers.killkan import KillkanReader
from headstart.corpora.readers.lhotse import LhotseReader
from headstart.corpora.readers.librispeech import LibriLightReader, LibriSpeechReader
from headstart.corpora.readers.mls import MlsReader
from headstart.corpora.readers.mucs import MucsReader
from headstart.corpora.readers.nemo import NemoReader
from headstart.corpora.readers.seame import SeameReader
from headstart.corpora.readers.spontaneous_speech import SpontaneousSpeechReader
from headstart.corpora.readers.subtitles import SubtitlesReader
from headstart.corpora.readers.table import TableReader
from headstart.corpora.readers.talcs import TalcsReader
from headstart.corpora.readers.tedlium import TedliumReader
from headstart.corpora.readers.textgrid import TextGridReader
from headstart.corpora.readers.voxpopuli import VoxPopuliReader
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
        LibriSpeechReader,
        LibriLightReader,
        CommonVoiceReader,
        SpontaneousSpeechReader,
        MlsReader,
        FleursReader,
        VoxPopuliReader,
        TedliumReader,
        AishellReader,
        BabelReader,
        SeameReader,
        AscendReader,
        TalcsReader,
        MucsReader,
        ChatReader,
        ArzenReader,
        CsFleursReader,
        KillkanReader,
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
