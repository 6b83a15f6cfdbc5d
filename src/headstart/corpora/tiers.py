"""Tiers of labels with times, as ELAN, Praat and subtitles have them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headstart.corpora.reader import CorpusError

TOLERANCE_S = 0.05  # labels that overlap by less only touch


class Label(NamedTuple):
    """A stretch of a recording and what is said in it."""

    begin: float | None  # s; None where a file gives a label no time
    end: float | None
    text: str
    speaker: str | None = None

    @property
    def timed(self) -> bool:
        """Whether the label has a begin and, after it, an end."""
        return self.begin is not None and self.end is not None and 0 <= self.begin < self.end < float("inf")


@dataclass(slots=True)
class Tier:
    """The labels of a tier, in the order of the file."""

    name: str
    labels: list[Label] = field(default_factory=list)
    speaker: str | None = None
    kind: str = ""  # what the file says of the tier, for messages


def transcript_tiers(tiers: Sequence[Tier], wanted: Sequence[str], language_tier: str | None, source: str) -> set[str]:
    """Names of the tiers that hold transcripts: those that are wanted, else the only one.

    Args:
        tiers: all tiers of a corpus that have labels.
        wanted: names or patterns.
        language_tier: name of the tier that holds languages.
        source: the corpus, for messages.

    Raises:
        CorpusError: nothing is wanted and there are several, or there is none of a name or pattern.
    """
    names = {tier.name for tier in tiers}
    for pattern in wanted:
        if not any(matching([pattern], name) for name in names):
            problem = f"no file has a tier with labels that is called {pattern!r}"
            raise CorpusError(f"{source}: {problem}. Tiers with labels:\n{listed(tiers)}")
    if wanted:
        return {name for name in names if matching(wanted, name) is not None}
    names -= {language_tier}
    if len(names) > 1:
        raise CorpusError(
            f"{source}: files have several tiers, and it is not known which of them hold transcripts. Name them in "
            f"`tiers` of the corpus. Tiers with labels:\n{listed(tiers)}"
        )
    return names


def matching(patterns: Iterable[str], name: str) -> str | None:
    """The first of some names or patterns that a tier's name matches."""
    return next((p for p in patterns if p == name or fnmatch.fnmatchcase(name, p)), None)


def listed(tiers: Sequence[Tier]) -> str:
    """A line for each name of a tier: in how many files it is, how many labels it has, and one of them."""
    lines = []
    for name in dict.fromkeys(tier.name for tier in tiers):
        own = [tier for tier in tiers if tier.name == name]
        labels = [label.text.strip() for tier in own for label in tier.labels if label.text.strip()]
        kind = f"{own[0].kind}, " if own[0].kind else ""
        lines.append(f"  {name}: {kind}{len(own)} file(s), {len(labels)} labels, such as {labels[0][:40]!r}")
    return "\n".join(lines)


def longest_overlap(label: Label, others: Iterable[Label]) -> str:
    """Text of the label with which a label shares most time; empty if there is none."""
    shared = [
        (min(label.end, other.end) - max(label.begin, other.begin), other.text.strip())
        for other in others
        if other.timed and other.text.strip()
    ]
    time, text = max(shared, default=(0.0, ""))
    return text if time > 0 else ""


def overlapping(labels: Sequence[tuple[str, Label]]) -> list[bool]:
    """For each label with its tier, whether a label of another tier or speaker lies partly at the same time."""
    flags = [False] * len(labels)
    timed = [i for i, (_, label) in enumerate(labels) if label.timed]
    open_: list[int] = []
    for i in sorted(timed, key=lambda i: labels[i][1].begin):
        tier, label = labels[i]
        open_ = [j for j in open_ if labels[j][1].end - label.begin > TOLERANCE_S]
        for j in open_:
            if (labels[j][0], labels[j][1].speaker) != (tier, label.speaker):
                flags[i] = flags[j] = True
        open_.append(i)
    return flags
