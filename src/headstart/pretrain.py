"""Self-supervised pre-training of an encoder on unlabelled audio, with wav2vec 2.0, data2vec, BEST-RQ or HuBERT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import (
    config_of,
    encoder_model,
    encoder_shaped_as,
    load_heads,
    load_weights,
    save_encoder,
    set_dropout,
)
from headstart.encoder.model import front_end_stays, initialise
from headstart.features.clips import Clips
from headstart.jobs import PretrainJob
from headstart.objectives.best_rq import BestRqObjective, RandomQuantiser
from headstart.objectives.data2vec import Data2vecObjective
from headstart.objectives.hubert import ClusterHead, HubertObjective, clustered_features, sampled_features
from headstart.objectives.masking import MaskedAudio
from headstart.objectives.wav2vec2 import ContrastiveObjective, initialise_quantiser, sample_features
from headstart.selection import Pool, select, selection_recipe, write_selection
from headstart.study.attention import ChunkedAttention
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.selection import Select
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)

# Families that the wav2vec 2.0 objective can continue from: transformers has its quantiser and projections for them.
CONTINUED = {
    "wav2vec2": transformers.Wav2Vec2ForPreTraining,
    "wav2vec2-conformer": transformers.Wav2Vec2ConformerForPreTraining,
}


OBJECTIVES = {
    "wav2vec2": ContrastiveObjective,
    "data2vec": Data2vecObjective,
    "best-rq": BestRqObjective,
    "hubert": HubertObjective,
}


def ssl_network(
    parent: str | None,
    model: Model | None,
    settings: Pretrain,
    clips: Clips,
    seed: int,
    attention: ChunkedAttention | None = None,
) -> Any:
    """An encoder with the output layers of the objective `settings.objective`, in float32.

    The output layers have the parent's weights if it was pre-trained with the same objective and sizes; otherwise they
    are new.

    Args:
        parent: checkpoint folder to continue from, or None for random weights.
        model: shape of the encoder with random weights.
        clips: audio on which a new quantiser of wav2vec 2.0 is initialised, and clusters are found.
        seed: of new weights and of the choice of that audio. torch's global generator is seeded with it.
        attention: chunked attention; None for that of the parent.

    Raises:
        CheckpointError: the parent cannot be loaded, or is of a family that the objective does not support.
        HeadstartError: there is too little audio to initialise a quantiser, or to find clusters.
    """
    torch.manual_seed(seed)
    if settings.objective == "wav2vec2":
        return _with_quantiser(parent, model, settings, clips, seed, attention)
    if settings.objective == "hubert":
        return _with_clusters(parent, model, settings, clips, seed, attention)
    network = encoder_model(parent, model, settings.dropout, attention=attention)
    if settings.objective == "data2vec":
        network.predictor = torch.nn.Linear(network.config.hidden_size, network.config.hidden_size)
    else:
        network.best_rq = RandomQuantiser(network.config, settings.best_rq)
    if parent:
        load_heads(network, parent)
    return network


def _with_quantiser(
    parent: str | None,
    model: Model | None,
    settings: Pretrain,
    clips: Clips,
    seed: int,
    attention: ChunkedAttention | None,
) -> Any:
    config = config_of(parent, model, attention=attention)
    set_dropout(config, settings.dropout)
    if parent:
        if config.model_type not in CONTINUED:
            known = " and ".join(CONTINUED)
            raise CheckpointError(
                f"{parent}: the objective wav2vec2 continues {known} checkpoints; this is {config.model_type}"
            )
        network, missing = load_weights(CONTINUED[config.model_type], parent, config)
    else:
        network, missing = transformers.Wav2Vec2ForPreTraining(config), {"quantizer."}
        initialise(network)
    if any(name.startswith("quantizer.") for name in missing):
        initialise_quantiser(network.quantizer, sample_features(network, clips, seed))
    return network


def _with_clusters(
    parent: str | None,
    model: Model | None,
    settings: Pretrain,
    clips: Clips,
    seed: int,
    attention: ChunkedAttention | None,
) -> Any:
    if parent and settings.parent_of(parent) is None:
        network = encoder_shaped_as(parent, settings.dropout, attention)
    else:
        network = encoder_model(parent, model, settings.dropout, attention=attention)
    features = clustered_features(network.config, parent, settings.hubert)
    network.clusters = head = ClusterHead(network.config.hidden_size, features.size, settings.hubert)
    # Clusters of a layer are always new: the parent's own ones are of something else.
    if settings.hubert.layer or not (parent and "clusters" in load_heads(network, parent)):
        torch.manual_seed(seed)  # so that they do not depend on what other weights are random
        head.fit(sampled_features(features, clips, settings.hubert.clusters, seed))
    head.features = features  # not a module, so that they are neither trained nor saved
    return network


def make_objective(network: Any, clips: Clips, settings: Pretrain, frozen: bool, seed: int) -> MaskedAudio:
    """The self-supervised objective `settings.objective`.

    Args:
        network: from `ssl_network`; further output layers may have been added to it.
        clips: audio to train on.
        frozen: whether the front-end is not trained.
        seed: of batches and crops.
    """
    return OBJECTIVES[settings.objective](network, clips, settings, frozen, seed)


def chosen_clips(job: PretrainJob) -> Clips:
    """The utterances that a start is pre-trained on: the wanted hours of each corpus, chosen with the job's seed.

    Raises:
        BudgetError: a corpus holds less audio than the start asks for.
        DataError: its utterances cannot be grouped as `select` asks for.
    """
    pools = []
    for corpus in job.corpora:
        split = Clips.open(corpus.train.features, corpus.train.audio)
        what = f"corpus {corpus.name!r} of a start"
        pools.append(Pool(split, np.arange(len(split)), corpus.hours * 3600, what, corpus.clusters))
    chosen = []
    for corpus, pool, indices in zip(job.corpora, pools, select(pools, job.select or Select(), job.seed), strict=True):
        chosen.append(pool.clips.take(indices))
        log.info("%s: %d utterances, %.2f h", corpus.name, len(chosen[-1]), chosen[-1].seconds / 3600)
    return Clips.concatenate(chosen)


def pretrain_recipe(job: PretrainJob, clips: Clips) -> dict[str, Any]:
    """The recipe of a start that is pre-trained on these utterances, as far as it is known before training."""
    return recipe_of(
        job,
        {
            "corpora": {corpus.name: corpus.hours for corpus in job.corpora},
            "utterances": len(clips),
            "seconds": round(clips.seconds, 1),
            "content": clips.content,
            "read": clips.audio_content,
            **selection_recipe(job.select, job.corpora, clips),
        },
    )


def pretrain_start(job: PretrainJob) -> None:
    """Pre-train a start and write it as a Hugging Face checkpoint folder.

    If the same job (see training/finished.py) was finished before, its checkpoint is used instead.

    Raises:
        BudgetError: a corpus holds less audio than the start asks for.
        CheckpointError: the parent cannot be loaded.
        TrainingError: the training diverged or collapsed.
    """
    clips = chosen_clips(job)
    recipe = pretrain_recipe(job, clips)
    if finished.reuse(job, recipe):
        return
    network = ssl_network(job.parent, job.model, job.settings, clips, job.seed, job.attention)
    frozen = front_end_stays(network, job.settings.parent_of(job.parent), job.settings.freeze_front_end)
    objective = make_objective(network, clips, job.settings, frozen, job.seed)

    def save(weights: dict[str, torch.Tensor], folder: Path) -> None:
        save_encoder(network, weights, folder)
        if job.select is not None:
            write_selection(folder, job.corpora, clips)

    training.run(objective, job, recipe, save)
