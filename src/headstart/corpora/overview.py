"""An overview of corpora for the report: how much each split holds, and what it shares with its training split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headstart.corpora.manifests import REJECTS, opened, read_columns

# What a leak is called in the report, and the column by which it is recognised.
LEAKS = {"recordings": "content_hash", "sentences": "text", "speakers": "speaker"}


def _facts(manifest: Path) -> pa.Table:
    """The columns that are counted. Only the manifests of the feature stage have content hashes."""
    with opened(manifest) as file:
        return file.read(sorted({"speaker", "duration_s", "text", "content_hash"} & set(file.schema_arrow.names)))


def _count(table: Path) -> int:
    """Number of rows of a table, counted in its pages: the count in its header does not show that they can be read."""
    return len(read_columns(table, REJECTS))


def _shared(split: pa.Table, train: pa.Table) -> dict[str, int]:
    """How many utterances of a split have something in common with a training split."""
    shared = {}
    for name, column in LEAKS.items():
        if column in split.column_names and column in train.column_names:
            values, trained = (pc.utf8_lower(table[column]) for table in (split, train))
            known = pc.is_in(values, value_set=trained.combine_chunks().drop_null())
            shared[name] = pc.sum(pc.and_(known, pc.not_equal(pc.fill_null(values, ""), ""))).as_py() or 0
    return {name: count for name, count in shared.items() if count}


def describe(manifests: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each `<...>/{corpus}/{split}.parquet`: utterances, hours, speakers, rejected clips, and `leaks`.

    `leaks` counts what a dev or test split has in common with the training split beside it: `recordings` (the same
    audio), `sentences` and `speakers`, each by utterances. It is empty for a training split.
    """
    rows = []
    for path in map(Path, manifests):
        table = _facts(path)
        train = path.with_name("train.parquet")
        stages = (path.parents[2] / stage / path.parent.name for stage in ("manifests", "features"))
        rejects = [stage / f"{path.stem}.rejects.parquet" for stage in stages]
        rows.append(
            {
                "corpus": path.parent.name,
                "split": path.stem,
                "utterances": len(table),
                "hours": sum(table["duration_s"].to_pylist()) / 3600,
                "speakers": len(set(table["speaker"].to_pylist()) - {None}),
                "rejected": sum(_count(file) for file in rejects if file.exists()),
                "leaks": _shared(table, _facts(train)) if path != train and train.exists() else {},
            }
        )
    return rows
