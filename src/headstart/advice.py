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


class AdviceError(HeadstartError):
    """There is nothing to advise from, or on."""


@dataclass(frozen=True)
class Advice:
    """What to start from.

    Attributes:
        language: the new one.
        rule: whose order of starts this is: "neighbours", "average" or "nearest".
        ranking: rows of `start`, `estimate`, `low`, `high`: the error rate relative to the mean of all starts, best
            first.
        errors: rule -> by how much the start that it picks is worse than the best, in the mean over left-out languages,
            as a share of the error rate.
        neighbours: rows of `language` and `similarity`, the most alike first.
        languages: how many were left out in turn.
    """

    language: Language
    rule: str
    ranking: list[Row]
    errors: dict[str, float]
    neighbours: list[Row]
    languages: int


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
    tags, levels, known = _levels(transfer)
    if len(tags) < FEWEST:
        raise AdviceError(f"the study has {len(tags)} languages that the table of languages has; {FEWEST} are needed")
    starts = [row["start"] for row in transfer["starts"]]
    picks: dict[str, list[float]] = {"neighbours": [], "average": [], "nearest": []}
    residuals = []
    for place, tag in enumerate(tags):
        others = [number for number in range(len(tags)) if number != place]
        predicted = _predicted(levels[:, others], [tags[number] for number in others], tag)
        average = levels[:, others].mean(1)
        residuals.append(levels[:, place] - predicted)
        chosen = {"neighbours": predicted, "average": average, "nearest": _nearest_order(average, known, tag)}
        for rule, order in chosen.items():
            picks[rule].append(float(levels[np.argmin(order), place] - levels[:, place].min()))
    errors = {rule: float(np.expm1(np.mean(values))) for rule, values in picks.items()}
    plain = min(("average", "nearest"), key=errors.__getitem__)
    rule = "neighbours" if errors["neighbours"] < errors[plain] else plain
    average = levels.mean(1)
    estimates = _predicted(levels, tags, language.tag) if rule == "neighbours" else average
    order = np.argsort(_nearest_order(average, known, language.tag) if rule == "nearest" else estimates, kind="stable")
    # The errors of one language are those of one draw, however many starts there are.
    spread = float(np.sqrt(np.mean(np.square(residuals)))) * float(stdtrit(len(tags) - 1, (1 + confidence) / 2))
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
    return Advice(language, rule, ranking, errors, neighbours, len(tags))


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
    names = {
        "neighbours": "from its neighbours among the study's languages",
        "average": "best on average over all languages of the study",
        "nearest": "pre-trained on the nearest language",
    }
    near = ", ".join(f"{row['language']} ({row['similarity']:.2f})" for row in advice.neighbours[:4])
    lines = [f"{advice.language.name} ({advice.language.family}); most alike in the study: {near}", ""]
    if advice.rule != "neighbours":
        lines += [
            f"Neighbours are no better a guide than a plain rule in this study, so this is the plain rule: "
            f"{names[advice.rule]}.",
            "",
        ]
    lines.append(f"Error rate relative to the mean of all starts, with 95% intervals; {names[advice.rule]}:")
    width = max(len(row["start"]) for row in advice.ranking)
    for place, row in enumerate(advice.ranking, 1):
        lines.append(
            f"{place:3}. {row['start']:<{width}} {row['estimate']:+7.1%}  [{row['low']:+.1%}, {row['high']:+.1%}]"
        )
    lines += ["", f"The start that is picked is worse than the best one, on average over {advice.languages} languages "]
    lines[-1] += "left out in turn, by:"
    lines += [f"  {advice.errors[rule]:6.1%}  {names[rule]}" for rule in ("neighbours", "average", "nearest")]
    return "\n".join(lines)
