"""The gradient of a batch: computed in parts, and in more of them where one does not fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from headstart.errors import TrainingError
from headstart.objectives.objective import Objective
from headstart.training.batching import Batch
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks

log = logging.getLogger(__name__)

Totals = dict[str, Any]  # numbers, or scalars on the device


class Gradients:
    """Computes the gradient of one batch after another, summed over all processes.

    A batch is first computed in `parts` parts in each process. When a part does not fit into the memory of one of the
    processes, all of them forget what they have of the batch, and begin it again with twice as many. The masks and
    other random choices of a batch do not depend on its parts, so the gradient is the same. Later batches are computed
    in as many parts too.

    Args:
        stage: name of the stage in log lines.
        seed: seed of everything random.
        parts: to begin with.
    """

    def __init__(self, objective: Objective, weights: MasterWeights, ranks: Ranks, stage: str, seed: int, parts: int):
        self.objective, self.weights, self.ranks = objective, weights, ranks
        self.stage, self.seed, self.parts = stage, seed, parts
        self.flops_of: dict[Any, float] = {}

    def of(self, batch: Batch, update: int, trainable: set[str], stop: bool) -> tuple[dict[str, float], bool]:
        """Leave the gradient of a batch in the weights.

        Args:
            update: number of the update, from 1.
            trainable: names of the parameters that it trains.
            stop: whether this process wants to stop.

        Returns:
            Loss, metrics and floating-point operations, summed over all processes, and whether a process wants to stop.

        Raises:
            TrainingError: even a single clip does not fit into memory.
        """
        names = ("train_loss", "flops", *self.objective.metrics)
        while True:
            try:
                totals, lack = self._in_parts(batch, update, len(trainable)), ""
            except torch.OutOfMemoryError as error:
                totals, lack = {}, str(error).split("\n")[0]
            if lack:  # outside of the handler, because its traceback holds what the memory is full of
                self._forget()
            self.weights.sum_over(self.ranks, trainable)
            summed, (stopping, short) = over_ranks(totals, names, (stop, bool(lack)), self.ranks)
            if not short:
                return summed, stopping
            self._forget()
            self._split(batch, update, lack or "in another process")

    def _in_parts(self, batch: Batch, update: int, trained: int) -> Totals:
        """Add the gradients of this process's parts to the weights; returns loss, metrics and operations."""
        objective = self.objective
        own = self.ranks.own_positions(len(batch.clips), self.parts)
        torch.manual_seed(self.seed * 1_000_003 + update)
        shared, flops = self._prepared(batch, update, own)
        totals: Totals = {"train_loss": 0.0, "flops": flops}
        for positions in filter(None, own):
            # Dropout must differ between the parts of a batch; the position of its first clip identifies a part.
            torch.manual_seed((self.seed * 1_000_003 + update) * 10_007 + positions[0])
            key = (batch.shape, trained, objective.cost_key(batch, update, positions, shared))
            if key in self.flops_of:
                loss, metrics = objective.loss(batch, shared, positions, update)
                loss.backward()
            else:
                with FlopCounterMode(display=False) as counter:
                    loss, metrics = objective.loss(batch, shared, positions, update)
                    loss.backward()
                self.flops_of[key] = counter.get_total_flops()
            self.weights.collect()
            # Nothing is read here: to read a number of a GPU is to wait for it.
            for name, value in {"train_loss": loss.detach(), "flops": self.flops_of[key], **metrics}.items():
                value = value.double() if isinstance(value, torch.Tensor) else value
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def _prepared(self, batch: Batch, update: int, own: list[list[int]]) -> tuple[Any, float]:
        """What the parts of a batch share, and the operations that it took."""
        objective = self.objective
        key = (batch.shape, objective.cost_key(batch, update, [i for part in own for i in part]))
        try:
            if not objective.prepare_runs_network or key in self.flops_of:
                return objective.prepare(batch, update, own, self.ranks), self.flops_of.get(key, 0.0)
            with FlopCounterMode(display=False) as counter:
                shared = objective.prepare(batch, update, own, self.ranks)
        except torch.OutOfMemoryError as error:
            if self.ranks.size == 1:
                raise
            # The others wait for this process's share of a sum, and would wait for ever.
            raise TrainingError(
                f"{self.stage}: update {update} does not fit into memory ({error}); set accumulate to "
                f"{2 * self.parts} or more"
            ) from None
        self.flops_of[key] = counter.get_total_flops()
        return shared, self.flops_of[key]

    def _forget(self) -> None:
        self.weights.drop()
        if self.ranks.device.type == "cuda":
            torch.cuda.empty_cache()

    def _split(self, batch: Batch, update: int, lack: str) -> None:
        clips = len(batch.clips)
        if self.parts * self.ranks.size >= clips:
            longest = ", ".join(self.objective.utterance_ids(batch)[:3])
            raise TrainingError(
                f"{self.stage}: update {update} does not fit into memory, although every clip is computed by itself "
                f"({lack}); leave out or cut long utterances (here {longest}), or take a smaller encoder"
            )
        self.parts *= 2
        log.warning(
            "%s: update %d, a batch of %d clips, does not fit into memory (%s). From here on batches are computed in "
            "%d parts a process, one after another, with the same gradient; `accumulate: %d` would begin so",
            self.stage, update, clips, lack, self.parts, self.parts,
        )  # fmt: skip


def over_ranks(
    totals: Totals, names: Sequence[str], wishes: Sequence[bool], ranks: Ranks
) -> tuple[dict[str, float], list[bool]]:
    """Sum metrics over all processes, and decide for all of them: each wish is granted if one of them has it.

    A metric that no process has is left out of the sums. This is where the CPU waits for a GPU, once for an update.
    """

    def scalar(value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value.double()
        return torch.full((), float(value), dtype=torch.float64, device=ranks.device)  # copies nothing to the device

    present = [name in totals for name in names]
    values = [*(totals.get(name, 0.0) for name in names), *present, *wishes]
    sums = ranks.sum_in_place(torch.stack([scalar(value) for value in values])).tolist()
    counts, granted = sums[len(names) : 2 * len(names)], sums[2 * len(names) :]
    summed = zip(names, sums[: len(names)], counts, strict=True)
    return {name: value for name, value, n in summed if n}, [bool(n) for n in granted]
