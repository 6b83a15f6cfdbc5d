"""How much fine-tuning changes a start: the similarity of its layers before and after, on the same test audio.

The start and its fine-tuned runs encode the same utterances. For each layer, `similarity` compares the representation
of the start with that of a run. The representation gap is one minus the mean similarity over the Transformer layers.

Bootstrap replicates are over utterances. These are assigned at random to 20 blocks, sums over frames are kept for each
block, and a replicate draws blocks with replacement. The sums take blocks x layers x (1 + 2 x seeds) x D² x 8 bytes,
whatever the amount of audio: 0.2 GB for 5 layers of 192 channels and 3 seeds. Where they would take more than
`SUMS_BYTES`, layers are processed in groups, with one pass over the audio for each group.

Blocks and draws depend only on the number of utterances and of replicates. All runs on one target therefore use the
same draws, and differences between starts are paired.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from headstart.analyse.similarity import BlockSums, similarities
from headstart.corpora.manifests import write_table
from headstart.encoder.checkpoint_files import checkpoint_content
from headstart.encoder.checkpoints import encoder_model
from headstart.encoder.front_end import frame_counts, front_end, prepared_audio, waveform
from headstart.encoder.model import layer_outputs
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import AnalyseJob
from headstart.score.transcription import batches_by_length

log = logging.getLogger(__name__)

RNG_SEED = 20040517  # An arbitrary constant, so that blocks and draws are a pure function of the counts.
BLOCKS = 20
SUMS_BYTES = 2 << 30
BATCH_SECONDS = 60.0
FRAMES_A_CHANNEL = 20  # with fewer, independent noise has a mean squared canonical correlation above 0.05
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
    """The block of each utterance, and how often each replicate draws each block: (replicates, blocks), float64."""
    blocks = min(BLOCKS, utterances)
    rng = np.random.default_rng(RNG_SEED)
    dealt = rng.permutation(np.arange(utterances) % blocks)
    return dealt.tolist(), torch.from_numpy(draw_counts(rng, replicates, blocks))


def draw_counts(rng: np.random.Generator, replicates: int, items: int) -> NDArray[np.float64]:
    """How often each of `items` items is drawn in `items` draws with replacement: `[replicates, items]`, float64."""
    drawn = rng.integers(items, size=(replicates, items)) + items * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * items)
    return counts.reshape(replicates, items).astype(np.float64)


@torch.no_grad()
def layers_of(encoder: Any, clips: Clips, indices: list[int]) -> Iterator[list[torch.Tensor]]:
    """For each clip, its activations in every layer without padding: a list of (T_i, D), float32.

    Layer 0 is the input of the first Transformer layer.
    """
    audio = [waveform(clips, i) for i in indices]
    audio_BS, samples = prepared_audio(encoder.config, audio, max(map(len, audio)))
    frames = frame_counts(encoder.config, samples)
    states = layer_outputs(encoder, front_end(encoder, audio_BS, samples), frames)
    for row, count in enumerate(frames.tolist()):
        yield [state_BTD[row, :count] for state_BTD in states]


@dataclass(frozen=True)
class LayerSums:
    """Sums of one layer, where x is the start and y a fine-tuned encoder.

    `xx` is of x with itself; `after` has for each fine-tuned encoder the sums of x with y and of y with itself.
    """

    xx: BlockSums
    after: list[tuple[BlockSums, BlockSums]]


def layer_sums(before: Any, after: list[Any], clips: Clips, blocks: list[int], layers: range) -> list[LayerSums]:
    """Sums over the frames of all clips, for the given layers of the encoders before and after fine-tuning.

    Args:
        before: the start.
        after: the fine-tuned encoders.
        blocks: the block of each clip.
    """
    count, width = max(blocks) + 1, before.config.hidden_size

    def new() -> BlockSums:
        return BlockSums(count, width, width)

    sums = [LayerSums(new(), [(new(), new()) for _ in after]) for _ in layers]
    for batch in batches_by_length(clips.lengths, int(BATCH_SECONDS * SAMPLE_RATE)):
        activations = (layers_of(encoder, clips, batch) for encoder in (before, *after))
        for index, x, *ys in zip(batch, *activations, strict=True):
            block = blocks[index]
            for layer, into in zip(layers, sums, strict=True):
                into.xx.add(block, x[layer], x[layer])
                for y, (xy, yy) in zip(ys, into.after, strict=True):
                    xy.add(block, x[layer], y[layer])
                    yy.add(block, y[layer], y[layer])
    return sums


def analyse_recipe(job: AnalyseJob) -> dict[str, Any]:
    """Everything that the similarities of a start and its runs depend on: settings, checkpoints and test audio."""
    clips = Clips.open(job.test.features, job.test.audio).first(job.settings.minutes)
    return {
        "stage": job.stage,
        "version": job.version,
        "settings": job.settings.model_dump(mode="json"),
        **({"attention": job.attention.model_dump(mode="json")} if job.attention else {}),
        "start": checkpoint_content(job.start)
        if isinstance(job.start, str)
        else {str(seed): checkpoint_content(folder) for seed, folder in job.start.items()},
        "runs": {str(seed): checkpoint_content(run) for seed, run in job.runs.items()},
        "content": clips.content,
        "read": clips.audio_content,
    }


def analyse_start(job: AnalyseJob) -> None:
    """Compare a start with its fine-tuned runs on one target and budget, and write the similarities.

    The table has a row for each layer, seed and measure, with the similarity and its bootstrap replicates.

    Raises:
        CheckpointError: a folder of the start or of a run is damaged.
        DataError: no utterance is long enough for a frame.
    """
    recipe = analyse_recipe(job)  # first, because it checks what is opened below
    rows = [row for start, runs in job.starts.items() for row in compared(job, start, runs)]
    write_table(job.output, rows, SIMILARITIES, recipe=recipe)


def compared(job: AnalyseJob, start: str, runs: dict[int, str]) -> Iterator[dict[str, Any]]:
    """The rows of the table for the runs that began with one checkpoint.

    Args:
        start: its folder.
        runs: model folders of the runs by seed.

    Raises:
        DataError: no utterance is long enough for a frame.
    """
    options = job.settings
    before = encoder_model(start, None, 0.0, attention=job.attention).base_model.eval()
    after = [encoder_model(run, None, 0.0, adapters=True).base_model.eval() for run in runs.values()]
    config = before.config
    clips = Clips.open(job.test.features, job.test.audio).first(options.minutes)
    frames = frame_counts(config, torch.from_numpy(clips.lengths)).numpy()
    if not frames.any():
        raise DataError(f"{job.test.features}: no utterance is long enough for a frame of {start}")
    if frames.sum() < FRAMES_A_CHANNEL * config.hidden_size:
        log.warning(
            "%s: %d frames are few for %d channels; PWCCA and SVCCA come out too high",
            job.output,
            frames.sum(),
            config.hidden_size,
        )
    clips = clips.take(np.flatnonzero(frames))
    blocks, draws_RG = blocks_and_draws(len(clips), options.bootstrap_replicates)
    draws_RG = torch.cat([torch.ones_like(draws_RG[:1]), draws_RG])  # the first row gives the estimate

    layers = range(config.num_hidden_layers + 1)
    at_once = max(1, SUMS_BYTES // (draws_RG.shape[1] * (1 + 2 * len(after)) * config.hidden_size**2 * 8))
    for first in range(0, len(layers), at_once):
        turn = layers[first : first + at_once]
        for layer, sums in zip(turn, layer_sums(before, after, clips, blocks, turn), strict=True):
            for seed, (xy, yy) in zip(runs, sums.after, strict=True):
                for measure, values in similarities(sums.xx, xy, yy, draws_RG, options.variance).items():
                    estimate, *replicates = values.round(decimals=6).tolist()  # further digits are rounding errors
                    row = {"layer": layer, "seed": seed, "measure": measure}
                    yield {**row, "similarity": estimate, "replicates": replicates}
            log.info("%s: layer %d of %d", start, layer, layers[-1])
