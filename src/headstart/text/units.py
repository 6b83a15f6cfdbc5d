"""Units of the semi-supervised stage's CTC labels: characters, phones or subwords."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from headstart.corpora.synthetic import espeak
from headstart.errors import DataError
from headstart.features.clips import Clips
from headstart.files import fingerprint_rows
from headstart.study.semisup import Semisup
from headstart.study.text import Text
from headstart.text.normalisation import (
    BLANK,
    UNKNOWN,
    WORD_BOUNDARY,
    build_vocabulary,
    normalise,
    references,
)
from headstart.text.tags import NO_LANGUAGE, NO_SPEECH

log = logging.getLogger(__name__)

WORD_BEGINNING = "▁"  # the first character of a subword that begins a word, as in SentencePiece
LONG_PHONE = 4  # characters; a larger mean length suggests that the units are words and not phones
_STRESS = str.maketrans("", "", "ˈˌ")


class UnitInventory:
    """The units in which transcripts are written, and their CTC labels.

    Args:
        vocabulary: unit -> label; 0 is the CTC blank and 1 an unknown unit.
        units: function from clips to the units of each clip's transcript, in the order of the clips.
    """

    def __init__(self, vocabulary: dict[str, int], units: Callable[[Clips], Iterator[list[str]]]):
        self.vocabulary, self._units = vocabulary, units
        self._names = {label: unit for unit, label in vocabulary.items()}

    @classmethod
    def build(cls, settings: Semisup, text: Text, clips: Clips) -> UnitInventory:
        """Build the inventory from training transcripts, one for all their languages.

        The result does not depend on the order of the clips.

        Raises:
            DataError: eSpeak NG does not have one of the languages; or `phones` is `corpus` and an utterance has
                no phonemes; or the transcripts have more characters than `subwords` allows units.
        """
        if settings.units == "characters":
            return cls(build_vocabulary(references(clips, text)), partial(_characters, text))
        if settings.units == "subwords":
            tokenizer = _train_subwords(settings.subwords, text, clips)
            vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
            return cls(dict(vocabulary), partial(_subwords, tokenizer, text))
        units = partial(_corpus_phones if settings.phones == "corpus" else _espeak_phones, text)
        phones = {phone for utterance in units(clips) for phone in utterance}
        if sum(map(len, phones)) > LONG_PHONE * len(phones):
            log.warning(
                "phones are long, such as %r: words, perhaps? Phonemic transcripts need a space after each phone",
                max(phones, key=len),
            )
        return cls({unit: label for label, unit in enumerate([BLANK, UNKNOWN, *sorted(phones)])}, units)

    def labels(self, clips: Clips) -> Iterator[list[int]]:
        """Labels of each utterance; [] when it has no transcript.

        Raises:
            DataError: the phones of an utterance cannot be found (see `build`).
        """
        unknown = self.vocabulary[UNKNOWN]
        return ([self.vocabulary.get(unit, unknown) for unit in units] for units in self._units(clips))

    def content(self, labels: Iterable[list[int]]) -> str:
        """Short hash of the vocabulary and of the labels of some utterances, for recipes."""
        return fingerprint_rows(chain([self.vocabulary], labels))

    def spell(self, labels: Sequence[int]) -> str:
        """Units as text with spaces between them: the word error rate between two such texts is the unit error rate."""
        return " ".join(self._names[label] for label in labels)


def _characters(text: Text, clips: Clips) -> Iterator[list[str]]:
    return (list(reference.replace(" ", WORD_BOUNDARY)) for reference in references(clips, text))


# --------------------------------------------------------------------------------------------------- subwords


def _train_subwords(size: int, text: Text, clips: Clips) -> Tokenizer:
    """Train byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) with at most `size` entries.

    Raises:
        DataError: the transcripts have more distinct characters than `size` allows.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(WORD_BEGINNING)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[BLANK, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(references(clips, text), trainer)
    found = tokenizer.get_vocab_size()
    if found > size:  # every character is an entry, whatever the size
        raise DataError(
            f"the transcripts have more characters than semisup.subwords allows for; set it to {found} at least"
        )
    if found < size:
        log.info("%d subwords instead of %d: the transcripts have no more", found, size)
    return tokenizer


def _subwords(tokenizer: Tokenizer, text: Text, clips: Clips) -> Iterator[list[str]]:
    return (tokenizer.encode(reference, add_special_tokens=False).tokens for reference in references(clips, text))


# ----------------------------------------------------------------------------------------------------- phones


def _split_phones(words: str) -> list[str]:
    """Split a phonemic transcript into phones.

    Stress marks are dropped, because stress is prosody; length and tone stay part of a phone. Word boundaries are
    dropped too.
    """
    return unicodedata.normalize("NFC", words).translate(_STRESS).replace(WORD_BOUNDARY, " ").split()


def _corpus_phones(text: Text, clips: Clips) -> Iterator[list[str]]:
    names = clips.rows("utterance_id", "phonemes")
    for i, ((name, phonemes), reference) in enumerate(zip(names, references(clips, text), strict=True)):
        if phonemes is None and reference:
            raise DataError(
                f"{clips.splits[clips.split[i]].features}: utterance {name!r} has no phonemes. Name the column that "
                "holds them in columns.phonemes of its corpus, or set semisup.phones to espeak"
            )
        yield _split_phones(phonemes or "")


def _espeak_phones(text: Text, clips: Clips) -> Iterator[list[str]]:
    """Phones of normalised transcripts by eSpeak NG, each run of words pronounced in its own language."""
    keys = ("utterance_id", "text", "language", "tokens", "token_languages")
    for name, written, language, tokens, tags in clips.rows(*keys):
        phones = []
        for tag, run in _runs(written or "", language, tokens or [], tags or []):
            spoken = normalise(run, text, tag)
            try:
                phones += _split_phones(" ".join(espeak.phonemes(spoken, espeak.language(tag)))) if spoken else []
            except espeak.EspeakError as error:
                raise DataError(
                    f"{error}, which utterance {name!r} is in. Give its corpus phonemes (columns.phonemes, with "
                    "semisup.phones: corpus), or set semisup.units to characters"
                ) from None
        yield phones


def _runs(text: str, language: str, tokens: list[str], tags: list[str]) -> Iterator[tuple[str, str]]:
    """Split a text into (language, text) pairs, one for each maximal run of words in the same language.

    A text whose words have no language tags is one run in the language of the utterance.
    """
    if not (text and tags):
        yield language, text
        return
    spoken = [
        (language if tag in NO_LANGUAGE else tag, token)
        for tag, token in zip(tags, tokens, strict=True)
        if tag != NO_SPEECH
    ]
    for tag, run in groupby(spoken, key=lambda pair: pair[0]):
        yield tag, " ".join(token for _, token in run)
