"""Where audio bytes lie: a file, or a row of a parquet or Arrow table."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW = re.compile(r"(?P<table>.+\.(?:parquet|arrow))#(?P<row>[0-9]+)", re.IGNORECASE | re.DOTALL)


class AudioError(ValueError):
    """Audio that cannot be used. The message is the reason for the clip's rejection."""


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded audio: the path of a file, or the bytes of a table's row."""

    path: str
    content: bytes | None
    size: int  # bytes
    changed: int | None  # modification time of the file, ns

    @property
    def opened(self) -> str | io.BytesIO:
        """What decoders open."""
        return self.path if self.content is None else io.BytesIO(self.content)

    def part(self, begin: int, length: int) -> bytes:
        """So many bytes from `begin`, which counts from the end where it is negative."""
        if self.content is not None:
            begin = max(0, begin + len(self.content)) if begin < 0 else begin
            return self.content[begin : begin + length]
        place, file = begin if begin >= 0 else max(0, begin + self.size), os.open(self.path, os.O_RDONLY)
        try:  # half the time of open(), seek() and read()
            content = os.pread(file, length, place)
            while len(content) < length and (more := os.pread(file, length - len(content), place + len(content))):
                content += more  # one call gives 2 GB at most
            return content
        finally:
            os.close(file)


def table_row(path: str) -> tuple[str, int] | None:
    """The table and the row that an audio path such as `shard.parquet#12` names; None for the path of a file."""
    match = ROW.fullmatch(path)
    return (match["table"], int(match["row"])) if match and not os.path.exists(path) else None


def find_source(path: str) -> Source:
    """The audio that a path names: a file, or row N of a table as `TABLE.parquet#N` or `TABLE.arrow#N`.

    The row's audio is the column `audio`, or the only one that holds audio: `binary`, or a struct with `bytes`.

    Raises:
        AudioError: there is no such file or row, the table is damaged, or the row has no bytes.
    """
    if (found := table_row(path)) is None:
        with contextlib.suppress(OSError, ValueError):  # no such file, or a name that no file can have
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                return Source(path, None, status.st_size, status.st_mtime_ns)
        raise AudioError("audio file not found")
    table, row = found
    try:
        status = os.stat(table)
        rows = _table(table, status.st_mtime_ns, status.st_size)
        value = rows.value(row)
    except FileNotFoundError:
        raise AudioError(f"audio file not found: no table {os.path.basename(table)}") from None
    except IndexError:
        raise AudioError(f"no row {row}: the table has {rows.count}, counted from 0") from None
    except (OSError, pa.ArrowException) as error:
        what = f"the table {os.path.basename(table)} cannot be read, copy or download it anew"
        raise AudioError(f"undecodable audio: {what} ({' '.join(str(error).split())})") from None
    content = value.get("bytes") if isinstance(value, dict) else value
    if not content:
        raise AudioError("no audio in the row: it has no bytes")
    return Source(path, content, len(content), None)


class _Rows:
    """Random access to the audio of a table; the rows that were read last stay in memory."""

    def __init__(self, path: str):
        if Path(path).suffix.lower() == ".parquet":
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata, schema = self._file.metadata, self._file.schema_arrow
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            self._part = lambda i, name: self._file.read_row_group(i, [name])[name]
        else:
            with pa.memory_map(path) as mapped:
                head = mapped.read(6)
            opened = pa.ipc.open_file if head == b"ARROW1" else pa.ipc.open_stream
            self._table = opened(pa.memory_map(path)).read_all()
            schema, counts = self._table.schema, [len(self._table)]
            self._part = lambda i, name: self._table[name]
        self._name, self.count = _audio_column(schema), sum(counts)
        self._ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        self._held: tuple[int, Any] = (-1, None)  # a part, and its audio or what is wrong with it

    def value(self, row: int) -> Any:
        if not row < self.count:
            raise IndexError(row)
        part = next(i for i, end in enumerate(self._ends) if row < end)
        if self._held[0] != part:
            self._held = (part, self._checked(part))
        if isinstance(self._held[1], Exception):
            raise self._held[1]
        return self._held[1][row - (self._ends[part - 1] if part else 0)].as_py()

    def _checked(self, part: int) -> pa.ChunkedArray | Exception:
        """The audio of a part, or why it cannot be read: where a damaged offset leads, pyarrow ends the process."""
        try:
            column = self._part(part, self._name)
            column.validate(full=True)
            if len(column) != self._ends[part] - (self._ends[part - 1] if part else 0):
                raise pa.ArrowInvalid(f"{len(column)} rows of audio, which are fewer or more than its header says")
            return column
        except (OSError, pa.ArrowException) as error:
            return error


@lru_cache(maxsize=1)  # the rows of a table follow one another
def _table(path: str, changed: int, size: int) -> _Rows:
    return _Rows(path)


def _audio_column(schema: pa.Schema) -> str:
    """Name of the column with audio."""
    names = audio_columns(schema)
    if len(names) == 1:
        return names[0]
    listed = ", ".join(schema.names)
    raise AudioError(f"no audio in the table: {len(names)} of its columns hold bytes, none is named audio ({listed})")


def audio_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that may hold audio: `audio` alone if it does, else all that hold bytes."""
    names = [field.name for field in schema if _holds_audio(field.type)]
    return ["audio"] if "audio" in names else names


def _holds_audio(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
