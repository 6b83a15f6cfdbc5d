"""Fine-tuning of an encoder and a new output layer with CTC on characters."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from headstart.corpora.manifests import read_columns
from headstart.encoder.checkpoints import ctc_model, save_ctc
from headstart.encoder.model import front_end_stays
from headstart.errors import DataError
from headstart.features.clips import Clips
from headstart.jobs import FinetuneJob
from headstart.objectives.ctc import CtcObjective, usable
from headstart.subsets import SUBSET
from headstart.text.normalisation import build_vocabulary, references
from headstart.text.summary import log_summary
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)


def chosen_clips(job: FinetuneJob) -> tuple[Clips, Clips]:
    """The training utterances of the label budget, and the dev utterances to evaluate on during training."""
    indices = read_columns(job.subset, SUBSET, ["index"])["index"].to_numpy()
    train = Clips.open(job.train.features, job.train.audio).take(indices)
    return train, Clips.open(job.dev.features, job.dev.audio).first(job.settings.dev_minutes)


def finetune_recipe(job: FinetuneJob, train: Clips, dev: Clips) -> dict[str, Any]:
    """The recipe of a run that is fine-tuned on these utterances, as far as it is known before training."""
    return recipe_of(job, {"content": [train.content, dev.content]})


def finetune_run(job: FinetuneJob) -> None:
    """Fine-tune a start on a label budget and write a model folder that `transformers.pipeline` loads.

    If the same job (see training/finished.py) was finished before, its checkpoint is used instead.

    Raises:
        CheckpointError: the start cannot be loaded.
        DataError: no training or dev utterance can be used.
        TrainingError: the training diverged.
    """
    torch.manual_seed(job.seed)
    train, dev = chosen_clips(job)
    recipe = finetune_recipe(job, train, dev)
    if finished.reuse(job, recipe):
        return
    log_summary("training", train, job.text, training=True)
    vocabulary = build_vocabulary(references(train, job.text))
    network = ctc_model(
        job.parent, job.model, vocabulary, job.settings.dropout, job.adapters, job.adapter, job.attention
    )
    train, rejected = usable(train, references(train, job.text), network.config)
    dev, dev_rejected = usable(dev, references(dev, job.text), network.config)
    for name, clips in (("training", train), ("dev", dev)):
        if not len(clips):
            raise DataError(f"{job.subset}: no {name} utterance can be used; see the reasons above, if there were any")
    unseen = sorted(set("".join(references(dev, job.text))) - set(vocabulary) - {" "})
    if unseen:
        log.warning("dev has %d characters that the training transcripts lack: %s", len(unseen), " ".join(unseen))

    frozen = job.adapters or front_end_stays(network, job.parent, job.settings.freeze_front_end)
    objective = CtcObjective(network, vocabulary, train, dev, job.text, job.settings, frozen, job.seed)
    recipe["data"] |= {
        "train_utterances": len(train),
        "train_seconds": round(train.seconds, 1),
        "dev_utterances": len(dev),
        "rejected": rejected + dev_rejected,
        "unseen_characters": "".join(unseen),
    }

    def save(weights: dict[str, torch.Tensor], folder: Path) -> None:
        save_ctc(network, weights, vocabulary, folder)

    training.run(objective, job, recipe, save)
