"""Hugging Face datasets: as `save_to_disk` writes them, or as parquet files with audio in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headstart.corpora.audio_tables import open_table
from headstart.corpora.columns import Columns, places
from headstart.corpora.paths import files_under, without_suffix
from headstart.corpora.reader import (
    AudioReference,
    CorpusError,
    CorpusFileError,
    Description,
    RecordedReader,
    Utterance,
)
from headstart.corpora.text_files import read_text
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split


class HuggingFaceCorpus(RecordedCorpus):
    """A Hugging Face dataset on disk."""

    reader: Literal["huggingface"] = Field(description="`huggingface`: a dataset saved to disk, or as audio parquet.")
    columns: Columns = Field(
        Columns(), description="Mapping from our fields to the dataset's columns, as for `folder`."
    )

    @property
    def without_transcripts(self) -> str | None:
        """Why the corpus has no transcripts, by its keys; None where it has some."""
        return "its columns.text is null" if self.columns.text is None else super().without_transcripts


class HuggingFaceReader(RecordedReader):
    """Reads Hugging Face datasets with pyarrow. Audio stays in the tables; no row is copied."""

    section = HuggingFaceCorpus
    description = Description(
        title="Hugging Face datasets on disk",
        layout="""
            my_dataset/                             what `dataset.save_to_disk("my_dataset")` writes:
              dataset_dict.json
              train/data-00000-of-00002.arrow ...
              train/state.json, dataset_info.json
              test/ ...
            or parquet files with audio in a column of struct<bytes, path>:
              data/train-00000-of-00004.parquet ...
              data/test-00000-of-00001.parquet
            """,
        example="path: my_dataset, language: sw, columns: {speaker: speaker_id}",
        source="https://huggingface.co/docs/datasets",
        notes=(
            "The audio is the column `audio`, or the only one with bytes. Text is in `text`, `transcription`, "
            "`sentence` or another usual column, unless `columns.text` names it.",
            "Where the column `id` names sentences and not recordings, as in FLEURS, set `columns: {utterance_id: "
            "null}`: ids are then made of file and row.",
            "The split is the name in `splits` that the folder or the file name holds. Without any, splits are drawn.",
            "A folder of audio files with a metadata.csv is read by `reader: folder`.",
        ),
    )

    def annotations(self) -> list[Path]:
        """The tables that the study uses."""
        return [self.folder / name for name, _ in self._tables()]

    def audio_files(self) -> Iterator[str]:
        """The tables; audio that they only name is not watched."""
        yield from (name for name, _ in self._tables())

    def utterances(self) -> Iterator[Utterance]:
        """One utterance for each row."""
        self.check()
        for name, split in self._tables():
            yield from self._table(name, split)

    def _tables(self) -> list[tuple[str, Split | None]]:
        """Each table, relative to the folder, with its split."""
        names = files_under(self.folder, (".arrow", ".parquet"))
        states = files_under(self.folder, (".json",))
        kept = set()
        for state in states:
            if os.path.basename(state) == "state.json":  # a saved dataset, beside which caches may lie
                kept |= {os.path.join(os.path.dirname(state), file) for file in _data_files(self.folder / state)}
        if kept:
            if missing := sorted(kept - set(names)):
                raise CorpusFileError(f"{self.folder / missing[0]}: no such file, but state.json names it; copy it too")
            names = sorted(kept)
        known = [self._split_name(name) for name in names]
        if not any(known):
            return [(name, None) for name in names]
        found = [
            (name, self.split(own or name, str(self.folder / name))) for name, own in zip(names, known, strict=True)
        ]
        return [(name, split) for name, split in found if split is not None]

    def _split_name(self, name: str) -> str | None:
        """The part of a path that names a split: a folder, or the beginning of the file's name."""
        *folders, file = without_suffix(name).split(os.sep)
        stem = file.split("-00")[0]
        return next((part for part in (stem, *reversed(folders)) if part in self.settings.splits), None)

    def _table(self, name: str, split: Split | None) -> Iterator[Utterance]:
        import pyarrow as pa

        path = self.folder / name
        try:
            schema, audio, rows = open_table(path)
            columns = self.settings.columns.model_copy(update={"audio": audio, "start": None})
            own = places(columns, schema.names, str(path), self.settings.without_transcripts is None)
            wanted = [column for key in own.__slots__ if key != "audio" and (column := getattr(own, key))]
            labels = _class_labels(schema)
            for row, (values, held, audio_path) in enumerate(rows(dict.fromkeys(wanted))):
                for column in labels.keys() & values.keys():
                    values[column] = _label(labels[column], values[column])
                if own.split:
                    split = self.split(_text(values, own.split) or "", f"{path}, row {row + 1}")
                    if split is None:
                        continue
                audio_path = f"{name}#{row}" if held else audio_path
                yield Utterance(
                    line=row + 1,
                    utterance_id=_text(values, own.utterance_id)
                    if own.utterance_id
                    else f"{without_suffix(name)}-{row:06d}",
                    audio=AudioReference(audio_path) if audio_path else None,
                    split=split,
                    text=(_text(values, own.text) or "") if own.text else None,
                    speaker=_text(values, own.speaker),
                    language=_text(values, own.language) or self.settings.language,
                    tokens=_words(values, own.tokens),
                    token_languages=_words(values, own.token_languages),
                    phonemes=_text(values, own.phonemes),
                )
        except (OSError, pa.ArrowException) as error:
            what = " ".join(str(error).split())
            raise CorpusFileError(f"{path}: cut short or damaged ({what}); copy or download it anew") from None


def _data_files(state: Path) -> list[str]:
    """The tables that a `state.json` names."""
    try:
        return [file["filename"] for file in json.loads(read_text(state))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{state}: not the state of a saved dataset ({error!r}); save the dataset anew") from None


def _class_labels(schema: Any) -> dict[str, list[str]]:
    """The names of the numbers in columns of classes, such as languages, as `datasets` writes them into a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: feature.get("names") for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {name: names for name, names in found.items() if isinstance(names, list)}


def _label(names: list[str], value: Any) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _text(values: dict[str, Any], column: str | None) -> str | None:
    """A cell without spaces around it; None where it is empty or no text, or where there is no such column."""
    value = values.get(column) if column else None
    return str(value).strip() or None if isinstance(value, str | int) else None


def _words(values: dict[str, Any], column: str | None) -> list[str] | None:
    """A cell with a list of words, or with words that spaces divide."""
    value = values.get(column) if column else None
    return (
        [str(word) for word in value] or None
        if isinstance(value, list)
        else (_text(values, column) or "").split() or None
    )
