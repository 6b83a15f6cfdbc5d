"""What fine-tuning does to a start: how alike its layers are before and after, on the same test audio.

A start and what became of it hear the same utterances. For each layer, `similarity` says how much of the start's
representation is left. How far the fine-tuned encoders have moved is the representation gap: one minus the mean
similarity over the Transformer layers.

Intervals are over utterances, which are dealt at random to 20 blocks: sums over frames are kept for each block, and a
replicate draws blocks with replacement. That takes blocks x layers x (1 + 2 x seeds) x D² x 8 bytes, however much audio
there is: 0.2 GB for 5 layers of 192 channels and 3 seeds. Where it is more than `SUMS_BYTES`, layers take turns, and
the audio is heard anew in each.

Blocks and draws depend on the number of utterances and of replicates, and on nothing else: runs on one target meet the
same, and differences between starts are paired.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from headstart.analyse.similarity import BlockSums, similarities
from headstart.corpora.manifests import write_table
from headstart.encoder.checkpoint_files import checkpoint_content
from headstart.encoder.checkpoints import encoder_model
from headstart.encoder.front_end import frame_counts, front_end, prepared_audio
from headstart.encoder.model import layer_outputs
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import AnalyseJob
from headstart.score.transcription import batches_by_length
from headstart.summarise.statistics import RNG_SEED, draw_counts

log = logging.getLogger(__name__)

BLOCKS = 20
SUMS_BYTES = 2 << 30
BATCH_SECONDS = 60.0
FRAMES_A_CHANNEL = 20  # with fewer, the mean squared correlation of noise is above 0.05
SIMILARITIES = pa.schema(
    [
        pa.field("layer", pa.int64(), nullable=False),  # 0 is the input of the first Transformer layer
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("replicates", pa.list_(pa.float64()), nullable=False),
    ]
)


def blocks_and_draws(utterances: int, replicates: int) -> tuple[list[int], torch.Tensor]:
    """The block of each utterance, and how often each block is drawn in each replicate (replicates, blocks)."""
    blocks = min(BLOCKS, utterances)
    rng = np.random.default_rng(RNG_SEED)
    dealt = rng.permutation(np.arange(utterances) % blocks)
    return dealt.tolist(), torch.from_numpy(draw_counts(rng, replicates, blocks))


@torch.no_grad()
def layers_of(encoder: Any, clips: Clips, indices: list[int]) -> Iterator[list[torch.Tensor]]:
    """Activations of these clips in every layer, padding left out: for each clip a list of (T_i, D), float32."""
    audio = [torch.from_numpy(clips.audio(i).copy()) for i in indices]
    audio_BS, samples = prepared_audio(encoder.config, audio, max(map(len, audio)))
    frames = frame_counts(encoder.config, samples)
    states = layer_outputs(encoder, front_end(encoder, audio_BS, samples), frames)
    for row, count in enumerate(frames.tolist()):
        yield [state_BTD[row, :count] for state_BTD in states]


@dataclass(frozen=True)
class LayerSums:
    """Of one layer: sums of the start, x, with itself, and for each fine-tuned encoder, y, of x with y and y with y."""

    xx: BlockSums
    after: list[tuple[BlockSums, BlockSums]]


def layer_sums(before: Any, after: list[Any], clips: Clips, blocks: list[int], layers: range) -> list[LayerSums]:
    """Sums over the frames of all clips, for these layers of the encoders before and after fine-tuning."""
    count, width = max(blocks) + 1, before.config.hidden_size

    def new() -> BlockSums:
        return BlockSums(count, width, width)

    sums = [LayerSums(new(), [(new(), new()) for _ in after]) for _ in layers]
    for batch in batches_by_length(clips.lengths, int(BATCH_SECONDS * SAMPLE_RATE)):
        heard = (layers_of(encoder, clips, batch) for encoder in (before, *after))
        for index, x, *ys in zip(batch, *heard, strict=True):
            block = blocks[index]
            for layer, into in zip(layers, sums, strict=True):
                into.xx.add(block, x[layer], x[layer])
                for y, (xy, yy) in zip(ys, into.after, strict=True):
                    xy.add(block, x[layer], y[layer])
                    yy.add(block, y[layer], y[layer])
    return sums


def analyse_recipe(job: AnalyseJob) -> dict[str, Any]:
    """What the similarities of a start and its runs follow from."""
    return {
        "stage": job.stage,
        "version": job.version,
        "settings": job.settings.model_dump(mode="json"),
        "start": checkpoint_content(job.start),
        "runs": {str(seed): checkpoint_content(run) for seed, run in job.runs.items()},
        "content": Clips.open(job.test.features, job.test.audio).first(job.settings.minutes).content,
    }


def analyse_start(job: AnalyseJob) -> None:
    """Compare a start with what fine-tuning on one target and budget made of it.

    It writes a row for each layer, seed and measure: the similarity and its bootstrap replicates.

    Raises:
        DataError: no utterance has a frame.
    """
    options = job.settings
    before, *after = (encoder_model(folder, None, 0.0).base_model.eval() for folder in (job.start, *job.runs.values()))
    config = before.config
    clips = Clips.open(job.test.features, job.test.audio).first(options.minutes)
    frames = frame_counts(config, torch.from_numpy(clips.lengths)).numpy()
    if not frames.any():
        raise DataError(f"{job.test.features}: no utterance is long enough for a frame of {job.start}")
    if frames.sum() < FRAMES_A_CHANNEL * config.hidden_size:
        log.warning(
            "%s: %d frames are few for %d channels; PWCCA and SVCCA come out too high",
            job.output,
            frames.sum(),
            config.hidden_size,
        )
    clips = clips.take(np.flatnonzero(frames))
    blocks, draws_RG = blocks_and_draws(len(clips), options.bootstrap_replicates)
    draws_RG = torch.cat([torch.ones_like(draws_RG[:1]), draws_RG])  # first the estimate

    layers, rows = range(config.num_hidden_layers + 1), []
    at_once = max(1, SUMS_BYTES // (draws_RG.shape[1] * (1 + 2 * len(after)) * config.hidden_size**2 * 8))
    for first in range(0, len(layers), at_once):
        turn = layers[first : first + at_once]
        for layer, sums in zip(turn, layer_sums(before, after, clips, blocks, turn), strict=True):
            for seed, (xy, yy) in zip(job.runs, sums.after, strict=True):
                for measure, values in similarities(sums.xx, xy, yy, draws_RG, options.variance).items():
                    estimate, *replicates = values.round(decimals=6).tolist()  # beyond is rounding of activations
                    row = {"layer": layer, "seed": seed, "measure": measure}
                    rows.append({**row, "similarity": estimate, "replicates": replicates})
            log.info("layer %d of %d", layer, layers[-1])
    write_table(job.output, rows, SIMILARITIES, recipe=analyse_recipe(job))
