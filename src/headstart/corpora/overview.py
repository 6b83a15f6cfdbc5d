"""An overview of corpora for the report: how much each split holds, and what it shares with its training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headstart.corpora.manifests import REJECTS, opened, read_columns

# What a leak is called in the report, and the column by which it is recognised. A recording is shared where stretches
# of one file are in two splits; the same audio may also come under two names.
LEAKS = {"same audio": "content_hash", "recordings": "audio_path", "sentences": "text", "speakers": "speaker"}
FACTS = {"speaker", "language", "duration_s", "text", "audio_path", "content_hash"}
SECONDS = (1, 2, 3, 5, 7, 10, 15, 20)  # where the classes of utterances by length end; the last is longer


def _facts(manifest: Path) -> pa.Table:
    """The columns that are counted. Only the manifests of the feature stage have content hashes."""
    with opened(manifest) as file:
        return file.read(sorted(FACTS & set(file.schema_arrow.names)))


def _lengths(table: pa.Table) -> dict[str, Any]:
    """Shortest, median and longest utterance in seconds, and how many there are of each class of lengths."""
    seconds = table["duration_s"].to_numpy()
    if not len(seconds):
        return {}
    edges = np.array([0, *SECONDS, np.inf])
    names = [f"{low:g} to {high:g} s" for low, high in pairwise(edges[:-1])] + [f"over {SECONDS[-1]} s"]
    counts = np.histogram(seconds, edges)[0].tolist()
    return {
        "shortest": float(seconds.min()),
        "median": float(np.median(seconds)),
        "longest": float(seconds.max()),
        "classes": dict(zip(names, counts, strict=True)),
    }


def _duplicates(table: pa.Table) -> int:
    """How many utterances have the same audio as an earlier one of the split."""
    if "content_hash" not in table.column_names:
        return 0
    return len(table) - pc.count_distinct(table["content_hash"]).as_py()


def _count(table: Path) -> int:
    """Number of rows of a table, counted in its pages: the count in its header does not show that they can be read."""
    return len(read_columns(table, REJECTS))


def _shared(split: pa.Table, train: pa.Table) -> dict[str, int]:
    """How many utterances of a split have something in common with another split."""
    shared = {}
    for name, column in LEAKS.items():
        if column in split.column_names and column in train.column_names:
            values, trained = (pc.utf8_lower(table[column]) for table in (split, train))
            known = pc.is_in(values, value_set=trained.combine_chunks().drop_null())
            shared[name] = pc.sum(pc.and_(known, pc.not_equal(pc.fill_null(values, ""), ""))).as_py() or 0
    return {name: count for name, count in shared.items() if count}


def describe(manifests: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each `<...>/{corpus}/{split}.parquet`, for the report.

    It has `utterances`, `hours`, `speakers`, `rejected` clips, `languages` (utterances of each, most frequent first),
    `lengths` of utterances (see `_lengths`), `duplicates` (utterances with the same audio as an earlier one), and
    `leaks`: what a dev or test split has in common with the training split beside it, as the number of its utterances
    with the same audio, of the same recordings, sentences and speakers. `leaks` is empty for a training split.
    """
    rows = []
    for path in map(Path, manifests):
        table = _facts(path)
        train = path.with_name("train.parquet")
        stages = (path.parents[2] / stage / path.parent.name for stage in ("manifests", "features"))
        rejects = [stage / f"{path.stem}.rejects.parquet" for stage in stages]
        languages = Counter({row["values"]: row["counts"] for row in pc.value_counts(table["language"]).to_pylist()})
        rows.append(
            {
                "corpus": path.parent.name,
                "split": path.stem,
                "utterances": len(table),
                "hours": sum(table["duration_s"].to_pylist()) / 3600,
                "speakers": len(set(table["speaker"].to_pylist()) - {None}),
                "rejected": sum(_count(file) for file in rejects if file.exists()),
                "languages": dict(languages.most_common()),
                "lengths": _lengths(table),
                "duplicates": _duplicates(table),
                "leaks": _shared(table, _facts(train)) if path != train and train.exists() else {},
            }
        )
    return rows
