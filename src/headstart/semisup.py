"""The semi-supervised stage of wav2vec-S (Zhu et al. 2022, arXiv 2110.04484): an encoder refined for recognition.

A pre-trained encoder gets an output layer over the units of a labelled source, and learns from CTC on transcripts, CTC
on pseudo-labels of untranscribed audio, and, if asked, the self-supervised loss that it comes from. Fine-tuning then
gives it a new output layer. The paper has no public code; docs/semisup.md says what is our interpretation.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import AutoModel, AutoModelForCTC

from headstart import training
from headstart.batching import Paced
from headstart.checkpoints import encoder_model, save_ctc, save_encoder
from headstart.ctc import batches_by_length, clip_features, ctc_loss
from headstart.ema import Teacher
from headstart.features import SAMPLE_RATE, Clips
from headstart.finetune import DataError, usable
from headstart.frontend import FRAMES_QUANTUM, frame_counts, frame_stride, takes_log_mel
from headstart.model import WithHeads, begins_as_filterbank, encode, span_mask
from headstart.optimiser import MasterWeights
from headstart.parallel import Ranks
from headstart.pretrain import make_objective, ssl_network
from headstart.pseudo import Cache, Guard, PseudoLabel, greedy_labels
from headstart.settings import Model, Pretrain, Semisup, Text
from headstart.subsets import draw
from headstart.text import BLANK
from headstart.training import Batch
from headstart.units import Inventory
from headstart.versions import VERSIONS

log = logging.getLogger(__name__)

DIVERGED = 1.5  # a teacher whose loss on labelled audio is so many times the student's is no teacher


@dataclass
class MixedBatch(Batch):
    """A batch whose first clips are labelled; `clips` are indices into all of them, labelled first.

    Frames are what each kind is padded to.
    """

    labelled: int = 0
    labelled_frames: int = 0
    unlabelled_frames: int = 0


@dataclass
class Draws:
    """What a batch shares: masks of frames (B, T) and channels (B, D) of each kind, labels in all, and the targets.

    `pseudo` has the pseudo-labels by position in the batch, `kept` the positions of those that are learnt from. `ssl`
    is what the self-supervised loss shares, in a batch of its own.
    """

    masks: dict[bool, tuple[torch.Tensor, torch.Tensor]]
    labels: int
    pseudo: dict[int, PseudoLabel]
    kept: list[int]
    ssl_batch: Batch | None
    ssl: Any


class SemisupObjective(training.Objective):
    """Supervised CTC, CTC on pseudo-labels, and a self-supervised loss, on batches of labelled and unlabelled audio."""

    metrics = (
        "labelled_share", "supervised_loss", "pseudo_loss", "pseudo_kept", "pseudo_empty", "pseudo_confidence",
        "ssl_loss",
    )  # fmt: skip
    teaches = True

    def __init__(
        self,
        network: Any,
        inventory: Inventory,
        labelled: Clips,
        unlabelled: Clips | None,
        dev: Clips | None,
        settings: Semisup,
        ssl: training.Objective | None,
        freeze_front_end: bool,
        seed: int,
    ):
        self.network, self.inventory, self.settings, self.seed = network, inventory, settings, seed
        self.labelled, self.unlabelled, self.dev, self.ssl = labelled, unlabelled, dev, ssl
        self.clips = Clips.concatenate([labelled, unlabelled]) if unlabelled else labelled
        self.frozen = freeze_front_end or takes_log_mel(network.config)
        self.labels = pa.array(list(inventory.labels(labelled)), pa.list_(pa.int32()))
        self.dev_labels = list(inventory.labels(dev)) if dev else []
        self.blank = inventory.vocabulary[BLANK]
        self.quantum = FRAMES_QUANTUM * frame_stride(network.config)
        self.rates = {"lm_head.": settings.head_rate}
        self.teacher: Teacher | None = None
        self.cache = Cache(settings.cache_updates)
        counts = Counter(self.labels.flatten().to_pylist())
        self.guard = Guard(max(counts.values()) / counts.total())
        self.paused_until = 0

    # ------------------------------------------------------------------------------------------------ schedules

    def _weights(self, update: int) -> tuple[float, float, float]:
        """Weights of the supervised, the pseudo-label and the self-supervised loss at an update."""
        settings, passed = self.settings, update / self.settings.updates
        return settings.supervised.at(passed), settings.pseudo.at(passed), settings.ssl.at(passed)

    def labelled_share(self, update: int) -> float:
        """Share of this update's audio that is labelled: as set, unless one kind has no use."""
        supervised, pseudo, ssl = self._weights(update)
        if not self.unlabelled or not (pseudo or ssl):
            return 1.0
        return self.settings.labelled_share if supervised else 0.0

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
            names = {name for name in names if name.startswith(above) or not name.startswith(prefix)}
        return names

    # --------------------------------------------------------------------------------------------------- batches

    def batches(self, start: int) -> Iterator[MixedBatch]:
        """Batches from number `start` on: of both kinds of audio, as much as the share says in the long run."""
        amount = self.settings.batch_seconds * SAMPLE_RATE
        kinds = [Paced(self.labelled.lengths, self.quantum, self.seed)]
        if self.unlabelled:
            kinds.append(Paced(self.unlabelled.lengths, self.quantum, self.seed + 1))
        number = 0
        while True:
            share = self.labelled_share(number + 1)
            epoch, clips = kinds[0].take(share * amount) if share else (0, [])
            others: list[int] = []
            if share < 1:
                epoch, others = kinds[1].take((1 - share) * amount)
            if number >= start and (clips or others):
                yield self._batch(epoch, clips, [len(self.labelled) + i for i in others])
            number += bool(clips or others)

    def _batch(self, epoch: int, clips: list[int], others: list[int]) -> MixedBatch:
        frames = [
            -(-int(self.clips.lengths[kind].max()) // self.quantum) * FRAMES_QUANTUM if kind else 0
            for kind in (clips, others)
        ]
        both = clips + others
        seconds = float(self.clips.lengths[both].sum() / SAMPLE_RATE)
        return MixedBatch(epoch, both, seconds, (len(clips), frames[0], len(others), frames[1]), len(clips), *frames)

    def names(self, batch: Batch) -> list[str]:
        return self.clips.take(batch.clips).column("utterance_id")

    def prepare(self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks) -> Draws:
        settings, width = self.settings, self.network.config.hidden_size
        _, pseudo, ssl = self._weights(update)
        masks, kinds = {}, {True: batch.clips[: batch.labelled], False: batch.clips[batch.labelled :]}
        for labelled, clips in kinds.items():
            if not clips:
                continue
            frames = frame_counts(self.network.config, torch.from_numpy(self.clips.lengths[clips]))
            size = batch.labelled_frames if labelled else batch.unlabelled_frames
            widths = torch.full((len(clips),), width)
            masks[labelled] = (
                span_mask(frames, size, settings.mask_time_share, settings.mask_time_length).to(ranks.device),
                span_mask(widths, width, settings.mask_feature_share, settings.mask_feature_length).to(ranks.device),
            )
        labels = sum(len(self.labels[i]) for i in kinds[True])
        made: dict[int, PseudoLabel] = {}
        if pseudo and kinds[False] and update > self.paused_until:
            made = self._pseudo_labels(batch, update, own, ranks)
        kept = [i for i, label in made.items() if label.labels and label.confidence >= settings.min_confidence]
        ssl_batch = shared = None
        if ssl and (kinds[False] or not self.unlabelled):
            first = batch.labelled if self.unlabelled else 0  # of the clips that it learns from
            clips = [i - (len(self.labelled) if self.unlabelled else 0) for i in batch.clips[first:]]
            ssl_batch = self.ssl.batch_of(batch.epoch, clips)
            places = [[i - first for i in positions if i >= first] for positions in own]
            shared = self.ssl.prepare(ssl_batch, update, places, ranks)
        return Draws(masks, labels, made, kept, ssl_batch, shared)

    # --------------------------------------------------------------------------------------------- pseudo-labels

    def _pseudo_labels(
        self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks
    ) -> dict[int, PseudoLabel]:
        """Pseudo-labels of a batch's unlabelled clips by position; none if they turn out to have collapsed."""
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
        self.guard.see(list(made.values()))
        if self.guard.updates >= self.settings.guard_every:
            self._check(batch, update, own, ranks)
        return made if update > self.paused_until else {}

    def _taught(self, batch: MixedBatch, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's logits (B, T, V) of some clips, all of one kind, unmasked, and their frames (B,)."""
        if self.teacher:
            with self.teacher.standing_in():
                return self._logits(batch, positions)
        self.network.eval()
        with torch.no_grad():
            logits_BTV, frames = self._logits(batch, positions)
        self.network.train()
        return logits_BTV, frames

    def _check(self, batch: MixedBatch, update: int, own: list[list[int]], ranks: Ranks) -> None:
        """Pause pseudo-labels that have collapsed, and let a teacher that has diverged begin again as the student."""
        settings = self.settings
        if trouble := self.guard.collapsed():
            self.paused_until = update + max(1, int(settings.pause * settings.updates))
            log.warning("update %d: %s; none are used up to update %d", update, trouble, self.paused_until)
            self.cache.kept.clear()
        self.guard.clear()
        if self.teacher and batch.labelled:
            losses = torch.zeros(2, dtype=torch.float64, device=ranks.device)
            for positions in own:
                if places := [i for i in positions if i < batch.labelled]:
                    losses += torch.tensor(self._rivals(batch, places), dtype=torch.float64)
            student, teacher = ranks.sum_(losses).tolist()
            if not teacher <= DIVERGED * student:
                log.warning(
                    "update %d: the teacher is far worse than the student on labelled audio (%.2f against %.2f nats a "
                    "label); it begins again from the student's weights", update, teacher, student,
                )  # fmt: skip
                self.teacher.follow(self.weights, 0.0)

    @torch.no_grad()
    def _rivals(self, batch: MixedBatch, positions: list[int]) -> tuple[float, float]:
        """CTC loss of the student and of the teacher on labelled clips, unmasked and without dropout."""
        labels = [self.labels[batch.clips[i]].as_py() for i in positions]
        total = sum(len(self.labels[i]) for i in batch.clips[: batch.labelled])
        self.network.eval()
        student = ctc_loss(*self._logits(batch, positions), labels, self.blank, total)
        self.network.train()
        return float(student), float(ctc_loss(*self._taught(batch, positions), labels, self.blank, total))

    # ------------------------------------------------------------------------------------------------------ loss

    def _logits(
        self,
        batch: MixedBatch,
        positions: list[int],
        masks: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output scores (B, T, V) of some clips of a batch, all of one kind, and their frames (B,)."""
        size = batch.labelled_frames if positions[0] < batch.labelled else batch.unlabelled_frames
        features_BTC, frames = clip_features(self.network, self.clips, [batch.clips[i] for i in positions], size)
        context_BTD, _ = encode(self.network.base_model, features_BTC, frames.to(features_BTC.device), *masks)
        return self.network.lm_head(context_BTD), frames

    def _masked_ctc(
        self, batch: MixedBatch, shared: Draws, positions: list[int], labels: Sequence[Sequence[int]], total: int
    ) -> torch.Tensor:
        labelled = positions[0] < batch.labelled
        rows = [i if labelled else i - batch.labelled for i in positions]
        masks = tuple(mask[rows] for mask in shared.masks[labelled])
        return ctc_loss(*self._logits(batch, positions, masks), labels, self.blank, total)

    def loss(
        self, batch: MixedBatch, shared: Draws, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        supervised, pseudo, ssl = self._weights(update)
        # Where long clips have paid ahead and no pseudo-label is kept, a batch has nothing to learn from: no gradient.
        total = 0.0 * self.network.lm_head.bias.float().sum()
        labelled = [i for i in positions if i < batch.labelled]
        audio = self.clips.lengths[[batch.clips[i] for i in labelled]].sum() / SAMPLE_RATE
        told = {"labelled_share": float(audio / batch.seconds)}
        if supervised and labelled:
            labels = [self.labels[batch.clips[i]].as_py() for i in labelled]
            found = self._masked_ctc(batch, shared, labelled, labels, shared.labels)
            total = total + supervised * found
            told["supervised_loss"] = found.item()
        if own := [i for i in positions if i in shared.pseudo]:
            empty = sum(not shared.pseudo[i].labels for i in own)
            kept = [i for i in own if i in shared.kept]
            told |= {"pseudo_kept": len(kept) / len(shared.pseudo), "pseudo_empty": empty / len(shared.pseudo)}
            if kept:
                labels = [shared.pseudo[i].labels for i in kept]
                in_all = sum(len(shared.pseudo[i].labels) for i in shared.kept)
                found = self._masked_ctc(batch, shared, kept, labels, in_all)
                total = total + pseudo * found
                sure = sum(shared.pseudo[i].confidence for i in kept)
                told |= {"pseudo_loss": found.item(), "pseudo_confidence": sure / len(shared.kept)}
        if shared.ssl is not None:
            first = batch.labelled if self.unlabelled else 0
            if places := [i - first for i in positions if i >= first]:
                found, _ = self.ssl.loss(shared.ssl_batch, shared.ssl, places, update)
                total = total + ssl * found
                told["ssl_loss"] = found.item()
        return total, told

    # ------------------------------------------------------------------------------------------------ evaluation

    def evaluate(self) -> dict[str, float]:
        """Error rate of greedy units on the labelled corpora's dev splits."""
        if not self.dev:
            return {}
        spelt = [""] * len(self.dev)
        for batch in batches_by_length(self.dev.lengths, int(60 * SAMPLE_RATE)):
            size = -(-int(self.dev.lengths[batch].max()) // frame_stride(self.network.config))
            features_BTC, frames = clip_features(self.network, self.dev, batch, size)
            context_BTD, _ = encode(self.network.base_model, features_BTC, frames.to(features_BTC.device))
            found = greedy_labels(self.network.lm_head(context_BTD), frames, self.blank)
            for i, label in zip(batch, found, strict=True):
                spelt[i] = self.inventory.spell(label.labels)
        return {"dev_unit_error": jiwer.wer([self.inventory.spell(labels) for labels in self.dev_labels], spelt)}

    # ----------------------------------------------------------------------------------------------------- state

    def begin(self, weights: MasterWeights) -> None:
        self.weights = weights
        if self.settings.pseudo.weight and self.settings.teacher == "ema":
            self.teacher = Teacher(weights)
        if self.ssl:
            self.ssl.begin(weights)

    def stepped(self, update: int, weights: MasterWeights) -> None:
        if self.teacher:
            self.teacher.follow(weights, self.settings.ema_decay)
        if self.ssl:
            self.ssl.stepped(update, weights)

    def _keepers(self) -> dict[str, Any]:
        """What keeps a state, by the prefix of its tensors."""
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


# --------------------------------------------------------------------------------------------------- the stage


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
            indices = places[draw(split.lengths[places], corpus["hours"] * 3600, seed + number, what)]
            taken[corpus["name"]] = indices
            kinds[kind].append(split.take(indices))
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
        DataError: no labelled utterance can be used.
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
    network, objective = encoder(parent, shape, options, ssl, others or sources, seed)
    frozen = front_end_stays(parent, network, options)
    config = network.config
    network.lm_head = torch.nn.Linear(config.hidden_size, len(inventory.vocabulary))
    torch.nn.init.normal_(network.lm_head.weight, std=config.initializer_range)
    torch.nn.init.zeros_(network.lm_head.bias)
    sources, rejected = usable(sources, inventory.labels(sources), config)
    if not len(sources):
        raise DataError(f"{output}: no labelled utterance can be used; see the reasons above")
    if dev is not None:
        dev, _ = usable(dev, inventory.labels(dev), config)

    stage = SemisupObjective(network, inventory, sources, others, dev, options, objective, frozen, seed)
    recipe = {
        "stage": "semisup",
        "version": VERSIONS["semisup"],
        "settings": settings,
        "ssl": ssl,
        "text": text,
        "model": model,
        "parent": training.parent_recipe(parent),
        "seed": seed,
        "data": {
            "labelled": {corpus["name"]: corpus["hours"] for corpus in labelled},
            "unlabelled": {corpus["name"]: corpus["hours"] for corpus in unlabelled},
            "utterances": [len(sources), len(others) if others else 0],
            "seconds": round(sources.seconds + (others.seconds if others else 0.0), 1),
            "units": len(inventory.vocabulary),
            "rejected": rejected,
            "content": [sources.content, others.content if others else None],
        },
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    result = training.train(
        stage, stage.batches, options, stage=f"semisup {output}", recipe=recipe, seed=seed, state_dir=Path(state)
    )
    if Ranks().first:
        weights = {name: weight for name, weight in result.weights.items() if kept(name, network, options)}
        weights |= new_layers(config, network.base_model_prefix, options.reset_layers, seed)
        save(network, weights, inventory, options, Path(output))
        training.finish(recipe, result, Path(output), Path(state))


def encoder(
    parent: str | None, model: Model | None, options: Semisup, ssl: dict[str, Any] | None, clips: Clips, seed: int
) -> tuple[Any, training.Objective | None]:
    """The network to refine, without its output layer, and its self-supervised objective, if there is one."""
    if ssl is None:
        return encoder_model(parent, model, options.dropout), None
    # The schedule is this stage's, and what cooled down in pre-training stays cool.
    changes = {"updates": options.updates, "dropout": options.dropout, "gumbel_start": ssl["gumbel_end"]}
    settings = Pretrain(**{**ssl, **changes})
    network = ssl_network(parent, model, settings, clips, seed)
    return network, make_objective(network, clips, settings, front_end_stays(parent, network, options), seed)


def front_end_stays(parent: str | None, network: Any, options: Semisup) -> bool:
    """Whether the front-end is kept as it is: random weights that are no filterbank never are."""
    return options.freeze_front_end and (parent is not None or begins_as_filterbank(network))


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
