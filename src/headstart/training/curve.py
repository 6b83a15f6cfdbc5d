"""Learning curves, one row for each evaluation of a training job."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headstart.files import written_whole


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """Write a learning curve as parquet, whole or not at all.

    The column `step` is int64, every other column float64; a value that a row lacks is null.
    """
    names = dict.fromkeys(name for row in curve for name in row)
    columns = {n: pa.array([row.get(n) for row in curve], pa.int64() if n == "step" else pa.float64()) for n in names}
    with written_whole(path) as temporary:
        pq.write_table(pa.table(columns), temporary, write_page_checksum=True)
