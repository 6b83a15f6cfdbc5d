"""Clips that begin at another sample of their first frame each time they are used."""

from collections import Counter

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from headstart.encoder.checkpoints import ctc_model
from headstart.encoder.front_end import frame_counts, frame_stride, samples_for
from headstart.encoder.model import new_config
from headstart.objectives.ctc import CtcObjective, required_frames
from headstart.objectives.shifts import Shifts
from headstart.pretrain import make_objective, ssl_network
from headstart.study.finetune import Finetune
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Semisup
from headstart.study.text import Text
from headstart.text.normalisation import build_vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")
PLACES = 4


@pytest.fixture(scope="module")
def config(tiny_model):
    return new_config(tiny_model)


def test_places_are_spaced_over_a_frame_and_equally_likely(config):
    shifts, stride = Shifts(PLACES, config, seed=3), frame_stride(config)
    drawn = Counter(shifts.draw(epoch, index, 16000) for epoch in range(20) for index in range(100))
    assert set(drawn) == {place * stride // PLACES for place in range(PLACES)}
    assert all(abs(count - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75) for count in drawn.values())
    assert max(drawn) == shifts.room < stride


def test_a_draw_depends_on_seed_epoch_and_clip_alone(config):
    def drawn(seed):
        return [Shifts(16, config, seed).draw(epoch, index, 16000) for epoch in range(5) for index in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)
    by_epoch = np.array(drawn(1)).reshape(5, 20)
    assert len({tuple(row) for row in by_epoch}) == 5  # an epoch's are not another one's


def test_with_one_place_clips_begin_at_their_first_sample(config):
    assert {Shifts(1, config, seed=3).draw(epoch, 7, 16000) for epoch in range(50)} == {0}


@pytest.mark.parametrize("spare", [0, 1, 50])
def test_the_frames_that_are_needed_remain(config, spare):
    samples = samples_for(config, 9) + spare
    drawn = [Shifts(16, config, seed=3).draw(epoch, 7, samples, frames=9) for epoch in range(50)]
    assert max(drawn) <= spare
    assert {int(frame_counts(config, torch.tensor(samples - shift))) for shift in drawn} == {9}


@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_fine_tuning_reads_the_features_of_shifted_clips(kept, tiny_model, noise_clips, monkeypatch):
    """transformers' own front-end is the reference."""
    monkeypatch.setattr("headstart.objectives.ctc.KEPT_BYTES", kept)
    vocabulary, settings = build_vocabulary(["abcd"]), Finetune(shifts=PLACES, batch_seconds=4.0)
    network = ctc_model(None, tiny_model, vocabulary, 0.0)
    objective = CtcObjective(network, vocabulary, noise_clips, noise_clips.take([0]), Text(), settings, True, seed=3)
    extractor, seen = Wav2Vec2FeatureExtractor(do_normalize=True), set()
    batches = objective.batches(0)
    for batch in (next(batches) for _ in range(8)):
        shifts = objective._drawn(batch.epoch, batch.clips)
        seen |= set(shifts)
        features_BTC, frames = objective._features(noise_clips, batch.clips, batch.shape[1], shifts)
        for i, shift, own, count in zip(batch.clips, shifts, features_BTC, frames, strict=True):
            audio = noise_clips.audio(i)[shift:] / 32768
            values = extractor(audio, sampling_rate=16000, return_tensors="pt").input_values
            with torch.no_grad():
                expected = network.base_model.feature_extractor(values.float())[0].T
            assert count == len(expected) >= required_frames(objective.references[i].as_py())
            torch.testing.assert_close(own[:count], expected, rtol=1e-4, atol=1e-4)
    assert len(seen) == PLACES


def test_fine_tuning_evaluates_clips_from_their_first_sample(tiny_model, noise_clips):
    vocabulary = build_vocabulary(["abcd"])

    def error_rates(places: int) -> dict[str, float]:
        torch.manual_seed(7)
        network = ctc_model(None, tiny_model, vocabulary, 0.0).eval()
        settings = Finetune(shifts=places)
        return CtcObjective(network, vocabulary, noise_clips, noise_clips, Text(), settings, True, seed=3).evaluate()

    assert error_rates(PLACES) == error_rates(1)


def test_pre_training_shifts_short_clips_and_crops_long_ones_anywhere(tiny_model, noise_clips):
    def begins(crop_seconds: float, places: int) -> dict[int, set[int]]:
        options = Pretrain(crop_seconds=crop_seconds, shifts=places, mask_length=4)
        network = ssl_network(None, tiny_model, options, noise_clips, 7)
        objective = make_objective(network, noise_clips, options, True, seed=3)
        found: dict[int, set[int]] = {}
        for index in range(len(noise_clips)):
            whole = noise_clips.audio(index)
            for epoch in range(40):
                crop = objective._crop(index, epoch).numpy()
                assert len(crop) == objective.lengths[index]
                (place,) = (
                    at for at in range(len(whole) - len(crop) + 1) if np.array_equal(whole[at:][: len(crop)], crop)
                )
                found.setdefault(index, set()).add(place)
        return found

    stride = frame_stride(new_config(tiny_model))
    places = {place * stride // PLACES for place in range(PLACES)}
    assert set(map(frozenset, begins(100.0, PLACES).values())) == {frozenset(places)}
    assert set(map(frozenset, begins(100.0, 1).values())) == {frozenset({0})}
    cropped = [found for index, found in begins(1.0, PLACES).items() if noise_clips.lengths[index] > 16000 + 2 * stride]
    assert cropped and all(max(found) > stride and len(found) > PLACES for found in cropped)


@pytest.mark.parametrize("settings", [Pretrain, Semisup, Finetune])
@pytest.mark.parametrize(("key", "default", "other"), [("shifts", 1, 16), ("optimiser", "adamw", "muon")])
def test_results_from_before_the_setting_stay_valid(settings, key, default, other):
    assert key not in settings().model_dump() and key not in settings(**{key: default}).model_dump()
    assert settings(**{key: other}).model_dump()[key] == other
