"""The saved state of a training job: what it goes on from after it was stopped."""

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
from headstart.files import move_aside, written_whole
from headstart.objectives.objective import Objective
from headstart.training.optimiser import MasterWeights

log = logging.getLogger(__name__)

STATE = "state.safetensors"
OWN = "objective."  # prefix, in a saved state, of what the objective keeps


def save_state(
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
