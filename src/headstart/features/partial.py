"""What an extraction that was stopped has done already: its audio, and a journal with a line for each manifest row.

The journal is written when a record batch of audio has been, so that whatever it lists is in the audio file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headstart.features.audio import content_hash
from headstart.features.store import AUDIO, CLIPS_A_BATCH

STREAM = 8  # bytes of an Arrow file before the part that is also a readable stream while the file is unfinished


class Partial:
    """The folder of an extraction that is under way.

    Args:
        folder: where it is kept until the extraction is finished.
        identity: of the job; what another one has left there is deleted.

    Attributes:
        done: rows of the manifest that an earlier job has finished.
    """

    def __init__(self, folder: Path, identity: str):
        self.folder = folder
        self.audio, self.journal = folder / "audio.arrow", folder / "journal.jsonl"
        self.kept = self.done = 0
        self._batch = Batch()
        self._lines: list[str] = []
        earlier = self._earlier(identity)
        folder.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(self.audio), "wb")
        self._writer = pa.ipc.new_file(self._sink, AUDIO)
        if earlier is None:
            self._log = self.journal.open("w", encoding="utf-8")
            self._log.write(json.dumps({"identity": identity}) + "\n")
            self._log.flush()
        else:
            self._resume(*earlier)

    def _earlier(self, identity: str) -> tuple[Path, list[int]] | None:
        """The audio of an earlier job with the same identity, and where in its journal each line ends."""
        old = self.folder / "earlier.arrow"
        try:
            with self.journal.open("rb") as file:
                if json.loads(file.readline()) == {"identity": identity}:
                    if not old.exists():
                        os.replace(self.audio, old)
                    return old, file.tell()
        except (OSError, ValueError):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)
        return None

    def _resume(self, old: Path, begin: int) -> None:
        """Copy the audio that is whole, and cut the journal where the audio ends."""
        end, hashes, rows = begin, [], 0
        with self.journal.open("rb") as journal:
            journal.seek(begin)
            for batch in _batches(old):
                hashes, place = [], journal.tell()
                count = 0
                while len(hashes) < len(batch) and (line := journal.readline()).endswith(b"\n"):
                    facts = json.loads(line)
                    count += 1
                    if "reason" not in facts:
                        hashes.append(facts["content_hash"])
                clips = [clip.values.to_numpy() for clip in batch.column(0)] if len(batch) == len(hashes) else []
                if len(batch) != CLIPS_A_BATCH or [content_hash(clip) for clip in clips] != hashes:
                    journal.seek(place)
                    break
                self._writer.write_batch(batch)
                end, rows = journal.tell(), rows + count
                self.kept += len(batch)
        self._log = self.journal.open("r+", encoding="utf-8")
        self._log.truncate(end)
        self._log.seek(0, os.SEEK_END)
        self.done = rows
        old.unlink()

    def add(self, facts: dict[str, Any], samples: np.ndarray | None) -> None:
        """Take the next row of the manifest: its measurements and samples, or the `reason` of its rejection."""
        self._lines.append(json.dumps(facts, ensure_ascii=False))
        if samples is not None:
            self._batch.add(samples)
            self.kept += 1
            if len(self._batch) == CLIPS_A_BATCH:
                self._flush()

    def _flush(self) -> None:
        if len(self._batch):
            self._writer.write_batch(self._batch.taken())
            self._sink.flush()
        if self._lines:
            self._log.write("\n".join(self._lines) + "\n")
            self._log.flush()
        self._lines = []

    def finish(self, path: Path) -> None:
        """Complete the audio file and copy it to `path`, where possible as a link."""
        self._flush()
        self.close()
        path.unlink(missing_ok=True)
        try:
            os.link(self.audio, path)
        except OSError:  # a file system without links
            shutil.copyfile(self.audio, path)

    def close(self) -> None:
        """Close the files, which stay to be resumed."""
        if not self._log.closed:
            self._writer.close()
            self._sink.close()
            self._log.close()

    def facts(self) -> Iterator[dict[str, Any]]:
        """What was added, in its order, by this job and those before it."""
        with self.journal.open(encoding="utf-8") as file:
            next(file)
            yield from map(json.loads, file)

    def delete(self) -> None:
        """Delete the folder, when all results are in their places."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an unfinished Arrow file, as far as they are whole."""
    try:
        with pa.memory_map(str(path)) as file:
            file.seek(STREAM)
            yield from pa.ipc.open_stream(file)
    except (OSError, pa.ArrowException):
        return


class Batch:
    """Clips that will be rows of one record batch.

    Their samples lie in an array that every batch is gathered in: a new one each time costs more than the copying.
    """

    def __init__(self):
        self._samples, self._ends = np.empty(0, np.int16), [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, samples: np.ndarray) -> None:
        """Take a clip: int16 samples, shape (num_samples,)."""
        begin, end = self._ends[-1], self._ends[-1] + len(samples)
        if end > len(self._samples):
            self._samples = np.concatenate([self._samples[:begin], np.empty(2 * end - begin, np.int16)])
        self._samples[begin:end] = samples
        self._ends.append(end)

    def taken(self) -> pa.RecordBatch:
        """The clips as rows under the schema `AUDIO`, which are valid until the next is added."""
        values, offsets = pa.array(self._samples[: self._ends[-1]], pa.int16()), pa.array(self._ends, pa.int64())
        self._ends = [0]
        return pa.record_batch([pa.LargeListArray.from_arrays(offsets, values)], schema=AUDIO)
