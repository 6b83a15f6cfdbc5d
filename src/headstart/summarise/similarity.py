"""The measures by which a study's languages are compared."""

from __future__ import annotations

from pathlib import Path

from headstart.languages.acoustic import AcousticSimilarity
from headstart.languages.pairs import read_pairs
from headstart.languages.similarity import Measure, similarity
from headstart.study.similarity import ACOUSTIC_FILE
from headstart.study.study import Study
from headstart.summarise.pretraining_data import asks_about_transfer, compared_languages

TABLE: dict[str, Measure] = {"table": similarity}


def measures_of(study: Study, results: Path) -> dict[str, Measure]:
    """Measures of similarity by name: `table`, `acoustic`, and those of the study's own tables.

    Raises:
        BrokenFileError: the measurement by sound is missing, or damaged and set aside.
        PairsError: a table cannot be used.
    """
    found = dict(TABLE)
    if not asks_about_transfer(study):
        return found
    if compared_languages(study):
        found["acoustic"] = AcousticSimilarity.read(results / study.study / ACOUSTIC_FILE).pairs()
    return found | {name: read_pairs(path) for name, path in study.similarity.tables.items()}
