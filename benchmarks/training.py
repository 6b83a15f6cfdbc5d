"""Training throughput: `headstart.training.loop.train` and transformers' model in the loop of its example scripts.

Both get the same initial weights, clips, batches, padded lengths, masking, dropout and optimiser. A pass is
the first few batches of an epoch. The first pass is a warm-up; then whole passes are timed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from child import call
from speech import synthesise

from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.text import Text

SHORT = {"bfloat16": "bf16", "float32": "fp32"}
OPTIMISER = {"learning_rate": 1e-5, "weight_decay": 0.01}
FOR_EVER = 1_000_000  # updates: the batches end before
SPEECH_SECONDS = 480.0  # so much that clips of like length are found for a batch, and little is padding


@dataclass(frozen=True)
class Size:
    """A model, with how many batches are a pass and the audio in a batch, in seconds."""

    model: Model
    batches: int
    batch_seconds: float = 24.0


SIZES = {
    "small": Size(Model(), 6),
    "base": Size(
        Model(
            hidden_size=768,
            layers=12,
            heads=12,
            intermediate_size=3072,
            conv_dim=(512,) * 7,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2),
            position_kernel=128,
            position_groups=16,
            codebook_entries=320,
            codevector_size=256,
            projection_size=256,
        ),
        2,
    ),
    # For the tests: it says nothing about speed.
    "tiny": Size(
        Model(
            hidden_size=32,
            layers=2,
            heads=2,
            intermediate_size=64,
            conv_dim=(16, 24),
            position_kernel=8,
            position_groups=4,
            codebook_entries=8,
            codevector_size=16,
            projection_size=16,
        ),
        3,
        8.0,
    ),
}
STAGES = {
    "ssl": "everything is trained",
    "ctc": "frozen front-end: ours keeps its features after the first pass over the clips, which is not timed",
}


@dataclass(frozen=True)
class Task:
    """What both sides train: `ssl` or `ctc` (front-end frozen), a model's shape, and the clips' paths."""

    stage: str
    model: dict[str, Any]
    speech: dict[str, str]
    batches: int
    batch_seconds: float
    dropout: float = 0.1
    masking: bool = True  # of fine-tuning

    @property
    def settings(self) -> Pretrain | Finetune:
        """Ours; the peer takes its own from them."""
        loop = {
            **OPTIMISER,
            "updates": FOR_EVER,
            "batch_seconds": self.batch_seconds,
            "warmup": 0.0,
            "hold": 1.0,
            "log_every": 1,
            "save_minutes": 1e6,
            "dropout": self.dropout,
        }
        if self.stage == "ctc":
            return Finetune(**loop, **({} if self.masking else {"mask_time_share": 0.0, "mask_feature_share": 0.0}))
        # As in the paper: everything is trained. No clip is longer than the crop.
        paper = {"mask_share": 0.65, "mask_length": 10, "freeze_front_end": False, "freeze_quantiser": 0.0}
        return Pretrain(**loop, **paper, crop_seconds=30.0)


def rows(
    name: str, seconds: float, rounds: int, threads: int, peak: dict[str, float], folder: Path
) -> Iterator[dict[str, Any]]:
    """Rows of a task such as `ssl-small`: medians of alternating measurements of ours and of each peer."""
    stage, size = name.split("-")
    chosen = SIZES[size]
    speech = synthesise(folder / name, SPEECH_SECONDS)
    task = asdict(Task(stage, chosen.model.model_dump(), speech, chosen.batches, chosen.batch_seconds))
    ours, peers = [], {precision: [] for precision in peak}  # no peer in a type that the machine cannot multiply
    for number in range(1, rounds + 1):
        ours.append(call("training", "measure_ours", threads, task=task, seconds=seconds))
        for precision, found in peers.items():
            # Operations are counted once, on the plain float32 graph.
            plan = {"batches": ours[0]["batches"], "count": number == 1 and precision == "float32"}
            options = {"task": task, "seconds": seconds, "precision": precision}
            found.append(call("training", "measure_peer", threads, **options, **plan))
        latest = {"ours": ours[-1]} | {SHORT[precision]: found[-1] for precision, found in peers.items()}
        shown = ", ".join(f"{side} {one['rate']:.1f}" for side, one in latest.items())
        print(f"{name}, round {number} of {rounds}, audio seconds/s: {shown}", file=sys.stderr, flush=True)
    yield from _compare(name.replace("-", " "), ours, peers, peak)


def _compare(
    name: str, ours: list[dict[str, Any]], peers: dict[str, list[dict[str, Any]]], peak: dict[str, float]
) -> Iterator[dict[str, Any]]:
    def median(found: list[dict[str, Any]]) -> float:
        return statistics.median(one["rate"] for one in found)

    def memory(found: list[dict[str, Any]]) -> float:
        return max(one["memory_mb"] for one in found)

    flops, best = peers["float32"][0]["flops_a_second"], max(peak.values())
    precision = SHORT[ours[0]["precision"]]
    for peer, found in peers.items():
        yield {
            "name": f"{name} vs transformers {SHORT[peer]}",
            "ours": round(median(ours), 2),
            "peer": round(median(found), 2),
            "ratio": round(median(ours) / median(found), 3),
            "unit": "audio seconds/s",
            "peer_name": f"transformers {version('transformers')} in {SHORT[peer]} (ours in {precision})",
            "fraction_of_peak": round(median(ours) * flops / best, 4),
            "peer_fraction_of_peak": round(median(found) * flops / best, 4),
            "gflop_an_audio_second": round(flops / 1e9, 2),
            "ours_memory_mb": memory(ours),
            "peer_memory_mb": memory(found),
            "ours_rounds": [round(one["rate"], 2) for one in ours],
            "peer_rounds": [round(one["rate"], 2) for one in found],
            "note": STAGES[name.split()[0]],
        }


# ------------------------------------------------------------------------------------------ in their own processes


def build_network(task: Task, vocabulary: dict[str, int]) -> Any:
    """The network that both sides start from."""
    import torch
    from transformers import Wav2Vec2ForPreTraining

    from headstart.encoder.checkpoints import ctc_model
    from headstart.encoder.model import dropouts, initialise, new_config

    torch.manual_seed(0)
    model = Model(**task.model)
    if task.stage == "ctc":
        return ctc_model(None, model, vocabulary, task.dropout)
    config = new_config(model)
    config.update(dropouts(task.dropout))
    network = Wav2Vec2ForPreTraining(config)
    initialise(network)
    return network


def measure_ours(task: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Audio seconds a second of the training loop, the batches of a pass, and their losses in the first."""
    from headstart.features.clips import Clips
    from headstart.objectives.ctc import CtcObjective
    from headstart.objectives.wav2vec2 import ContrastiveObjective
    from headstart.text.normalisation import build_vocabulary, references

    task = Task(**task)
    clips, text = Clips.open(**task.speech), Text()
    vocabulary = build_vocabulary(references(clips, text))
    network = build_network(task, vocabulary)
    if task.stage == "ctc":
        objective = CtcObjective(network, vocabulary, clips, clips.take([0]), text, task.settings, True, seed=0)
        objective.evaluate = dict  # the loop evaluates at every row of the curve, and here every update has one
    else:
        objective = ContrastiveObjective(network, clips, task.settings, False, seed=0)
    return measured(objective, task.settings, task.batches, seconds, task.stage)


def measured(objective: Any, settings: Any, batches: int, seconds: float, stage: str) -> dict[str, Any]:
    """What `measure_ours` returns, of any objective."""
    from headstart.training import loop as training

    first = []

    def passes(start: int) -> Iterator[training.Batch]:
        for batch in islice(objective.batches(start), batches):
            first.append(batch)
            yield batch
        began = time.monotonic()
        while True:
            yield from first
            if time.monotonic() - began >= seconds:
                return

    with tempfile.TemporaryDirectory() as state:
        result = training.train(objective, passes, settings, stage=stage, recipe={}, seed=0, state_dir=Path(state))
    warm = len(first)
    spent = result.curve[-1]["wall_s"] - result.curve[warm - 1]["wall_s"]
    hours = result.curve[-1]["audio_hours_seen"] - result.curve[warm - 1]["audio_hours_seen"]
    return {
        "rate": 3600 * hours / spent,
        "precision": result.machine["precision"],
        "batches": [{"clips": batch.clips, "seconds": batch.seconds, "shape": batch.shape} for batch in first],
        "losses": [row["train_loss"] for row in result.curve[:warm]],
    }


def measure_peer(
    task: dict[str, Any], batches: list[dict[str, Any]], seconds: float, precision: str, count: bool = False
) -> dict[str, Any]:
    """Audio seconds a second of transformers' model in a plain loop, and the losses of the first pass.

    With `count` also `flops_a_second`, the operations of a forward and backward pass for a second of audio.
    """
    import contextlib

    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
    from transformers import Wav2Vec2FeatureExtractor

    from headstart.features.audio import SAMPLE_RATE
    from headstart.features.clips import Clips
    from headstart.text.normalisation import build_vocabulary, encode, references

    task = Task(**task)
    settings = task.settings
    clips = Clips.open(**task.speech)
    texts = list(references(clips, Text()))
    vocabulary = build_vocabulary(texts)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(task, vocabulary).to(device).train()
    # The scripts normalise all audio and encode all transcripts before they train.
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=True, return_attention_mask=True)
    audio, labels = {}, {}
    for i in sorted({clip for batch in batches for clip in batch["clips"]}):
        samples = clips.audio(i).astype(np.float32) / 32768
        audio[i] = extractor(samples, sampling_rate=SAMPLE_RATE).input_values[0]
        labels[i] = torch.tensor(encode(texts[i], vocabulary))
    np.random.seed(0)
    torch.manual_seed(0)

    make = _ssl_inputs if task.stage == "ssl" else _ctc_inputs
    if task.stage == "ctc":
        network.freeze_feature_encoder()
        network.config.update(
            {
                "mask_time_prob": settings.mask_time_share,
                "mask_time_length": settings.mask_time_length,
                "mask_feature_prob": settings.mask_feature_share,
                "mask_feature_length": settings.mask_feature_length,
                "ctc_loss_reduction": "sum",
            }
        )
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained,
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    faster = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()

    def update(number: int, batch: dict[str, Any]) -> torch.Tensor:
        values = [audio[i] for i in batch["clips"]]
        inputs, units = make(network, extractor, values, [labels[i] for i in batch["clips"]], batch["shape"], settings)
        with faster:
            loss = network(**{name: value.to(device) for name, value in inputs.items()}).loss / units
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
        optimiser.step()
        optimiser.zero_grad()
        if task.stage == "ssl":
            tau = settings.gumbel_start * settings.gumbel_decay**number
            network.set_gumbel_temperature(max(tau, settings.gumbel_end))
        return loss.detach()

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    # Operations of the CPU's attention, which torch's counter does not know.
    attention = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
        ),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    counter = FlopCounterMode(display=False, custom_mapping=attention) if count else contextlib.nullcontext()
    with counter:
        losses = [update(number, batch) for number, batch in enumerate(batches, start=1)]
    heard = sum(batch["seconds"] for batch in batches)
    began, done = now(), 0
    while not done or now() - began < seconds:
        for number, batch in enumerate(batches, start=(done + 1) * len(batches) + 1):
            update(number, batch)
        done += 1
    found = {"rate": done * heard / (now() - began), "losses": [loss.item() for loss in losses]}
    return {**found, "flops_a_second": counter.get_total_flops() / heard} if count else found


def _ssl_inputs(
    network: Any, extractor: Any, audio: list[Any], labels: list[Any], shape: list[int], settings: Pretrain
) -> tuple[dict[str, Any], int]:
    """What `Wav2Vec2ForPreTraining` takes, with masks and negatives drawn by transformers, and masked frames in all."""
    import torch
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    inputs = _pad(extractor, audio, shape[1])
    frames = (len(audio), int(network._get_feat_extract_output_lengths(shape[1])))
    valid = network._get_feature_vector_attention_mask(frames[1], inputs["attention_mask"])
    mask = _compute_mask_indices(frames, settings.mask_share, settings.mask_length, attention_mask=valid)
    negatives = _sample_negative_indices(frames, settings.negatives, mask_time_indices=mask)
    inputs["mask_time_indices"] = torch.from_numpy(mask)
    inputs["sampled_negative_indices"] = torch.from_numpy(negatives)
    return inputs, int(mask.sum())


def _ctc_inputs(
    network: Any, extractor: Any, audio: list[Any], labels: list[Any], shape: list[int], settings: Finetune
) -> tuple[dict[str, Any], int]:
    """What `Wav2Vec2ForCTC` takes, and labels in all."""
    import torch

    from headstart.encoder.front_end import samples_for

    inputs = _pad(extractor, audio, samples_for(network.config, shape[1]))
    inputs["labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    return inputs, sum(map(len, labels))


def _pad(extractor: Any, audio: list[Any], size: int) -> dict[str, Any]:
    clips = [{"input_values": samples} for samples in audio]
    return dict(extractor.pad(clips, padding="max_length", max_length=size, return_tensors="pt"))
