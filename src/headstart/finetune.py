"""Fine-tuning: an encoder and a new output layer trained with CTC on characters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from headstart.corpora.manifests import read_columns
from headstart.encoder.checkpoints import ctc_model, save_ctc
from headstart.encoder.front_end import (
    FRAMES_QUANTUM,
    MEL_CHANNELS,
    frame_counts,
    frame_stride,
    front_end,
    prepared_audio,
    takes_log_mel,
)
from headstart.encoder.model import encode, front_end_stays, span_mask
from headstart.features.clips import SAMPLE_RATE, Clips
from headstart.jobs import FinetuneJob
from headstart.logs import HeadstartError
from headstart.objectives.ctc import batches_by_length, clip_features, ctc_loss, required_frames, transcribe_features
from headstart.score.metrics import METRICS
from headstart.study.sections import Finetune, Text
from headstart.subsets import SUBSET
from headstart.text.normalisation import BLANK, build_vocabulary, normalise, references
from headstart.text.normalisation import encode as encode_text
from headstart.training import finished
from headstart.training import loop as training
from headstart.training.batching import endless_batches
from headstart.training.loop import Batch
from headstart.training.ranks import Ranks
from headstart.training.recipes import recipe_of

log = logging.getLogger(__name__)


class DataError(HeadstartError):
    """Training or dev data that nothing can be learnt from."""


KEPT_BYTES = 1 << 30  # of float32 features, 3 hours of a base encoder's


@dataclass
class Draws:
    """What a batch of fine-tuning shares: masks of frames (B, T) and of channels (B, D), and the labels in all."""

    mask_BT: torch.Tensor
    mask_BD: torch.Tensor
    labels: int


class CtcObjective(training.Objective):
    """CTC on a label budget, evaluated on a part of the dev split.

    A frozen front-end runs once: its features of every clip are kept, unless they would take more than `KEPT_BYTES`.
    They are computed clip by clip, without padding.
    """

    def __init__(
        self,
        network: Any,
        vocabulary: dict[str, int],
        train: Clips,
        dev: Clips,
        text: Text,
        settings: Finetune,
        freeze_front_end: bool,
        seed: int,
    ):
        self.network, self.vocabulary, self.settings, self.seed = network, vocabulary, settings, seed
        self.frozen = freeze_front_end or takes_log_mel(network.config)  # log-mel features have no weights
        self.train, self.dev = train, dev
        self.references = pa.array(references(train, text), pa.large_string())  # a tenth of the memory of lists
        self.dev_references, self.dev_languages = list(references(dev, text)), dev.column("language")
        self.text = text
        self.stride = frame_stride(network.config)
        self.features: dict[tuple[int, int], torch.Tensor] = {}
        width = MEL_CHANNELS if takes_log_mel(network.config) else network.config.conv_dim[-1]
        frames = sum(int(frame_counts(network.config, torch.tensor(clips.lengths)).sum()) for clips in (train, dev))
        self.keeps = self.frozen and frames * width * 4 <= KEPT_BYTES

    def labels(self, index: int) -> list[int]:
        """Vocabulary indices of a training transcript."""
        return encode_text(self.references[index].as_py(), self.vocabulary)

    def trainable(self, update: int) -> set[str]:
        names = {name for name, _ in self.network.named_parameters()}
        if update <= self.settings.freeze_encoder * self.settings.updates:
            return {name for name in names if name.startswith("lm_head.")}
        if self.frozen:
            names = {name for name in names if ".feature_extractor." not in name}
        return names

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        quantum = FRAMES_QUANTUM * self.stride
        lengths = self.train.lengths
        for epoch, clips in endless_batches(lengths, limit, quantum, self.seed, start):
            # Here, and not in the loss, where the pass over new clips would be counted in every batch's operations.
            self._extract(self.train, clips)
            frames = -(-int(lengths[clips].max()) // quantum) * FRAMES_QUANTUM
            seconds = float(lengths[clips].sum() / SAMPLE_RATE)
            yield Batch(epoch, clips, seconds, (len(clips), frames))

    @torch.no_grad()
    def _extract(self, clips: Clips, indices: list[int]) -> None:
        """Keep the front-end's features of these clips, if they are to be kept."""
        if not self.keeps:
            return
        for i in indices:
            if (id(clips), i) not in self.features:
                clip = torch.from_numpy(clips.audio(i).copy())
                audio_BS, samples = prepared_audio(self.network.config, [clip], len(clip))
                self.features[id(clips), i] = front_end(self.network.base_model, audio_BS, samples)[0]

    def _features(self, clips: Clips, indices: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Front-end features of clips, padded to `size` frames (B, size, C), and the frames that are real."""
        if not self.keeps:
            return clip_features(self.network, clips, indices, size)
        self._extract(clips, indices)
        rows = [self.features[id(clips), i] for i in indices]
        features_BTC = rows[0].new_zeros(len(rows), size, rows[0].shape[1])
        for padded, row in zip(features_BTC, rows, strict=True):
            padded[: len(row)] = row
        return features_BTC, torch.tensor([len(row) for row in rows])

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Draws:
        settings, width = self.settings, self.network.config.hidden_size
        frames = frame_counts(self.network.config, torch.from_numpy(self.train.lengths[batch.clips]))
        widths = torch.full((len(batch.clips),), width)
        return Draws(
            span_mask(frames, batch.shape[1], settings.mask_time_share, settings.mask_time_length).to(ranks.device),
            span_mask(widths, width, settings.mask_feature_share, settings.mask_feature_length).to(ranks.device),
            sum(len(self.labels(i)) for i in batch.clips),
        )

    def loss(
        self, batch: Batch, shared: Draws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        clips = [batch.clips[i] for i in positions]
        features_BTC, frames = self._features(self.train, clips, batch.shape[1])
        device = features_BTC.device
        context_BTD, _ = encode(
            self.network.base_model,
            features_BTC,
            frames.to(device),
            shared.mask_BT[positions],
            shared.mask_BD[positions],
        )
        logits_BTV = self.network.lm_head(context_BTD)
        labels = [self.labels(i) for i in clips]
        return ctc_loss(logits_BTV, frames, labels, self.vocabulary[BLANK], shared.labels), {}

    def evaluate(self) -> dict[str, float]:
        """Error rates of greedy transcripts of the dev split, by every metric."""
        hypotheses = [""] * len(self.dev)
        for batch in batches_by_length(self.dev.lengths, int(60 * SAMPLE_RATE)):
            size = -(-int(self.dev.lengths[batch].max()) // self.stride)
            features_BTC, frames = self._features(self.dev, batch, size)
            texts = transcribe_features(self.network, features_BTC, frames, self.vocabulary)
            for i, text in zip(batch, texts, strict=True):
                hypotheses[i] = normalise(text, self.text, self.dev_languages[i])
        return {f"dev_{name}": metric.rate(self.dev_references, hypotheses) for name, metric in METRICS.items()}

    def names(self, batch: Batch) -> list[str]:
        return self.train.take(batch.clips).column("utterance_id")


def usable(clips: Clips, labels: Iterable[Sequence[Any]], config: Any) -> tuple[Clips, list[dict[str, str]]]:
    """Clips that CTC can learn from, given the labels (or characters) of each, and the others with the reason."""
    keep, rejected = np.ones(len(clips), bool), []
    frames = frame_counts(config, torch.tensor(clips.lengths)).numpy()
    names = clips.rows("utterance_id")
    for i, ((name,), reference, count) in enumerate(zip(names, labels, frames, strict=True)):
        needed = required_frames(reference)
        if not len(reference):
            reason = "empty transcript after normalisation"
        elif needed > count:
            reason = f"transcript longer than its frames allow: needs {needed}, the clip has {count}"
        else:
            continue
        keep[i] = False
        rejected.append({"utterance_id": name, "reason": reason})
    for reject in rejected:
        log.warning("left out %s: %s", reject["utterance_id"], reject["reason"])
    return clips.take(np.flatnonzero(keep)), rejected


def chosen_clips(job: FinetuneJob) -> tuple[Clips, Clips]:
    """The training utterances of the label budget, and the dev utterances of the learning curve."""
    indices = read_columns(job.subset, SUBSET, ["index"])["index"].to_numpy()
    train = Clips.open(job.train.features, job.train.audio).take(indices)
    return train, Clips.open(job.dev.features, job.dev.audio).first(job.settings.dev_minutes)


def finetune_recipe(job: FinetuneJob, train: Clips, dev: Clips) -> dict[str, Any]:
    """The recipe of a run that is fine-tuned on these utterances."""
    return recipe_of(job, {"content": [train.content, dev.content]})


def finetune_run(job: FinetuneJob) -> None:
    """Fine-tune a start on a label budget and write a model folder that `transformers.pipeline` loads.

    Raises:
        CheckpointError: the start cannot be loaded.
        DataError: no training or dev utterance can be used.
    """
    torch.manual_seed(job.seed)
    train, dev = chosen_clips(job)
    recipe = finetune_recipe(job, train, dev)
    if finished.reuse(job, recipe):
        return
    vocabulary = build_vocabulary(references(train, job.text))
    network = ctc_model(job.parent, job.model, vocabulary, job.settings.dropout)
    train, rejected = usable(train, references(train, job.text), network.config)
    dev, dev_rejected = usable(dev, references(dev, job.text), network.config)
    for name, clips in (("training", train), ("dev", dev)):
        if not len(clips):
            raise DataError(f"{job.subset}: no {name} utterance can be used; see the reasons above, if there were any")
    unseen = sorted(set("".join(references(dev, job.text))) - set(vocabulary) - {" "})
    if unseen:
        log.warning("dev has %d characters that the training transcripts lack: %s", len(unseen), " ".join(unseen))

    frozen = front_end_stays(network, job.parent, job.settings.freeze_front_end)
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
