"""The base class of training objectives: the interface between a stage and the training loop.

The loop (`training/loop.py`) splits each batch into parts: one for each process and gradient accumulation step. It
calls `prepare` once for the batch, then `loss` and a backward pass for each part.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from headstart.training.batching import Batch
from headstart.training.diagnosis import Finding
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks


class Objective:
    """A network to train, its loss, and whatever else differs between stages.

    `loss` and `prepare` must give a result that does not depend on how the batch is split into parts.
    """

    network: Any  # a transformers model, or a `EncoderWithHeads` (encoder/model.py)
    metrics: tuple[str, ...] = ()  # names of the metrics that `loss` may return
    prepare_runs_network = False  # if so, its floating-point operations are counted too
    rates: dict[str, float] = {}  # prefix of parameter names -> multiple of the learning rate for these parameters

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Any:
        """Draw what the parts of a batch have in common: masks and other random choices, and the loss's denominator.

        When a part does not fit into memory, it is called again for the same update, with more parts; the clips of
        this process are the same. It must then draw the same and count nothing twice.

        Args:
            update: number of the update, from 1.
            own: for each part that this process computes, the positions of its clips in the batch; may be empty.

        Returns:
            The `shared` argument of `loss`.
        """
        raise TypeError(f"{type(self).__name__} has no prepare")

    def loss(
        self, batch: Batch, shared: Any, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Loss and metrics of one part of a batch.

        Both are already divided by the whole batch's denominator, so that their sums over the parts are those of the
        batch.

        Args:
            shared: what `prepare` returned for the batch.
            positions: positions in the batch of the part's clips.

        Returns:
            The loss, a scalar with a gradient, and metrics for the learning curve by name: numbers, or scalars on the
            loss's device, which the loop reads all at once.
        """
        raise TypeError(f"{type(self).__name__} has no loss")

    def cost_key(self, batch: Batch, update: int, positions: list[int], shared: Any = None) -> Hashable:
        """Key under which the loop caches measured FLOPs, in addition to the batch's shape.

        FLOPs are measured once for each key, so calls with equal keys must take equally many operations. Without
        `shared`, the key is that of `prepare`, and `positions` are all of this process's clips; with `shared`, it is
        that of `loss` and its backward pass for one part.
        """
        return len(positions) if shared is not None else ()

    def trainable(self, update: int) -> set[str]:
        """Names of the parameters that this update trains; all others are frozen."""
        return {name for name, _ in self.network.named_parameters()}

    def utterance_ids(self, batch: Batch) -> list[str]:
        """Utterance ids of a batch, for messages."""
        raise TypeError(f"{type(self).__name__} has no names")

    def evaluate(self) -> dict[str, float]:
        """Metrics on the dev split for the learning curve; empty for a stage without dev evaluation."""
        return {}

    def collapse_advice(self, curve: list[dict[str, float]]) -> str | None:
        """Advice for the user if the learning curve shows a collapse, which then ends the training; otherwise None."""
        return None

    def diagnosis(self, curve: list[dict[str, float]]) -> list[Finding]:
        """What is wrong with the training so far and does not end it; called for every row of the learning curve."""
        return []

    # The hooks below are for state beyond the network's weights, such as a teacher network.

    def before_training(self, weights: MasterWeights) -> None:
        """Called once before training, and before `restore` where a saved state is resumed."""

    def after_update(self, update: int, weights: MasterWeights) -> None:
        """Called after every update that changed the weights (one with a finite loss and gradient)."""

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors to save, from which `restore` continues after an interruption."""
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue from the tensors that `state` returned."""
