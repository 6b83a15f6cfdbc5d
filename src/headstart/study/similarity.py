"""`similarity`: how alike languages are, by sound and by tables of yours."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from headstart.study.fields import Count, Folder, Name, Positive, Settings

ACOUSTIC_FILE = "similarity/acoustic.safetensors"  # in the folder of a study's results
OWN = ("table", "acoustic")  # measures of similarity that are not from a file


class Acoustic(Settings):
    """Similarity of languages by sound, measured on training audio of the study; docs/transfer.md."""

    minutes: Positive = Field(5.0, description="Minutes of audio of each language, drawn at random.")
    start: Name | None = Field(
        None, description="Start whose frames are compared; null for cepstral coefficients, which need none."
    )
    layer: Count | None = Field(None, description="Layer of the start; null for the middle one.")
    clusters: Annotated[int, Field(ge=2, le=2000)] = Field(100, description="Clusters of frames (k-means).")
    pieces: Count = Field(1000, description="Pieces that are counted: clusters and frequent sequences of them.")

    @model_validator(mode="after")
    def _consistent(self) -> Acoustic:
        if self.pieces < self.clusters:
            raise ValueError(f"`pieces` is {self.pieces}, less than `clusters`, {self.clusters}, which are pieces too")
        if self.layer is not None and self.start is None:
            raise ValueError(f"`layer` is {self.layer}, but no start is named that has it; name one under `start`")
        return self


class Similarity(Settings):
    """How alike languages are, besides by family and place; for the report's section about transfer."""

    acoustic: Acoustic | None = Field(
        Acoustic(),
        description="By sound, in studies with four pre-trained starts and targets in four languages; null for none.",
    )
    tables: dict[Name, Folder] = Field(
        {},
        description="More measures, each a TSV file with the columns language_a, language_b and similarity (from 0 to "
        "1); `headstart typology` writes one.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Similarity:
        for name in OWN:
            if name in self.tables:
                raise ValueError(
                    f"`tables` names {name!r}, which is a measure of the package's own; choose another name"
                )
        return self
