"""Pages that show what two starts recognised in the same test utterances, side by side, with the audio to play.

There is one page for each target and label budget, with all of its runs in it: the reader chooses two starts, a seed
and a decoding, and the page puts the utterances in which they differ most first. It is one file with a little
JavaScript; only the clips lie beside it, since a page with all of them in it would be too large to open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
import numpy as np
import soundfile

from headstart.corpora.manifests import read_columns
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.files import written_whole
from headstart.jobs import SplitFiles
from headstart.score.score_table import LM, suffix
from headstart.study.study import Study
from headstart.summarise.tables import read_counts, score_path

FOLDER = "comparisons"  # in the study's folder
AUDIO = "audio"  # in `FOLDER`, with a folder for each corpus
COLUMNS = ("hypothesis", "word_alignment")
Row = dict[str, Any]


def comparison_page(target: str, budget: str, first: str | None = None, second: str | None = None) -> str:
    """Address of a page relative to the study's folder, which opens with these two starts, if given."""
    chosen = {name: start for name, start in (("a", first), ("b", second)) if start}
    return f"{FOLDER}/{target}/{budget}.html" + (f"#{urlencode(chosen)}" if chosen else "")


def write_comparisons(
    study: Study, results: Path, environment: jinja2.Environment, tests: Mapping[str, SplitFiles]
) -> None:
    """Write the pages, and the clips that they play as MP3.

    Args:
        tests: target -> the files of its test split; targets that are not in it have no clips.
    """
    template = environment.get_template("comparison.html.j2")
    folder = results / study.study / FOLDER
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    for target in study.targets:
        shown = {budget: _shown(study, results, target, budget) for budget in study.budgets}
        wanted = {row["id"] for utterances, _ in shown.values() for row in utterances}
        clips = _write_clips(folder, study.targets[target].corpus, tests[target], wanted) if target in tests else {}
        for budget, (utterances, count) in shown.items():
            for row in utterances:
                row["clip"] = clips.get(row["id"])
            page = template.render(
                study=study, target=target, budget=budget, count=count, data=_data(study, target, budget, utterances)
            )
            with written_whole(folder / target / f"{budget}.html") as temporary:
                temporary.write_text(page, encoding="utf-8")


def _data(study: Study, target: str, budget: str, utterances: list[Row]) -> Row:
    """What the script of a page reads."""
    return {
        "starts": list(study.starts),
        "seeds": list(study.seeds),
        "targets": list(study.targets),
        "budgets": list(study.budgets),
        "target": target,
        "budget": budget,
        "pair": list(next(iter(study.comparisons()), (study.baseline, study.baseline))),
        "lm": any(run[2] is not None for row in utterances for runs in row["runs"].values() for run in runs),
        "utterances": utterances,
    }


def _shown(study: Study, results: Path, target: str, budget: str) -> tuple[list[Row], int]:
    """The utterances in which word errors differ most between starts, and the number of all test utterances.

    Each has the runs of every start in the order of seeds: hypothesis and word alignment, and those of the decoding
    with a language model, null where there is none.
    """
    paths = {
        start: [score_path(results, study.study, (start, target, budget, seed)) for seed in study.seeds]
        for start in study.starts
    }
    errors = np.array([sum(read_counts(path).errors["wer"] for path in own) for own in paths.values()])
    spread = errors.max(0) - errors.min(0)
    chosen = np.lexsort((np.arange(len(spread)), -errors.sum(0), -spread))[: study.report.compared].tolist()
    names = ["utterance_id", "speaker", "language", "duration_s", "reference"]
    names += [f"{column}{suffix(own)}" for own in ("", LM) for column in COLUMNS]
    rows: list[Row] = []
    for start, own in paths.items():
        for path in own:
            table = read_columns(path, None).sort_by("utterance_id").take(chosen)
            columns = {name: table[name].to_pylist() for name in names if name in table.column_names}
            if not rows:
                rows = [_facts(columns, i) for i in range(len(chosen))]
            for i, row in enumerate(rows):
                row["runs"].setdefault(start, []).append(
                    [columns[name][i] if name in columns else None for name in names[5:]]
                )
    return rows, len(spread)


def _facts(columns: Mapping[str, Sequence[Any]], i: int) -> Row:
    return {
        "id": columns["utterance_id"][i],
        "speaker": columns["speaker"][i],
        "language": columns["language"][i],
        "seconds": columns["duration_s"][i],
        "reference": columns["reference"][i],
        "runs": {},
    }


def _write_clips(folder: Path, corpus: str, test: SplitFiles, wanted: set[str]) -> dict[str, str]:
    """Write these utterances of a test split as sound files; returns their addresses, as the pages name them."""
    clips = Clips.open(test.features, test.audio)
    kind = "MP3" if "MP3" in soundfile.available_formats() else "FLAC"
    written = {}
    for index, utterance in enumerate(clips.column("utterance_id")):
        if utterance not in wanted:
            continue
        name = f"{AUDIO}/{corpus}/{index:06d}.{kind.lower()}"
        written[utterance] = f"../{name}"
        if not (folder / name).is_file():  # of another target with the same corpus
            with written_whole(folder / name) as temporary:
                soundfile.write(temporary, clips.audio(index), SAMPLE_RATE, format=kind)
    return written
