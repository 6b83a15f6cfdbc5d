"""Learning curves, one row for each evaluation of a training job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.errors import HeadstartError
from headstart.files import written_whole


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """Write a learning curve as parquet, whole or not at all.

    The column `step` is int64, every other column float64; a value that a row lacks is null.
    """
    names = dict.fromkeys(name for row in curve for name in row)
    columns = {n: pa.array([row.get(n) for row in curve], pa.int64() if n == "step" else pa.float64()) for n in names}
    with written_whole(path) as temporary:
        pq.write_table(pa.table(columns), temporary, write_page_checksum=True)


def read_curve(path: Path) -> dict[str, np.ndarray] | None:
    """Columns of a learning curve as float64, null as NaN, rows in order of `step`; None when the file does not exist.

    Raises:
        HeadstartError: the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True).sort_by("step")
    except (pa.ArrowException, OSError) as error:  # not renamed: only training could make it again
        raise HeadstartError(
            f"{path}: the learning curve cannot be read ({error}). Restore it from a copy, or delete its folder and "
            "run Snakemake again, which trains the run anew"
        ) from None
    return {name: np.array(table[name].to_pylist(), dtype=np.float64) for name in table.column_names}
