"""The scripts that languages are written in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

# Languages by the scripts that they are written in; any that is not here is in Latin script.
_SCRIPTS = {
    "Arabic": "ar arz apc ary fa ps ur ug sd ckb",
    "Armenian": "hy hyw",
    "Bengali": "bn as",
    "Cyrillic": "ru uk be bg mk kk ky tg mn tt ba cv sah",
    "Devanagari": "hi mr ne sa bho mai kok awa doi",
    "Ethiopic": "am ti",
    "Georgian": "ka",
    "Greek": "el",
    "Gujarati": "gu",
    "Gurmukhi": "pa",
    "Han": "zh cmn yue nan wuu hak",
    "Hangul": "ko",
    "Hebrew": "he yi",
    "Kannada": "kn",
    "Khmer": "km",
    "Lao": "lo",
    "Malayalam": "ml",
    "Myanmar": "my shn",
    "Oriya": "or",
    "Sinhala": "si",
    "Tamil": "ta",
    "Telugu": "te",
    "Thai": "th",
    "Thaana": "dv",
    "Tibetan": "bo dz",
}
_JAPANESE = ("Han", "Hiragana", "Katakana")
_CODES = {  # script subtags of BCP 47, ISO 15924
    "arab": ("Arabic",), "armn": ("Armenian",), "beng": ("Bengali",), "cyrl": ("Cyrillic",), "deva": ("Devanagari",),
    "ethi": ("Ethiopic",), "geor": ("Georgian",), "grek": ("Greek",), "gujr": ("Gujarati",), "guru": ("Gurmukhi",),
    "hani": ("Han",), "hans": ("Han",), "hant": ("Han",), "hang": ("Hangul",), "kore": ("Hangul", "Han"),
    "hebr": ("Hebrew",), "jpan": _JAPANESE, "knda": ("Kannada",), "khmr": ("Khmer",), "laoo": ("Lao",),
    "latn": ("Latin",), "mlym": ("Malayalam",), "mymr": ("Myanmar",), "orya": ("Oriya",), "sinh": ("Sinhala",),
    "taml": ("Tamil",), "telu": ("Telugu",), "thai": ("Thai",), "thaa": ("Thaana",), "tibt": ("Tibetan",),
}  # fmt: skip


def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts that a language is written in, by Unicode's names: of its BCP 47 script subtag, or its usual ones."""
    base, *subtags = language.lower().replace("_", "-").split("-")
    for subtag in subtags:
        if subtag in _CODES:
            return _CODES[subtag]
    if base in ("ja", "jpn"):
        return _JAPANESE
    return next(((script,) for script, languages in _SCRIPTS.items() if base in languages.split()), ("Latin",))


def shared_script(languages: Iterable[str]) -> tuple[str, str, str] | None:
    """Two of the languages and a script that both are written in; None where their scripts tell all of them apart."""
    for one, other in combinations(languages, 2):
        for script in scripts_of(one):
            if script in scripts_of(other):
                return one, other, script
    return None
