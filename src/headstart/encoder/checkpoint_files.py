"""Checkpoint folders as files: what of them is loaded, a hash of it, and what can be seen to be wrong without loading.

Planning the workflow comes through here, so nothing here imports torch or transformers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.files import fingerprint, read_json

FAMILIES = (  # transformers' names
    "wav2vec2",
    "wav2vec2-conformer",
    "wav2vec2-bert",
    "hubert",
    "wavlm",
    "unispeech",
    "unispeech-sat",
    "data2vec-audio",
)
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
# In transformers' order of preference. An index names the files, called shards, over which weights are spread.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
STAGES = ("pretrain", "semisup", "finetune")


class CheckpointError(HeadstartError):
    """A checkpoint folder that cannot be a start."""


def check_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The configuration of a checkpoint folder, as JSON values.

    Raises:
        CheckpointError: files are missing or broken, or it is a kind of model that cannot be a start. The message names
            the file.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json; a start is a checkpoint folder in Hugging Face format")
    try:
        config = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: the configuration cannot be read: {error}") from None
    family = config.get("model_type") if isinstance(config, dict) else None
    if family not in FAMILIES:
        raise CheckpointError(f"{path}: model_type is {family!r}; a start is one of {', '.join(FAMILIES)}")
    if config.get("add_adapter"):
        raise CheckpointError(
            f"{path}: add_adapter is true; convolutional adapters shorten the output below what CTC needs. "
            "Start from the checkpoint without them"
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{path}: the weights are quantised (quantization_config), and such weights cannot be trained. "
            "Take the checkpoint in full precision"
        )
    if not weight_files(folder):
        raise CheckpointError(f"{folder}: no weights here ({WEIGHTS[0]} or {WEIGHTS[2]}); copy the whole checkpoint")
    return config


def weight_files(folder: str | Path) -> list[Path]:
    """The files of the weights that transformers would load; empty where there are none.

    Raises:
        CheckpointError: an index of shards is broken, or a shard is missing.
    """
    path = next((path for name in WEIGHTS if (path := Path(folder) / name).is_file()), None)
    if path is None or path.suffix != ".json":
        return [path] if path else []
    try:
        shards = sorted({path.with_name(name) for name in read_json(path)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an index of weights: {error}") from None
    for shard in shards:
        if not shard.is_file():
            raise CheckpointError(f"{shard}: no such file, though {path.name} names it; copy the whole checkpoint")
    return [path, *shards]


def checkpoint_files(folder: str | Path) -> list[Path]:
    """What a start is loaded from: settings and weights, and no other file that may lie in the folder."""
    return [path for name in SETTINGS if (path := Path(folder) / name).is_file()] + weight_files(folder)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_content(folder: str | Path) -> str:
    """Short hash of what a start is loaded from, so that another checkpoint in its place is another start.

    Raises:
        CheckpointError: the folder has a recipe of ours, and the weights are not those that were written with it.
    """
    hashes = {path.name: file_hash(path) for path in checkpoint_files(folder)}
    written = (own_recipe(folder) or {}).get("weights")
    if written is not None and hashes.get("model.safetensors") != written:
        raise CheckpointError(
            f"{Path(folder) / 'model.safetensors'}: the file is damaged or was replaced, its hash is not the one in "
            "recipe.json. Delete the file and run again to train it again, or delete recipe.json to use it as it is"
        )
    return fingerprint(hashes)


def own_recipe(folder: str | Path) -> dict[str, Any] | None:
    """What recipe.json in a checkpoint folder says; None without one, or when another tool wrote it."""
    path = Path(folder) / "recipe.json"
    try:
        recipe = read_json(path) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    # Others write files of this name too: ours has these, and all that reads a recipe relies on them.
    kinds = {"version": int, "settings": dict, "seed": int, "data": dict}
    if not isinstance(recipe, dict) or recipe.get("stage") not in STAGES:
        return None
    return recipe if all(isinstance(recipe.get(key), kind) for key, kind in kinds.items()) else None
