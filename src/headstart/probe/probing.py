"""The job that probes a start on a target: error rates of linear CTC layers on its frozen layers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from headstart.corpora.manifests import read_columns, write_table
from headstart.encoder.checkpoint_files import checkpoint_content
from headstart.encoder.checkpoints import encoder_model
from headstart.encoder.front_end import frame_counts, frame_stride
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import ProbeJob
from headstart.objectives.ctc import usable
from headstart.probe.linear_ctc import LinearCtc
from headstart.probe.states import standardise, states_of
from headstart.score.metrics import METRICS
from headstart.subsets import SUBSET
from headstart.text.normalisation import BLANK, build_vocabulary, decode, encode, normalise_hypothesis, references

log = logging.getLogger(__name__)

STATES_BYTES = 1 << 30  # of hidden states in memory; more layers than fit are probed one group after another
PROBES = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("layer", pa.int64(), nullable=False),  # 0 is the input of the first Transformer layer
        pa.field("cer", pa.float64(), nullable=False),  # on the dev split
        pa.field("train_loss", pa.float64(), nullable=False),  # nats a label, the mean of the last tenth of updates
        pa.field("seconds", pa.float64(), nullable=False),  # that all layers together took
    ]
)


def chosen_clips(job: ProbeJob, seed: int) -> tuple[Clips, Clips]:
    """The training utterances of a seed, at most `minutes` of its label budget, and the dev utterances."""
    indices = read_columns(job.subsets[seed], SUBSET, ["index"])["index"].to_numpy()
    order = np.random.default_rng(seed).permutation(len(indices))
    train = Clips.open(job.train.features, job.train.audio).take(indices[order])
    dev = Clips.open(job.dev.features, job.dev.audio).first(job.settings.dev_minutes)
    return train.first(job.settings.minutes), dev


def probe_recipe(job: ProbeJob) -> dict[str, Any]:
    """Everything that the error rates of a job depend on: settings, checkpoints and audio."""
    return {
        "stage": job.stage,
        "version": job.version,
        "settings": job.settings.model_dump(mode="json"),
        "text": job.text.model_dump(mode="json"),
        "normalisation": job.normalisation,
        "model": job.model.model_dump(mode="json") if job.model else None,
        **({"attention": job.attention.model_dump(mode="json")} if job.attention else {}),
        "starts": {
            str(seed): checkpoint_content(folder) if folder else f"random weights of seed {seed + job.seed_offset}"
            for seed, folder in job.starts.items()
        },
        "content": {str(seed): [clips.content for clips in chosen_clips(job, seed)] for seed in job.starts},
    }


def probe_start(job: ProbeJob) -> None:
    """Probe a start on one target and label budget, and write a row for each seed and layer.

    Raises:
        CheckpointError: the start cannot be loaded.
        DataError: no training or dev utterance can be used.
    """
    rows = [row for seed in job.starts for row in probed(job, seed)]
    write_table(job.output, rows, PROBES, recipe=probe_recipe(job))


def probed(job: ProbeJob, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of one seed."""
    began = time.monotonic()
    torch.manual_seed(seed + job.seed_offset)
    encoder = encoder_model(job.starts[seed], job.model, 0.0, attention=job.attention).base_model.eval()
    config = encoder.config
    train, dev = chosen_clips(job, seed)
    vocabulary = build_vocabulary(references(train, job.text))
    train, _ = usable(train, references(train, job.text), config)
    dev, _ = usable(dev, references(dev, job.text), config)
    for name, clips in (("training", train), ("dev", dev)):
        if not len(clips):
            raise DataError(f"{job.subsets[seed]}: no {name} utterance can be used; the log has the reasons")
    labels = [encode(text, vocabulary) for text in references(train, job.text)]
    spoken = list(references(dev, job.text))

    found = []
    layers = range(config.num_hidden_layers + 1)
    frames = sum(int(frame_counts(config, torch.tensor(clips.lengths)).sum()) for clips in (train, dev))
    at_once = max(1, STATES_BYTES // (frames * config.hidden_size * 4))
    for first in range(0, len(layers), at_once):
        turn = layers[first : first + at_once]
        train_states, dev_states = (states_of(encoder, clips, turn) for clips in (train, dev))
        standardise(train_states, dev_states)
        probe = LinearCtc(len(turn), config.hidden_size, len(vocabulary), vocabulary[BLANK])
        probe.train(train_states, labels, job.settings, frame_stride(config) / SAMPLE_RATE, seed)
        losses = torch.stack(probe.losses[-max(1, len(probe.losses) // 10) :]).mean(0).tolist()
        paths = [probe.best_paths(dev_states, index) for index in range(len(dev))]
        for place, layer in enumerate(turn):
            texts = [normalise_hypothesis(decode(path[place], vocabulary)) for path in paths]
            cer = METRICS["cer"].rate(spoken, texts)
            log.info("seed %d, layer %d of %d: dev CER %.3f", seed, layer, layers[-1], cer)
            found.append({"seed": seed, "layer": layer, "cer": cer, "train_loss": losses[place]})
    seconds = time.monotonic() - began
    yield from ({**row, "seconds": seconds} for row in found)
