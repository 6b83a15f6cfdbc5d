"""Text normalisation and the character vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from headstart.features.clips import Clips
from headstart.study.text import Text

BLANK, UNKNOWN, WORD_BOUNDARY = "<pad>", "<unk>", "|"
ZERO_WIDTH_SPACE = "\u200b"  # a word boundary in Thai, Khmer and the like


def normalise(text: str, settings: Text, language: str = "und") -> str:
    """Normalise a transcript: Unicode NFC, lower case, no punctuation or symbols, single spaces between words.

    Lower-casing follows `language` (Turkish and Azerbaijani have two letters i). Combining marks (Unicode category M)
    are kept: they are vowels in many scripts, and dropping them would make error rates look better than they are.
    Characters that look like an apostrophe become `'` before `settings.keep` applies.
    """
    # Invisible characters inside words (joiners, soft hyphens, byte order marks) are removed before NFC, because they
    # could keep neighbouring characters from being composed.
    text = "".join(c for c in text if c == ZERO_WIDTH_SPACE or unicodedata.category(c) != "Cf")
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u02bc", "'")
    if settings.lowercase:
        if language.lower().replace("_", "-").split("-")[0] in ("tr", "az"):
            text = text.replace("I", "ı").replace("İ", "i")
        # Lower-casing may decompose a character (İ -> i + combining dot), so NFC is applied again.
        text = unicodedata.normalize("NFC", text.lower())
    kept = (c if c in settings.keep or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    words = "".join(kept).split()
    # Drop words without a letter, mark or number, such as a lone apostrophe that `keep` allows.
    return " ".join(word for word in words if any(unicodedata.category(c)[0] in "LMN" for c in word))


def references(clips: Clips, settings: Text) -> Iterator[str]:
    """Normalised transcripts of all clips, "" for an utterance without one."""
    return (normalise(written or "", settings, language) for written, language in clips.rows("text", "language"))


def build_vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Vocabulary of normalised *training* transcripts: character -> index, where index 0 is the CTC blank.

    A word boundary `|` replaces the space, as in transformers' `Wav2Vec2CTCTokenizer`.
    """
    characters = {c for text in texts for c in text} - {" "}
    return {c: i for i, c in enumerate([BLANK, UNKNOWN, WORD_BOUNDARY, *sorted(characters)])}


def encode(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Indices of a normalised text's characters; characters outside the vocabulary become `<unk>`."""
    unknown = vocabulary[UNKNOWN]
    return [vocabulary[WORD_BOUNDARY] if c == " " else vocabulary.get(c, unknown) for c in text]


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """The labels of a CTC path (one label for each frame): repeats are merged, then blanks dropped."""
    labels, previous = [], None
    for index in path:
        if index != previous and index != blank:
            labels.append(index)
        previous = index
    return labels


def decode(indices: Iterable[int], vocabulary: dict[str, int]) -> str:
    """Text of a CTC path: repeats are merged, blanks dropped, and word boundaries become spaces.

    The result equals that of transformers' `Wav2Vec2CTCTokenizer.decode`, so that a run is scored on the same text that
    its exported model produces.
    """
    characters = {index: c for c, index in vocabulary.items()}
    text = (characters[index] for index in collapse(indices, vocabulary[BLANK]))
    return "".join(" " if c == WORD_BOUNDARY else c for c in text).strip()
