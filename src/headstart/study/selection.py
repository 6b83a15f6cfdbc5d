"""`select`: which audio of its corpora a start is trained on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.study.fields import Count, Settings


class Select(Settings):
    """How the hours that a start asks of a corpus are chosen from more.

    Without `by`, the utterances are put in an order, and the first ones are taken until their hours are reached. With
    `by`, they are put in groups, each in that order, and the groups give equal shares of the hours; or, with
    `temperature` T, shares in proportion to h^(1/T), where h are the hours that a group has. A group that has less than
    its share gives all that it has, and the others give more, in the same proportions. Whetten et al. (2026,
    arXiv 2601.20896) compare such choices: docs/results.md has ours.
    """

    order: Literal["random", "longest"] = Field(
        "random", description="Which utterances come first, of all or of each group: in random order, or the longest."
    )
    by: Literal["speaker", "clusters", "language"] | None = Field(
        None,
        description="What utterances are grouped by: `speaker`, or `clusters` of similar sound (k-means of MFCC "
        "statistics), in each corpus by itself; or `language`, in all corpora together, whose hours are added up.",
    )
    clusters: Count | None = Field(
        None, description="Number of clusters of each corpus, with `by: clusters` (paper: 150 for 25,000 hours)."
    )
    temperature: Annotated[float, Field(ge=1.0)] | None = Field(
        None,
        description="T of the shares of groups: 1 for shares as in the corpus, more for more equal ones, null "
        "for equal ones.",
    )

    @model_validator(mode="after")
    def _no_idle_keys(self) -> Select:
        if self.by is None and self.temperature is not None:
            raise ValueError("temperature is given without by; it says how groups share the hours, so say which groups")
        if self.by != "clusters" and self.clusters is not None:
            raise ValueError("clusters is given, but utterances are not grouped by them; write by: clusters")
        if self.by == "clusters" and self.clusters is None:
            raise ValueError("by: clusters is given without clusters, which says how many there are")
        return self
