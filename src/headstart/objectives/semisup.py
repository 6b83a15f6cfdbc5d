"""The objective of the semi-supervised stage: three weighted losses on batches of labelled and unlabelled audio.

Shape suffixes: B utterances, T frames, D channels, V entries of the vocabulary.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
import pyarrow as pa
import torch

from headstart.devices import moved, rows
from headstart.encoder.front_end import FRAMES_QUANTUM, frame_counts, frame_stride, padded_frames, takes_log_mel
from headstart.encoder.model import encode, norm_on_top, span_mask
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.ctc import ctc_loss, required_frames
from headstart.objectives.pseudo_labels import Cache, CollapseDetector, PseudoLabel, greedy_labels
from headstart.objectives.shifts import Shifts
from headstart.pretrain import make_objective
from headstart.score.transcription import batches_by_length, clip_features
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Semisup
from headstart.text.normalisation import BLANK
from headstart.text.units import UnitInventory
from headstart.training import loop as training
from headstart.training.batching import Batch, Paced
from headstart.training.optimiser import MasterWeights
from headstart.training.ranks import Ranks
from headstart.training.teacher import Teacher

log = logging.getLogger(__name__)

DIVERGED = 1.5  # the teacher is reset if its loss on labelled audio is more than this multiple of the student's


@dataclass
class MixedBatch(Batch):
    """A batch of labelled clips followed by unlabelled ones.

    `clips` are indices into `SemisupObjective.clips`, the concatenation of all labelled and all unlabelled clips.

    Attributes:
        labelled: number of labelled clips in the batch.
        labelled_epoch: how often they have all been taken before; `epoch` is that of the unlabelled clips, if any.
        labelled_frames: frames that labelled clips are padded to.
        unlabelled_frames: frames that unlabelled clips are padded to.
    """

    labelled: int = 0
    labelled_epoch: int = 0
    labelled_frames: int = 0
    unlabelled_frames: int = 0


@dataclass
class MixedDraws:
    """What the parts of a batch share.

    Attributes:
        masks: for labelled clips (key true) and unlabelled ones (key false), the masks of frames (B, T) and of hidden
            channels (B, D).
        labels: number of transcript labels in the batch, by which the supervised loss is divided.
        pseudo: pseudo-labels by position in the batch.
        kept: positions of the pseudo-labels that are trained on.
        ssl_batch: the clips of the self-supervised loss, as a batch of its own; None where that loss is inactive.
        ssl: what the parts of `ssl_batch` share.
    """

    masks: dict[bool, tuple[torch.Tensor, torch.Tensor]]
    labels: int
    pseudo: dict[int, PseudoLabel]
    kept: list[int]
    ssl_batch: Batch | None
    ssl: Any


@dataclass
class Taught:
    """What an update's pseudo-labels are, so that a batch that is begun again has the same, counted once.

    Attributes:
        made: pseudo-labels by position in the batch; None before they are made.
        fit: what `SemisupObjective._fit` found; None before it has looked.
    """

    update: int
    made: dict[int, PseudoLabel] | None = None
    fit: bool | None = None


class SemisupObjective(training.Objective):
    """Weighted sum of CTC on transcripts, CTC on pseudo-labels, and, if asked for, a self-supervised loss.

    Args:
        network: encoder with a CTC output layer `lm_head`, and the output layers of the self-supervised loss.
        inventory: the units that transcripts are spelt in.
        unlabelled: clips for pseudo-labels and the self-supervised loss; if None, the latter uses labelled clips.
        dev: clips to evaluate on, if any.
        ssl: settings of the self-supervised loss, or None without one.
        freeze_front_end: whether the front-end is not trained.
        seed: of batches and crops.
    """

    metrics = (
        "labelled_share", "supervised_loss", "pseudo_loss", "pseudo_kept", "pseudo_empty", "pseudo_confidence",
        "ssl_loss",
    )  # fmt: skip
    prepare_runs_network = True

    def __init__(
        self,
        network: Any,
        inventory: UnitInventory,
        labelled: Clips,
        unlabelled: Clips | None,
        dev: Clips | None,
        settings: Semisup,
        ssl: Pretrain | None,
        freeze_front_end: bool,
        seed: int,
    ):
        self.network, self.inventory, self.settings, self.seed = network, inventory, settings, seed
        self.labelled, self.unlabelled, self.dev = labelled, unlabelled, dev
        self.ssl = make_objective(network, unlabelled or labelled, ssl, freeze_front_end, seed) if ssl else None
        self.clips = Clips.concatenate([labelled, unlabelled]) if unlabelled else labelled
        self.frozen = freeze_front_end or takes_log_mel(network.config)
        self.labels = pa.array(list(inventory.labels(labelled)), pa.list_(pa.int32()))
        self.dev_labels = list(inventory.labels(dev)) if dev else []
        self.blank = inventory.vocabulary[BLANK]
        self.quantum = FRAMES_QUANTUM * frame_stride(network.config)
        self.shifts = Shifts(settings.shifts, network.config, seed)
        self.rates = {"lm_head.": settings.head_rate}
        self.teacher: Teacher | None = None
        self.cache = Cache(settings.cache_updates)
        counts = Counter(self.labels.flatten().to_pylist())
        self.guard = CollapseDetector(max(counts.values()) / counts.total())
        self.paused_until = 0
        self.taught = Taught(0)
        self.warned_low_confidence = False

    # ------------------------------------------------------------------------------------------------ schedules

    def _weights(self, update: int) -> tuple[float, float, float]:
        """Weights of the supervised, the pseudo-label and the self-supervised loss at an update; 0 if inactive."""
        settings, passed = self.settings, update / self.settings.updates
        return settings.supervised.at(passed), settings.pseudo.at(passed), settings.ssl.at(passed)

    def labelled_share(self, update: int) -> float:
        """Share of labelled audio in an update's batch.

        It is the `labelled_share` of the settings, or 1 where there is no unlabelled audio or no active loss that uses
        it, or 0 where the supervised loss is inactive.
        """
        supervised, pseudo, ssl = self._weights(update)
        if not self.unlabelled or not (pseudo or ssl):
            return 1.0
        return self.settings.labelled_share if supervised else 0.0

    def cost_key(
        self, batch: MixedBatch, update: int, positions: list[int], shared: MixedDraws | None = None
    ) -> Hashable:
        supervised, pseudo, ssl = map(bool, self._weights(update))
        labelled = sum(i < batch.labelled for i in positions)
        if shared is not None:
            return supervised, ssl, labelled, len(positions), sum(i in shared.kept for i in positions)
        if not pseudo or update <= self.paused_until or len(batch.clips) == batch.labelled:
            return (ssl,)
        wanted = sum(i >= batch.labelled and self.cache.get(batch.clips[i], update) is None for i in positions)
        return ssl, labelled, wanted, self.guard.updates + 1 >= self.settings.guard_every

    def trainable(self, update: int) -> set[str]:
        settings, prefix = self.settings, self.network.base_model_prefix + "."
        names = {name for name, _ in self.network.named_parameters()}
        if self.ssl:
            names &= self.ssl.trainable(update)
        if update <= settings.freeze_encoder * settings.updates:
            return {name for name in names if not name.startswith(prefix)}
        if self.frozen:
            names = {name for name in names if ".feature_extractor." not in name}
        if settings.freeze_layers:
            total = self.network.config.num_hidden_layers
            above = tuple(f"{prefix}encoder.layers.{i}." for i in range(settings.freeze_layers, total))
            above += (f"{prefix}encoder.layer_norm.",) if norm_on_top(self.network.config) else ()
            names = {name for name in names if name.startswith(above) or not name.startswith(prefix)}
        return names

    # --------------------------------------------------------------------------------------------------- batches

    def batches(self, start: int) -> Iterator[MixedBatch]:
        """Endless batches, from number `start` on.

        A single batch can miss `labelled_share` by up to the length of a clip; later batches compensate for it.
        """
        amount = self.settings.batch_seconds * SAMPLE_RATE
        kinds = [Paced(self.labelled.lengths, self.quantum, self.seed)]
        if self.unlabelled:
            kinds.append(Paced(self.unlabelled.lengths, self.quantum, self.seed + 1))
        number = 0
        while True:
            share = self.labelled_share(number + 1)
            labelled_epoch, clips = kinds[0].take(share * amount) if share else (0, [])
            epoch, others = kinds[1].take((1 - share) * amount) if share < 1 else (labelled_epoch, [])
            if number >= start and (clips or others):
                yield self._batch(epoch, labelled_epoch, clips, [len(self.labelled) + i for i in others])
            number += bool(clips or others)

    def _batch(self, epoch: int, labelled_epoch: int, clips: list[int], others: list[int]) -> MixedBatch:
        frames = [
            padded_frames(self.network.config, int(self.clips.lengths[kind].max())) if kind else 0
            for kind in (clips, others)
        ]
        both = clips + others
        seconds = float(self.clips.lengths[both].sum() / SAMPLE_RATE)
        shape = (len(clips), frames[0], len(others), frames[1])
        return MixedBatch(epoch, both, seconds, shape, len(clips), labelled_epoch, *frames)

    def utterance_ids(self, batch: Batch) -> list[str]:
        return self.clips.take(batch.clips).column("utterance_id")

    def prepare(self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks) -> MixedDraws:
        settings, width = self.settings, self.network.config.hidden_size
        _, pseudo, ssl = self._weights(update)
        masks, kinds = {}, {True: batch.clips[: batch.labelled], False: batch.clips[batch.labelled :]}
        for labelled, clips in kinds.items():
            if not clips:
                continue
            # Of whole clips: the mask of a shifted one may reach one frame into its padding, which the encoder ignores.
            frames = frame_counts(self.network.config, torch.from_numpy(self.clips.lengths[clips]))
            size = batch.labelled_frames if labelled else batch.unlabelled_frames
            widths = torch.full((len(clips),), width)
            masks[labelled] = (
                moved(span_mask(frames, size, settings.mask_time_share, settings.mask_time_length), ranks.device),
                moved(
                    span_mask(widths, width, settings.mask_feature_share, settings.mask_feature_length), ranks.device
                ),
            )
        labels = sum(len(self.labels[i]) for i in kinds[True])
        made: dict[int, PseudoLabel] = {}
        if pseudo and kinds[False] and update > self.paused_until:
            made = self._pseudo_labels(batch, update, own, ranks)
        kept = [i for i, label in made.items() if label.labels and label.confidence >= settings.min_confidence]
        ssl_batch = shared = None
        if ssl and (kinds[False] or not self.unlabelled):
            first = batch.labelled if self.unlabelled else 0  # position of the first clip of this loss
            clips = [i - (len(self.labelled) if self.unlabelled else 0) for i in batch.clips[first:]]
            ssl_batch = self.ssl.batch_of(batch.epoch, clips)
            places = [[i - first for i in positions if i >= first] for positions in own]
            shared = self.ssl.prepare(ssl_batch, update, places, ranks)
        return MixedDraws(masks, labels, made, kept, ssl_batch, shared)

    # --------------------------------------------------------------------------------------------- pseudo-labels

    def _pseudo_labels(
        self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks
    ) -> dict[int, PseudoLabel]:
        """Pseudo-labels of a batch's unlabelled clips, by position, from the cache or else newly generated.

        Empty if this update's check finds that they have collapsed or that the teacher has diverged.
        """
        if self.taught.update != update:
            self.taught = Taught(update)
        taught = self.taught
        if taught.made is None:
            taught.made = self._made(batch, update, own, ranks)
            self.guard.see(list(taught.made.values()))
        if taught.fit is None:
            checked = self.guard.updates >= self.settings.guard_every
            if checked:
                self._warn_low_confidence(taught.made, update)
            taught.fit = not checked or self._fit(batch, update, own, ranks)
            if not taught.fit:
                self.cache.kept.clear()
        return taught.made if taught.fit else {}

    def _made(self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks) -> dict[int, PseudoLabel]:
        """The same whether or not they may be used, with the newly generated ones put into the cache."""
        made: dict[int, PseudoLabel] = {}
        for positions in own:
            wanted = []
            for i in positions:
                if i >= batch.labelled:
                    label = self.cache.get(batch.clips[i], update)
                    if label is None:
                        wanted.append(i)
                    else:
                        made[i] = label
            if wanted:
                logits_BTV, frames = self._taught(batch, wanted)
                made |= zip(wanted, greedy_labels(logits_BTV, frames, self.blank), strict=True)
        made = {i: label for part in ranks.gather(made) for i, label in part.items()}
        for i, label in made.items():
            if self.cache.get(batch.clips[i], update) is None:
                self.cache.put(batch.clips[i], update, label)
        return made

    def _taught(self, batch: MixedBatch, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's logits (B, T, V) for some clips, and their valid frames (B,); without masks and dropout.

        Without a separate teacher, the network itself is the teacher. The clips must be all labelled or all unlabelled.
        """
        if self.teacher:
            with self.teacher.standing_in():
                return self._logits(batch, positions)
        return self._undisturbed(batch, positions)

    @torch.no_grad()
    def _undisturbed(self, batch: MixedBatch, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """`_logits` of the network itself without masks and dropout."""
        self.network.eval()
        try:
            return self._logits(batch, positions)
        finally:
            self.network.train()

    def _warn_low_confidence(self, made: dict[int, PseudoLabel], update: int) -> None:
        """Log a warning, once, if the confidence of every non-empty pseudo-label is below `min_confidence`."""
        least = self.settings.min_confidence
        surest = max(label.confidence for label in made.values())
        if 0 < surest < least and not self.warned_low_confidence:
            self.warned_low_confidence = True
            log.warning(
                "update %d: none of %d pseudo-labels is as sure as min_confidence (%g), the surest is %.2f; while that "
                "is so, unlabelled audio teaches nothing: train longer, begin later (pseudo.begin), or set it lower",
                update, len(made), least, surest,
            )  # fmt: skip

    def _fit(self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks) -> bool:
        """Check for collapsed pseudo-labels and a diverged teacher; true if there is neither.

        After a collapse, no pseudo-labels are used for a while. A diverged teacher is reset to the student's weights.
        """
        settings, fit = self.settings, True
        if trouble := self.guard.collapsed():
            self.paused_until = update + max(1, int(settings.pause * settings.updates))
            log.warning("update %d: %s; none are used up to update %d", update, trouble, self.paused_until)
            fit = False
        if self.teacher and batch.labelled:
            losses = np.zeros(2)
            for positions in own:
                if places := [i for i in positions if i < batch.labelled]:
                    losses += self._rivals(batch, places)
            student, teacher = ranks.sum_in_place(moved(torch.from_numpy(losses), ranks.device)).tolist()
            if not teacher <= DIVERGED * student:
                fit = False
                log.warning(
                    "update %d: the teacher has diverged: its loss on labelled audio is %.2f, the student's %.2f nats "
                    "a label; it begins again from the student's weights", update, teacher, student,
                )  # fmt: skip
                self.teacher.begin_again(self.weights)
        self.guard.clear()
        return fit

    @torch.no_grad()
    def _rivals(self, batch: MixedBatch, positions: list[int]) -> tuple[float, float]:
        """CTC loss of the student and of the teacher on labelled clips, without masks and dropout.

        Each is a part's share of the mean over the batch's labels, in nats.
        """
        labels = [self.labels[batch.clips[i]].as_py() for i in positions]
        total = sum(len(self.labels[i]) for i in batch.clips[: batch.labelled])
        student = ctc_loss(*self._undisturbed(batch, positions), labels, self.blank, total)
        return float(student), float(ctc_loss(*self._taught(batch, positions), labels, self.blank, total))

    # ------------------------------------------------------------------------------------------------------ loss

    def _logits(
        self,
        batch: MixedBatch,
        positions: list[int],
        masks: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
        shifts: Sequence[int] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, V) for some clips of a batch, all labelled or all unlabelled, and their valid frames (B,)."""
        size = batch.labelled_frames if positions[0] < batch.labelled else batch.unlabelled_frames
        clips = [batch.clips[i] for i in positions]
        features_BTC, frames = clip_features(self.network, self.clips, clips, size, shifts)
        context_BTD, _ = encode(self.network.base_model, features_BTC, moved(frames, features_BTC.device), *masks)
        return self.network.lm_head(context_BTD), frames

    def _masked_ctc(
        self, batch: MixedBatch, shared: MixedDraws, positions: list[int], labels: Sequence[Sequence[int]], total: int
    ) -> torch.Tensor:
        labelled = positions[0] < batch.labelled
        places = [i if labelled else i - batch.labelled for i in positions]
        masks = tuple(rows(mask, places) for mask in shared.masks[labelled])
        clips, epoch = [batch.clips[i] for i in positions], batch.labelled_epoch if labelled else batch.epoch
        shifts = [
            self.shifts.draw(epoch, i, int(self.clips.lengths[i]), required_frames(spelt))
            for i, spelt in zip(clips, labels, strict=True)
        ]
        return ctc_loss(*self._logits(batch, positions, masks, shifts), labels, self.blank, total)

    def loss(
        self, batch: MixedBatch, shared: MixedDraws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        supervised, pseudo, ssl = self._weights(update)
        # A zero that depends on a parameter, so that `backward` works when no loss is active in this part: the batch
        # may have no labelled clips (see `batches`) and no pseudo-label that is confident enough.
        total = 0.0 * self.network.lm_head.bias.float().sum()
        labelled = [i for i in positions if i < batch.labelled]
        audio = self.clips.lengths[[batch.clips[i] for i in labelled]].sum() / SAMPLE_RATE
        logged = {"labelled_share": float(audio / batch.seconds)}
        if supervised and labelled:
            labels = [self.labels[batch.clips[i]].as_py() for i in labelled]
            found = self._masked_ctc(batch, shared, labelled, labels, shared.labels)
            total = total + supervised * found
            logged["supervised_loss"] = found.detach()
        if own := [i for i in positions if i in shared.pseudo]:
            empty = sum(not shared.pseudo[i].labels for i in own)
            kept = [i for i in own if i in shared.kept]
            logged |= {"pseudo_kept": len(kept) / len(shared.pseudo), "pseudo_empty": empty / len(shared.pseudo)}
            if kept:
                labels = [shared.pseudo[i].labels for i in kept]
                in_all = sum(len(shared.pseudo[i].labels) for i in shared.kept)
                found = self._masked_ctc(batch, shared, kept, labels, in_all)
                total = total + pseudo * found
                sure = sum(shared.pseudo[i].confidence for i in kept)
                logged |= {"pseudo_loss": found.detach(), "pseudo_confidence": sure / len(shared.kept)}
        if shared.ssl is not None:
            first = batch.labelled if self.unlabelled else 0
            if places := [i - first for i in positions if i >= first]:
                found, _ = self.ssl.loss(shared.ssl_batch, shared.ssl, places, update)
                total = total + ssl * found
                logged["ssl_loss"] = found.detach()
        return total, logged

    # ------------------------------------------------------------------------------------------------ evaluation

    def evaluate(self) -> dict[str, float]:
        """Error rate of greedily decoded units on the dev splits of the labelled corpora."""
        if not self.dev:
            return {}
        spelt = [""] * len(self.dev)
        for batch in batches_by_length(self.dev.lengths, int(60 * SAMPLE_RATE)):
            size = -(-int(self.dev.lengths[batch].max()) // frame_stride(self.network.config))
            features_BTC, frames = clip_features(self.network, self.dev, batch, size)
            context_BTD, _ = encode(self.network.base_model, features_BTC, moved(frames, features_BTC.device))
            found = greedy_labels(self.network.lm_head(context_BTD), frames, self.blank)
            for i, label in zip(batch, found, strict=True):
                spelt[i] = self.inventory.spell(label.labels)
        return {"dev_unit_error": jiwer.wer([self.inventory.spell(labels) for labels in self.dev_labels], spelt)}

    # ----------------------------------------------------------------------------------------------------- state

    def before_training(self, weights: MasterWeights) -> None:
        self.weights = weights
        if self.settings.pseudo.weight and self.settings.teacher == "ema":
            self.teacher = Teacher(weights)
        if self.ssl:
            self.ssl.before_training(weights)

    def after_update(self, update: int, weights: MasterWeights) -> None:
        if self.teacher:
            self.teacher.follow(weights, self.settings.ema_decay)
        if self.ssl:
            self.ssl.after_update(update, weights)

    def _keepers(self) -> dict[str, Any]:
        """The objects whose state is saved, by the prefix of the names of their tensors."""
        keepers = {"teacher": self.teacher, "ssl": self.ssl, "cache": self.cache, "guard": self.guard}
        return {name: keeper for name, keeper in keepers.items() if keeper}

    def state(self) -> dict[str, torch.Tensor]:
        tensors = {f"{name}.{key}": t for name, keeper in self._keepers().items() for key, t in keeper.state().items()}
        return {**tensors, "paused_until": torch.tensor(self.paused_until)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        self.paused_until = int(tensors["paused_until"])
        for name, keeper in self._keepers().items():
            prefix = f"{name}."
            keeper.restore({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})
