"""What is known of a start: the audio that its encoder was pre-trained on, and the licence of its weights."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import Field

from headstart.languages.table import families
from headstart.study.explain import LANGUAGE_PATTERN
from headstart.study.fields import Positive, Settings

Tag = Annotated[str, Field(pattern=LANGUAGE_PATTERN)]


class Facts(Settings):
    """What is known of a checkpoint from outside the study. Known models of a hub come filled in."""

    hours: Positive | None = Field(None, description="Hours of audio that it was pre-trained on.")
    languages: tuple[Tag, ...] | None = Field(None, description="Languages of that audio, as BCP 47 tags.")
    language_count: int | None = Field(
        None, ge=1, description="Number of languages; without it, that of `languages`, which may list only some."
    )
    families: tuple[str, ...] | None = Field(
        None, description="Language families, as Glottolog names them; without it, those of `languages`."
    )
    licence: str | None = Field(None, description="Licence of the weights, such as `cc-by-nc-4.0`.")
    source: str | None = Field(None, description="Where this is written, such as `arXiv 2111.09296`.")


def facts_of(start: Any, source: dict[str, Any] | None = None) -> Facts:
    """What is known of a start of any kind: as its `facts` say, else as the package's table does for a known model.

    These are facts about the checkpoint from outside the study that it is or goes on from. `Workflow.facts` finds that
    checkpoint for any start.

    Args:
        start: one of a study's `starts`.
        source: the record of the model's fetching (`encoder.hub_folder.source_of`), for the licence on its card.
    """
    given = getattr(start, "facts", None)
    return _completed(getattr(start, "model", None), given.model_dump(exclude_none=True) if given else {}, source)


def facts_of_recipe(recipe: dict[str, Any]) -> Facts:
    """What is known of the model of a hub that a trained checkpoint descends from, by the recipe in its folder."""
    while isinstance(recipe.get("parent"), dict):
        recipe = recipe["parent"]
    return _completed(recipe.get("model") if "commit" in recipe else None, {}, recipe)


def _completed(model: str | None, given: dict[str, Any], source: dict[str, Any] | None) -> Facts:
    known = dict(table()["models"].get(model, {})) if model else {}
    if "languages" in given:  # what is known of other languages does not hold then
        known.pop("language_count", None)
    values = {**known, **given}
    if "licence" not in values and isinstance((source or {}).get("licence"), str):
        values["licence"] = source["licence"]
    if languages := values.get("languages"):
        values.setdefault("language_count", len(languages))
        values.setdefault("families", families(languages))
    return Facts(**values)


@cache
def table() -> dict[str, Any]:
    """The package's table of known models."""
    text = (resources.files("headstart.study") / "known_models.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
