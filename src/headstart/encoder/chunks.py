"""What an encoder's configuration says of chunked attention; `chunked_attention.py` computes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEY = "chunked_attention"  # in config.json; transformers keeps it, and computes with full attention


@dataclass(frozen=True)
class Chunks:
    """Chunked attention in frames.

    Attributes:
        size: frames of a chunk.
        left: chunks before its own that a frame attends to; None for all.
        look_ahead: frames after its chunk.
    """

    size: int
    left: int | None
    look_ahead: int

    @property
    def width(self) -> int:
        """Frames of a chunk and its look-ahead."""
        return self.size + self.look_ahead


def chunks_of(config: Any) -> Chunks | None:
    """The chunked attention of an encoder; None if its frames see the whole clip."""
    found = getattr(config, KEY, None)
    return Chunks(**found) if found else None


def whole_clip(config: Any) -> list[str]:
    """What an encoder with chunked attention computes from the whole clip nevertheless, in words."""
    found = ["the audio is scaled to zero mean and unit variance"] if getattr(config, "do_normalize", True) else []
    if getattr(config, "feat_extract_norm", None) == "group":
        found.append("the first convolution is normalised over time")
    return found
