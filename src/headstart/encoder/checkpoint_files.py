"""Checkpoint folders as files: which are loaded, a hash of their content, and checks that do not load the weights.

Planning the workflow imports this module and must be quick, so nothing here imports torch or transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE
from headstart.files import fingerprint, read_json, sealed
from headstart.makers import again, maker

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
PEFT = "adapter_config.json"
NAMES = ("config.json", PEFT)
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


def check_names(names: Collection[str]) -> None:
    """Check by the names of a checkpoint's files that it is a whole model in Hugging Face format.

    Raises:
        CheckpointError: it is an adapter of PEFT, or has no configuration.
    """
    if PEFT in names:
        raise CheckpointError(
            f"an adapter of PEFT ({PEFT}), which changes another model's weights. Merge it into that model "
            "(`merge_and_unload`), and take the result"
        )
    if "config.json" not in names:
        raise CheckpointError("no config.json; a start is a checkpoint folder in Hugging Face format")


def check_config(folder: str | Path) -> None:
    """Check that a checkpoint's configuration is that of a model that can be a start.

    Raises:
        CheckpointError: it is missing or broken, or the model is of another family, is an adapter of PEFT, or has
            convolutional adapters, quantised weights or another sampling rate. The message names the file.
    """
    path = Path(folder) / "config.json"
    try:
        check_names([name for name in NAMES if Path(folder, name).is_file()])
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
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
    read_settings(folder)


def read_settings(folder: str | Path) -> dict[str, Any]:
    """The settings of a checkpoint's feature extractor; empty where it has none.

    transformers 5 writes all parts of a processor into one file; earlier versions have one for the feature extractor.

    Raises:
        CheckpointError: a file is broken, or the encoder takes audio of another sampling rate.
    """
    settings: dict[str, Any] = {}
    for path in (Path(folder) / name for name in SETTINGS[1:]):
        if not path.is_file():
            continue
        try:
            found = read_json(path)
            found = found if path.name.startswith("pre") else found.get("feature_extractor", {})
            rate = found.get("sampling_rate", SAMPLE_RATE)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise CheckpointError(f"{path}: not a feature extractor's settings: {error}") from None
        if rate != SAMPLE_RATE:
            raise CheckpointError(f"{path}: sampling_rate is {rate}; all audio here has {SAMPLE_RATE} samples a second")
        settings |= found
    return settings


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
        CheckpointError: the folder has a recipe.json of Headstart, and the hash of a file is not the one in it; or its
            recipe.json is damaged.
    """
    hashes = {path.name: file_hash(path) for path in checkpoint_files(folder)}
    recipe = own_recipe(folder)
    path = Path(folder) / "recipe.json"
    if recipe is None and path.is_file() and maker(path):
        raise CheckpointError(f"{path}: the file is damaged. Delete it and {again(path)}")
    written = {"model.safetensors": recipe.get("weights"), **recipe.get("files", {})} if recipe else {}
    for name, expected in written.items():
        path = Path(folder) / name
        if name not in hashes and path.is_file():
            found = file_hash(path)
        else:
            found = hashes.get(name)
        if None not in (expected, found) and found != expected:
            raise CheckpointError(
                f"{path}: the file is damaged or was replaced, its hash is not the one in recipe.json. Delete the file "
                f"and {again(path)}, or delete recipe.json to use it as it is"
            )
    return fingerprint(hashes)


def own_recipe(folder: str | Path) -> dict[str, Any] | None:
    """The content of a checkpoint folder's recipe.json; None without one, or if it is damaged or another tool's."""
    path = Path(folder) / "recipe.json"
    try:
        recipe = read_json(path) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if isinstance(recipe, dict) and recipe.get("digest") not in (None, sealed(recipe)["digest"]):
        return None
    # Other tools write files of this name too. A recipe of Headstart has these keys, on which its readers rely.
    kinds = {"version": int, "settings": dict, "seed": int, "data": dict}
    kinds |= {key: dict for key in ("files",) if key in recipe} if isinstance(recipe, dict) else {}
    if not isinstance(recipe, dict) or recipe.get("stage") not in STAGES:
        return None
    if not all(isinstance(recipe.get(key), kind) for key, kind in kinds.items()):
        return None
    numbers = [recipe["settings"].get("updates"), recipe.get("wall_s"), recipe.get("parameters")]
    for key in ("corpora", "labelled", "unlabelled"):  # hours by corpus
        hours = recipe["data"].get(key) or {}
        numbers += hours.values() if isinstance(hours, dict) else [hours]
    return recipe if all(number is None or isinstance(number, int | float) for number in numbers) else None
