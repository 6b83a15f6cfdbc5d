"""The saved state of a training job, from which an interrupted job resumes."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from headstart.errors import TrainingError
from headstart.files import set_folder_aside, written_whole
from headstart.objectives.objective import Objective
from headstart.training.optimiser import MasterWeights

log = logging.getLogger(__name__)

STATE = "state.safetensors"
OWN = "objective."  # prefix of the names of the objective's tensors in a saved state
KEYS = ("recipe", "precision", "machine", "progress")  # of its metadata; states of earlier versions have no machine


def save_state(
    path: Path,
    recipe_hash: str,
    machine: dict[str, Any],
    weights: MasterWeights,
    objective: Objective,
    progress: dict[str, Any],
) -> None:
    """Write the state, whole or not at all: when writing fails, for example on a full disk, the older state stays.

    Args:
        machine: from `describe_machine`.
    """
    tensors = {**weights.state(), **{OWN + name: tensor for name, tensor in objective.state().items()}}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"recipe": recipe_hash, "precision": machine["precision"]}
    metadata |= {"machine": json.dumps(machine), "progress": json.dumps(progress)}
    metadata["digest"] = _digest(metadata, tensors)
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def _digest(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a saved state, by which damage is detected."""
    digest = hashlib.sha256(json.dumps([metadata[key] for key in KEYS if key in metadata]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class State:
    """A saved state: where the job ran, its progress, and the tensors of weights, optimiser and objective.

    `machine` is from `describe_machine`; in states of earlier versions it has the precision only.
    """

    machine: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def restore(self, weights: MasterWeights, objective: Objective) -> dict[str, Any]:
        """Restore the weights, the optimiser and the objective; returns the progress of the job."""
        weights.restore({name: tensor for name, tensor in self.tensors.items() if not name.startswith(OWN)})
        own = {name.removeprefix(OWN): tensor for name, tensor in self.tensors.items() if name.startswith(OWN)}
        objective.restore(own)
        return self.progress


def read_state(path: Path, recipe_hash: str, first: bool = True) -> State | None:
    """Read the saved state of a job with this recipe; None when there is none, or one of another recipe.

    A damaged file is never used. The first process renames it, and training starts from the beginning: an error instead
    would occur again at every attempt.

    Raises:
        TrainingError: the system cannot read the file.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("recipe") != recipe_hash or "digest" not in metadata:
                log.info("%s was saved by a job with other settings or data; it is not used", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        damage = None if _digest(metadata, tensors) == metadata["digest"] else "its hash is not the one in it"
    except (SafetensorError, ValueError, KeyError) as error:
        damage = str(error)
    except OSError as error:
        raise TrainingError(f"{path}: the saved state cannot be read: {error}") from None
    if damage:
        log.warning(
            "%s is damaged: %s. It is renamed to %s.broken, and training begins at update 0", path, damage, path.name
        )
        if first:
            set_folder_aside(path)
        return None
    machine = {**json.loads(metadata.get("machine", "{}")), "precision": metadata["precision"]}
    return State(machine, json.loads(metadata["progress"]), tensors)
