"""Parquet and Arrow tables with audio in a column: their rows without the audio, which is decoded where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from headstart.corpora.reader import CorpusError

ROWS = 4096  # that are in memory at a time
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
Rows = Callable[[Iterable[str]], Iterator[tuple[dict[str, Any], bool, str | None]]]


def open_table(path: Path) -> tuple[Any, str, Rows]:
    """Open a .parquet or an .arrow file, in the IPC format of files or of streams.

    Returns:
        Its schema; the name of its column with audio; and a function that, for names of columns, yields of each row the
        values, whether the row holds audio, and the path that it gives for it.

    Raises:
        CorpusError: it has no column with audio, or several of which none is called `audio`; or it was cut short.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        file = pq.ParquetFile(path, page_checksum_verification=True)
        audio = _audio_column(path, file.schema_arrow)
        return file.schema_arrow, audio, lambda names: _parquet_rows(file, audio, list(names))
    with path.open("rb") as begun:
        streamed = begun.read(6) != b"ARROW1"
        begun.seek(max(0, path.stat().st_size - len(END_OF_STREAM)))
        if streamed and begun.read() != END_OF_STREAM:  # pyarrow takes a cut stream for a shorter one
            raise CorpusError(f"{path}: cut short: its end is missing; copy or download it anew")
    mapped = pa.memory_map(str(path))
    reader = pa.ipc.open_stream(mapped) if streamed else pa.ipc.open_file(mapped)
    batches = reader if streamed else (reader.get_batch(i) for i in range(reader.num_record_batches))
    audio = _audio_column(path, reader.schema)
    return reader.schema, audio, lambda names: _arrow_rows(batches, audio, list(names))


def _audio_column(path: Path, schema: Any) -> str:
    from headstart.audio.sources import audio_columns  # here, because it imports pyarrow

    names = audio_columns(schema)
    if len(names) == 1:
        return names[0]
    listed = ", ".join(schema.names)
    raise CorpusError(
        f"{path}: {len(names)} of its columns hold bytes, and none of them is called audio ({listed}). A table of the "
        "paths of audio files is for `reader: folder`, as TSV or CSV"
    )


def _parquet_rows(file: Any, audio: str, names: list[str]) -> Iterator[tuple[dict[str, Any], bool, str | None]]:
    has_path = _has_path(file.schema_arrow.field(audio).type)
    for group in range(file.num_row_groups):
        held = not _without_bytes(file.metadata.row_group(group), f"{audio}.bytes")
        wanted = [*names, *([f"{audio}.path"] if has_path else [])]
        for batch in file.iter_batches(ROWS, row_groups=[group], columns=wanted):
            for row in batch.to_pylist() if wanted else [{} for _ in range(batch.num_rows)]:
                where = row.pop(audio, None) or {}
                yield row, held, where.get("path")


def _without_bytes(group: Any, name: str) -> bool:
    """Whether a row group's audio is all in files that are only named."""
    for i in range(group.num_columns):
        column = group.column(i)
        if column.path_in_schema == name:
            statistics = column.statistics
            return statistics is not None and statistics.has_null_count and statistics.null_count == group.num_rows
    return False


def _arrow_rows(
    batches: Iterable[Any], audio: str, names: list[str]
) -> Iterator[tuple[dict[str, Any], bool, str | None]]:
    import pyarrow.compute as pc

    for batch in batches:
        batch.validate(full=True)  # a damaged offset would end the process
        column = batch.column(audio)
        structured = hasattr(column, "field")
        held = (pc.struct_field(column, "bytes") if structured else column).is_valid().to_pylist()
        has_path = structured and _has_path(column.type)
        paths = pc.struct_field(column, "path").to_pylist() if has_path else [None] * len(column)
        yield from zip(batch.select(names).to_pylist() if names else [{} for _ in held], held, paths, strict=True)


def _has_path(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_struct(kind) and kind.get_field_index("path") >= 0
