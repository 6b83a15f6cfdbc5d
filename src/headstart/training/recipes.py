"""Recipes: what a trained checkpoint was made from, in the recipe.json beside it.

A recipe has two parts. Its *identity* is all that decides the weights: settings, seed, version of the stage, and hashes
of the data and of the parent's weights. Two jobs of the same identity give the same result, so one need not run again.
The rest are facts about how it went: time, machine, rejected utterances.
"""

from __future__ import annotations

from typing import Any

from headstart.encoder.checkpoint_files import checkpoint_content, file_hash, own_recipe
from headstart.files import fingerprint
from headstart.jobs import TrainingJob

DECIDING = ("stage", "version", "settings", "ssl", "text", "model", "parent_content", "seed")
DECIDING_DATA = ("content", "units_content")  # under `data`


def recipe_of(job: TrainingJob, data: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a job as far as it is known before training.

    Args:
        data: what is trained on; hashes under the names in `DECIDING_DATA`, and facts.
    """
    sections = {key: getattr(job, key) for key in ("settings", "ssl", "text", "model") if hasattr(job, key)}
    return {
        "stage": job.stage,
        "version": job.version,
        **{key: section.model_dump(mode="json") if section else None for key, section in sections.items()},
        # Its whole history, or, of a checkpoint from elsewhere, where it lay.
        "parent": (own_recipe(job.parent) or job.parent) if job.parent else None,
        "parent_content": checkpoint_content(job.parent) if job.parent else None,
        "seed": job.seed,
        "data": data,
    }


def identity(recipe: dict[str, Any]) -> dict[str, Any]:
    """All of a recipe that decides the weights."""
    data = recipe.get("data", {})
    return {key: recipe[key] for key in DECIDING if key in recipe} | {
        f"data.{key}": data[key] for key in DECIDING_DATA if key in data
    }


def files_recipe(settings: dict[str, Any], files: dict[str, str | list[str]]) -> str:
    """Short hash of settings and of the content of files: what a summary or a report follows from."""
    paths = [path for group in files.values() for path in ([group] if isinstance(group, str) else group)]
    return fingerprint([settings, {path: file_hash(path) for path in paths}])


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where two identities differ, a line each: `settings.updates: 400, was 300`."""
    lines = []
    for key in dict.fromkeys([*wanted, *found]):
        new, old = wanted.get(key), found.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            lines += [f"{key}.{line}" for line in differences(new, old)]
        elif new != old:
            lines.append(f"{key}: {_shown(new)}, was {_shown(old)}")
    return lines


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
