"""Linear CTC layers, one for each layer of an encoder, trained side by side.

They share nothing but the batches: the loss is the sum of their losses, and Adam treats each weight by itself. Each
layer therefore learns what it would learn alone.

Shape suffixes: L layers, B utterances, T frames, D hidden channels, V labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F

from headstart.encoder.front_end import FRAMES_QUANTUM
from headstart.probe.states import States
from headstart.study.probe import Probe
from headstart.training.batching import endless_batches


class LinearCtc:
    """One linear layer from hidden states to labels for each layer of an encoder; all weights begin at zero.

    Attributes:
        weights: (L, D, V).
        biases: (L, 1, V).
        losses: of each update, the loss for each label, by layer: a list of (L,).
    """

    def __init__(self, layers: int, width: int, labels: int, blank: int):
        self.weights = torch.zeros(layers, width, labels, requires_grad=True)
        self.biases = torch.zeros(layers, 1, labels, requires_grad=True)
        self.blank = blank
        self.losses: list[torch.Tensor] = []

    def logits(self, states_LND: torch.Tensor) -> torch.Tensor:
        """Scores of the labels in each frame, (L, N, V)."""
        return torch.baddbmm(self.biases, states_LND, self.weights)

    def summed_losses(self, states: States, indices: list[int], labels: Sequence[Sequence[int]]) -> torch.Tensor:
        """Negative log-likelihood of the labels of some clips, in nats, summed over the clips: (L,).

        Args:
            labels: of all clips.
        """
        states_LBTD, frames = states.batch(indices)
        layers, batch, size, width = states_LBTD.shape
        logits = self.logits(states_LBTD.flatten(1, 2))
        log_probs = logits.log_softmax(-1).view(layers * batch, size, -1).transpose(0, 1)  # T first
        chosen = [labels[index] for index in indices]
        lengths = torch.tensor([len(label) for label in chosen])
        flat = torch.tensor([label for some in chosen for label in some])
        losses = F.ctc_loss(
            log_probs, flat.repeat(layers), frames.repeat(layers), lengths.repeat(layers), self.blank, reduction="none"
        )
        return losses.view(layers, batch).sum(1)

    def train(
        self, states: States, labels: Sequence[Sequence[int]], settings: Probe, frame_s: float, seed: int
    ) -> None:
        """Train all layers with Adam.

        Args:
            labels: of each clip, at least one and no more than its frames allow.
            frame_s: seconds from one frame to the next.
            seed: of the order of the batches; nothing else is random.
        """
        optimiser = torch.optim.Adam([self.weights, self.biases], betas=(0.9, 0.98))
        limit = int(settings.batch_seconds / frame_s)
        batches = endless_batches(states.frames, limit, FRAMES_QUANTUM, seed)
        for update, (_, batch) in enumerate(islice(batches, settings.updates)):
            optimiser.param_groups[0]["lr"] = settings.learning_rate * (1 - update / settings.updates)
            losses_L = self.summed_losses(states, batch, labels) / sum(len(labels[index]) for index in batch)
            optimiser.zero_grad()
            losses_L.sum().backward()
            optimiser.step()
            self.losses.append(losses_L.detach())

    @torch.no_grad()
    def best_paths(self, states: States, index: int) -> list[list[int]]:
        """For each layer, the best label of each frame of a clip."""
        return self.logits(states.clip(index)).argmax(-1).tolist()
