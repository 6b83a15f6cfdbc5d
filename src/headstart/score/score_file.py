"""The score file of a run: a table with one row for each test utterance, from which all rates are computed.

A row has the normalised `reference`, the `hypothesis`, `text` as it was transcribed, and alignments. `hypothesis_lm` is
what the decoding with a language model makes of the same utterance, null where there was none; columns that end in
`_lm` are about it. An alignment is one letter for each edit, see `headstart.score.alignment`. Its tokens are

- `word_alignment`: the words of `reference` and of the hypothesis;
- `char_alignment`: their characters, with spaces;
- `mixed_alignment`: their mixed units (`headstart.text.mixed`), null where these are the words;
- `raw_alignment`: the words of `text`, not normalised, and of the hypothesis; null where `text` is.

Where the corpus tags its tokens with languages, `tokens` and `token_languages` repeat the tags as they are there,
`word_languages` has the tag of each word of `reference`, `mixed_languages` that of each of its mixed units (null where
these are the words), and `language_source` says where these are from: `corpus`, or `script` or `words` where they were
inferred (`headstart.text.token_languages`). Errors of one language, or at switch points, are counted from the table
alone (`headstart.score.score_table`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from headstart.decode.decoder import COLUMNS
from headstart.score.alignment import align, align_chars
from headstart.score.languages import tag_words, units_of
from headstart.score.score_table import (
    ALIGNMENT_COLUMNS,
    DECODINGS,
    LM,
    TOKENISATIONS,
    alignment_column,
    suffix,
)
from headstart.text.tags import NO_LANGUAGE

CORPUS = "corpus"  # a `language_source`: the tags are those of the corpus


def score_schema() -> pa.Schema:
    """The columns of a score file; those of tokens are null where the corpus has no tags."""
    required = {"word", "char"}
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("speaker", pa.string()),
            pa.field("language", pa.string(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("tokens", pa.list_(pa.string())),
            pa.field("token_languages", pa.list_(pa.string())),
            pa.field("word_languages", pa.list_(pa.string())),
            pa.field("mixed_languages", pa.list_(pa.string())),
            pa.field("language_source", pa.string()),
            pa.field("reference", pa.string(), nullable=False),
            pa.field("hypothesis", pa.string(), nullable=False),
            *COLUMNS,
            *(
                pa.field(alignment_column(name, decoding), pa.string(), nullable=bool(decoding) or name not in required)
                for decoding in DECODINGS
                for name in TOKENISATIONS
            ),
        ]
    )


def score_columns(
    reference: str, hypothesis: str, hypothesis_lm: str | None = None, text: str | None = None
) -> dict[str, Any]:
    """What a score file says of a normalised reference and its hypotheses: all of them, and their alignments.

    Args:
        hypothesis_lm: of the decoding with a language model, if there was one.
        text: the reference as transcribed, if it is known.
    """
    columns: dict[str, Any] = {"text": text, "reference": reference, **dict.fromkeys(ALIGNMENT_COLUMNS)}
    for decoding, heard in (("", hypothesis), (LM, hypothesis_lm)):
        columns[f"hypothesis{suffix(decoding)}"] = heard
        if heard is not None:
            for name, alignment in _alignments(reference, heard, text).items():
                columns[alignment_column(name, decoding)] = alignment
    return columns


def _alignments(reference: str, hypothesis: str, text: str | None) -> dict[str, str]:
    words, heard = reference.split(), hypothesis.split()
    alignments = {"word": align(words, heard), "char": align_chars(reference, hypothesis)}
    units, heard_units = units_of(words), units_of(heard)
    if (units, heard_units) != (words, heard):
        alignments["mixed"] = align(units, heard_units)
    if text is not None:
        alignments["raw"] = align(text.split(), heard)
    return alignments


def language_columns(
    reference: str,
    runs: Sequence[tuple[str, str]] | None,
    source: str = CORPUS,
    neutral: Collection[str] = NO_LANGUAGE,
) -> dict[str, Any]:
    """What a score file says of the languages of a normalised reference.

    Args:
        runs: tags with the parts of words that have them, as `normalised_runs` returns them; None without tags.
        source: where the tags are from, which becomes `language_source`.
        neutral: tags of no language.

    Returns:
        `word_languages`, `mixed_languages` and `language_source`; all None where the words are not tagged.
    """
    words, tags, unit_tags = reference.split(), None, None
    if runs is not None:
        tags, unit_tags = tag_words(words, runs, neutral)
    return {
        "word_languages": tags,
        "mixed_languages": None if units_of(words) == words else unit_tags,
        "language_source": None if tags is None else source,
    }
