"""A teacher whose weights are an exponential moving average of the student's (Tarvainen & Valpola 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from headstart.training.optimiser import MasterWeights


class Teacher:
    """An average of weights that now and then stands in for them in the student's own network.

    After n updates with decay d and student weights w_1 to w_n, it is d^n w_0 + (1 - d) (w_n + d w_{n-1} + d^2 w_{n-2}
    + ...), in float32.

    Args:
        weights: of the student, as they are: the teacher begins with them.
        averages: whether to average a parameter, by its name; the others are the student's.
    """

    def __init__(self, weights: MasterWeights, averages: Callable[[str], bool] = lambda name: True):
        self.network = weights.network
        self.average = {name: p.detach().clone() for name, p in weights.master.items() if averages(name)}
        self.copies = {name: weights.copies[name].detach().clone() for name in self.average}

    @torch.no_grad()
    def follow(self, weights: MasterWeights, decay: float) -> None:
        """One update of the average."""
        for name, average in self.average.items():
            average.lerp_(weights.master[name], 1 - decay)
        self._copy()

    @torch.no_grad()
    def begin_again(self, weights: MasterWeights) -> None:
        """Become what the student is."""
        self.restore(weights.master)

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """Within, the network has the teacher's weights, is in evaluation mode, and records no gradients."""
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
        """What a resumed run needs."""
        return dict(self.average)

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
        for name, average in self.average.items():
            average.copy_(tensors[name])
        self._copy()

    def _copy(self) -> None:
        for name, copy in self.copies.items():
            copy.copy_(self.average[name])
