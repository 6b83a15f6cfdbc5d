"""BEST-RQ (Chiu et al. 2022, arXiv 2202.01855): classification of masked frames by their code in a random quantiser.

The quantiser projects the log-mel features of a frame with a random matrix and takes the nearest entry of a random
codebook; neither is trained.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), S samples, W windows in a frame,
M mel bands, F = W * M, G codebooks, V entries of a codebook, E their size, D dimensions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from headstart.devices import moved
from headstart.encoder.front_end import MEL_HOP, MEL_WINDOW, frame_counts, frame_stride, length_mask, samples_for
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.codes import CodeObjective
from headstart.study.pretrain import BestRq, Pretrain
from headstart.training.batching import Batch

MEL_BANDS, MEL_FFT = 80, 512


class RandomQuantiser(torch.nn.Module):
    """The frozen quantiser, held as buffers, and the trained output layer over its codes.

    The projections (G, F, E) are Glorot (Xavier) initialised; the codebook entries (G, V, E) are drawn from a normal
    distribution and scaled to unit length (section 3.1 of the paper).
    """

    def __init__(self, config: Any, settings: BestRq):
        super().__init__()
        groups, entries, size = settings.codebooks, settings.entries, settings.code_size
        projection_GFE = torch.stack(
            [torch.nn.init.xavier_uniform_(torch.empty(stacked(config) * MEL_BANDS, size)) for _ in range(groups)]
        )
        self.register_buffer("projection", projection_GFE)
        self.register_buffer("codebooks", F.normalize(torch.randn(groups, entries, size), dim=-1))
        self.head = torch.nn.Linear(config.hidden_size, groups * entries)

    def logits(self, context_BND: torch.Tensor) -> torch.Tensor:
        """Unnormalised scores of the codes, in float32: (B, N, G, V)."""
        return self.head(context_BND).float().unflatten(-1, self.codebooks.shape[:2])


def stacked(config: Any) -> int:
    """W, the number of log-mel windows that are stacked for a frame of the encoder: one for each 10 ms."""
    return max(1, round(frame_stride(config) / MEL_HOP))


@cache
def mel_filters(device: torch.device | None = None) -> torch.Tensor:
    """Matrix from the power spectrum of a 25 ms window to mel bands: (MEL_FFT / 2 + 1, M)."""
    from torchaudio.functional import melscale_fbanks  # here, because other objectives do not need it

    filters = melscale_fbanks(MEL_FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, MEL_BANDS, SAMPLE_RATE, mel_scale="htk")
    return moved(filters, device or filters.device)


def stacked_log_mel(config: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Log-mel features for each frame of the encoder: the W windows of 25 ms that belong to it, stacked.

    The windows of a frame are spaced evenly over the stride and centred on the frame's receptive field. Each of the F
    features has zero mean and unit variance over the utterance's valid frames: without this, few codes would be used
    (section 3.1 of the paper).

    Args:
        config: of the encoder.
        audio_BS: padded audio at 16 kHz.
        samples: valid samples of each clip, on the CPU (B,).

    Returns:
        Features, float32 (B, T, F); zero at frames of padding.
    """
    device = audio_BS.device
    stride, windows, receptive = frame_stride(config), stacked(config), samples_for(config, 1)
    hop, size = stride // windows, int(frame_counts(config, torch.tensor(audio_BS.shape[1])))
    before = ((windows - 1) * hop + MEL_WINDOW - receptive) // 2  # the first window starts before the receptive field
    starts_TW = (
        torch.arange(size, device=device)[:, None] * stride + torch.arange(windows, device=device) * hop - before
    )
    padded_BS = F.pad(audio_BS.float(), (max(0, before), MEL_WINDOW + stride))
    frames_BTWS = padded_BS.unfold(1, MEL_WINDOW, 1)[:, starts_TW + max(0, before)]
    frames_BTWS = (frames_BTWS - frames_BTWS.mean(-1, keepdim=True)) * torch.hann_window(MEL_WINDOW, device=device)
    power = torch.fft.rfft(frames_BTWS, MEL_FFT).abs().square()
    x_BTF = (power @ mel_filters(device) + 1e-6).log().flatten(2)
    frames = moved(frame_counts(config, samples), device)
    real_BT1, count_B11 = length_mask(frames, size)[:, :, None], frames.clamp(min=1)[:, None, None]
    x_BTF = x_BTF.masked_fill(~real_BT1, 0.0)
    x_BTF = (x_BTF - x_BTF.sum(1, keepdim=True) / count_B11) * real_BT1
    return x_BTF * (x_BTF.square().sum(1, keepdim=True) / count_B11 + 1e-5).rsqrt()


def nearest_codes(x_BTF: torch.Tensor, projection_GFE: torch.Tensor, codebooks_GVE: torch.Tensor) -> torch.Tensor:
    """Index of the codebook entry nearest to each projected frame, both of unit length (equation 1): (B, T, G)."""
    projected = F.normalize(torch.einsum("btf,gfe->btge", x_BTF, projection_GFE), dim=-1)
    return torch.einsum("btge,gve->btgv", projected, codebooks_GVE).argmax(-1)


class BestRqObjective(CodeObjective):
    """BEST-RQ's objective, for a network with a `RandomQuantiser` as `best_rq`.

    It differs from the paper in the masking: masked frames are replaced by the encoder's learnt embedding, as for the
    other objectives, whereas the paper replaces its input, log-mel features, by noise. The loss is the mean over
    codebooks: the paper has one, Zhang et al. 2023 (arXiv 2303.01037) have several.
    """

    metrics = ("code_loss", "trivial_loss", "code_accuracy", "code_perplexity")
    loss_name, head_name = "code_loss", "best_rq"
    same_codes = "raise best_rq.entries"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        quantiser = network.best_rq
        super().__init__(network, clips, settings, freeze_front_end, seed, tuple(quantiser.codebooks.shape[:2]))
        # Copies in float32: the network may be cast to bfloat16, and rounded weights would give other codes.
        self.quantiser = [x.detach().float().clone() for x in (quantiser.projection, quantiser.codebooks)]

    def codes(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        device = self.network.best_rq.head.weight.device
        self.quantiser = [moved(x, device) for x in self.quantiser]
        audio_BS, samples = self.audio(batch, positions)
        return nearest_codes(stacked_log_mel(self.network.config, moved(audio_BS, device), samples), *self.quantiser)
