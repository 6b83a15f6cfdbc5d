"""Mixed units: the tokens of the mixed error rate, which suits sentences that mix scripts with and without spaces.

The error rate is that of ASCEND (Lovenia et al. 2022, arXiv 2112.06223) and of work on the SEAME corpus: characters of
the language written without spaces and words of the other are counted side by side.
"""

from __future__ import annotations

import regex

# Scripts whose words have no spaces between them. Hangul is not among them, because Korean is written with spaces.
_SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Yi Nushu Tangut Khitan_Small_Script Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue "
    "Tai_Tham Tai_Viet Tibetan Javanese Balinese Cham"
)
# Han and kana share signs that have no script of their own, such as the ー of ラーメン: Unicode lists the scripts that
# use those signs as their script extensions.
_SPACELESS = "".join(rf"\p{{{name}}}" for name in _SCRIPTS.split()) + r"\p{scx=Han}\p{scx=Hira}\p{scx=Kana}"
# Marks follow the character that they belong to. Thai and Lao sara am and the halfwidth voicing signs of kana are marks
# in use and letters in name only; Unicode's grapheme clusters (UAX #29) attach them as well.
_MARKS = r"[\p{M}\u0E33\u0EB3\uFF9E\uFF9F]*"
_CHARACTER = rf"[[{_SPACELESS}]&&[\p{{L}}\p{{N}}]]"
_UNIT = regex.compile(rf"{_CHARACTER}{_MARKS}|(?:(?!{_CHARACTER})\S)+", flags=regex.V1)


def mixed_units(text: str) -> list[str]:
    """The units of a normalised text: characters in scripts without spaces, and words elsewhere.

    A character comes with the combining marks that follow it. A word ends at a space or where a script without spaces
    begins, so that `我想去shopping` has four units. The units of a text are those of its words one after the other, and
    joined they are the text without its spaces. Spaces between characters of a script without spaces do not matter.
    """
    return _UNIT.findall(text)
