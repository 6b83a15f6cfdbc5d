"""The runs of a study as a table of pre-trained starts × languages, with what is known of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.languages.similarity import Measure, nearest
from headstart.languages.table import canonical, language_of
from headstart.study.starts import ScratchStart
from headstart.study.study import Study
from headstart.summarise.design import Design
from headstart.summarise.pretraining_data import PretrainingData, pretraining_data, target_languages
from headstart.summarise.similarity import TABLE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TransferTable:
    """Log error rates, averaged over budgets, and over targets in the same languages.

    Attributes:
        none: the start without pre-training; None if the study has none.
        starts: the pre-trained starts, and what each was pre-trained on.
        columns: languages of the targets -> the targets in them; code-switched targets have several languages.
        errors: `[starts, columns, seeds]`.
        none_errors: `[columns, seeds]`; NaN without `none`.
        measures: of the similarity of languages, by name.
    """

    none: str | None
    starts: dict[str, PretrainingData]
    columns: dict[tuple[str, ...], list[str]]
    errors: Array
    none_errors: Array
    measures: Mapping[str, Measure]

    @classmethod
    def of(cls, study: Study, design: Design, measures: Mapping[str, Measure] = TABLE) -> TransferTable:
        """The table of a study's runs by one metric; targets to which it does not apply are left out."""
        scratch = [name for name, start in study.starts.items() if isinstance(start, ScratchStart)]
        none = study.baseline if study.baseline in scratch else next(iter(scratch), None)
        starts = {name: pretraining_data(study, name) for name in study.starts if name not in scratch}
        columns: dict[tuple[str, ...], list[str]] = {}
        for target in study.targets:
            if all((target, budget) in design.cells for budget in study.budgets):
                columns.setdefault(target_languages(study, target), []).append(target)

        def errors(start: str, targets: list[str]) -> Array:
            cells = [design.cells[target, budget] for target in targets for budget in study.budgets]
            return np.mean([cell.values[cell.starts.index(start)] for cell in cells], axis=0)

        seeds = len(study.seeds)
        return cls(
            none,
            starts,
            columns,
            np.array([[errors(name, own) for own in columns.values()] for name in starts]).reshape(
                len(starts), len(columns), seeds
            ),
            np.array([errors(none, own) if none else np.full(seeds, np.nan) for own in columns.values()]).reshape(
                len(columns), seeds
            ),
            measures,
        )

    @property
    def changes(self) -> Array:
        """`[starts, columns]`: log error rates less those of `none`; without it, less the mean of the column."""
        means = self.errors.mean(2)
        return means - (self.none_errors.mean(1) if self.none else means.mean(0))

    @property
    def single(self) -> list[int]:
        """The columns in one language."""
        return [place for place, languages in enumerate(self.columns) if len(languages) == 1]

    @property
    def switched(self) -> list[int]:
        """The code-switched columns."""
        return [place for place, languages in enumerate(self.columns) if len(languages) > 1]

    def nearest_language(self, start: str, column: tuple[str, ...], measure: str) -> tuple[float, str] | None:
        """Of what a start was pre-trained on, the language most like that of a column, and how alike they are.

        Of a code-switched column, it is the one most like its first language. None where it cannot be known.
        """
        known = self.starts[start].languages
        return nearest(column[0], known, self.measures[measure]) if known else None

    def covered(self, start: str, column: tuple[str, ...]) -> int | None:
        """How many languages of a column a start was pre-trained on; None where its languages are unknown."""
        known = self.starts[start].languages
        return None if known is None else len(set(map(canonical, known)) & set(map(canonical, column)))

    @property
    def families(self) -> dict[int, str]:
        """The family of each column in one language, where the table of languages has it."""
        found = {place: language_of(list(self.columns)[place][0]) for place in self.single}
        return {place: language.family for place, language in found.items() if language}
