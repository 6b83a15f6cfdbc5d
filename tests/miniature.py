"""Miniatures of corpora: short recordings, and the reading of a folder that a test has laid out as a corpus."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from pydantic import TypeAdapter

from headstart.corpora.reader import Reader, Reject, Utterance
from headstart.corpora.reading import Reading, read_utterances
from headstart.corpora.registry import Corpus, open_reader


def recording(path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> Path:
    """Write noise as an audio file of the suffix's format, such as .wav or .flac; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    samples = 0.1 * rng.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate, format=path.suffix[1:].upper())
    return path


def write(path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    """Write lines of text as a file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def reader_of(reader: str, path: Path, **settings: Any) -> Reader:
    """The reader of a corpus, after its `check`, from an entry as a study has it. `language` is `und` by default."""
    from headstart.corpora.registry import READERS

    if READERS[reader].section.model_fields["language"].is_required():
        settings = {"language": "und", **settings}
    corpus = TypeAdapter(Corpus).validate_python({"reader": reader, "path": str(path), **settings})
    opened = open_reader(corpus)
    opened.check()
    return opened


def entries(reader: str, path: Path, **settings: Any) -> list[Utterance | Reject]:
    """What a reader yields for a corpus."""
    return list(reader_of(reader, path, **settings).utterances())


def reading(reader: str, path: Path, **settings: Any) -> Reading:
    """Manifest rows and rejects of a corpus, with no splits drawn unless the settings ask for them."""
    return read_utterances(reader_of(reader, path, **{"dev_share": 0.0, "test_share": 0.0, **settings}))
