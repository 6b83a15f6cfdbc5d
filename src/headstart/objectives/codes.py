"""Base class of the objectives that classify masked frames by codes which training does not change.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), R masked frames of a part,
G codebooks, V entries of a codebook, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from headstart.devices import moved, rows
from headstart.encoder.model import encode
from headstart.features.clips import Clips
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.pretrain import Pretrain
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks


@dataclass
class CodeDraws(Masks):
    """The masks of a batch, and the targets at its masked frames.

    Attributes:
        codes_BNG: target codes; only filled in for the clips of this process's parts.
        trivial: mean cross-entropy, in nats, of predicting each code by its frequency so far; mean over codebooks.
        perplexity: of the distribution of the batch's codes; mean over codebooks.
    """

    codes_BNG: torch.Tensor
    trivial: torch.Tensor
    perplexity: torch.Tensor


class CodeObjective(MaskedAudio):
    """Cross-entropy of the code of each masked frame, in each of several codebooks.

    The network has an output layer with a method `logits`, from the encoder's output (B, N, D) to scores of the codes
    (B, N, G, V) in float32.

    The loss of the trivial predictor, against which collapse is detected, uses the frequencies of codes in all batches
    so far. Those of the current batch would be too strong a baseline: with a few hundred frames, they would fit its
    codes too closely.

    `metrics` are the names of the loss, the trivial loss, the share of codes that are predicted, and the perplexity.
    """

    head_name: str  # of the output layer
    same_codes: str  # what to change when all frames have the same code

    def __init__(
        self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int, shape: tuple[int, int]
    ):
        super().__init__(network, clips, settings, freeze_front_end, seed)
        self.seen_GV = torch.zeros(shape, dtype=torch.float64)
        self.counted = (0, self.seen_GV)  # the latest update, and what had been seen before it

    def codes(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        """Codes of all frames, masked or not, of a part of a batch (B, T, G), on the network's device."""
        raise TypeError(f"{type(self).__name__} has no codes")

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> CodeDraws:
        masks = self.masks(batch, ranks)
        groups, entries = self.seen_GV.shape
        codes_BNG = torch.zeros(*masks.real_BN.shape, groups, dtype=torch.long, device=ranks.device)
        counts_GV = torch.zeros(groups, entries, dtype=torch.float64, device=ranks.device)
        for positions in filter(None, own):
            codes_BTG = self.codes(batch, positions)
            found_BNG = gather_frames(codes_BTG, rows(masks.index_BN, positions))
            codes_BNG.index_copy_(0, moved(torch.tensor(positions), ranks.device), found_BNG)
            found_RG = found_BNG.flatten(0, 1).index_select(0, masks.places(positions))
            counts_GV += F.one_hot(found_RG, entries).sum(0)
        counts_GV = ranks.sum_in_place(counts_GV)
        if update != self.counted[0]:
            self.counted = (update, moved(self.seen_GV, ranks.device))
        self.seen_GV = self.counted[1] + counts_GV
        shares_GV = counts_GV / masks.masked
        perplexity = torch.special.entr(shares_GV).sum(-1).exp().mean()
        guessed_GV = self.seen_GV / self.seen_GV.sum(-1, keepdim=True)
        trivial = -torch.special.xlogy(shares_GV, guessed_GV).sum(-1).mean()
        return CodeDraws(**vars(masks), codes_BNG=codes_BNG, trivial=trivial, perplexity=perplexity)

    def loss(
        self, batch: Batch, shared: CodeDraws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        features_BTC, places = self.features(batch, positions), shared.places(positions)
        frames, mask_BT = rows(shared.frames, positions), rows(shared.mask_BT, positions)
        context_BTD, _ = encode(self.network.base_model, features_BTC, frames, mask_BT)
        context_BND = gather_frames(context_BTD, rows(shared.index_BN, positions))
        scores_BNGV = getattr(self.network, self.head_name).logits(context_BND)
        logits_RGV = scores_BNGV.flatten(0, 1).index_select(0, places)
        codes_RG = rows(shared.codes_BNG, positions).flatten(0, 1).index_select(0, places)
        loss = F.cross_entropy(logits_RGV.flatten(0, 1), codes_RG.flatten(), reduction="sum") / codes_RG.shape[1]
        correct = (logits_RGV.argmax(-1) == codes_RG).double().mean(-1).sum()
        share = len(codes_RG) / shared.masked  # so that values for the whole batch add up over its parts
        logged = [loss.detach().double() / shared.masked, shared.trivial * share, correct / shared.masked]
        logged.append(shared.perplexity * share)
        return loss / shared.masked, dict(zip(self.metrics, logged, strict=True))

    def state(self) -> dict[str, torch.Tensor]:
        return {"seen": self.seen_GV}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        self.seen_GV = tensors["seen"]

    def remedy(self, found: list[dict[str, float]]) -> str | None:
        perplexity = self.metrics[-1]
        if all(row[perplexity] < 1.5 for row in found):
            return (
                f"all frames have the same code (perplexity {found[-1][perplexity]:.2f}); is the audio silent? "
                f"Otherwise {self.same_codes}"
            )
        return super().remedy(found)
