"""Features that were extracted in shards: one feature manifest of all, and an index in place of a copy of the audio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from headstart.corpora.manifests import FEATURES, REJECTS, iterate_rows, table_writer
from headstart.features.extraction import features_schema
from headstart.features.store import INDEX
from headstart.files import written_whole


def join_shards(parts: Sequence[tuple[str, str, str]], audio: str, features: str, rejects: str) -> None:
    """Write the feature manifest and the rejects of all shards, and an index of their audio in place of `audio`.

    Args:
        parts: the features, audio and rejects of each shard, in the order of the shards.
    """
    with table_writer(features, features_schema(parts[0][0])) as write:
        for part, _, _ in parts:
            for row in iterate_rows(part, FEATURES):
                write(row)
    with table_writer(rejects, REJECTS) as write:
        for _, _, part in parts:
            for row in iterate_rows(part, REJECTS):
                write(row)
    folder = Path(audio).parent
    rows = [{"features": os.path.relpath(f, folder), "audio": os.path.relpath(a, folder)} for f, a, _ in parts]
    with written_whole(audio) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, INDEX) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=INDEX))
