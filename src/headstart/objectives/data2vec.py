"""data2vec (Baevski et al. 2022, arXiv 2202.03555): masked frames tell what a teacher makes of the whole utterance.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headstart.encoder.front_end import length_mask
from headstart.encoder.model import encode, layer_outputs
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.sections import Data2vec
from headstart.training.batching import Batch
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks
from headstart.training.teacher import Teacher


def decay_at(update: int, updates: int, settings: Data2vec) -> float:
    """The teacher's decay after an update, counted from 1: linear from first to last (section 3.3), then constant."""
    annealed = settings.ema_anneal * updates
    passed = min(1.0, update / annealed) if annealed else 1.0
    return settings.ema_start + passed * (settings.ema_end - settings.ema_start)


def layer_targets(layers: list[torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
    """The mean of layers' outputs, each instance-normalised before (section 4.2), in float32: (B, T, D).

    Every channel of a layer gets zero mean and unit variance over the utterance's real frames, with the epsilon of
    torch's instance norm. Frames that are not real hold no meaning.

    Args:
        layers: outputs of layers (B, T, D).
        frames: each clip's real frames (B,).
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
    """Sums over real frames of what is averaged over channels.

    The squared error; that of a prediction of zero, the mean to which targets are normalised; and the variances of
    target and prediction about their means over an utterance's masked frames.
    """

    loss: torch.Tensor
    trivial: torch.Tensor
    target_variance: torch.Tensor
    prediction_variance: torch.Tensor


def regression_loss(prediction_BND: torch.Tensor, target_BND: torch.Tensor, real_BN: torch.Tensor) -> Regression:
    """Mean squared error of each masked frame, the paper's choice for speech (equation 2 with beta 0), in float32."""
    prediction, target = prediction_BND.float(), target_BND.float()

    def mean_square(x_BND: torch.Tensor) -> torch.Tensor:
        return (x_BND.square().mean(-1) * real_BN).sum()

    def variance(x_BND: torch.Tensor) -> torch.Tensor:
        counts = real_BN.sum(1).clamp(min=1)[:, None, None]
        return mean_square(x_BND - (x_BND * real_BN[..., None]).sum(1, keepdim=True) / counts)

    with torch.no_grad():
        told = mean_square(target), variance(target), variance(prediction)
    return Regression(mean_square(prediction - target), *told)


class Data2vecObjective(MaskedAudio):
    """data2vec's objective, for a network with a `predictor`, the linear layer from context to target (section 3.3).

    Where the paper averages the outputs of feed-forward blocks before the residual is added, this takes what layers
    give, residual included (`model.layer_outputs`), which every family of encoders has. The teacher averages the
    Transformer alone; front-end, feature projection and positional convolution are the student's (section 3.3).
    """

    metrics = ("regression_loss", "trivial_loss", "target_variance", "prediction_variance")
    loss_name = "regression_loss"
    teacher: Teacher

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Masks:
        return self.masks(batch, ranks)

    def loss(
        self, batch: Batch, shared: Masks, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        encoder, index_BN = self.network.base_model, shared.index_BN[positions]
        features_BTC, frames = self.features(batch, positions), shared.frames[positions]
        with self.teacher.standing_in():
            layers = layer_outputs(encoder, features_BTC, frames)[1:]
            target_BTD = layer_targets(layers[-self.settings.data2vec.average_layers :], frames)
        context_BTD, _ = encode(encoder, features_BTC, frames, shared.mask_BT[positions])
        prediction_BND = self.network.predictor(gather_frames(context_BTD, index_BN))
        found = regression_loss(prediction_BND, gather_frames(target_BTD, index_BN), shared.real_BN[positions])
        told = [found.loss.detach(), found.trivial, found.target_variance, found.prediction_variance]
        told = (torch.stack(told).double() / shared.masked).tolist()
        return found.loss / shared.masked, dict(zip(self.metrics, told, strict=True))

    def begin(self, weights: MasterWeights) -> None:
        averaged = f"{self.network.base_model_prefix}.encoder."
        shared = f"{averaged}pos_conv_embed."
        self.teacher = Teacher(weights, lambda name: name.startswith(averaged) and not name.startswith(shared))

    def stepped(self, update: int, weights: MasterWeights) -> None:
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
                    "raise warmup, or slow the teacher down (data2vec.ema_start nearer to 1)"
                )
        return super().remedy(rows)
