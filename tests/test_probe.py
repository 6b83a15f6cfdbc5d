"""Probes: linear CTC as plain torch trains it, hidden states as transformers computes them, and the job around them."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from headstart.analyse.analysis import layers_of
from headstart.corpora.manifests import read_table, write_table
from headstart.encoder.checkpoints import encoder_model, save_encoder
from headstart.errors import DataError
from headstart.jobs import ProbeJob
from headstart.probe import probing
from headstart.probe.linear_ctc import LinearCtc
from headstart.probe.probing import PROBES, probe_start
from headstart.probe.states import States, standardise, states_of
from headstart.study.probe import Probe
from headstart.subsets import SUBSET, draw_subset
from headstart.training.batching import endless_batches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def start(tiny_model, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    network = encoder_model(None, tiny_model, 0.0)
    save_encoder(network, network.state_dict(), folder)
    return str(folder)


def random_states(seed: int, lengths: list[int], layers: int = 3, width: int = 12) -> States:
    frames = np.array(lengths)
    values = torch.randn(layers, int(frames.sum()), width, generator=torch.Generator().manual_seed(seed))
    return States(values, np.cumsum(frames) - frames, frames)


LENGTHS = [40, 25, 60, 33, 48]
LABELS = [[1, 2, 2, 3], [3, 1], [1, 2, 3, 1, 1, 2], [2], [3, 2, 1]]


def test_states_are_those_of_transformers_for_each_clip_alone(start, noise_clips):
    theirs = AutoModel.from_pretrained(start).eval()
    states = states_of(encoder_model(start, None, 0.0).base_model.eval(), noise_clips, range(3))
    assert states.values.shape == (3, states.frames.sum(), 32)
    for index in (0, 4, 9):
        clip = torch.from_numpy(noise_clips.audio(index).astype(np.float32) / 32768)
        clip = (clip - clip.mean()) / torch.sqrt(clip.var(correction=0) + 1e-7)
        with torch.no_grad():
            found = theirs(clip[None], output_hidden_states=True)
        for layer in (0, 1):
            torch.testing.assert_close(states.clip(index)[layer], found.hidden_states[layer][0], rtol=1e-3, atol=1e-4)
        # transformers' last state is that of the last layer after one more norm.
        last = theirs.encoder.layer_norm(states.clip(index)[2])
        torch.testing.assert_close(last, found.last_hidden_state[0], rtol=1e-3, atol=1e-4)


def test_some_layers_are_the_same_as_all(start, noise_clips):
    encoder = encoder_model(start, None, 0.0).base_model.eval()
    some, every = states_of(encoder, noise_clips, range(1, 3)), states_of(encoder, noise_clips, range(3))
    assert torch.equal(some.values, every.values[1:])
    (alone,) = layers_of(encoder, noise_clips, [3])
    torch.testing.assert_close(every.clip(3)[1], alone[1], rtol=1e-3, atol=1e-4)


def test_standardised_channels_have_mean_0_and_together_norm_1():
    train, dev = random_states(0, LENGTHS), random_states(1, [30])
    for states in (train, dev):
        states.values.mul_(5.0).add_(3.0)
    before = dev.values.clone()
    mean, deviation = train.values.mean(1, keepdim=True), train.values.std(1, keepdim=True)
    standardise(train, dev)
    assert train.values.mean(1).abs().max() < 1e-5
    torch.testing.assert_close(train.values.square().sum(2).mean(1), torch.full((3,), 1.0), rtol=0.01, atol=0)
    torch.testing.assert_close(dev.values, (before - mean) / deviation / 12**0.5)


def test_layers_side_by_side_learn_what_plain_torch_learns_of_each_alone():
    """The reference has one `nn.Linear` for each layer, and CTC one utterance after the other."""
    states, settings = random_states(2, LENGTHS), Probe(updates=30, batch_seconds=1.5, learning_rate=0.05)
    probe = LinearCtc(layers=3, width=12, labels=4, blank=0)
    probe.train(states, LABELS, settings, frame_s=0.02, seed=7)
    for layer in range(3):
        linear = torch.nn.Linear(12, 4)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        optimiser = torch.optim.Adam(linear.parameters(), lr=1.0, betas=(0.9, 0.98))
        batches = endless_batches(states.frames, 75, 32, 7)
        for update, (_, batch) in zip(range(30), batches, strict=False):
            total = torch.zeros(())
            for index in batch:
                log_probs = linear(states.clip(index)[layer]).log_softmax(-1)[:, None]
                lengths = torch.tensor([len(log_probs)]), torch.tensor([len(LABELS[index])])
                label = torch.tensor([LABELS[index]])
                total = total + torch.nn.functional.ctc_loss(log_probs, label, *lengths, reduction="sum")
            loss = total / sum(len(LABELS[index]) for index in batch)
            assert probe.losses[update][layer] == pytest.approx(loss.item(), rel=2e-4), (layer, update)
            optimiser.param_groups[0]["lr"] = 0.05 * (1 - update / 30)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert len(set(probe.losses[-1].tolist())) == 3 and torch.stack(probe.losses).isfinite().all()


def test_a_layer_that_spells_the_labels_is_told_from_one_that_does_not():
    """Layer 1 has a channel for each label, layer 0 has noise."""
    rng = np.random.default_rng(0)

    def spoken(count: int) -> tuple[States, list[list[int]]]:
        labels = [rng.integers(1, 5, 6).tolist() for _ in range(count)]
        spelt = [label for clip in labels for letter in clip for label in (letter, letter, 0)]
        values = 0.15 * torch.from_numpy(rng.standard_normal((2, len(spelt), 8)).astype(np.float32))
        values[1, torch.arange(len(spelt)), torch.tensor(spelt)] += 1.0
        return States(values, 18 * np.arange(count), np.full(count, 18)), labels

    (train, labels), (dev, truth) = spoken(60), spoken(20)
    standardise(train, dev)
    probe = LinearCtc(layers=2, width=8, labels=5, blank=0)
    probe.train(train, labels, Probe(updates=120, batch_seconds=4.0), frame_s=0.02, seed=0)
    right = [0, 0]
    for index, label in enumerate(truth):
        for layer, path in enumerate(probe.best_paths(dev, index)):
            right[layer] += [k for k, before in zip(path, [0, *path], strict=False) if k != before and k] == label
    assert right[1] >= 15 and right[0] <= 2


def job_of(english, tmp_path, starts, model=None, **settings) -> ProbeJob:
    subsets = {}
    for seed in starts:
        subsets[seed] = str(tmp_path / f"subset{seed}.parquet")
        draw_subset(english["train"]["features"], "20s", seed, subsets[seed])
    options = {"updates": 10, "dev_minutes": 0.1, **settings}
    files = {"train": english["train"], "dev": english["dev"], "subsets": subsets, "seed_offset": 0, "text": {}}
    return ProbeJob.of(starts=starts, model=model, settings=options, output=str(tmp_path / "probe.parquet"), **files)


def rows_of(job: ProbeJob) -> list[dict]:
    probe_start(job)
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_table(job.output, PROBES)]


def test_the_same_rows_twice_and_whatever_fits_in_memory(english, start, tmp_path, monkeypatch):
    job = job_of(english, tmp_path, {1: start, 2: start})
    rows = rows_of(job)
    assert [(row["seed"], row["layer"]) for row in rows] == [(seed, layer) for seed in (1, 2) for layer in range(3)]
    assert rows_of(job) == rows and rows[:3] != rows[3:]
    assert all(row["seconds"] > 0 for row in read_table(job.output, PROBES))
    monkeypatch.setattr(probing, "STATES_BYTES", 1)  # one layer after the other
    for row, other in zip(rows_of(job), rows, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_random_weights_are_those_of_the_seed_and_only_so_many_minutes_are_used(english, tiny_model, tmp_path):
    job = job_of(english, tmp_path, {1: None}, tiny_model)
    rows = rows_of(job)
    assert rows_of(job) == rows
    assert rows_of(job.model_copy(update={"seed_offset": 1})) != rows
    train, dev = probing.chosen_clips(job_of(english, tmp_path, {1: None}, tiny_model, minutes=0.15), 1)
    assert 4 < train.seconds <= 9 and dev.seconds <= 6.1


def test_a_probe_of_speech_learns(english, tmp_path, tiny_model):
    """The filterbank of random weights suffices for some letters."""
    model = tiny_model.model_copy(update={"conv_dim": (80, 64), "hidden_size": 64, "heads": 2})
    rows = rows_of(job_of(english, tmp_path, {1: None}, model, updates=100, batch_seconds=12.0))
    assert min(row["cer"] for row in rows) < 0.95
    assert rows[0]["train_loss"] < 2.6  # less than that of a model that knows only how frequent letters are


def test_a_budget_without_an_utterance_to_use_is_named(english, start, tmp_path):
    job = job_of(english, tmp_path, {1: start})
    write_table(job.subsets[1], [], SUBSET)
    with pytest.raises(DataError, match=r"subset1.parquet: no training utterance"):
        probe_start(job)
