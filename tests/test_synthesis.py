"""The synthetic corpora: reproducible to the byte, honest splits, tags that match the words, sane audio."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headstart.corpora.synthetic import espeak, synthesis
from headstart.corpora.synthetic.grammar import Sentence, grammar_names, load_grammar
from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.corpora.synthetic.synthesis import coloured_noise, mix_at_snr, synthesise_corpus
from headstart.errors import HeadstartError

TINY = {"train": 0.012, "dev": 0.004, "test": 0.006}


def read_rows(corpus: Path) -> list[dict[str, str]]:
    with open(corpus / "metadata.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def digests(corpus: Path) -> dict[str, str]:
    files = sorted(path for path in corpus.rglob("*") if path.is_file())
    return {str(path.relative_to(corpus)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def switched(tmp_path_factory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("en-es") / "corpus", language="en-es", hours=TINY, seed=1)


@pytest.fixture(scope="module")
def turkish(tmp_path_factory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("tr") / "corpus", language="tr", hours=TINY, seed=1)


@pytest.mark.parametrize("name", grammar_names())
def test_every_grammar_has_enough_words_and_sentences(name):
    grammar = load_grammar(name)
    for language, words in grammar.vocabulary().items():
        assert len(words) >= (50 if name.endswith("-short") else 150), language
        assert all(word.isalpha() and word == word.lower() for word in words)
    assert grammar.count() > 100_000
    rng = np.random.default_rng(0)
    sentences = [grammar.sample(rng) for _ in range(500)]
    fewest, most = (4, 36) if name == "en-clauses" else (4, 9)
    assert all(fewest <= len(sentence.tokens) <= most for sentence in sentences)
    assert len({sentence.text for sentence in sentences}) > 450


def test_a_code_switched_grammar_switches_inside_its_sentences_in_both_directions():
    grammar = load_grammar("en-es")
    rng = np.random.default_rng(0)
    sentences = [grammar.sample(rng) for _ in range(500)]
    mixed = [sentence for sentence in sentences if set(sentence.token_languages) == {"en", "es"}]
    assert len(mixed) > 0.9 * len(sentences)
    assert {sentence.language for sentence in sentences} == {"en", "es"}
    words = {language: load_grammar(language).vocabulary()[language] for language in ("en", "es")}
    for sentence in sentences:
        tagged = zip(sentence.tokens, sentence.token_languages, strict=True)
        assert all(word in words[language] for word, language in tagged)


def test_segments_are_the_runs_of_one_language():
    sentence = Sentence(("our", "nurse", "pintó", "el", "barco", "today"), ("en", "en", "es", "es", "es", "en"), "es")
    assert sentence.segments() == [("en", "our nurse"), ("es", "pintó el barco"), ("en", "today")]


def test_the_same_words_sound_the_same_whatever_was_spoken_before():
    def speak() -> np.ndarray:
        return espeak.synthesise("the old fisherman slept", "en+f1", words_per_minute=150, pitch=40)

    first = speak()
    espeak.synthesise("hiljainen kuljettaja nauroi", "fi+m7", pitch=80)
    espeak.phonemes("la niña", "es")
    assert np.array_equal(speak(), first)


def test_an_unknown_voice_is_named():
    with pytest.raises(espeak.EspeakError, match="xx"):
        espeak.synthesise("hello", "xx")
    with pytest.raises(espeak.EspeakError, match="nobody"):
        espeak.synthesise("hello", "en+nobody")


def test_two_processes_write_the_same_bytes(switched, tmp_path):
    program = (
        "import sys; from headstart.corpora.synthetic.synthesis import synthesise_corpus; "
        f"synthesise_corpus(sys.argv[1], language='en-es', hours={TINY!r}, seed=1)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "again")], check=True)
    assert digests(tmp_path / "again") == digests(switched)
    assert not (tmp_path / "again.partial").exists()


def test_more_test_audio_leaves_training_as_it_was_and_the_seed_changes_it(switched, tmp_path):
    hours = {"train": TINY["train"], "test": 2 * TINY["test"]}
    same = synthesise_corpus(tmp_path / "same", language="en-es", hours=hours, seed=1)
    other = synthesise_corpus(tmp_path / "other", language="en-es", hours={"train": TINY["train"]}, seed=2)

    def training(corpus: Path) -> list[tuple[str, str]]:
        rows = [row for row in read_rows(corpus) if row["split"] == "train"]
        return [(row["text"], digests(corpus)[row["path"]]) for row in rows]

    assert training(same) == training(switched)
    assert training(other) != training(switched)


def test_splits_share_no_voice_and_no_sentence(switched, turkish):
    groups = [set(variants) for variants in synthesis.VARIANTS["usual"].values()]
    assert len(groups[0]) >= 10 and min(map(len, groups)) >= 3
    assert sum(map(len, groups)) == len(set.union(*groups)) >= 16
    assert set.union(*groups) <= set(espeak.variants())
    for corpus in (switched, turkish):
        rows = read_rows(corpus)
        assert {row["split"] for row in rows} == {"train", "dev", "test"}
        for key in ("speaker", "text"):
            values = [{row[key] for row in rows if row["split"] == split} for split in TINY]
            assert sum(map(len, values)) == len(set.union(*values)), key
        texts = [row["text"] for row in rows]
        assert len(texts) == len(set(texts))
        for row in rows:
            variant = row["speaker"].split("_")[1]
            assert variant in {name.lower() for name in synthesis.VARIANTS["usual"][row["split"]]}


def test_other_voices_say_the_same_and_are_no_usual_ones(turkish, tmp_path):
    usual, other = synthesis.VARIANTS.values()
    names = [name for voices in (usual, other) for variants in voices.values() for name in variants]
    assert len(names) == len(set(names)) and set(names) <= set(espeak.variants())
    assert {split: len(variants) for split, variants in other.items()} == {k: len(v) for k, v in usual.items()}
    rows = read_rows(synthesise_corpus(tmp_path / "other", language="tr", hours=TINY, seed=1, voices="other"))
    for split, variants in other.items():
        mine = [row for row in rows if row["split"] == split]
        assert {row["speaker"].split("_")[1] for row in mine} <= {name.lower() for name in variants}
        for row, same in zip(mine, (row for row in read_rows(turkish) if row["split"] == split), strict=False):
            assert (row["text"], row["speaker"][-1]) == (same["text"], same["speaker"][-1])


@pytest.mark.parametrize("language", ["en", "fi", "tr"])
def test_every_voice_speaks_without_clipping(language):
    for variant in (name for voices in synthesis.VARIANTS["other"].values() for name in voices):
        samples = espeak.synthesise("kala uni talo", f"{language}+{variant}", pitch=80)
        assert 0.1 < np.abs(samples).max() < 1.0, variant


def test_usual_voices_write_what_they_wrote_before_there_were_others(tmp_path):
    rows = read_rows(synthesise_corpus(tmp_path / "corpus", language="tr", hours={"test": 0.001}, seed=3))
    assert [(row["speaker"], row["duration_s"]) for row in rows] == [("tr_m7_1", "2.6547"), ("tr_f2_4", "5.7042")]


def test_metadata_describes_the_audio(switched, turkish):
    for corpus in (switched, turkish):
        rows = read_rows(corpus)
        assert tuple(rows[0]) == synthesis.COLUMNS
        assert {row["path"] for row in rows} == {f"clips/{path.name}" for path in (corpus / "clips").iterdir()}
        for row in rows:
            audio, rate = soundfile.read(corpus / row["path"])
            assert rate == 16000 and audio.ndim == 1
            assert len(audio) / rate == pytest.approx(float(row["duration_s"]), abs=1e-4)
            assert 1.0 < len(audio) / rate < 8.0
            assert np.abs(audio).max() < 0.995
            level = 10 * np.log10(np.mean(audio**2))
            assert -29.5 < level < -19.5
        for split, hours in TINY.items():
            seconds = sum(float(row["duration_s"]) for row in rows if row["split"] == split)
            assert 3600 * hours <= seconds < 3600 * hours + 8


def test_every_token_has_a_language_and_phonemes_are_those_of_espeak(switched, turkish):
    rows = read_rows(switched) + read_rows(turkish)
    for row in rows:
        tokens, languages = row["tokens"].split(), row["token_languages"].split()
        assert " ".join(tokens) == row["text"] and len(tokens) == len(languages)
        assert row["language"] in languages
        segments = Sentence(tuple(tokens), tuple(languages), row["language"]).segments()
        spoken = [word for language, text in segments for word in espeak.phonemes(text, language)]
        assert row["phonemes"] == " | ".join(spoken)
        assert "  " not in row["phonemes"]
    assert all(set(row["token_languages"].split()) == {"en", "es"} for row in read_rows(switched))


def test_phonemes_follow_the_language():
    assert espeak.phonemes("la niña", "es") == ("l a", "n ˈi ɲ a")
    assert espeak.phonemes("of the boats", "en") == ("ɒ v ð ə", "b ˈəʊ t s")


def test_noise_is_mixed_at_the_signal_to_noise_ratio_asked_for():
    speech = espeak.synthesise("the old fisherman slept", "en+m3")
    for seed, snr_db in enumerate((-5.0, 0.0, 12.5, 30.0)):
        noise = coloured_noise(len(speech) + 3000, np.random.default_rng(seed), 16000)
        mixed = mix_at_snr(speech, noise, snr_db, offset=1000)
        added = mixed.copy()
        added[1000 : 1000 + len(speech)] -= speech
        measured = 10 * np.log10(np.mean(speech.astype(float) ** 2) / np.mean(added.astype(float) ** 2))
        assert measured == pytest.approx(snr_db, abs=0.05)


def test_bad_arguments_are_named_and_nothing_is_lost(tmp_path):
    with pytest.raises(ValueError, match="no grammar named 'xx'"):
        synthesise_corpus(tmp_path / "corpus", language="xx", hours=TINY, seed=0)
    with pytest.raises(ValueError, match="'valid'"):
        synthesise_corpus(tmp_path / "corpus", language="en", hours={"valid": 1.0}, seed=0)
    with pytest.raises(ValueError, match="'mine'"):
        synthesise_corpus(tmp_path / "corpus", language="en", hours=TINY, seed=0, voices="mine")
    with pytest.raises(ValueError, match="snr_db"):
        synthesise_corpus(tmp_path / "corpus", language="en", hours=TINY, seed=0, snr_db=(20.0, 5.0))
    (tmp_path / "thesis.txt").write_text("years of work")
    for table in (False, True):
        if table:
            (tmp_path / "metadata.tsv").write_text("id\tpath\n")
        with pytest.raises(HeadstartError, match="not a corpus folder"):
            synthesise_corpus(tmp_path, language="en", hours=TINY, seed=0)
        assert (tmp_path / "thesis.txt").exists()


def test_a_corpus_is_made_again_also_where_the_workflow_has_removed_its_table(tmp_path):
    synthesise_corpus(tmp_path / "corpus", language="en", hours=TINY, seed=0)
    table = (tmp_path / "corpus/metadata.tsv").read_bytes()
    (tmp_path / "corpus/metadata.tsv").unlink()
    synthesise_corpus(tmp_path / "corpus", language="en", hours=TINY, seed=1)
    assert (tmp_path / "corpus/metadata.tsv").read_bytes() != table
    written = {path.name for path in (tmp_path / "corpus/clips").iterdir()}
    lines = (tmp_path / "corpus/metadata.tsv").read_text().splitlines()
    assert len(written) == len(lines) - 1


def test_a_band_is_all_that_is_left_of_speech_and_noise_and_nothing_else_changes(turkish, tmp_path):
    folder = synthesise_corpus(tmp_path / "radio", language="tr", hours=TINY, seed=1, bandwidth_hz=(300.0, 3400.0))
    rows = read_rows(folder)
    for row, same in zip(rows, read_rows(turkish), strict=True):
        assert row == same
        audio, wide = (soundfile.read(corpus / row["path"])[0] for corpus in (folder, turkish))
        power, before = (np.abs(np.fft.rfft(samples)) ** 2 for samples in (audio, wide))
        hz = np.fft.rfftfreq(len(audio), 1 / 16000)
        outside, inside = (hz < 150) | (hz > 6800), (hz > 400) & (hz < 2500)
        assert power[outside].sum() < 1e-3 * power.sum()
        # In the band, it is the same audio at another level.
        assert np.corrcoef(power[inside], before[inside])[0, 1] > 0.99


def test_a_pass_band_halves_amplitudes_at_its_ends():
    time_s = np.arange(16000) / 16000
    for hz, gain in ((300, 0.5), (3400, 0.5), (1000, 1.0), (150, 1 / 257), (6800, 1 / 257)):
        tone = np.sin(2 * np.pi * hz * time_s).astype(np.float32)
        passed = synthesis.band_pass(tone, (300.0, 3400.0), 16000)
        assert np.sqrt(2 * np.mean(passed**2)) == pytest.approx(gain, rel=0.02, abs=1e-4), hz


def test_a_band_that_the_sampling_rate_has_not_is_named(tmp_path):
    with pytest.raises(ValueError, match="between 0 and 8000 Hz"):
        synthesise_corpus(tmp_path / "corpus", language="en", hours=TINY, seed=0, bandwidth_hz=(300.0, 9000.0))
    settings = {"reader": "synthetic", "language": "en"}
    with pytest.raises(ValueError, match=r"is \[3400, 300\]|upside down"):
        SyntheticCorpus.model_validate({**settings, "bandwidth_hz": [3400, 300]})
    with pytest.raises(ValueError, match="between 0 and 8000 Hz"):
        SyntheticCorpus.model_validate({**settings, "bandwidth_hz": [0, 3400]})
    assert "bandwidth_hz" not in SyntheticCorpus.model_validate(settings).model_dump()
