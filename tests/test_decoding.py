"""Decoding: language models, beam search by two engines, tuning of weights, and times by forced alignment."""

import gzip
import math
import sys
from itertools import product
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from headstart.corpora.manifests import read_table, table_recipe, table_tuning
from headstart.decode.arpa import Arpa
from headstart.decode.beam_search import NativeEngine, beam_search, native
from headstart.decode.forced_alignment import align_labels, align_words
from headstart.decode.fusion import TO_NATURAL, Fusion, Weights, log_probabilities, search_labels
from headstart.decode.language_model import RARE_WORDS, language_model_recipe, train_language_model, write_arpa
from headstart.decode.prefix_search import PythonEngine
from headstart.decode.tuning import tune
from headstart.encoder.checkpoints import ctc_model, save_ctc
from headstart.errors import DataError, HeadstartError
from headstart.features.clips import Clips
from headstart.files import read_json, write_json
from headstart.jobs import LanguageModelJob, ScoreJob
from headstart.score.alignment import align_words as align_texts
from headstart.score.alignment import count_edits
from headstart.score.score_file import score_schema
from headstart.score.scoring import score_recipe, score_run
from headstart.study.text import Text
from headstart.summarise.tables import read_counts
from headstart.text.normalisation import build_vocabulary, collapse, references

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
    frames[:, VOCABULARY["|"]] -= 24.0
    frames[:, VOCABULARY["<pad>"]] += 3.0
    for i, character in enumerate(text):
        frames[3 * i + 4, VOCABULARY["<pad>"]] -= 5.0
        frames[3 * i + 4, VOCABULARY[character]] += 30.0 if character == "|" else 1.0
    if boundary_after:
        frames[-3:, VOCABULARY["|"]] += 28.0
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
    same = greedy = 0
    for seed in range(20):
        log_probs = noisy(np.random.default_rng(seed), not model[1])
        mine, theirs = ours.decode(log_probs)[0], native_engine.decode(log_probs)[0]
        # With characters, the native engine takes two word boundaries with a blank between them for two tokens.
        assert mine.score == pytest.approx(theirs.score, abs=0.5 if model[1] else 1e-3)
        same += mine.text == theirs.text
        greedy += mine.text == spelt(tuple(log_probs.argmax(1)))
    assert same >= (17 if model[1] else 20)
    assert greedy < 15  # the language model mattered


def test_what_was_seen_once_stays_possible_in_a_small_training_text(tmp_path):
    """No n-gram occurs exactly twice here, for which Kneser-Ney's discount is all of a count of one."""
    write_arpa(tmp_path / "a.arpa", [["a", "b", "c", "d"], ["e", "f", "g"]], 3)
    model = Arpa(tmp_path / "a.arpa")
    assert all(score > -5 for score in scores_of(model, ["a", "b", "c", "d"]))


def scores_of(model: Arpa, words: list[str]) -> list[float]:
    state, scores = model.start, []
    for word in words:
        score, state = model.score(state, word)
        scores.append(score)
    return scores


def test_a_language_model_chooses_between_texts_that_sound_alike(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    model = Arpa(tmp_path / "hand.arpa")
    frames = np.full((4, len(VOCABULARY)), -20.0)
    for t, label in enumerate("a|ba"):
        frames[t, VOCABULARY[label]] = 0.0
    frames[2] = -20.0
    frames[2, VOCABULARY["b"]], frames[2, VOCABULARY["a"]] = -0.1, 0.0  # "aa" would be "a": a little better
    log_probs = log_probabilities(frames, VOCABULARY)
    weak, strong = (
        beam_search(LABELS, Fusion(model, False, Weights(a, 0.0)), tmp_path / "hand.arpa", 32) for a in (0, 1)
    )
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
    unknown = 0.3 * TO_NATURAL * (-0.3 - 1.5 + -10.0 - 0.6) + 0.5
    assert best.score - best.acoustic == pytest.approx(unknown) and best.acoustic == pytest.approx(0.0, abs=1e-3)


@needs_native
def test_without_the_package_our_own_engine_decodes_and_the_log_says_so(model, monkeypatch, caplog):
    fusion = Fusion(Arpa(model[0]), model[1], Weights(0.3, 0.5))
    assert isinstance(beam_search(LABELS, fusion, model[0], 8), NativeEngine)
    assert isinstance(beam_search([*LABELS, "_"], fusion, model[0], 8), PythonEngine)  # a blank to the package
    monkeypatch.setitem(sys.modules, "ctc_beam_decoder", None)
    native.cache_clear()
    try:
        with caplog.at_level("INFO"):
            engine = beam_search(LABELS, fusion, model[0], 8)
    finally:
        native.cache_clear()
    assert isinstance(engine, PythonEngine) and "our own, slower beam search" in caplog.text


# ------------------------------------------------------------------------------------------------ forced alignment


def viterbi(log_probs: np.ndarray, labels: list[int]) -> float:
    """The log-probability of the best of all label paths that spell these labels, by trying every path."""
    paths = product(range(log_probs.shape[1]), repeat=len(log_probs))
    spelling = (path for path in paths if collapse(path, 0) == labels)
    return max(math.fsum(log_probs[t, label] for t, label in enumerate(path)) for path in spelling)


def test_an_alignment_is_as_probable_as_the_best_of_all_label_paths():
    rng = np.random.default_rng(0)
    for labels in ([1], [1, 2], [2, 2], [1, 2, 1], [3, 3, 3], [1, 1, 2]):
        for _ in range(5):
            log_probs = log_probabilities(2 * rng.standard_normal((6, len(VOCABULARY))), VOCABULARY)
            score, spans = align_labels(log_probs, labels)
            assert score == pytest.approx(viterbi(log_probs, labels), abs=1e-4)
            assert [span.begin for span in spans] == sorted(span.begin for span in spans) and len(spans) == len(labels)
    assert align_labels(log_probs, [])[0] == pytest.approx(float(log_probs[:, 0].sum()), abs=1e-4)


def test_words_have_the_frames_in_which_they_are_spelt():
    frames = np.full((12, len(VOCABULARY)), -9.0)
    for t, label in enumerate(["<pad>", "a", "a", "<pad>", "b", "|", "<pad>", "b", "<pad>", "b", "a", "<pad>"]):
        frames[t, VOCABULARY[label]] = 0.0
    words = align_words(log_probabilities(frames, VOCABULARY), "ab bba", LABELS)
    assert [(word.begin, word.end) for word in words] == [(1, 5), (7, 11)]
    assert all(0.99 < word.confidence <= 1.0 for word in words)
    frames[4, VOCABULARY["b"]] = -9.0  # now every label is as probable there
    unsure, sure = align_words(log_probabilities(frames, VOCABULARY), "ab bba", LABELS)
    assert unsure.confidence < 0.8 < 0.99 < sure.confidence


def test_a_text_that_does_not_fit_has_no_times():
    log_probs = log_probabilities(np.zeros((4, len(VOCABULARY))), VOCABULARY)
    assert align_words(log_probs, "abab", LABELS) is not None
    assert align_words(log_probs, "abb", LABELS) is not None
    assert align_words(log_probs, "abbb", LABELS) is None  # equal characters need a blank between them
    assert align_words(log_probs, "aé", LABELS) is None
    assert align_words(log_probs, "", LABELS) == []


# --------------------------------------------------------------------------------------------------------- tuning


class Listing:
    """A beam search that always finds the same texts, with the network's scores of them."""

    def __init__(self, fusion: Fusion, acoustic: dict[str, float]):
        self.fusion, self.acoustic = fusion, acoustic

    def decode(self, log_probs_TV: np.ndarray) -> list:
        return self.fusion.ranked(self.acoustic)


def test_tuning_finds_the_weights_with_the_fewest_errors(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    model = Arpa(tmp_path / "hand.arpa")
    # The model prefers "a ba" to "ba a" by 1.4 in log10, so that alpha 0.4 makes up for 1.0 and 0.3 does not.
    acoustic = {"ba a": 0.0, "a ba": -1.0}
    gap = TO_NATURAL * (model.sentence(["a", "ba"]) - model.sentence(["ba", "a"]))
    least = math.ceil(10 * 1.0 / gap) / 10
    assert 0 < least < 1

    def tuned(reference: str):
        engine = lambda fusion: Listing(fusion, acoustic)  # noqa: E731
        return tune(engine, Fusion(model, False, Weights(0, 0)), [np.zeros((1, 1))], [reference])

    assert tuned("a ba") == (Weights(pytest.approx(least), 0.0, -10.0), 0, 2)
    assert tuned("ba a") == (Weights(0.0, 0.0, -10.0), 0, 2)
    assert tuned("zz zz") == (Weights(0.0, 0.0, -10.0), 2, 2)  # of equally good weights, the smallest


def test_tuning_gives_a_bonus_to_words_where_they_are_glued(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND_MADE, encoding="utf-8")
    fusion = Fusion(Arpa(tmp_path / "hand.arpa"), False, Weights(0, 0))
    engine = lambda fusion: Listing(fusion, {"a": 0.0, "a a": -1.1})  # noqa: E731
    assert tune(engine, fusion, [np.zeros((1, 1))], ["a a"]).weights == (0.0, 1.5, -10.0)


def test_tuned_weights_make_no_more_errors_in_a_search_than_any_others_tried(model):
    """With both engines' searches, not only with lists of texts."""
    rng, fusion = np.random.default_rng(3), Fusion(Arpa(model[0]), model[1], Weights(0, 0))
    log_probs, spoken = zip(*(doubtful(rng) for _ in range(12)), strict=True)

    def engine(fusion: Fusion):
        return PythonEngine(LABELS, fusion, 32)

    def errors(weights: Weights) -> int:
        search = engine(fusion.weighted(weights))
        pairs = zip(log_probs, spoken, strict=True)
        return sum(count_edits(align_texts(text, search.decode(one)[0].text)).errors for one, text in pairs)

    tuning = tune(engine, fusion, log_probs, spoken)
    assert abs(errors(tuning.weights) - tuning.errors) <= 1  # lists of several searches, against one search
    assert tuning.errors <= min(
        map(errors, [Weights(0.0, 0.0), Weights(0.3, 0.5), Weights(1.0, 1.0), Weights(2.0, 0.0)])
    )


def doubtful(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    text = str(rng.choice(SENTENCES))
    frames = 1.5 * rng.standard_normal((2 * len(text) + 1, len(VOCABULARY)))
    frames[:, VOCABULARY["<unk>"]] = -9
    for i, character in enumerate(text.replace(" ", "|")):
        frames[2 * i + 1, VOCABULARY[character]] += 2.0
        frames[2 * i, VOCABULARY["<pad>"]] += 4.0
    return log_probabilities(frames, VOCABULARY), text


# ------------------------------------------------------------------------------------------------- in the workflow


def language_model_job(folder: Path, english: dict, **changes) -> LanguageModelJob:
    values = {"files": [], "language": "en", "text": {}, "settings": {}, **changes}
    splits = {split: english[split]["features"] for split in ("train", "dev")}
    return LanguageModelJob.of(**splits, **values, output=str(folder / "lm.arpa"), recipe=str(folder / "lm.json"))


def test_a_language_model_is_trained_on_training_text_and_text_files_only(english, tmp_path):
    with gzip.open(tmp_path / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write("Zebras, ZEBRAS!\n\n<s> quagga\n")
    (tmp_path / "plain.txt").write_text("okapi\n", encoding="utf-8")
    files = [str(tmp_path / "more.txt.gz"), str(tmp_path / "plain.txt")]
    train_language_model(language_model_job(tmp_path, english, files=files, settings={"units": "words"}))
    words = {
        split: {word for text in references(Clips.open(**english[split]), Text()) for word in text.split()}
        for split in ("train", "dev", "test")
    }
    assert Arpa(tmp_path / "lm.arpa").vocabulary == words["train"] | {"zebras", "quagga", "s", "okapi"}
    assert (words["dev"] | words["test"]) - words["train"]
    facts = read_json(tmp_path / "lm.json")["facts"]
    assert (facts["units"], facts["order"]) == ("words", 3)
    with pytest.raises(HeadstartError, match="nowhere.txt: the text cannot be read"):
        train_language_model(language_model_job(tmp_path, english, files=["nowhere.txt"]))


def test_auto_takes_characters_where_words_of_dev_are_unknown(english, tmp_path):
    clips = {split: list(references(Clips.open(**english[split]), Text())) for split in ("train", "dev")}
    known = {word for text in clips["train"] for word in text.split()}
    dev = [word for text in clips["dev"] for word in text.split()]
    unknown = sum(word not in known for word in dev) / len(dev)
    assert unknown > RARE_WORDS  # a minute of speech
    train_language_model(language_model_job(tmp_path, english))
    facts = read_json(tmp_path / "lm.json")["facts"]
    assert (facts["units"], facts["order"]) == ("characters", 6) and facts["unknown_dev_words"] == round(unknown, 4)
    assert all(len(token) == 1 for token in Arpa(tmp_path / "lm.arpa").vocabulary)
    (tmp_path / "dev.txt").write_text("\n".join(clips["dev"]), encoding="utf-8")  # if it were known
    train_language_model(language_model_job(tmp_path, english, files=[str(tmp_path / "dev.txt")]))
    assert read_json(tmp_path / "lm.json")["facts"]["units"] == "words"


def test_a_recipe_follows_the_text_and_the_settings(english, tmp_path):
    (tmp_path / "more.txt").write_text("one\n", encoding="utf-8")
    job = language_model_job(tmp_path, english, files=[str(tmp_path / "more.txt")])
    train_language_model(job)
    recipe = language_model_recipe(job)
    assert {**recipe, "facts": read_json(job.recipe)["facts"]} == read_json(job.recipe)
    (tmp_path / "more.txt").write_text("two\n", encoding="utf-8")
    assert language_model_recipe(job) != recipe


def test_scores_with_a_language_model_have_both_hypotheses_lists_times_and_weights(
    english, tiny_model, tmp_path, one_thread
):
    """Of a network with random weights: what is written has to hold for every network."""
    text = list(references(Clips.open(**english["train"]), Text()))
    vocabulary = build_vocabulary(text)
    torch.manual_seed(0)
    network = ctc_model(None, tiny_model, vocabulary, 0.0)
    save_ctc(network, network.state_dict(), vocabulary, tmp_path / "run")
    write_json(tmp_path / "run" / "recipe.json", {})
    train_language_model(language_model_job(tmp_path, english, settings={"units": "words"}))
    files = {"arpa": str(tmp_path / "lm.arpa"), "recipe": str(tmp_path / "lm.json")}
    both = {"run": str(tmp_path / "run"), "test": english["test"], "text": Text()}
    score_run(ScoreJob.of(**both, output=str(tmp_path / "greedy.parquet")))
    job = ScoreJob.of(
        **both, dev=english["dev"], language_model=files, search={"n_best": 3}, output=str(tmp_path / "both.parquet")
    )
    score_run(job)
    greedy, rows = (read_table(tmp_path / f"{name}.parquet", score_schema()) for name in ("greedy", "both"))
    assert [row["hypothesis"] for row in greedy] == [row["hypothesis"] for row in rows]
    assert all(row["hypothesis_lm"] is row["n_best_lm"] is None for row in greedy)
    for row in rows:
        scores = [one["score"] for one in row["n_best_lm"]]
        assert row["n_best_lm"][0]["text"] == row["hypothesis_lm"] and scores == sorted(scores, reverse=True)
        assert len(scores) <= 3 == len(set(scores)) or len(scores) < 3
        assert len(row["word_times"]) == len(row["word_confidence"]) == len(row["hypothesis_lm"].split())
        assert all(0.0 <= confidence <= 1.0 for confidence in row["word_confidence"])
        for times in filter(None, (row["word_times"], row["reference_times"])):
            ends = [time for word in times for time in (word["start_s"], word["end_s"])]
            assert ends == sorted(ends) and 0 <= ends[0] and ends[-1] <= row["duration_s"] + 0.05
        if row["reference_times"] is not None:
            assert len(row["reference_times"]) == len(row["reference"].split())
    assert any(row["reference_times"] for row in rows)
    counts = read_counts(tmp_path / "both.parquet")
    for name, column in (("wer", "hypothesis"), ("wer_lm", "hypothesis_lm")):
        peer = jiwer.process_words([row["reference"] for row in rows], [row[column] for row in rows])
        assert counts.errors[name].sum() == peer.substitutions + peer.deletions + peer.insertions
    assert "wer_lm" not in read_counts(tmp_path / "greedy.parquet").errors
    tuning = table_tuning(tmp_path / "both.parquet")
    assert tuning.keys() == {"alpha", "beta", "unknown", "dev_errors", "dev_words"} and tuning["dev_words"] > 0
    assert table_tuning(tmp_path / "greedy.parquet") is None
    assert table_recipe(tmp_path / "both.parquet") == score_recipe(job)
