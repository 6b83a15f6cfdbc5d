"""BEST-RQ: features, codes and loss against a plain computation, clip by clip, and whether it learns."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from headstart.encoder.checkpoints import save_encoder
from headstart.encoder.front_end import frame_counts, prepared_audio
from headstart.encoder.model import new_config
from headstart.objectives.best_rq import mel_filters, nearest_codes, stacked_log_mel
from headstart.pretrain import make_objective, ssl_network
from headstart.study.pretrain import Pretrain
from headstart.training import loop as training
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"objective": "best-rq", "batch_seconds": 6.0, "crop_seconds": 1.0, "mask_length": 4}


def objective_of(tiny_model, clips, codebooks: int = 1, entries: int = 16, **settings):
    own = {"codebooks": codebooks, "entries": entries}
    options = Pretrain(**{**SETTINGS, "best_rq": own, **settings})
    return make_objective(ssl_network(None, tiny_model, options, clips, 7), clips, options, True, seed=3)


def plain_mel_filters() -> np.ndarray:
    """80 triangles between 20 Hz and 8 kHz, evenly spaced on the mel scale, at the bins of 512 points: (80, 257)."""
    edges = 700 * (np.exp(np.linspace(*(1127 * np.log(1 + hz / 700) for hz in (20, 8000)), 82) / 1127) - 1)
    bins = np.linspace(0, 8000, 257)
    return np.stack([np.interp(bins, edges[m : m + 3], [0, 1, 0]) for m in range(80)])


def plain_log_mel(samples: np.ndarray, frames: int) -> np.ndarray:
    """Normalised log-mel features of the default front-end's frames: 880 samples every 320, windows by hand."""
    bands, rows = plain_mel_filters(), []
    for t in range(frames):
        middle = 320 * t + 440
        row = []
        for begin in (middle - 280, middle - 120):
            window = samples[begin : begin + 400].astype(float)
            assert len(window) == 400
            window = (window - window.mean()) * np.hanning(401)[:400]
            row.append(np.log(bands @ np.abs(np.fft.rfft(window, 512)) ** 2 + 1e-6))
        rows.append(np.concatenate(row))
    rows = np.stack(rows)
    return (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)


def plain_codes(features: np.ndarray, projection: np.ndarray, codebook: np.ndarray) -> list[int]:
    """The entry at the least distance from each projected frame, both of unit length."""
    codes = []
    for row in features:
        projected = row @ projection
        projected /= np.linalg.norm(projected)
        distances = [np.linalg.norm(projected - entry / np.linalg.norm(entry)) for entry in codebook]
        codes.append(int(np.argmin(distances)))
    return codes


def test_mel_filters_are_triangles_on_the_mel_scale():
    np.testing.assert_allclose(mel_filters().T, plain_mel_filters(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_loss_and_metrics_are_those_of_a_plain_loop(codebooks, tiny_model, noise_clips):
    objective = objective_of(tiny_model, noise_clips, codebooks)
    network, config = objective.network, objective.network.config
    batch = next(objective.batches(0))
    positions = list(range(len(batch.clips)))
    torch.manual_seed(1)
    shared = objective.prepare(batch, 1, [positions], Ranks())
    loss, metrics = objective.loss(batch, shared, positions, 1)

    quantiser, encoder = network.best_rq, network.base_model.eval()
    total = correct = 0.0
    seen: list[list[int]] = []
    for row, index in enumerate(batch.clips):
        length = int(objective.lengths[index])
        audio, _ = prepared_audio(config, [objective._crop(index, batch.epoch)], length)
        frames = int(frame_counts(config, torch.tensor(length)))
        features = plain_log_mel(audio[0].numpy(), frames)
        mask = shared.mask_BT[row : row + 1, :frames]
        assert not shared.mask_BT[row, frames:].any()
        with torch.no_grad():
            scores = quantiser.head(encoder(audio, mask_time_indices=mask).last_hidden_state)[0]
        every = [
            plain_codes(features, quantiser.projection[g].numpy(), quantiser.codebooks[g].numpy())
            for g in range(codebooks)
        ]
        for t in mask[0].nonzero()[:, 0].tolist():
            seen.append([codes[t] for codes in every])
            for g in range(codebooks):
                own = scores[t, 16 * g : 16 * (g + 1)]
                total += F.cross_entropy(own[None], torch.tensor([every[g][t]])).item() / codebooks
                correct += (int(own.argmax()) == every[g][t]) / codebooks
    assert shared.masked == len(seen) > 50
    entropies = []
    for g in range(codebooks):
        shares = np.bincount([codes[g] for codes in seen]) / len(seen)
        entropies.append(-sum(p * math.log(p) for p in shares if p))
    assert loss.item() == pytest.approx(total / len(seen), rel=1e-4)
    expected = [total, correct, np.mean(entropies) * len(seen), np.mean(np.exp(entropies)) * len(seen)]
    names = ("code_loss", "code_accuracy", "trivial_loss", "code_perplexity")
    assert [metrics[name] * len(seen) for name in names] == pytest.approx(expected, rel=1e-4)


def test_padding_changes_no_feature(tiny_model, noise_clips):
    config = new_config(tiny_model)
    clips = [torch.from_numpy(noise_clips.audio(i).copy()) for i in (0, 5)]
    longest = max(map(len, clips))
    (one, samples), (other, _) = (prepared_audio(config, clips, length) for length in (longest, longest + 7777))
    frames = frame_counts(config, samples)
    one, other = stacked_log_mel(config, one, samples), stacked_log_mel(config, other, samples)
    for row, count in enumerate(frames):
        torch.testing.assert_close(one[row, :count], other[row, :count], rtol=0, atol=1e-5)
        assert not other[row, count:].any()
        assert one[row, :count].mean(0).abs().max() < 1e-5
        torch.testing.assert_close(one[row, :count].var(0, correction=0), torch.ones(160), rtol=1e-3, atol=0)


@pytest.mark.parametrize("stride", [80, 160, 320, 400, 640])
def test_windows_lie_over_what_a_frame_is_made_from(stride, tiny_model):
    """A click is in the features of the frames about it, whatever the stride of the front-end."""
    shape = {"conv_kernel": (10, stride // 10), "conv_stride": (10, stride // 10)}
    config = new_config(tiny_model.model_copy(update=shape))
    audio = 1e-3 * torch.randn(1, 16_000)
    audio[0, 8000] += 100.0
    features = stacked_log_mel(config, audio, torch.tensor([16_000]))[0]
    assert len(features) == int(frame_counts(config, torch.tensor(16_000)))
    assert features.shape[1] == 80 * max(1, round(stride / 160))
    loud = (features.mean(1) > features.mean() + 1).nonzero()[:, 0].float() * stride + stride / 2  # middles of frames
    assert len(loud) and (loud - 8000).abs().max() <= 200 + stride
    assert loud.mean().item() == pytest.approx(8000, abs=stride)


def test_the_quantiser_is_frozen_in_float32_and_saved(tiny_model, noise_clips, tmp_path):
    objective = objective_of(tiny_model, noise_clips, 2, updates=3)
    before = {name: value.clone() for name, value in objective.network.best_rq.state_dict().items()}
    assert before["codebooks"].norm(dim=-1).allclose(torch.ones(2, 16))
    batch = next(objective.batches(0))
    codes = objective.codes(batch, [0, 1])
    settings = objective.settings.model_copy(update={"precision": "bfloat16"})
    result = training.train(objective, objective.batches, settings, stage="a", recipe={}, seed=0, state_dir=tmp_path)
    assert objective.network.best_rq.codebooks.dtype == torch.bfloat16  # rounded, and not what codes come from
    assert torch.equal(objective.codes(batch, [0, 1]), codes)
    save_encoder(objective.network, result.weights, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    for name in ("projection", "codebooks"):
        assert torch.equal(saved[f"best_rq.{name}"], before[name])
    assert not torch.equal(saved["best_rq.head.weight"], before["head.weight"])
    options = objective.settings
    again = make_objective(ssl_network(str(tmp_path), None, options, noise_clips, 99), noise_clips, options, True, 3)
    assert torch.equal(again.codes(batch, [0, 1]), codes)
    new = ssl_network(None, tiny_model, options, noise_clips, 99)
    assert not torch.equal(new.best_rq.codebooks, before["codebooks"])
    more = options.model_copy(update={"best_rq": options.best_rq.model_copy(update={"entries": 32})})
    assert ssl_network(str(tmp_path), None, more, noise_clips, 1).best_rq.codebooks.shape[1] == 32  # new


def test_frames_are_spread_over_the_codes(tiny_model, noise_clips):
    """As the paper asks of normalised input: without it, nearly all frames have the same few codes."""
    torch.manual_seed(0)
    features = torch.randn(1, 5000, 160)
    quantiser = objective_of(tiny_model, noise_clips).network.best_rq

    def used(x: torch.Tensor) -> float:
        counts = torch.bincount(nearest_codes(x, quantiser.projection, quantiser.codebooks).flatten(), minlength=16)
        return torch.special.entr(counts / counts.sum()).sum().exp().item()

    assert used(features) > 12 > 6 > used(features + 5.0)


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"code_perplexity": 1.1}, "all frames have the same code .perplexity 1.10."),
        ({"code_loss": 2.5}, "a network that knows nothing .2.500 of 2.500.; raise learning_rate"),
    ],
)
def test_a_collapsed_run_is_told_what_to_change(row, advice, tiny_model, noise_clips, check_advice):
    objective = objective_of(tiny_model, noise_clips, patience=4)
    healthy = {"code_loss": 2.0, "trivial_loss": 2.5, "code_accuracy": 0.3, "code_perplexity": 12.0}
    check_advice(objective, healthy, row, advice)


def test_it_learns(learner):
    curve, probe, random_probe = learner(objective="best-rq", updates=400, best_rq={"entries": 64, "codebooks": 4})
    assert curve[0]["code_loss"] > 0.95 * curve[0]["trivial_loss"]
    assert curve[-1]["code_loss"] < 0.98 * curve[-1]["trivial_loss"]
    assert curve[-1]["code_accuracy"] > 2 * curve[0]["code_accuracy"]
    assert probe < random_probe - 0.1
