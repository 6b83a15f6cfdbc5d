"""How alike languages sound: on languages of a few made-up sounds, and by an encoder."""

import json
from itertools import groupby

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.spatial.distance import cosine
from sklearn.metrics import pairwise_distances_argmin
from test_sound_units import joined

from headstart.encoder.checkpoints import encoder_model, save_encoder
from headstart.errors import DataError
from headstart.files import BrokenFileError
from headstart.jobs import SimilarityJob
from headstart.languages.acoustic import (
    AcousticSimilarity,
    drawn_clips,
    measure_similarity,
    measurement,
    recorded_recipe,
    similarity_recipe,
)
from headstart.languages.frames import Samples, cepstral_frames, frames_of
from headstart.languages.sound_units import FIRST, count_similarity
from headstart.study.similarity import Acoustic

pytestmark = pytest.mark.usefixtures("one_thread")
RATE = 16_000
SOUNDS = [(700, 1220), (300, 2300), (310, 870), (500, 1700), (650, 2600), (400, 1100), (250, 3000), (800, 1800)]
OPTIONS = Acoustic(minutes=1, clusters=20, pieces=60)


def language(seed: int) -> np.ndarray:
    """A language: how probable each sound is after each other."""
    return np.random.default_rng(seed).dirichlet(np.full(len(SOUNDS), 0.25), len(SOUNDS))


def utterances(chain: np.ndarray, count: int, seed: int, tilt: float = 0.0, seconds: float = 2.0) -> Samples:
    """Clips in a language, of voices of many pitches; `tilt` is what a microphone adds, a filter of one pole."""
    rng, clips = np.random.default_rng(seed), []
    for _ in range(count):
        hertz, state, pieces = rng.uniform(90, 250) * np.arange(1, 30), int(rng.integers(len(SOUNDS))), []
        while sum(map(len, pieces)) < seconds * RATE:
            time = np.arange(int(rng.uniform(0.06, 0.12) * RATE)) / RATE
            loudness = sum(1 / (1 + ((hertz - formant) / 120) ** 2) for formant in SOUNDS[state])
            pieces.append(loudness @ np.sin(2 * np.pi * hertz[:, None] * time) + 0.01 * rng.standard_normal(len(time)))
            state = int(rng.choice(len(SOUNDS), p=chain[state]))
        clip = np.concatenate(pieces)
        clip = clip + tilt * np.concatenate([[0], clip[:-1]])
        clips.append((8000 * clip / np.abs(clip).max()).astype(np.int16))
    return Samples(clips)


@pytest.fixture(scope="module")
def spoken() -> dict[str, Samples]:
    """Two languages; of the first, two corpora with other voices, one through another microphone."""
    one, other = language(1), language(2)
    return {
        "aa": utterances(one, 20, 10),
        "ab": utterances(one, 20, 11, tilt=0.5),
        "zz": utterances(other, 20, 12),
    }


@pytest.fixture(scope="module")
def result(spoken) -> AcousticSimilarity:
    return measurement(spoken, OPTIONS, None, {"made": "here"})


def test_two_corpora_of_one_language_are_more_alike_than_two_languages(result):
    pairs, within = result.pairs(), result.within()
    assert pairs("aa", "ab") > 0.9
    assert pairs("aa", "zz") < 0.7 and pairs("ab", "zz") < 0.7
    assert min(within.values()) > 0.9
    assert pairs("zz", "aa") == pairs("aa", "zz") and pairs("aa", "aa") == 1.0
    assert pairs("aa", "xx") is None


def test_the_numbers_follow_from_the_file_by_other_means(spoken, result, tmp_path):
    """Clusters by scikit-learn and pieces by plain replacement, from what the file holds."""
    result.write(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "numpy") as file:
        mean, scale, centres, halves = (file.get_tensor(key) for key in ("mean", "scale", "centres", "halves"))
        model = json.loads(json.loads(file.metadata()["facts"])["pieces"])["model"]
    sounds = spoken["zz"]
    counts = np.zeros((2, len(model["vocab"])), int)
    for index, clip in enumerate(sounds.clips):
        clusters = pairwise_distances_argmin((cepstral_frames(clip).astype(float) - mean) / scale, centres)
        text = [chr(FIRST + k) for k, _ in groupby(clusters)]
        for merge in model["merges"]:
            text = joined(text, tuple(merge))
        for piece in text:
            counts[index % 2, model["vocab"][piece]] += 1
    np.testing.assert_array_equal(halves[:, 2], counts)


def test_a_measurement_comes_back_from_its_file_and_a_damaged_one_is_named(result, tmp_path):
    path = tmp_path / "folder" / "a.safetensors"
    result.write(path)
    again = AcousticSimilarity.read(path)
    assert again.pairs() == result.pairs() and again.recipe == {"made": "here"} and again.minutes == 1
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BrokenFileError, match="a.safetensors: the file is cut short or damaged"):
        AcousticSimilarity.read(path)
    with pytest.raises(BrokenFileError, match="no such file"):
        AcousticSimilarity.read(path)


def test_new_audio_is_most_alike_to_its_own_language(result):
    new = result.of_audio(utterances(language(2), 6, 99), "new")
    assert set(new) == {"aa", "ab", "zz"}
    assert new["zz"] > 0.85 > 0.75 > max(new["aa"], new["ab"])
    with pytest.raises(DataError, match="new: 0.0 s of audio are too little"):
        result.of_audio(Samples([np.zeros(300, np.int16)]), "new")


def test_less_audio_of_a_language_leaves_it_as_alike(spoken, result):
    """The plain cosine would be lower with a quarter of the audio, by what chance does."""
    few = measurement({**spoken, "ab": spoken["ab"].take(range(5))}, OPTIONS, None, {})
    assert few.pairs()("aa", "ab") > 0.85 and few.pairs()("ab", "zz") < 0.7
    plain = [1 - cosine(*counts[:2].astype(float)) for counts in (result.counts, few.counts)]
    assert plain[1] < plain[0] - 0.05 < few.pairs()("aa", "ab") - 0.05


def test_what_cannot_be_compared_is_named(spoken):
    with pytest.raises(DataError, match="zz: one clip in this language is too little"):
        measurement({**spoken, "zz": spoken["zz"].take([0])}, OPTIONS, None, {})
    short = {name: sounds.take([0, 1]) for name, sounds in spoken.items()}
    with pytest.raises(DataError, match="frames of all languages cannot form 2000 clusters; lower similarity.acoustic"):
        measurement(short, Acoustic(clusters=2000, pieces=2000), None, {})


def test_frames_of_an_encoder_are_those_of_transformers(tiny_model, tmp_path):
    torch.manual_seed(0)
    network = encoder_model(None, tiny_model, 0.0)
    save_encoder(network, network.state_dict(), tmp_path / "start")
    rng = np.random.default_rng(0)
    clips = [(3000 * rng.standard_normal(length)).astype(np.int16) for length in (9000, 16000, 100, 7000)]
    found = frames_of(Samples(clips), str(tmp_path / "start"), None)
    encoder = network.base_model.eval()
    for clip, frames in zip(clips, found, strict=True):
        x = torch.from_numpy(clip.astype(np.float32) / 32768)
        x = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
        if len(clip) == 100:
            assert not len(frames)
            continue
        with torch.no_grad():
            states = encoder(x[None], output_hidden_states=True).hidden_states
        np.testing.assert_allclose(frames, states[1][0].numpy(), atol=2e-4)
    with pytest.raises(DataError, match="has 2 layers, there is no layer 3"):
        frames_of(Samples(clips), str(tmp_path / "start"), 3)


def test_the_job_takes_as_much_of_each_corpus_and_says_what_it_did(make_clips, tmp_path):
    chain = language(3)
    splits = []
    for number, count in enumerate((12, 4, 12)):
        folder = tmp_path / f"corpus{number}"
        folder.mkdir()
        clips = utterances(chain if number < 2 else language(4), count, number, seconds=1.0).clips
        make_clips(folder, [clip / 32768 for clip in clips])
        splits.append({"features": str(folder / "a.parquet"), "audio": str(folder / "a.arrow")})
    options = Acoustic(minutes=0.1, clusters=8, pieces=20)
    job = SimilarityJob.of(
        languages={"aa": splits[:2], "zz": splits[2:]}, encoder=None, settings=options, output=str(tmp_path / "s.st")
    )
    drawn = drawn_clips(job.languages["aa"], 0.1)
    assert {split.features for split in drawn.splits} == {split["features"] for split in splits[:2]}
    assert drawn.seconds <= 6 and np.bincount(drawn.split).tolist() == [2, 2]
    measure_similarity(job)
    first = (tmp_path / "s.st").read_bytes()
    measure_similarity(job)
    assert (tmp_path / "s.st").read_bytes() == first
    result = AcousticSimilarity.read(tmp_path / "s.st")
    assert result.languages == ["aa", "zz"]
    assert recorded_recipe(tmp_path / "s.st") == similarity_recipe(job)
    assert result.recipe["settings"]["clusters"] == 8 and set(result.recipe["content"]) == {"aa", "zz"}
    assert count_similarity(*result.counts) < 1
