"""The wav2vec 2.0 objective (Baevski et al. 2020, arXiv 2006.11477): contrastive and diversity loss.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), K negatives, G codebooks,
V entries of a codebook, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from headstart.encoder.front_end import front_end, prepared_audio
from headstart.encoder.model import encode
from headstart.errors import HeadstartError
from headstart.features.clips import Clips
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.sections import Pretrain
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks


def gumbel_noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Noise of the standard Gumbel distribution."""
    return -torch.empty(shape, device=device).exponential_().log()


def sample_negatives(counts: torch.Tensor, size: int, negatives: int) -> torch.Tensor:
    """For each masked frame, other masked frames of the same utterance, drawn with replacement.

    Args:
        counts: masked frames of each utterance (B,).
        size: N, at least the largest count.

    Returns:
        int64 positions among the utterance's masked frames (B, N, K), never the frame itself. An utterance with a
        single masked frame has no other: it gets itself, which `contrastive_loss` leaves out as equal to the target.
    """
    others = (counts - 1).clamp(min=1)[:, None, None]
    draw = (torch.rand(len(counts), size, negatives, device=counts.device) * others).long().minimum(others - 1)
    own = torch.arange(size, device=counts.device)[None, :, None]
    return torch.where(counts[:, None, None] > 1, draw + (draw >= own), torch.zeros_like(draw))


@dataclass
class Quantised:
    """Targets of masked frames: vectors (B, N, D), codes (B, N, G), and the codebooks' perplexity, summed over them."""

    vectors: torch.Tensor
    codes: torch.Tensor
    perplexity: torch.Tensor


def summed_probability(quantizer: torch.nn.Module, features_BND: torch.Tensor, real_BN: torch.Tensor) -> torch.Tensor:
    """Probabilities of the entries, summed over real frames: (G, V)."""
    return _over_real(_code_logits(quantizer, features_BND).softmax(-1), real_BN)


def _code_logits(quantizer: torch.nn.Module, features_BND: torch.Tensor) -> torch.Tensor:
    """Unnormalised scores of each codebook's entries, in float32: (B, N, G, V)."""
    return quantizer.weight_proj(features_BND).float().unflatten(-1, (quantizer.num_groups, quantizer.num_vars))


def _over_real(x_BNGV: torch.Tensor, real_BN: torch.Tensor) -> torch.Tensor:
    """Sum over real frames: (G, V)."""
    return (x_BNGV * real_BN[..., None, None]).sum((0, 1))


def quantise(
    quantizer: torch.nn.Module,
    features_BND: torch.Tensor,
    real_BN: torch.Tensor,
    tau: float,
    noise_BNGV: torch.Tensor | None = None,
    frames: int | None = None,
    mean_GV: torch.Tensor | None = None,
) -> Quantised:
    """Gumbel-softmax product quantisation with the weights of transformers' `Wav2Vec2GumbelVectorQuantizer`.

    Straight-through: the forward value is the drawn entry, the gradient is the softmax's. `tau` 0 takes the most
    likely entry without noise (evaluation). The perplexity is that of the entries' mean probability (in evaluation, of
    their frequency) over all real frames, summed over codebooks, at most G * V.

    A part of a batch is told the real `frames` of the whole batch and their mean probability `mean_GV`: its perplexity
    is then the whole batch's, and its gradient the part's share of it.
    """
    groups, entries = quantizer.num_groups, quantizer.num_vars
    logits = _code_logits(quantizer, features_BND)
    if tau:
        noise = gumbel_noise(logits.shape, logits.device) if noise_BNGV is None else noise_BNGV
        soft = ((logits + noise) / tau).softmax(-1)
        index = soft.argmax(-1)
        choice = F.one_hot(index, entries) - soft.detach() + soft if torch.is_grad_enabled() else None
        probability = logits.softmax(-1)
    else:
        index = logits.argmax(-1)
        choice = probability = F.one_hot(index, entries).float()
    own_GV = _over_real(probability, real_BN) / (frames or real_BN.sum())
    mean_GV = own_GV if mean_GV is None else mean_GV + own_GV - own_GV.detach()
    perplexity = torch.exp(-(mean_GV * torch.log(mean_GV + 1e-7)).sum(-1)).sum()
    codebook_GVD = quantizer.codevectors.view(groups, entries, -1)
    if choice is not None:
        vectors = torch.einsum("bngv,gvd->bngd", choice.to(codebook_GVD.dtype), codebook_GVD).flatten(2)
    else:  # nothing passes back
        vectors = codebook_GVD[torch.arange(groups, device=index.device), index].flatten(2)
    return Quantised(vectors, index, perplexity)


@dataclass
class Contrast:
    """Sums over real frames: the loss, right picks, the loss at chance, and how alike an utterance's targets are.

    `chance` is what a frame costs that knows nothing, the log of its number of candidates. `similarity` is the mean
    cosine between targets of one utterance: near 1 there is nothing to tell apart.
    """

    loss: torch.Tensor
    correct: torch.Tensor
    chance: torch.Tensor
    similarity: torch.Tensor


def contrastive_loss(
    context_BND: torch.Tensor,
    target_BND: torch.Tensor,
    codes_BNG: torch.Tensor,
    real_BN: torch.Tensor,
    negatives_BNK: torch.Tensor,
    temperature: float,
) -> Contrast:
    """Cross-entropy of picking each masked frame's own target among its negatives, by cosine similarity.

    Negatives with the target's own codes are left out. Similarities of an utterance's frames are one matrix
    product, from which each frame's negatives are picked; no vector is copied K times.
    """
    context = F.normalize(context_BND.float(), dim=-1, eps=1e-8)
    target = F.normalize(target_BND.float(), dim=-1, eps=1e-8)
    similarity_BNN = context @ target.transpose(1, 2) / temperature
    positive = similarity_BNN.diagonal(dim1=1, dim2=2)
    negative = similarity_BNN.gather(2, negatives_BNK)
    rows = torch.arange(len(negatives_BNK), device=negatives_BNK.device)[:, None, None]
    same = (codes_BNG[rows, negatives_BNK] == codes_BNG[:, :, None]).all(-1)
    logits = torch.cat([positive[..., None], negative.masked_fill(same, -torch.inf)], dim=-1)
    losses = logits.logsumexp(-1) - positive
    correct = (logits.argmax(-1) == 0) & real_BN
    with torch.no_grad():
        chance = (1 + (~same).sum(-1)).log()
        # The mean of all pairs' cosines is the squared length of the mean of unit vectors.
        means = (target * real_BN[..., None]).sum(1)
        similarity = means.square().sum(-1) / real_BN.sum(1).clamp(min=1)
    return Contrast(losses[real_BN].sum(), correct.sum(), chance[real_BN].sum(), similarity.sum())


def diversity_loss(perplexity: torch.Tensor, codes: int, frames: torch.Tensor | int) -> torch.Tensor:
    """Share of the `codes` entries that are not used, (codes - perplexity) / codes, once for each masked frame."""
    return (codes - perplexity) / codes * frames


@torch.no_grad()
def initialise_quantiser(quantizer: torch.nn.Module, features_NC: torch.Tensor, rounds: int = 15) -> None:
    """Let a new quantiser begin as k-means clusters of the features that it will see.

    Each codebook clusters its share of the features' principal components (every G-th of the largest 64, scaled to
    the square root of their deviation, so that the loudest do not decide alone). A cluster's logit is linear in the
    features, nearest centre first, so k-means is a setting of the quantiser's own weights; they are scaled until the
    nearest centre typically leads by 5, which Gumbel noise seldom overturns.

    Random weights, as transformers draws them, give codes that are noise, and an encoder long stays at chance.

    Args:
        features_NC: normalised front-end features of N frames.

    Raises:
        HeadstartError: there are fewer than 20 frames for each entry of a codebook.
    """
    groups, entries = quantizer.num_groups, quantizer.num_vars
    if len(features_NC) < 20 * entries:
        raise HeadstartError(
            f"{len(features_NC)} frames of audio are too few to begin a codebook of {entries} entries; "
            "give the start more audio, or set model.codebook_entries lower"
        )
    x = features_NC.double()
    centred = x - x.mean(0)
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(x))
    keep = min(64, x.shape[1])
    axes_CP = (directions / variance.clamp(min=1e-8) ** 0.25).flip(1)[:, :keep]
    weight, bias = [], []
    for group in range(groups):
        axes = axes_CP[:, group::groups]
        z = centred @ axes
        centres = z[torch.randperm(len(z), device=z.device)[:entries]]
        for _ in range(rounds):
            nearest = torch.cdist(z, centres).argmin(1)
            counts = torch.bincount(nearest, minlength=entries)
            sums = torch.zeros_like(centres).index_add_(0, nearest, z)
            # A centre that lost all its frames starts again at a random one.
            lost = z[torch.randint(len(z), (entries,), device=z.device)]
            centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), lost)
        logits = 2 * z @ centres.T - (centres**2).sum(1)
        best, second = logits.topk(2, dim=1).values.T
        scale = 5 / (best - second).median()
        rows = 2 * scale * centres @ axes.T
        weight.append(rows)
        bias.append(-scale * (centres**2).sum(1) - rows @ x.mean(0))
    quantizer.weight_proj.weight.copy_(torch.cat(weight))
    quantizer.weight_proj.bias.copy_(torch.cat(bias))
    torch.nn.init.normal_(quantizer.codevectors)


@torch.no_grad()
def sample_features(network: Any, clips: Clips, seed: int) -> torch.Tensor:
    """Normalised front-end features (N, C) of 200 frames for each entry of a codebook, or of all clips if fewer."""
    wanted, rows = 200 * network.config.num_codevectors_per_group, []
    for i in np.random.default_rng(seed).permutation(len(clips)):
        audio = torch.from_numpy(clips.audio(i).copy())
        features_BTC = front_end(network.base_model, *prepared_audio(network.config, [audio], len(audio)))
        rows.append(network.base_model.feature_projection.layer_norm(features_BTC)[0])
        if sum(map(len, rows)) >= wanted:
            break
    return torch.cat(rows)


@dataclass
class Draws(Masks):
    """What a batch shares besides its masks.

    Negatives (B, N, K); Gumbel noise (B, N, G, V); the parts that hold some clips; with several parts, the mean
    probability of each code (G, V).
    """

    negatives_BNK: torch.Tensor
    noise_BNGV: torch.Tensor
    parts: int
    mean_GV: torch.Tensor | None = None


class ContrastiveObjective(MaskedAudio):
    """wav2vec 2.0's objective, for transformers' networks with its quantiser and projections."""

    metrics = (
        "contrastive_loss", "chance_loss", "accuracy", "target_similarity", "diversity_loss", "perplexity"
    )  # fmt: skip
    loss_name, trivial_name = "contrastive_loss", "chance_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        super().__init__(network, clips, settings, freeze_front_end, seed)
        config = network.config
        self.frozen_updates = settings.freeze_quantiser * settings.updates
        self.codes = config.num_codevector_groups * config.num_codevectors_per_group

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Draws:
        network, masks = self.network, self.masks(batch, ranks)
        quantizer, counts = network.quantizer, masks.real_BN.sum(1).cpu()
        entries = (quantizer.num_groups, quantizer.num_vars)
        negatives_BNK = sample_negatives(counts, masks.real_BN.shape[1], self.settings.negatives)
        noise_BNGV = gumbel_noise((*masks.real_BN.shape, *entries), ranks.device)
        parts = int(ranks.sum_(torch.tensor(len(list(filter(None, own))), device=ranks.device)))
        draws = Draws(**vars(masks), negatives_BNK=negatives_BNK.to(ranks.device), noise_BNGV=noise_BNGV, parts=parts)
        if draws.parts > 1:
            # The diversity loss is no sum over clips: each part needs to know what the others make of the codes.
            mean_GV = torch.zeros(entries, device=ranks.device)
            for positions in filter(None, own):
                with torch.no_grad():
                    features_BTC = self.features(batch, positions)
                    normed_BNC = gather_frames(
                        network.base_model.feature_projection.layer_norm(features_BTC), draws.index_BN[positions]
                    )
                    mean_GV += summed_probability(quantizer, normed_BNC, draws.real_BN[positions])
            draws.mean_GV = ranks.sum_(mean_GV) / draws.masked
        return draws

    def loss(
        self, batch: Batch, shared: Draws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        network, settings = self.network, self.settings
        index_BN, real_BN = shared.index_BN[positions], shared.real_BN[positions]
        features_BTC = self.features(batch, positions)
        frames, mask_BT = shared.frames[positions], shared.mask_BT[positions]
        context_BTD, normed_BTC = encode(network.base_model, features_BTC, frames, mask_BT)
        context_BND = gather_frames(context_BTD, index_BN)
        normed_BNC = gather_frames(normed_BTC, index_BN)
        tau = max(settings.gumbel_start * settings.gumbel_decay**update, settings.gumbel_end)
        # While the quantiser is frozen nothing may bend it through its input either: at first it is easier to flatten
        # every code distribution, which serves the diversity loss, than to predict any of them.
        with torch.set_grad_enabled(update > self.frozen_updates):
            targets = quantise(
                network.quantizer, normed_BNC, real_BN, tau, shared.noise_BNGV[positions], shared.masked, shared.mean_GV
            )
        found = contrastive_loss(
            network.project_hid(context_BND),
            network.project_q(targets.vectors),
            targets.codes,
            real_BN,
            shared.negatives_BNK[positions],
            settings.contrastive_temperature,
        )
        diversity = diversity_loss(targets.perplexity, self.codes, shared.masked)
        # Its gradient is the part's own; of its value, which all parts have in common, each counts its share.
        value = diversity.detach() / shared.parts
        total = found.loss + settings.diversity_weight * (diversity - diversity.detach() + value)
        told = [found.loss.detach(), found.chance, found.correct, found.similarity, value]
        told = [*torch.stack(told).double() / shared.masked, targets.perplexity.detach().double() / shared.parts]
        return total / shared.masked, dict(zip(self.metrics, torch.stack(told).tolist(), strict=True))

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        quantizer, patience = self.network.quantizer, self.settings.patience
        fewest = max(1.5 * quantizer.num_groups, 0.02 * self.codes)
        if all(row["perplexity"] < fewest for row in rows):
            return (
                f"the quantiser uses {rows[-1]['perplexity']:.1f} of {self.codes} codes (perplexity); raise "
                "diversity_weight, lower learning_rate, or keep the quantiser as it begins (freeze_quantiser: 1)"
            )
        if all(row["target_similarity"] > 0.99 for row in rows):
            return (
                f"all targets of an utterance are alike (cosine {rows[-1]['target_similarity']:.3f}); lower "
                "learning_rate, or freeze the front-end (freeze_front_end: true)"
            )
        if all(row["contrastive_loss"] > 0.995 * row["chance_loss"] for row in rows):
            return (
                f"the loss stays at chance ({rows[-1]['contrastive_loss']:.3f} of {rows[-1]['chance_loss']:.3f}) for "
                f"{patience} updates; raise learning_rate, lower diversity_weight, keep the quantiser as it "
                "begins (freeze_quantiser: 1), or raise patience if the rate is still rising"
            )
        return None

    def trainable(self, update: int) -> set[str]:
        names = super().trainable(update)
        if update <= self.frozen_updates:
            names = {name for name in names if not name.startswith("quantizer.")}
        return names
