"""The wav2vec 2.0 objective (Baevski et al. 2020, arXiv 2006.11477): a contrastive loss and a diversity loss.

The front-end features of each masked frame are quantised to a target vector. The encoder's output at the frame must
identify it among distractors ("negatives"), the targets of other masked frames of the utterance.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), K negatives, G codebooks,
V entries of a codebook, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from headstart.devices import moved, rows
from headstart.encoder.front_end import front_end, prepared_audio
from headstart.encoder.model import encode
from headstart.features.clips import Clips
from headstart.objectives.clusters import check_enough, k_means, principal_axes, sample_frames
from headstart.objectives.masking import MaskedAudio, Masks, gather_frames
from headstart.study.pretrain import Pretrain
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks


def gumbel_noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Noise of the standard Gumbel distribution."""
    return -torch.empty(shape, device=device).exponential_().log()


def sample_negatives(counts: torch.Tensor, size: int, negatives: int) -> torch.Tensor:
    """Draw the distractors of each masked frame: other masked frames of the same utterance, with replacement.

    Args:
        counts: masked frames of each utterance (B,).
        size: N, at least the largest count.
        negatives: K, distractors of each frame.

    Returns:
        int64 positions among the utterance's masked frames (B, N, K), never the frame itself. An utterance with a
        single masked frame has no other: it gets itself, which `contrastive_loss` excludes as equal to the target.
    """
    others = (counts - 1).clamp(min=1)[:, None, None]
    draw = (torch.rand(len(counts), size, negatives, device=counts.device) * others).long().minimum(others - 1)
    own = torch.arange(size, device=counts.device)[None, :, None]
    return torch.where(counts[:, None, None] > 1, draw + (draw >= own), torch.zeros_like(draw))


@dataclass
class Quantised:
    """The targets at masked frames.

    Attributes:
        vectors: concatenated codebook entries (B, N, D).
        codes: index of the entry in each codebook (B, N, G).
        perplexity: of the usage of each codebook's entries, summed over codebooks; a scalar, at most G * V.
    """

    vectors: torch.Tensor
    codes: torch.Tensor
    perplexity: torch.Tensor


def summed_probability(quantizer: torch.nn.Module, features_BND: torch.Tensor, real_BN: torch.Tensor) -> torch.Tensor:
    """Softmax probabilities of the codebook entries, summed over all masked frames of the utterances: (G, V)."""
    return _over_real(_code_logits(quantizer, features_BND).softmax(-1), real_BN)


def _code_logits(quantizer: torch.nn.Module, features_BND: torch.Tensor) -> torch.Tensor:
    """Unnormalised scores of each codebook's entries, in float32: (B, N, G, V)."""
    return quantizer.weight_proj(features_BND).float().unflatten(-1, (quantizer.num_groups, quantizer.num_vars))


def _over_real(x_BNGV: torch.Tensor, real_BN: torch.Tensor) -> torch.Tensor:
    """Sum over masked frames, without padding: (G, V)."""
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

    The estimator is straight-through: the forward value is the sampled entry, the gradient is that of the softmax. The
    perplexity is that of the entries' probabilities (with `tau` 0, of their frequencies), averaged over masked frames.

    Args:
        features_BND: normalised front-end features at masked frames.
        real_BN: which of these frames are not padding.
        tau: temperature of the softmax; 0 takes the most likely entry without noise.
        noise_BNGV: Gumbel noise, drawn here by default.
        frames: masked frames of the whole batch, where this is a part of it.
        mean_GV: mean probabilities of the entries over the whole batch, where this is a part of it. The perplexity then
            has the whole batch's value, and the part's share of its gradient.
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
    else:  # without gradients, an index is cheaper than a product with one-hot rows
        vectors = codebook_GVD[torch.arange(groups, device=index.device), index].flatten(2)
    return Quantised(vectors, index, perplexity)


@dataclass
class Contrast:
    """The loss and diagnostics, summed over masked frames.

    Attributes:
        loss: cross-entropy, in nats.
        correct: number of frames whose own target has the highest score.
        chance: cross-entropy of a uniform guess, the logarithm of a frame's number of candidates.
        similarity: mean cosine between the targets of the frame's utterance. Near 1, the targets have collapsed: they
            are too alike to be told apart.
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
    places: torch.Tensor | None = None,
) -> Contrast:
    """Contrastive loss (equation 3 of the paper): identify each masked frame's target among its distractors.

    The score of a candidate is its cosine similarity to the context, divided by the temperature. Distractors with the
    same codes as the target are excluded. All similarities within an utterance are computed in one matrix product,
    from which those of a frame's distractors are gathered, so that no vector is copied K times.

    Args:
        context_BND: projected output of the encoder at masked frames.
        target_BND: projected quantised targets.
        codes_BNG: codes of the targets.
        real_BN: which of the frames are not padding.
        negatives_BNK: from `sample_negatives`.
        temperature: 0.1 in the paper.
        places: where in the flattened (B, N) frames are real; found from `real_BN` if not given, which waits for a GPU.
    """
    places = real_BN.flatten().nonzero()[:, 0] if places is None else places
    context = F.normalize(context_BND.float(), dim=-1, eps=1e-8)
    target = F.normalize(target_BND.float(), dim=-1, eps=1e-8)
    similarity_BNN = context @ target.transpose(1, 2) / temperature
    positive = similarity_BNN.diagonal(dim1=1, dim2=2)
    negative = similarity_BNN.gather(2, negatives_BNK)
    clip_B11 = torch.arange(len(negatives_BNK), device=negatives_BNK.device)[:, None, None]
    same = (codes_BNG[clip_B11, negatives_BNK] == codes_BNG[:, :, None]).all(-1)
    logits = torch.cat([positive[..., None], negative.masked_fill(same, -torch.inf)], dim=-1)
    losses = logits.logsumexp(-1) - positive
    correct = (logits.argmax(-1) == 0) & real_BN
    with torch.no_grad():
        chance = (1 + (~same).sum(-1)).log()
        # The mean of all pairs' cosines is the squared length of the mean of unit vectors.
        means = (target * real_BN[..., None]).sum(1)
        similarity = means.square().sum(-1) / real_BN.sum(1).clamp(min=1)
    losses, chance = (x_BN.flatten().index_select(0, places) for x_BN in (losses, chance))
    return Contrast(losses.sum(), correct.sum(), chance.sum(), similarity.sum())


def diversity_loss(perplexity: torch.Tensor, codes: int, frames: torch.Tensor | int) -> torch.Tensor:
    """Diversity loss: the share of unused codebook entries, (codes - perplexity) / codes, times the masked frames.

    This is the form in fairseq and transformers; equation 4 of the paper uses the entropy instead. It is multiplied by
    `frames` because losses are sums over the masked frames of a batch.

    Args:
        perplexity: from `quantise`.
        codes: number of entries in all codebooks, G * V.
        frames: masked frames of the batch.
    """
    return (codes - perplexity) / codes * frames


@torch.no_grad()
def initialise_quantiser(quantizer: torch.nn.Module, features_NC: torch.Tensor, rounds: int = 15) -> None:
    """Initialise a new quantiser, in place, so that its codes are k-means clusters of front-end features.

    With transformers' random initial weights, codes are close to noise, and the contrastive loss stays at chance for a
    long time.

    Each codebook clusters the features in its own subset of their principal components (`principal_axes`): every G-th
    of them. The negative squared distance to a centre is linear in the features, up to a term that all centres
    share, so that the quantiser's linear layer can represent the assignment exactly. Its weights are scaled so that
    the median difference between the best and the second logit is 5, which Gumbel noise seldom reverses.

    Args:
        quantizer: transformers' `Wav2Vec2GumbelVectorQuantizer`.
        features_NC: normalised front-end features of N frames.
        rounds: iterations of k-means.

    Raises:
        HeadstartError: there are too few frames for so many entries.
    """
    groups, entries = quantizer.num_groups, quantizer.num_vars
    check_enough(features_NC, entries, "model.codebook_entries")
    x = features_NC.double()
    centred = x - x.mean(0)
    axes_CP = principal_axes(centred)
    weight, bias = [], []
    for group in range(groups):
        axes = axes_CP[:, group::groups]
        z = centred @ axes
        centres = k_means(z, entries, rounds)
        logits = 2 * z @ centres.T - (centres**2).sum(1)
        best, second = logits.topk(2, dim=1).values.T
        scale = 5 / (best - second).median()
        weight.append(2 * scale * centres @ axes.T)
        bias.append(-scale * (centres**2).sum(1) - weight[-1] @ x.mean(0))
    quantizer.weight_proj.weight.copy_(torch.cat(weight))
    quantizer.weight_proj.bias.copy_(torch.cat(bias))
    torch.nn.init.normal_(quantizer.codevectors)


@torch.no_grad()
def sample_features(network: Any, clips: Clips, seed: int) -> torch.Tensor:
    """Normalised front-end features of randomly chosen clips, for `initialise_quantiser`.

    Returns:
        Features (N, C), with N at least 200 frames for each entry of a codebook, or all frames if there are fewer.
    """

    def features(audio: torch.Tensor) -> torch.Tensor:
        features_BTC = front_end(network.base_model, *prepared_audio(network.config, [audio], len(audio)))
        return network.base_model.feature_projection.layer_norm(features_BTC)[0]

    return sample_frames(clips, network.config.num_codevectors_per_group, seed, features)


@dataclass
class ContrastiveDraws(Masks):
    """The masks of a batch, and what else its parts share.

    Attributes:
        negatives_BNK: distractors, from `sample_negatives`.
        noise_BNGV: Gumbel noise for the quantiser.
        parts: number of parts, over all processes, that hold any clips; with several processes a scalar tensor.
        mean_GV: mean probability of each code over the batch; None with a single part.
    """

    negatives_BNK: torch.Tensor
    noise_BNGV: torch.Tensor
    parts: int | torch.Tensor
    mean_GV: torch.Tensor | None = None


class ContrastiveObjective(MaskedAudio):
    """wav2vec 2.0's objective, for transformers' `ForPreTraining` networks with its quantiser and projections."""

    metrics = (
        "contrastive_loss", "chance_loss", "accuracy", "target_similarity", "diversity_loss", "perplexity"
    )  # fmt: skip
    loss_name, trivial_name = "contrastive_loss", "chance_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        super().__init__(network, clips, settings, freeze_front_end, seed)
        config = network.config
        self.frozen_updates = settings.freeze_quantiser * settings.updates
        self.codes = config.num_codevector_groups * config.num_codevectors_per_group

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> ContrastiveDraws:
        network, masks = self.network, self.masks(batch, ranks)
        quantizer = network.quantizer
        entries = (quantizer.num_groups, quantizer.num_vars)
        negatives_BNK = sample_negatives(masks.counts, masks.real_BN.shape[1], self.settings.negatives)
        noise_BNGV = gumbel_noise((*masks.real_BN.shape, *entries), ranks.device)
        parts = len(list(filter(None, own)))
        several = parts > 1 or ranks.size > 1
        if ranks.size > 1:  # left on its device, because reading it would wait
            parts = ranks.sum_in_place(torch.full((), parts, device=ranks.device))
        negatives_BNK = moved(negatives_BNK, ranks.device)
        draws = ContrastiveDraws(**vars(masks), negatives_BNK=negatives_BNK, noise_BNGV=noise_BNGV, parts=parts)
        if several:
            # The diversity loss is not a sum over clips: each part needs the mean probabilities of the whole batch.
            mean_GV = torch.zeros(entries, device=ranks.device)
            for positions in filter(None, own):
                with torch.no_grad():
                    features_BTC = self.features(batch, positions)
                    normed_BTC = network.base_model.feature_projection.layer_norm(features_BTC)
                    normed_BNC = gather_frames(normed_BTC, rows(draws.index_BN, positions))
                    mean_GV += summed_probability(quantizer, normed_BNC, rows(draws.real_BN, positions))
            draws.mean_GV = ranks.sum_in_place(mean_GV) / draws.masked
        return draws

    def loss(
        self, batch: Batch, shared: ContrastiveDraws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        network, settings = self.network, self.settings
        index_BN, real_BN = rows(shared.index_BN, positions), rows(shared.real_BN, positions)
        features_BTC = self.features(batch, positions)
        frames, mask_BT = rows(shared.frames, positions), rows(shared.mask_BT, positions)
        context_BTD, normed_BTC = encode(network.base_model, features_BTC, frames, mask_BT)
        context_BND = gather_frames(context_BTD, index_BN)
        normed_BNC = gather_frames(normed_BTC, index_BN)
        tau = max(settings.gumbel_start * settings.gumbel_decay**update, settings.gumbel_end)
        # While the quantiser is frozen, no gradient passes through it to the front-end either. Early in training the
        # front-end would lower the diversity loss by making all code distributions flat, which is easier than to learn
        # from the contrastive loss.
        with torch.set_grad_enabled(update > self.frozen_updates):
            noise_BNGV = rows(shared.noise_BNGV, positions)
            targets = quantise(network.quantizer, normed_BNC, real_BN, tau, noise_BNGV, shared.masked, shared.mean_GV)
        found = contrastive_loss(
            network.project_hid(context_BND),
            network.project_q(targets.vectors),
            targets.codes,
            real_BN,
            rows(shared.negatives_BNK, positions),
            settings.contrastive_temperature,
            shared.places(positions),
        )
        diversity = diversity_loss(targets.perplexity, self.codes, shared.masked)
        # Each part contributes its own gradient, but all parts have the same value: each counts an equal share of it.
        value = diversity.detach() / shared.parts
        total = found.loss + settings.diversity_weight * (diversity - diversity.detach() + value)
        logged = [found.loss.detach(), found.chance, found.correct, found.similarity, value]
        logged = [*torch.stack(logged).double() / shared.masked, targets.perplexity.detach().double() / shared.parts]
        return total / shared.masked, dict(zip(self.metrics, logged, strict=True))

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        quantizer, patience = self.network.quantizer, self.settings.patience
        fewest = max(1.5 * quantizer.num_groups, 0.02 * self.codes)
        if all(row["perplexity"] < fewest for row in rows):
            return (
                f"the quantiser uses {rows[-1]['perplexity']:.1f} of {self.codes} codes (perplexity); raise "
                "diversity_weight, lower learning_rate, or freeze the quantiser (freeze_quantiser: 1)"
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
