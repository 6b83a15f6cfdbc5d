"""Manifests: parquet tables with one row an utterance, under the schemas that every writer and reader goes through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.errors import HeadstartError
from headstart.files import derived, fingerprint, written_whole

# Keys of a table's metadata. The last one has a hash of its columns, which none of parquet's checksums covers.
RECIPE, TUNING, AUDIO, COLUMNS = (f"headstart.{name}".encode() for name in ("recipe", "tuning", "audio", "columns"))
ROWS_A_GROUP = 1 << 14  # rows of a file that must be read together

# What is written of a corpus. `audio_path`, `offset_s` and `duration_s` refer to a whole file or a stretch of one. The
# path `shard.parquet#12` is reserved for the audio in a row of a container, with rows counted from 0; nothing decodes
# containers yet. `tokens`, `token_languages` and `phonemes` are null where a corpus has none; `text` is as transcribed
# (null in an unlabelled corpus): normalisation is a setting of the study, not a property of the data.
MANIFEST = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("audio_path", pa.string(), nullable=False),
        pa.field("offset_s", pa.float64(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("tokens", pa.list_(pa.string())),
        pa.field("token_languages", pa.list_(pa.string())),
        pa.field("phonemes", pa.string()),
        pa.field("channel", pa.int16()),  # counted from 0; null for all of them, mixed
    ]
)
# Columns that a table lacks where no row has a value, as most corpora have one channel: their tables stay as they are.
OPTIONAL = frozenset({"channel"})

# What the feature stage adds: measurements of the decoded 16 kHz audio.
FEATURES = pa.schema(
    [
        *MANIFEST,
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("loudness_dbfs", pa.float32(), nullable=False),
        pa.field("snr_db", pa.float32(), nullable=False),
        pa.field("speech_ratio", pa.float32(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("utterance_id", pa.string()),
        pa.field("audio_path", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


# What `cluster_clips` says of each utterance of a split.
CLUSTERS = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("cluster", pa.int32(), nullable=False),
    ]
)


def write_table(
    path: str | Path,
    rows: Iterable[dict[str, Any]],
    schema: pa.Schema,
    recipe: dict[str, Any] | None = None,
    tuning: dict[str, Any] | None = None,
) -> None:
    """Write rows as parquet under `schema`, whole or not at all. Missing nullable fields become null.

    Columns of `OPTIONAL` without any value are left out.

    `recipe` describes what the rows were computed from; `table_recipe` reads it back. `tuning` has what was chosen
    while they were computed; `table_tuning` reads it back.
    """
    save_table(path, described(rows_table(path, rows, schema), {RECIPE: recipe, TUNING: tuning}))


def rows_table(path: str | Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as the table that `write_table` writes to `path`."""
    return without_empty(_table(path, rows, schema))


def described(table: pa.Table, metadata: dict[bytes, Any]) -> pa.Table:
    """The table with those of these JSON-like values as metadata that are not None, and with no other."""
    values = {key: json.dumps(value) for key, value in metadata.items() if value is not None}
    return table.replace_schema_metadata({**values, COLUMNS: _columns(table.schema)})


def save_table(path: str | Path, table: pa.Table) -> None:
    """Write a table as the workflow's parquet files are written, whole or not at all."""
    with written_whole(path) as temporary:
        pq.write_table(table, temporary, row_group_size=ROWS_A_GROUP, write_page_checksum=True)


@contextmanager
def table_writer(path: str | Path, schema: pa.Schema) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Context that yields a function which writes a row, as `write_table` does, whole or not at all.

    There is never more than a row group in memory. All columns of `schema` are written.
    """
    rows: list[dict[str, Any]] = []
    schema = schema.with_metadata({COLUMNS: _columns(schema)})
    with written_whole(path) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True) as file:

        def write() -> None:
            file.write_table(_table(path, rows, schema), row_group_size=ROWS_A_GROUP)
            rows.clear()

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) == ROWS_A_GROUP:
                write()

        yield add
        if rows:
            write()


def _columns(schema: pa.Schema) -> str:
    """Hash of the names and types of columns. In files, the items of lists have another name than in memory."""
    return fingerprint([[f.name, re.sub(r"\b(item|element): ", "", str(f.type)), f.nullable] for f in schema])


def _table(path: str | Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; raises `ValueError` where they do not fit the schema."""
    columns = {field.name: [] for field in schema}
    for row in rows:
        if unknown := row.keys() - columns.keys():
            raise ValueError(f"{path}: no such column in the schema: {sorted(unknown)}")
        for name, values in columns.items():
            values.append(row.get(name))
    table = pa.table(columns, schema=schema)
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"{path}: column {field.name!r} has rows without a value")
    return table


def without_empty(table: pa.Table) -> pa.Table:
    """The table without those of the `OPTIONAL` columns in which nothing but null stands."""
    empty = [name for name in OPTIONAL.intersection(table.column_names) if table[name].null_count == len(table)]
    return table.drop_columns(empty) if empty else table


@contextmanager
def opened(path: str | Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet table of the workflow. The checksums of its pages are verified as they are read.

    Raises:
        BrokenFileError: it is missing or broken. A broken one was set aside, so that the workflow writes it again.
    """
    with derived(path, pa.ArrowException, ValueError):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            if sum(counts) != file.metadata.num_rows:  # no checksum covers these counts
                raise pa.ArrowInvalid(f"{file.metadata.num_rows} rows, {sum(counts)} in its parts")
            known = (file.schema_arrow.metadata or {}).get(COLUMNS, b"").decode(errors="replace")
            if known and known != _columns(file.schema_arrow):
                raise pa.ArrowInvalid("its columns are not those with which it was written")
            yield file


def table_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe that `write_table` was given for a table; None without one, or where the file is no such table."""
    return _metadata(path, RECIPE)


def table_audio(path: str | Path) -> str | None:
    """What a manifest says of audio that was replaced since the corpus was first read; None where none was."""
    return _metadata(path, AUDIO)


def table_tuning(path: str | Path) -> dict[str, Any] | None:
    """What `write_table` was given as `tuning` for a table; None without it, or where the file is no such table."""
    return _metadata(path, TUNING)


def _metadata(path: str | Path, key: bytes) -> Any:
    try:
        return json.loads((pq.read_schema(path).metadata or {})[key])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def read_table(path: str | Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read a parquet table as rows; see `read_columns`. Rows lack the `OPTIONAL` columns that the table lacks."""
    return read_columns(path, schema).to_pylist()


def read_columns(path: str | Path, schema: pa.Schema | None, names: Sequence[str] | None = None) -> pa.Table:
    """Read these columns of a parquet table, or all that it has.

    With a schema, an `OPTIONAL` column that it lacks is null, if named; without one, any that it lacks is left out.

    Raises:
        HeadstartError: the table does not have `schema`, where one is given; or see `opened`.
    """
    with opened(path) as file:
        if schema is not None:
            _check(path, file, schema)
        rows = file.metadata.num_rows
        return _completed(_of_length(file.read(_present(file, names)), rows), schema, names)


def read_rows(path: str | Path, schema: pa.Schema, names: Sequence[str], rows: np.ndarray) -> pa.Table:
    """Read some rows of these columns, in the order of `rows`, with never more than a row group in memory besides.

    Raises:
        HeadstartError: the table does not have `schema`; or see `opened`.
    """
    with opened(path) as file:
        _check(path, file, schema)
        groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
        counts = [group.num_rows for group in groups]
        begins = np.cumsum([0, *counts])
        if len(rows) and not 0 <= rows.min() <= rows.max() < begins[-1]:
            raise IndexError(f"{path} has no row {rows.max()}")  # a mistake of the caller, not damage
        return gather(
            np.searchsorted(begins, rows, side="right") - 1,
            lambda group, places: _completed(
                _of_length(file.read_row_group(group, _present(file, names)), counts[group]), schema, names
            ).take(pa.array(rows[places] - begins[group])),
        )


def _present(file: pq.ParquetFile, names: Sequence[str] | None) -> list[str] | None:
    """The named columns less the `OPTIONAL` ones that the file lacks."""
    return names and [name for name in names if name not in OPTIONAL or name in file.schema_arrow.names]


def _completed(table: pa.Table, schema: pa.Schema | None, names: Sequence[str] | None) -> pa.Table:
    """The table with the named `OPTIONAL` columns that it lacks, and the columns in the order of `names`.

    Without a schema, columns that the table lacks are left out.
    """
    if names is None or schema is None:
        return table
    for name in OPTIONAL.intersection(names).difference(table.column_names):
        table = table.append_column(schema.field(name), pa.nulls(len(table), schema.field(name).type))
    return table.select(list(names))


def count_rows(path: str | Path) -> int:
    """Number of rows of a table, by its header."""
    with opened(path) as file:
        return file.metadata.num_rows


def column_names(path: str | Path) -> list[str]:
    """Names of the columns of a table."""
    with opened(path) as file:
        return file.schema_arrow.names


def iterate_rows(
    path: str | Path, schema: pa.Schema, begin: int = 0, end: int | None = None, names: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows from `begin` to before `end`, as `read_table` gives them, with never more than a row group in memory.

    Raises:
        HeadstartError: the table does not have `schema`; or see `opened`.
    """
    with opened(path) as file:
        _check(path, file, schema)
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            low, high = max(begin - first, 0), count if end is None else min(end - first, count)
            if low < high:
                part = _of_length(file.read_row_group(group, _present(file, names)), count).slice(low, high - low)
                for some in _completed(part, schema, names).to_batches(max_chunksize=1024):
                    yield from some.to_pylist()
            first += count


def _of_length(table: pa.Table, rows: int) -> pa.Table:
    """The table; raises `ArrowInvalid` unless it has so many rows. A column with a damaged count comes out shorter."""
    if len(table) != rows:
        raise pa.ArrowInvalid(f"{rows} rows, but only {len(table)} of some column")
    return table


def gather(keys: np.ndarray, read: Callable[[int, np.ndarray], pa.Table]) -> pa.Table:
    """Read rows with the same key together, and return all of them in their own order.

    Args:
        keys: the key of each row, shape (N,); at least one row.
        read: returns the rows of a key, given the key and its positions in `keys`.
    """
    order = np.argsort(keys, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    table = pa.concat_tables([read(int(keys[places[0]]), places) for places in parts])
    return table.take(pa.array(np.argsort(order)))


def _check(path: str | Path, file: pq.ParquetFile, schema: pa.Schema) -> None:
    found = file.schema_arrow.remove_metadata()
    if found != pa.schema([field for field in schema if field.name in found.names or field.name not in OPTIONAL]):
        raise HeadstartError(f"{path}: not the expected columns; delete the file and run again to rebuild it")
