"""Text normalisation and the character vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import regex

from headstart.corpora.manifests import read_columns
from headstart.features.clips import Clips
from headstart.study.text import Text
from headstart.text.apostrophes import fold_apostrophes
from headstart.text.findings import Findings
from headstart.text.profiles import Profile, profile_of
from headstart.text.tags import NO_LANGUAGE

TRANSCRIPT = ("text", "language", "tokens", "token_languages")  # the columns of a manifest that are normalised
BLANK, UNKNOWN, WORD_BOUNDARY = "<pad>", "<unk>", "|"

# Invisible characters inside words: joiners, soft hyphens, byte order marks. The zero width space is not one of them:
# it is a word boundary in Thai, Khmer and the like.
_INVISIBLE = regex.compile(r"[\p{Cf}--\u200B]", flags=regex.V1)
_SPELT = r"\p{L}\p{M}\p{N}"
_HAS_LETTERS = regex.compile(rf"[{_SPELT}]")
_MARK = regex.compile(rf"[^{_SPELT}\s]")
# Malayalam letters that older texts write with a joiner, which is more than a joint here (Unicode Standard, 12.9).
_CHILLUS = dict(zip(("ണ്", "ന്", "ര്", "ല്", "ള്", "ക്"), "ൺൻർൽൾൿ", strict=True))
_OLD_CHILLU = regex.compile(f"({'|'.join(_CHILLUS)})\u200d")
_WORD = regex.compile(r"\S+")
_BOUNDARY = regex.compile(r"\b", flags=regex.WORD)  # the default word boundaries of UAX #29
# A non-speech tag stands by itself in brackets. Round brackets hold ordinary words too: only a single word is a tag.
_TAG = regex.compile(
    rf"(?<![{_SPELT}])(?:\[[^\[\]]{{1,40}}\]|<[^<>]{{1,40}}>|\{{[^{{}}]{{1,40}}\}}|\([^()\s]{{1,40}}\))(?![{_SPELT}])"
)


_Piece = tuple[str | None, str]  # the corpus's tag of some tokens, None without tags, and their text


def normalise(
    text: str,
    settings: Text,
    language: str = "und",
    tokens: Sequence[str] | None = None,
    token_languages: Sequence[str] | None = None,
    findings: Findings | None = None,
) -> str:
    """Normalise a transcript: Unicode NFC, lower case, no punctuation or symbols, single spaces between words.

    - Combining marks (Unicode category M) are kept: they are vowels in many scripts, and dropping them would make error
      rates look better than they are.
    - Every spelling of the apostrophe becomes `'`, and single quotation marks go (`fold_apostrophes`).
    - A mark that is not in `settings.keep` is dropped. It leaves a space, unless it stands inside a word by the default
      word boundaries of UAX #29: `e-mail` becomes two words, `col·legi` stays one.
    - Each stretch of tagged tokens is normalised by the settings and the casing of its own language (Turkish has two
      letters i). Tags that name no language, and tokens that are not those of the text, are of the utterance's.

    Args:
        language: BCP 47 tag of the utterance.
        tokens: the corpus's tokens of the text, with one tag each in `token_languages`; None where it has no tags.
        findings: counts what is met.
    """
    return " ".join(word for word, _ in _words(text, settings, language, tokens, token_languages, findings))


def normalise_hypothesis(text: str) -> str:
    """Normalise what a model wrote in the characters of normalised transcripts.

    A hypothesis has no tags, and the model writes in normalised spelling: what depends on the language (case,
    replacements, punctuation) is settled. What is left are the rules for whole words: NFC, single spaces, no word
    without a letter. A normalised transcript stays as it is.
    """
    return " ".join(word for word, _ in _joined(text, []))


def normalised_runs(
    text: str,
    settings: Text,
    language: str,
    tokens: Sequence[str] | None,
    token_languages: Sequence[str] | None,
) -> list[tuple[str, str]] | None:
    """The words of the normalised transcript with the corpus's tags, in order: (tag, word).

    A word that is written of tokens with different tags, such as `我想去shopping`, comes in one part for each.
    Together, the parts are the normalised transcript without its spaces.

    Returns:
        None where the corpus has no tags, or where its tokens are not those of the transcript.
    """
    if not tokens or not token_languages:
        return None
    words = _words(text, settings, language, tokens, token_languages, None)
    parts = [part for _, parts in words for part in parts]
    agree = "".join(part for _, part in parts) == "".join(word for word, _ in words)
    return None if not agree or any(tag is None for tag, _ in parts) else parts


def transcript_rows(manifest: str | Path, schema: pa.Schema | None = None) -> Iterator[tuple[Any, ...]]:
    """The values of `TRANSCRIPT` of each utterance in a manifest, which has `schema` where one is given."""
    table = read_columns(manifest, schema, list(TRANSCRIPT))
    return zip(*(table[name].to_pylist() for name in TRANSCRIPT), strict=True)


def references(clips: Clips, settings: Text, findings: Findings | None = None) -> Iterator[str]:
    """Normalised transcripts of all clips, "" for an utterance without one."""
    return (normalise(text or "", settings, *facts, findings=findings) for text, *facts in clips.rows(*TRANSCRIPT))


def tagged_runs(
    text: str, language: str, tokens: Sequence[str] | None, tags: Sequence[str] | None
) -> list[tuple[str | None, str, str]]:
    """Split a text into stretches of tokens with the same tag: (tag, language, text), which together are the text.

    What stands between two tokens belongs to the first. Without tags, or where the tokens are not those of the text one
    after the other, the text is one stretch in the language of the utterance, and its tag is None.
    """
    whole = [(None, language, text)]
    if not tokens or not tags:
        return whole
    starts, end = [], 0
    for token in tokens:
        start = text.find(token, end)
        if start < 0 or _HAS_LETTERS.search(text, end, start):
            return whole
        starts.append(start)
        end = start + len(token)
    if _HAS_LETTERS.search(text, end):
        return whole
    runs, starts[0] = [], 0
    for tag, group in groupby(range(len(tags)), key=tags.__getitem__):
        places = list(group)
        run = text[starts[places[0]] : [*starts, len(text)][places[-1] + 1]]
        runs.append((tag, _token_language(tag, language), run))
    return runs


def _token_language(tag: str, language: str) -> str:
    """The language that a tag of a token names; that of the utterance where it names none."""
    base = tag.lower().replace("_", "-").split("-")[0]
    return language if base in NO_LANGUAGE or not (2 <= len(base) <= 3 and base.isalpha()) else tag


def _words(
    text: str,
    settings: Text,
    language: str,
    tokens: Sequence[str] | None,
    tags: Sequence[str] | None,
    findings: Findings | None,
) -> list[tuple[str, list[_Piece]]]:
    """The words of a normalised transcript, each with its pieces (see `_joined`)."""
    text = _composed(text)
    if tokens and tags:
        tokens = [_composed(token) for token in tokens]
    folded, start, pieces, kept = fold_apostrophes(text), 0, [], []
    if findings is not None and folded != text:
        findings.dropped.update(mark for mark, new in zip(text, folded, strict=True) if new != mark and new == " ")
    runs = tagged_runs(text, language, tokens, tags)
    if findings is not None and tags and runs[0][0] is None:
        findings.mismatched += 1
    for tag, own, run in runs:
        profile = profile_of(settings, own)
        piece = _without_tags(folded[start : start + len(run)], profile, findings)
        pieces.append((tag, _cased(piece, profile)))
        kept.append(profile.keep)
        start += len(run)
    whole = "".join(piece for _, piece in pieces)
    if _MARK.search(whole):
        pieces = list(_without_marks(whole, pieces, kept, findings))
        whole = "".join(piece for _, piece in pieces)
    return _joined(whole, pieces)


def _without_marks(
    whole: str, pieces: list[_Piece], kept: list[frozenset[str]], findings: Findings | None
) -> Iterator[_Piece]:
    """The pieces of a text with spaces, or inside words nothing, for the marks that are not kept there."""
    start, boundaries = 0, None
    for (tag, piece), keep in zip(pieces, kept, strict=True):
        characters = list(piece)
        for match in _MARK.finditer(piece):
            place = start + match.start()
            if match[0] not in keep:
                inside = bool(whole[max(0, place - 1) : place].strip() and whole[place + 1 : place + 2].strip())
                if inside:  # perhaps; boundaries are looked for where they matter
                    boundaries = boundaries or {found.start() for found in _BOUNDARY.finditer(whole)}
                    inside = not boundaries & {place, place + 1}
                characters[match.start()] = "" if inside else " "
                if findings is not None:
                    findings.note(whole, place, inside)
        start += len(piece)
        yield tag, "".join(characters)


def _composed(text: str) -> str:
    """NFC without invisible characters, which could keep their neighbours from being composed."""
    text = _OLD_CHILLU.sub(lambda match: _CHILLUS[match[1]], text)
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


def _joined(text: str, pieces: list[_Piece]) -> list[tuple[str, list[_Piece]]]:
    """The words of a text, less those without a letter, mark or number, such as a lone apostrophe.

    Args:
        pieces: the text in pieces, each with a tag.

    Returns:
        Each word, with its own pieces.
    """
    if len(pieces) < 2:
        words = filter(_HAS_LETTERS.search, unicodedata.normalize("NFC", text).split())
        return [(word, [(tag, word) for tag, _ in pieces]) for word in words]
    spans = ((match.span(), unicodedata.normalize("NFC", match[0])) for match in _WORD.finditer(text))
    words = [(span, word) for span, word in spans if _HAS_LETTERS.search(word)]
    owners = [place for place, (_, piece) in enumerate(pieces) for _ in piece]
    found = []
    for (start, end), word in words:
        if owners[start] == owners[end - 1]:
            found.append((word, [(pieces[owners[start]][0], word)]))
            continue
        parts = groupby(range(start, end), key=owners.__getitem__)
        parts = [(pieces[owner][0], "".join(text[place] for place in places)) for owner, places in parts]
        found.append((word, [(tag, unicodedata.normalize("NFC", part)) for tag, part in parts]))
    return found


def _without_tags(text: str, profile: Profile, findings: Findings | None) -> str:
    """The text with the profile's replacements made, and without non-speech tags where the profile drops them."""
    if profile.replace:
        text = profile.replace(text)
    if findings is not None:
        found = (match[0] for match in _TAG.finditer(text) if _HAS_LETTERS.search(match[0]))
        (findings.tags_dropped if profile.drops_tags else findings.tags).update(found)
    return _TAG.sub(" ", text) if profile.drops_tags else text


def _cased(text: str, profile: Profile) -> str:
    if profile.lowercase:
        if profile.dotless:
            text = text.replace("I", "ı").replace("İ", "i")
        text = text.lower()  # may decompose a character (İ -> i + combining dot)
    return unicodedata.normalize("NFC", text)


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
