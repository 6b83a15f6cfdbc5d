"""What makes a start transfer: each question as an effect on the table of starts × languages, with a reason where the
study cannot answer it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headstart.summarise.crossed import Effect, cell_effect, inflation, language_effect, largest_share, start_effect
from headstart.summarise.pretraining_data import FEWEST
from headstart.summarise.tables import Row
from headstart.summarise.transfer_table import TransferTable

Array = NDArray[np.float64]
Question = Callable[[TransferTable, np.random.Generator], tuple[Effect, Array]]
FEWEST_DF = 3  # degrees of freedom of the starts
# From this variance inflation on, size and number of languages count as one thing: more than 4/5 of how the one varies
# goes with the other, and whatever else differs between the starts decides which of them seems to matter.
MOST_INFLATION = 5.0
MOST_SHARE = 0.5  # of an effect's information that a single start may have
SAME_HOURS = 1.25  # the largest ratio of hours that count as equal


class CannotTell(Exception):
    """The study cannot answer a question; the message says why, as a clause."""


def question_rows(table: TransferTable, confidence: float) -> list[Row]:
    """A row for each question: `question`, `estimate`, `low`, `high` (relative changes of the error rate), `p`,
    `degrees_of_freedom`, `starts`, `languages` (how many), and `reason`, where the study cannot tell.

    `similarity` is asked by each `measure`, and `step` is the difference of similarity whose effect this is.
    """
    return [
        _row("hours", _hours, table, confidence),
        _row("languages", _languages, table, confidence),
        _row("languages_or_hours", _languages_or_hours, table, confidence),
        _row("multilingual", _multilingual, table, confidence),
        _row("family", _family, table, confidence),
        _row("own_language", _own_language, table, confidence),
        *(
            _row("similarity", partial(_similarity, measure=measure), table, confidence)
            | {"measure": measure, "step": similarity_step(table, measure)}
            for measure in table.measures
        ),
        _row("switched", _switched, table, confidence),
    ]


def _row(name: str, ask: Question, table: TransferTable, confidence: float) -> Row:
    row: Row = {"question": name, **dict.fromkeys(("estimate", "low", "high", "p", "degrees_of_freedom", "reason"))}
    row |= {"starts": None, "languages": None}
    try:
        effect, used = ask(table, np.random.default_rng(0))
        if effect.finest >= 1 - confidence:
            raise CannotTell("there are so few starts or languages that no permutation test could be clear")
    except CannotTell as reason:
        return row | {"reason": str(reason)}
    low, high = np.expm1(effect.interval(confidence)).tolist()
    row |= {"estimate": float(np.expm1(effect.value)), "low": low, "high": high, "p": effect.p}
    return row | {"degrees_of_freedom": effect.df, "starts": used.shape[0], "languages": used.shape[1]}


# ---------------------------------------------------------------------------------------------- size and diversity


def _sizes(table: TransferTable) -> tuple[Array, Array, Array]:
    """Changes `[starts, columns]`, and log2 of hours and of the number of languages, of the starts that have both."""
    known = [place for place, data in enumerate(table.starts.values()) if data.hours and data.language_count]
    if len(known) < FEWEST:
        raise CannotTell(f"hours and languages of the pre-training data are known of {len(known)} starts only")
    data = [list(table.starts.values())[place] for place in known]
    hours, count = (np.log2([getattr(one, key) for one in data]) for key in ("hours", "language_count"))
    return _enough(table.changes[known]), hours, count


def _enough(changes: Array) -> Array:
    if changes.shape[1] < FEWEST:
        raise CannotTell(f"there are targets in {changes.shape[1]} languages only")
    return changes


def _partial(changes: Array, predictor: Array, other: Array, what: str, held: str, rng: np.random.Generator):
    """The effect of one property of the starts with another one held constant, where it varies."""
    if np.ptp(predictor) < np.log2(SAME_HOURS):
        raise CannotTell(f"all starts have the same {what}")
    others = np.ones((len(predictor), 1))
    if np.ptp(other) >= np.log2(SAME_HOURS):
        others = np.column_stack([others, other])
    if (factor := inflation(predictor, others)) >= MOST_INFLATION:
        together = "always" if factor > 1e6 else f"mostly (variance inflation {factor:.1f})"
        raise CannotTell(f"{what} and {held} {together} change together among these starts")
    if len(predictor) - others.shape[1] - 1 < FEWEST_DF:
        raise CannotTell(f"{len(predictor)} starts are too few")
    if largest_share(predictor, others) > MOST_SHARE:
        raise CannotTell(f"how {what} vary rests on one start")
    return start_effect(changes, predictor, others, rng), changes


def _hours(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """By a doubling of hours, with the number of languages held constant."""
    changes, hours, count = _sizes(table)
    return _partial(changes, hours, count, "hours", "the number of languages", rng)


def _languages(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """By a doubling of the number of languages, with hours held constant."""
    changes, hours, count = _sizes(table)
    return _partial(changes, count, hours, "numbers of languages", "hours", rng)


def _languages_or_hours(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """By a doubling of the number of languages rather than of hours: the difference of the two effects."""
    changes, hours, count = _sizes(table)
    for predictor, other, what, held in ((hours, count, "hours", "languages"), (count, hours, "languages", "hours")):
        _partial(changes, predictor, other, what, f"the number of {held}" if held == "languages" else held, rng)
    if min(np.ptp(hours), np.ptp(count)) < np.log2(SAME_HOURS):
        raise CannotTell("only one of the two varies")
    # b₁ hours + b₂ languages = b₁ (hours + languages) + (b₂ - b₁) languages
    others = np.column_stack([np.ones(len(hours)), hours + count])
    return start_effect(changes, count, others, rng), changes


def _multilingual(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """Several languages rather than one, among starts with equal hours."""
    changes, hours, count = _sizes(table)
    groups: list[list[int]] = []
    for place in np.argsort(hours, kind="stable").tolist():
        if groups and hours[place] - hours[groups[-1][0]] <= np.log2(SAME_HOURS):
            groups[-1].append(place)
        else:
            groups.append([place])
    groups = [group for group in groups if 0 < sum(count[group] > 0) < len(group)]
    used = [place for group in groups for place in group]
    if len(used) - len(groups) - 1 < FEWEST_DF:
        raise CannotTell(f"there are {len(used)} starts with equal hours of one and of several languages")
    several = (count[used] > 0).astype(float)
    others = np.array([[float(place in group) for group in groups] for place in used])
    return start_effect(changes[used], several, others, rng), changes[used]


# ---------------------------------------------------------------------------------------------- families and similarity


def largest_family(table: TransferTable) -> str | None:
    """The family with the most target languages, if there are others too."""
    sizes = Counter(table.families.values())
    return sizes.most_common(1)[0][0] if len(sizes) > 1 else None


def _family(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """In languages of the largest family, compared with the other target languages."""
    if table.none is None:
        raise CannotTell(
            "no start is without pre-training, and without one families of easy and of hard corpora differ"
        )
    family, places = largest_family(table), list(table.families)
    inside = np.array([float(table.families[place] == family) for place in places])
    if family is None or min(inside.sum(), len(inside) - inside.sum()) < 3:
        raise CannotTell("there are fewer than three target languages of one family and three of others")
    if len(table.starts) < FEWEST:
        raise CannotTell(f"{len(table.starts)} pre-trained starts are too few")
    changes = table.changes[:, places]
    return language_effect(changes, inside, np.ones((len(places), 1)), rng), changes


def _own_language(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """Where the start was pre-trained on the target's language, compared with where it was not."""
    starts = [place for place, data in enumerate(table.starts.values()) if data.languages]
    if len(starts) < FEWEST:
        raise CannotTell(f"the languages of {len(starts)} starts only are known")
    changes, own = _enough(table.changes[np.ix_(starts, table.single)]), _own(table, starts, table.single)
    return _within(changes, own, np.empty((0, *own.shape)), "whether the language was pre-trained on", rng), changes


def _similarity(table: TransferTable, rng: np.random.Generator, measure: str) -> tuple[Effect, Array]:
    """By a standard deviation of similarity, between languages that the start was not pre-trained on."""
    starts, columns, similarity = _alike(table, measure)
    if len(starts) < FEWEST:
        raise CannotTell(f"of {len(starts)} starts only, this measure knows a language of pre-training")
    changes, own = _enough(table.changes[np.ix_(starts, columns)]), _own(table, starts, columns)
    predictor = np.where(own == 1, 0.0, similarity) / (similarity_step(table, measure) or 1.0)
    return _within(changes, predictor, own[None], "similarity", rng), changes


def similarity_step(table: TransferTable, measure: str) -> float | None:
    """The standard deviation of similarity between languages and the nearest one of starts that were not pre-trained
    on them; None where there are fewer than two such pairs."""
    starts, columns, similarity = _alike(table, measure)
    others = similarity[_own(table, starts, columns) == 0]
    return float(others.std()) if len(others) > 1 else None


def _alike(table: TransferTable, measure: str) -> tuple[list[int], list[int], Array]:
    """Starts and columns in one language of which a measure knows how alike they are, and similarity of the nearest
    language, `[starts, columns]`. That a language is like itself does not count as knowing it."""
    languages = list(table.columns)
    found = {
        (start, column): near[0]
        for start, name in enumerate(table.starts)
        for column in table.single
        if (near := table.nearest_language(name, languages[column], measure))
    }
    names = list(table.starts)
    others = {place for place in found if table.covered(names[place[0]], languages[place[1]]) == 0}
    columns = [column for column in table.single if any((start, column) in others for start in range(len(names)))]
    starts = [start for start in range(len(names)) if columns and all((start, column) in found for column in columns)]
    values = [[found[start, column] for column in columns] for start in starts]
    return starts, columns, np.array(values).reshape(len(starts), len(columns))


def _own(table: TransferTable, starts: list[int], columns: list[int]) -> Array:
    """`[starts, columns]`: 1 where the start was pre-trained on the language, otherwise 0."""
    languages, names = list(table.columns), list(table.starts)
    rows = [[float(table.covered(names[start], languages[column]) == 1) for column in columns] for start in starts]
    return np.array(rows).reshape(len(starts), len(columns))


def _switched(table: TransferTable, rng: np.random.Generator) -> tuple[Effect, Array]:
    """By one more language of a code-switched target that the start was pre-trained on."""
    starts = [place for place, data in enumerate(table.starts.values()) if data.languages is not None]
    columns = [list(table.columns)[place] for place in table.switched]
    if len(columns) < 3 or len(starts) < FEWEST:
        raise CannotTell(
            f"there are {len(columns)} pairs of languages in code-switched targets, and {len(starts)} starts whose "
            "languages are known"
        )
    names = list(table.starts)
    covered = np.array([[float(table.covered(names[place], column)) for column in columns] for place in starts])
    changes = table.changes[np.ix_(starts, table.switched)]
    return _within(changes, covered, np.empty((0, *covered.shape)), "the languages pre-trained on", rng), changes


def _within(changes: Array, predictor: Array, others: Array, what: str, rng: np.random.Generator) -> Effect:
    try:
        return cell_effect(changes, predictor, others, rng)
    except ValueError:
        raise CannotTell(f"{what} does not differ within starts and within languages") from None
