"""Which start for a language that a finished study has not: `headstart advise`.

The error rates of a start in the study's languages are averaged with weights by how alike the languages are to the new
one. How far off that is, `headstart.summarise.neighbours` measures on the study's own languages, left out in turn, for
each measure of similarity and beside two plain rules that need no neighbours.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from headstart.errors import HeadstartError
from headstart.languages.acoustic import AcousticSimilarity
from headstart.languages.folder import folder_audio, has_audio
from headstart.languages.pairs import Pairs
from headstart.languages.similarity import Measure, similarity
from headstart.languages.table import canonical, language_of
from headstart.report.transfer import by_measure
from headstart.summarise.neighbours import RULES, Known, left_out
from headstart.summarise.pretraining_data import FEWEST

Row = dict[str, Any]


class AdviceError(HeadstartError):
    """There is nothing to advise from, or on."""


@dataclass(frozen=True)
class Subject:
    """What advice is for.

    Attributes:
        name: to show.
        tag: of its language; None for audio in a language that has no name here.
        sound: of audio, how alike it is to each language of the study; None without audio.
    """

    name: str
    tag: str | None
    sound: dict[str, float] | None = None

    @property
    def key(self) -> str:
        """What stands for it in measures: a tag of private use where it has none."""
        return self.tag or "qaa-x-new"


@dataclass(frozen=True)
class Advice:
    """What to start from.

    Attributes:
        subject: what it is for.
        rule, measure: whose order of starts this is: "neighbours", "average" or "nearest", by which similarity.
        ranking: rows of `start`, `estimate`, `low`, `high`: the error rate relative to the mean of all starts, best
            first.
        errors: the row of `left_out` for each measure that knows the language, with its `measure`.
        neighbours: rows of `language` and `similarity` by `measure`, the most alike first.
        confidence: of the intervals.
        strange: whether the audio is of another kind than the study's, as far as sound can tell.
    """

    subject: Subject
    rule: str
    measure: str
    ranking: list[Row]
    errors: list[Row]
    neighbours: list[Row]
    confidence: float
    strange: bool


def advise(transfer: Row | None, subject: Subject, confidence: float = 0.95) -> Advice:
    """Rank the starts of a finished study for a language.

    Args:
        transfer: the section of the study's summary.
        subject: the new language.
        confidence: of the intervals, which come from the errors on languages left out.

    Raises:
        AdviceError: the study has too few starts or languages, or no measure knows the language.
    """
    if transfer is None:
        raise AdviceError("the study has too few pre-trained starts or languages to advise from")
    known = Known.of(transfer)
    candidates: dict[str, tuple[Known, Measure, Row]] = {}
    for name, measure in measures_for(transfer, subject).items():
        some = known.only(measure)
        if len(some.tags) >= FEWEST and any(measure(subject.key, tag) is not None for tag in some.tags):
            candidates[name] = some, measure, {"measure": name} | left_out(some, measure, confidence)
    if not candidates:
        raise AdviceError(
            f"nothing is known of how alike {subject.name} and {FEWEST} languages of the study are; name a close "
            "relative that the package's table of languages has by its tag, or give a folder of audio and measure "
            "similarity by sound in the study (similarity.acoustic)"
        )
    measure_name = min(candidates, key=lambda name: _gain(candidates[name][2]))
    some, measure, row = candidates[measure_name]
    rule = "neighbours" if row["neighbours"] < row[row["plain"]] else row["plain"]
    estimates = some.picked("neighbours" if rule == "neighbours" else "average", subject.key, measure)
    order = np.argsort(some.picked(rule, subject.key, measure), kind="stable")
    # The errors of one language are those of one draw, however many starts there are.
    missed = row["misses"]["neighbours" if rule == "neighbours" else "average"]
    half = missed * float(stdtrit(len(some.tags) - 1, (1 + confidence) / 2))
    ranking = [
        {"start": some.starts[place]}
        | dict(
            zip(
                ("estimate", "low", "high"),
                np.expm1([estimates[place], estimates[place] - half, estimates[place] + half]).tolist(),
                strict=True,
            )
        )
        for place in order
    ]
    alike = [(value, tag) for tag in some.tags if (value := measure(subject.key, tag)) is not None]
    neighbours = [{"language": tag, "similarity": value} for value, tag in sorted(alike, reverse=True)]
    errors = [row for _, _, row in candidates.values()]
    return Advice(subject, rule, measure_name, ranking, errors, neighbours, confidence, _is_strange(transfer, subject))


def _is_strange(transfer: Row, subject: Subject) -> bool:
    """Whether audio is less like any language of the study than any two of these are like one another."""
    known = transfer.get("similarities", {}).get("acoustic", {})
    among = [value for row in known.values() for value in row.values()]
    return bool(among and subject.sound) and max(subject.sound.values()) < min(among)


def _gain(row: Row) -> float:
    """What a measure adds to the error of the rule that needs none; negative if it is of use.

    Measures know different languages, so that the errors themselves cannot be compared.
    """
    return min(row["neighbours"], row["nearest"]) - row["average"]


def measures_for(transfer: Row, subject: Subject) -> dict[str, Measure]:
    """The measures of a study by which its languages can be compared to a new one."""
    measures: dict[str, Measure] = {"table": similarity} if subject.tag else {}
    for name, plain in transfer.get("similarities", {}).items():
        pairs = Pairs.of_plain(plain)
        if name == "acoustic" and subject.sound is not None:
            new = Pairs.of((subject.key, tag, value) for tag, value in subject.sound.items())
            pairs = replace(pairs, values={**pairs.values, **new.values})
        measures[name] = pairs
    return measures


def subject_of(name: str, acoustic: Path) -> Subject:
    """What a name on the command line stands for.

    Args:
        name: a folder of audio, which may have a table metadata.tsv with a column `language`; or the tag, code or name
            of a language.
        acoustic: the file in which the study has measured how alike languages sound, whether it is there or not.

    Raises:
        AdviceError: the folder has nothing to compare by.
        AudioError: a recording in it cannot be decoded.
        HeadstartError: its audio cannot be compared.
    """
    if not Path(name).is_dir():
        language = language_of(name)
        return Subject(language.name, language.tag) if language else Subject(name, canonical(name))
    tag = _language_of_folder(Path(name))
    sound = None
    if acoustic.is_file() and (tag is None or has_audio(Path(name))):
        measurement = AcousticSimilarity.read(acoustic)
        sound = measurement.of_audio(folder_audio(Path(name), measurement.minutes), name)
    if tag is None and sound is None:
        raise AdviceError(
            f"{name}: no metadata.tsv with a column `language` in it, and the study has not measured how alike "
            f"languages sound ({acoustic}); give the language's tag instead, or run the study with similarity.acoustic"
        )
    language = language_of(tag) if tag else None
    return Subject(f"{name}, {language.name if language else tag}" if tag else name, tag, sound)


def _language_of_folder(folder: Path) -> str | None:
    """The most frequent value in the column `language` of the folder's metadata.tsv; None if there is none."""
    table = folder / "metadata.tsv"
    tags: Counter[str] = Counter()
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            tags.update(row["language"] for row in rows if row.get("language"))
    return tags.most_common(1)[0][0] if tags else None


def in_words(advice: Advice) -> str:
    """The advice as lines of text."""
    names = {
        "neighbours": f"from its neighbours {by_measure(advice.measure)} among the study's languages",
        "average": "best on average over all languages of the study",
        "nearest": f"pre-trained on the nearest language {by_measure(advice.measure)}",
    }
    near = ", ".join(f"{row['language']} ({row['similarity']:.2f})" for row in advice.neighbours[:4])
    language = advice.subject.tag and language_of(advice.subject.tag)
    family = f" ({language.family})" if language else ""
    lines = [f"{advice.subject.name}{family}; most alike in the study {by_measure(advice.measure)}: {near}", ""]
    if advice.strange:
        lines += [
            "This audio is less like any language of the study than any two of these are like one another: it is "
            "probably of another kind (voices, rooms, microphones), and similarity by sound then says little.",
            "",
        ]
    chosen = next(row for row in advice.errors if row["measure"] == advice.measure)
    if advice.rule != "neighbours":
        lines += [
            f"Neighbours are no better a guide than a plain rule in this study, so this is the plain rule: "
            f"{names[advice.rule]}.",
            "",
        ]
    elif chosen["high"] >= 0:
        lines += [
            "Neighbours are a better guide than plain rules in this study, but not clearly: by "
            f"{-chosen['difference']:.1%} [{-chosen['high']:+.1%}, {-chosen['low']:+.1%}] of the error rate.",
            "",
        ]
    lines.append(
        f"Error rate relative to the mean of all starts, with {advice.confidence:.0%} intervals; {names[advice.rule]}:"
    )
    width = max(len(row["start"]) for row in advice.ranking)
    for place, row in enumerate(advice.ranking, 1):
        lines.append(
            f"{place:3}. {row['start']:<{width}} {row['estimate']:+7.1%}  [{row['low']:+.1%}, {row['high']:+.1%}]"
        )
    lines += ["", "How much worse than the best start the one is that a rule picks, on languages left out in turn:", ""]
    labels = [by_measure(row["measure"]) for row in advice.errors]
    width = max(map(len, labels))
    lines.append(f"  {'similarity':<{width}}  {'languages':>9}  {'neighbours':>10}  {'average':>7}  {'nearest':>7}")
    for label, row in zip(labels, advice.errors, strict=True):
        rates = "  ".join(f"{row[rule]:>{size}.1%}" for rule, size in zip(RULES, (10, 7, 7), strict=True))
        lines.append(f"  {label:<{width}}  {row['languages']:>9}  {rates}")
    return "\n".join(lines)
