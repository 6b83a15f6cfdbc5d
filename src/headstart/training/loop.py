"""The training loop of all stages: batches, schedule, precision, learning curve, and resuming from a saved state.

A resumed job reaches the weights that it would have reached without the interruption. For that, everything random in
update u (dropout, masks, negatives, crops) is drawn from a generator seeded with (seed, u), and batches are a pure
function of (seed, batch number). Masks, negatives and other random choices are drawn once for the whole batch, so they
do not depend on how it is then split into parts and over processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from headstart.errors import DivergenceError, TrainingError
from headstart.files import fingerprint
from headstart.jobs import TrainingJob
from headstart.objectives.objective import Objective
from headstart.study.optimisation import Optimisation
from headstart.training import finished
from headstart.training.batching import Batch
from headstart.training.cpu import keep_freed_memory, quicken
from headstart.training.curve import write_curve
from headstart.training.diagnosis import Finding
from headstart.training.gradients import Gradients
from headstart.training.machine import choose_precision, describe_machine, moves
from headstart.training.optimiser import MasterWeights, learning_rate
from headstart.training.progress import Meter
from headstart.training.ranks import Ranks
from headstart.training.recipes import identity
from headstart.training.state import STATE, read_state, save_state
from headstart.training.time_limit import FIRST_SAVE_MINUTES, Limit, OutOfTime

log = logging.getLogger(__name__)

MOST_SKIPPED = 10  # training fails after this many consecutive batches without a finite loss and gradient


@dataclass
class Result:
    """The result of a training job: fp32 weights, learning curve, training time, skipped batches, and machine.

    `parts` is the number of parts in which each process computed its share of a batch, in the end.
    `moved` has the updates after which the job went on under other circumstances, with what had changed.
    """

    weights: dict[str, torch.Tensor]
    curve: list[dict[str, float]]
    seconds: float
    skipped: int = 0
    parts: int = 1
    machine: dict[str, Any] = field(default_factory=dict)
    moved: list[dict[str, Any]] = field(default_factory=list)


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
        batches: returns the batches from a given batch number on.
        stage: name of the stage in log lines.
        recipe: everything that the weights depend on; a saved state with another recipe is ignored.
        seed: seed of everything random in the loop.
        state_dir: folder of the saved state.

    Raises:
        DivergenceError: the loss or gradient was not finite in `MOST_SKIPPED` consecutive batches, or training has
            collapsed.
        TrainingError: the state could not be read or, at the time limit, saved.
        OutOfTime: the time limit is near, or the process received SIGTERM; the state has been saved.
    """
    ranks = Ranks()
    recipe_hash, state_file = fingerprint(recipe), state_dir / STATE
    state = read_state(state_file, recipe_hash, ranks.first)
    if len(set(ranks.gather(state.progress["update"] if state else 0))) > 1:
        raise TrainingError(f"{stage}: not every process could read {state_file}; run again")
    precision = choose_precision(settings, state, ranks, stage)
    dtype = getattr(torch, precision)
    network = objective.network.to(ranks.device).train()
    if ranks.device.type == "cpu":
        keep_freed_memory()
        quicken(network)
        if dtype == torch.bfloat16:
            # In bfloat16 on a CPU, torch's fused attention is slower than plain matrix products; its backward pass
            # takes more than twice as long.
            network.set_attn_implementation("eager")
    weights = MasterWeights(network, settings, dtype, objective.rates)
    objective.before_training(weights)
    progress = state.restore(weights, objective) if state else {
        "update": 0, "hours": 0.0, "seconds": 0.0, "flops": 0.0, "skipped": 0, "in_a_row": [], "sums": {}, "curve": []
    }  # fmt: skip
    machine = describe_machine(dtype, ranks)
    if state:
        log.info("%s: resumed at update %d of %d", stage, progress["update"], settings.updates)
        _note_move(stage, progress, moves(state.machine, machine), ranks)
    del state  # frees as much memory as the weights and the optimiser's moments take
    log.info("%s: %d updates on %s", stage, settings.updates, machine)

    gradients = Gradients(objective, weights, ranks, stage, seed, progress.get("parts", settings.accumulate))
    limit, before, first = Limit(), progress["seconds"], progress["update"]
    meter = Meter(stage, settings.updates, progress)
    started = saved = time.monotonic()
    save_after = min(FIRST_SAVE_MINUTES, settings.save_minutes)  # early at first: a time limit may be unknown
    evaluating = 0.0
    warned = _warn(stage, first, objective.diagnosis(progress["curve"]), set()) if ranks.first else set()
    for update, batch in enumerate(batches(first), start=first + 1):
        trainable = objective.trainable(update)
        weights.freeze(trainable)
        totals, stop = gradients.of(batch, update, trainable, limit.near())
        flops = totals.pop("flops")
        if math.isfinite(totals["train_loss"]):
            norm = weights.step(learning_rate(update, settings))
            if math.isfinite(norm):
                objective.after_update(update, weights)
        else:
            norm = math.nan
            weights.drop()

        progress["update"] = update
        progress["hours"] += batch.seconds / 3600
        progress["flops"] += flops
        progress["parts"] = gradients.parts
        if math.isfinite(norm):
            progress["in_a_row"] = []
            # For each metric: its sum since the last row of the learning curve, and the number of updates that had it.
            for name, value in {**totals, "gradient_norm": norm}.items():
                summed, updates = progress["sums"].get(name, (0.0, 0))
                progress["sums"][name] = (summed + value, updates + 1)
        else:
            _skip(stage, update, settings, progress, objective.utterance_ids(batch))
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
            if advice := objective.collapse_advice(progress["curve"]):
                raise DivergenceError(f"{stage}: collapsed at update {update} of {settings.updates}: {advice}")
            if ranks.first:
                warned = _warn(stage, update, objective.diagnosis(progress["curve"]), set() if last else warned)
        if ranks.first:
            meter.show(last)
        if not last and ranks.first and (stop or (now - saved) / 60 > save_after):
            saved, save_after = now, settings.save_minutes
            progress["seconds"] = before + now - started
            try:
                save_state(state_file, recipe_hash, machine, weights, objective, progress)
            except (OSError, SafetensorError) as error:
                failed = f"{stage}: the state of update {update} could not be saved: {error}"
                if stop:
                    raise TrainingError(failed) from None
                log.warning(failed)
        if last:
            break
        if stop:
            log.info(
                "%s: %s; the state after update %d of %d is saved, and a new start continues from there",
                stage, limit.reason, update, settings.updates,
            )  # fmt: skip
            ranks.synchronise()  # torchrun ends all processes when one ends, and the first may still be saving
            raise OutOfTime
    seconds = before + time.monotonic() - started
    log.info("%s: done in %.0f s (%.0f s of it in dev evaluations)", stage, seconds, evaluating)
    moved = progress.get("moved", [])
    curve, skipped = progress["curve"], progress["skipped"]
    return Result(weights.weights(), curve, seconds, skipped, gradients.parts, machine, moved)


def _note_move(stage: str, progress: dict[str, Any], changes: list[str], ranks: Ranks) -> None:
    """Log and note that a job goes on under other circumstances than those of its saved state."""
    if not changes:
        return
    progress["moved"] = [*progress.get("moved", []), {"update": progress["update"], "changes": changes}]
    if ranks.first:
        log.warning(
            "%s: goes on from update %d under other circumstances: %s. Its weights may differ from those of a job that "
            "is not interrupted",
            stage, progress["update"], "; ".join(changes),
        )  # fmt: skip


def _warn(stage: str, update: int, findings: list[Finding], warned: set[str]) -> set[str]:
    """Log the findings whose keys are not in `warned`; returns these keys and theirs."""
    for finding in findings:
        if finding.key not in warned:
            log.warning("%s, update %d: %s", stage, update, finding.sentence)
    return warned | {finding.key for finding in findings}


def _skip(stage: str, update: int, settings: Optimisation, progress: dict[str, Any], names: list[str]) -> None:
    """Count and log a batch whose loss or gradient is not finite; `MOST_SKIPPED` in a row raise `DivergenceError`."""
    progress["skipped"] += 1
    progress["in_a_row"].append(names)
    log.warning("%s: update %d is skipped, its loss or gradient is not finite: %s", stage, update, ", ".join(names))
    if len(progress["in_a_row"]) == MOST_SKIPPED:
        utterances = list(dict.fromkeys(name for batch in progress["in_a_row"] for name in batch))
        shown = ", ".join(utterances[:20]) + (f" and {len(utterances) - 20} more" if len(utterances) > 20 else "")
        raise DivergenceError(
            f"{stage}: the loss or its gradient was not finite in {MOST_SKIPPED} batches in a row, up to update "
            f"{update} of {settings.updates}; lower learning_rate (now {settings.learning_rate:g}) or gradient_clip "
            f"(now {settings.gradient_clip:g}), or look at these utterances: {shown}"
        )


def run(
    objective: Any,
    job: TrainingJob,
    recipe: dict[str, Any],
    save: Callable[[dict[str, torch.Tensor], Path], None],
) -> None:
    """Train an objective and write the job's checkpoint folder.

    Args:
        objective: an `Objective` that also has the method `batches` which `train` takes.
        recipe: from `recipes.recipe_of`.
        save: writes the model into a folder from fp32 weights; only the first process calls it.
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
        "parts": result.parts,
        "diagnosis": [asdict(finding) for finding in objective.diagnosis(result.curve)],
        "versions": result.machine.pop("versions"),
        "machine": result.machine,
        **({"moved": result.moved} if result.moved else {}),
        "wall_s": round(result.seconds, 1),
    }

    def write(folder: Path) -> None:
        save(result.weights, folder)
        write_curve(folder / "curve.parquet", result.curve)

    finished.finish(job, {**recipe, **facts}, write)
    (state / STATE).unlink(missing_ok=True)
