"""Model cards: a README.md in the folder of every run, which says what the model is, and how good."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import yaml

import headstart
from headstart.corpora.manifests import read_columns
from headstart.encoder.checkpoint_files import own_recipe
from headstart.encoder.chunks import chunks_of, whole_clip
from headstart.encoder.hub_folder import source_of
from headstart.features.audio import SAMPLE_RATE
from headstart.files import read_sealed, written_whole
from headstart.report.page import training_audio
from headstart.report.sentences import count, percent, rate, select, span
from headstart.report.tables import STAGES, shown_metrics
from headstart.study.facts import facts_of
from headstart.study.starts import ScratchStart
from headstart.study.study import Study
from headstart.summarise.tables import run_folder, score_path
from headstart.text.tags import NO_LANGUAGE
from headstart.workflow import outside_folder

CARD = "README.md"
HUB_METRICS = ("wer", "cer")  # the metrics of ours that the hub knows by these names
LICENCES = frozenset(
    "apache-2.0 mit openrail bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 gpl gpl-2.0 gpl-3.0 agpl-3.0 lgpl lgpl-3.0 mpl-2.0 odbl pddl "
    "cdla-permissive-2.0 unlicense".split()
)
"""Licences that the hub knows by these names."""
Row = dict[str, Any]


def card_path(results: Path, study: str, run: tuple[str, str, str, int]) -> Path:
    """Path of the model card of a (start, target, budget, seed)."""
    return run_folder(results, study, run) / CARD


def write_cards(study: Study, summary: Row, results: Path, corpora: list[Row]) -> None:
    """Write the model card of every run.

    Args:
        summary: the result of `summary.summarise`.
        results: the folder that contains `<study>/runs` and `<study>/scores`.
        corpora: a row for each split: corpus, split, utterances, hours, speakers.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headstart.report"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"count": count, "percent": percent, "rate": rate}
    template = environment.get_template("card.md.j2")
    languages = {target: languages_of(study, results, target) for target in study.targets}
    for run in study.runs():
        card = card_of(study, summary, results, corpora, run, languages[run[1]])
        page = template.render(card, front_matter=yaml.safe_dump(card["hub"], allow_unicode=True, sort_keys=False))
        with written_whole(card_path(results, study.study, run)) as temporary:
            temporary.write_text(page, encoding="utf-8")


def languages_of(study: Study, results: Path, target: str) -> list[str]:
    """The languages of a target's test speech as ISO 639 codes, the most frequent first."""
    path = score_path(results, study.study, (next(iter(study.starts)), target, study.budgets[0], study.seeds[0]))
    table = read_columns(path, None)
    tags = [tag for words in _column(table, "word_languages") for tag in words or ()] or _column(table, "language")
    counts: dict[str, int] = {}
    for tag in tags:
        code = tag.replace("_", "-").split("-")[0].lower()
        if code not in NO_LANGUAGE and 2 <= len(code) <= 3:
            counts[code] = counts.get(code, 0) + 1
    return sorted(counts, key=lambda code: (-counts[code], code))


def _column(table: Any, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else []


def card_of(
    study: Study, summary: Row, results: Path, corpora: list[Row], run: tuple[str, str, str, int], languages: list[str]
) -> Row:
    """The values that the template of a card shows."""
    start, target, budget, seed = run
    folder, corpus = run_folder(results, study.study, run), study.targets[target].corpus
    recipe = _settings(folder / "recipe.json")
    config = _settings(folder / "config.json")
    chain = ancestry(study, start)
    audio = [(name, f"{hours:g} h", f"{step['stage']}{how}") for step in chain for name, hours, how in step["audio"]]
    data = recipe.get("data") or {}
    seconds = data.get("train_seconds")
    audio.append((corpus, f"{seconds / 3600:.2g} h" if seconds else budget, "fine-tuning with transcripts"))
    licences = {name: getattr(study.corpora[name], "licence", None) for name, *_ in audio}
    begun = [(step["origin"], step["licence"]) for step in chain if step["origin"]]
    (own,) = [row for row in summary["runs"] if (row["start"], row["target"], row["budget"], row["seed"]) == run]
    (cell,) = select(summary["cells"], start=start, target=target, budget=budget)
    test = next((row for row in corpora if (row["corpus"], row["split"]) == (corpus, "test")), {})
    rates = [
        {"metric": metric, "run": own[name], "mean": rate(cell[name])}
        | {"span": span(cell[f"{name}_low"], cell[f"{name}_high"])}
        for name, metric in shown_metrics(study, summary).items()
    ]
    return {
        "study": study,
        "version": headstart.__version__,
        "start": start,
        "target": target,
        "kind": study.targets[target].kind,
        "budget": budget,
        "seed": seed,
        "family": config.get("model_type", "wav2vec2"),
        "parameters": recipe.get("parameters"),
        "updates": (recipe.get("settings") or {}).get("updates"),
        "chain": chain,
        "audio": audio,
        "licences": licences,
        "begun": begun,
        "rates": rates,
        "confidence": summary["confidence"],
        "test": test,
        "corpus": corpus,
        "languages": languages,
        "language_model": study.decoding.language_model is not None,
        "streaming": streaming(config),
        "hub": front_matter(
            study, run, languages, [*licences.values(), *(one for _, one in begun)], rates, chain, config
        ),
    }


def _settings(path: Path) -> Row:
    return read_sealed(path) if path.is_file() else {}


def ancestry(study: Study, name: str) -> list[Row]:
    """A start and those that it was trained from, the oldest first.

    Each has its `name`, its `stage`, the `audio` of its training in this study, and `origin`: the checkpoint from
    outside the study that it begins with, if any, with its `licence`.
    """
    steps = []
    while True:
        start = study.starts[name]
        folder = outside_folder(start)
        origin = None
        if folder:  # a path says where a machine keeps its files, which is nobody's concern
            origin = start.model or (start.path if not Path(start.path).is_absolute() else Path(start.path).name)
        steps.append(
            {
                "name": name,
                "stage": STAGES.get(start.kind, ""),
                "audio": training_audio(start),
                "origin": origin,
                "hub": getattr(start, "model", None),
                "licence": facts_of(start, source_of(folder)).licence if folder else None,
                "random": isinstance(start, ScratchStart) or (not folder and getattr(start, "from_", None) is None),
                "recipe": own_recipe(folder) if folder else None,
            }
        )
        name = getattr(start, "from_", None)
        if name not in study.starts:
            return steps[::-1]


def streaming(config: Row) -> str:
    """What a card says of chunked attention, from the model's configuration; nothing if it has full attention."""
    chunks = chunks_of(SimpleNamespace(**config))
    if chunks is None:
        return ""
    frame_s = math.prod(config["conv_stride"]) / SAMPLE_RATE
    left = {None: "all chunks", 0: "no chunk", 1: "one chunk"}.get(chunks.left, f"{chunks.left} chunks")
    text = (
        f"The model was trained with chunked attention, for streaming: a chunk of {chunks.size * frame_s:g} s sees "
        f"{left} before it and a look-ahead of {chunks.look_ahead * frame_s:g} s. `headstart transcribe` computes so "
        "too. transformers does not know of it: a pipeline computes with full attention, which the model never had."
    )
    if needed := whole_clip(SimpleNamespace(**config)):
        text += f" What still needs the whole clip: {' and '.join(needed)}."
    return text


def front_matter(
    study: Study,
    run: tuple[str, str, str, int],
    languages: list[str],
    licences: list[str | None],
    rates: list[Row],
    chain: list[Row],
    config: Row,
) -> Row:
    """What a card says to the hub, by the keys of its metadata."""
    start, target, budget, seed = run
    metadata: Row = {"language": languages} if languages else {}
    metadata |= licence_of(licences)
    metadata |= {"library_name": "transformers", "pipeline_tag": "automatic-speech-recognition"}
    code_switched = ["code-switching"] if study.targets[target].kind == "code-switched" else []
    metadata["tags"] = ["headstart", "ctc", config.get("model_type", "wav2vec2"), *code_switched]
    if hub := chain[0]["hub"]:
        metadata |= {"base_model": hub, "base_model_relation": "finetune"}
    metadata["metrics"] = list(HUB_METRICS)
    results = [
        {"type": name, "value": round(100 * row["run"], 2), "name": row["metric"].title}
        for row in rates
        if (name := row["metric"].name.removesuffix("_lm")) in HUB_METRICS and row["run"] is not None
    ]
    corpus = study.targets[target].corpus
    metadata["model-index"] = [
        {
            "name": f"{study.study}: {start} on {target}, {budget}, seed {seed}",
            "results": [
                {
                    "task": {"type": "automatic-speech-recognition", "name": "Automatic Speech Recognition"},
                    "dataset": {"name": corpus, "type": corpus, "split": "test"},
                    "metrics": results,
                }
            ],
        }
    ]
    return metadata


def licence_of(licences: list[str | None]) -> Row:
    """The licence of a model for the hub, from those of the checkpoint and the corpora that it was made from.

    Only where all of them are known and the same is it theirs. Otherwise whoever publishes the model has to decide.
    """
    known = {licence for licence in licences if licence}
    if not known or None in licences:
        return {"license": "unknown"}
    if len(known) == 1 and (name := next(iter(known)).lower()) in LICENCES:
        return {"license": name}
    return {"license": "other", "license_name": "see-the-section-licences"}
