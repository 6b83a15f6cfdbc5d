"""The semi-supervised stage of wav2vec-S (Zhu et al. 2022, arXiv 2110.04484): an encoder refined for recognition.

A pre-trained encoder gets an output layer over the units of a labelled source, and learns from CTC on transcripts, CTC
on pseudo-labels of untranscribed audio, and, if asked, the self-supervised loss that it comes from. Fine-tuning then
gives it a new output layer. The paper has no public code; docs/semisup.md says what is our interpretation.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import AutoModel, AutoModelForCTC

from headstart.encoder.checkpoints import encoder_model, save_ctc, save_encoder
from headstart.encoder.model import WithHeads, front_end_stays
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import SemisupJob
from headstart.objectives.ctc import usable
from headstart.objectives.semisup import SemisupObjective
from headstart.pretrain import ssl_network
from headstart.study.sections import Model, Pretrain, Semisup
from headstart.subsets import draw
from headstart.text.normalisation import BLANK
from headstart.text.units import Inventory
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)


def chosen_clips(job: SemisupJob) -> tuple[Clips, Clips | None]:
    """Utterances of each corpus, as many as asked for: transcribed ones first, and others for what needs no transcript.

    Raises:
        BudgetError: a corpus holds less.
    """
    taken: dict[str, np.ndarray] = {}
    over: dict[str, float] = {}  # seconds drawn beyond what was asked for
    kinds: list[list[Clips]] = [[], []]
    for kind, corpora in enumerate((job.labelled, job.unlabelled)):
        for number, corpus in enumerate(corpora):
            split = Clips.open(corpus.train.features, corpus.train.audio)
            free = np.ones(len(split), bool)
            free[taken.get(corpus.name, [])] = False
            if kind == 0:
                texts = pa.array(split.column("text"), pa.large_string())
                free &= pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False)
            places = np.flatnonzero(free)
            what = f"{('labelled', 'unlabelled')[kind]} corpus {corpus.name!r} of a start"
            seconds = corpus.hours * 3600
            if kind:  # a labelled draw ends with a whole utterance, so that less may be left than its hours would leave
                left = split.lengths[places].sum() / SAMPLE_RATE
                seconds = min(seconds, max(left, seconds - over.get(corpus.name, 0.0)))
            indices = places[draw(split.lengths[places], seconds, job.seed + number, what)]
            taken[corpus.name] = indices
            kinds[kind].append(split.take(indices))
            over[corpus.name] = kinds[kind][-1].seconds - corpus.hours * 3600
            log.info("%s: %d utterances, %.2f h", what, len(indices), kinds[kind][-1].seconds / 3600)
    return Clips.concatenate(kinds[0]), Clips.concatenate(kinds[1]) if kinds[1] else None


def dev_clips(job: SemisupJob) -> Clips | None:
    """The dev utterances of the learning curve, the first minutes of each labelled corpus; None if none are wanted."""
    if not job.settings.dev_minutes:
        return None
    splits = [Clips.open(corpus.dev.features, corpus.dev.audio) for corpus in job.labelled]
    return Clips.concatenate([split.first(job.settings.dev_minutes) for split in splits])


def semisup_recipe(
    job: SemisupJob, sources: Clips, others: Clips | None, dev: Clips | None, inventory: Inventory
) -> dict[str, Any]:
    """The recipe of a start that is refined on these utterances."""
    return recipe_of(
        job,
        {
            "labelled": {corpus.name: corpus.hours for corpus in job.labelled},
            "unlabelled": {corpus.name: corpus.hours for corpus in job.unlabelled},
            "units": len(inventory.vocabulary),
            "content": [clips.content if clips else None for clips in (sources, others, dev)],
            "units_content": inventory.content(inventory.labels(sources)),
        },
    )


def refine_start(job: SemisupJob) -> None:
    """Refine a start, and write the checkpoint folder of the refined one.

    Raises:
        DataError: no labelled utterance can be used, or the encoder has fewer layers than are frozen or reset.
        BudgetError: a corpus holds less than is asked for.
        CheckpointError: the parent cannot be loaded.
    """
    options = job.settings
    (sources, others), dev = chosen_clips(job), dev_clips(job)
    inventory = Inventory.build(options, job.text, sources)
    recipe = semisup_recipe(job, sources, others, dev, inventory)
    if finished.reuse(job, recipe):
        return
    torch.manual_seed(job.seed)
    network, own = encoder(job.parent, job.model, options, job.ssl, others or sources, job.seed)
    frozen = front_end_stays(network, job.parent, options.freeze_front_end)
    config = network.config
    for key in ("freeze_layers", "reset_layers"):
        if getattr(options, key) > config.num_hidden_layers:
            raise DataError(
                f"{job.output}: {key} is {getattr(options, key)}, but the encoder has {config.num_hidden_layers} layers"
            )
    network.lm_head = torch.nn.Linear(config.hidden_size, len(inventory.vocabulary))
    torch.nn.init.normal_(network.lm_head.weight, std=config.initializer_range)
    torch.nn.init.zeros_(network.lm_head.bias)
    sources, rejected = usable(sources, inventory.labels(sources), config)
    if not len(sources):
        raise DataError(f"{job.output}: no labelled utterance can be used; see the reasons above")
    if dev is not None:
        dev, _ = usable(dev, inventory.labels(dev), config)

    objective = SemisupObjective(network, inventory, sources, others, dev, options, own, frozen, job.seed)
    recipe["data"] |= {
        "utterances": [len(sources), len(others) if others else 0],
        "seconds": round(sources.seconds + (others.seconds if others else 0.0), 1),
        "rejected": rejected,
    }

    def write(weights: dict[str, torch.Tensor], folder: Path) -> None:
        weights = {name: weight for name, weight in weights.items() if kept(name, network, options)}
        weights |= new_layers(config, network.base_model_prefix, options.reset_layers, job.seed)
        save(network, weights, inventory, options, folder)

    training.run(objective, job, recipe, write)


def encoder(
    parent: str | None, model: Model | None, options: Semisup, ssl: Pretrain | None, clips: Clips, seed: int
) -> tuple[Any, Pretrain | None]:
    """The network to refine, without its CTC output layer, and the settings of its self-supervised loss, if any.

    Args:
        clips: audio from which a new quantiser of wav2vec 2.0 takes its clusters.
    """
    if ssl is None:
        return encoder_model(parent, model, options.dropout), None
    # The schedule is this stage's, and what pre-training has warmed up or cooled down stays so.
    changes = {"updates": options.updates, "dropout": options.dropout, "gumbel_start": ssl.gumbel_end}
    changes["data2vec"] = {**ssl.data2vec.model_dump(), "ema_start": ssl.data2vec.ema_end}
    changes["freeze_quantiser"] = float(ssl.freeze_quantiser == 1.0)
    settings = Pretrain(**{**ssl.model_dump(), **changes})
    return ssl_network(parent, model, settings, clips, seed), settings


def kept(name: str, network: Any, options: Semisup) -> bool:
    """Whether a weight stays in the checkpoint: the encoder's do, the output layer's if asked."""
    return name.startswith(network.base_model_prefix + ".") or (options.keep_head and name.startswith("lm_head."))


def new_layers(config: Any, prefix: str, count: int, seed: int) -> dict[str, torch.Tensor]:
    """New random weights of the top `count` Transformer layers, by name."""
    if not count:
        return {}
    torch.manual_seed(seed)
    top = tuple(f"encoder.layers.{i}." for i in range(config.num_hidden_layers - count, config.num_hidden_layers))
    fresh = AutoModel.from_config(config).state_dict()
    return {f"{prefix}.{name}": weight for name, weight in fresh.items() if name.startswith(top)}


def save(network: Any, weights: dict[str, torch.Tensor], inventory: Inventory, options: Semisup, folder: Path) -> None:
    """Write the refined start: an encoder, or a recogniser of its source that keeps its output layer."""
    if not options.keep_head:
        save_encoder(WithHeads(network.base_model), weights, folder)
        return
    network.config.update({"vocab_size": len(inventory.vocabulary), "pad_token_id": inventory.vocabulary[BLANK]})
    save_ctc(AutoModelForCTC.from_config(network.config), weights, inventory.vocabulary, folder)
