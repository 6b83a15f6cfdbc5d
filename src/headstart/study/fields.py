"""Kinds of values in a study file, and the base of its sections."""

from __future__ import annotations

import os
import re
from importlib import resources
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headstart.study.explain import BUDGET_PATTERN, NAME_PATTERN, nearest

SPLITS = ("train", "dev", "test")
Split = Literal["train", "dev", "test"]
Channels = Literal["mix", "each"] | Annotated[int, Field(ge=0, lt=64)]


def budget_seconds(budget: str) -> float:
    """Seconds of audio that a label budget such as `"90s"`, `"10min"` or `"1h"` asks for."""
    number, unit = re.fullmatch(r"([0-9.]+)(s|min|h)", budget).groups()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def _some_audio(budget: str) -> str:
    if not budget_seconds(budget):
        raise ValueError(f"{budget!r} is no audio at all")
    return budget


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range [{bounds[0]:g}, {bounds[1]:g}] is upside down, write the smaller number first")
    return bounds


def _grammar(language: str) -> str:
    files = (resources.files("headstart.corpora.synthetic") / "grammars").iterdir()
    valid = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    if language not in valid:
        raise ValueError(f"there is no grammar {language!r}{nearest(language, valid)}")
    return language


def _normalised(path: str) -> str:
    """The normal form of a path: `~` is expanded, and `./corpus` and `corpus/` become `corpus`."""
    if not path.strip():
        raise ValueError("is empty; name a folder")
    return os.path.normpath(os.path.expanduser(path))


def is_none(value: object) -> bool:
    """Whether a setting is left out: one that is new is left out of dumps then, so that earlier results stay valid."""
    return value is None


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Folder = Annotated[str, AfterValidator(_normalised)]
Budget = Annotated[str, Field(pattern=BUDGET_PATTERN), AfterValidator(_some_audio)]
GrammarName = Annotated[str, AfterValidator(_grammar)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**30)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Layers = Annotated[tuple[Count, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Base of every section: immutable, unknown keys are errors, and a dump is valid as input again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)
