"""Checkpoint folders as files: which are loaded, a hash of their content, and checks that do not load the weights.

Planning the workflow imports this module and must be quick, so nothing here imports torch or transformers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.files import fingerprint, read_json

FAMILIES = (  # the supported encoders, by their `model_type` in transformers
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
# In transformers' order of preference. An index lists the files (shards) that large checkpoints are split into.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
STAGES = ("pretrain", "semisup", "finetune")


class CheckpointError(HeadstartError):
    """A checkpoint folder that cannot be used as a start."""


def check_checkpoint(folder: str | Path) -> None:
    """Check that a checkpoint folder can be a start, as far as that can be seen without loading it.

    Raises:
        CheckpointError: see `check_config`; or there are no weights, or not all of them. The message names the file.
    """
    check_config(folder)
    if not weight_files(folder):
        raise CheckpointError(f"{folder}: no weights here ({WEIGHTS[0]} or {WEIGHTS[2]}); copy the whole checkpoint")


def check_config(folder: str | Path) -> None:
    """Check that a checkpoint's configuration is that of a model that can be a start.

    Raises:
        CheckpointError: it is missing or broken, or the model is of another family, has adapter layers or quantised
            weights. The message names the file.
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


def weight_files(folder: str | Path) -> list[Path]:
    """The files of weights that transformers would load; empty if there are none.

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
    """The files that a start is loaded from, settings and weights; the folder may hold others."""
    return [path for name in SETTINGS if (path := Path(folder) / name).is_file()] + weight_files(folder)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_content(folder: str | Path) -> str:
    """Short hash of the content of the files that a start is loaded from.

    It is part of the recipes of all that is trained from the start, so that a replaced checkpoint is noticed.

    Raises:
        CheckpointError: the folder has a recipe.json of Headstart, and the hash of the weights is not the one in it.
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
    """The content of a checkpoint folder's recipe.json; None without one, or if Headstart did not write it."""
    path = Path(folder) / "recipe.json"
    try:
        recipe = read_json(path) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    # Other tools write files of this name too. A recipe of Headstart has these keys, on which its readers rely.
    kinds = {"version": int, "settings": dict, "seed": int, "data": dict}
    if not isinstance(recipe, dict) or recipe.get("stage") not in STAGES:
        return None
    return recipe if all(isinstance(recipe.get(key), kind) for key, kind in kinds.items()) else None
