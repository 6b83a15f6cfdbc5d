"""A summary of the transcripts of a split: what normalisation leaves out of them, and which characters are rare."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.features.clips import Clips
from headstart.study.text import Text
from headstart.text.findings import Findings
from headstart.text.normalisation import TRANSCRIPT, normalise, transcript_rows

log = logging.getLogger(__name__)

RARE = 5  # a character of the training transcripts that occurs less often is hardly learnt
SHOWN = 12  # entries of a list in a log line


@dataclass
class TextSummary:
    """What normalisation made of some transcripts.

    Attributes:
        findings: what was left out.
        characters: how often each occurs in the normalised transcripts.
    """

    findings: Findings = field(default_factory=Findings)
    characters: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]], settings: Text) -> TextSummary:
        """Summarise transcripts, from rows of `TRANSCRIPT`; those without a text are passed over."""
        summary = cls()
        for text, language, tokens, tags in rows:
            if text:
                summary.characters.update(normalise(text, settings, language, tokens, tags, summary.findings))
        del summary.characters[" "]
        return summary

    @property
    def rare(self) -> dict[str, int]:
        """Characters that occur fewer than `RARE` times, rarest first."""
        found = [(character, count) for character, count in self.characters.items() if count < RARE]
        return dict(sorted(found, key=lambda entry: (entry[1], entry[0])))


def log_summary(name: str, clips: Clips, settings: Text, training: bool = False) -> None:
    """Log what normalisation leaves out of the transcripts of some clips.

    Args:
        name: of the clips, such as `training`.
        training: whether the vocabulary is made from them, so that rare characters matter.
    """
    summary = TextSummary.of(clips.rows(*TRANSCRIPT), settings)
    found = summary.findings
    if found.dropped:
        log.info("%s transcripts: dropped %s", name, listed(found.dropped))
    if found.joined:
        log.info(
            "%s transcripts: dropped inside words, which stay one word: %s (text.keep spells a mark, text.map replaces "
            "it)",
            name,
            listed(found.joined, found.examples),
        )
    if found.split:
        log.warning(
            "%s transcripts: words were split in two at %s (text.keep spells a mark, text.map replaces it)",
            name,
            listed(found.split, found.examples),
        )
    if found.tags_dropped:
        log.info("%s transcripts: dropped the non-speech tags %s", name, listed(found.tags_dropped))
    if found.tags:
        log.warning(
            "%s transcripts: %d non-speech tags are spelt as words: %s (text.tags: drop leaves them out, text.map "
            "replaces them)",
            name,
            found.tags.total(),
            listed(found.tags),
        )
    if found.mismatched:
        log.warning(
            "%s transcripts: the tagged tokens of %d utterances are not those of the transcript; the language of the "
            "utterance is taken for all of their words",
            name,
            found.mismatched,
        )
    if training and summary.rare:
        log.warning(
            "%s transcripts: %d characters occur fewer than %d times and will hardly be learnt: %s",
            name,
            len(summary.rare),
            RARE,
            listed(summary.rare),
        )


def describe_texts(manifests: Sequence[str], settings: Text) -> list[dict[str, Any]]:
    """One row for each `<...>/{corpus}/{split}.parquet` that has transcripts, for the report.

    Each has `corpus`, `split`, the number of `mismatched` utterances, and lists of counted things as text: `dropped`,
    `joined`, `split_on`, `tags`, `tags_dropped` and, for training splits, `rare`. `characters` has all characters of
    the normalised transcripts with their counts, the most frequent first.
    """
    rows = []
    for path in map(Path, manifests):
        transcripts = list(transcript_rows(path))
        if all(text is None for text, *_ in transcripts):
            continue
        summary = TextSummary.of(transcripts, settings)
        found = summary.findings
        rows.append(
            {
                "corpus": path.parent.name,
                "split": path.stem,
                "mismatched": found.mismatched,
                "dropped": listed(found.dropped),
                "joined": listed(found.joined, found.examples),
                "split_on": listed(found.split, found.examples),
                "tags": listed(found.tags),
                "tags_dropped": listed(found.tags_dropped),
                "rare": listed(summary.rare) if path.stem == "train" else "",
                "characters": [(shown(character), count) for character, count in summary.characters.most_common()],
            }
        )
    return rows


def listed(counts: dict[str, int], examples: dict[str, str] | None = None) -> str:
    """Counted things as text, in their order or, from a `Counter`, the most frequent first."""
    entries = counts.most_common() if isinstance(counts, Counter) else list(counts.items())
    parts = [
        f"{shown(thing)} {count}{f' (as in {examples[thing]})' if examples and thing in examples else ''}"
        for thing, count in entries[:SHOWN]
    ]
    if len(entries) > SHOWN:
        parts.append(f"and {len(entries) - SHOWN} more")
    return ", ".join(parts)


def shown(text: str) -> str:
    """A character as it can be read: a combining mark on a circle, and an invisible character by its number."""
    if len(text) != 1:
        return text
    kind = unicodedata.category(text)
    if kind[0] == "M":
        return f"\u25cc{text}"
    return f"U+{ord(text):04X}" if kind[0] in "CZ" else text
