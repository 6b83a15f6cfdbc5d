"""The report: one self-contained HTML page that loads nothing from the network.

`write_report` makes the page from a study, its `summary.json` and its run folders. Sentences come from
`headstart.report.sentences`, charts from `headstart.report.charts`, and the layout from `templates/`, which has one
file a section.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import numpy as np
import vl_convert
from markupsafe import Markup

import headstart
from headstart.corpora.manifests import read_columns
from headstart.encoder.checkpoint_files import own_recipe
from headstart.files import read_json, written_whole
from headstart.report.charts import Gallery
from headstart.report.sentences import (
    VERDICTS,
    answer,
    change,
    count,
    decimal,
    decimals,
    duration,
    overall,
    percent,
    points,
    rate,
    select,
    span,
)
from headstart.score.alignment import DELETION, HIT, INSERTION, SUBSTITUTION, steps
from headstart.score.metrics import METRICS
from headstart.study.fields import budget_seconds
from headstart.study.starts import Start
from headstart.study.study import Study
from headstart.summarise.statistics import false_alarm
from headstart.summarise.tables import read_counts, run_folder, score_path
from headstart.training.curve import read_curve

MEASURES = {"pwcca": "PWCCA", "svcca": "SVCCA", "cka": "linear CKA"}
KINDS = {HIT: "hit", SUBSTITUTION: "substitution", DELETION: "deletion", INSERTION: "insertion"}  # edit -> name
DIFFICULTY = "cer"  # the metric by whose quantiles sample utterances are chosen
Row = dict[str, Any]

STAGES = {"ssl": "pre-training", "semisup": "semi-supervised training"}  # kind of start -> name of its stage


def write_report(study: Study, summary: Row, results: Path, corpora: list[Row], output: Path, recipe: str = "") -> None:
    """Write the page of a study to `output`, whole or not at all.

    `summary` is the result of `summary.summarise`, `results` the folder that contains `<study>/scores`, `<study>/runs`
    and `<study>/starts`, and `corpora` has one row per split: corpus, split, utterances, hours, speakers, rejected.
    Learning curves and recipes may be missing; what they would have shown is then left out or reported as missing.
    `recipe` is a hash of the page's inputs. After a clone, it tells whether the page is up to date.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headstart.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "count": count, "rate": rate, "percent": percent}
    environment.filters |= {"by_group": _runs_of("target", "budget"), "by_corpus": _runs_of("corpus")}
    environment.filters["by_start"] = _runs_of("target", "budget", "start")
    page = environment.get_template("report.html.j2").render(
        page_of(study, summary, Path(results), corpora), recipe=recipe
    )
    with written_whole(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page_of(study: Study, summary: Row, results: Path, corpora: list[Row]) -> Row:
    """The values that the template shows."""
    folder = results / study.study
    runs = read_runs(study, results)
    pretraining, refining = (
        [
            {"stage": STAGES[kind], "start": name, "seed": seed, **_read_folder(folder / "starts" / instance)}
            for name, start in study.starts.items()
            if start.kind == kind
            for seed, instance in study.instances(name).items()
        ]
        for kind in STAGES
    )
    trained = pretraining + refining
    gallery = Gallery(study, summary)
    return {
        "study": study,
        "summary": summary,
        "version": headstart.__version__,
        "styles": gallery.styles,
        "metrics": {study.report.metric: METRICS[study.report.metric], **METRICS},  # the study's own comes first
        "registered": list(METRICS.values()),
        "difficulty": METRICS[DIFFICULTY],
        "interval_name": f"{percent(summary['confidence'])} interval",
        "false_alarm": false_alarm,
        "verdicts": VERDICTS,
        "overall": overall(study, summary),
        "answers": [answer(study, summary, t, b) for t in study.targets for b in study.budgets],
        "rate_rows": rate_rows(study, summary),
        "contrast_rows": contrast_rows(summary),
        "average_rows": average_rows(summary),
        "convergence": sorted(summary["convergence"], key=lambda row: _group_order(study, row)),
        "rates": {metric: gallery.rates(metric) for metric in METRICS},
        "differences": {metric: gallery.differences(metric) for metric in METRICS},
        "curves": {metric: gallery.curves(runs, metric) for metric in METRICS},
        "pretraining": gallery.pretraining(pretraining),
        "representation": gallery.representation(),
        "gap_rows": gap_rows(study, summary),
        "gap_contrast_rows": gap_contrast_rows(summary),
        "layer_rows": layer_rows(study, summary),
        "measures": MEASURES,
        "pretrained": list(dict.fromkeys(row["start"] for row in pretraining if row["curve"])),
        "refining": gallery.refining(refining),
        "refined": list(dict.fromkeys(row["start"] for row in refining if row["curve"])),
        "samples": samples(study, results),
        "histories": histories(study, trained),
        "training_audio": training_audio,
        "corpora": corpora,
        "settings": settings(study),
        "rejected": rejected(runs),
        "unseen": unseen_characters(runs),
        "versions": _merged(runs + trained, "versions"),
        "machine": _merged(runs + trained, "machine"),
        "times": times(runs + trained, summary),
        "charts": gallery.specs,
        "vega": Markup(_vega_bundle()),
    }


def _runs_of(*keys: str) -> Callable[[list[Row]], list[list[Row]]]:
    """A function that groups consecutive rows with the same values of `keys`."""
    return lambda rows: [list(run) for _, run in groupby(rows, key=itemgetter(*keys))]


def _vega_bundle() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed, in the version of Vega-Lite for which Altair writes charts."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")


# ---------------------------------------------------------------------------------------------- tables


def rate_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of error rates; `wer_lowest` and the like mark the lowest rate of a target and budget."""
    rows = []
    for cell in sorted(summary["cells"], key=lambda r: _group_order(study, r)):
        peers = select(summary["cells"], target=cell["target"], budget=cell["budget"])
        row = {key: cell[key] for key in ("start", "target", "budget")}
        for metric in METRICS:
            row[metric] = rate(cell[metric])
            row[f"{metric}_span"] = span(cell[f"{metric}_low"], cell[f"{metric}_high"])
            row[f"{metric}_lowest"] = len(peers) > 1 and cell[metric] == min(peer[metric] for peer in peers)
        rows.append(row)
    return rows


def _group_order(study: Study, row: Row) -> tuple[int, int]:
    return list(study.targets).index(row["target"]), study.budgets.index(row["budget"])


def contrast_rows(summary: Row) -> list[Row]:
    """Rows of the table of paired differences, all metrics in one row."""
    rows: dict[tuple, Row] = {}
    for contrast in summary["contrasts"]:
        keys = ("treatment", "baseline", "target", "budget")
        row = rows.setdefault(tuple(contrast[key] for key in keys), {key: contrast[key] for key in keys})
        row[contrast["metric"]] = {
            "difference": points(contrast["difference"]),
            "span": span(contrast["low"], contrast["high"], signed=True),
            "relative": change(contrast["relative"]),
            "verdict": contrast["verdict"],
        }
    return list(rows.values())


def average_rows(summary: Row) -> list[Row]:
    """Rows of the table of mean relative changes over all targets, all metrics in one row."""
    rows: dict[tuple, Row] = {}
    for average in summary["averages"]:
        keys = ("treatment", "baseline", "budget")
        row = rows.setdefault(tuple(average[key] for key in keys), {key: average[key] for key in keys})
        ends = (average["relative_low"], average["relative_high"])
        row[average["metric"]] = {
            "relative": change(average["relative"]),
            "span": span(*ends, signed=True) if None not in ends else "",
            "verdict": average["verdict"],
        }
    return list(rows.values())


def gap_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of representation gaps."""
    return [
        {**row, "gap": decimal(row["gap"]), "span": decimals(row["low"], row["high"])}
        for row in sorted(summary["representation_gap"], key=lambda r: _group_order(study, r))
    ]


def gap_contrast_rows(summary: Row) -> list[Row]:
    """Rows of the table of paired differences of the gap."""
    return [
        {key: row[key] for key in ("treatment", "baseline", "target", "budget")}
        | {"difference": decimal(row["difference"], signed=True)}
        | {"span": decimals(row["low"], row["high"], signed=True), "verdict": row["verdict"]}
        for row in summary["representation_contrasts"]
    ]


def layer_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of similarities, every measure of a layer in one row."""
    rows: dict[tuple, Row] = {}
    for layer in sorted(summary["representation"], key=lambda r: _group_order(study, r)):
        keys = ("target", "budget", "start", "layer")
        row = rows.setdefault(tuple(layer[key] for key in keys), {key: layer[key] for key in keys})
        row[layer["measure"]] = decimal(layer["similarity"])
        row[f"{layer['measure']}_span"] = decimals(layer["low"], layer["high"])
    return list(rows.values())


def times(folders: list[Row], summary: Row) -> list[Row]:
    """Wall time and parameters of each stage and start, over its runs, and its share of prior pre-training time."""
    shares = {row["start"]: row["share_of_pretraining"] for row in summary["stages"]}
    rows: dict[tuple, Row] = {}
    for folder in folders:
        seconds = folder["recipe"].get("wall_s")
        if seconds is None and folder["curve"] and "wall_s" in folder["curve"]:
            seconds = float(folder["curve"]["wall_s"][-1])
        row = rows.setdefault(
            (folder["stage"], folder["start"]),
            {"stage": folder["stage"], "start": folder["start"], "seconds": [], "parameters": None},
        )
        row["parameters"] = folder["recipe"].get("parameters", row["parameters"])
        row["seconds"] += [] if seconds is None else [float(seconds)]
    for row in rows.values():
        row |= {"runs": len(row["seconds"]), "total": sum(row["seconds"]) if row["seconds"] else None}
        row["mean"] = row["total"] / row["runs"] if row["runs"] else None
        row["share"] = shares.get(row["start"]) if row["stage"] in STAGES.values() else None
    return list(rows.values())


# ---------------------------------------------------------------------------------------------- samples


def samples(study: Study, results: Path) -> list[Row]:
    """For each target, sample test utterances with the hypotheses of every start and their errors marked.

    Utterances are sorted by difficulty, which is their character error rate over all starts and seeds at the largest
    budget (ties by utterance id), and taken at evenly spaced quantiles. Hypotheses are those of the first seed.
    """
    budget = max(study.budgets, key=budget_seconds)
    return [
        {"target": target, "budget": budget, "seed": study.seeds[0], "utterances": utterances}
        for target in study.targets
        if (utterances := _sampled(study, results, target, budget))
    ]


def _sampled(study: Study, results: Path, target: str, budget: str) -> list[Row]:
    runs = [
        read_counts(score_path(results, study.study, (start, target, budget, seed)))
        for start in study.starts
        for seed in study.seeds
    ]
    errors = sum(run.errors[DIFFICULTY] for run in runs)
    difficulty = errors / np.maximum(1, sum(run.reference[DIFFICULTY] for run in runs))
    order = np.lexsort((np.arange(len(difficulty)), difficulty))
    wanted = min(study.report.samples, len(order))
    chosen = [int(order[int((i + 0.5) / wanted * len(order))]) for i in range(wanted)]
    texts = {
        start: read_columns(score_path(results, study.study, (start, target, budget, study.seeds[0])), None)
        .sort_by("utterance_id")
        .to_pylist()
        for start in study.starts
    }
    utterances = []
    for i in chosen:
        first = texts[study.baseline][i]
        hypotheses = [{"start": start, **_scored(rows[i])} for start, rows in texts.items()]
        utterances.append({**first, "difficulty": rate(difficulty[i]), "hypotheses": hypotheses})
    return utterances


def _scored(row: Row) -> Row:
    words = marked_words(row["reference"], row["hypothesis"], row[METRICS["wer"].alignment])
    errors = sum(word["kind"] != "hit" for word in words)
    return {"words": words, "errors": errors, "empty": not row["hypothesis"].strip()}


def marked_words(reference: str, hypothesis: str, alignment: str) -> list[Row]:
    """The words of a hypothesis with their errors marked, by the word alignment from the score file.

    Each word is a dict with `kind` (`hit`, `substitution`, `deletion` or `insertion`), `text`, and, for a
    substitution, `reference`: the reference word that `text` replaces.
    """
    reference_words, hypothesis_words = reference.split(), hypothesis.split()
    words = []
    for edit, i, j in steps(alignment):
        word = {"kind": KINDS[edit], "text": reference_words[i] if j is None else hypothesis_words[j]}
        if edit == SUBSTITUTION:
            word["reference"] = reference_words[i]
        words.append(word)
    return words


# ---------------------------------------------------------------------------------------------- what was run


def read_runs(study: Study, results: Path) -> list[Row]:
    """Learning curve and recipe of every fine-tuning run; None and {} when the file is missing."""
    return [
        {
            "stage": "fine-tuning",
            **dict(zip(("start", "target", "budget", "seed"), run, strict=True)),
            **_read_folder(run_folder(results, study.study, run)),
        }
        for run in study.runs()
    ]


def _read_folder(folder: Path) -> Row:
    recipe = folder / "recipe.json"
    curve = read_curve(folder / "curve.parquet")
    return {
        "recipe": read_json(recipe) if recipe.is_file() else {},
        "curve": curve if curve and len(curve["step"]) else None,
    }


def histories(study: Study, trained: list[Row]) -> Row:
    """For each start whose recipe records it, how its checkpoint was trained before this study."""
    before = {row["start"]: row["recipe"].get("parent") for row in trained}
    for name, start in study.starts.items():
        if (folder := getattr(start, "path", None)) and (recipe := own_recipe(folder)):
            before[name] = recipe
    # A start whose parent is another start of this study has no line here: that one is listed itself.
    by_name = {name for name in before if getattr(study.starts[name], "from_", None) in study.starts}
    return {
        name: _history(recipe) for name, recipe in before.items() if isinstance(recipe, dict) and name not in by_name
    }


def _history(recipe: Row) -> str:
    """The recipe of a checkpoint in one line: updates, audio and time."""
    data = recipe.get("data", {})
    amounts = [
        (data.get("corpora"), ""),
        (data.get("labelled"), ", transcribed"),
        (data.get("unlabelled"), ", untranscribed"),
    ]
    parts = [f"{sum(corpora.values()):g} h of {', '.join(corpora)}{how}" for corpora, how in amounts if corpora]
    hours = "; ".join(parts) or "unknown audio"
    updates = recipe.get("settings", {}).get("updates")
    text = f"{count(updates)} updates on {hours}" if updates else hours
    return f"{text}, in {duration(recipe['wall_s'])}" if recipe.get("wall_s") else text


def training_audio(start: Start) -> list[tuple[str, float, str]]:
    """(corpus, hours, with or without transcripts) of the audio on which this study trains a start."""
    kinds = (("corpora", ""), ("labelled", " with transcripts"), ("unlabelled", " without transcripts"))
    return [(*corpus, how) for kind, how in kinds for corpus in vars(start).get(kind, {}).items()]


def rejected(runs: list[Row]) -> list[Row]:
    """Utterances that runs could not use, once for each target and reason, sorted by target and utterance id."""
    rejects = {
        (run["target"], str(reject.get("utterance_id")), str(reject.get("reason")))
        for run in runs
        for reject in _data(run).get("rejected") or []
    }
    return [{"target": t, "utterance_id": u, "reason": r} for t, u, r in sorted(rejects)]


def unseen_characters(runs: list[Row]) -> list[Row]:
    """Characters that occur in the dev transcripts but not in the training transcripts, by target and budget."""
    unseen: dict[tuple, set[str]] = {}
    for run in runs:
        characters = _data(run).get("unseen_characters") or ()
        unseen.setdefault((run["target"], run["budget"]), set()).update(map(str, characters))
    return [
        {"target": target, "budget": budget, "characters": sorted(characters)}
        for (target, budget), characters in unseen.items()
        if characters
    ]


def _data(run: Row) -> Row:
    return run["recipe"].get("data") or {}


def settings(study: Study) -> list[Row]:
    """Tables of the settings of each stage, defaults included."""
    tables = [
        ("Fine-tuning", study.finetune),
        *(
            (f"{STAGES[start.kind].capitalize()} of {name}", study.settings_of(name))
            for name, start in study.starts.items()
            if start.kind in STAGES
        ),
        *([("Analysis of representations", study.analyse)] if study.analyse else []),
        ("Encoders from random weights", study.model),
        ("Text normalisation", study.text),
    ]
    return [{"title": title, "rows": _shown(model.model_dump().items())} for title, model in tables]


def _merged(folders: list[Row], key: str) -> list[Row]:
    """The dict under `key` of all recipes, as rows of name and value; differing values with their number of runs."""
    values: dict[str, Counter] = {}
    for folder in folders:
        for name, value in (folder["recipe"].get(key) or {}).items():
            values.setdefault(name, Counter())[_text(value)] += 1
    rows = []
    for name, seen in values.items():
        several = len(seen) > 1
        text = "; ".join(f"{value} ({runs} runs)" if several else value for value, runs in seen.items())
        rows.append({"name": name, "value": text})
    return rows


def _shown(items: Iterable[tuple[str, Any]]) -> list[Row]:
    return [{"name": name, "value": _text(value)} for name, value in items]


def _text(value: Any) -> str:
    """A setting as text, as a study file would contain it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
