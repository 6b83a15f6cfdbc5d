"""Recipes: what a checkpoint was trained from, in the file recipe.json beside it.

A recipe has two parts. Its *identity* is everything that determines the weights: settings, seed, version of the stage,
and hashes of the data and of the parent's weights. Jobs with the same identity give the same result, so the second need
not run. The other entries are facts about the training: time, machine, rejected utterances.
"""

from __future__ import annotations

from typing import Any

from headstart.encoder.checkpoint_files import checkpoint_content, file_hash, own_recipe
from headstart.encoder.hub_folder import source_of
from headstart.files import fingerprint
from headstart.jobs import TrainingJob

DECIDING = ("stage", "version", "settings", "ssl", "text", "normalisation", "model", "parent_content", "seed")
DECIDING += ("adapters",)  # of runs that train nothing else of their encoder
DECIDING += ("attention",)  # of starts that have chunked attention
# Under `data`: `content` is a hash of audio and transcripts. Of a stage that reads only some transcripts, `read` is one
# of what it reads.
DECIDING_DATA = ("content", "read", "units_content")


def recipe_of(job: TrainingJob, data: dict[str, Any]) -> dict[str, Any]:
    """The part of a job's recipe that is known before training.

    Args:
        data: describes the training data; the keys in `DECIDING_DATA` are hashes and belong to the identity.
    """
    sections = {key: getattr(job, key) for key in ("settings", "ssl", "text", "model") if hasattr(job, key)}
    return {
        "stage": job.stage,
        "version": job.version,
        **{key: section.model_dump(mode="json") if section else None for key, section in sections.items()},
        **({"normalisation": job.normalisation} if hasattr(job, "normalisation") else {}),
        # The parent's own recipe, with its ancestors' in it; or, of a checkpoint from outside Headstart, the record of
        # its fetching from a hub, or its path.
        "parent": (own_recipe(job.parent) or source_of(job.parent) or job.parent) if job.parent else None,
        "parent_content": checkpoint_content(job.parent) if job.parent else None,
        **({"adapters": file_hash(job.adapter) if job.adapter else "new"} if getattr(job, "adapters", False) else {}),
        **({"attention": job.attention.model_dump(mode="json")} if job.attention else {}),
        "seed": job.seed,
        "data": data,
    }


def identity(recipe: dict[str, Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
    """The part of a recipe that determines the weights.

    Args:
        like: the recipe that it is compared with; see `decisive`.
    """
    data = decisive(recipe.get("data", {}), None if like is None else like.get("data", {}))
    return {key: recipe[key] for key in DECIDING if key in recipe} | {
        f"data.{key}": data[key] for key in DECIDING_DATA if key in data
    }


def decisive(hashes: dict[str, Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
    """A description of data without `content` where `read` says what counts of it.

    Args:
        like: the description that it is compared with. One that was written before there was `read` has `content` only.
    """
    superseded = "content" if "read" in hashes and (like is None or "read" in like) else "read"
    return {key: value for key, value in hashes.items() if key != superseded}


def files_recipe(settings: dict[str, Any], files: dict[str, str | list[str]]) -> str:
    """Short hash of settings and of the content of files, which identifies the inputs of a summary or report."""
    paths = [path for group in files.values() for path in ([group] if isinstance(group, str) else group)]
    return fingerprint([settings, {path: file_hash(path) for path in paths}])


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The differences between two identities, one line each, such as `settings.updates: 400, was 300`."""
    lines = []
    for key in dict.fromkeys([*wanted, *found]):
        new, old = wanted.get(key), found.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            lines += [f"{key}.{line}" for line in differences(new, old)]
        elif new != old:
            shown, before = (_shown(side[key]) if key in side else "left out" for side in (wanted, found))
            lines.append(f"{key}: {shown}, was {before}")
    return lines


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
