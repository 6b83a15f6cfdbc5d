"""The report: one self-contained HTML page that loads nothing from the network.

`write_report` makes the page from a study, its `summary.json` and its run folders. Sentences come from
`headstart.report.sentences`, charts from `headstart.report.gallery`, and the layout from `templates/`, which has one
file a section.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

import headstart
from headstart.encoder.checkpoint_files import own_recipe
from headstart.files import read_sealed, written_whole
from headstart.jobs import SplitFiles
from headstart.report import tables
from headstart.report.checkpoints import checkpoint_rows
from headstart.report.comparison import comparison_page, write_comparisons
from headstart.report.gallery import Gallery
from headstart.report.probe import pick_rows, probe_sentences, rule_rows
from headstart.report.selection import selection_rows
from headstart.report.sentences import VERDICTS, answer, change, count, duration, level_name, overall, percent, rate
from headstart.report.tables import STAGES
from headstart.report.transfer import advice_rows, heat_maps, question_rows
from headstart.report.utterances import DIFFICULTY, samples, utterance_page, write_utterances
from headstart.score.metrics import CURVE_METRICS, METRICS
from headstart.study.fields import Settings
from headstart.study.starts import ScratchStart, Start
from headstart.study.study import Study
from headstart.summarise.tables import run_folder
from headstart.text.summary import RARE
from headstart.training.curve import read_curve
from headstart.workflow import outside_folder

MEASURES = {"pwcca": "PWCCA", "svcca": "SVCCA", "cka": "linear CKA"}
Row = dict[str, Any]


def write_report(
    study: Study,
    summary: Row,
    results: Path,
    corpora: list[Row],
    output: Path,
    recipe: str = "",
    texts: Sequence[Row] = (),
    inferred: Sequence[Row] = (),
    tests: Mapping[str, SplitFiles] | None = None,
) -> None:
    """Write the page of a study to `output`, whole or not at all, and pages with its test utterances.

    `summary` is the result of `summary.summarise`, `results` the folder that contains `<study>/scores`, `<study>/runs`
    and `<study>/starts`, and `corpora` has one row per split: corpus, split, utterances, hours, speakers, rejected.
    `texts` has one for each split with transcripts, from `describe_texts`, and `inferred` one for each target whose
    words have no tags of their own, from `describe_languages`.
    `tests` has the files of each target's test split, whose clips are put beside the pages; None for no clips.
    Learning curves and recipes may be missing; what they would have shown is then left out or reported as missing.
    `recipe` is a hash of the page's inputs. After a clone, it tells whether the page is up to date.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headstart.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "count": count, "rate": rate, "percent": percent, "change": change}
    environment.filters |= {"by_group": _runs_of("target", "budget"), "by_corpus": _runs_of("corpus")}
    environment.filters["by_start"] = _runs_of("target", "budget", "start")
    write_utterances(study, Path(results), environment)
    write_comparisons(study, Path(results), environment, tests or {})
    page = environment.get_template("report.html.j2").render(
        page_of(study, summary, Path(results), corpora), texts=texts, inferred=inferred, rare=RARE, recipe=recipe
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
    metrics = tables.shown_metrics(study, summary)
    return {
        "study": study,
        "summary": summary,
        "version": headstart.__version__,
        "styles": gallery.styles,
        "metrics": metrics,
        "registered": sorted(metrics.values(), key=lambda metric: list(METRICS).index(metric.name)),
        "difficulty": METRICS[DIFFICULTY],
        "interval_name": f"{percent(summary['confidence'])} interval",
        "utterance_page": utterance_page,
        "comparison_page": comparison_page,
        "verdicts": VERDICTS,
        "percent": percent,
        "once": [
            name
            for name, start in study.starts.items()
            if not isinstance(start, ScratchStart) and not study.per_seed(name)
        ],
        "overall": overall(study, summary),
        "answers": [answer(study, summary, t, b) for t in study.targets for b in study.budgets],
        "rate_rows": tables.rate_rows(study, summary),
        "diagnosis_rows": tables.diagnosis_rows(study, summary),
        "code_switching": tables.code_switching(study, summary),
        "contrast_rows": tables.contrast_rows(summary),
        "average_rows": tables.average_rows(summary),
        "claims": tables.claim_rows(study, summary),
        "convergence": sorted(summary["convergence"], key=lambda row: tables.group_order(study, row)),
        "speed_rows": tables.speed_rows(summary),
        "level_name": level_name,
        "rates": {metric: gallery.rates(metric) for metric in metrics},
        "differences": {metric: gallery.differences(metric) for metric in metrics},
        "curves": {name: gallery.curves(runs, name) for name in metrics if name in CURVE_METRICS},
        "pretraining": gallery.pretraining(pretraining),
        "representation": gallery.representation(),
        "gap_rows": tables.gap_rows(study, summary),
        "gap_contrast_rows": tables.gap_contrast_rows(summary),
        "layer_rows": tables.layer_rows(study, summary),
        "measures": MEASURES,
        "pretrained": list(dict.fromkeys(row["start"] for row in pretraining if row["curve"])),
        "refining": gallery.refining(refining),
        "refined": list(dict.fromkeys(row["start"] for row in refining if row["curve"])),
        **transfer_values(summary["transfer"], gallery),
        **probe_values(study, summary, gallery),
        "samples": samples(study, results),
        "histories": histories(study, trained),
        "origin": origin,
        "checkpoints": checkpoint_rows(study, runs),
        "training_audio": training_audio,
        "selections": selection_rows(trained),
        "corpora": corpora,
        "settings": settings(study),
        "rejected": rejected(runs),
        "unseen": unseen_characters(runs),
        "versions": _merged(runs + trained, "versions"),
        "machine": _merged(runs + trained, "machine"),
        "times": tables.times(runs + trained, summary),
        "charts": gallery.specs,
        "vega": Markup(_vega_bundle()),
    }


def transfer_values(transfer: Row | None, gallery: Gallery) -> Row:
    """What the section about transfer shows; nothing in a study that has none."""
    if transfer is None:
        return {"transfer": None}
    return {
        "transfer": transfer,
        "transfer_questions": question_rows(transfer),
        "heat_maps": heat_maps(transfer),
        "advice": advice_rows(transfer),
        "transfer_panels": gallery.transfer(),
    }


def probe_values(study: Study, summary: Row, gallery: Gallery) -> Row:
    """What the section about probes shows; nothing in a study that has none."""
    if study.probe is None:
        return {"probe": None}
    return {
        "probe": summary["probe"],
        "probe_sentences": probe_sentences(study, summary),
        "probe_rules": rule_rows(summary["probe"]),
        "probe_picks": pick_rows(summary["probe"]),
        "probe_panels": gallery.probe(),
    }


def _runs_of(*keys: str) -> Callable[[list[Row]], list[list[Row]]]:
    """A function that groups consecutive rows with the same values of `keys`."""
    return lambda rows: [list(run) for _, run in groupby(rows, key=itemgetter(*keys))]


def _vega_bundle() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed, in the version of Vega-Lite for which Altair writes charts."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")


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
        "recipe": read_sealed(recipe) if recipe.is_file() else {},
        "curve": curve if curve and len(curve["step"]) else None,
    }


def histories(study: Study, trained: list[Row]) -> Row:
    """For each start whose recipe records it, how its checkpoint was trained before this study."""
    before = {row["start"]: row["recipe"].get("parent") for row in trained}
    for name, start in study.starts.items():
        if (folder := outside_folder(start)) and (recipe := own_recipe(folder)):
            before[name] = recipe
    # A start whose parent is another start of this study has no line here: that one is listed itself.
    by_name = {name for name in before if getattr(study.starts[name], "from_", None) in study.starts}
    return {
        name: _history(recipe)
        for name, recipe in before.items()
        if isinstance(recipe, dict) and "stage" in recipe and name not in by_name
    }


def origin(start: Start) -> str:
    """What a start goes on from: another start, a model of a hub, a folder, or nothing."""
    checkpoint = getattr(start, "model", None) or getattr(start, "path", None)
    return getattr(start, "from_", None) or checkpoint or "random weights"


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
        *([("Probes", study.probe)] if study.probe else []),
        ("Encoders from random weights", study.model),
        ("Text normalisation", study.text),
    ]
    return [{"title": title, "rows": _shown(_values(model).items())} for title, model in tables]


def _values(settings: Settings) -> dict[str, Any]:
    """The values of settings, also those that recipes leave out because they are the default."""
    given = settings.model_dump()
    own = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: given.get(name, own[name]) for name in own if name in given or not isinstance(own[name], Settings)}


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
