"""The package's table of languages: codes, families and coordinates, from Glottolog (CC BY 4.0).

The table has the languages of well-known pre-training data, of the synthetic corpora and of public code-switched
corpora. It does not have every language; whoever asks for one gets None and says so.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Language:
    """A row of the table.

    Attributes:
        tag: BCP 47, without region or script.
        iso639_3: code of ISO 639-3; of a tag that covers several languages, the one whose facts these are.
        glottocode: of Glottolog.
        name: in English.
        family: the whole family, such as Indo-European; a language without relatives has its own name here.
        subfamily: a well-known branch of it, such as Germanic; None where there is none.
        latitude, longitude: degrees; None for a language that belongs to no place.
    """

    tag: str
    iso639_3: str
    glottocode: str
    name: str
    family: str
    subfamily: str | None
    latitude: float | None
    longitude: float | None

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude, where both are known."""
        return None if self.latitude is None or self.longitude is None else (self.latitude, self.longitude)


@cache
def languages() -> dict[str, Language]:
    """The languages of the table by tag, in its order."""
    text = (resources.files("headstart.languages") / "table.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["tag"]: Language(
            **{key: row[key] for key in ("tag", "iso639_3", "glottocode", "name", "family")},
            subfamily=row["subfamily"] or None,
            latitude=float(row["latitude"]) if row["latitude"] else None,
            longitude=float(row["longitude"]) if row["longitude"] else None,
        )
        for row in rows
    }


@cache
def _by_other_names() -> dict[str, Language]:
    """The languages by ISO 639-3 code, Glottocode and English name; the first of several has it."""
    names: dict[str, Language] = {}
    for language in languages().values():
        for name in (language.iso639_3, language.glottocode, language.name.lower()):
            names.setdefault(name, language)
    return names


def language_of(name: str) -> Language | None:
    """The language with a BCP 47 tag (`sv-SE` is `sv`), ISO 639-3 code, Glottocode or English name; None if unknown."""
    wanted = name.strip().lower().replace("_", "-")
    return languages().get(primary(wanted)) or _by_other_names().get(wanted) or _by_other_names().get(primary(wanted))


def primary(tag: str) -> str:
    """The language of a BCP 47 tag, without script and region: `zh` of `zh-CN`."""
    return tag.replace("_", "-").split("-")[0].lower()


@cache
def canonical(name: str) -> str:
    """One tag for each language, whatever it is called: of several tags of one language, the first in the table."""
    language = language_of(name)
    return _by_other_names()[language.iso639_3].tag if language else primary(name.strip())


def families(tags: list[str] | tuple[str, ...]) -> tuple[str, ...] | None:
    """The families of languages, each once; None if one of the languages is not in the table."""
    found = [language_of(tag) for tag in tags]
    return tuple(dict.fromkeys(language.family for language in found)) if all(found) else None
