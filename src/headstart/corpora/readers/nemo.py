"""NeMo manifests: JSON lines."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headstart.corpora.paths import utterance_id
from headstart.corpora.reader import AudioReference, Description, RecordedReader, Reject, Utterance
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

LANGUAGES, SPEAKERS, IDS = (
    ("lang", "language", "source_lang"),
    ("speaker", "speaker_id"),
    ("id", "utterance_id", "utt_id"),
)


class NemoCorpus(RecordedCorpus):
    """NeMo manifests."""

    reader: Literal["nemo"] = Field(description="`nemo`: manifests of NVIDIA NeMo, JSON lines with audio_filepath.")


class NemoReader(RecordedReader):
    """Reads NeMo manifests."""

    section = NemoCorpus
    description = Description(
        title="NeMo manifests (JSON lines)",
        layout="""
            my_corpus/
              train_manifest.json     a line an utterance: {"audio_filepath": "clips/1.wav", "text": "...",
              dev_manifest.json       "duration": 2.5}, and "offset", "lang", "speaker", "id" if there are any
              clips/1.wav ...
            """,
        example="path: my_corpus, language: en, outside: true",
        source="https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html",
        notes=(
            "Manifests are the files .json, .jsonl and .jsonl.gz at the top of the folder. The split of a manifest is "
            "the name in `splits` that its file name holds, such as `train` in `train_manifest.json`; a manifest "
            "alone may have any name, and is divided.",
            "Relative paths are relative to the folder. Absolute ones outside it need `outside: true`. Manifests of "
            "tarred audio are refused by the rows, whose files are not there.",
        ),
    )

    def annotations(self) -> list[Path]:
        """The manifests that the study uses."""
        return [path for path, _ in self._manifests()]

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance or reject for each line."""
        self.check()
        for path, split in self._manifests():
            content = read_text(path)
            says_its_end(path, content)
            for line, text in enumerate(re.split(r"\r\n|\n|\r", content), start=1):
                if text.strip():
                    yield self._entry(text, line, split, path)

    def _manifests(self) -> list[tuple[Path, Split | None]]:
        files = [path for path in sorted(self.folder.iterdir()) if re.search(r"\.jsonl?(\.gz)?$", path.name.lower())]
        if len(files) == 1:
            return [(files[0], None)]
        found = [(path, self.split_of_file(path.name.partition(".")[0], str(path))) for path in files]
        return [(path, split) for path, split in found if split is not None]

    def _entry(self, text: str, line: int, split: Split | None, path: Path) -> Utterance | Reject:
        known: dict[str, Any] = {"line": line, "split": split}
        try:
            row = json.loads(text)
            if not isinstance(row, dict):
                raise ValueError("it is no mapping of keys")
        except (ValueError, RecursionError) as error:
            return Reject(**known, reason=f"malformed line: not JSON, {error} ({path.name})")
        try:
            audio, name = self._audio(row)
        except ValueError as error:
            return Reject(**known, reason=f"{error} ({path.name})")
        return Utterance(
            **known,
            utterance_id=_word(row, IDS) or name,
            audio=audio,
            text=(_word(row, ("text",)) or "") if self.settings.transcripts else None,
            speaker=_word(row, SPEAKERS),
            language=_word(row, LANGUAGES) or self.settings.language,
        )

    def _audio(self, row: dict[str, Any]) -> tuple[AudioReference | None, str]:
        """The audio of a line, and the id that it gives; `ValueError`, with the reason, where it has none."""
        path = row.get("audio_filepath")
        if path is not None and not isinstance(path, str):
            raise ValueError("malformed line: audio_filepath is no text, but one recording is needed")
        offset, duration = _number(row, "offset"), _number(row, "duration")
        if (offset or 0) < 0 or (duration is not None and not duration > 0):
            raise ValueError(f"malformed times: offset {offset}, duration {duration}")
        if not path:
            return None, ""
        path = os.path.expanduser(path)
        if offset is None:
            return AudioReference(path, 0.0, duration), utterance_id(path)
        end = None if duration is None else offset + duration
        return AudioReference(path, offset, duration), utterance_id(path, offset, end)


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f"malformed times: {key} is {value!r}")
    return float(value)


def _word(row: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of some values that is there, as text."""
    value = next((row[key] for key in keys if row.get(key) is not None), None)
    return str(value).strip() or None if isinstance(value, str | int) else None
