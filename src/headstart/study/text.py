"""`text`: how transcripts are normalised."""

from __future__ import annotations

from pydantic import Field

from headstart.study.explain import KEEP_PATTERN
from headstart.study.fields import Settings


class Text(Settings):
    """Text normalisation, the same for references and hypotheses. Combining marks are always kept."""

    lowercase: bool = Field(True, description="Lower-case, by the utterance's language (Turkish dotless i).")
    keep: str = Field("'", pattern=KEEP_PATTERN, description="Punctuation characters that are part of words and stay.")
