"""The time that starts took to train, as a design: one value for each start and seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.files import read_sealed
from headstart.study.study import Study
from headstart.summarise.design import Cell, Design

STARTS = ("starts", "all")  # the design's only cell, because training a start has neither target nor budget


def training_design(study: Study, results: Path) -> Design | None:
    """Logarithms of the seconds in which each start was trained; None if no two starts can be compared.

    Only starts that were trained for each seed have a place in it: of one training, nobody knows how much its time
    varies.
    """
    seconds = {}
    for name in filter(study.per_seed, study.starts):
        recipes = [Path(results) / study.study / "starts" / x / "recipe.json" for x in study.instances(name).values()]
        values = [read_sealed(path).get("wall_s") for path in recipes if path.is_file()]
        if len(values) == len(study.seeds) and all(values):
            seconds[name] = values
    if len(seconds) < 2:
        return None
    return Design({STARTS: Cell(STARTS[0], list(seconds), np.log(list(seconds.values())))})
