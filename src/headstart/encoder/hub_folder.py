"""Models of a hub as checkpoint folders: where they are kept, and the record of where they came from.

Planning the workflow imports this module and must be quick, so nothing here imports huggingface_hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.files import read_json

MODELS = "data/models"
SOURCE = "source.json"
# A fetched model has these files, whatever its repository calls them, so that they are known before it is there.
FILES = ("model.safetensors", "config.json", "preprocessor_config.json", SOURCE)


def model_folder(model: str, revision: str) -> str:
    """The folder of one revision of a hub's model, relative to where Snakemake runs.

    >>> model_folder("facebook/wav2vec2-base", "main")
    'data/models/facebook--wav2vec2-base/main'
    """
    return "/".join([MODELS, *(part.replace("/", "--") for part in (model, revision))])


def pin_file(folder: str | Path) -> Path:
    """The file that says which commit a fetched model's revision stands for.

    It is beside the folder, because Snakemake deletes what is in it before it fetches the model again.
    """
    return Path(f"{folder}.json")


def adapter_file(folder: str | Path, language: str) -> str:
    """The file of a language's adapter, as MMS names it."""
    return f"{folder}/adapter.{language}.safetensors"


def source_of(folder: str | Path) -> dict[str, Any] | None:
    """The record of a fetched model: `model`, `revision`, `commit`, `licence` and `files`; None for other folders."""
    path = Path(folder) / SOURCE
    try:
        source = read_json(path) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    keys = ("model", "revision", "commit")
    return source if isinstance(source, dict) and all(isinstance(source.get(key), str) for key in keys) else None
