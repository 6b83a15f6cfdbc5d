"""Fine-tuning: an encoder and a new output layer trained with CTC on characters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import pyarrow.parquet as pq
import torch

from headstart import training
from headstart.batching import endless_batches
from headstart.checkpoints import ctc_model, save_ctc
from headstart.config import Finetune, Model, Text
from headstart.ctc import batches_by_length, ctc_loss, required_frames, transcribe_features
from headstart.features import SAMPLE_RATE, Clips
from headstart.files import read_json
from headstart.frontend import (
    FRAMES_QUANTUM,
    frame_counts,
    frame_stride,
    front_end,
    prepared_audio,
    samples_for,
    takes_log_mel,
)
from headstart.logs import HeadstartError
from headstart.model import begins_as_filterbank, encode, span_mask
from headstart.text import BLANK, build_vocabulary, normalise
from headstart.text import encode as encode_text
from headstart.training import Batch
from headstart.versions import VERSIONS

log = logging.getLogger(__name__)


class DataError(HeadstartError):
    """Training or dev data that nothing can be learnt from."""


class CtcObjective:
    """CTC on a label budget, evaluated on a part of the dev split.

    A frozen front-end runs once: its features of every clip are kept. They are computed clip by clip, without padding.
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
        self.labels = [encode_text(reference, vocabulary) for reference in references(train, text)]
        self.dev_references = references(dev, text)
        self.text = text
        self.stride = frame_stride(network.config)
        self.features: dict[tuple[int, int], torch.Tensor] = {}

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
            frames = -(-max(lengths[i] for i in clips) // quantum) * FRAMES_QUANTUM
            seconds = sum(lengths[i] for i in clips) / SAMPLE_RATE
            yield Batch(epoch, clips, seconds, (len(clips), frames))

    @torch.no_grad()
    def _extract(self, clips: Clips, indices: list[int]) -> None:
        """Keep the front-end's features of these clips, if it is frozen."""
        if not self.frozen:
            return
        for i in indices:
            if (id(clips), i) not in self.features:
                clip = torch.from_numpy(clips.audio(i).copy())
                audio_BS, samples = prepared_audio(self.network.config, [clip], len(clip))
                self.features[id(clips), i] = front_end(self.network.base_model, audio_BS, samples)[0]

    def _features(self, clips: Clips, indices: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Front-end features of clips, padded to `size` frames (B, size, C), and the frames that are real."""
        if not self.frozen:
            audio = [torch.from_numpy(clips.audio(i).copy()) for i in indices]
            audio_BS, samples = prepared_audio(self.network.config, audio, samples_for(self.network.config, size))
            return front_end(self.network.base_model, audio_BS, samples), frame_counts(self.network.config, samples)
        self._extract(clips, indices)
        rows = [self.features[id(clips), i] for i in indices]
        features_BTC = rows[0].new_zeros(len(rows), size, rows[0].shape[1])
        for padded, row in zip(features_BTC, rows, strict=True):
            padded[: len(row)] = row
        return features_BTC, torch.tensor([len(row) for row in rows])

    def loss(self, batch: Batch, update: int) -> tuple[torch.Tensor, dict[str, float]]:
        settings, config = self.settings, self.network.config
        features_BTC, frames = self._features(self.train, batch.clips, batch.shape[1])
        device = features_BTC.device
        mask_BT = span_mask(frames, batch.shape[1], settings.mask_time_share, settings.mask_time_length)
        width = torch.full((len(batch.clips),), config.hidden_size)
        mask_BD = span_mask(width, config.hidden_size, settings.mask_feature_share, settings.mask_feature_length)
        context_BTD, _ = encode(
            self.network.base_model, features_BTC, frames.to(device), mask_BT.to(device), mask_BD.to(device)
        )
        logits_BTV = self.network.lm_head(context_BTD)
        labels = [self.labels[i] for i in batch.clips]
        return ctc_loss(logits_BTV, frames, labels, self.vocabulary[BLANK]), {}

    def evaluate(self) -> dict[str, float]:
        """Dev word and character error rates of greedy transcripts."""
        hypotheses = [""] * len(self.dev)
        for batch in batches_by_length(self.dev.lengths, int(60 * SAMPLE_RATE)):
            size = -(-max(self.dev.lengths[i] for i in batch) // self.stride)
            features_BTC, frames = self._features(self.dev, batch, size)
            texts = transcribe_features(self.network, features_BTC, frames, self.vocabulary)
            for i, text in zip(batch, texts, strict=True):
                hypotheses[i] = normalise(text, self.text, self.dev.rows[i]["language"])
        return {
            "dev_wer": jiwer.wer(self.dev_references, hypotheses),
            "dev_cer": jiwer.cer(self.dev_references, hypotheses),
        }


def references(clips: Clips, text: Text) -> list[str]:
    """Normalised transcripts."""
    return [normalise(row["text"] or "", text, row["language"]) for row in clips.rows]


def usable(clips: Clips, text: Text, config: Any) -> tuple[Clips, list[dict[str, str]]]:
    """Clips that CTC can learn from, and the others with the reason why not."""
    keep, rejected = [], []
    frames = frame_counts(config, torch.tensor(clips.lengths))
    for i, (reference, count) in enumerate(zip(references(clips, text), frames.tolist(), strict=True)):
        needed = required_frames(reference)
        if not reference:
            reason = "empty transcript after normalisation"
        elif needed > count:
            reason = f"transcript longer than its frames allow: needs {needed}, the clip has {count}"
        else:
            keep.append(i)
            continue
        rejected.append({"utterance_id": clips.rows[i]["utterance_id"], "reason": reason})
    for reject in rejected:
        log.warning("left out %s: %s", reject["utterance_id"], reject["reason"])
    return clips.take(keep), rejected


def finetune_run(
    train: dict[str, str],
    dev: dict[str, str],
    subset: str,
    settings: dict[str, Any],
    text: dict[str, Any],
    model: dict[str, Any] | None,
    start: str | None,
    seed: int,
    output: str,
    state: str,
    threads: int,
) -> None:
    """Fine-tune a start on a label budget and write a model folder that `transformers.pipeline` loads.

    Args:
        train, dev: `features` and `audio` paths of the splits.
        subset: parquet file with the `index` of each training utterance of the budget.
        settings, text, model: `config.Finetune`, `config.Text` and `config.Model` as dicts; no model with a `start`.
        start: checkpoint folder of the start, or None for random weights of shape `model`.
        output: folder for the model, curve.parquet and recipe.json.
        state: folder for the state from which a killed job resumes.

    Raises:
        DataError: no training or dev utterance can be used.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    options, normalisation = Finetune(**settings), Text(**text)
    indices = pq.read_table(subset)["index"].to_pylist()
    training_clips = Clips.open(**train).take(indices)
    dev_clips = Clips.open(**dev)
    dev_count = sum(s <= options.dev_minutes * 60 * SAMPLE_RATE for s in _cumulative(dev_clips.lengths))
    dev_clips = dev_clips.take(range(min(len(dev_clips), max(1, dev_count))))

    vocabulary = build_vocabulary(references(training_clips, normalisation))
    network = ctc_model(start, Model(**model) if model else None, vocabulary, options.dropout)
    training_clips, rejected = usable(training_clips, normalisation, network.config)
    dev_clips, dev_rejected = usable(dev_clips, normalisation, network.config)
    for name, clips in (("training", training_clips), ("dev", dev_clips)):
        if not len(clips):
            raise DataError(f"{subset}: no {name} utterance can be used; see the reasons above")
    unseen = sorted(set("".join(references(dev_clips, normalisation))) - set(vocabulary) - {" "})
    if unseen:
        log.warning("dev has %d characters that the training transcripts lack: %s", len(unseen), " ".join(unseen))

    frozen = options.freeze_front_end and (start is not None or begins_as_filterbank(network))
    objective = CtcObjective(network, vocabulary, training_clips, dev_clips, normalisation, options, frozen, seed)
    parent = Path(start) / "recipe.json" if start else None
    recipe = {
        "stage": "finetune",
        "version": VERSIONS["finetune"],
        "settings": settings,
        "text": text,
        "model": None if start else model,
        "start": read_json(parent) if parent and parent.exists() else start,
        "seed": seed,
        "data": {
            "train_utterances": len(training_clips),
            "train_seconds": round(training_clips.seconds, 1),
            "dev_utterances": len(dev_clips),
            "rejected": rejected + dev_rejected,
            "unseen_characters": "".join(unseen),
            "content": [training_clips.content, dev_clips.content],
        },
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    result = training.train(
        objective, objective.batches, options, stage="finetune", recipe=recipe, seed=seed, state_dir=Path(state)
    )
    save_ctc(network, result.weights, vocabulary, Path(output))
    training.finish(recipe, result, Path(output), Path(state))


def _cumulative(values: list[int]) -> Iterator[int]:
    total = 0
    for value in values:
        total += value
        yield total
