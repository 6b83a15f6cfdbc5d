"""The analysis of a start, by the call of the workflow: tiny encoders, seconds of noise."""

import logging

import numpy as np
import pytest
import torch

from headstart.analyse import analysis as analyse
from headstart.analyse.analysis import BLOCKS, SIMILARITIES, analyse_start, blocks_and_draws, layer_sums, layers_of
from headstart.analyse.similarity import MEASURES
from headstart.corpora.manifests import read_table
from headstart.encoder.checkpoints import ctc_model, encoder_model, save_ctc, save_encoder
from headstart.errors import DataError
from headstart.jobs import AnalyseJob
from headstart.text.normalisation import build_vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY = build_vocabulary(["ab ba"])
SETTINGS = {"minutes": 1.0, "bootstrap_replicates": 20}
LAYERS = 3


@pytest.fixture(scope="module")
def encoders(tiny_model, tmp_path_factory) -> dict[str, str]:
    """A start, a run that left its encoder as it was, and one whose second layer went its own way."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    network = encoder_model(None, tiny_model, 0.0)
    save_encoder(network, network.state_dict(), folder / "start")
    for name in ("same", "moved"):
        network = ctc_model(folder / "start", None, VOCABULARY, 0.0)
        if name == "moved":
            for parameter in network.base_model.encoder.layers[1].parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
        save_ctc(network, network.state_dict(), VOCABULARY, folder / name)
    return {name: str(folder / name) for name in ("start", "same", "moved")}


@pytest.fixture(scope="module")
def noise_files(noise_clips, tmp_path_factory) -> dict[str, str]:
    """The noise as a test split: paths of its features and its audio."""
    features = noise_clips.splits[0].features
    return {"features": str(features), "audio": str(features).replace(".parquet", ".arrow")}


def analysed(encoders, noise_files, output, runs, **settings) -> list[dict]:
    job = {"start": encoders["start"], "runs": {seed: encoders[run] for seed, run in runs.items()}}
    analyse_start(AnalyseJob.of(**job, test=noise_files, settings={**SETTINGS, **settings}, output=str(output)))
    return read_table(output, SIMILARITIES)


def test_what_stayed_as_it_was_is_1_and_what_moved_is_less(encoders, noise_files, tmp_path):
    rows = analysed(encoders, noise_files, tmp_path / "a.parquet", {7: "same", 3: "moved"})
    assert [(r["layer"], r["seed"], r["measure"]) for r in rows] == [
        (layer, seed, measure) for layer in range(LAYERS) for seed in (7, 3) for measure in MEASURES
    ]
    for row in rows:
        assert len(row["replicates"]) == 20
        if row["seed"] == 7 or row["layer"] < 2:
            assert [row["similarity"], *row["replicates"]] == pytest.approx([1.0] * 21, abs=1e-6)
        else:
            assert 0.05 < row["similarity"] < 0.99 and np.std(row["replicates"]) > 1e-4


def test_the_same_twice_and_whatever_the_batches_and_turns(encoders, noise_files, tmp_path, monkeypatch):
    runs = {1: "moved", 2: "same"}
    once = analysed(encoders, noise_files, tmp_path / "a.parquet", runs)
    assert analysed(encoders, noise_files, tmp_path / "b.parquet", runs) == once
    monkeypatch.setattr(analyse, "BATCH_SECONDS", 0.1)  # one clip a batch: no padding
    monkeypatch.setattr(analyse, "SUMS_BYTES", 1)  # one layer a turn
    for row, other in zip(analysed(encoders, noise_files, tmp_path / "c.parquet", runs), once, strict=True):
        assert row["similarity"] == pytest.approx(other["similarity"], abs=1e-4)
        assert row["replicates"] == pytest.approx(other["replicates"], abs=1e-4)


def test_a_run_is_compared_with_the_instance_that_it_began_with(encoders, noise_files, tmp_path):
    """With `per_seed`, the rows of each seed are those of its own instance alone."""
    starts, runs = {1: encoders["start"], 2: encoders["moved"]}, {1: "moved", 2: "same"}
    job = {"runs": {seed: encoders[run] for seed, run in runs.items()}, "test": noise_files, "settings": SETTINGS}
    analyse_start(AnalyseJob.of(start=starts, output=str(tmp_path / "both.parquet"), **job))
    both = read_table(tmp_path / "both.parquet", SIMILARITIES)
    for seed in starts:
        output = tmp_path / f"{seed}.parquet"
        alone = analysed({**encoders, "start": starts[seed]}, noise_files, output, {seed: runs[seed]})
        assert [row for row in both if row["seed"] == seed] == alone
    # Fine-tuning 1 changed layer 2 of its instance, and fine-tuning 2 changed it back.
    changes = {row["seed"]: row["similarity"] for row in both if row["layer"] == 2 and row["measure"] == "cka"}
    assert all(similarity < 0.99 for similarity in changes.values())


def test_padding_is_in_no_sum(encoders, noise_clips):
    encoder = encoder_model(encoders["start"], None, 0.0).base_model.eval()
    together = list(layers_of(encoder, noise_clips, list(range(len(noise_clips)))))
    for i, layers in enumerate(together):
        ((alone),) = layers_of(encoder, noise_clips, [i])
        assert len(layers) == LAYERS
        for one, other in zip(layers, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    sums = layer_sums(encoder, [encoder], noise_clips, [0] * len(noise_clips), range(LAYERS))
    x = torch.cat([layers[1] for layers in together]).double()
    torch.testing.assert_close(sums[1].xx.covariance, torch.cov(x.T, correction=0), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(sums[1].after[0][0].covariance, sums[1].xx.covariance)


def test_only_the_first_minutes_are_heard(encoders, noise_files, tmp_path):
    short = analysed(encoders, noise_files, tmp_path / "a.parquet", {1: "moved"}, minutes=0.05)
    assert short != analysed(encoders, noise_files, tmp_path / "b.parquet", {1: "moved"})


def test_utterances_are_dealt_evenly_and_runs_on_one_target_meet_the_same_draws():
    blocks, draws = blocks_and_draws(103, 50)
    assert sorted(set(blocks)) == list(range(BLOCKS)) and draws.shape == (50, BLOCKS)
    assert set(np.bincount(blocks)) == {5, 6} and blocks != sorted(blocks)
    assert (draws.sum(1) == BLOCKS).all()
    again, draws_again = blocks_and_draws(103, 50)
    assert again == blocks and torch.equal(draws_again, draws)
    assert sorted(blocks_and_draws(3, 5)[0]) == [0, 1, 2]


def test_few_frames_are_warned_of_and_none_are_refused(encoders, noise_files, make_clips, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        analysed(encoders, noise_files, tmp_path / "a.parquet", {1: "same"})
    assert "frames are few for 32 channels" in caplog.text
    make_clips(tmp_path, [0.1 * np.random.default_rng(0).standard_normal(300)])
    files = {"features": str(tmp_path / "a.parquet"), "audio": str(tmp_path / "a.arrow")}
    with pytest.raises(DataError, match="no utterance is long enough"):
        analysed(encoders, files, tmp_path / "b.parquet", {1: "same"})
