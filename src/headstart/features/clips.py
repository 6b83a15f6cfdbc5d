"""Clips: the utterances of a split, and random access to their samples in a memory-mapped Arrow file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from headstart.corpora.manifests import FEATURES, ROWS_A_GROUP, count_rows, gather, read_columns, read_rows
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE, content_hash
from headstart.features.store import AUDIO, CLIPS_A_BATCH, read_index
from headstart.files import BrokenFileError, derived, fingerprint_rows, set_aside


class AudioStore:
    """Random access to a feature stage's memory-mapped audio, without copying it into memory."""

    def __init__(self, path: str | Path):
        """Map a file; raises `BrokenFileError` when it is missing, or broken and therefore set aside."""
        self.path = path
        with derived(path, pa.ArrowException, ValueError) as self._status, open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._reader = pa.ipc.open_file(pa.py_buffer(self._map))
            if not self._reader.schema.equals(AUDIO):
                raise pa.ArrowInvalid(f"its columns are {self._reader.schema}")
            batches = self._reader.num_record_batches
            self._count = (batches - 1) * CLIPS_A_BATCH + len(self._reader.get_batch(batches - 1)) if batches else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        """int16 samples of clip `index`, shape (num_samples,); read-only, backed by the mapped file.

        Raises:
            BrokenFileError: the file is damaged there, and was set aside.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has no clip {index}")
        try:
            batch = self._reader.get_batch(index // CLIPS_A_BATCH)
            batch.validate()  # its buffers have the stated lengths, so that nothing is read beyond them
            clips, row = batch.column(0), index % CLIPS_A_BATCH
            begin, end = clips.offsets[row : row + 2].to_pylist()
        except (pa.ArrowException, ValueError, OSError, IndexError) as error:
            raise self.broken(f"{self.path}: damaged, its clip {index} cannot be read ({error})") from None
        return clips.values.to_numpy(zero_copy_only=True)[begin:end]

    def broken(self, problem: str) -> BrokenFileError:
        """Set the file aside because of a problem with its content; see `set_aside`."""
        return set_aside(self.path, self._status, problem)

    def release(self) -> None:
        """Give back the memory of what was read. Arrays over it stay valid, and are read again on access."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


@dataclass
class Split:
    """The two files that the feature stage writes for a split."""

    features: str | Path
    audio: AudioStore
    _hashes: np.ndarray | None = field(default=None, init=False, repr=False)  # uint64, of each clip
    _checked: np.ndarray | None = field(default=None, init=False, repr=False)  # bool, of each clip

    def clip(self, row: int) -> np.ndarray:
        """int16 samples of a clip, shape (num_samples,), read-only; compared to its hash when first read.

        Raises:
            BrokenFileError: they differ from those that were extracted, and the file was set aside.
        """
        samples = self.audio[row]
        if self._hashes is None:
            self._hashes = _content_hashes(self.features)
            self._checked = np.zeros(len(self._hashes), bool)
        if not self._checked[row]:
            if int(content_hash(samples), 16) != self._hashes[row]:
                name = read_rows(self.features, FEATURES, ["utterance_id"], np.array([row]))["utterance_id"][0]
                raise self.audio.broken(
                    f"{self.audio.path}: damaged, the samples of {name} are not those that {self.features} describes"
                )
            self._checked[row] = True
        return samples


def _content_hashes(features: str | Path) -> np.ndarray:
    """The content hash of each clip of a feature manifest as a number, shape (N,) uint64: 8 bytes a clip."""
    column = read_columns(features, FEATURES, ["content_hash"])["content_hash"]
    parts = (column.slice(i, ROWS_A_GROUP).to_pylist() for i in range(0, len(column), ROWS_A_GROUP))
    parts = [np.array([int(value, 16) for value in part], np.uint64) for part in parts]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


class Clips:
    """Utterances of one split, or of several.

    Only the place and the length of each utterance are in memory, because a corpus of a thousand hours has a million
    utterances. Everything else is read from the feature manifest on access.

    Args:
        splits: the splits that the utterances are taken from.
        split: of each utterance, a position in `splits`, shape (N,).
        row: its row there, shape (N,).
        lengths: its samples, shape (N,).
    """

    def __init__(self, splits: Sequence[Split], split: np.ndarray, row: np.ndarray, lengths: np.ndarray):
        self.splits, self.split, self.row, self.lengths = splits, split, row, lengths
        self._read: AudioStore | None = None  # the store of the clip that was read last

    @classmethod
    def open(cls, features: str | Path, audio: str | Path) -> Clips:
        """The whole of a split, also in shards; raises `HeadstartError` when the two files do not belong together."""
        if (shards := read_index(audio)) is not None:
            clips = cls.concatenate([cls.open(*shard) for shard in shards])
            if (count := count_rows(features)) != len(clips):
                raise HeadstartError(f"the shards of {audio} have {len(clips)} clips, {features} {count}; delete both")
            return clips
        lengths = read_columns(features, FEATURES, ["num_samples"])["num_samples"].to_numpy()
        store, count = AudioStore(audio), len(lengths)
        if count != len(store):
            raise HeadstartError(f"{audio} has {len(store)} clips, {features} {count}; delete both and run again")
        return cls([Split(features, store)], np.zeros(count, np.int32), np.arange(count), lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[Clips]) -> Clips:
        """The utterances of all parts, one part after the other."""
        before = np.cumsum([0, *(len(part.splits) for part in parts)])
        return cls(
            [split for part in parts for split in part.splits],
            np.concatenate([part.split + np.int32(b) for part, b in zip(parts, before, strict=False)]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def take(self, indices: ArrayLike) -> Clips:
        """These utterances only, in this order."""
        indices = np.asarray(indices, np.int64)
        return Clips(self.splits, self.split[indices], self.row[indices], self.lengths[indices])

    def first(self, minutes: float) -> Clips:
        """The first utterances, as many as fit into so many minutes, and at least one."""
        count = int((np.cumsum(self.lengths) <= minutes * 60 * SAMPLE_RATE).sum())
        return self.take(range(min(len(self), max(1, count))))

    def __len__(self) -> int:
        return len(self.lengths)

    def audio(self, index: int) -> np.ndarray:
        """int16 samples of an utterance, shape (num_samples,), read-only; see `Split.clip`."""
        if self._read is not None:  # otherwise the whole corpus would stay in memory
            self._read.release()
        split = self.splits[self.split[index]]
        self._read = split.audio
        return split.clip(int(self.row[index]))

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """These columns of the feature manifest, one tuple an utterance. They are read in blocks."""
        for start in range(0, len(self), ROWS_A_GROUP):
            split, row = (places[start : start + ROWS_A_GROUP] for places in (self.split, self.row))
            block = gather(split, lambda k, at, row=row: read_rows(self.splits[k].features, FEATURES, names, row[at]))
            yield from zip(*(block[name].to_pylist() for name in names), strict=True)

    def column(self, name: str) -> list[Any]:
        """One column of the feature manifest, as Python values."""
        return [value for (value,) in self.rows(name)]

    @property
    def seconds(self) -> float:
        """Seconds of audio in all utterances."""
        return int(self.lengths.sum()) / SAMPLE_RATE

    @property
    def content(self) -> str:
        """Short hash of the audio, the transcripts and their languages, tags of tokens included, in order."""
        names = ("utterance_id", "content_hash", "text", "language", "tokens", "token_languages")
        return fingerprint_rows(row if row[-1] else row[:4] for row in self.rows(*names))

    @property
    def audio_content(self) -> str:
        """Short hash of the audio alone, in order."""
        return fingerprint_rows(self.rows("utterance_id", "content_hash"))
