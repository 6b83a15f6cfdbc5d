"""Muon, beside torch's own and beside singular value decompositions."""

import numpy as np
import pytest
import torch
from test_families import every_variant, made
from transformers import AutoModelForCTC

from headstart.study.finetune import Finetune
from headstart.training.muon import BLOCK, COEFFICIENTS, SIZE, STEPS, TOGETHER, Muon, orthogonal
from headstart.training.optimiser import MasterWeights

RATE, DECAY = 0.03, 0.1


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def updated(weight: torch.Tensor, gradients: list[torch.Tensor], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    weight = weight.clone().requires_grad_()
    optimiser = Muon([{"params": [weight], "lr": RATE, "weight_decay": DECAY}], dtype)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(BLOCK, BLOCK), (BLOCK, 40), (24, BLOCK), (33, 17), (1, 5)])
def test_a_matrix_of_one_block_is_updated_as_by_torchs_muon(shape):
    weight, gradients = drawn(*shape), [drawn(*shape, seed=seed) for seed in range(1, 6)]
    peer = weight.clone().requires_grad_()
    options = {"momentum": 0.95, "nesterov": True, "adjust_lr_fn": "match_rms_adamw"}
    other = torch.optim.Muon(
        [peer], lr=RATE, weight_decay=DECAY, ns_steps=STEPS, ns_coefficients=COEFFICIENTS, **options
    )
    for gradient in gradients:
        peer.grad = gradient.clone()
        other.step()
    apart = updated(weight, gradients, torch.bfloat16) - peer.detach()
    assert apart.norm() < 0.03 * (peer.detach() - weight).norm()  # both compute in bfloat16, in another order


@pytest.mark.parametrize("shape", [(200, 48), (48, 200), (192, 192), (130, 100), (70, 3)])
def test_each_block_of_a_larger_one_keeps_its_singular_vectors(shape):
    """Of a first update, from which the momentum is the gradient's multiple: the polynomial of each singular value."""
    gradient = drawn(*shape)
    update = -updated(torch.zeros(shape), [gradient]).numpy().astype(float) / RATE
    tall, update = (gradient.numpy(), update) if shape[0] >= shape[1] else (gradient.numpy().T, update.T)
    for first in range(0, len(tall), BLOCK):
        block = tall[first : first + BLOCK].astype(float)
        left, values, right = np.linalg.svd(block, full_matrices=False)
        values /= np.linalg.norm(values)
        for _ in range(STEPS):
            values = sum(factor * values**power for factor, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
        expected = SIZE * max(block.shape) ** 0.5 * (left * values) @ right
        np.testing.assert_allclose(update[first : first + BLOCK], expected, rtol=1e-3, atol=2e-5)


def test_singular_values_come_near_one():
    values = torch.linalg.svdvals(orthogonal(drawn(10, BLOCK, 192)))
    assert 0.6 < values.min() and values.max() < 1.3


def test_the_memory_for_many_matrices_is_bounded_and_their_updates_are_those_of_each_alone(monkeypatch):
    weights = [drawn(96, 32, seed=seed) for seed in range(4)] + [drawn(32, 64, seed=9), drawn(16, 16)]
    gradients = [drawn(*weight.shape, seed=20 + number) for number, weight in enumerate(weights)]
    monkeypatch.setitem(TOGETHER, "cpu", 2 * 96 * 32)
    together = [weight.clone().requires_grad_() for weight in weights]
    sizes = []
    alone = orthogonal
    monkeypatch.setattr("headstart.training.muon.orthogonal", lambda blocks: sizes.append(len(blocks)) or alone(blocks))
    optimiser = Muon([{"params": together, "lr": RATE, "weight_decay": DECAY}], torch.float32)
    for weight, gradient in zip(together, gradients, strict=True):
        weight.grad = gradient.clone()
    optimiser.step()
    assert max(sizes) == 4 and sum(sizes) == 4 * 2 + 1 + 1
    for weight, gradient, after in zip(weights, gradients, together, strict=True):
        torch.testing.assert_close(after.detach(), updated(weight, [gradient]), rtol=1e-5, atol=1e-6)


def test_a_parameter_without_gradient_stays_and_a_gradient_of_zeros_only_decays():
    weight = drawn(8, 8)
    still = weight.clone().requires_grad_()
    Muon([{"params": [still], "lr": RATE, "weight_decay": DECAY}], torch.float32).step()
    assert torch.equal(still, weight)
    torch.testing.assert_close(updated(weight, [torch.zeros(8, 8)]), (1 - RATE * DECAY) * weight)


@every_variant
def test_it_updates_the_matrices_of_the_encoders_layers_and_adamw_all_else(variant):
    network = made(AutoModelForCTC, variant)
    weights = MasterWeights(network, Finetune(optimiser="muon"), torch.float32)
    names = {parameter: name for name, parameter in weights.master.items()}
    of = {
        kind: [names[p] for group in optimiser.param_groups for p in group["params"]]
        for kind, optimiser in weights.optimisers.items()
    }
    assert sorted(of["adam"] + of["muon"]) == sorted(weights.master)
    # Of each layer: queries, keys, values, their output, and two of the feed-forward network.
    assert len(of["muon"]) >= 6 * network.config.num_hidden_layers
    for name, parameter in weights.master.items():
        expected = ".layers." in name and name.endswith(".weight") and parameter.ndim == 2 and "embed" not in name
        assert (name in of["muon"]) == expected, name
