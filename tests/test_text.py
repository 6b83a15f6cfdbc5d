"""Text: scripts survive normalisation, and a CTC path reads as transformers' tokenizer reads it."""

import random
import sys
import unicodedata

import pytest
import regex

from headstart.files import write_json
from headstart.study.text import Text
from headstart.text.findings import Findings
from headstart.text.normalisation import (
    BLANK,
    UNKNOWN,
    WORD_BOUNDARY,
    build_vocabulary,
    decode,
    encode,
    normalise,
    normalise_hypothesis,
    normalised_runs,
)

DEFAULT = Text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में, बोलिए।", "हिन्दी में बोलिए"),  # vowel signs, virama and anusvara are combining marks
        ("น้ำ ที่นี่ ๓", "น้ำ ที่นี่ ๓"),
        ("வணக்கம், உலகம்!", "வணக்கம் உலகம்"),
        ("മലയാളം, അവന്\u200d വന്നു!", "മലയാളം അവൻ വന്നു"),  # the joiner makes the letter ൻ
        ("Ọ̀rọ̀ Yorùbá; ẹ ǹlẹ́.", "ọ̀rọ̀ yorùbá ẹ ǹlẹ́"),
        ("Ari, ari — ¿kikinkuna?", "ari ari kikinkuna"),
        ("Ñukawan PURIKRINCHIK…", "ñukawan purikrinchik"),
        ("In 2023: 50 % more", "in 2023 50 more"),
        ("ng'ombe ng’ombe ngʼombe", "ng'ombe ng'ombe ng'ombe"),
        ("e-mail\tand\n  tabs_", "e mail and tabs"),
        ("' ''quoted'' '", "quoted"),
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
    assert normalise("Rock'n'Roll-Band", Text(keep="-")) == "rocknroll-band"
    assert normalise("McDonald's", Text(lowercase=False, keep="")) == "McDonalds"
    assert normalise("col·legi, l·l", Text(keep="·")) == "col·legi l·l"
    assert normalise("צה״ל", Text(keep="״")) == "צה״ל"
    assert normalise("Ինչո՞ւ", Text(keep="՞")) == "ինչո՞ւ"
    assert normalise("o‘zbek", Text(keep="’")) == "o'zbek"  # any spelling of the apostrophe keeps all


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Ինչո՞ւ, վա՜յ, այո՛:", "hy", "ինչու վայ այո"),
        ("col·legi il·lusió", "ca", "collegi illusió"),
        ('צה״ל צה"ל', "he", "צהל צהל"),
        ("1,000 U.S.A. snake_case AIK:s", "en", "1000 usa snakecase aiks"),
        ("and/or e-mail x+y 9:30 a—b", "en", "and or e mail x y 9 30 a b"),
        ("我想去shopping，好・吗", "zh", "我想去shopping 好 吗"),
    ],
)  # fmt: skip
def test_marks_inside_words_leave_no_space(text, language, expected):
    assert normalise(text, DEFAULT, language) == expected


def test_words_are_those_of_unicode():
    """Rules WB5 to WB13 of UAX #29 in the notation of its WordBreakTest.txt: ÷ is a boundary, × none."""
    lines = """
        ÷ a × : × a ÷     ÷ a ÷ : ÷ : ÷ a ÷     ÷ a × ' × a ÷     ÷ a ÷ , ÷ a ÷     ÷ 1 × , × 1 ÷     ÷ 1 × . × 1 ÷
        ÷ 1 ÷ : ÷ 1 ÷     ÷ a × _ × 1 ÷     ÷ a × . × a ÷     ÷ a ÷ . ÷ . ÷ a ÷     ÷ 1 ÷ . ÷ a ÷     ÷ א × " × א ÷
        ÷ a ÷ " ÷ a ÷     ÷ a × · × a ÷     ÷ 1 ÷ · ÷ 1 ÷     ÷ a × ‧ × a ÷
    """
    for line in filter(None, map(str.strip, regex.split(r"\n|\s{4,}", lines))):
        word = line.replace(" ", "").replace("÷", "").replace("×", "")
        letters = r"[\p{L}\p{N}]"
        parts = line.replace(" ", "").replace("×", "").split("÷")
        words = [part for part in ("".join(regex.findall(letters, part)) for part in parts) if part]
        assert normalise(word, Text(keep="")) == " ".join(words), line


@pytest.mark.parametrize("mark", "'‘’‛`´＇ʻʼʽʹꞌ՚׳′")
def test_every_apostrophe_is_spelt_the_same(mark):
    assert normalise(f"o{mark}zbek tog{mark}, {mark}ofa", DEFAULT, "uz") == "o'zbek tog' 'ofa"
    assert normalise(f"o{mark}zbek", Text(keep=""), "uz") == "ozbek"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("‘hello’", "hello"),
        ("'in verzekering stellen'.", "in verzekering stellen"),
        ("‘Don’t,’ he said, ‘go!’", "don't he said go"),
        ("‚hallo‘ ’hej’ `x' ``y''", "hallo hej x y"),
        ("“‘¿Qué?’”", "qué"),
        ("'tis o‘clock", "'tis o'clock"),  # no pair: an apostrophe
        ("the dogs’ tog‘", "the dogs' tog'"),
        ("tot 's morgens vroeg", "tot 's morgens vroeg"),
        ("Er komt een bui aan!'", "er komt een bui aan"),
    ],
)
def test_both_marks_of_a_quoting_pair_go(text, expected):
    assert normalise(text, DEFAULT) == expected


def test_each_tagged_token_is_cased_in_its_own_language():
    def tagged(text, tokens, tags, settings=DEFAULT):
        return normalise(text, settings, "tr", tokens.split(), tags.split())

    assert tagged("Ich bin Isparta da", "Ich bin Isparta da", "de de tr tr") == "ich bin ısparta da"
    assert tagged("“Ich”, ISPARTA’da!", "Ich , ISPARTA’da", "de zxx tr") == "ich ısparta'da"
    assert tagged("IBM ISPARTA", "IBM ISPARTA", "und OTHER") == "ıbm ısparta"  # no language: the utterance's
    assert tagged("Ich bin", "ich bin", "de de") == "ıch bin"  # not the tokens of the text
    assert normalise("ISPARTA Ich", DEFAULT, "de", ["ISPARTA", "Ich"], ["tur", "de"]) == "ısparta ich"


@pytest.mark.parametrize(
    ("language", "expected"),
    [("az-Latn", "ıi"), ("aze", "ıi"), ("kk-Latn-KZ", "ıi"), ("kk", "ii̇"), ("trv", "ii̇"), ("tr_TR", "ıi")],
)
def test_languages_with_a_dotless_i(language, expected):
    assert normalise("Iİ", DEFAULT, language) == expected


def test_settings_that_are_changed_in_a_copy_count():
    settings = Text()
    assert normalise("e-mail", settings, "en") == "e mail"
    assert normalise("e-mail", settings.model_copy(update={"keep": "-"}), "en") == "e-mail"
    for keep in ("-", "", "-", "") * 40:
        assert normalise("e-mail", Text(keep=keep), "en") == f"e{keep or ' '}mail"


def test_a_language_has_settings_of_its_own():
    settings = Text(
        map={"%": " percent"},
        languages={"de": {"lowercase": False, "keep": "-", "map": {"%": " Prozent"}}, "de-CH": {"map": {"ß": "ss"}}},
    )
    assert normalise("E-Mail: 5%", settings, "de_AT") == normalise("E-Mail: 5%", settings, "DE") == "E-Mail 5 Prozent"
    assert normalise("E-Mail: 5%", settings, "en") == "e mail 5 percent"
    assert normalise("Straße", settings, "de-CH") == "strasse"  # the most specific section, on top of the general ones
    tokens, tags = ["E-Mail", "e-posta"], ["de", "tr"]
    assert normalise("E-Mail e-posta", settings, "tr", tokens, tags) == "E-Mail e posta"


def test_replacements_are_made_once_and_the_longest_wins():
    settings = Text(map={"a": "b", "b": "a", "ab": "c", "l’": "l' "})
    assert normalise("a b ab", settings) == "b a c"
    assert normalise("l'eau l’air", settings) == normalise("l’eau l'air", settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "so uh laughter then unk book s was red"),
        ({"tags": "drop"}, "so then book s was red"),
        ({"tags": "drop", "map": {"(uh)": "uh", "<unk>": "unknown"}}, "so uh then unknown book s was red"),
        ({"languages": {"en": {"tags": "drop"}}}, "so then book s was red"),
    ],
)
def test_non_speech_tags_are_dropped_kept_or_replaced(settings, expected):
    findings = Findings()
    text = "So (uh) [laughter] then <unk> book(s) (was red)"
    assert normalise(text, Text(**settings), "en", findings=findings) == expected
    left = {"(uh)": 1, "[laughter]": 1, "<unk>": 1}
    found = findings.tags + findings.tags_dropped
    assert found == {tag: 1 for tag in left if tag not in settings.get("map", {})}


def test_a_hypothesis_in_normalised_spelling_stays_as_it_is():
    # "Ich" of a Turkish utterance would lose its i in the utterance's language, as would an "a" with `map`.
    settings = Text(map={"a": "aa"}, languages={"de": {"lowercase": False}})
    tokens, tags = "Ich mag Isparta’da".split(), ["de", "de", "tr"]
    reference = normalise("Ich mag Isparta’da", settings, "tr", tokens, tags)
    assert reference == "Ich maag ıspaartaa'daa"
    assert normalise_hypothesis(reference) == reference
    assert normalise_hypothesis(" e\u0301  ' x") == "é x"


def test_each_word_has_the_tag_of_its_token():
    def runs(text, tokens, languages, language="qu"):
        return normalised_runs(text, DEFAULT, language, tokens, languages)

    assert runs("Ari, ‘sí señor’.", ["Ari", ",", "‘sí", "señor’", "."], ["qu", "zxx", "es", "es", "zxx"]) == [
        ("qu", "ari"), ("es", "sí"), ("es", "señor"),
    ]  # fmt: skip
    assert runs("e-mail ari", ["e-mail", "ari"], ["en", "qu"]) == [("en", "e"), ("en", "mail"), ("qu", "ari")]
    assert runs("我想去Shopping，吗", ["我想去", "Shopping", "吗"], ["zh", "en", "zh"]) == [
        ("zh", "我想去"), ("en", "shopping"), ("zh", "吗"),
    ]  # fmt: skip
    assert runs("Ich ISPARTA", ["Ich", "ISPARTA"], ["de", "tr"], "tr") == [("de", "ich"), ("tr", "ısparta")]
    assert runs("ari wasi", ["ari"], ["qu"]) is None  # the tokens are not those of the text
    assert runs("ari", None, None) is None
    assert runs("...", ["..."], ["zxx"]) == []


@pytest.mark.parametrize("language", ["en", "tr"])
def test_normalising_twice_changes_nothing(language):
    rng = random.Random(0)
    every = [chr(i) for i in range(sys.maxunicode) if unicodedata.category(chr(i)) not in ("Cs", "Cn", "Co")]
    # Letters that are spelt as an apostrophe never quote; once spelt so, they might.
    every = [c for c in every if unicodedata.normalize("NFC", c) not in "ʹʻʼʽꞋꞌ՚׳′‵᾽᾿"]
    for _ in range(300):
        text = "".join(rng.choice(every) + rng.choice(("", " ", "'", "e\u0301", "I", "\u0307")) for _ in range(40))
        once = normalise(text, DEFAULT, language)
        assert normalise(once, DEFAULT, language) == normalise_hypothesis(once) == once
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
