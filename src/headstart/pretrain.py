"""Self-supervised pre-training: a wav2vec 2.0 encoder from unlabelled audio."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2ForPreTraining

from headstart import contrastive, training
from headstart.batching import endless_batches
from headstart.checkpoints import CheckpointError, load_config, load_weights, save_encoder
from headstart.config import Model, Pretrain
from headstart.features import SAMPLE_RATE, Clips
from headstart.files import read_json
from headstart.frontend import FRAMES_QUANTUM, frame_counts, frame_stride, front_end, prepared_audio, samples_for
from headstart.model import begins_as_filterbank, dropouts, encode, initialise, new_config, span_mask
from headstart.subsets import draw
from headstart.training import Batch
from headstart.versions import VERSIONS

log = logging.getLogger(__name__)


class ContrastiveObjective:
    """wav2vec 2.0's objective on crops of unlabelled audio."""

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
        self.lengths = [min(length, self.crop) for length in clips.lengths]
        self.frozen_updates = settings.freeze_quantiser * settings.updates
        self.codes = config.num_codevector_groups * config.num_codevectors_per_group

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        lengths = [max(length - self.overlap, 1) for length in self.lengths]
        for epoch, clips in endless_batches(lengths, limit, self.quantum, self.seed, start):
            longest = max(lengths[i] for i in clips)
            padded = -(-longest // self.quantum) * self.quantum + self.overlap
            seconds = sum(self.lengths[i] for i in clips) / SAMPLE_RATE
            yield Batch(epoch, clips, seconds, (len(clips), padded))

    def _crop(self, index: int, epoch: int) -> torch.Tensor:
        samples = self.clips.audio(index)
        spare = len(samples) - self.lengths[index]
        begin = int(np.random.default_rng([self.seed, epoch, index]).integers(spare + 1)) if spare else 0
        return torch.from_numpy(samples[begin : begin + self.lengths[index]].copy())

    def loss(self, batch: Batch, update: int) -> tuple[torch.Tensor, dict[str, float]]:
        network, settings = self.network, self.settings
        weight = network.project_hid.weight
        crops = [self._crop(i, batch.epoch) for i in batch.clips]
        audio_BS, samples = prepared_audio(network.config, crops, batch.shape[1])
        frames = frame_counts(network.config, samples)
        features_BTC = front_end(network.wav2vec2, audio_BS, samples)
        mask_BT = span_mask(frames, features_BTC.shape[1], settings.mask_share, settings.mask_length)
        mask_BT, frames = mask_BT.to(weight.device), frames.to(weight.device)

        context_BTD, normed_BTC = encode(network.wav2vec2, features_BTC, frames, mask_BT)
        context_BND, real_BN = contrastive.gather_masked(context_BTD, mask_BT)
        normed_BNC, _ = contrastive.gather_masked(normed_BTC, mask_BT)
        tau = max(settings.gumbel_start * settings.gumbel_decay**update, settings.gumbel_end)
        # While the quantiser is frozen nothing may bend it through its input either: at first it is easier to flatten
        # every code distribution, which serves the diversity loss, than to predict any of them.
        with torch.set_grad_enabled(update > self.frozen_updates):
            targets = contrastive.quantise(network.quantizer, normed_BNC, real_BN, tau)
        counts = real_BN.sum(1)
        summed, correct = contrastive.contrastive_loss(
            network.project_hid(context_BND),
            network.project_q(targets.vectors),
            targets.codes,
            real_BN,
            contrastive.sample_negatives(counts, real_BN.shape[1], settings.negatives),
            settings.contrastive_temperature,
        )
        masked = counts.sum()
        diversity = contrastive.diversity_loss(targets.perplexity, self.codes, masked)
        total = (summed + settings.diversity_weight * diversity) / masked
        return total, {
            "contrastive_loss": float(summed.detach() / masked),
            "diversity_loss": float(diversity.detach() / masked),
            "perplexity": float(targets.perplexity.detach()),
            "accuracy": float(correct / masked),
        }

    def evaluate(self) -> dict[str, float]:
        return {}

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
        features_BTC = front_end(network.wav2vec2, *prepared_audio(network.config, [audio], len(audio)))
        rows.append(network.wav2vec2.feature_projection.layer_norm(features_BTC)[0])
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
    options, clips = Pretrain(**settings), None
    for number, corpus in enumerate(corpora):
        split = Clips.open(corpus["features"], corpus["audio"])
        what = f"corpus {corpus['name']!r} of a start"
        chosen = split.take(draw(split.lengths, corpus["hours"] * 3600, seed + number, what))
        log.info("%s: %d utterances, %.2f h", corpus["name"], len(chosen), chosen.seconds / 3600)
        clips = chosen if clips is None else clips + chosen

    torch.manual_seed(seed)
    if parent:
        config = load_config(parent)
        if config.model_type != "wav2vec2":
            raise CheckpointError(f"{parent}: pre-training continues wav2vec2 checkpoints; this is {config.model_type}")
        config.update(dropouts(options.dropout))
        network, missing = load_weights(Wav2Vec2ForPreTraining, parent, config)
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
        objective, objective.batches, options, stage="pretrain", recipe=recipe, seed=seed, state_dir=Path(state)
    )
    save_encoder(network, result.weights, Path(output))
    training.finish(recipe, result, Path(output), Path(state))
