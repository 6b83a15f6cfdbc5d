"""Chunked attention: as a recogniser would compute it chunk by chunk, and blind to what comes after the look-ahead."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
)

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import ctc_model, encoder_model, finetuned_model, save_ctc
from headstart.encoder.chunked_attention import KEY, limit_attention
from headstart.encoder.chunks import Chunks, chunks_of, whole_clip
from headstart.encoder.front_end import frame_counts, front_end, length_mask, prepared_audio, samples_for
from headstart.encoder.model import encode, layer_outputs
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob
from headstart.report.cards import streaming
from headstart.score.transcription import emissions
from headstart.study.attention import ChunkedAttention
from headstart.subsets import draw_subset
from headstart.text.normalisation import build_vocabulary
from headstart.transcribe.run import open_run

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SIZES |= {"conv_dim": (8, 8), "conv_kernel": (400, 4), "conv_stride": (160, 2), "num_conv_pos_embedding_groups": 4}
STREAMED = ChunkedAttention(chunk_s=0.16, left_chunks=1, look_ahead_s=0.06)


def network(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "wav2vec2":
        config = Wav2Vec2Config(
            **SIZES, do_stable_layer_norm=True, feat_extract_norm="layer", num_conv_pos_embeddings=6
        )
        found = Wav2Vec2Model(config)
    elif family == "hubert":
        config = HubertConfig(**SIZES, feat_extract_norm="layer", num_conv_pos_embeddings=7, conv_pos_batch_norm=True)
        found = HubertModel(config)
    else:
        found = Data2VecAudioModel(Data2VecAudioConfig(**SIZES, num_conv_pos_embeddings=2, conv_pos_kernel_size=5))
    for parameter in found.parameters():  # biases that are not zero, so that padding would show
        parameter.data += 0.1 * torch.randn_like(parameter)
    return found.eval()


def by_chunks(found: torch.nn.Module, hidden_TD: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """The reference: one chunk after the other, with the earlier chunks' hidden states kept for each layer.

    The positional convolution is transformers' own, of a clip that ends where the look-ahead does.
    """
    transformer, outputs = found.encoder, []
    stable = getattr(found.config, "do_stable_layer_norm", False)
    kept = [[] for _ in transformer.layers]  # of each layer, the keys and values of each chunk's own frames
    for begin in range(0, len(hidden_TD), chunks.size):
        heard = hidden_TD[: begin + chunks.width]
        block = (heard + transformer.pos_conv_embed(heard[None])[0])[begin:]
        own = min(chunks.size, len(block))
        if not stable:
            block = transformer.layer_norm(block)
        for layer, memory in zip(transformer.layers, kept, strict=True):
            attention = layer.attention
            into = layer.layer_norm(block) if stable else block
            query, key, value = (getattr(attention, f"{name}_proj")(into) for name in "qkv")
            earlier = memory if chunks.left is None else memory[len(memory) - chunks.left :]
            keys = torch.cat([*(pair[0] for pair in earlier), key])
            values = torch.cat([*(pair[1] for pair in earlier), value])
            memory.append((key[:own], value[:own]))
            heads = []
            for head in range(attention.num_heads):
                columns = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
                scores = query[:, columns] @ keys[:, columns].T / attention.head_dim**0.5
                heads.append(scores.softmax(-1) @ values[:, columns])
            attended = block + attention.out_proj(torch.cat(heads, 1))
            if stable:
                block = attended + layer.feed_forward(layer.final_layer_norm(attended))
            else:
                attended = layer.layer_norm(attended)
                block = layer.final_layer_norm(attended + layer.feed_forward(attended))
        outputs.append((transformer.layer_norm(block) if stable else block)[:own])
    return torch.cat(outputs)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "data2vec"])
@pytest.mark.parametrize("chunks", [Chunks(8, 1, 3), Chunks(5, None, 0), Chunks(4, 0, 6), Chunks(100, 2, 5)])
@torch.no_grad()
def test_all_chunks_at_once_are_what_a_recogniser_computes_one_after_the_other(family, chunks):
    found = network(family)
    setattr(found.config, KEY, vars(chunks))
    frames = torch.tensor([30, 19, 8, 1])
    features = torch.randn(4, 32, 8)  # two frames of padding for the longest
    together, _ = encode(found, features, frames)
    for row, count in enumerate(frames.tolist()):
        projected = found.feature_projection(features[row : row + 1, :count])
        hidden = (projected[0] if isinstance(projected, tuple) else projected)[0]
        torch.testing.assert_close(together[row, :count], by_chunks(found, hidden, chunks), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_chunk_as_long_as_the_clip_is_full_attention():
    found = network("wav2vec2")
    features, frames = torch.randn(2, 20, 8), torch.tensor([20, 13])
    full, _ = encode(found, features, frames)
    setattr(found.config, KEY, vars(Chunks(20, 0, 0)))
    for row, (own, whole) in enumerate(zip(encode(found, features, frames)[0], full, strict=True)):
        torch.testing.assert_close(own[: frames[row]], whole[: frames[row]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hidden_states_of_layers_are_those_of_the_frames_in_order():
    found = network("wav2vec2")
    setattr(found.config, KEY, vars(Chunks(8, 1, 3)))
    features, frames = torch.randn(2, 21, 8), torch.tensor([21, 10])
    states = layer_outputs(found, features, frames)
    assert [state.shape for state in states] == [(2, 21, 16)] * 4
    output, _ = encode(found, features, frames)
    torch.testing.assert_close(found.encoder.layer_norm(states[-1]), output)


@pytest.mark.parametrize("look_ahead_s", [0.0, 0.06])
@torch.no_grad()
def test_nothing_that_comes_after_the_look_ahead_changes_a_chunk(tiny_model, look_ahead_s):
    """From samples to outputs, of an encoder with random weights as a study makes it."""
    torch.manual_seed(0)
    streamed = STREAMED.model_copy(update={"look_ahead_s": look_ahead_s})
    encoder = encoder_model(None, tiny_model, 0.0, attention=streamed).base_model.eval()
    chunks = chunks_of(encoder.config)
    assert chunks == Chunks(8, 1, round(look_ahead_s / 0.02)) and whole_clip(encoder.config) == []
    audio = 0.1 * torch.randn(samples_for(encoder.config, 40))

    def outputs(clip: torch.Tensor) -> torch.Tensor:
        prepared, samples = prepared_audio(encoder.config, [clip], len(clip))
        return encode(encoder, front_end(encoder, prepared, samples), frame_counts(encoder.config, samples))[0][0]

    before = outputs(audio)
    for end in (8, 16, 24):
        heard = samples_for(encoder.config, end + chunks.look_ahead)
        later, cut = audio.clone(), audio[:heard]
        later[heard:] = 3.0 * torch.randn(len(audio) - heard)
        torch.testing.assert_close(outputs(later)[:end], before[:end], rtol=0, atol=1e-6)
        torch.testing.assert_close(outputs(cut)[:end], before[:end], rtol=0, atol=1e-6)
        assert (outputs(later)[end : end + 8] - before[end : end + 8]).abs().max() > 1e-2
        within = audio.clone()
        within[samples_for(encoder.config, end + chunks.look_ahead - 1) : heard] += 1.0
        assert (outputs(within)[end - 8 : end] - before[end - 8 : end]).abs().max() > 1e-3


@torch.no_grad()
def test_with_full_attention_what_comes_later_does_change_what_came_before(tiny_model):
    torch.manual_seed(0)
    encoder = encoder_model(None, tiny_model, 0.0).base_model.eval()
    features, frames = torch.randn(1, 40, 24), torch.tensor([40])
    before, _ = encode(encoder, features, frames)
    features[:, 30:] = torch.randn(10, 24)
    assert (encode(encoder, features, frames)[0][0, :8] - before[0, :8]).abs().max() > 1e-3


def test_gradients_reach_every_weight_and_padding_gets_none(tiny_model):
    encoder = encoder_model(None, tiny_model, 0.0, attention=STREAMED).base_model.train()
    features, frames = torch.randn(2, 30, 24, requires_grad=True), torch.tensor([30, 11])
    output, _ = encode(encoder, features, frames)
    output[length_mask(frames, 30)].square().sum().backward()
    assert features.grad.isfinite().all() and features.grad[1, 11:].abs().max() == 0
    unused = {name for name, weight in encoder.encoder.named_parameters() if weight.grad is None}
    assert unused == set()


def test_families_whose_positions_reach_further_are_refused():
    with pytest.raises(CheckpointError, match="attention: a wavlm encoder cannot be limited to chunks"):
        limit_attention(WavLMConfig(), STREAMED, new=False)


def test_a_checkpoint_keeps_its_way_to_normalise_and_is_told_to_need_the_whole_clip():
    config = Wav2Vec2Config(feat_extract_norm="group")
    limit_attention(config, STREAMED, new=False)
    assert len(whole_clip(config)) == 2 and chunks_of(config) == Chunks(8, 1, 3)


@pytest.fixture(scope="module")
def run(english, tiny_model, tmp_path_factory, one_thread) -> str:
    """A run that was fine-tuned with chunked attention."""
    folder = tmp_path_factory.mktemp("run")
    draw_subset(english["train"]["features"], "15s", 1, str(folder / "subset.parquet"))
    settings = {"updates": 4, "batch_seconds": 8, "log_every": 2, "dev_minutes": 0.05}
    job = {"train": english["train"], "dev": english["dev"], "subset": str(folder / "subset.parquet"), "seed": 1}
    job |= {"settings": settings, "text": {}, "parent": None, "model": tiny_model, "attention": STREAMED}
    finetune_run(FinetuneJob.of(**job, output=str(folder / "run"), state=str(folder / "state")))
    return str(folder / "run")


def test_a_run_remembers_its_attention_in_recipe_configuration_and_card(run):
    recipe, config, extractor = (
        json.loads(open(f"{run}/{name}.json").read()) for name in ("recipe", "config", "preprocessor_config")
    )
    assert recipe["attention"] == {"chunk_s": 0.16, "left_chunks": 1, "look_ahead_s": 0.06}
    assert config[KEY] == {"size": 8, "left": 1, "look_ahead": 3} and extractor["do_normalize"] is False
    assert chunks_of(finetuned_model(run).config) == Chunks(8, 1, 3)
    said = streaming(config)
    assert "a chunk of 0.16 s" in said and "one chunk before" in said and "look-ahead of 0.06 s" in said
    assert "whole clip" not in said
    assert "zero mean and unit variance" in streaming({**config, "do_normalize": True})
    assert streaming({}) == ""


@torch.no_grad()
def test_transcription_looks_no_further_than_training(run, noise_clips):
    opened = open_run(run, "cpu")
    assert chunks_of(opened.network.config) == Chunks(8, 1, 3)

    class Longer:
        """The clip, with something else after it."""

        lengths = np.array([24_000])

        def audio(self, index: int) -> np.ndarray:
            return np.concatenate([noise_clips.audio(0), 3000 * np.ones(16_000, np.int16)])

    ((_, alone),) = emissions(opened.network, noise_clips.take([0]), opened.vocabulary)
    ((_, longer),) = emissions(opened.network, Longer(), opened.vocabulary)
    count = (len(alone) - 3) // 8 * 8
    assert count >= 16
    np.testing.assert_allclose(longer[:count], alone[:count], atol=1e-5)


def test_jobs_of_starts_with_full_attention_are_what_they_were(english, tiny_model):
    job = {"train": english["train"], "dev": english["dev"], "subset": "s", "seed": 1, "settings": {}, "text": {}}
    job |= {"parent": None, "model": tiny_model, "output": "o", "state": "s"}
    assert "attention" not in FinetuneJob.of(**job).plain()
    plain = FinetuneJob.of(**job, attention=STREAMED).plain()
    assert FinetuneJob(**json.loads(json.dumps(plain))).attention == STREAMED


def test_a_start_goes_on_with_the_attention_of_its_parent(tmp_path, tiny_model):
    vocabulary = build_vocabulary(["ab"])
    parent = ctc_model(None, tiny_model, vocabulary, 0.0, attention=STREAMED)
    save_ctc(parent, parent.state_dict(), vocabulary, tmp_path)
    child = encoder_model(tmp_path, None, 0.0)
    assert chunks_of(child.config) == Chunks(8, 1, 3) and child.config.do_normalize is False
    other = encoder_model(tmp_path, None, 0.0, attention=ChunkedAttention(chunk_s=1.0, left_chunks=None))
    assert chunks_of(other.config) == Chunks(50, None, 0)
