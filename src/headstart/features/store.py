"""How decoded audio is laid out in Arrow files: the clips themselves, or an index of shards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from headstart.files import derived

AUDIO = pa.schema([pa.field("audio", pa.large_list(pa.int16()), nullable=False)])
CLIPS_A_BATCH = 64  # rows in an Arrow record batch: the most that is held in memory while writing
# Of each shard, relative to the folder of the index.
INDEX = pa.schema([pa.field("features", pa.string(), nullable=False), pa.field("audio", pa.string(), nullable=False)])


def read_index(audio: str | Path) -> list[tuple[Path, Path]] | None:
    """The features and the audio of each shard, where `audio` is an index of them; None where it is audio itself.

    Raises:
        BrokenFileError: the file is missing or broken.
    """
    with derived(audio, pa.ArrowException, ValueError), pa.memory_map(str(audio)) as file:
        reader = pa.ipc.open_file(file)
        if not reader.schema.equals(INDEX):
            return None
        return [
            (Path(audio).parent / row["features"], Path(audio).parent / row["audio"])
            for row in reader.read_all().to_pylist()
        ]
