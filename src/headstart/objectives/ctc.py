"""Connectionist temporal classification (CTC, Graves et al. 2006): the loss and the objective of fine-tuning."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from headstart.devices import moved, rows
from headstart.encoder.adapters import ADAPTER, has_adapters
from headstart.encoder.front_end import (
    FRAMES_QUANTUM,
    MEL_CHANNELS,
    frame_counts,
    frame_stride,
    front_end,
    padded_frames,
    prepared_audio,
    takes_log_mel,
    waveform,
)
from headstart.encoder.model import encode, span_mask
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.objective import Objective
from headstart.objectives.shifts import Shifts
from headstart.score.metrics import CURVE_METRICS, METRICS
from headstart.score.transcription import batches_by_length, best_paths, clip_features
from headstart.study.finetune import Finetune
from headstart.study.text import Text
from headstart.text.normalisation import BLANK, decode, normalise_hypothesis, references
from headstart.text.normalisation import encode as encode_text
from headstart.training.batching import Batch, endless_batches
from headstart.training.diagnosis import Finding, Transcripts, boundaries, diagnose
from headstart.training.ranks import Ranks

log = logging.getLogger(__name__)


def required_frames(labels: Sequence[int]) -> int:
    """The fewest frames that CTC can align `labels` to: one for each label, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def ctc_loss(
    logits_BTV: torch.Tensor,
    frames: torch.Tensor,
    labels: Sequence[Sequence[int]],
    blank: int,
    total: int | None = None,
) -> torch.Tensor:
    """CTC loss: negative log-likelihood of the labels, in nats, divided by the number of labels.

    An utterance with fewer frames than `required_frames` has an infinite loss, which is replaced by zero.

    Args:
        logits_BTV: unnormalised scores, any float type; computed in float32.
        frames: valid frames of each utterance (B,).
        labels: vocabulary indices of each utterance, without blanks.
        blank: vocabulary index of the blank.
        total: number of labels to divide by, that of the whole batch where this is a part of it; by default, the
            number of `labels`.

    Returns:
        A scalar.
    """
    log_probs_TBV = logits_BTV.float().log_softmax(-1).transpose(0, 1)
    lengths = torch.tensor([len(label) for label in labels])
    flat = moved(torch.tensor([index for label in labels for index in label]), logits_BTV.device)
    summed = F.ctc_loss(log_probs_TBV, flat, frames.cpu(), lengths, blank, reduction="sum", zero_infinity=True)
    return summed / (total or lengths.sum())


KEPT_BYTES = 1 << 30  # largest cache of float32 front-end features: about 3 hours for a base encoder without shifts


@dataclass
class CtcDraws:
    """What the parts of a fine-tuning batch share.

    Attributes:
        mask_BT: frames to mask, bool.
        mask_BD: hidden channels to mask, bool.
        labels: number of labels in the batch, by which the loss is divided.
    """

    mask_BT: torch.Tensor
    mask_BD: torch.Tensor
    labels: int


class CtcObjective(Objective):
    """CTC on the utterances of a label budget, with greedy transcription of a part of the dev split as evaluation.

    The features of a frozen front-end are computed once for each clip and each of its shifts, and cached, unless they
    would take more than `KEPT_BYTES`. They are computed clip by clip, without padding.
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
        self.frozen = freeze_front_end or takes_log_mel(network.config)  # a log-mel front-end has no weights to train
        self.adapters = has_adapters(network.config)  # then the only weights to train, besides the output layer
        self.train, self.dev = train, dev
        self.references = pa.array(references(train, text), pa.large_string())  # a tenth of the memory of lists
        self.dev_references = list(references(dev, text))
        unseen = Counter(c for reference in self.dev_references for c in reference if c != " " and c not in vocabulary)
        self.transcripts = Transcripts(
            "".join(character for character, _ in unseen.most_common()),
            unseen.total() / sum(len(reference) - reference.count(" ") for reference in self.dev_references),
            boundaries(reference.as_py() for reference in self.references),
            boundaries(self.dev_references),
        )
        self.stride = frame_stride(network.config)
        self.shifts = Shifts(settings.shifts, network.config, seed)
        self.features: dict[tuple[int, int, int], torch.Tensor] = {}
        width = MEL_CHANNELS if takes_log_mel(network.config) else network.config.conv_dim[-1]
        frames, dev_frames = (
            int(frame_counts(network.config, torch.tensor(clips.lengths)).sum()) for clips in (train, dev)
        )
        epochs = math.ceil(settings.updates * settings.batch_seconds / train.seconds)  # of which each draws a shift
        kept = frames * min(settings.shifts, epochs) + dev_frames
        self.keeps = self.frozen and kept * width * 4 <= KEPT_BYTES

    def labels(self, index: int) -> list[int]:
        """Vocabulary indices of the transcript of a training clip."""
        return encode_text(self.references[index].as_py(), self.vocabulary)

    def trainable(self, update: int) -> set[str]:
        names = {name for name, _ in self.network.named_parameters()}
        if update <= self.settings.freeze_encoder * self.settings.updates:
            return {name for name in names if name.startswith("lm_head.")}
        if self.adapters:
            return {name for name in names if name.startswith("lm_head.") or ADAPTER in name}
        if self.frozen:
            names = {name for name in names if ".feature_extractor." not in name}
        return names

    def batches(self, start: int) -> Iterator[Batch]:
        """Endless batches, from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        quantum = FRAMES_QUANTUM * self.stride
        lengths = self.train.lengths
        for epoch, clips in endless_batches(lengths, limit, quantum, self.seed, start):
            # The cache is filled here and not in `loss`, where the front-end's FLOPs would be measured as the loss's
            # and then counted for every batch of this shape, also when its features come from the cache.
            self._extract(self.train, clips, self._drawn(epoch, clips))
            frames = padded_frames(self.network.config, int(lengths[clips].max()))
            seconds = float(lengths[clips].sum() / SAMPLE_RATE)
            yield Batch(epoch, clips, seconds, (len(clips), frames))

    def _drawn(self, epoch: int, indices: list[int]) -> list[int]:
        """The shifts of training clips in an epoch, each so small that the clip keeps the frames that CTC needs."""
        if self.shifts.count == 1:
            return [0] * len(indices)
        lengths, needed = self.train.lengths, (required_frames(self.references[i].as_py()) for i in indices)
        return [self.shifts.draw(epoch, i, int(lengths[i]), n) for i, n in zip(indices, needed, strict=True)]

    @torch.no_grad()
    def _extract(self, clips: Clips, indices: list[int], shifts: list[int]) -> None:
        """Add the front-end features of these clips with these shifts to the cache, if there is one."""
        if not self.keeps:
            return
        for i, shift in zip(indices, shifts, strict=True):
            if (id(clips), i, shift) not in self.features:
                clip = waveform(clips, i)[shift:]
                audio_BS, samples = prepared_audio(self.network.config, [clip], len(clip))
                self.features[id(clips), i, shift] = front_end(self.network.base_model, audio_BS, samples)[0]

    def _features(
        self, clips: Clips, indices: list[int], size: int, shifts: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Front-end features of clips, padded to `size` frames (B, size, C), and their valid frames (B,)."""
        if not self.keeps:
            return clip_features(self.network, clips, indices, size, shifts)
        self._extract(clips, indices, shifts)
        kept = [self.features[id(clips), i, shift] for i, shift in zip(indices, shifts, strict=True)]
        features_BTC = kept[0].new_zeros(len(kept), size, kept[0].shape[1])
        for padded, row in zip(features_BTC, kept, strict=True):
            padded[: len(row)] = row
        return features_BTC, torch.tensor([len(row) for row in kept])

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> CtcDraws:
        settings, width = self.settings, self.network.config.hidden_size
        lengths = self.train.lengths[batch.clips] - self._drawn(batch.epoch, batch.clips)
        frames = frame_counts(self.network.config, torch.from_numpy(lengths))
        widths = torch.full((len(batch.clips),), width)
        return CtcDraws(
            moved(span_mask(frames, batch.shape[1], settings.mask_time_share, settings.mask_time_length), ranks.device),
            moved(span_mask(widths, width, settings.mask_feature_share, settings.mask_feature_length), ranks.device),
            sum(len(self.labels(i)) for i in batch.clips),
        )

    def loss(
        self, batch: Batch, shared: CtcDraws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        clips = [batch.clips[i] for i in positions]
        shifts = self._drawn(batch.epoch, clips)
        features_BTC, frames = self._features(self.train, clips, batch.shape[1], shifts)
        device = features_BTC.device
        context_BTD, _ = encode(
            self.network.base_model,
            features_BTC,
            moved(frames, device),
            rows(shared.mask_BT, positions),
            rows(shared.mask_BD, positions),
        )
        logits_BTV = self.network.lm_head(context_BTD)
        labels = [self.labels(i) for i in clips]
        return ctc_loss(logits_BTV, frames, labels, self.vocabulary[BLANK], shared.labels), {}

    def evaluate(self) -> dict[str, float]:
        """Error rates of greedy transcripts of the dev split, by the metrics of learning curves, and for the diagnosis:

        `dev_blank`, the share of frames whose best label is the blank; `dev_length`, characters in hypotheses for each
        one in references, spaces left out; `dev_boundaries`, spaces for each other character of hypotheses, which is
        missing where there is no character.
        """
        hypotheses, blanks, total = [""] * len(self.dev), 0, 0
        for batch in batches_by_length(self.dev.lengths, int(60 * SAMPLE_RATE)):
            size = -(-int(self.dev.lengths[batch].max()) // self.stride)
            features_BTC, frames = self._features(self.dev, batch, size, [0] * len(batch))
            paths = best_paths(self.network, features_BTC, frames, self.vocabulary)
            blanks += sum(path.count(self.vocabulary[BLANK]) for path in paths)
            total += sum(map(len, paths))
            for i, path in zip(batch, paths, strict=True):
                hypotheses[i] = normalise_hypothesis(decode(path, self.vocabulary))
        written, expected = (
            sum(len(text) - text.count(" ") for text in texts) for texts in (hypotheses, self.dev_references)
        )
        return {
            **{f"dev_{name}": METRICS[name].rate(self.dev_references, hypotheses) for name in CURVE_METRICS},
            "dev_blank": blanks / total,
            "dev_length": written / expected,
            **({"dev_boundaries": boundaries(hypotheses)} if written else {}),
        }

    def diagnosis(self, curve: list[dict[str, float]]) -> list[Finding]:
        return diagnose(curve, self.settings, self.transcripts)

    def utterance_ids(self, batch: Batch) -> list[str]:
        return self.train.take(batch.clips).column("utterance_id")


def usable(clips: Clips, labels: Iterable[Sequence[Any]], config: Any) -> tuple[Clips, list[dict[str, str]]]:
    """Separate clips that CTC can be trained on from those that it cannot; the latter are logged.

    A clip is rejected if it has no label, or fewer frames than its labels need (`required_frames`).

    Args:
        labels: the labels of each clip, or its characters.
        config: of the encoder, which decides the number of frames.

    Returns:
        The usable clips, and for each rejected one its `utterance_id` and the `reason`.
    """
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
