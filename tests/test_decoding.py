"""Decoding: language models, beam search by two engines, tuning of weights, and times by forced alignment."""

import gzip
import math
from itertools import product

import numpy as np
import pytest

from headstart.decode import beam_search as searching
from headstart.decode.arpa import Arpa
from headstart.decode.beam_search import NativeEngine, beam_search, native
from headstart.decode.fusion import TO_NATURAL, UNKNOWN_OFFSET, Fusion, Weights, log_probabilities, search_labels
from headstart.decode.language_model import train_language_model, write_arpa
from headstart.decode.prefix_search import PythonEngine
from headstart.errors import DataError
from headstart.text.normalisation import build_vocabulary, collapse

SENTENCES = ["ab a", "ba ab a", "a ab", "ab ab ba", "bab a", "b ab", "a a ba", "ab ba"]
VOCABULARY = build_vocabulary(SENTENCES)
LABELS = search_labels(VOCABULARY)
# Bigrams whose probabilities are easy to follow by hand.
HAND_MADE = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.3
-0.7\ta\t-0.2
-0.8\tba\t-0.1
-0.6\t</s>
-1.5\t<unk>

\\2-grams:
-0.2\t<s> a
-0.3\ta ba

\\end\\
"""

needs_native = pytest.mark.skipif(native() is None, reason="ctc_beam_decoder has no wheel for this system")


@pytest.fixture(scope="module", params=["words", "characters"])
def model(request, tmp_path_factory) -> tuple[str, bool]:
    """The path of a trigram model, and whether its tokens are characters."""
    path, characters = str(tmp_path_factory.mktemp("model") / "lm.arpa"), request.param == "characters"
    write_arpa(path, [list(s.replace(" ", "|")) if characters else s.split() for s in SENTENCES], 3)
    return path, characters


def logits(rng: np.random.Generator, frames: int, peak: float = 2.0) -> np.ndarray:
    return log_probabilities(peak * rng.standard_normal((frames, len(VOCABULARY))), VOCABULARY)


def noisy(rng: np.random.Generator, boundary_after: bool) -> np.ndarray:
    """What a network gives that is often in doubt about the characters of some sentences, between silences.

    Some networks put a word boundary after the last word.
    """
    text = "|".join("|".join(rng.choice(SENTENCES, 3)).split())
    frames = 1.2 * rng.standard_normal((3 * len(text) + 8, len(VOCABULARY)))
    frames[:, VOCABULARY["|"]] -= 12.0
    frames[:, VOCABULARY["<pad>"]] += 3.0
    for i, character in enumerate(text):
        frames[3 * i + 4, VOCABULARY["<pad>"]] -= 5.0
        frames[3 * i + 4, VOCABULARY[character]] += 18.0 if character == "|" else 1.0
    if boundary_after:
        frames[-3:, VOCABULARY["|"]] += 16.0
    return log_probabilities(frames, VOCABULARY)


def spelt(path: tuple[int, ...]) -> str:
    text = "".join(LABELS[label] for label in collapse(path, 0))
    return " ".join(text.replace("|", " ").split())


def enumerated(log_probs: np.ndarray, fusion: Fusion) -> dict[str, float]:
    """The score of every text that has a label path, summed over all its paths."""
    acoustic: dict[str, float] = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = float(sum(log_probs[t, label] for t, label in enumerate(path)))
        acoustic[spelt(path)] = np.logaddexp(acoustic.get(spelt(path), -np.inf), score)
    return {text: score + fusion.score(text) for text, score in acoustic.items()}


# ----------------------------------------------------------------------------------------------- language models


def test_probabilities_are_those_of_the_file_with_back_off(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    model = Arpa(tmp_path / "hand.arpa")
    assert model.order == 2 and model.vocabulary == {"a", "ba"}
    assert model.sentence([]) == pytest.approx(-0.3 - 0.6)  # <s> backs off to </s>
    assert model.sentence(["a", "ba"]) == pytest.approx(-0.2 - 0.3 - 0.1 - 0.6)
    assert model.sentence(["ba", "a"]) == pytest.approx(-0.3 - 0.8 - 0.1 - 0.7 - 0.2 - 0.6)
    assert model.sentence(["a", "zz", "ba"]) == pytest.approx(-0.2 - 0.2 - 1.5 - 0.8 - 0.1 - 0.6)


def test_the_probabilities_of_all_tokens_after_a_history_sum_to_one(model):
    lm = Arpa(model[0])
    assert lm.order == 3
    tokens = sorted(lm.vocabulary)
    histories = [("<s>",), *product(["<s>", *tokens], tokens), ("<unk>", tokens[0])]
    for history in histories:
        total = sum(10 ** lm.score(history, token)[0] for token in [*tokens, "</s>", "<unk>"])
        assert total == pytest.approx(1.0, abs=1e-5), history


@needs_native
def test_probabilities_are_those_of_kenlm(model):
    """With one sure label in each frame, the score of a text is its language model's alone."""
    path, characters = model
    lm = Arpa(path)
    fusion = Fusion(lm, characters, Weights(1.0, 0.0))
    spelling = ["", *("▁" + label if characters else label.replace("|", " ") for label in LABELS[1:])]
    decoder = native().build_ctcdecoder(spelling, path, unigrams=sorted(lm.vocabulary), alpha=1.0, beta=0.0)
    for text in [*SENTENCES, "a bab b", "aab"]:
        labels = [LABELS.index(c) for c in text.replace(" ", "|")]
        frames = np.full((2 * len(labels), len(LABELS)), -40.0, np.float32)
        frames[np.arange(0, len(frames), 2), labels] = frames[1::2, 0] = 0.0
        spelt, _, _, acoustic, whole = decoder.decode_beams(frames)[0]
        assert "".join(spelt.split()).replace("|", "") == text.replace(" ", "")
        assert whole - acoustic == pytest.approx(fusion.score(text), abs=1e-4)


def test_a_model_without_unk_or_a_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(HAND_MADE.replace("-1.5\t<unk>\n", ""), encoding="utf-8")
    with pytest.raises(DataError, match="no <unk>"):
        Arpa(path)
    path.write_text(HAND_MADE.replace("\\end\\", ""), encoding="utf-8")
    with pytest.raises(DataError, match="cut short"):
        Arpa(path)


def test_an_order_that_no_sentence_is_long_enough_for_is_lowered(tmp_path):
    write_arpa(tmp_path / "lm.arpa", [["a"], ["b"]], 6)
    assert Arpa(tmp_path / "lm.arpa").order == 3


# --------------------------------------------------------------------------------------------------- beam search


@pytest.mark.parametrize("weights", [Weights(0.0, 0.0), Weights(0.5, 1.0), Weights(1.5, -0.5)])
def test_our_engine_finds_every_text_with_its_score_over_all_label_paths(model, weights):
    fusion = Fusion(Arpa(model[0]), model[1], weights)
    engine = PythonEngine(LABELS, fusion, 10**6, least_label=-1e9, least_beam=-1e9)
    for seed in range(3):
        log_probs = logits(np.random.default_rng(seed), 5)
        wanted = enumerated(log_probs, fusion)
        found = engine.decode(log_probs)
        assert {one.text for one in found} == set(wanted)
        assert [one.score for one in found] == pytest.approx([wanted[one.text] for one in found], abs=1e-4)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@needs_native
@pytest.mark.parametrize("weights", [Weights(0.0, 0.0), Weights(0.3, 0.5), Weights(1.0, 2.0)])
def test_both_engines_agree_without_pruning(model, weights):
    fusion = Fusion(Arpa(model[0]), model[1], weights)
    options = {"beam": 10**5, "least_label": -1e9, "least_beam": -1e9}
    ours = PythonEngine(LABELS, fusion, **options)
    native_engine = NativeEngine(LABELS, fusion, model[0], **options)
    for seed in range(5):
        log_probs = logits(np.random.default_rng(seed), 6)
        mine, theirs = ours.decode(log_probs), native_engine.decode(log_probs)
        scores = {one.text: one.score for one in theirs}
        assert scores.keys() == {one.text for one in mine}
        assert [one.score for one in mine] == pytest.approx([scores[one.text] for one in mine], abs=1e-3)


@needs_native
@pytest.mark.parametrize("weights", [Weights(0.3, 0.5), Weights(1.0, 1.0)])
def test_both_engines_find_the_same_best_text_with_pruning(model, weights):
    fusion = Fusion(Arpa(model[0]), model[1], weights)
    ours, native_engine = PythonEngine(LABELS, fusion, 64), NativeEngine(LABELS, fusion, model[0], 64)
    greedy = 0
    for seed in range(40):
        log_probs = noisy(np.random.default_rng(seed), not model[1])
        mine, theirs = ours.decode(log_probs)[0], native_engine.decode(log_probs)[0]
        assert mine.text == theirs.text and mine.score == pytest.approx(theirs.score, abs=1e-2), seed
        greedy += mine.text == spelt(tuple(log_probs.argmax(1)))
    assert greedy < 30  # the language model mattered


def test_a_language_model_chooses_between_texts_that_sound_alike(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    model = Arpa(tmp_path / "hand.arpa")
    frames = np.full((4, len(VOCABULARY)), -20.0)
    for t, label in enumerate("a|ba"):
        frames[t, VOCABULARY[label]] = 0.0
    frames[2] = -20.0
    frames[2, VOCABULARY["b"]], frames[2, VOCABULARY["a"]] = -0.1, 0.0  # "aa" would be "a": a little better
    log_probs = log_probabilities(frames, VOCABULARY)
    weak, strong = (beam_search(LABELS, Fusion(model, False, Weights(a, 0.0)), tmp_path / "hand.arpa", 32) for a in (0, 1))
    assert weak.decode(log_probs)[0].text == "a a"
    assert strong.decode(log_probs)[0].text == "a ba"


def test_an_unknown_word_that_the_network_is_sure_of_is_kept(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    fusion = Fusion(Arpa(tmp_path / "hand.arpa"), False, Weights(0.3, 0.5))
    frames = np.full((3, len(VOCABULARY)), -30.0)
    for t, label in enumerate("bab"):
        frames[t, VOCABULARY[label]] = 0.0
    best = beam_search(LABELS, fusion, tmp_path / "hand.arpa", 8).decode(log_probabilities(frames, VOCABULARY))[0]
    assert best.text == "bab"
    unknown = 0.3 * TO_NATURAL * (-0.3 - 1.5 + UNKNOWN_OFFSET - 0.6) + 0.5
    assert best.score - best.acoustic == pytest.approx(unknown) and best.acoustic == pytest.approx(0.0, abs=1e-3)


@needs_native
def test_without_the_package_our_own_engine_decodes_and_the_log_says_so(model, monkeypatch, caplog):
    fusion = Fusion(Arpa(model[0]), model[1], Weights(0.3, 0.5))
    assert isinstance(beam_search(LABELS, fusion, model[0], 8), NativeEngine)
    assert isinstance(beam_search([*LABELS, "_"], fusion, model[0], 8), PythonEngine)  # a blank to the package
    monkeypatch.setitem(__import__("sys").modules, "ctc_beam_decoder", None)
    native.cache_clear()
    try:
        with caplog.at_level("INFO"):
            engine = beam_search(LABELS, fusion, model[0], 8)
    finally:
        native.cache_clear()
    assert isinstance(engine, PythonEngine) and "our own, slower beam search" in caplog.text
