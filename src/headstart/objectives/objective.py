"""The objective's base class: what a stage adds to the training loop."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from headstart.training.batching import Batch
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks


class Objective:
    """What a stage adds to the loop."""

    network: Any  # a transformers model, or one of `model.WithHeads`
    metrics: tuple[str, ...] = ()  # names of what `loss` may tell of
    teaches = False  # whether `prepare` runs the network: its operations are then counted
    rates: dict[str, float] = {}  # prefix of parameter names -> their learning rate, as a multiple

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Any:
        """What the whole batch shares: random decisions, and what its losses are divided by.

        `own` holds the positions in the batch of each part that this process computes.
        """
        raise TypeError(f"{type(self).__name__} has no prepare")

    def loss(
        self, batch: Batch, shared: Any, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """A part's share of the batch's loss, and of what the learning curve should hold: the parts add up."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def work(self, batch: Batch, update: int, positions: list[int], shared: Any = None) -> Hashable:
        """What, beside the batch's shape, decides how many operations `prepare` takes, or, with `shared`, a loss."""
        return len(positions) if shared is not None else ()

    def trainable(self, update: int) -> set[str]:
        """Names of the parameters that this update trains."""
        return {name for name, _ in self.network.named_parameters()}

    def names(self, batch: Batch) -> list[str]:
        """Utterance ids of a batch."""
        raise TypeError(f"{type(self).__name__} has no names")

    def evaluate(self) -> dict[str, float]:
        """Dev metrics for the learning curve; empty for a stage that has none."""
        return {}

    def collapsed(self, curve: list[dict[str, float]]) -> str | None:
        """What to change, when the learning curve shows that nothing is being learnt; else None."""
        return None

    # What an objective keeps from update to update besides the network, such as a teacher.

    def begin(self, weights: MasterWeights) -> None:
        """Before the first update, and before a saved state is restored."""

    def stepped(self, update: int, weights: MasterWeights) -> None:
        """After every update that changed the weights."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs of it."""
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
