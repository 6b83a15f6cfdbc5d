"""Typological similarities from URIEL+, as a table that a study can name.

URIEL+ (Khan et al. 2025, https://aclanthology.org/2025.coling-main.463/) has features of grammars and sound inventories
of 7,970 languages. Nothing else needs its package, `urielplus`, whose data are licensed under CC BY-SA 4.0. Therefore a
table is written once, and the study names that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from headstart.errors import HeadstartError
from headstart.languages.pairs import Pairs
from headstart.languages.table import language_of

KINDS = ("phonological", "inventory", "syntactic", "morphological", "featural", "genetic", "geographic")


class TypologyError(HeadstartError):
    """URIEL+ is not there."""


def typological_pairs(tags: Sequence[str], others: Sequence[str], kind: str) -> tuple[Pairs, list[str]]:
    """One minus the distance in URIEL+ of pairs of languages.

    Args:
        tags: of the languages that are compared to one another and to the others, or their ISO 639-3 codes.
        others: of languages that are not compared to one another.
        kind: of the distance, one of `KINDS`.

    Returns:
        The similarities, and what URIEL+ does not know: languages, and pairs of which it knows no common feature.

    Raises:
        TypologyError: urielplus is not installed.
    """
    uriel = _uriel()
    there = set(uriel.get_typological_languages_array())
    codes = {tag: _iso639_3(tag) for tag in dict.fromkeys([*tags, *others])}
    unknown = [tag for tag, code in codes.items() if code not in there]
    rows = []
    for one, other in combinations(codes, 2):
        if one not in tags or {one, other} & set(unknown) or codes[one] == codes[other]:
            continue
        try:
            distance = uriel.new_distance(kind, [codes[one], codes[other]])
        except ValueError:  # no feature is known of both
            unknown.append(f"{one} and {other}")
            continue
        rows.append((one, other, min(1.0, max(0.0, 1.0 - float(distance)))))
    return Pairs.of(rows), unknown


def _iso639_3(tag: str) -> str:
    language = language_of(tag)
    return language.iso639_3 if language else tag.lower()


def _uriel() -> Any:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        from urielplus.urielplus import URIELPlus
    except ImportError:
        raise TypologyError(
            "typological distances need the package urielplus, which is not installed; install it with "
            "`pip install urielplus`, or write a table of similarities yourself (docs/transfer.md)"
        ) from None
    # Importing it makes every message of every package appear on the terminal.
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    return URIELPlus()
