"""BEST-RQ (Chiu et al. 2022, arXiv 2202.01855): masked frames tell their code in a random, frozen quantiser.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), S samples, W windows in a frame,
M mel bands, F = W * M, G codebooks, V entries of a codebook, E their size, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank

from headstart.encoder.front_end import MEL_HOP, MEL_WINDOW, frame_counts, frame_stride, length_mask, samples_for
from headstart.encoder.model import encode
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.sections import BestRq, Pretrain
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks

MEL_BANDS, MEL_FFT = 80, 512


class RandomQuantiser(torch.nn.Module):
    """The frozen quantiser as buffers, and an output layer over its codes.

    Projections (G, F, E) have Glorot's initial values, entries (G, V, E) are normal and of unit length (section 3.1).
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
        """Scores of the codes, in float32: (B, N, G, V)."""
        return self.head(context_BND).float().unflatten(-1, self.codebooks.shape[:2])


def stacked(config: Any) -> int:
    """W, the windows of log-mel features in a frame of the encoder: one for each 10 ms."""
    return max(1, round(frame_stride(config) / MEL_HOP))


@cache
def mel_filters() -> torch.Tensor:
    """From powers of a 25 ms spectrum to mel bands: (MEL_FFT / 2 + 1, M)."""
    bands = mel_filter_bank(MEL_FFT // 2 + 1, MEL_BANDS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="kaldi")
    return torch.from_numpy(bands).float()


def stacked_log_mel(config: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Log-mel features for each frame of an encoder, normalised over each utterance, in float32: (B, T, F).

    A frame's windows of 25 ms, evenly over its stride, lie about the middle of what the front-end makes it from.
    Every band of every window has zero mean and unit variance over the utterance's real frames (section 3.1: without
    it, few codes are used). Other frames are zero.

    Args:
        config: of the encoder.
        audio_BS: padded audio.
        samples: valid samples of each clip (B,).
    """
    stride, windows, receptive = frame_stride(config), stacked(config), samples_for(config, 1)
    hop, size = stride // windows, int(frame_counts(config, torch.tensor(audio_BS.shape[1])))
    before = ((windows - 1) * hop + MEL_WINDOW - receptive) // 2  # samples before what the front-end takes
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
    """The entry nearest to each projected frame, both of unit length (equation 1): (B, T, G)."""
    projected = F.normalize(torch.einsum("btf,gfe->btge", x_BTF, projection_GFE), dim=-1)
    return torch.einsum("btge,gve->btgv", projected, codebooks_GVE).argmax(-1)


@dataclass
class Draws(Masks):
    """What a batch shares besides its masks.

    Codes of masked frames (B, N, G), of this process's parts only; what a masked frame costs whose code is guessed by
    the codes' frequencies, in nats, and the perplexity of the batch's codes, both the mean over codebooks.
    """

    codes_BNG: torch.Tensor
    trivial: float
    perplexity: float


class BestRqObjective(MaskedAudio):
    """BEST-RQ's objective, for a network with a `RandomQuantiser` as `best_rq`.

    Masked frames are the encoder's learnt embedding here, as for the other objectives; the paper masks its input,
    log-mel features, with noise. What is learnt is compared with guessing by the frequencies of codes in all batches so
    far: those of one batch, of some hundred frames, would know better than any prediction what codes it has.
    """

    metrics = ("code_loss", "trivial_loss", "code_accuracy", "code_perplexity")
    loss_name = "code_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        super().__init__(network, clips, settings, freeze_front_end, seed)
        # Copies: training may compute in a type whose rounding would change codes.
        self.projection_GFE = network.best_rq.projection.detach().float().cpu().clone()
        self.codebooks_GVE = network.best_rq.codebooks.detach().float().cpu().clone()
        self.seen_GV = torch.zeros(self.codebooks_GVE.shape[:2], dtype=torch.float64)

    def codes(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        """Codes of all frames of a part of a batch (B, T, G)."""
        x_BTF = stacked_log_mel(self.network.config, *self.audio(batch, positions))
        return nearest_codes(x_BTF, self.projection_GFE, self.codebooks_GVE)

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Draws:
        masks = self.masks(batch, ranks)
        groups, entries, _ = self.codebooks_GVE.shape
        codes_BNG = torch.zeros(*masks.real_BN.shape, groups, dtype=torch.long, device=ranks.device)
        counts_GV = torch.zeros(groups, entries, dtype=torch.float64, device=ranks.device)
        for positions in filter(None, own):
            codes_BTG = self.codes(batch, positions).to(ranks.device)
            codes_BNG[positions] = gather_frames(codes_BTG, masks.index_BN[positions])
            found_NG = codes_BNG[positions][masks.real_BN[positions]]
            counts_GV += F.one_hot(found_NG, entries).sum(0)
        counts_GV = ranks.sum_(counts_GV)
        self.seen_GV = self.seen_GV.to(ranks.device) + counts_GV
        shares_GV = counts_GV / masks.masked
        perplexity = float(torch.special.entr(shares_GV).sum(-1).exp().mean())
        guessed_GV = self.seen_GV / self.seen_GV.sum(-1, keepdim=True)
        trivial = float(-torch.special.xlogy(shares_GV, guessed_GV).sum(-1).mean())
        return Draws(**vars(masks), codes_BNG=codes_BNG, trivial=trivial, perplexity=perplexity)

    def loss(
        self, batch: Batch, shared: Draws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        features_BTC, real_BN = self.features(batch, positions), shared.real_BN[positions]
        frames, mask_BT = shared.frames[positions], shared.mask_BT[positions]
        context_BTD, _ = encode(self.network.base_model, features_BTC, frames, mask_BT)
        context_BND = gather_frames(context_BTD, shared.index_BN[positions])
        logits_RGV, codes_RG = self.network.best_rq.logits(context_BND)[real_BN], shared.codes_BNG[positions][real_BN]
        # The mean over codebooks, as in Zhang et al. 2023 (arXiv 2303.01037), which has several.
        loss = F.cross_entropy(logits_RGV.flatten(0, 1), codes_RG.flatten(), reduction="sum") / codes_RG.shape[1]
        correct = (logits_RGV.argmax(-1) == codes_RG).double().mean(-1).sum()
        share = len(codes_RG) / shared.masked  # of what the whole batch has in common
        told = [loss.item() / shared.masked, shared.trivial * share, correct.item() / shared.masked]
        told.append(shared.perplexity * share)
        return loss / shared.masked, dict(zip(self.metrics, told, strict=True))

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
