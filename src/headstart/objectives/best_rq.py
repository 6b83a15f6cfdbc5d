"""BEST-RQ (Chiu et al. 2022, arXiv 2202.01855): classification of masked frames by their code in a random quantiser.

The quantiser projects the log-mel features of a frame with a random matrix and takes the nearest entry of a random
codebook; neither is trained.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), S samples, W windows in a frame,
M mel bands, F = W * M, G codebooks, V entries of a codebook, E their size, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from headstart.encoder.front_end import MEL_HOP, MEL_WINDOW, frame_counts, frame_stride, length_mask, samples_for
from headstart.encoder.model import encode
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.pretrain import BestRq, Pretrain
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks

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
def mel_filters() -> torch.Tensor:
    """Matrix from the power spectrum of a 25 ms window to mel bands: (MEL_FFT / 2 + 1, M)."""
    from torchaudio.functional import melscale_fbanks  # here, because other objectives do not need it

    return melscale_fbanks(MEL_FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, MEL_BANDS, SAMPLE_RATE, mel_scale="htk")


def stacked_log_mel(config: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Log-mel features for each frame of the encoder: the W windows of 25 ms that belong to it, stacked.

    The windows of a frame are spaced evenly over the stride and centred on the frame's receptive field. Each of the F
    features has zero mean and unit variance over the utterance's valid frames: without this, few codes would be used
    (section 3.1 of the paper).

    Args:
        config: of the encoder.
        audio_BS: padded audio at 16 kHz.
        samples: valid samples of each clip (B,).

    Returns:
        Features, float32 (B, T, F); zero at frames of padding.
    """
    stride, windows, receptive = frame_stride(config), stacked(config), samples_for(config, 1)
    hop, size = stride // windows, int(frame_counts(config, torch.tensor(audio_BS.shape[1])))
    before = ((windows - 1) * hop + MEL_WINDOW - receptive) // 2  # the first window starts before the receptive field
    starts_TW = torch.arange(size)[:, None] * stride + torch.arange(windows)[None] * hop - before
    padded_BS = F.pad(audio_BS.float(), (max(0, before), MEL_WINDOW + stride))
    frames_BTWS = padded_BS.unfold(1, MEL_WINDOW, 1)[:, starts_TW + max(0, before)]
    frames_BTWS = (frames_BTWS - frames_BTWS.mean(-1, keepdim=True)) * torch.hann_window(MEL_WINDOW)
    power = torch.fft.rfft(frames_BTWS, MEL_FFT).abs().square()
    x_BTF = (power @ mel_filters() + 1e-6).log().flatten(2)
    frames = frame_counts(config, samples)
    real_BT1, count_B11 = length_mask(frames, size)[:, :, None], frames.clamp(min=1)[:, None, None]
    x_BTF = x_BTF.masked_fill(~real_BT1, 0.0)
    x_BTF = (x_BTF - x_BTF.sum(1, keepdim=True) / count_B11) * real_BT1
    return x_BTF * (x_BTF.square().sum(1, keepdim=True) / count_B11 + 1e-5).rsqrt()


def nearest_codes(x_BTF: torch.Tensor, projection_GFE: torch.Tensor, codebooks_GVE: torch.Tensor) -> torch.Tensor:
    """Index of the codebook entry nearest to each projected frame, both of unit length (equation 1): (B, T, G)."""
    projected = F.normalize(torch.einsum("btf,gfe->btge", x_BTF, projection_GFE), dim=-1)
    return torch.einsum("btge,gve->btgv", projected, codebooks_GVE).argmax(-1)


@dataclass
class BestRqDraws(Masks):
    """The masks of a batch, and the targets at its masked frames.

    Attributes:
        codes_BNG: target codes; only filled in for the clips of this process's parts.
        trivial: mean cross-entropy, in nats, of predicting each code by its frequency so far; mean over codebooks.
        perplexity: of the distribution of the batch's codes; mean over codebooks.
    """

    codes_BNG: torch.Tensor
    trivial: float
    perplexity: float


class BestRqObjective(MaskedAudio):
    """BEST-RQ's objective, for a network with a `RandomQuantiser` as `best_rq`.

    It differs from the paper in the masking: masked frames are replaced by the encoder's learnt embedding, as for the
    other objectives, whereas the paper replaces its input, log-mel features, by noise.

    `trivial_loss`, against which collapse is detected, uses the frequencies of codes in all batches so far. Those of
    the current batch would be too strong a baseline: with a few hundred frames, they would fit its codes too closely.
    """

    metrics = ("code_loss", "trivial_loss", "code_accuracy", "code_perplexity")
    loss_name = "code_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        super().__init__(network, clips, settings, freeze_front_end, seed)
        # Copies in float32: the network may be cast to bfloat16, and rounded weights would give other codes.
        self.projection_GFE = network.best_rq.projection.detach().float().cpu().clone()
        self.codebooks_GVE = network.best_rq.codebooks.detach().float().cpu().clone()
        self.seen_GV = torch.zeros(self.codebooks_GVE.shape[:2], dtype=torch.float64)

    def codes(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        """Codes of all frames, masked or not, of a part of a batch (B, T, G)."""
        x_BTF = stacked_log_mel(self.network.config, *self.audio(batch, positions))
        return nearest_codes(x_BTF, self.projection_GFE, self.codebooks_GVE)

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> BestRqDraws:
        masks = self.masks(batch, ranks)
        groups, entries, _ = self.codebooks_GVE.shape
        codes_BNG = torch.zeros(*masks.real_BN.shape, groups, dtype=torch.long, device=ranks.device)
        counts_GV = torch.zeros(groups, entries, dtype=torch.float64, device=ranks.device)
        for positions in filter(None, own):
            codes_BTG = self.codes(batch, positions).to(ranks.device)
            codes_BNG[positions] = gather_frames(codes_BTG, masks.index_BN[positions])
            found_NG = codes_BNG[positions][masks.real_BN[positions]]
            counts_GV += F.one_hot(found_NG, entries).sum(0)
        counts_GV = ranks.sum_in_place(counts_GV)
        self.seen_GV = self.seen_GV.to(ranks.device) + counts_GV
        shares_GV = counts_GV / masks.masked
        perplexity = float(torch.special.entr(shares_GV).sum(-1).exp().mean())
        guessed_GV = self.seen_GV / self.seen_GV.sum(-1, keepdim=True)
        trivial = float(-torch.special.xlogy(shares_GV, guessed_GV).sum(-1).mean())
        return BestRqDraws(**vars(masks), codes_BNG=codes_BNG, trivial=trivial, perplexity=perplexity)

    def loss(
        self, batch: Batch, shared: BestRqDraws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        features_BTC, real_BN = self.features(batch, positions), shared.real_BN[positions]
        frames, mask_BT = shared.frames[positions], shared.mask_BT[positions]
        context_BTD, _ = encode(self.network.base_model, features_BTC, frames, mask_BT)
        context_BND = gather_frames(context_BTD, shared.index_BN[positions])
        logits_RGV, codes_RG = self.network.best_rq.logits(context_BND)[real_BN], shared.codes_BNG[positions][real_BN]
        # The mean over codebooks: the paper has one, Zhang et al. 2023 (arXiv 2303.01037) have several.
        loss = F.cross_entropy(logits_RGV.flatten(0, 1), codes_RG.flatten(), reduction="sum") / codes_RG.shape[1]
        correct = (logits_RGV.argmax(-1) == codes_RG).double().mean(-1).sum()
        share = len(codes_RG) / shared.masked  # so that values for the whole batch add up over its parts
        logged = [loss.item() / shared.masked, shared.trivial * share, correct.item() / shared.masked]
        logged.append(shared.perplexity * share)
        return loss / shared.masked, dict(zip(self.metrics, logged, strict=True))

    def state(self) -> dict[str, torch.Tensor]:
        return {"seen": self.seen_GV}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        self.seen_GV = tensors["seen"]

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        if all(row["code_perplexity"] < 1.5 for row in rows):
            return (
                f"all frames have the same code (perplexity {rows[-1]['code_perplexity']:.2f}); is the audio silent? "
                "Otherwise raise best_rq.entries"
            )
        return super().remedy(rows)
