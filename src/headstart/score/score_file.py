"""The score file of a run: a table with one row for each test utterance, from which all rates are computed.

A row has the normalised `reference` and `hypothesis`, and for each metric the alignment of the two and its counts.
An alignment is one letter for each edit; `headstart.score.alignment` says how to read it. Its indices count the words
of `reference` and `hypothesis` as they stand in the row, or their characters with spaces, and not the tokens of the
corpus, of which normalisation may drop some and split others.

Where the corpus tags its tokens with languages, `tokens` and `token_languages` repeat the tags as they are there, and
`word_languages` has the tag of each word of `reference`, and `language_source` says where it is from: `corpus`, or
`script` or `words` where it was inferred (`headstart.text.token_languages`). So errors of one language, or at switch
points, can be counted from the table alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from headstart.score.alignment import count_edits
from headstart.score.metrics import METRICS, Metric
from headstart.study.text import Text
from headstart.text.normalisation import normalise

CORPUS = "corpus"  # a `language_source`: the tags are those of the corpus


def score_schema() -> pa.Schema:
    """The columns of a score file; those of tokens are null where the corpus has no tags."""
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("speaker", pa.string()),
            pa.field("language", pa.string(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("tokens", pa.list_(pa.string())),
            pa.field("token_languages", pa.list_(pa.string())),
            pa.field("word_languages", pa.list_(pa.string())),
            pa.field("language_source", pa.string()),
            pa.field("reference", pa.string(), nullable=False),
            pa.field("hypothesis", pa.string(), nullable=False),
            *(field for metric in METRICS.values() for field in _metric_fields(metric)),
        ]
    )


def _metric_fields(metric: Metric) -> list[pa.Field]:
    counts = (pa.field(column, pa.int64(), nullable=False) for column in metric.columns)
    return [pa.field(metric.alignment, pa.string(), nullable=False), *counts]


def score_columns(reference: str, hypothesis: str) -> dict[str, Any]:
    """What a score file says of a normalised reference and hypothesis: both, their alignments and the counts of these.

    Nothing is aligned a second time: counts follow from the alignment that is stored.
    """
    columns: dict[str, Any] = {"reference": reference, "hypothesis": hypothesis}
    for metric in METRICS.values():
        columns[metric.alignment] = metric.align(reference, hypothesis)
        columns |= zip(metric.columns, count_edits(columns[metric.alignment]), strict=True)
    return columns


def word_languages(
    reference: str, tokens: Sequence[str] | None, languages: Sequence[str] | None, text: Text, language: str
) -> list[str] | None:
    """The language of each word of a normalised reference, from the tags of the corpus's tokens.

    Each token is normalised by itself: one of punctuation has no words, one with a hyphen may have two, which both have
    its tag.

    Args:
        language: the utterance's, by which a token is normalised whose tag names no language.

    Returns:
        One tag a word; None where the corpus has no tags, or where its tokens are not the words of the transcript.
    """
    if not tokens or not languages:
        return None
    words, tags = [], []
    for token, tag in zip(tokens, languages, strict=True):
        own = normalise(token, text, language, [token], [tag]).split()
        words += own
        tags += [tag] * len(own)
    return tags if words == reference.split() else None
