"""The encoder: faster or simpler code of ours gives transformers' results."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from headstart.analyse.analysis import analyse_start
from headstart.encoder import model
from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import (
    ctc_model,
    encoder_model,
    export_start,
    load_config,
    load_heads,
    save_ctc,
    save_encoder,
)
from headstart.encoder.front_end import frame_counts, frame_stride, front_end, prepared_audio, samples_for
from headstart.encoder.model import initialise_filterbank, new_config, span_mask
from headstart.jobs import AnalyseJob, ScoreJob
from headstart.score.scoring import score_run
from headstart.study.analyse import Analyse
from headstart.study.text import Text
from headstart.text.normalisation import build_vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

FRONT_ENDS = {
    "wav2vec 2.0": ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)),
    "short": ((20, 16, 8), (10, 8, 4)),
    "filterbank": ((400, 4), (160, 2)),
    "no overlap": ((160, 2), (160, 2)),
    "uneven": ((11, 5, 7), (4, 3, 2)),
}
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
    "pad_token_id": 0,
}


def config_of(front: str, bias: bool = True, **settings) -> Wav2Vec2Config:
    kernels, strides = FRONT_ENDS[front]
    dims = tuple(8 + 4 * i for i in range(len(kernels)))
    large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    shape = {"conv_kernel": kernels, "conv_stride": strides, "conv_dim": dims, "conv_bias": bias}
    return Wav2Vec2Config(**{**SHAPE, **large, **shape, **settings})


def randomise(network: torch.nn.Module) -> None:
    """Random values also where a new network has zeros or ones, so that nothing is compared to nothing."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim <= 1:
                parameter += 0.2 * torch.randn_like(parameter)


def clips_of(*lengths: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.integers(-8000, 8000, length).astype(np.int16)) for length in lengths]


@pytest.mark.parametrize(("norm", "bias"), [("layer", True), ("layer", False), ("group", False), ("group", True)])
@pytest.mark.parametrize("front", FRONT_ENDS)
def test_the_front_end_and_its_gradients_are_those_of_transformers(front, norm, bias):
    torch.manual_seed(0)
    network = Wav2Vec2Model(config_of(front, bias, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"))
    extractor = network.feature_extractor
    randomise(extractor)
    for samples in (6000, 6001, 6079, 6159):
        audio = torch.randn(2, samples)
        results = []
        counts = torch.full((2,), samples)
        for run in (lambda x: extractor(x).transpose(1, 2), lambda x, n=counts: front_end(network, x, n)):
            extractor.zero_grad()
            features = run(audio)
            features.square().sum().backward()
            grads = {n: p.grad.clone() for n, p in extractor.named_parameters() if p.grad is not None}
            results.append((features.detach(), grads))
        (theirs, their_grads), (ours, our_grads) = results
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        if norm == "group":
            their_grads.pop("conv_layers.0.conv.bias", None)  # rounding noise: the norm takes this bias off again
        for name, gradient in their_grads.items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(our_grads[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_a_group_norm_front_end_takes_its_statistics_from_the_clip_and_not_from_its_padding():
    """Also of audio that is mostly hum, which a filter may suppress; and so do gradients."""
    torch.manual_seed(0)
    network = Wav2Vec2Model(config_of("wav2vec 2.0", False, feat_extract_norm="group", do_stable_layer_norm=False))
    extractor = network.feature_extractor
    randomise(extractor)
    with torch.no_grad():
        extractor.conv_layers[0].conv.weight[0, 0] = torch.tensor([3.0, -9.0, 9.0, -3.0, 0, 0, 0, 0, 0, 0])
    time = torch.arange(9000) / 16_000
    hum = torch.sin(2 * torch.pi * 50 * time) + 1e-3 * torch.randn(9000) + 0.5
    clips = [hum, torch.randn(4000), 0.01 * torch.randn(6500)]
    padded, samples = torch.zeros(3, 10_000), torch.tensor([len(clip) for clip in clips])
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    theirs = [extractor(clip[None])[0].T for clip in clips]
    sum(features.square().sum() for features in theirs).backward()
    gradient = extractor.conv_layers[0].conv.weight.grad.clone()
    extractor.zero_grad()

    frames = frame_counts(network.config, samples).tolist()
    ours = [row[:count] for row, count in zip(front_end(network, padded, samples), frames, strict=True)]
    sum(features.square().sum() for features in ours).backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-4)
    scale = gradient.abs().max().item()
    torch.testing.assert_close(extractor.conv_layers[0].conv.weight.grad, gradient, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("front", FRONT_ENDS)
def test_frames_are_counted_as_transformers_counts_them(front):
    config = config_of(front)
    network = Wav2Vec2Model(config)
    samples = torch.randint(500, 50_000, (200,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(frame_counts(config, samples), network._get_feat_extract_output_lengths(samples))
    made = front_end(network, torch.zeros(1, int(samples[0])), samples[:1]).shape[1]
    assert frame_counts(config, samples[:1]).item() == made


@pytest.mark.parametrize("front", FRONT_ENDS)
def test_the_fewest_samples_for_so_many_frames(front):
    config = config_of(front)
    for frames in (1, 2, 3, 31, 32, 500):
        samples = samples_for(config, frames)
        assert frame_counts(config, torch.tensor([samples - 1, samples])).tolist() == [frames - 1, frames]
        assert samples_for(config, frames + 1) - samples == frame_stride(config)


def test_a_clip_shorter_than_one_frame_has_none():
    counts = frame_counts(config_of("wav2vec 2.0"), torch.tensor([0, 5, 100, 399, 400]))
    assert counts.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("do_normalize", [True, False])
def test_audio_is_prepared_as_the_feature_extractor_does(do_normalize):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True)
    config = config_of("short")
    config.do_normalize = do_normalize
    clips = [*clips_of(3000, 5000), clips_of(4000)[0] // 4000]  # the last is very quiet
    arrays = [clip.numpy().astype(np.float32) / 32768 for clip in clips]
    theirs = extractor(arrays, sampling_rate=16000, padding=True, return_tensors="pt")
    for given in (clips, [torch.from_numpy(array) for array in arrays]):
        audio, samples = prepared_audio(config, given, 5000)
        torch.testing.assert_close(audio, theirs["input_values"], rtol=1e-4, atol=1e-5)
        assert samples.tolist() == theirs["attention_mask"].sum(1).tolist()


# -------------------------------------------------------------------------------------------------- masks


def spans_of(row: torch.Tensor) -> list[int]:
    """Lengths of the runs of True."""
    edges = torch.diff(torch.cat([torch.zeros(1), row.float(), torch.zeros(1)]))
    return (torch.nonzero(edges < 0) - torch.nonzero(edges > 0)).flatten().tolist()


def test_masks_cover_their_share_in_spans_within_each_row():
    torch.manual_seed(0)
    lengths = torch.randint(100, 500, (400,))
    mask = span_mask(lengths, 512, share=0.65, span=10)
    assert mask.shape == (400, 512) and mask.dtype == torch.bool
    assert not (mask & (torch.arange(512)[None] >= lengths[:, None])).any()
    # 0.065 of the frames start a span, drawn without replacement: a frame stays bare with probability 0.935^10.
    covered = (mask.sum(1) / lengths).mean().item()
    assert covered == pytest.approx(1 - 0.935**10, abs=0.01)
    assert all(length >= 10 for row in mask for length in spans_of(row))


def test_every_frame_is_masked_about_as_often_and_no_two_rows_alike():
    torch.manual_seed(0)
    mask = span_mask(torch.full((4000,), 60), 64, share=0.3, span=5).float()
    inner = mask[:, 4:56].mean(0)
    assert inner.min() > 0.85 * inner.mean() and inner.max() < 1.15 * inner.mean()
    assert len(torch.unique(mask, dim=0)) > 3500


def test_a_row_as_short_as_a_span_still_gets_one_and_no_share_means_no_mask():
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 9, 10, 11, 12])
    mask = span_mask(lengths, 16, share=0.65, span=10)
    assert (mask.sum(1) >= 1).all() and (mask.sum(1) <= lengths).all()
    assert not span_mask(lengths, 16, share=0.0, span=10).any()


def test_a_mask_is_a_function_of_its_generator():
    lengths = torch.full((3,), 100)
    draws = [span_mask(lengths, 100, 0.5, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# ------------------------------------------------------------------------------------ initial weights and files


def test_a_new_front_end_starts_as_a_filterbank(tiny_model):
    """A pure tone, at any phase, excites the bands at its frequency most, and mixtures do not depend on its phase."""
    torch.manual_seed(0)
    first, second = torch.nn.Conv1d(1, 160, 400, 160), torch.nn.Conv1d(160, 24, 4, 2)
    initialise_filterbank(first, second)
    spectra = np.abs(np.fft.rfft(first.weight[:, 0].detach().numpy(), 16_000))  # one bin a Hz: an independent view
    centres = spectra[:40].argmax(1)
    assert np.all(np.diff(centres) > 0) and centres[0] < 100 and centres[-1] > 7000
    for hz in (250, 440, 1000, 2000, 3300, 6000):
        outputs = []
        for phase in (0.0, 0.8, 1.6, 2.9):
            time = torch.arange(16_000) / 16_000
            tone = torch.sin(2 * torch.pi * hz * time + phase)[None, None]
            with torch.no_grad():
                rectified = torch.relu(torch.nn.functional.conv1d(tone, first.weight, stride=160))
                outputs.append(torch.nn.functional.conv1d(rectified, second.weight, stride=2))
            bands = rectified.mean(2)[0].view(4, 40).sum(0).numpy()
            loudest = int(bands.argmax())
            assert abs(int(np.abs(centres - hz).argmin()) - loudest) <= 1
        spread = torch.stack([output.mean(2) for output in outputs]).std(0).mean()
        assert spread < 0.2 * outputs[0].mean(2).std()


def test_only_a_long_first_filter_begins_as_a_filterbank(tiny_model, monkeypatch):
    seen = []
    monkeypatch.setattr(model, "initialise_filterbank", lambda *layers: seen.append(layers))
    for config in (new_config(tiny_model), config_of("wav2vec 2.0")):
        network = Wav2Vec2Model(config)
        model.initialise(network)
        assert model.begins_as_filterbank(network) == (config.conv_kernel[0] == 400)
    assert [[layer.kernel_size[0] for layer in layers] for layers in seen] == [[400, 4]]


def test_an_encoder_comes_back_as_it_was_saved(tiny_model, tmp_path):
    torch.manual_seed(0)
    network = Wav2Vec2Model(new_config(tiny_model)).eval()
    randomise(network)
    save_encoder(network, network.state_dict(), tmp_path)
    again, report = Wav2Vec2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert {n: p.tolist() for n, p in again.state_dict().items()} == {
        n: p.tolist() for n, p in network.state_dict().items()
    }
    audio = torch.randn(1, 8000)
    with torch.no_grad():
        assert torch.equal(again(audio).last_hidden_state, network(audio).last_hidden_state)
    prepared = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    assert prepared.do_normalize and prepared.return_attention_mask and prepared.sampling_rate == 16000


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing: no config.json"):
        load_config(tmp_path / "nothing")


def test_a_checkpoint_without_the_encoders_weights_is_refused(tiny_model, tmp_path):
    """Loading it would leave the encoder random, and the study would compare two scratch starts."""
    network = Wav2Vec2Model(new_config(tiny_model))
    weights = {name: value for name, value in network.state_dict().items() if "layers.1." not in name}
    save_encoder(network, weights, tmp_path)
    with pytest.raises(CheckpointError, match=r"no weights for \d+ parameters of its encoder"):
        ctc_model(tmp_path, None, {"<pad>": 0, "a": 1}, 0.0)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ctc_model(tmp_path, None, {"<pad>": 0, "a": 1}, 0.0)


def damaged(folder: Path, name: str, value: float, count: int = 1) -> str:
    """The checkpoint with `count` weights of one tensor set to `value`; what the error says of it."""
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[:count] = value
    size = weights[name].numel()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return f"{folder}.*not finite: {count} of the {size} of .*{name}, the first of 1 such"


def test_a_start_with_weights_that_are_not_finite_is_refused_by_name(tiny_model, tmp_path):
    network = encoder_model(None, tiny_model, 0.0)
    network.predictor = torch.nn.Linear(32, 32)
    save_encoder(network, network.state_dict(), tmp_path)
    message = damaged(tmp_path, "predictor.weight", math.inf)
    again = encoder_model(tmp_path, None, 0.0)
    again.predictor = torch.nn.Linear(32, 32)
    with pytest.raises(CheckpointError, match=message):
        load_heads(again, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        export_start(tmp_path, tmp_path / "shipped")
    damaged(tmp_path, "predictor.weight", 1e6)  # more than float16 holds
    with pytest.raises(CheckpointError, match="in float16.*predictor.weight"):
        export_start(tmp_path, tmp_path / "shipped")
    damaged(tmp_path, "predictor.weight", 0.0)
    message = damaged(tmp_path, "wav2vec2.encoder.layers.1.attention.k_proj.weight", math.nan, 3).replace(
        "wav2vec2.", ""
    )
    with pytest.raises(CheckpointError, match=message):
        encoder_model(tmp_path, None, 0.0)
    with pytest.raises(CheckpointError, match=message):
        ctc_model(tmp_path, None, {"<pad>": 0, "a": 1}, 0.0)


def test_a_finished_run_with_weights_that_are_not_finite_is_neither_scored_nor_analysed(
    tiny_model, noise_clips, tmp_path
):
    vocabulary = build_vocabulary(["ab"])
    network = ctc_model(None, tiny_model, vocabulary, 0.0)
    save_ctc(network, network.state_dict(), vocabulary, tmp_path / "run")
    features, run = str(noise_clips.splits[0].features), str(tmp_path / "run")
    test = {"features": features, "audio": features.replace(".parquet", ".arrow")}
    job = ScoreJob.of(run=run, test=test, text=Text(), output=str(tmp_path / "scores.parquet"))
    score_run(job)
    message = damaged(tmp_path / "run", "lm_head.weight", math.nan)
    with pytest.raises(CheckpointError, match=message):
        score_run(job)
    damaged(tmp_path / "run", "lm_head.weight", 0.0)
    message = damaged(tmp_path / "run", "wav2vec2.feature_projection.projection.bias", math.inf)
    with pytest.raises(CheckpointError, match=message.replace("wav2vec2.", "")):
        output = str(tmp_path / "similarities.parquet")
        analyse_start(AnalyseJob.of(start=run, runs={1: run}, test=test, settings=Analyse(), output=output))
