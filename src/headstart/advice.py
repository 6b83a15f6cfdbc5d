"""Which start for a language that a finished study has not: `headstart advise`.

The error rates of a start in the study's languages, relative to the mean of all starts there, are averaged with weights
by how alike the languages are to the new one. How far off that is, is measured: each language of the study is left out
in turn and advised on from the others, and so are two plain rules that need no neighbours.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headstart.errors import HeadstartError
from headstart.languages.similarity import nearest, similarity
from headstart.languages.table import Language, language_of

Row = dict[str, Any]
Array = NDArray[np.float64]
FEWEST = 4  # languages of a study
# A neighbour weighs as much as e others that are less alike by this much. Ours: no data were fitted for it.
SHARPNESS = 0.15
RULES = {
    "neighbours": "from its neighbours among the study's languages",
    "average": "best on average over all languages of the study",
    "nearest": "pre-trained on the nearest language",
}


class AdviceError(HeadstartError):
    """There is nothing to advise from, or on."""


@dataclass(frozen=True)
class LeftOut:
    """How good advice is on the study's own languages, each left out in turn and advised on from the others.

    Attributes:
        rule: the one whose picks are least worse; neighbours only where they beat both plain rules.
        errors: rule -> by how much the start that it picks is worse than the best one, in the mean over languages, as a
            share of the error rate.
        best: rule -> in how many languages it picks the best start.
        spread: root mean square of the errors of predicted log error rates, relative to the mean of all starts.
        languages: how many were left out.
    """

    rule: str
    errors: dict[str, float]
    best: dict[str, int]
    spread: float
    languages: int


@dataclass(frozen=True)
class Advice:
    """What to start from.

    Attributes:
        language: the new one.
        ranking: rows of `start`, `estimate`, `low`, `high`: the error rate relative to the mean of all starts, best
            first, in the order of the rule that is best on the study's own languages.
        neighbours: rows of `language` and `similarity`, the most alike first.
        tested: how good advice is on the study's own languages.
    """

    language: Language
    ranking: list[Row]
    neighbours: list[Row]
    tested: LeftOut


def leave_out(transfer: Row) -> LeftOut:
    """Advise on each language of a study from the others.

    Raises:
        AdviceError: the study has too few languages that the table of languages knows.
    """
    tags, levels, known = _levels(transfer)
    if len(tags) < FEWEST:
        raise AdviceError(f"the study has {len(tags)} languages that the table of languages has; {FEWEST} are needed")
    losses: dict[str, list[float]] = {rule: [] for rule in RULES}
    residuals = []
    for place, tag in enumerate(tags):
        others = [number for number in range(len(tags)) if number != place]
        predicted = _predicted(levels[:, others], [tags[number] for number in others], tag)
        average = levels[:, others].mean(1)
        residuals.append(levels[:, place] - predicted)
        orders = {"neighbours": predicted, "average": average, "nearest": _nearest_order(average, known, tag)}
        for rule, order in orders.items():
            losses[rule].append(float(levels[np.argmin(order), place] - levels[:, place].min()))
    errors = {rule: float(np.expm1(np.mean(values))) for rule, values in losses.items()}
    best = {rule: sum(value == 0 for value in values) for rule, values in losses.items()}
    plain = min(("average", "nearest"), key=errors.__getitem__)
    rule = "neighbours" if errors["neighbours"] < errors[plain] else plain
    return LeftOut(rule, errors, best, float(np.sqrt(np.mean(np.square(residuals)))), len(tags))


def advise(transfer: Row | None, language: Language, confidence: float = 0.95) -> Advice:
    """Rank the starts of a finished study for a language.

    Args:
        transfer: the section of the study's summary.
        language: the new one.
        confidence: of the intervals, which come from the errors on languages left out.

    Raises:
        AdviceError: the study has too few starts or languages, or none that the table of languages knows.
    """
    if transfer is None:
        raise AdviceError("the study has too few pre-trained starts or languages to advise from")
    tested = leave_out(transfer)
    tags, levels, known = _levels(transfer)
    starts = [row["start"] for row in transfer["starts"]]
    average = levels.mean(1)
    estimates = _predicted(levels, tags, language.tag) if tested.rule == "neighbours" else average
    nearest_first = tested.rule == "nearest"
    order = np.argsort(_nearest_order(average, known, language.tag) if nearest_first else estimates, kind="stable")
    # The errors of one language are those of one draw, however many starts there are.
    spread = tested.spread * float(stdtrit(len(tags) - 1, (1 + confidence) / 2))
    ranking = [
        {"start": starts[place]}
        | dict(
            zip(
                ("estimate", "low", "high"),
                np.expm1([estimates[place], estimates[place] - spread, estimates[place] + spread]).tolist(),
                strict=True,
            )
        )
        for place in order
    ]
    alike = [(similarity(language.tag, tag), tag) for tag in tags]
    neighbours = [{"language": tag, "similarity": value} for value, tag in sorted(alike, reverse=True)]
    return Advice(language, ranking, neighbours, tested)


def _levels(transfer: Row) -> tuple[list[str], Array, list[list[str] | None]]:
    """Tags of the study's languages; log error rates relative to the mean of all starts, `[starts, languages]`; and the
    languages of each start's pre-training data."""
    starts = [row["start"] for row in transfer["starts"]]
    places = [
        place
        for place, target in enumerate(transfer["targets"])
        if len(target["languages"]) == 1 and similarity(target["languages"][0], "en") is not None
    ]
    errors = {(cell["start"], cell["column"]): cell["error"] for cell in transfer["cells"]}
    levels = np.log([[errors[start, place] for place in places] for start in starts]).reshape(len(starts), len(places))
    tags = [transfer["targets"][place]["languages"][0] for place in places]
    return tags, levels - levels.mean(0), [row["languages"] for row in transfer["starts"]]


def _predicted(levels: Array, tags: list[str], language: str) -> Array:
    """The weighted mean of the levels, `[starts]`; all alike for a language of which no similarity is known."""
    alike = np.array([similarity(language, tag) or 0.0 for tag in tags])
    weights = np.exp((alike - alike.max()) / SHARPNESS)
    return levels @ (weights / weights.sum())


def _nearest_order(average: Array, known: list[list[str] | None], language: str) -> Array:
    """Values that order starts by their nearest language, and starts that are equally near by their average."""
    near = [found[0] if languages and (found := nearest(language, languages)) else -1.0 for languages in known]
    return -np.array(near) + 1e-6 * average


def language_to_advise(name: str) -> Language:
    """The language of a tag, code, name, or of a corpus folder whose table names one.

    Raises:
        AdviceError: it is not in the table of languages, or a folder does not say.
    """
    if Path(name).is_dir():
        return _known(_language_of_folder(Path(name)), f"{name}: its language")
    return _known(name, "the language")


def _known(name: str, what: str) -> Language:
    language = language_of(name)
    if language is None or language.place is None:
        raise AdviceError(
            f"{what} {name!r} is not in the package's table of languages; name a close relative that is, by its tag"
        )
    return language


def _language_of_folder(folder: Path) -> str:
    """The most frequent value in the column `language` of the folder's metadata.tsv."""
    table = folder / "metadata.tsv"
    tags: Counter[str] = Counter()
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            tags.update(row["language"] for row in rows if row.get("language"))
    if not tags:
        raise AdviceError(f"{folder}: no metadata.tsv with a column `language` in it; give the language's tag instead")
    return tags.most_common(1)[0][0]


def in_words(advice: Advice) -> str:
    """The advice as lines of text."""
    rule, tested = advice.tested.rule, advice.tested
    near = ", ".join(f"{row['language']} ({row['similarity']:.2f})" for row in advice.neighbours[:4])
    lines = [f"{advice.language.name} ({advice.language.family}); most alike in the study: {near}", ""]
    if rule != "neighbours":
        lines += [
            f"Neighbours are no better a guide than a plain rule in this study, so this is the plain rule: "
            f"{RULES[rule]}.",
            "",
        ]
    lines.append(f"Error rate relative to the mean of all starts, with 95% intervals; {RULES[rule]}:")
    width = max(len(row["start"]) for row in advice.ranking)
    for place, row in enumerate(advice.ranking, 1):
        lines.append(
            f"{place:3}. {row['start']:<{width}} {row['estimate']:+7.1%}  [{row['low']:+.1%}, {row['high']:+.1%}]"
        )
    lines += ["", f"The start that is picked is worse than the best one, on average over {tested.languages} languages "]
    lines[-1] += "left out in turn, by:"
    lines += [
        f"  {tested.errors[rule]:6.1%}  {words} (the best one in {tested.best[rule]} languages)"
        for rule, words in RULES.items()
    ]
    return "\n".join(lines)
