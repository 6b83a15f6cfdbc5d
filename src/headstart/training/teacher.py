"""A teacher whose weights are an exponential moving average of the student's (Tarvainen & Valpola 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from headstart.training.optimiser import MasterWeights


class Teacher:
    """An exponential moving average of the student's weights, which runs in the student's own network.

    After n updates with decay d and student weights w_1 to w_n, the average is
    d^n w_0 + (1 - d) (w_n + d w_{n-1} + d^2 w_{n-2} + ...), in float32. Within `standing_in`, the network has these
    weights, so that no second network is needed.

    Args:
        weights: the student's weights, with which the average begins.
        averages: whether the parameter of this name is averaged; the teacher shares the others with the student.
    """

    def __init__(self, weights: MasterWeights, averages: Callable[[str], bool] = lambda name: True):
        self.network = weights.network
        self.average = {name: p.detach().clone() for name, p in weights.master.items() if averages(name)}
        self.copies = {name: weights.copies[name].detach().clone() for name in self.average}

    @torch.no_grad()
    def follow(self, weights: MasterWeights, decay: float) -> None:
        """Update the average with the student's present weights."""
        for name, average in self.average.items():
            average.lerp_(weights.master[name], 1 - decay)
        self._copy()

    @torch.no_grad()
    def begin_again(self, weights: MasterWeights) -> None:
        """Reset the average to the student's present weights."""
        self.restore(weights.master)

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """Context in which the network has the teacher's weights, is in evaluation mode, and records no gradients."""
        parameters = dict(self.network.named_parameters())
        own = {name: parameters[name].data for name in self.average}
        training = self.network.training
        try:
            for name, copy in self.copies.items():
                parameters[name].data = copy
            with torch.no_grad():
                self.network.eval()
                yield
        finally:
            for name, data in own.items():
                parameters[name].data = data
            self.network.train(training)

    def state(self) -> dict[str, torch.Tensor]:
        """The averaged weights, from which `restore` resumes."""
        return dict(self.average)

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Set the average to tensors that `state` returned."""
        for name, average in self.average.items():
            average.copy_(tensors[name])
        self._copy()

    def _copy(self) -> None:
        for name, copy in self.copies.items():
            copy.copy_(self.average[name])
