"""The wav2vec 2.0 objective: transformers' `Wav2Vec2ForPreTraining` on the same weights, masks and negatives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from transformers import Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import _sample_negative_indices

from headstart.encoder.front_end import frame_counts, front_end, length_mask
from headstart.encoder.model import encode, initialise, new_config, span_mask
from headstart.objectives.masking import gather_frames, masked_frames
from headstart.objectives.wav2vec2 import (
    contrastive_loss,
    diversity_loss,
    initialise_quantiser,
    quantise,
    sample_negatives,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def both(tiny_model, one_thread):
    """transformers' outputs and ours for a padded batch, with gradients of each contrastive loss."""
    torch.manual_seed(0)
    np.random.seed(0)
    network = Wav2Vec2ForPreTraining(new_config(tiny_model)).eval()
    initialise(network)
    torch.nn.init.normal_(network.quantizer.weight_proj.weight, std=0.3)  # so that more than one entry is chosen
    audio, samples = torch.randn(3, 20_000), torch.tensor([20_000, 16_000, 9_000])
    audio[~length_mask(samples, 20_000)] = 0.0
    frames = frame_counts(network.config, samples)
    mask = span_mask(frames, int(frames.max()), 0.5, 6)
    negatives = _sample_negative_indices(mask.shape, 12, mask.numpy())

    out = network(
        audio,
        attention_mask=length_mask(samples, 20_000).long(),
        mask_time_indices=mask,
        sampled_negative_indices=torch.from_numpy(negatives),
    )
    out.contrastive_loss.backward()
    their_gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)

    context, normed = encode(network.wav2vec2, front_end(network.wav2vec2, audio, samples), frames, mask)
    index, real = masked_frames(mask)
    context = gather_frames(context, index)
    targets = quantise(network.quantizer, gather_frames(normed, index), real, tau=0)
    # transformers counts negatives in the flattened batch, we among an utterance's masked frames.
    position = mask.long().cumsum(1) - 1
    ours = torch.zeros(*real.shape, 12, dtype=torch.long)
    for row in range(3):
        flat = torch.from_numpy(negatives[row][mask[row].numpy()]) - row * mask.shape[1]
        ours[row, : len(flat)] = position[row][flat]
    found = contrastive_loss(
        network.project_hid(context),
        network.project_q(targets.vectors),
        targets.codes,
        real,
        ours,
        network.config.contrastive_logits_temperature,
    )
    loss, correct = found.loss, found.correct
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    masked = int(mask.sum())
    return SimpleNamespace(**locals())


def test_the_contrastive_loss_is_that_of_transformers(both):
    assert torch.unique(both.targets.codes[both.real], dim=0).shape[0] > 5
    torch.testing.assert_close(both.loss, both.out.contrastive_loss, rtol=1e-5, atol=0)
    assert 0 <= both.correct <= both.masked


def test_perplexity_and_diversity_loss_are_those_of_transformers(both):
    torch.testing.assert_close(both.targets.perplexity, both.out.codevector_perplexity, rtol=1e-5, atol=0)
    ours = diversity_loss(both.targets.perplexity, 16, both.masked)
    torch.testing.assert_close(ours, both.out.diversity_loss, rtol=1e-5, atol=0)


def test_gradients_are_those_of_transformers(both):
    shared = both.gradients.keys() & both.their_gradients.keys()
    parts = (
        "feature_extractor",
        "feature_projection",
        "encoder.layers.1",
        "pos_conv_embed",
        "project_hid",
        "project_q",
    )
    for part in (*parts, "masked_spec_embed", "quantizer.codevectors"):
        assert any(part in name for name in shared), part
    for name in shared:
        theirs = both.their_gradients[name]
        # Key biases have no influence: their gradients are rounding.
        assert (both.gradients[name] - theirs).norm() < 1e-5 * theirs.norm() + 1e-7, name


def test_training_perplexity_is_that_of_the_mean_probability_over_real_frames(both):
    """As transformers computes it in training: from the softmax, before the noise."""
    features = torch.randn(2, 7, 24)
    real = length_mask(torch.tensor([7, 4]), 7)
    found = quantise(both.network.quantizer, features, real, tau=2.0)
    logits = both.network.quantizer.weight_proj(features[real]).view(-1, 2, 8)
    mean = logits.softmax(-1).mean(0)
    assert found.perplexity.item() == pytest.approx((mean**-mean).prod(-1).sum().item(), rel=1e-4)
    padded = features.clone()
    padded[1, 4:] = 100.0
    assert torch.equal(quantise(both.network.quantizer, padded, real, tau=2.0).perplexity, found.perplexity)


def test_quantised_vectors_are_entries_of_the_codebooks_and_gradients_pass_straight_through(both):
    quantizer = both.network.quantizer
    features = torch.randn(1, 5, 24, requires_grad=True)
    found = quantise(quantizer, features, torch.ones(1, 5, dtype=torch.bool), tau=1.0)
    entries = quantizer.codevectors.view(2, 8, 8)
    for frame in range(5):
        expected = torch.cat([entries[group, found.codes[0, frame, group]] for group in range(2)])
        torch.testing.assert_close(found.vectors[0, frame], expected)
    found.vectors.square().sum().backward()
    assert features.grad.abs().sum() > 0


def test_gumbel_noise_draws_entries_by_their_probability(both):
    torch.manual_seed(0)
    features = torch.randn(1, 1, 24).expand(1, 20_000, 24)
    found = quantise(both.network.quantizer, features, torch.ones(1, 20_000, dtype=torch.bool), tau=2.0)
    probability = both.network.quantizer.weight_proj(features[0, 0]).view(2, 8).softmax(-1)
    for group in range(2):
        counts = torch.bincount(found.codes[0, :, group], minlength=8)
        torch.testing.assert_close(counts / 20_000, probability[group], rtol=0, atol=0.015)


def test_negatives_are_other_masked_frames_of_the_utterance_each_as_likely():
    torch.manual_seed(0)
    counts = torch.tensor([2, 9, 30])
    negatives = sample_negatives(counts, 30, 2000)
    assert negatives.shape == (3, 30, 2000)
    for row, count in enumerate(counts.tolist()):
        for frame in range(count):
            found = torch.bincount(negatives[row, frame], minlength=count)
            assert len(found) == count and found[frame] == 0
            others = np.delete(found.numpy(), frame)
            assert others.min() > 0
            assert len(others) == 1 or chisquare(others).pvalue > 1e-6


def test_masked_frames_are_gathered_in_order():
    x = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    index, real = masked_frames(mask)
    assert real.tolist() == [[True, True, True], [True, False, False]]
    assert gather_frames(x, index)[real][:, 0].tolist() == [1, 2, 5, 9]


def test_right_answers_are_counted_and_padding_is_not():
    target = torch.eye(4)[None].repeat(2, 1, 1)
    context = target.clone()
    context[0, 1] = target[0, 2]  # one frame takes its neighbour for itself
    codes = torch.arange(4)[None, :, None].expand(2, 4, 1)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    every_other = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[None].repeat(2, 1, 1)
    every_other[1, :2] = 1 - torch.arange(2)[:, None]
    found = contrastive_loss(context, target, codes, real, every_other, temperature=0.1)
    assert found.correct == 5
    # The wrong one costs (1 - 0) / 0.1, the others nearly nothing.
    assert found.loss.item() == pytest.approx(10.0, abs=0.01)


def test_chance_and_the_likeness_of_targets_are_those_of_their_definitions():
    torch.manual_seed(0)
    counts = torch.tensor([6, 4])
    real, negatives = length_mask(counts, 6), sample_negatives(counts, 6, 20)
    target, codes = torch.randn(2, 6, 8) + 1.0, torch.randint(3, (2, 6, 1))
    found = contrastive_loss(torch.zeros(2, 6, 8), target, codes, real, negatives, 0.1)
    # A context that says nothing finds all candidates equally likely.
    assert found.chance.item() == pytest.approx(found.loss.item(), rel=1e-5)
    cosines = [1 - cdist(target[i, :n], target[i, :n], "cosine") for i, n in enumerate(counts)]
    assert found.similarity.item() == pytest.approx(sum(c.mean() * len(c) for c in cosines), rel=1e-5)


def test_negatives_with_the_targets_own_codes_do_not_count():
    torch.manual_seed(0)
    context, target = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    target[0, 1] = target[0, 0]
    codes = torch.tensor([[[4, 5], [4, 5], [4, 6]]])  # the third shares one of two codes only
    real = torch.ones(1, 3, dtype=torch.bool)
    with_twin = torch.tensor([[[1, 2], [0, 2], [2, 0]]])
    without = torch.tensor([[[2], [2], [0]]])
    loss = contrastive_loss(context, target, codes, real, with_twin, 0.1).loss
    expected = contrastive_loss(context, target, codes, real, without, 0.1).loss
    torch.testing.assert_close(loss, expected)
    sharing_one = contrastive_loss(context, target, codes[..., :1], real, without, 0.1).loss
    assert sharing_one.item() == pytest.approx(0.0, abs=1e-5) and expected > 0.01


def test_a_single_masked_frame_costs_nothing_and_its_gradient_is_finite():
    counts = torch.tensor([1, 3])
    negatives = sample_negatives(counts, 3, 5)
    context = torch.randn(2, 3, 8, requires_grad=True)
    target = torch.randn(2, 3, 8, requires_grad=True)
    codes = torch.arange(6).view(2, 3, 1)
    real = length_mask(counts, 3)
    loss = contrastive_loss(context, target, codes, real, negatives, 0.1).loss
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(context.grad).all() and torch.isfinite(target.grad).all()
    alone = contrastive_loss(context[:1], target[:1], codes[:1], real[:1], negatives[:1], 0.1).loss
    assert alone.item() == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def quantizer(tiny_model) -> torch.nn.Module:
    torch.manual_seed(0)
    return Wav2Vec2ForPreTraining(new_config(tiny_model)).quantizer


def test_a_new_quantiser_gives_each_frame_the_code_of_its_nearest_cluster(quantizer):
    mixing = torch.randn(24, 24)
    features = torch.randn(1600, 24) @ mixing + 5.0
    initialise_quantiser(quantizer, features)
    codes = quantise(quantizer, features[None], torch.ones(1, 1600, dtype=torch.bool), tau=0).codes[0].numpy()
    # An independent view: principal components by singular values, whose scale is the square root of their deviation.
    centred = features.numpy().astype(float) - features.numpy().mean(0, dtype=float)
    _, singular, components = np.linalg.svd(centred, full_matrices=False)
    scaled = centred @ components.T / np.sqrt(singular / np.sqrt(len(centred)))
    for group in range(2):
        z = scaled[:, group::2]
        centres = np.stack([z[codes[:, group] == code].mean(0) for code in range(8)])  # all eight are in use
        assert (cdist(z, centres).argmin(1) == codes[:, group]).mean() > 0.97


def test_a_new_quantiser_tells_sounds_apart_and_noise_seldom_changes_a_code(quantizer):
    sounds = 3 * torch.randn(8, 24) + 5.0
    features = sounds.repeat_interleave(200, dim=0) + 0.1 * torch.randn(1600, 24)
    features[:, 7] = 2.0  # a channel that never changes
    initialise_quantiser(quantizer, features)
    real = torch.ones(1, 1600, dtype=torch.bool)
    codes = quantise(quantizer, features[None], real, tau=0).codes.view(8, 200, 2)
    common = codes.mode(1).values
    assert (codes == common[:, None]).float().mean() > 0.8
    assert len(torch.unique(common, dim=0)) == 8  # by the two codebooks together
    noisy = quantise(quantizer, features[None], real, tau=2.0).codes.view(8, 200, 2)
    assert (noisy == codes).float().mean() > 0.8
    vectors = torch.nn.functional.normalize(quantizer.codevectors[0], dim=1)
    similarity = (vectors @ vectors.T)[~torch.eye(len(vectors), dtype=torch.bool)]
    assert similarity.mean().abs() < 0.2  # and code vectors point all ways
