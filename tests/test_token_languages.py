"""Languages of words without tags: by script, or by word lists."""

import math

import numpy as np
import pyarrow as pa
import pytest

from headstart.corpora.manifests import MANIFEST, write_table
from headstart.corpora.synthetic.grammar import load_grammar
from headstart.errors import HeadstartError
from headstart.study.text import Text
from headstart.text.mixed import mixed_units
from headstart.text.scripts import scripts_of, shared_script
from headstart.text.token_languages import (
    WordLanguages,
    accuracy,
    describe_languages,
    held_out_accuracy,
    monolingual,
    tagger,
)


def sentences(grammar, count):
    rng = np.random.default_rng(0)
    return [load_grammar(grammar).sample(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("languages", "text", "tags"),
    [
        (["en", "zh"], "我想去shopping 3 吗 ok", "zh zh zh en en zh en"),
        (["hi", "en"], "7 मुझे movie देखनी है", "hi hi en hi hi"),
        (["ja", "en"], "ラーメンがgood", "ja ja ja ja ja en"),
        (["sr-Cyrl", "sr-Latn"], "добро good", "sr-Cyrl sr-Latn"),
        (["ar", "fr"], "123 !", "ar ar"),
    ],
)
def test_scripts_tell_languages_apart(languages, text, tags):
    made = tagger({language: [] for language in languages})
    assert made.source == "script" and made.tag(mixed_units(text)) == tags.split()
    assert made.tag([]) == []


def test_languages_share_a_script_or_not():
    assert shared_script(["zh", "ja"]) == ("zh", "ja", "Han")
    assert shared_script(["es", "qu", "ar"]) == ("es", "qu", "Latin")
    assert shared_script(["el", "ru", "hi-Latn"]) is None
    assert scripts_of("zh_Hant-TW") == ("Han",) and scripts_of("jpn") == scripts_of("ja-JP")
    for two, three in (("hi", "hin"), ("zh", "zho"), ("ar", "ara"), ("ru", "rus"), ("ko", "kor"), ("de", "deu")):
        assert scripts_of(two) == scripts_of(three)
    assert shared_script(["sr", "en"]) == ("sr", "en", "Latin") and shared_script(["hin", "eng"]) is None


def test_word_lists_tag_code_switched_sentences_that_they_never_saw():
    texts = {name: [sentence.text for sentence in sentences(name, 300)] for name in ("en", "es")}
    made = tagger(texts)
    mixed = [(s.tokens, s.token_languages) for s in sentences("en-es", 200)]
    assert made.source == "words"
    assert accuracy(made, mixed) > 0.97
    assert held_out_accuracy(texts) > 0.97
    assert accuracy(made, [(words, ["fi"] * len(words)) for words, _ in mixed]) is math.nan


def test_unknown_words_are_tagged_by_their_spelling_and_ambiguous_ones_by_their_neighbours():
    texts = {name: [sentence.text for sentence in sentences(name, 300)] for name in ("fi", "es")}
    made = WordLanguages.train({name: [*own, "no"] for name, own in texts.items()})
    listed = {word for own in texts.values() for text in own for word in text.split()}
    unknown = {"fi": ["kirjastossa", "ystävällinen", "pöydällä"], "es": ["corazón", "trabajadores", "queremos"]}
    for language, words in unknown.items():
        assert not listed & set(words)
        assert made.tag(words) == [language] * 3
        assert made.tag([words[0], "no", words[1]])[1] == language
    assert made.tag([]) == []
    assert len(made.tag(["x" * 5000, "1234"])) == 2


def test_the_held_out_accuracy_is_that_of_words_that_were_not_listed():
    """Words that occur once each, drawn from the same letters, cannot be told apart, and the accuracy says so."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcd"), size=8)) for _ in range(4000)]
    assert 0.4 < held_out_accuracy({"en": words[::2], "es": words[1::2]}) < 0.6


def test_a_language_without_text_is_named():
    with pytest.raises(HeadstartError, match="no text in es"):
        tagger({"en": ["a word"], "es": [""]})


def write_transcripts(path, grammar, count, tagged):
    rows = [
        {"text": drawn.text.title() + ".", "language": drawn.language}
        | {"tokens": drawn.text.title().split() if tagged else None}
        | {"token_languages": list(drawn.token_languages) if tagged else None}
        for drawn in sentences(grammar, count)
    ]
    schema = pa.schema([MANIFEST.field(name) for name in ("text", "language", "tokens", "token_languages")])
    write_table(path, rows, schema)
    return str(path)


def test_the_report_says_how_often_inferred_tags_are_right_and_on_what(tmp_path):
    taught = {name: write_transcripts(tmp_path / f"{name}.parquet", name, 200, False) for name in ("en", "es")}
    tests = {
        "tagged": write_transcripts(tmp_path / "tagged.parquet", "en-es", 50, True),
        "untagged": write_transcripts(tmp_path / "untagged.parquet", "en-es", 50, False),
    }
    tests |= {"scripts": tests["untagged"], "none": tests["tagged"]}
    languages = {"tagged": taught, "untagged": taught, "scripts": {"zh": None, "en": None}, "none": {}}
    tagged, untagged, scripts = describe_languages(languages, tests, Text())
    assert (tagged["target"], tagged["source"], tagged["languages"]) == ("tagged", "words", ["en", "es"])
    assert tagged["accuracy"] > 0.97 and tagged["measured_on"] == "the words that the corpus tags"
    assert untagged["accuracy"] > 0.97 and "held-out sentences" in untagged["measured_on"]
    assert (scripts["source"], scripts["accuracy"]) == ("script", None)
    assert monolingual({"en": taught["en"], "zh": None}, Text())["zh"] == []
    assert monolingual(taught, Text())["en"][0] == sentences("en", 1)[0].text
