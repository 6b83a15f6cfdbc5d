"""Files of weights: conversion of the old `.bin` format and of several files to safetensors, and checks."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from headstart.encoder.checkpoint_files import CheckpointError


def converted(files: list[Path], output: Path, name: str) -> None:
    """Write the weights of `files` to the safetensors file `output`, unchanged.

    Args:
        name: of the model, for messages.

    Raises:
        CheckpointError: a file is broken or holds anything but weights.
    """
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        weights |= load_file(file) if file.suffix == ".safetensors" else unpickled(file, f"{name}: {file.name}")
    try:
        save_file({key: weights[key].contiguous() for key in sorted(weights)}, output, metadata={"format": "pt"})
    except RuntimeError:  # tensors that share memory
        save_file({key: weights[key].clone() for key in sorted(weights)}, output, metadata={"format": "pt"})


def unpickled(file: Path, name: str) -> dict[str, torch.Tensor]:
    """The weights in a `.bin` file. Nothing but tensors is ever unpickled, because a pickle can run any program.

    Args:
        name: for messages.

    Raises:
        CheckpointError: the file is broken or holds anything but weights.
    """
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name}: {unpickling_refused(error)}") from None
    if not isinstance(weights, dict) or not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise CheckpointError(f"{name}: the file does not hold weights by name; take the safetensors of the same model")
    return weights


def unpickling_refused(error: Exception) -> str:
    """Why a `.bin` file is refused, from torch's error, whose own advice is to unpickle everything."""
    if found := re.search(r"(?:GLOBAL|Unsupported (?:global|class)\S*) (?:GLOBAL )?([\w.]+)", str(error)):
        reason = f"it holds more than weights, namely a call of {found[1]}"
    else:
        reason = "it is broken or holds more than weights"
    return f"{reason}; nothing but weights is ever unpickled. Take the safetensors of the same model"


def check_finite(folder: str | Path, weights: dict[str, torch.Tensor]) -> None:
    """Check that all weights of a checkpoint are finite.

    Raises:
        CheckpointError: some are not. The message names the first tensor of them.
    """
    bad = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if bad:
        count, size = int((~torch.isfinite(weights[bad[0]])).sum()), weights[bad[0]].numel()
        raise CheckpointError(
            f"{folder}: the checkpoint has weights that are not finite: {count} of the {size} of {bad[0]}, the first "
            f"of {len(bad)} such tensors. Its training diverged or the file is damaged; take another copy or checkpoint"
        )
