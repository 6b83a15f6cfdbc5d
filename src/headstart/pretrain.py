"""Self-supervised pre-training: a wav2vec 2.0 encoder from unlabelled audio."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2ConformerForPreTraining, Wav2Vec2ForPreTraining

from headstart import contrastive, training
from headstart.batching import endless_batches
from headstart.checkpoints import CheckpointError, load_config, load_weights, save_encoder
from headstart.features import SAMPLE_RATE, Clips
from headstart.files import read_json
from headstart.frontend import FRAMES_QUANTUM, frame_counts, frame_stride, front_end, prepared_audio, samples_for
from headstart.model import begins_as_filterbank, dropouts, encode, initialise, new_config, span_mask
from headstart.parallel import Ranks
from headstart.settings import Model, Pretrain
from headstart.subsets import draw
from headstart.training import Batch
from headstart.versions import VERSIONS

log = logging.getLogger(__name__)

# Families with wav2vec 2.0's quantiser and projections.
CONTINUED = {"wav2vec2": Wav2Vec2ForPreTraining, "wav2vec2-conformer": Wav2Vec2ConformerForPreTraining}


@dataclass
class Draws:
    """What a batch of pre-training shares, in whatever parts it is computed.

    Frames of each clip (B,); which are masked (B, T), their places and which of those are real (B, N); negatives
    (B, N, K); Gumbel noise (B, N, G, V); masked frames in all, and the parts that hold some; with several parts, the
    mean probability of each code (G, V).
    """

    frames: torch.Tensor
    mask_BT: torch.Tensor
    index_BN: torch.Tensor
    real_BN: torch.Tensor
    negatives_BNK: torch.Tensor
    noise_BNGV: torch.Tensor
    masked: int
    parts: int
    mean_GV: torch.Tensor | None = None


class ContrastiveObjective(training.Objective):
    """wav2vec 2.0's objective on crops of unlabelled audio."""

    metrics = (
        "contrastive_loss", "chance_loss", "accuracy", "target_similarity", "diversity_loss", "perplexity"
    )  # fmt: skip

    def __init__(
        self,
        network: Wav2Vec2ForPreTraining,
        clips: Clips,
        settings: Pretrain,
        freeze_front_end: bool,
        seed: int,
    ):
        self.freeze_front_end = freeze_front_end
        self.network, self.clips, self.settings, self.seed = network, clips, settings, seed
        config = network.config
        receptive, stride = samples_for(config, 1), frame_stride(config)
        self.quantum = FRAMES_QUANTUM * stride
        self.overlap = receptive - stride  # so that a padded length gives a whole number of quanta of frames
        self.crop = int(settings.crop_seconds * SAMPLE_RATE) // self.quantum * self.quantum + self.overlap
        self.lengths = np.minimum(clips.lengths, self.crop)
        self.frozen_updates = settings.freeze_quantiser * settings.updates
        self.codes = config.num_codevector_groups * config.num_codevectors_per_group

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        lengths = np.maximum(self.lengths - self.overlap, 1)
        for epoch, clips in endless_batches(lengths, limit, self.quantum, self.seed, start):
            longest = int(lengths[clips].max())
            padded = -(-longest // self.quantum) * self.quantum + self.overlap
            seconds = float(self.lengths[clips].sum() / SAMPLE_RATE)
            yield Batch(epoch, clips, seconds, (len(clips), padded))

    def _crop(self, index: int, epoch: int) -> torch.Tensor:
        samples = self.clips.audio(index)
        spare = len(samples) - self.lengths[index]
        begin = int(np.random.default_rng([self.seed, epoch, index]).integers(spare + 1)) if spare else 0
        return torch.from_numpy(samples[begin : begin + self.lengths[index]].copy())

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Draws:
        network, settings = self.network, self.settings
        frames = frame_counts(network.config, torch.from_numpy(self.lengths[batch.clips]))
        size = int(frame_counts(network.config, torch.tensor(batch.shape[1])))
        mask_BT = span_mask(frames, size, settings.mask_share, settings.mask_length)
        index_BN, real_BN = contrastive.masked_frames(mask_BT)
        counts = real_BN.sum(1)
        quantizer = network.quantizer
        entries = (quantizer.num_groups, quantizer.num_vars)
        draws = Draws(
            frames,
            mask_BT.to(ranks.device),
            index_BN.to(ranks.device),
            real_BN.to(ranks.device),
            contrastive.sample_negatives(counts, real_BN.shape[1], settings.negatives).to(ranks.device),
            contrastive.gumbel_noise((*real_BN.shape, *entries), ranks.device),
            int(counts.sum()),
            min(len(batch.clips), ranks.size * settings.accumulate),
        )
        if draws.parts > 1:
            # The diversity loss is no sum over clips: each part needs to know what the others make of the codes.
            mean_GV = torch.zeros(entries, device=ranks.device)
            for positions in filter(None, own):
                with torch.no_grad():
                    features_BTC = self._features(batch, positions)
                    normed_BNC = contrastive.gather_frames(
                        network.base_model.feature_projection.layer_norm(features_BTC), draws.index_BN[positions]
                    )
                    mean_GV += contrastive.summed_probability(quantizer, normed_BNC, draws.real_BN[positions])
            draws.mean_GV = ranks.sum_(mean_GV) / draws.masked
        return draws

    def _features(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        crops = [self._crop(batch.clips[i], batch.epoch) for i in positions]
        audio_BS, samples = prepared_audio(self.network.config, crops, batch.shape[1])
        return front_end(self.network.base_model, audio_BS, samples)

    def loss(
        self, batch: Batch, shared: Draws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        network, settings = self.network, self.settings
        index_BN, real_BN = shared.index_BN[positions], shared.real_BN[positions]
        features_BTC = self._features(batch, positions)
        frames = shared.frames[positions].to(features_BTC.device)
        context_BTD, normed_BTC = encode(network.base_model, features_BTC, frames, shared.mask_BT[positions])
        context_BND = contrastive.gather_frames(context_BTD, index_BN)
        normed_BNC = contrastive.gather_frames(normed_BTC, index_BN)
        tau = max(settings.gumbel_start * settings.gumbel_decay**update, settings.gumbel_end)
        # While the quantiser is frozen nothing may bend it through its input either: at first it is easier to flatten
        # every code distribution, which serves the diversity loss, than to predict any of them.
        with torch.set_grad_enabled(update > self.frozen_updates):
            targets = contrastive.quantise(
                network.quantizer, normed_BNC, real_BN, tau, shared.noise_BNGV[positions], shared.masked, shared.mean_GV
            )
        found = contrastive.contrastive_loss(
            network.project_hid(context_BND),
            network.project_q(targets.vectors),
            targets.codes,
            real_BN,
            shared.negatives_BNK[positions],
            settings.contrastive_temperature,
        )
        diversity = contrastive.diversity_loss(targets.perplexity, self.codes, shared.masked)
        # Its gradient is the part's own; of its value, which all parts have in common, each counts its share.
        value = diversity.detach() / shared.parts
        total = found.loss + settings.diversity_weight * (diversity - diversity.detach() + value)
        told = [found.loss.detach(), found.chance, found.correct, found.similarity, value]
        told = [*torch.stack(told).double() / shared.masked, targets.perplexity.detach().double() / shared.parts]
        return total / shared.masked, dict(zip(self.metrics, torch.stack(told).tolist(), strict=True))

    def names(self, batch: Batch) -> list[str]:
        return self.clips.take(batch.clips).column("utterance_id")

    def collapsed(self, curve: list[dict[str, float]]) -> str | None:
        """The remedy, when every row of the last `patience` updates shows the same kind of collapse; else None."""
        settings, quantizer = self.settings, self.network.quantizer
        since = curve[-1]["step"] - settings.patience
        rows = [row for row in curve if row["step"] > since and "contrastive_loss" in row]
        if since < 0 or not rows:
            return None
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
                f"{settings.patience} updates; raise learning_rate, lower diversity_weight, keep the quantiser as it "
                "begins (freeze_quantiser: 1), or raise patience if the rate is still rising"
            )
        return None

    def trainable(self, update: int) -> set[str]:
        names = {name for name, _ in self.network.named_parameters()}
        if self.freeze_front_end:
            names = {name for name in names if ".feature_extractor." not in name}
        if update <= self.frozen_updates:
            names = {name for name in names if not name.startswith("quantizer.")}
        return names


@torch.no_grad()
def sample_features(network: Wav2Vec2ForPreTraining, clips: Clips, seed: int) -> torch.Tensor:
    """Normalised front-end features (N, C) of 200 frames for each entry of a codebook, or of all clips if fewer."""
    wanted, rows = 200 * network.config.num_codevectors_per_group, []
    for i in np.random.default_rng(seed).permutation(len(clips)):
        audio = torch.from_numpy(clips.audio(i).copy())
        features_BTC = front_end(network.base_model, *prepared_audio(network.config, [audio], len(audio)))
        rows.append(network.base_model.feature_projection.layer_norm(features_BTC)[0])
        if sum(map(len, rows)) >= wanted:
            break
    return torch.cat(rows)


def pretrain_start(
    corpora: list[dict[str, Any]],
    settings: dict[str, Any],
    model: dict[str, Any] | None,
    parent: str | None,
    seed: int,
    output: str,
    state: str,
    threads: int,
) -> None:
    """Pre-train a start and write it as a Hugging Face checkpoint folder.

    Args:
        corpora: for each, `name`, `features`, `audio` (paths) and `hours` to take of it.
        settings: `config.Pretrain` as a dict.
        model: `config.Model` as a dict; None with a parent.
        parent: checkpoint folder to continue from, or None for random weights.
        output: folder for model.safetensors, config.json, curve.parquet and recipe.json.
        state: folder for the state from which a killed job resumes.
    """
    torch.set_num_threads(threads)
    options, chosen = Pretrain(**settings), []
    for number, corpus in enumerate(corpora):
        split = Clips.open(corpus["features"], corpus["audio"])
        what = f"corpus {corpus['name']!r} of a start"
        chosen.append(split.take(draw(split.lengths, corpus["hours"] * 3600, seed + number, what)))
        log.info("%s: %d utterances, %.2f h", corpus["name"], len(chosen[-1]), chosen[-1].seconds / 3600)
    clips = Clips.concatenate(chosen)

    torch.manual_seed(seed)
    if parent:
        config = load_config(parent)
        if config.model_type not in CONTINUED:
            known = " and ".join(CONTINUED)
            raise CheckpointError(f"{parent}: pre-training continues {known} checkpoints; this is {config.model_type}")
        config.update(dropouts(options.dropout))
        network, missing = load_weights(CONTINUED[config.model_type], parent, config)
    else:
        config = new_config(Model(**model))
        config.update(dropouts(options.dropout))
        network, missing = Wav2Vec2ForPreTraining(config), {"quantizer."}
        initialise(network)
    if any(name.startswith("quantizer.") for name in missing):
        contrastive.initialise_quantiser(network.quantizer, sample_features(network, clips, seed))
    frozen = options.freeze_front_end and (parent is not None or begins_as_filterbank(network))
    objective = ContrastiveObjective(network, clips, options, frozen, seed)
    recipe = {
        "stage": "pretrain",
        "version": VERSIONS["pretrain"],
        "settings": settings,
        "model": None if parent else model,
        "parent": read_json(Path(parent) / "recipe.json")
        if parent and (Path(parent) / "recipe.json").exists()
        else parent,
        "seed": seed,
        "data": {
            "corpora": {corpus["name"]: corpus["hours"] for corpus in corpora},
            "utterances": len(clips),
            "seconds": round(clips.seconds, 1),
            "content": clips.content,
        },
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    result = training.train(
        objective,
        objective.batches,
        options,
        stage=f"pretrain {output}",
        recipe=recipe,
        seed=seed,
        state_dir=Path(state),
    )
    if Ranks().first:
        save_encoder(network, result.weights, Path(output))
        training.finish(recipe, result, Path(output), Path(state))
