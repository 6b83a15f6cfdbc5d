"""Self-supervised pre-training: an encoder from unlabelled audio, by the objective that the settings name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2ConformerForPreTraining, Wav2Vec2ForPreTraining

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import (
    encoder_model,
    load_config,
    load_heads,
    load_weights,
    save_encoder,
    set_dropout,
)
from headstart.encoder.model import front_end_stays, initialise, new_config
from headstart.features.clips import Clips
from headstart.jobs import PretrainJob
from headstart.objectives.best_rq import BestRqObjective, RandomQuantiser
from headstart.objectives.data2vec import Data2vecObjective
from headstart.objectives.masking import MaskedAudio
from headstart.objectives.wav2vec2 import ContrastiveObjective, initialise_quantiser, sample_features
from headstart.study.sections import Model, Pretrain
from headstart.subsets import draw
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)

# Families with wav2vec 2.0's quantiser and projections.
CONTINUED = {"wav2vec2": Wav2Vec2ForPreTraining, "wav2vec2-conformer": Wav2Vec2ConformerForPreTraining}


OBJECTIVES = {"wav2vec2": ContrastiveObjective, "data2vec": Data2vecObjective, "best-rq": BestRqObjective}


def ssl_network(parent: str | None, model: Model | None, settings: Pretrain, clips: Clips, seed: int) -> Any:
    """The network of a start with the output layers of `settings.objective`, in float32.

    The weights of these are the parent's where it has them in this shape; a checkpoint of another objective has not,
    and they are then new, as in a network from random weights.

    Args:
        parent: checkpoint folder to continue from, or None for random weights of shape `model`.
        clips: audio from which a new quantiser of wav2vec 2.0 takes its clusters.
        seed: of new weights and of that audio; torch's generator is left as they leave it.

    Raises:
        CheckpointError: the parent cannot be a start, or is of a family that the objective does not continue.
    """
    torch.manual_seed(seed)
    if settings.objective == "wav2vec2":
        return _with_quantiser(parent, model, settings, clips, seed)
    network = encoder_model(parent, model, settings.dropout)
    if settings.objective == "data2vec":
        network.predictor = torch.nn.Linear(network.config.hidden_size, network.config.hidden_size)
    else:
        network.best_rq = RandomQuantiser(network.config, settings.best_rq)
    if parent:
        load_heads(network, parent)
    return network


def _with_quantiser(parent: str | None, model: Model | None, settings: Pretrain, clips: Clips, seed: int) -> Any:
    if parent:
        config = load_config(parent)
        if config.model_type not in CONTINUED:
            known = " and ".join(CONTINUED)
            raise CheckpointError(
                f"{parent}: the objective wav2vec2 continues {known} checkpoints; this is {config.model_type}"
            )
        set_dropout(config, settings.dropout)
        network, missing = load_weights(CONTINUED[config.model_type], parent, config)
    else:
        config = new_config(model)
        set_dropout(config, settings.dropout)
        network, missing = Wav2Vec2ForPreTraining(config), {"quantizer."}
        initialise(network)
    if any(name.startswith("quantizer.") for name in missing):
        initialise_quantiser(network.quantizer, sample_features(network, clips, seed))
    return network


def make_objective(network: Any, clips: Clips, settings: Pretrain, frozen: bool, seed: int) -> MaskedAudio:
    """The objective that `settings` ask for, on a network from `ssl_network`, which may have got more output layers.

    Args:
        frozen: whether the front-end stays as it is.
        seed: of batches and crops.
    """
    return OBJECTIVES[settings.objective](network, clips, settings, frozen, seed)


def chosen_clips(job: PretrainJob) -> Clips:
    """The utterances that a start is pre-trained on.

    Raises:
        BudgetError: a corpus holds less audio than the start asks for.
    """
    chosen = []
    for number, corpus in enumerate(job.corpora):
        split = Clips.open(corpus.train.features, corpus.train.audio)
        what = f"corpus {corpus.name!r} of a start"
        chosen.append(split.take(draw(split.lengths, corpus.hours * 3600, job.seed + number, what)))
        log.info("%s: %d utterances, %.2f h", corpus.name, len(chosen[-1]), chosen[-1].seconds / 3600)
    return Clips.concatenate(chosen)


def pretrain_recipe(job: PretrainJob, clips: Clips) -> dict[str, Any]:
    """The recipe of a start that is pre-trained on these utterances."""
    return recipe_of(
        job,
        {
            "corpora": {corpus.name: corpus.hours for corpus in job.corpora},
            "utterances": len(clips),
            "seconds": round(clips.seconds, 1),
            "content": clips.content,
        },
    )


def pretrain_start(job: PretrainJob) -> None:
    """Pre-train a start and write it as a Hugging Face checkpoint folder.

    Raises:
        BudgetError: a corpus holds less audio than the start asks for.
        CheckpointError: the parent cannot be loaded.
    """
    clips = chosen_clips(job)
    recipe = pretrain_recipe(job, clips)
    if finished.reuse(job, recipe):
        return
    network = ssl_network(job.parent, job.model, job.settings, clips, job.seed)
    frozen = front_end_stays(network, job.parent, job.settings.freeze_front_end)
    objective = make_objective(network, clips, job.settings, frozen, job.seed)

    def save(weights: dict[str, torch.Tensor], folder: Path) -> None:
        save_encoder(network, weights, folder)

    training.run(objective, job, recipe, save)
