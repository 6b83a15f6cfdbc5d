"""`attention` of a start: how far its frames may look, as streaming recognition needs it."""

from __future__ import annotations

from pydantic import Field

from headstart.study.fields import Positive, Settings


class ChunkedAttention(Settings):
    """Chunked attention: a frame attends to its own chunk, to some chunks before it and to a look-ahead after it.

    Nothing else of the Transformer sees what comes later either, so that a chunk can be recognised as soon as its
    look-ahead has been spoken. Encoders with random weights then also take audio whose loudness is not normalised,
    which would need the whole clip. docs/checkpoints.md has the details.
    """

    chunk_s: Positive = Field(0.64, description="Length of a chunk, in seconds; rounded to frames of 20 ms.")
    left_chunks: int | None = Field(4, ge=0, description="Chunks before its own that a frame attends to; null for all.")
    look_ahead_s: float = Field(0.0, ge=0.0, description="Seconds after its own chunk that a frame attends to.")
