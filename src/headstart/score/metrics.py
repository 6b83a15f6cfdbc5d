"""The registry of error metrics, over which scoring, the summary and the report go.

A new metric is a function that aligns a hypothesis with its reference, and one entry of `METRICS`. Scoring then writes
its counts, the summary computes its rates, intervals and contrasts, and the report shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headstart.score.alignment import EditCounts, align_characters, align_words, count_edits


@dataclass(frozen=True)
class Metric:
    """An error rate: errors over tokens of the reference, both summed over utterances.

    Attributes:
        name: its key in `summary.json` and in the study file, such as `wer`.
        title: the name in words, such as `word error rate`.
        unit: what its counts are of, such as `word`. Names its columns of the score file, so no two metrics share one.
        units: the same in the plural, in words.
        align: the edits between a normalised reference and a hypothesis, as `headstart.score.alignment` writes them.
    """

    name: str
    title: str
    unit: str
    units: str
    align: Callable[[str, str], str]

    @property
    def label(self) -> str:
        """The abbreviation that the report uses, such as `WER`."""
        return self.name.upper()

    @property
    def heading(self) -> str:
        """Title and label, such as `Word error rate (WER)`."""
        return f"{self.title[0].upper()}{self.title[1:]} ({self.label})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the score file that hold its counts, in the order of `EditCounts`."""
        return tuple(f"{self.unit}_{kind}" for kind in EditCounts._fields)

    @property
    def alignment(self) -> str:
        """The column of the score file that holds its alignments."""
        return f"{self.unit}_alignment"

    def count(self, reference: str, hypothesis: str) -> EditCounts:
        """Hits and errors of one utterance."""
        return count_edits(self.align(reference, hypothesis))

    def rate(self, references: Sequence[str], hypotheses: Sequence[str]) -> float:
        """Error rate over several utterances, as a fraction; the references have one token at least."""
        counts = [self.count(*pair) for pair in zip(references, hypotheses, strict=True)]
        return sum(count.errors for count in counts) / sum(count.reference for count in counts)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("wer", "word error rate", "word", "words", align_words),
        Metric("cer", "character error rate", "char", "characters", align_characters),
    )
}
