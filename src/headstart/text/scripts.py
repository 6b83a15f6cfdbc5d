"""The scripts that languages are written in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

# Languages by the scripts that they are written in; any that is not here is in Latin script.
_SCRIPTS = {
    "Arabic": "ar ara arz apc ary fa fas ps pus ur urd ug uig sd ckb",
    "Armenian": "hy hye hyw",
    "Bengali": "bn ben as asm",
    "Cyrillic": "ru rus uk ukr be bel bg bul mk mkd kk kaz ky kir tg tgk mn mon tt tat ba bak cv chv sah",
    "Devanagari": "hi hin mr mar ne nep sa san bho mai kok awa doi",
    "Ethiopic": "am amh ti tir",
    "Georgian": "ka kat",
    "Greek": "el ell",
    "Gujarati": "gu guj",
    "Gurmukhi": "pa pan",
    "Han": "zh zho cmn yue nan wuu hak",
    "Hangul": "ko kor",
    "Hebrew": "he heb yi yid",
    "Kannada": "kn kan",
    "Khmer": "km khm",
    "Lao": "lo lao",
    "Malayalam": "ml mal",
    "Myanmar": "my mya shn",
    "Oriya": "or ori ory",
    "Sinhala": "si sin",
    "Tamil": "ta tam",
    "Telugu": "te tel",
    "Thai": "th tha",
    "Thaana": "dv div",
    "Tibetan": "bo bod dz dzo",
}
_JAPANESE = ("Han", "Hiragana", "Katakana")
_SEVERAL = {"ja": _JAPANESE, "jpn": _JAPANESE, "sr": ("Cyrillic", "Latin"), "srp": ("Cyrillic", "Latin")}
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
    if base in _SEVERAL:
        return _SEVERAL[base]
    return next(((script,) for script, languages in _SCRIPTS.items() if base in languages.split()), ("Latin",))


def shared_script(languages: Iterable[str]) -> tuple[str, str, str] | None:
    """Two of the languages and a script that both are written in; None where their scripts tell all of them apart."""
    for one, other in combinations(languages, 2):
        for script in scripts_of(one):
            if script in scripts_of(other):
                return one, other, script
    return None
