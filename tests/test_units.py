"""Inventories: characters are those of fine-tuning, phones are eSpeak's own, and subwords join to the text."""

import json
import os
import re
import subprocess
import sys
import time
import unicodedata

import jiwer
import numpy as np
import pytest

from headstart.corpora.manifests import FEATURES, write_table
from headstart.corpora.synthetic import espeak
from headstart.corpora.synthetic.grammar import load_grammar
from headstart.encoder.checkpoints import save_ctc
from headstart.errors import HeadstartError
from headstart.features.clips import Clips, Split
from headstart.study.semisup import Semisup
from headstart.study.text import Text
from headstart.text import units
from headstart.text.normalisation import BLANK, UNKNOWN, build_vocabulary, encode, references
from headstart.text.units import UnitInventory

LANGUAGES = {
    "de": "die alte fischerin verkaufte neun frische fische und schöne bücher",
    "en": "the old fisherman sold nine fresh fish at the market yesterday",
    "es": "la niña pintó el barco y llegó la cigüeña",
    "fi": "hyvää päivää vanha kalastaja myi yhdeksän tuoretta kalaa",
    "fr": "les enfants ont mangé une pomme près du château",
    "hi": "हिन्दी में बोलिए",
    "ru": "старый рыбак продал девять рыб",
    "sw": "ng'ombe wa mvuvi mzee alikula majani mengi",
    "tr": "yaşlı balıkçı dün çarşıda dokuz balık sattı",
    "vi": "ngày mai tôi sẽ đi học tiếng việt",
}
# Words that eSpeak reads by English rules, which it flags: "(en)" before and "(de)" after.
SWITCHED = {
    "de": "das weekend meeting mit the computer software und dem team",
    "fr": "le weekend un meeting avec the software",
    "hi": "यह computer और software है",
    "ru": "мой computer и software дома",
}


@pytest.fixture
def clips(tmp_path):
    """A function that makes utterances of rows of a feature manifest; what a row leaves out is English, or null."""

    def make(*rows: dict) -> Clips:
        facts = {"audio_path": "", "offset_s": 0.0, "duration_s": 1.0, "language": "en", "num_samples": 16000}
        facts |= {"loudness_dbfs": -20.0, "snr_db": 20.0, "speech_ratio": 0.5, "content_hash": ""}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        write_table(path, [{"utterance_id": f"u{i}", **facts, **row} for i, row in enumerate(rows)], FEATURES)
        count = len(rows)
        return Clips([Split(path, None)], np.zeros(count, np.int32), np.arange(count), np.full(count, 16000))

    return make


@pytest.fixture
def spell(clips):
    """A function that spells one utterance, in an inventory of its own."""

    def spelling(settings: dict, **row) -> str:
        one = clips(row)
        inventory = UnitInventory.build(Semisup(**settings), Text(), one)
        (labels,) = inventory.labels(one)
        return inventory.spell(labels)

    return spelling


def sentences(name: str, count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    drawn = [load_grammar(name).sample(rng) for _ in range(count)]
    return [
        {
            "text": one.text,
            "language": one.language,
            "tokens": list(one.tokens),
            "token_languages": list(one.token_languages),
            "phonemes": " | ".join(word for tag, run in one.segments() for word in espeak.phonemes(run, tag)),
        }
        for one in drawn
    ]


# ------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("kind", ["characters", "phones", "subwords"])
def test_all_languages_share_an_inventory_whatever_their_order(kind, clips):
    rows = [{"language": tag, "text": text} for tag, text in LANGUAGES.items()] + [{"text": None}, {"text": "..."}]
    inventory = UnitInventory.build(Semisup(units=kind, subwords=300), Text(), clips(*rows))
    assert list(inventory.vocabulary.items())[:2] == [(BLANK, 0), (UNKNOWN, 1)]
    assert list(inventory.vocabulary.values()) == list(range(len(inventory.vocabulary)))
    *spoken, nothing, punctuation = inventory.labels(clips(*rows))
    assert nothing == punctuation == [] and all(spoken)
    assert all(min(labels) > 1 for labels in spoken)
    assert UnitInventory.build(Semisup(units=kind, subwords=300), Text(), clips(*rows[::-1])).vocabulary == (
        inventory.vocabulary
    )


@pytest.mark.parametrize("kind", ["characters", "phones", "subwords"])
def test_what_training_does_not_have_is_unknown(kind, clips):
    inventory = UnitInventory.build(Semisup(units=kind), Text(), clips({"text": "a tin"}))
    (labels,) = inventory.labels(clips({"text": "a tzn"}))
    assert 1 in labels and len(set(labels)) > 1
    assert UNKNOWN in inventory.spell(labels).split()


@pytest.mark.parametrize("kind", ["characters", "phones", "subwords"])
def test_spellings_give_unit_error_rates(kind, clips):
    two = clips({"text": "the old fisherman"}, {"text": "the cold fisher"})
    inventory = UnitInventory.build(Semisup(units=kind), Text(), two)
    right, wrong = inventory.labels(two)
    counts = jiwer.process_words(inventory.spell(right), inventory.spell(wrong))
    assert counts.hits + counts.substitutions + counts.deletions == len(right)
    assert counts.hits + counts.substitutions + counts.insertions == len(wrong)


@pytest.mark.parametrize("kind", ["characters", "phones", "subwords"])
def test_a_checkpoint_keeps_the_vocabulary(kind, clips, tmp_path, one_thread):
    from transformers import Wav2Vec2CTCTokenizer

    from headstart.encoder.checkpoints import ctc_model
    from headstart.study.model import Model

    spoken = clips({"text": "the old fisherman sold nine fresh fish"})
    inventory = UnitInventory.build(Semisup(units=kind), Text(), spoken)
    model = Model(hidden_size=16, layers=1, heads=2, intermediate_size=16, conv_dim=(8, 16))
    network = ctc_model(None, model, inventory.vocabulary, 0.0)
    save_ctc(network, network.state_dict(), inventory.vocabulary, tmp_path / "model")
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "model")
    (labels,) = inventory.labels(spoken)
    assert tokenizer.convert_ids_to_tokens(labels) == inventory.spell(labels).split()
    assert tokenizer.vocab_size == len(inventory.vocabulary)


# -------------------------------------------------------------------------------------------------- characters


def test_characters_are_those_of_fine_tuning(clips):
    rows = clips(*({"language": tag, "text": text.upper()} for tag, text in LANGUAGES.items()))
    inventory = UnitInventory.build(Semisup(), Text(), rows)
    assert inventory.vocabulary == build_vocabulary(references(rows, Text()))
    others = clips({"text": "Où est ñandú?"}, {"text": ""})
    assert list(inventory.labels(others)) == [encode(r, inventory.vocabulary) for r in references(others, Text())]


# ---------------------------------------------------------------------------------------------------- subwords


def test_subwords_join_to_the_text(clips):
    spoken = clips(*sentences("en-es", 300))
    inventory = UnitInventory.build(Semisup(units="subwords", subwords=150), Text(), spoken)
    assert len(inventory.vocabulary) == 150
    for labels, reference in zip(inventory.labels(spoken), references(spoken, Text()), strict=True):
        assert inventory.spell(labels).replace(" ", "").replace(units.WORD_BEGINNING, " ")[1:] == reference


def test_subwords_are_the_same_in_every_process(clips):
    spoken = clips(*sentences("en-es", 300))
    program = (
        "import sys, numpy as np; from headstart.features.clips import Clips, Split;"
        "from headstart.study.semisup import Semisup; from headstart.study.text import Text;"
        "from headstart.text.units import UnitInventory;"
        "clips = Clips([Split(sys.argv[1], None)], np.zeros(300, int), np.arange(300), np.ones(300));"
        "inventory = UnitInventory.build(Semisup(units='subwords'), Text(), clips);"
        "print(inventory.vocabulary, list(inventory.labels(clips)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, str(spoken.splits[0].features)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
        ).stdout
        for threads in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_few_transcripts_have_few_subwords(clips, caplog):
    caplog.set_level("INFO")
    inventory = UnitInventory.build(Semisup(units="subwords", subwords=200), Text(), clips({"text": "ba ba"}))
    assert list(inventory.vocabulary) == [BLANK, UNKNOWN, "a", "b", "▁", "ba", "▁ba"]
    assert "7 subwords instead of 200" in caplog.text


def test_more_characters_than_subwords_are_refused(clips):
    spoken = clips({"text": "abcdefgh"})
    with pytest.raises(HeadstartError, match="semisup.subwords allows for; set it to 11 at least"):
        UnitInventory.build(Semisup(units="subwords", subwords=10), Text(), spoken)
    UnitInventory.build(Semisup(units="subwords", subwords=11), Text(), spoken)


# ------------------------------------------------------------------------------------------------------ phones


# In a process of its own: phonemizer keeps eSpeak loaded, and ours would no longer be a fresh copy at each call.
# Its own removal of stress also takes "-", by which eSpeak marks a schwa that may be left out ("ə-").
PHONEMIZER = """
import json, sys
import espeakng_loader
from phonemizer.backend import EspeakBackend
from phonemizer.backend.espeak.wrapper import EspeakWrapper
from phonemizer.separator import Separator

EspeakWrapper.set_library(espeakng_loader.get_library_path())
EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
spoken = []
for language, text in json.load(sys.stdin):
    language = {"en": "en-gb", "fr": "fr-fr"}.get(language, language)
    separator = Separator(phone=" ", word=" | ")
    for switch in ("remove-flags", "keep-flags"):
        backend = EspeakBackend(language, with_stress=True, language_switch=switch)
        spoken += backend.phonemize([text], separator=separator, strip=True)
json.dump(spoken, sys.stdout)
"""
SPOKEN = [*LANGUAGES.items(), *SWITCHED.items()]


@pytest.fixture(scope="module")
def phonemizer() -> dict[tuple[str, str], tuple[str, str]]:
    """(language, text) -> what phonemizer gets from the same eSpeak NG without flags, and with them."""
    run = subprocess.run(
        [sys.executable, "-c", PHONEMIZER], input=json.dumps(SPOKEN), capture_output=True, text=True, check=True
    )
    spoken = json.loads(run.stdout)
    return dict(zip(SPOKEN, zip(spoken[::2], spoken[1::2], strict=True), strict=True))


@pytest.mark.parametrize(
    ("language", "text"), SPOKEN, ids=[*LANGUAGES, *(f"{tag} with English words" for tag in SWITCHED)]
)
def test_phones_are_those_that_phonemizer_gets_from_espeak(language, text, spell, phonemizer):
    bare, flagged = phonemizer[language, text]
    phones = spell({"units": "phones"}, text=text, language=language)
    assert phones == unicodedata.normalize("NFC", " ".join(re.sub("[ˈˌ|]", "", bare).split()))
    assert ("(en)" in flagged) == (text in SWITCHED.values())
    assert not re.search(r"[()ˈˌ|_]", phones) and "en" not in phones.split()


def test_stress_goes_and_length_stays(spell):
    assert spell({"units": "phones"}, text="Beats of the beats!") == "b iː t s ɒ v ð ə b iː t s"


@pytest.mark.parametrize("name", ["en-es", "tr"])
def test_phones_of_a_synthetic_corpus_are_the_same_from_both_sources(name, clips):
    spoken = clips(*sentences(name, 30))
    both = [
        UnitInventory.build(Semisup(units="phones", phones=source), Text(), spoken) for source in ("espeak", "corpus")
    ]
    assert both[0].vocabulary == both[1].vocabulary
    assert list(both[0].labels(spoken)) == list(both[1].labels(spoken))


def test_each_run_of_tokens_is_read_by_its_own_language(spell):
    tokens = "our nurse pintó el barco , today".split()
    tags = ["en", "und", "es", "es", "es", "zxx", "mul"]
    mixed = spell(
        {"units": "phones"}, text="our nurse pintó el barco, today", tokens=tokens, token_languages=tags, language="en"
    )
    parts = (("our nurse", "en"), ("pintó el barco", "es"), ("today", "en"))
    assert mixed == " ".join(spell({"units": "phones"}, text=text, language=tag) for text, tag in parts)
    assert mixed != spell({"units": "phones"}, text="our nurse pintó el barco today", language="en")


@pytest.mark.parametrize(
    ("tag", "voice"),
    [
        ("sw", "sw"),
        ("tr-TR", "tr"),
        ("zh", "cmn"),
        ("zh-Hant-TW", "cmn"),
        ("yue", "yue"),
        ("zh-yue", "yue"),
        ("no", "nb"),
        ("pt-BR", "pt-BR"),
        ("pt-PT", "pt"),
        ("en", "en"),
        ("en-GB", "en"),
        ("en-US", "en-US"),
        ("en-NZ", "en"),
        ("es-MX", "es-419"),
        ("qu", "qu"),
        ("hy", "hy"),
    ],
)
def test_a_tag_is_served_by_its_own_voice_or_by_that_of_its_beginning(tag, voice):
    assert espeak.language(tag) == voice
    assert espeak.phonemes("ama", voice)


def test_a_language_that_espeak_does_not_have_is_named(clips):
    settings, spoken = Semisup(units="phones"), clips({"text": "hello"}, {"text": "bawo ni", "language": "yo"})
    with pytest.raises(HeadstartError, match=r"no language 'yo', which utterance 'u1' is in.*columns.phonemes"):
        UnitInventory.build(settings, Text(), spoken)
    tagged = {"text": "hello bawo", "tokens": ["hello", "bawo"], "token_languages": ["en", "yo"]}
    with pytest.raises(HeadstartError, match="'yo', which utterance 'u0'.*characters"):
        UnitInventory.build(settings, Text(), clips(tagged))
    unlabelled = {"text": None, "language": "yo"}
    assert list(
        UnitInventory.build(settings, Text(), clips({"text": "hello"}, unlabelled)).labels(clips(unlabelled))
    ) == [[]]


def test_phones_of_a_corpus_are_its_column(spell, clips):
    settings = {"units": "phones", "phones": "corpus"}
    assert spell(settings, text="la niña", language="qvi", phonemes="l a | n ˈi ɲ a") == "l a n i ɲ a"
    with pytest.raises(HeadstartError, match=r"\.parquet: utterance 'u1' has no phonemes.*columns\.phonemes"):
        UnitInventory.build(Semisup(**settings), Text(), clips({"text": "a", "phonemes": "a"}, {"text": "b"}))
    quiet = clips({"text": "a", "phonemes": "a"}, {"text": None})
    assert list(UnitInventory.build(Semisup(**settings), Text(), quiet).labels(quiet)) == [[2], []]


def test_phones_without_spaces_between_them_are_told_of(clips, caplog):
    settings = Semisup(units="phones", phones="corpus")
    UnitInventory.build(settings, Text(), clips({"text": "the cat sat", "phonemes": "ð ə | k æ t | s æ t"}))
    assert not caplog.text
    UnitInventory.build(settings, Text(), clips({"text": "people sat calmly", "phonemes": "piːpəl sæːt kɑːmliː"}))
    assert "phones are long, such as 'kɑːmliː'" in caplog.text


def test_the_content_of_an_inventory_changes_with_what_spells_it(clips):
    settings = Semisup(units="phones", phones="corpus")
    one, same, other = (clips({"text": "ab", "phonemes": phones}) for phones in ("a b", "ˈa b", "a p"))
    assert one.content == other.content  # which is of audio and text
    inventories = [(UnitInventory.build(settings, Text(), x), x) for x in (one, same, other)]
    content = [inventory.content(inventory.labels(x)) for inventory, x in inventories]
    assert content[0] == content[1] != content[2]


def test_phones_of_an_hour_take_seconds(clips):
    spoken = clips(*sentences("en-es", 1000))  # an hour and more
    espeak.phonemes.cache_clear()
    begin = time.process_time()
    inventory = UnitInventory.build(Semisup(units="phones"), Text(), spoken)
    assert len(list(inventory.labels(spoken))) == 1000
    assert time.process_time() - begin < 20
