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
        self._pending: list[np.ndarray] = []
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
            self._pending.append(samples)
            self.kept += 1
            if len(self._pending) == CLIPS_A_BATCH:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_batch(record_batch(self._pending))
            self._sink.flush()
        if self._lines:
            self._log.write("\n".join(self._lines) + "\n")
            self._log.flush()
        self._pending, self._lines = [], []

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


def record_batch(clips: list[np.ndarray]) -> pa.RecordBatch:
    """Clips as rows under the schema `AUDIO`."""
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])])
    values = pa.array(np.concatenate(clips), pa.int16())
    return pa.record_batch([pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)], schema=AUDIO)
