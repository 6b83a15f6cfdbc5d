"""Predicting how starts compare in a language from the languages that are like it, and how far off that is.

Each language of a study is left out in turn, and a start is picked for it from the others by three rules:

- `neighbours`: the error rates of a start, relative to the mean of all starts in the same language, are averaged with
  weights by how alike the languages are to the one left out;
- `average`: the start that is best on average;
- `nearest`: the start that was pre-trained on the nearest language, and of several the best on average.

The last two are plain rules, which advice has to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headstart.languages.similarity import Measure, nearest
from headstart.summarise.tables import Row

Array = NDArray[np.float64]
RULES = ("neighbours", "average", "nearest")


@dataclass(frozen=True)
class Known:
    """What a finished study knows of its starts.

    Attributes:
        starts: their names.
        pretrained: the languages of each start's pre-training data; None where they are unknown.
        tags: of the study's languages.
        levels: `[starts, languages]`, log error rates less the mean of all starts in the language.
    """

    starts: list[str]
    pretrained: list[Sequence[str] | None]
    tags: list[str]
    levels: Array

    @classmethod
    def of(cls, transfer: Row) -> Known:
        """From the section of a summary: its targets in one language."""
        starts = [row["start"] for row in transfer["starts"]]
        places = [place for place, target in enumerate(transfer["targets"]) if len(target["languages"]) == 1]
        errors = {(cell["start"], cell["column"]): cell["error"] for cell in transfer["cells"]}
        levels = np.log([[errors[start, place] for place in places] for start in starts])
        levels = levels.reshape(len(starts), len(places))
        tags = [transfer["targets"][place]["languages"][0] for place in places]
        return cls(starts, [row["languages"] for row in transfer["starts"]], tags, levels - levels.mean(0))

    def only(self, measure: Measure) -> Known:
        """With those languages only that a measure can compare to another one."""
        places = [
            place
            for place, tag in enumerate(self.tags)
            if any(measure(tag, other) is not None for other in self.tags if other != tag)
        ]
        return Known(self.starts, self.pretrained, [self.tags[place] for place in places], self.levels[:, places])

    def without(self, place: int) -> Known:
        """Without one language."""
        tags = [*self.tags[:place], *self.tags[place + 1 :]]
        return Known(self.starts, self.pretrained, tags, np.delete(self.levels, place, 1))

    def predicted(self, language: str, measure: Measure) -> Array:
        """The weighted mean of the levels, `[starts]`.

        A language that is more alike by the standard deviation of the similarities of the study's languages weighs e
        times as much. Those that the measure does not know do not count; where it knows none, all count alike.
        """
        alike = np.array([np.nan if (value := measure(language, tag)) is None else value for tag in self.tags])
        if np.isnan(alike).all():
            return self.levels.mean(1)
        pairs = [measure(a, b) for place, a in enumerate(self.tags) for b in self.tags[:place]]
        spread = float(np.std([value for value in pairs if value is not None] or [0.0]))
        weights = np.nan_to_num(np.exp((alike - np.nanmax(alike)) / max(spread, 1e-9)), nan=0.0)
        return self.levels @ (weights / weights.sum())

    def picked(self, rule: str, language: str, measure: Measure) -> Array:
        """Values by which a rule orders the starts, the best one first: `[starts]`."""
        if rule == "neighbours":
            return self.predicted(language, measure)
        average = self.levels.mean(1)
        if rule == "average":
            return average
        near = [found[0] if tags and (found := nearest(language, tags, measure)) else -1.0 for tags in self.pretrained]
        return -np.array(near) + 1e-6 * average


def left_out(known: Known, measure: Measure, confidence: float) -> Row:
    """What each rule errs by on languages that are left out in turn.

    Args:
        known: with at least three languages, all of which the measure knows.
        confidence: of the interval.

    Keys of the result:

    - `languages`: how many were left out.
    - `neighbours`, `average`, `nearest`: by how much the start that the rule picks is worse than the best one, in the
      mean over languages, as a share of the error rate.
    - `best`: rule -> in how many languages it picks the best start.
    - `plain`: the plain rule that errs less.
    - `difference`, `low`, `high`: the neighbours' loss less that of `plain`, with a t interval over languages.
    - `misses`: rule -> root mean square error of the predicted logarithms, of `neighbours` and `average`.
    """
    losses: dict[str, list[float]] = {rule: [] for rule in RULES}
    misses: dict[str, list[Array]] = {"neighbours": [], "average": []}
    for place, tag in enumerate(known.tags):
        others, truth = known.without(place), known.levels[:, place]
        for rule in RULES:
            order = others.picked(rule, tag, measure)
            losses[rule].append(float(truth[np.argmin(order)] - truth.min()))
            if rule in misses:
                misses[rule].append(truth - order)
    errors = {rule: float(np.expm1(np.mean(values))) for rule, values in losses.items()}
    plain = min(RULES[1:], key=errors.__getitem__)
    differences = np.subtract(losses["neighbours"], losses[plain])
    count = len(differences)
    half = float(stdtrit(count - 1, (1 + confidence) / 2) * differences.std(ddof=1) / np.sqrt(count))
    mean = float(differences.mean())
    return {
        "languages": count,
        **errors,
        "best": {rule: sum(value == 0 for value in values) for rule, values in losses.items()},
        "plain": plain,
        **dict(zip(("difference", "low", "high"), np.expm1([mean, mean - half, mean + half]).tolist(), strict=True)),
        "misses": {rule: float(np.sqrt(np.mean(np.square(values)))) for rule, values in misses.items()},
    }
