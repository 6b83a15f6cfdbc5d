"""The training loop that every stage runs through: batches, schedule, precision, learning curve, resumption.

Everything random in update u (dropout, masks, negatives, crops) is drawn from a generator seeded with (seed, u), and
batches are a pure function of (seed, number), so a killed job continues from its last saved state to the weights
that it would have had. What a batch shares is drawn for the whole of it, in whatever parts and by however many
processes it is then computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from headstart.files import fingerprint, move_aside, written_whole
from headstart.jobs import TrainingJob
from headstart.logs import HeadstartError
from headstart.study.sections import Optimisation
from headstart.training import finished
from headstart.training.cpu import keep_freed_memory, quicken
from headstart.training.optimiser import MasterWeights, learning_rate
from headstart.training.progress import Meter
from headstart.training.ranks import Ranks
from headstart.training.recipes import identity
from headstart.training.time_limit import FIRST_SAVE_MINUTES, Limit, OutOfTime

log = logging.getLogger(__name__)

OWN = "objective."  # prefix, in a saved state, of what the objective keeps
STATE = "state.safetensors"
MOST_SKIPPED = 10  # batches in a row whose loss or gradient is not finite


class TrainingError(HeadstartError):
    """A run that cannot go on. The message says where and what to change."""


class Objective:
    """What a stage adds to the loop."""

    network: Any  # a transformers model, or one of `model.WithHeads`
    metrics: tuple[str, ...] = ()  # names of what `loss` may tell of
    teaches = False  # whether `prepare` runs the network: its operations are then counted
    rates: dict[str, float] = {}  # prefix of parameter names -> their learning rate, as a multiple

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks) -> Any:
        """What the whole batch shares: random decisions, and what its losses are divided by.

        `own` holds the positions in the batch of each part that this process computes.
        """
        raise TypeError(f"{type(self).__name__} has no prepare")

    def loss(
        self, batch: Batch, shared: Any, positions: list[int], update: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """A part's share of the batch's loss, and of what the learning curve should hold: the parts add up."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def work(self, batch: Batch, update: int, positions: list[int], shared: Any = None) -> Hashable:
        """What, beside the batch's shape, decides how many operations `prepare` takes, or, with `shared`, a loss."""
        return len(positions) if shared is not None else ()

    def trainable(self, update: int) -> set[str]:
        """Names of the parameters that this update trains."""
        return {name for name, _ in self.network.named_parameters()}

    def names(self, batch: Batch) -> list[str]:
        """Utterance ids of a batch."""
        raise TypeError(f"{type(self).__name__} has no names")

    def evaluate(self) -> dict[str, float]:
        """Dev metrics for the learning curve; empty for a stage that has none."""
        return {}

    def collapsed(self, curve: list[dict[str, float]]) -> str | None:
        """What to change, when the learning curve shows that nothing is being learnt; else None."""
        return None

    # What an objective keeps from update to update besides the network, such as a teacher.

    def begin(self, weights: MasterWeights) -> None:
        """Before the first update, and before a saved state is restored."""

    def stepped(self, update: int, weights: MasterWeights) -> None:
        """After every update that changed the weights."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs of it."""
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""


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
    skipped: int = 0
    machine: dict[str, Any] = field(default_factory=dict)


def product_seconds(dtype: torch.dtype) -> float:
    """Shortest time of a small encoder's largest matrix product on this CPU: of 20, in some hundredths of a second."""
    frames, weights = torch.ones(1000, 192, dtype=dtype), torch.ones(768, 192, dtype=dtype)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        torch.nn.functional.linear(frames, weights)
        times.append(time.perf_counter() - started)
    return min(times)


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # What the processor says it can do is no measure: with instructions for bfloat16, it is 4 times as fast or half as.
    return 1.3 * product_seconds(torch.bfloat16) < product_seconds(torch.float32)


def _precision(settings: Optimisation, state: State | None, ranks: Ranks, stage: str) -> str:
    """The type that a job computes in: as it was set, else as it began, else what is faster on this machine.

    A job that began in bfloat16 and goes on in float32, on another kind of machine, would have weights of neither.
    """
    if settings.precision != "auto":
        return settings.precision
    measured = "bfloat16" if all(ranks.gather(bfloat16_is_fast())) else "float32"
    if state is None or state.precision == measured:
        return measured
    log.info("%s: goes on in %s, in which it began; on this machine it would be %s", stage, state.precision, measured)
    return state.precision


def describe_machine(dtype: torch.dtype, ranks: Ranks) -> dict[str, Any]:
    """What a recipe says about where it ran."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    name = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": name,
        "processes": ranks.size,
        "precision": str(dtype).removeprefix("torch."),
    }


def train(
    objective: Objective,
    batches: Callable[[int], Iterator[Batch]],
    settings: Optimisation,
    *,
    stage: str,
    recipe: dict[str, Any],
    seed: int,
    state_dir: Path,
) -> Result:
    """Train for `settings.updates` updates, resuming from `state_dir` when it holds a state of the same recipe.

    Args:
        objective: the loss, the dev metrics, and the network in float32.
        batches: start -> batches from that number on.
        stage: name in progress lines.
        recipe: everything that the weights depend on; a state with another recipe is ignored.

    Raises:
        TrainingError: the loss or its gradient was not finite too many times in a row, or nothing is being learnt.
        OutOfTime: the time limit is near, or the process was sent SIGTERM; the state is saved.
    """
    ranks = Ranks()
    recipe_hash, state_file = fingerprint(recipe), state_dir / STATE
    state = read_state(state_file, recipe_hash, ranks.first)
    if len(set(ranks.gather(state.progress["update"] if state else 0))) > 1:
        raise TrainingError(f"{stage}: not every process could read {state_file}; run again")
    precision = _precision(settings, state, ranks, stage)
    dtype = getattr(torch, precision)
    network = objective.network.to(ranks.device).train()
    if ranks.device.type == "cpu":
        keep_freed_memory()
        quicken(network)
        if dtype == torch.bfloat16:
            # torch's fused attention is slower than plain matrix products here, over twice in the backward pass.
            network.set_attn_implementation("eager")
    weights = MasterWeights(network, settings, dtype, objective.rates)
    objective.begin(weights)
    progress = state.restore(weights, objective) if state else {
        "update": 0, "hours": 0.0, "seconds": 0.0, "flops": 0.0, "skipped": 0, "in_a_row": [], "sums": {}, "curve": []
    }  # fmt: skip
    del state  # as large as the weights and the optimiser's moments together
    if progress["update"]:
        log.info("%s: resumed at update %d of %d", stage, progress["update"], settings.updates)
    machine = describe_machine(dtype, ranks)
    log.info("%s: %d updates on %s", stage, settings.updates, machine)

    flops_of: dict[Any, float] = {}
    limit, before, first = Limit(), progress["seconds"], progress["update"]
    meter = Meter(stage, settings.updates, progress)
    started = saved = time.monotonic()
    save_after = min(FIRST_SAVE_MINUTES, settings.save_minutes)  # a limit that is not known may be near
    evaluating = 0.0
    for update, batch in enumerate(batches(first), start=first + 1):
        trainable = objective.trainable(update)
        weights.freeze(trainable)
        own = ranks.positions(len(batch.clips), settings.accumulate)
        torch.manual_seed(seed * 1_000_003 + update)
        key = (batch.shape, objective.work(batch, update, [i for part in own for i in part]))
        if not objective.teaches or key in flops_of:
            shared = objective.prepare(batch, update, own, ranks)
        else:
            with FlopCounterMode(display=False) as counter:
                shared = objective.prepare(batch, update, own, ranks)
            flops_of[key] = counter.get_total_flops()
        totals = {"train_loss": 0.0, "flops": flops_of.get(key, 0.0)}
        for positions in filter(None, own):
            # For dropout, which differs by part; a part's first clip numbers it.
            torch.manual_seed((seed * 1_000_003 + update) * 10_007 + positions[0])
            key = (batch.shape, len(trainable), objective.work(batch, update, positions, shared))
            if key in flops_of:
                loss, metrics = objective.loss(batch, shared, positions, update)
                loss.backward()
            else:
                with FlopCounterMode(display=False) as counter:
                    loss, metrics = objective.loss(batch, shared, positions, update)
                    loss.backward()
                flops_of[key] = counter.get_total_flops()
            weights.collect()
            for name, value in {"train_loss": loss.item(), "flops": flops_of[key], **metrics}.items():
                totals[name] = totals.get(name, 0.0) + value
        weights.sum_over(ranks, trainable)
        totals, stop = _over_ranks(totals, ("train_loss", "flops", *objective.metrics), limit.near(), ranks)
        flops = totals.pop("flops")
        if math.isfinite(totals["train_loss"]):
            norm = weights.step(learning_rate(update, settings))
            if math.isfinite(norm):
                objective.stepped(update, weights)
        else:
            norm = math.nan
            weights.drop()

        progress["update"] = update
        progress["hours"] += batch.seconds / 3600
        progress["flops"] += flops
        if math.isfinite(norm):
            progress["in_a_row"] = []
            # Since the last row of the learning curve: sums, and the updates that told of them.
            for name, value in {**totals, "gradient_norm": norm}.items():
                summed, updates = progress["sums"].get(name, (0.0, 0))
                progress["sums"][name] = (summed + value, updates + 1)
        else:
            _skip(stage, update, settings, progress, objective.names(batch))
        now = time.monotonic()
        last = update == settings.updates
        if update % settings.log_every == 0 or last:
            network.eval()
            with torch.no_grad():
                measured = objective.evaluate() if ranks.first else {}
            network.train()
            evaluating += time.monotonic() - now
            now = time.monotonic()
            row = {
                "step": update,
                "audio_hours_seen": progress["hours"],
                "wall_s": before + now - started,
                "flops": progress["flops"],
                "skipped": progress["skipped"],
                **{name: summed / updates for name, (summed, updates) in progress["sums"].items()},
                **measured,
            }
            progress["curve"].append(row)
            progress["sums"] = {}
            if advice := objective.collapsed(progress["curve"]):
                raise TrainingError(f"{stage}: collapsed at update {update} of {settings.updates}: {advice}")
        if ranks.first:
            meter.show(last)
        if not last and ranks.first and (stop or (now - saved) / 60 > save_after):
            saved, save_after = now, settings.save_minutes
            progress["seconds"] = before + now - started
            try:
                _save(state_file, recipe_hash, precision, weights, objective, progress)
            except (OSError, SafetensorError) as error:
                failed = f"{stage}: the state of update {update} could not be saved: {error}; free some space"
                if stop:
                    raise TrainingError(failed) from None
                log.warning(failed)
        if last:
            break
        if stop:
            log.info("%s: %s; saved at update %d of %d, to go on", stage, limit.reason, update, settings.updates)
            ranks.wait()  # the first process that ends takes the others with it, and one of them is saving
            raise OutOfTime
    seconds = before + time.monotonic() - started
    log.info("%s: done in %.0f s (%.0f s of it in dev evaluations)", stage, seconds, evaluating)
    return Result(weights.weights(), progress["curve"], seconds, progress["skipped"], machine)


def _over_ranks(
    totals: dict[str, float], names: tuple[str, ...], stop: bool, ranks: Ranks
) -> tuple[dict[str, float], bool]:
    """Sums over all processes of what some of them told, and whether one of them wants to stop: then all do."""
    told = [float(name in totals) for name in names]
    values = [*(totals.get(name, 0.0) for name in names), *told, float(stop)]
    *sums, stopping = ranks.sum_(torch.tensor(values, dtype=torch.float64, device=ranks.device)).tolist()
    sums, told = sums[: len(names)], sums[len(names) :]
    return {name: value for name, value, by in zip(names, sums, told, strict=True) if by}, bool(stopping)


def _skip(stage: str, update: int, settings: Optimisation, progress: dict[str, Any], names: list[str]) -> None:
    """Count a batch whose loss or gradient is not finite; too many in a row end the run."""
    progress["skipped"] += 1
    progress["in_a_row"].append(names)
    log.warning("%s: update %d is skipped, its loss or gradient is not finite: %s", stage, update, ", ".join(names))
    if len(progress["in_a_row"]) == MOST_SKIPPED:
        utterances = list(dict.fromkeys(name for batch in progress["in_a_row"] for name in batch))
        shown = ", ".join(utterances[:20]) + (f" and {len(utterances) - 20} more" if len(utterances) > 20 else "")
        raise TrainingError(
            f"{stage}: the loss or its gradient was not finite in {MOST_SKIPPED} batches in a row, up to update "
            f"{update} of {settings.updates}; lower learning_rate (now {settings.learning_rate:g}) or gradient_clip "
            f"(now {settings.gradient_clip:g}), or look at these utterances: {shown}"
        )


def _save(
    path: Path, recipe_hash: str, precision: str, weights: MasterWeights, objective: Objective, progress: dict[str, Any]
) -> None:
    """Write the state, whole or not at all: when the disk is full, the older state stays."""
    tensors = {**weights.state(), **{OWN + name: tensor for name, tensor in objective.state().items()}}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"recipe": recipe_hash, "precision": precision, "progress": json.dumps(progress)}
    metadata["digest"] = _digest(metadata, tensors)
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def _digest(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a saved state, by which a damaged one is known."""
    digest = hashlib.sha256(json.dumps([metadata[key] for key in ("recipe", "precision", "progress")]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class State:
    """What a job that was stopped goes on from."""

    precision: str
    progress: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def restore(self, weights: MasterWeights, objective: Objective) -> dict[str, Any]:
        """Give the weights, the optimiser and the objective what they had; returns how far the job had got."""
        weights.restore({name: tensor for name, tensor in self.tensors.items() if not name.startswith(OWN)})
        own = {name.removeprefix(OWN): tensor for name, tensor in self.tensors.items() if name.startswith(OWN)}
        objective.restore(own)
        return self.progress


def read_state(path: Path, recipe_hash: str, first: bool = True) -> State | None:
    """The state that a job of this recipe has saved; None where there is none.

    A damaged file is no reason to fail, for it would be found again at every try, nor is it ever trained on: it is set
    aside, by the first process, and the job begins anew.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("recipe") != recipe_hash or "digest" not in metadata:
                log.info("%s: a state of another recipe, ignored", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        damage = None if _digest(metadata, tensors) == metadata["digest"] else "its hash is not the one in it"
    except (SafetensorError, ValueError, KeyError) as error:
        damage = str(error)
    except OSError as error:
        raise TrainingError(f"{path}: the saved state cannot be read: {error}") from None
    if damage:
        log.warning("%s is damaged: %s. It is set aside as %s.broken; training begins anew", path, damage, path.name)
        if first:
            move_aside(path)
        return None
    return State(metadata["precision"], json.loads(metadata["progress"]), tensors)


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """Write a learning curve as parquet: `step` is an integer, everything else float64."""
    names = dict.fromkeys(name for row in curve for name in row)
    columns = {n: pa.array([row.get(n) for row in curve], pa.int64() if n == "step" else pa.float64()) for n in names}
    with written_whole(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def run(
    objective: Any,
    job: TrainingJob,
    recipe: dict[str, Any],
    save: Callable[[dict[str, torch.Tensor], Path], None],
) -> None:
    """A training stage from its objective, which has `batches`, to the folder that it writes.

    Args:
        recipe: from `recipes.recipe_of`.
        save: writes the model from fp32 weights into a folder; the first process calls it.
    """
    state = Path(job.state)
    result = train(
        objective,
        objective.batches,
        job.settings,
        stage=f"{job.stage} {job.output}",
        recipe=identity(recipe),
        seed=job.seed,
        state_dir=state,
    )
    if not Ranks().first:
        return
    facts = {
        "parameters": sum(p.numel() for p in objective.network.parameters()),
        "skipped_batches": result.skipped,
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "machine": result.machine,
        "wall_s": round(result.seconds, 1),
    }

    def write(folder: Path) -> None:
        save(result.weights, folder)
        write_curve(folder / "curve.parquet", result.curve)

    finished.finish(job, {**recipe, **facts}, write)
    (state / STATE).unlink(missing_ok=True)
