"""Text normalisation and the character vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from headstart.features.clips import Clips
from headstart.study.sections import Text

BLANK, UNKNOWN, WORD_BOUNDARY = "<pad>", "<unk>", "|"
ZERO_WIDTH_SPACE = "\u200b"  # a word boundary in Thai, Khmer and the like


def normalise(text: str, settings: Text, language: str = "und") -> str:
    """NFC, language-aware lower-casing, punctuation and symbols dropped, one space between words.

    Combining marks (Unicode category M) stay: they are vowels in many scripts, and dropping them flatters error rates.
    Apostrophe look-alikes become `'` before `settings.keep` is consulted.
    """
    # Invisible characters inside words (joiners, soft hyphens, byte order marks) go first: what stays may then compose.
    text = "".join(c for c in text if c == ZERO_WIDTH_SPACE or unicodedata.category(c) != "Cf")
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u02bc", "'")
    if settings.lowercase:
        if language.lower().replace("_", "-").split("-")[0] in ("tr", "az"):
            text = text.replace("I", "ı").replace("İ", "i")
        # Lower-casing may decompose (İ -> i + combining dot), so compose again.
        text = unicodedata.normalize("NFC", text.lower())
    kept = (c if c in settings.keep or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    words = "".join(kept).split()
    # A word that is only kept punctuation (a quotation mark, say) is no word.
    return " ".join(word for word in words if any(unicodedata.category(c)[0] in "LMN" for c in word))


def references(clips: Clips, settings: Text) -> Iterator[str]:
    """Normalised transcripts, "" where an utterance has none."""
    return (normalise(written or "", settings, language) for written, language in clips.rows("text", "language"))


def build_vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Character -> index from normalised *training* transcripts; index 0 is the CTC blank.

    The word boundary takes the place of the space, as in transformers' `Wav2Vec2CTCTokenizer`.
    """
    characters = {c for text in texts for c in text} - {" "}
    return {c: i for i, c in enumerate([BLANK, UNKNOWN, WORD_BOUNDARY, *sorted(characters)])}


def encode(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Indices of a normalised text's characters; characters outside the vocabulary become `<unk>`."""
    unknown = vocabulary[UNKNOWN]
    return [vocabulary[WORD_BOUNDARY] if c == " " else vocabulary.get(c, unknown) for c in text]


def decode(indices: Iterable[int], vocabulary: dict[str, int]) -> str:
    """Text of a CTC path: repeats merged, blanks dropped, word boundaries to spaces.

    The same text as transformers' `Wav2Vec2CTCTokenizer.decode`: a run scores as its exported model transcribes.
    """
    characters = {index: c for c, index in vocabulary.items()}
    text, previous = [], None
    for index in indices:
        if index != previous and index != vocabulary[BLANK]:
            c = characters[index]
            text.append(" " if c == WORD_BOUNDARY else c)
        previous = index
    return "".join(text).strip()
