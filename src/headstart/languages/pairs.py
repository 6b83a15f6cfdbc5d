"""Similarities of pairs of languages, as a file or a measurement gives them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import HeadstartError
from headstart.files import written_whole
from headstart.languages.similarity import same_language
from headstart.languages.table import canonical

COLUMNS = ("language_a", "language_b", "similarity")


class PairsError(HeadstartError):
    """A table of similarities that cannot be used."""


@dataclass(frozen=True)
class Pairs:
    """Similarities from 0 to 1 of pairs of languages, whose order does not matter.

    Attributes:
        values: (language, language) in alphabetic order, as `canonical` names them -> similarity.
    """

    values: dict[tuple[str, str], float]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, float]]) -> Pairs:
        """The similarities in rows of two languages and their similarity; a later row replaces an earlier one."""
        return cls({_pair(one, other): value for one, other, value in rows})

    def __call__(self, one: str, other: str) -> float | None:
        """Similarity of two languages by their tags; None where it is not known."""
        return 1.0 if same_language(one, other) else self.values.get(_pair(one, other))

    def with_one_of(self, tags: Iterable[str]) -> Pairs:
        """The pairs of which at least one language is among these."""
        wanted = set(map(canonical, tags))
        return Pairs({pair: value for pair, value in self.values.items() if wanted & set(pair)})

    def plain(self) -> dict[str, dict[str, float]]:
        """As JSON values: language -> language -> similarity, each pair once."""
        nested: dict[str, dict[str, float]] = {}
        for (one, other), value in sorted(self.values.items()):
            nested.setdefault(one, {})[other] = value
        return nested

    @classmethod
    def of_plain(cls, nested: dict[str, dict[str, float]]) -> Pairs:
        """The reverse of `plain`."""
        return cls.of((one, other, value) for one, row in nested.items() for other, value in row.items())


def _pair(one: str, other: str) -> tuple[str, str]:
    first, second = sorted((canonical(one), canonical(other)))
    return first, second


def read_pairs(path: str | Path) -> Pairs:
    """The similarities in a TSV file with the columns language_a, language_b and similarity; others are ignored.

    Languages go by tag, ISO 639-3 code, Glottocode or English name. A pair may be listed in both orders.

    Raises:
        PairsError: the file is missing or cannot be read, has none of these columns, or a row has a similarity that is
            no number from 0 to 1, or another one than the same pair has before.
    """
    values: dict[tuple[str, str], float] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = (line for line in file if not line.startswith("#"))
            rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise PairsError(f"{path}: there is no column {missing[0]!r}; it needs {', '.join(COLUMNS)}, in TSV")
            for number, row in enumerate(rows, 1):
                one, other = (row[name] or "" for name in COLUMNS[:2])
                value = _similarity(row[COLUMNS[2]])
                if not one.strip() or not other.strip() or value is None:
                    raise PairsError(
                        f"{path}: row {number}: needs two languages and a similarity from 0 to 1 (that is 1 minus a "
                        f"distance), but has {one!r}, {other!r} and {row[COLUMNS[2]]!r}"
                    )
                if values.setdefault(_pair(one, other), value) != value:
                    raise PairsError(f"{path}: row {number}: {one} and {other} have another similarity in a row before")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: the table of similarities cannot be read: {error}") from None
    return Pairs({pair: value for pair, value in values.items() if pair[0] != pair[1]})


def _similarity(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def write_pairs(path: str | Path, pairs: Pairs, source: str) -> None:
    """Write similarities as a table that `read_pairs` reads, with a line first that names their source."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {source}\n")
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writerow(COLUMNS)
        writer.writerows((one, other, f"{value:.6g}") for (one, other), value in sorted(pairs.values.items()))
