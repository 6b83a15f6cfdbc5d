"""The semi-supervised stage of wav2vec-S (Zhu et al. 2022, arXiv 2110.04484), between pre-training and fine-tuning.

A pre-trained encoder gets an output layer over the units of labelled source corpora. It is trained with CTC on their
transcripts, CTC on pseudo-labels of unlabelled audio, and, if asked for, the self-supervised loss of its pre-training.
Fine-tuning then replaces the output layer by a new one. There is no public code for the paper; docs/semisup.md says
what is Headstart's interpretation.
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
from headstart.encoder.model import EncoderWithHeads, front_end_stays
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import SemisupJob
from headstart.objectives.ctc import usable
from headstart.objectives.semisup import SemisupObjective
from headstart.pretrain import ssl_network
from headstart.selection import Pool, select, selection_recipe, write_selection
from headstart.study.attention import ChunkedAttention
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.selection import Select
from headstart.study.semisup import Semisup
from headstart.subsets import draw
from headstart.text.normalisation import BLANK
from headstart.text.summary import log_summary
from headstart.text.units import UnitInventory
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)


def chosen_clips(job: SemisupJob) -> tuple[Clips, Clips | None]:
    """The labelled and the unlabelled utterances that a start is trained on; the latter are None if none are wanted.

    Labelled utterances are drawn first, from those with a transcript. Unlabelled ones are chosen from the rest of a
    corpus, so that no utterance is both.

    Raises:
        BudgetError: a corpus holds less audio than the start asks for.
        DataError: unlabelled utterances cannot be grouped as `select` asks for.
    """
    taken: dict[str, np.ndarray] = {}
    over: dict[str, float] = {}  # corpus -> seconds drawn beyond what was asked for
    labelled, pools = [], []
    for number, corpus in enumerate(job.labelled):
        split = Clips.open(corpus.train.features, corpus.train.audio)
        texts = pa.array(split.column("text"), pa.large_string())
        places = np.flatnonzero(pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False))
        what, seconds = f"labelled corpus {corpus.name!r} of a start", corpus.hours * 3600
        taken[corpus.name] = places[draw(split.lengths[places], seconds, job.seed + number, what)]
        labelled.append(split.take(taken[corpus.name]))
        over[corpus.name] = labelled[-1].seconds - seconds
        log.info("%s: %d utterances, %.2f h", what, len(labelled[-1]), labelled[-1].seconds / 3600)
    for corpus in job.unlabelled:
        split = Clips.open(corpus.train.features, corpus.train.audio)
        free = np.ones(len(split), bool)
        free[taken.get(corpus.name, [])] = False
        places = np.flatnonzero(free)
        # The labelled draw ends with a whole utterance and may exceed its hours by a part of it. If these seconds are
        # missing now, fewer unlabelled ones are chosen instead of none.
        seconds, left = corpus.hours * 3600, split.lengths[places].sum() / SAMPLE_RATE
        seconds = min(seconds, max(left, seconds - over.get(corpus.name, 0.0)))
        what = f"unlabelled corpus {corpus.name!r} of a start"
        pools.append(Pool(split, places, seconds, what, corpus.clusters))
    unlabelled = []
    for pool, indices in zip(pools, select(pools, job.select or Select(), job.seed), strict=True):
        unlabelled.append(pool.clips.take(indices))
        log.info("%s: %d utterances, %.2f h", pool.what, len(indices), unlabelled[-1].seconds / 3600)
    return Clips.concatenate(labelled), Clips.concatenate(unlabelled) if unlabelled else None


def dev_clips(job: SemisupJob) -> Clips | None:
    """Utterances to evaluate on during training: the first `dev_minutes` of each labelled corpus's dev split.

    None if `dev_minutes` is 0.
    """
    if not job.settings.dev_minutes:
        return None
    splits = [Clips.open(corpus.dev.features, corpus.dev.audio) for corpus in job.labelled]
    return Clips.concatenate([split.first(job.settings.dev_minutes) for split in splits])


def semisup_recipe(
    job: SemisupJob, sources: Clips, others: Clips | None, dev: Clips | None, inventory: UnitInventory
) -> dict[str, Any]:
    """The recipe of a start that is refined on these utterances, as far as it is known before training.

    Args:
        sources: labelled utterances.
        others: unlabelled utterances.
        dev: utterances to evaluate on.
        inventory: the units of the transcripts.
    """
    content = [clips.content if clips else None for clips in (sources, others, dev)]
    return recipe_of(
        job,
        {
            "labelled": {corpus.name: corpus.hours for corpus in job.labelled},
            "unlabelled": {corpus.name: corpus.hours for corpus in job.unlabelled},
            "units": len(inventory.vocabulary),
            "content": content,
            "read": [content[0], others.audio_content if others else None, content[2]],
            "units_content": inventory.content(inventory.labels(sources)),
            **(selection_recipe(job.select, job.unlabelled, others) if others else {}),
        },
    )


def refine_start(job: SemisupJob) -> None:
    """Refine a start with the semi-supervised stage and write it as a Hugging Face checkpoint folder.

    If the same job (see training/finished.py) was finished before, its checkpoint is used instead.

    Raises:
        DataError: no labelled utterance can be used, or the encoder has fewer layers than are to be frozen or reset.
        BudgetError: a corpus holds less audio than the start asks for.
        CheckpointError: the parent cannot be loaded.
        TrainingError: the training diverged.
    """
    options = job.settings
    (sources, others), dev = chosen_clips(job), dev_clips(job)
    inventory = UnitInventory.build(options, job.text, sources)
    recipe = semisup_recipe(job, sources, others, dev, inventory)
    if finished.reuse(job, recipe):
        return
    log_summary("labelled", sources, job.text, training=True)
    torch.manual_seed(job.seed)
    network, own = encoder(job.parent, job.model, options, job.ssl, others or sources, job.seed, job.attention)
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
        if job.select is not None:
            write_selection(folder, job.unlabelled, others)

    training.run(objective, job, recipe, write)


def encoder(
    parent: str | None,
    model: Model | None,
    options: Semisup,
    ssl: Pretrain | None,
    clips: Clips,
    seed: int,
    attention: ChunkedAttention | None = None,
) -> tuple[Any, Pretrain | None]:
    """The network to refine, without its CTC output layer, and the settings of its self-supervised loss, if any.

    Args:
        parent: checkpoint folder to continue from, or None for random weights.
        model: shape of the encoder with random weights.
        ssl: settings of the parent's pre-training; None if the self-supervised loss is not used.
        clips: audio on which a new quantiser of wav2vec 2.0 is initialised.
        attention: chunked attention; None for that of the parent.

    Raises:
        CheckpointError: the parent cannot be loaded, or is of a family that the self-supervised loss does not support.
    """
    if ssl is None:
        return encoder_model(parent, model, options.dropout, attention=attention), None
    # This stage has its own number of updates and dropout. What pre-training anneals (Gumbel temperature, decay of
    # data2vec's teacher) continues from the final value. The quantiser is frozen throughout if it was throughout
    # pre-training, otherwise not at all.
    changes = {"updates": options.updates, "dropout": options.dropout, "gumbel_start": ssl.gumbel_end}
    changes["data2vec"] = {**ssl.data2vec.model_dump(), "ema_start": ssl.data2vec.ema_end}
    changes["hubert"] = {**ssl.hubert.model_dump(), "restart": False}
    changes["freeze_quantiser"] = float(ssl.freeze_quantiser == 1.0)
    settings = Pretrain(**{**ssl.model_dump(), **changes})
    return ssl_network(parent, model, settings, clips, seed, attention), settings


def kept(name: str, network: Any, options: Semisup) -> bool:
    """Whether a weight is written to the checkpoint: the encoder's are, and with `keep_head` the CTC output layer's."""
    return name.startswith(network.base_model_prefix + ".") or (options.keep_head and name.startswith("lm_head."))


def new_layers(config: Any, prefix: str, count: int, seed: int) -> dict[str, torch.Tensor]:
    """New random weights of the top `count` Transformer layers, by name."""
    if not count:
        return {}
    torch.manual_seed(seed)
    top = tuple(f"encoder.layers.{i}." for i in range(config.num_hidden_layers - count, config.num_hidden_layers))
    fresh = AutoModel.from_config(config).state_dict()
    return {f"{prefix}.{name}": weight for name, weight in fresh.items() if name.startswith(top)}


def save(
    network: Any, weights: dict[str, torch.Tensor], inventory: UnitInventory, options: Semisup, folder: Path
) -> None:
    """Write the refined start: the encoder alone, or with `keep_head` a CTC model with tokenizer."""
    if not options.keep_head:
        save_encoder(EncoderWithHeads(network.base_model), weights, folder)
        return
    network.config.update({"vocab_size": len(inventory.vocabulary), "pad_token_id": inventory.vocabulary[BLANK]})
    save_ctc(AutoModelForCTC.from_config(network.config), weights, inventory.vocabulary, folder)
