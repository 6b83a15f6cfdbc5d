"""The optimiser of every training stage: the schedule, and AdamW or Muon on fp32 weights."""

from __future__ import annotations

import math

import torch

from headstart.devices import moved
from headstart.study.optimisation import Optimisation
from headstart.training.muon import Muon
from headstart.training.ranks import Ranks

MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")  # what AdamW and Muon keep of each parameter


def learning_rate(update: int, settings: Optimisation) -> float:
    """Learning rate of an update, by the tri-stage schedule (Park et al. 2019, arXiv 1904.08779).

    The rate rises linearly, stays constant, and decays exponentially to `decay_to` times the peak. Updates count from
    1; the last one has the final rate. With `hold` 0 and `decay_to` near 0, it is close to wav2vec 2.0's linear decay.
    """
    rise, hold = settings.warmup * settings.updates, settings.hold * settings.updates
    if update <= rise:
        return settings.learning_rate * update / rise
    if update <= rise + hold:
        return settings.learning_rate
    passed = (update - rise - hold) / (settings.updates - rise - hold)
    return settings.learning_rate * settings.decay_to**passed


class MasterWeights:
    """AdamW on fp32 master weights, or Muon and AdamW, for a network that computes in `dtype`.

    Gradients are accumulated in fp32 over the parts of a batch and over processes. Weight decay applies to parameters
    of two or more dimensions, and not to biases and normalisation weights. Muon updates the matrices of the linear
    maps in the encoder's layers, and AdamW everything else.

    Args:
        network: its parameters are copied to fp32, and the network itself is converted to `dtype`.
        rates: prefix of parameter names -> multiple of the learning rate; 1 for parameters without a prefix here.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        settings: Optimisation,
        dtype: torch.dtype,
        rates: dict[str, float] | None = None,
    ):
        self.network, self.settings = network, settings
        self.master = {name: p.detach().float().clone().requires_grad_() for name, p in network.named_parameters()}
        # Training changes no buffer (batch norm keeps its pre-trained statistics), but conversion to `dtype` rounds it.
        self.buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
        network.to(dtype)
        self.copies = dict(network.named_parameters())
        self.grads: dict[str, torch.Tensor] = {}  # gradient buffers, allocated once: new memory costs time
        linear = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)}
        groups: dict[str, dict[tuple[float, float], list[torch.Tensor]]] = {"adam": {}, "muon": {}}
        for name, p in self.master.items():
            rate = next((rate for prefix, rate in (rates or {}).items() if name.startswith(prefix)), 1.0)
            matrix = settings.optimiser == "muon" and name in linear and ".layers." in name
            decay = settings.weight_decay if p.ndim > 1 else 0.0
            groups["muon" if matrix else "adam"].setdefault((rate, decay), []).append(p)
        adam, muon = (
            [{"params": ps, "rate": rate, "weight_decay": decay} for (rate, decay), ps in own.items()]
            for own in groups.values()
        )
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.AdamW(adam, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)
        }
        if muon:
            self.optimisers["muon"] = Muon(muon, dtype)

    def freeze(self, trainable: set[str]) -> None:
        for name, parameter in self.copies.items():
            parameter.requires_grad_(name in trainable)

    def collect(self) -> None:
        """Add the network's gradients, which are those of one part of a batch, to the fp32 gradients."""
        for name, copy in self.copies.items():
            if copy.grad is None:
                continue
            master = self.master[name]
            if master.grad is None:
                if name not in self.grads:
                    self.grads[name] = torch.empty_like(master)
                master.grad = self.grads[name].copy_(copy.grad)
            else:
                master.grad.add_(copy.grad)
            copy.grad = None

    def sum_over(self, ranks: Ranks, trainable: set[str]) -> None:
        """Replace the gradients of the parameters `trainable` by their sums over all processes.

        Where a process has no gradient for a parameter, it counts as zero.
        """
        if ranks.size == 1:
            return
        weights = [self.master[name] for name in self.copies if name in trainable]
        given = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        # A parameter without a gradient in every process stays without one: a zero gradient would apply weight decay
        # and update the moments, which a job of a single process would not.
        used = moved(torch.tensor([float(p.grad is not None) for p in weights]), ranks.device)
        flat = ranks.sum_in_place(torch.cat([g.flatten() for g in given] + [used]))
        *sums, used = flat.split([g.numel() for g in given] + [len(weights)])
        for weight, summed, count in zip(weights, sums, used.tolist(), strict=True):
            weight.grad = summed.view_as(weight) if count else None

    def step(self, rate: float) -> float:
        """Do one update at the learning rate `rate`; returns the gradient norm before clipping.

        When the norm is not finite, the weights stay as they are. The gradients are dropped in either case.
        """
        given = [p for p in self.master.values() if p.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(given, self.settings.gradient_clip))  # waits for a GPU, once
        if finite := math.isfinite(norm):
            for optimiser in self.optimisers.values():
                for group in optimiser.param_groups:
                    group["lr"] = rate * group["rate"]
                optimiser.step()
        self.drop()
        if finite:
            self.copy_to_network()
        return norm

    def drop(self) -> None:
        """Drop the accumulated gradients, and those of a backward pass that was broken off."""
        for p in self.master.values():
            p.grad = None
        for copy in self.copies.values():
            copy.grad = None

    @torch.no_grad()
    def copy_to_network(self) -> None:
        for name, copy in self.copies.items():
            copy.copy_(self.master[name])

    def weights(self) -> dict[str, torch.Tensor]:
        """fp32 weights under the network's names, buffers included."""
        named = {**self.buffers, **{name: p.detach().clone() for name, p in self.master.items()}}
        return {name: named[name].cpu() for name in self.network.state_dict()}

    def state(self) -> dict[str, torch.Tensor]:
        """The fp32 weights and the optimiser's moments as one flat dict, from which `restore` resumes."""
        tensors = {f"master.{name}": p.detach() for name, p in self.master.items()}
        for name, p in self.master.items():
            for kind, optimiser in self.optimisers.items():
                for key, value in optimiser.state.get(p, {}).items():
                    tensors[f"{kind}.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, p in self.master.items():
            p.copy_(tensors[f"master.{name}"])
            for kind, optimiser in self.optimisers.items():
                moments = {
                    key: tensors[f"{kind}.{key}.{name}"].to(p.device)
                    for key in MOMENTS
                    if f"{kind}.{key}.{name}" in tensors
                }
                if moments:
                    optimiser.state[p] = moments
        self.copy_to_network()
