"""How much the test transcripts of a target mix languages, for the summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from headstart.corpora.manifests import read_columns
from headstart.score.code_switching import mixing
from headstart.score.score_table import LANGUAGE_COLUMNS, ScoreTable
from headstart.study.study import Study
from headstart.summarise.tables import Row, score_path


def mixing_rows(study: Study, results: Path) -> list[Row]:
    """A row for each target whose references have words of two languages or more.

    Keys: `target`; `languages`, the number of reference words of each, the matrix language first; `source` of the
    language tags: the words of each source, `corpus`, `script` or `words`; and the indices of
    `headstart.score.code_switching.Mixing`.
    """
    rows = []
    for target in study.targets:
        # References are the same in all runs, which the summary checks.
        path = score_path(results, study.study, (study.baseline, target, study.budgets[0], study.seeds[0]))
        columns = read_columns(path, None, [*LANGUAGE_COLUMNS, "language_source"])
        table = ScoreTable({name: columns[name].to_pylist() for name in columns.column_names})
        if len(table.languages) < 2:
            continue
        tags = table.tags("mixed")
        words = Counter(chain.from_iterable(own for own in tags if own))
        sources = Counter()
        for source, own in zip(table.column("language_source"), tags, strict=True):
            sources[source] += len(own or ())
        rows.append(
            {"target": target, "languages": {tag: words[tag] for tag in table.languages}}
            | {"source": {source: count for source, count in sources.most_common() if source and count}}
            | asdict(mixing(tags, table.neutral))
        )
    return rows
