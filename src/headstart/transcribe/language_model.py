"""The language model of a run: beside it in an exported folder, or in the results of its study."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from headstart.corpora.manifests import table_recipe, table_tuning
from headstart.decode.fusion import Weights
from headstart.encoder.checkpoint_files import file_hash
from headstart.errors import HeadstartError
from headstart.files import read_json
from headstart.jobs import LanguageModelFiles, Search
from headstart.summarise.tables import score_path

log = logging.getLogger(__name__)

FOLDER = "language_model"  # of an exported folder; it holds these three files
ARPA, RECIPE, DECODING = "language_model.arpa", "recipe.json", "decoding.json"


class RunLanguageModel(NamedTuple):
    """A language model with the weights that were tuned for one run, and the settings of the search."""

    files: LanguageModelFiles
    weights: Weights
    search: Search


def language_model_of(folder: Path, required: bool = False) -> RunLanguageModel | None:
    """The language model of a run's folder or an exported one; None if there is none.

    Raises:
        HeadstartError: it is required, and there is none; or its files are damaged.
    """
    beside = folder / FOLDER
    if beside.is_dir():
        return _exported(beside)
    found, why = _of_study(folder.resolve())
    if found is None and required:
        raise HeadstartError(f"{folder}: no language model, because {why}; leave out --lm to transcribe without one")
    return found


def _exported(folder: Path) -> RunLanguageModel:
    try:
        decoding = read_json(folder / DECODING)
        weights = Weights(*(float(decoding[name]) for name in Weights._fields))
        search = Search(beam=decoding["beam"], n_best=decoding["n_best"])
        read_json(folder / RECIPE)["facts"]["units"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = " ".join(str(error).split())
        raise HeadstartError(f"{folder}: the language model cannot be read ({what}); export the run again") from None
    if not (folder / ARPA).is_file():
        raise HeadstartError(f"{folder / ARPA}: no such file; export the run again, or transcribe with --no-lm")
    return RunLanguageModel(LanguageModelFiles(arpa=str(folder / ARPA), recipe=str(folder / RECIPE)), weights, search)


def _of_study(folder: Path) -> tuple[RunLanguageModel | None, str]:
    """The language model of a run in results/STUDY/runs/START/TARGET/BUDGET/seedN; or None, and why there is none."""
    if len(folder.parts) < 7 or folder.parts[-5] != "runs" or not folder.name.startswith("seed"):
        return None, f"it has no folder {FOLDER} and is no run of a study"
    *_, study, _, start, target, budget, seed = folder.parts
    results = folder.parents[5]
    stem = results / study / "language_models" / target
    files = LanguageModelFiles(arpa=f"{stem}.arpa", recipe=f"{stem}.json")
    if not (Path(files.arpa).is_file() and Path(files.recipe).is_file()):
        return None, f"the study has none for {target}"
    scores = score_path(results, study, (start, target, budget, int(seed.removeprefix("seed"))))
    tuning, recipe = table_tuning(scores), table_recipe(scores)
    if tuning is None or recipe is None:
        return None, f"{scores}, which holds its weights, is not there yet"
    if recipe["language_model"] != file_hash(files.arpa)[:16]:
        return None, f"{files.arpa} is not the one that its weights in {scores} were tuned for; run the study again"
    weights = Weights(*(tuning[name] for name in Weights._fields))
    return RunLanguageModel(files, weights, Search(**recipe["search"])), ""
