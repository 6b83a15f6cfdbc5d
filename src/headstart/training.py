"""The training loop that every stage runs through: batches, schedule, precision, learning curve, resumption.

Everything random in update u (dropout, masks, negatives, crops) is drawn from a generator seeded with (seed, u), and
batches are a pure function of (seed, number), so a killed job continues from its last saved state to the weights
that it would have had.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from headstart.config import Optimisation
from headstart.files import fingerprint, write_json, written_whole
from headstart.logs import HeadstartError

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0


class TrainingError(HeadstartError):
    """A run that cannot go on. The message says where and what to change."""


class Objective(Protocol):
    """What a stage adds to the loop."""

    network: Any  # a transformers model

    def loss(self, batch: Any, update: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean loss of a batch and what the learning curve should hold of it."""

    def evaluate(self) -> dict[str, float]:
        """Dev metrics for the learning curve; empty for a stage that has none."""

    def trainable(self, update: int) -> set[str]:
        """Names of the parameters that this update trains."""


@dataclass
class Batch:
    """Clips of a batch, as indices, with the audio that they hold."""

    epoch: int
    clips: list[int]
    seconds: float
    shape: tuple[int, ...]


@dataclass
class Result:
    """A finished run: fp32 weights, the learning curve, and totals."""

    weights: dict[str, torch.Tensor]
    curve: list[dict[str, float]]
    seconds: float
    machine: dict[str, Any] = field(default_factory=dict)


def learning_rate(update: int, settings: Optimisation) -> float:
    """Tri-stage schedule (Park et al. 2019): linear rise, constant, exponential decay to `decay_to` of the peak.

    Updates count from 1; the last update runs at the final rate. With `hold` 0 and a `decay_to` near 0 it is close to
    wav2vec 2.0's linear decay.
    """
    rise, hold = settings.warmup * settings.updates, settings.hold * settings.updates
    if update <= rise:
        return settings.learning_rate * update / rise
    if update <= rise + hold:
        return settings.learning_rate
    passed = (update - rise - hold) / (settings.updates - rise - hold)
    return settings.learning_rate * settings.decay_to**passed


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def describe_machine(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What a recipe says about where it ran."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": name,
        "precision": str(dtype).removeprefix("torch."),
    }


class MasterWeights:
    """AdamW on fp32 weights behind a network that computes in a smaller type.

    In float32 the master weights are the network's own. Matrices decay, vectors (biases, norms) do not.
    """

    def __init__(self, network: torch.nn.Module, settings: Optimisation, dtype: torch.dtype):
        self.network, self.settings = network, settings
        self.master = {name: p.detach().float().clone().requires_grad_() for name, p in network.named_parameters()}
        network.to(dtype)
        self.copies = dict(network.named_parameters())
        decay = [p for p in self.master.values() if p.ndim > 1]
        plain = [p for p in self.master.values() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def freeze(self, trainable: set[str]) -> None:
        for name, parameter in self.copies.items():
            parameter.requires_grad_(name in trainable)

    def step(self, rate: float) -> float:
        """One update at this learning rate; returns the gradient norm before clipping."""
        for name, copy in self.copies.items():
            self.master[name].grad = None if copy.grad is None else copy.grad.float()
            copy.grad = None
        given = [p for p in self.master.values() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(given, self.settings.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.copy_to_network()
        return float(norm)

    @torch.no_grad()
    def copy_to_network(self) -> None:
        for name, copy in self.copies.items():
            copy.copy_(self.master[name])

    def weights(self) -> dict[str, torch.Tensor]:
        """fp32 weights under the network's names, buffers included."""
        buffers = {name: b.detach().float() for name, b in self.network.named_buffers()}
        named = {**buffers, **{name: p.detach().clone() for name, p in self.master.items()}}
        return {name: named[name].cpu() for name in self.network.state_dict()}

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs, flat."""
        tensors = {f"master.{name}": p.detach() for name, p in self.master.items()}
        for name, p in self.master.items():
            for key, value in self.optimiser.state.get(p, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, p in self.master.items():
            p.copy_(tensors[f"master.{name}"])
            moments = {
                key: tensors[f"adam.{key}.{name}"].to(p.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in tensors
            }
            if moments:
                self.optimiser.state[p] = moments
        self.copy_to_network()


def train(
    objective: Objective,
    batches: Callable[[int], Iterator[Batch]],
    settings: Optimisation,
    *,
    stage: str,
    recipe: dict[str, Any],
    seed: int,
    state_dir: Path,
    precision: torch.dtype | None = None,
) -> Result:
    """Train for `settings.updates` updates, resuming from `state_dir` when it holds a state of the same recipe.

    Args:
        objective: the loss, the dev metrics, and the network in float32.
        batches: start -> batches from that number on.
        stage: name in progress lines.
        recipe: everything that the weights depend on; a state with another recipe is ignored.
        precision: type that the network computes in; by default bfloat16 where it is fast.

    Raises:
        TrainingError: the loss or its gradient is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = precision or (torch.bfloat16 if bfloat16_is_fast() else torch.float32)
    network = objective.network.to(device).train()
    if device.type == "cpu" and dtype == torch.bfloat16:
        # torch's fused attention is slower than plain matrix products here, over twice in the backward pass.
        network.set_attn_implementation("eager")
    weights = MasterWeights(network, settings, dtype)
    recipe_hash = fingerprint(recipe)
    state_file = state_dir / "state.safetensors"
    progress = _restore(state_file, recipe_hash, weights) or {
        "update": 0, "hours": 0.0, "seconds": 0.0, "flops": 0.0, "sums": {}, "curve": []
    }  # fmt: skip
    if progress["update"]:
        log.info("%s: resumed at update %d of %d", stage, progress["update"], settings.updates)
    machine = describe_machine(dtype, device)
    log.info("%s: %d updates on %s", stage, settings.updates, machine)

    flops_of: dict[Any, float] = {}
    started = reported = saved = time.monotonic()
    before, first = progress["seconds"], progress["update"]
    evaluating = 0.0
    for update, batch in enumerate(batches(first), start=first + 1):
        torch.manual_seed(seed * 1_000_003 + update)
        trainable = objective.trainable(update)
        weights.freeze(trainable)
        key = (batch.shape, len(trainable))
        if key in flops_of:
            loss, metrics = objective.loss(batch, update)
            loss.backward()
        else:
            with FlopCounterMode(display=False) as counter:
                loss, metrics = objective.loss(batch, update)
                loss.backward()
            flops_of[key] = counter.get_total_flops()
        loss = loss.detach()
        norm = weights.step(learning_rate(update, settings)) if math.isfinite(loss.item()) else math.nan
        if not math.isfinite(norm):
            raise TrainingError(
                f"{stage}: the loss or its gradient is not finite at update {update} of {settings.updates}; "
                f"lower learning_rate (now {settings.learning_rate:g}) or gradient_clip"
            )

        progress["update"] = update
        progress["hours"] += batch.seconds / 3600
        progress["flops"] += flops_of[key]
        sums = progress["sums"]  # since the last row of the learning curve
        for name, value in {"train_loss": loss.item(), **metrics, "gradient_norm": norm, "updates": 1}.items():
            sums[name] = sums.get(name, 0.0) + value
        now = time.monotonic()
        last = update == settings.updates
        if update % settings.log_every == 0 or last:
            network.eval()
            with torch.no_grad():
                measured = objective.evaluate()
            network.train()
            evaluating += time.monotonic() - now
            now = time.monotonic()
            row = {
                "step": update,
                "audio_hours_seen": progress["hours"],
                "wall_s": before + now - started,
                "flops": progress["flops"],
                **{name: value / sums["updates"] for name, value in sums.items() if name != "updates"},
                **measured,
            }
            progress["curve"].append(row)
            progress["sums"] = {}
        if now - reported > PROGRESS_SECONDS or last:
            reported = now
            _report(stage, settings, progress, now - started, first)
        if (now - saved) / 60 > settings.save_minutes and not last:
            saved = now
            progress["seconds"] = before + now - started
            _save(state_file, recipe_hash, weights, progress)
        if last:
            break
    seconds = before + time.monotonic() - started
    log.info("%s: done in %.0f s (%.0f s of it in dev evaluations)", stage, seconds, evaluating)
    return Result(weights.weights(), progress["curve"], seconds, machine)


def _report(stage: str, settings: Optimisation, progress: dict[str, Any], spent: float, first: int) -> None:
    update = progress["update"]
    eta = spent / max(update - first, 1) * (settings.updates - update)
    row = progress["curve"][-1] if progress["curve"] else {}
    shown = " ".join(f"{k} {v:.3f}" for k, v in row.items() if k not in ("step", "wall_s", "flops", "audio_hours_seen"))
    log.info(
        "%s: update %d of %d (%.0f %%), %.2f h of audio seen, %.1f updates/s, ETA %d:%02d%s",
        stage, update, settings.updates, 100 * update / settings.updates, progress["hours"],
        (update - first) / max(spent, 1e-9), eta // 60, eta % 60, f", {shown}" if shown else "",
    )  # fmt: skip


def _save(path: Path, recipe_hash: str, weights: MasterWeights, progress: dict[str, Any]) -> None:
    metadata = {"recipe": recipe_hash, "progress": json.dumps(progress)}
    with written_whole(path) as temporary:
        save_file({k: v.contiguous() for k, v in weights.state().items()}, temporary, metadata=metadata)


def _restore(path: Path, recipe_hash: str, weights: MasterWeights) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as state:
        metadata = state.metadata()
        if metadata["recipe"] != recipe_hash:
            log.info("%s: a state of another recipe, ignored", path)
            return None
        weights.restore({key: state.get_tensor(key) for key in state.keys()})
        return json.loads(metadata["progress"])


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """Write a learning curve as parquet: `step` is an integer, everything else float64."""
    names = list(curve[0])
    columns = {n: pa.array([row.get(n) for row in curve], pa.int64() if n == "step" else pa.float64()) for n in names}
    with written_whole(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def finish(recipe: dict[str, Any], result: Result, output: Path, state_dir: Path) -> None:
    """What ends a training stage once its model is written: the learning curve, the recipe, and no more state."""
    versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
    write_curve(output / "curve.parquet", result.curve)
    facts = {"versions": versions, "machine": result.machine, "wall_s": round(result.seconds, 1)}
    write_json(output / "recipe.json", {**recipe, **facts})
    shutil.rmtree(state_dir, ignore_errors=True)
