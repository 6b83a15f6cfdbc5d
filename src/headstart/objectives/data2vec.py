"""data2vec (Baevski et al. 2022, arXiv 2202.03555): regression of a teacher's layer outputs at masked frames.

The student sees the utterance with masked frames, the teacher sees it unmasked.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headstart.devices import rows
from headstart.encoder.front_end import length_mask
from headstart.encoder.model import encode, layer_outputs
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.pretrain import Data2vec
from headstart.training.batching import Batch
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks
from headstart.training.teacher import Teacher


def decay_at(update: int, updates: int, settings: Data2vec) -> float:
    """Decay of the teacher's moving average after an update, counted from 1 (section 3.3 of the paper).

    It changes linearly from `ema_start` to `ema_end` in the first `ema_anneal` (a share) of all updates, and is
    constant afterwards.
    """
    annealed = settings.ema_anneal * updates
    passed = min(1.0, update / annealed) if annealed else 1.0
    return settings.ema_start + passed * (settings.ema_end - settings.ema_start)


def layer_targets(layers: list[torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
    """Regression targets: the mean over layers of their instance-normalised outputs (section 4.2 of the paper).

    Instance normalisation gives every channel of a layer zero mean and unit variance over the valid frames of an
    utterance, with the epsilon of torch's instance norm (1e-5).

    Args:
        layers: outputs of the layers to average, each (B, T, D).
        frames: valid frames of each clip (B,).

    Returns:
        Targets, float32 (B, T, D); zero at frames of padding.
    """
    real_BT1 = length_mask(frames, layers[0].shape[1])[:, :, None]
    count_B11 = frames.clamp(min=1)[:, None, None]
    total_BTD = torch.zeros_like(layers[0], dtype=torch.float32)
    for layer_BTD in layers:
        x_BTD = layer_BTD.float().masked_fill(~real_BT1, 0.0)
        centred_BTD = (x_BTD - x_BTD.sum(1, keepdim=True) / count_B11) * real_BT1
        variance_B1D = centred_BTD.square().sum(1, keepdim=True) / count_B11
        total_BTD += centred_BTD * (variance_B1D + 1e-5).rsqrt()
    return total_BTD / len(layers)


@dataclass
class Regression:
    """The loss and diagnostics, each a mean over channels summed over the masked frames.

    Attributes:
        loss: squared error of the prediction.
        trivial: squared error of predicting zero, the mean of the normalised targets.
        target_variance: squared difference of the target from its mean over the utterance's masked frames.
        prediction_variance: the same of the prediction; near 0, the prediction has collapsed to a constant.
    """

    loss: torch.Tensor
    trivial: torch.Tensor
    target_variance: torch.Tensor
    prediction_variance: torch.Tensor


def regression_loss(prediction_BND: torch.Tensor, target_BND: torch.Tensor, real_BN: torch.Tensor) -> Regression:
    """Mean squared error at masked frames, in float32: the paper's loss for speech (equation 2 with beta 0).

    Args:
        real_BN: which of the N frames of each utterance are masked frames, not padding.
    """
    prediction, target = prediction_BND.float(), target_BND.float()

    def mean_square(x_BND: torch.Tensor) -> torch.Tensor:
        return (x_BND.square().mean(-1) * real_BN).sum()

    def variance(x_BND: torch.Tensor) -> torch.Tensor:
        counts = real_BN.sum(1).clamp(min=1)[:, None, None]
        return mean_square(x_BND - (x_BND * real_BN[..., None]).sum(1, keepdim=True) / counts)

    with torch.no_grad():
        logged = mean_square(target), variance(target), variance(prediction)
    return Regression(mean_square(prediction - target), *logged)


class Data2vecObjective(MaskedAudio):
    """data2vec's objective, for a network with a `predictor`: the linear layer from context to target (section 3.3).

    Targets differ from the paper's: it averages the outputs of feed-forward blocks before the residual connection is
    added, whereas these are whole layers' outputs, residual included (`layer_outputs` in encoder/model.py), because
    all encoder families provide them. As in the paper, only the Transformer's weights are averaged in the teacher;
    the front-end, the feature projection and the positional convolution are shared with the student (section 3.3).
    """

    metrics = ("regression_loss", "trivial_loss", "target_variance", "prediction_variance")
    loss_name = "regression_loss"
    teacher: Teacher

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Masks:
        return self.masks(batch, ranks)

    def loss(
        self, batch: Batch, shared: Masks, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        encoder, index_BN = self.network.base_model, rows(shared.index_BN, positions)
        features_BTC, frames = self.features(batch, positions), rows(shared.frames, positions)
        with self.teacher.standing_in():
            layers = layer_outputs(encoder, features_BTC, frames)[1:]
            target_BTD = layer_targets(layers[-self.settings.data2vec.average_layers :], frames)
        context_BTD, _ = encode(encoder, features_BTC, frames, rows(shared.mask_BT, positions))
        prediction_BND = self.network.predictor(gather_frames(context_BTD, index_BN))
        found = regression_loss(prediction_BND, gather_frames(target_BTD, index_BN), rows(shared.real_BN, positions))
        logged = [found.loss.detach(), found.trivial, found.target_variance, found.prediction_variance]
        logged = torch.stack(logged).double() / shared.masked
        return found.loss / shared.masked, dict(zip(self.metrics, logged, strict=True))

    def before_training(self, weights: MasterWeights) -> None:
        averaged = f"{self.network.base_model_prefix}.encoder."
        shared = f"{averaged}pos_conv_embed."
        self.teacher = Teacher(weights, lambda name: name.startswith(averaged) and not name.startswith(shared))

    def after_update(self, update: int, weights: MasterWeights) -> None:
        self.teacher.follow(weights, decay_at(update, self.settings.updates, self.settings.data2vec))

    def state(self) -> dict[str, torch.Tensor]:
        return self.teacher.state()

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        self.teacher.restore(tensors)

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        for what, least in (("target", 0.01), ("prediction", 1e-4)):
            variances = [row[f"{what}_variance"] for row in rows]
            if max(variances) < least:
                return (
                    f"{what}s hardly vary within an utterance (variance {variances[-1]:.2g}); lower learning_rate, "
                    "raise warmup, or let the teacher change more slowly (data2vec.ema_start nearer to 1)"
                )
        return super().remedy(rows)
