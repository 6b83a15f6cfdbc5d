"""How alike two languages are: the measure by family and place, and what holds for any measure.

A measure is a function of two tags, with a value from 0 to 1, or None where nothing is known. The one by family and
place, which results call `table`, is coarse, and ours: half of it is kinship (0 without a common family, 1/2 in one
family, 1 in one branch of it), the other half nearness, 1 / (1 + d / 1000 km) at a distance of d. Two languages are
below 1, a language and itself are at 1. Whether a measure is of use is for data to say: `headstart.summarise.transfer`
tests each, and `headstart advise` reports its own error beside rules that do not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from headstart.languages.table import Language, canonical, language_of

Measure = Callable[[str, str], float | None]
EARTH_RADIUS_KM = 6371.0
HALF_WAY_KM = 1000.0  # distance at which nearness is one half


def similarity(one: str, other: str) -> float | None:
    """Similarity of two languages, from 0 to 1; None where one is not in the table, or belongs to no place.

    Args:
        one, other: BCP 47 tags; regions and scripts do not count.
    """
    if same_language(one, other):
        return 1.0
    left, right = language_of(one), language_of(other)
    if left is None or right is None or left.place is None or right.place is None:
        return None
    return (kinship(left, right) + 1 / (1 + distance_km(left.place, right.place) / HALF_WAY_KM)) / 2


def same_language(one: str, other: str) -> bool:
    """Whether two tags, codes or names are of one language; regions and scripts do not count."""
    return canonical(one) == canonical(other)


def kinship(one: Language, other: Language) -> float:
    """1 for languages of one branch of a family, 1/2 for those of one family, 0 for others."""
    if one.family != other.family:
        return 0.0
    return 1.0 if one.subfamily is not None and one.subfamily == other.subfamily else 0.5


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Great-circle distance in km between two pairs of latitude and longitude in degrees (haversine formula)."""
    (lat1, lon1), (lat2, lon2) = (map(math.radians, place) for place in (one, other))
    chord = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def nearest(language: str, others: Iterable[str], measure: Measure = similarity) -> tuple[float, str] | None:
    """The most similar of several languages, and how similar it is; None if nothing is known of any."""
    known = [(value, other) for other in others if (value := measure(language, other)) is not None]
    return max(known, key=lambda pair: pair[0], default=None)
