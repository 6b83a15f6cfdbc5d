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

from headstart import training
from headstart.checkpoints import encoder_model, save_ctc, save_encoder
from headstart.features import SAMPLE_RATE, Clips
from headstart.finetune import DataError, usable
from headstart.mixed import SemisupObjective
from headstart.model import WithHeads, front_end_stays
from headstart.pretrain import ssl_network
from headstart.settings import Model, Pretrain, Semisup, Text
from headstart.subsets import draw
from headstart.text import BLANK
from headstart.units import Inventory
from headstart.versions import VERSIONS

log = logging.getLogger(__name__)


def chosen_clips(
    labelled: list[dict[str, Any]], unlabelled: list[dict[str, Any]], seed: int
) -> tuple[Clips, Clips | None]:
    """Utterances of each corpus, as many as asked for: transcribed ones first, and others for what needs no transcript.

    Args:
        labelled, unlabelled: `name`, `hours`, and paths of `features` and `audio`, of each corpus.

    Raises:
        BudgetError: a corpus holds less.
    """
    taken: dict[str, np.ndarray] = {}
    over: dict[str, float] = {}  # seconds drawn beyond what was asked for
    kinds: list[list[Clips]] = [[], []]
    for kind, corpora in enumerate((labelled, unlabelled)):
        for number, corpus in enumerate(corpora):
            split = Clips.open(corpus["features"], corpus["audio"])
            free = np.ones(len(split), bool)
            free[taken.get(corpus["name"], [])] = False
            if kind == 0:
                texts = pa.array(split.column("text"), pa.large_string())
                free &= pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False)
            places = np.flatnonzero(free)
            what = f"{('labelled', 'unlabelled')[kind]} corpus {corpus['name']!r} of a start"
            seconds = corpus["hours"] * 3600
            if kind:  # a labelled draw ends with a whole utterance, so that less may be left than its hours would leave
                left = split.lengths[places].sum() / SAMPLE_RATE
                seconds = min(seconds, max(left, seconds - over.get(corpus["name"], 0.0)))
            indices = places[draw(split.lengths[places], seconds, seed + number, what)]
            taken[corpus["name"]] = indices
            kinds[kind].append(split.take(indices))
            over[corpus["name"]] = kinds[kind][-1].seconds - corpus["hours"] * 3600
            log.info("%s: %d utterances, %.2f h", what, len(indices), kinds[kind][-1].seconds / 3600)
    return Clips.concatenate(kinds[0]), Clips.concatenate(kinds[1]) if kinds[1] else None


def semisup_start(
    labelled: list[dict[str, Any]],
    unlabelled: list[dict[str, Any]],
    settings: dict[str, Any],
    ssl: dict[str, Any] | None,
    text: dict[str, Any],
    model: dict[str, Any] | None,
    parent: str | None,
    seed: int,
    output: str,
    state: str,
    threads: int,
) -> None:
    """Refine a start, and write the checkpoint folder of the refined one.

    Args:
        labelled: `name`, `hours`, `features`, `audio`, `dev_features` and `dev_audio` of each corpus.
        unlabelled: `name`, `hours`, `features` and `audio` of each corpus.
        settings, text: `settings.Semisup` and `settings.Text` as dicts.
        ssl: `settings.Pretrain` of the self-supervised loss as a dict; None without one.
        model: `settings.Model` as a dict, where there is no parent.
        parent: checkpoint folder of the start that is refined; None for random weights.
        output: folder for the checkpoint, curve.parquet and recipe.json.
        state: folder for the state from which a killed job resumes.

    Raises:
        DataError: no labelled utterance can be used, or the encoder has fewer layers than are frozen or reset.
        BudgetError: a corpus holds less than is asked for.
        CheckpointError: the parent cannot be loaded.
    """
    torch.set_num_threads(threads)
    options, normalisation = Semisup(**settings), Text(**text)
    sources, others = chosen_clips(labelled, unlabelled, seed)
    dev = Clips.concatenate([
        Clips.open(corpus["dev_features"], corpus["dev_audio"]).first(options.dev_minutes)
        for corpus in labelled
    ]) if options.dev_minutes else None  # fmt: skip
    inventory = Inventory.build(options, normalisation, sources)
    torch.manual_seed(seed)
    shape = Model(**model) if model else None
    network, own = encoder(parent, shape, options, ssl, others or sources, seed)
    frozen = front_end_stays(network, parent, options.freeze_front_end)
    config = network.config
    for key in ("freeze_layers", "reset_layers"):
        if getattr(options, key) > config.num_hidden_layers:
            raise DataError(
                f"{output}: {key} is {getattr(options, key)}, but the encoder has {config.num_hidden_layers} layers"
            )
    network.lm_head = torch.nn.Linear(config.hidden_size, len(inventory.vocabulary))
    torch.nn.init.normal_(network.lm_head.weight, std=config.initializer_range)
    torch.nn.init.zeros_(network.lm_head.bias)
    sources, rejected = usable(sources, inventory.labels(sources), config)
    if not len(sources):
        raise DataError(f"{output}: no labelled utterance can be used; see the reasons above")
    if dev is not None:
        dev, _ = usable(dev, inventory.labels(dev), config)

    stage = SemisupObjective(network, inventory, sources, others, dev, options, own, frozen, seed)
    recipe = {
        "stage": "semisup",
        "version": VERSIONS["semisup"],
        "settings": settings,
        "ssl": ssl,
        "text": text,
        "model": model,
        "parent": training.parent_recipe(parent),
        "parent_content": training.parent_content(parent),
        "seed": seed,
        "data": {
            "labelled": {corpus["name"]: corpus["hours"] for corpus in labelled},
            "unlabelled": {corpus["name"]: corpus["hours"] for corpus in unlabelled},
            "utterances": [len(sources), len(others) if others else 0],
            "seconds": round(sources.seconds + (others.seconds if others else 0.0), 1),
            "units": len(inventory.vocabulary),
            "rejected": rejected,
            "content": [sources.content, others.content if others else None],
            "units_content": inventory.content(labels.as_py() for labels in stage.labels),
        },
        "parameters": sum(p.numel() for p in network.parameters()),
    }

    def write(weights: dict[str, torch.Tensor], folder: Path) -> None:
        weights = {name: weight for name, weight in weights.items() if kept(name, network, options)}
        weights |= new_layers(config, network.base_model_prefix, options.reset_layers, seed)
        save(network, weights, inventory, options, folder)

    training.run(stage, options, recipe, write, output, state)


def encoder(
    parent: str | None, model: Model | None, options: Semisup, ssl: dict[str, Any] | None, clips: Clips, seed: int
) -> tuple[Any, Pretrain | None]:
    """The network to refine, without its CTC output layer, and the settings of its self-supervised loss, if any.

    Args:
        clips: audio from which a new quantiser of wav2vec 2.0 takes its clusters.
    """
    if ssl is None:
        return encoder_model(parent, model, options.dropout), None
    # The schedule is this stage's, and what pre-training has warmed up or cooled down stays so.
    changes = {"updates": options.updates, "dropout": options.dropout, "gumbel_start": ssl["gumbel_end"]}
    changes["data2vec"] = {**ssl["data2vec"], "ema_start": ssl["data2vec"]["ema_end"]}
    changes["freeze_quantiser"] = float(ssl["freeze_quantiser"] == 1.0)
    settings = Pretrain(**{**ssl, **changes})
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
