"""Text: scripts survive normalisation, and a CTC path reads as transformers' tokenizer reads it."""

import random
import sys
import unicodedata

import pytest

from headstart.files import write_json
from headstart.study.text import Text
from headstart.text.normalisation import BLANK, UNKNOWN, WORD_BOUNDARY, build_vocabulary, decode, encode, normalise

DEFAULT = Text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में, बोलिए।", "हिन्दी में बोलिए"),  # vowel signs, virama and anusvara are combining marks
        ("น้ำ ที่นี่ ๓", "น้ำ ที่นี่ ๓"),
        ("வணக்கம், உலகம்!", "வணக்கம் உலகம்"),
        ("Ari, ari — ¿kikinkuna?", "ari ari kikinkuna"),
        ("Ñukawan PURIKRINCHIK…", "ñukawan purikrinchik"),
        ("In 2023: 50 % more", "in 2023 50 more"),
        ("ng'ombe ng’ombe ngʼombe", "ng'ombe ng'ombe ng'ombe"),
        ("e-mail\tand\n  tabs_", "e mail and tabs"),
        ("' ''quoted'' '", "''quoted''"),
        ("...", ""),
    ],
)  # fmt: skip
def test_letters_marks_and_digits_stay_and_punctuation_goes(text, expected):
    assert normalise(text, DEFAULT) == unicodedata.normalize("NFC", expected)


def test_letters_with_loose_accents_are_composed():
    assert normalise("Cafe\u0301 n\u0303an", DEFAULT) == "café ñan"
    assert normalise("\u1112\u1161\u11ab", DEFAULT) == "한"


def test_turkish_keeps_its_two_letters_i():
    assert normalise("ISPARTA İZMİR ılık iyi", DEFAULT, "tr") == "ısparta izmir ılık iyi"
    assert normalise("I\u0307zmir", DEFAULT, "tr-TR") == "izmir"
    assert normalise("ISPARTA", DEFAULT, "TR") == normalise("ISPARTA", DEFAULT, "tr_TR") == "ısparta"
    assert normalise("ISPARTA", DEFAULT, "en") == "isparta"


def test_invisible_characters_do_not_break_words():
    assert normalise("co\u00adoperate", DEFAULT) == "cooperate"  # soft hyphen
    assert normalise("\ufeffhello \u200fworld", DEFAULT) == "hello world"  # byte order and direction marks
    assert len(normalise("ශ්\u200dරී ලංකා", DEFAULT, "si").split()) == 2  # joiner inside a conjunct
    assert normalise("สวัสดี\u200bครับ", DEFAULT, "th") == "สวัสดี ครับ"  # zero width space


def test_what_is_kept_is_a_setting():
    assert normalise("Rock'n'Roll-Band", Text(keep="-")) == "rock n roll-band"
    assert normalise("McDonald's", Text(lowercase=False, keep="")) == "McDonald s"


@pytest.mark.parametrize("language", ["en", "tr"])
def test_normalising_twice_changes_nothing(language):
    rng = random.Random(0)
    every = [chr(i) for i in range(sys.maxunicode) if unicodedata.category(chr(i)) not in ("Cs", "Cn", "Co")]
    for _ in range(300):
        text = "".join(rng.choice(every) + rng.choice(("", " ", "'", "e\u0301", "I", "\u0307")) for _ in range(40))
        once = normalise(text, DEFAULT, language)
        assert normalise(once, DEFAULT, language) == once
        assert unicodedata.is_normalized("NFC", once)


def test_the_vocabulary_is_the_characters_of_its_texts_with_the_blank_first():
    vocabulary = build_vocabulary(["ba ab", "ca"])
    assert vocabulary == {BLANK: 0, UNKNOWN: 1, WORD_BOUNDARY: 2, "a": 3, "b": 4, "c": 5}
    assert build_vocabulary(["ca", "ab ba"]) == vocabulary  # the order of the texts does not matter


def test_texts_survive_encoding_and_unseen_characters_become_unknown():
    vocabulary = build_vocabulary(["ñuka wasi", "abc"])
    labels = encode("wasi ñuka", vocabulary)
    spelled = [index for label in labels for index in (label, 0)]  # a blank after each keeps repeats apart
    assert decode(spelled, vocabulary) == "wasi ñuka"
    assert encode("az", vocabulary) == [vocabulary["a"], 1]


def test_a_path_reads_as_transformers_reads_it(tmp_path):
    from transformers import Wav2Vec2CTCTokenizer

    vocabulary = build_vocabulary(["abc 'ñ"])
    write_json(tmp_path / "vocab.json", vocabulary)
    tokenizer = Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), pad_token=BLANK, unk_token=UNKNOWN, word_delimiter_token=WORD_BOUNDARY
    )
    rng = random.Random(0)
    for length in [0, 1, 2, 3] * 25 + [30] * 200:
        path = [rng.choice((0, 0, 2, 2, *range(len(vocabulary)))) for _ in range(length)]
        assert decode(path, vocabulary) == tokenizer.decode(path), path
