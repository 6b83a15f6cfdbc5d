"""Restoring results after a clone: results that agree with the study are marked as up to date for Snakemake.

Snakemake decides what to run by modification times and by its records in `.snakemake`. After a clone and `dvc pull`,
the times are new and the records are missing, and `snakemake --touch` would accept any file, right or wrong. This
module instead compares the recipe that is stored with each result to the one that the study asks for now: its
settings, the versions of the stages, and hashes of data and weights.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.changes import read_record
from headstart.corpora.manifests import table_recipe
from headstart.encoder.checkpoint_files import checkpoint_content, own_recipe
from headstart.encoder.hub_folder import FILES, MODELS
from headstart.errors import HeadstartError
from headstart.features.extraction import extraction_record, record_path
from headstart.files import read_json
from headstart.jobs import FinetuneJob, PretrainJob, TrainingJob
from headstart.readings import follow_corpora, followed
from headstart.study.reading import load_study
from headstart.summarise.pretraining_data import compared_languages
from headstart.training.recipes import decisive, differences, files_recipe, identity
from headstart.workflow import Workflow

LONG_AGO = 1  # seconds since 1970: older than any input


class RestoreError(HeadstartError):
    """A call of Snakemake failed."""


@dataclass
class Outcome:
    """The results of a study, each named by its main output file (a checkpoint's is model.safetensors).

    Attributes:
        good: results that are up to date.
        stale: result -> why it is not what the study asks for now.
        missing: results of which a file is missing.
    """

    good: list[str] = field(default_factory=list)
    stale: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def restore(file: Path, cores: int) -> Outcome:
    """Compare each result of a study with what the study asks for now, and mark it for Snakemake.

    Up-to-date results will not run again, stale ones will. Manifests, features and label budgets, with which results
    are compared, are made first if they are missing, or if neither Snakemake nor a file beside them records how they
    were made.

    Args:
        file: the study file.
        cores: for Snakemake to make data with.

    Raises:
        StudyError: the study cannot be run.
        RestoreError: Snakemake failed.
    """
    workflow = Workflow(load_study(file))
    workflow.check(str(file))
    call = [sys.executable, "-m", "snakemake", "--configfile", str(file), "--cores"]
    _make_data(workflow, [*call, str(cores)])
    outcome = judge(workflow)
    if outcome.stale:
        # A result that is older than its inputs and has no record runs again. Its files stay in place until then.
        for path in outcome.stale:
            os.utime(path, (LONG_AGO, LONG_AGO))
        # This fails for files without a record, which is no problem here.
        _snakemake([*call, "1", "--cleanup-metadata", *outcome.stale], check=False)
    if outcome.good:
        _snakemake([*call, "1", "--quiet", "all", "--touch", "--force", *outcome.good])
    return outcome


def _make_data(workflow: Workflow, call: list[str]) -> None:
    """Make the data that the study's results are compared with: manifests to label budgets and clusters, and models."""
    files = [path for split in workflow.splits() for path in workflow.split(*split).model_dump().values()]
    subsets = {
        workflow.subset(workflow.study.targets[target].corpus, budget, seed)
        for _, target, budget, seed in workflow.study.runs()
    }
    adapters = filter(None, (workflow.adapter(name) for name in workflow.study.starts))
    models = [f"{folder}/{name}" for folder in workflow.to_fetch() for name in FILES]
    models += [path for path in adapters if path.startswith(MODELS) and not os.path.isfile(path)]
    clusters = {path for name in workflow.ancestors_first() for path in workflow.start_input(name)["clusters"]}
    targets = [*files, *sorted(subsets), *sorted(clusters), *models]
    follow_corpora(workflow, processes=2)
    if kept := _kept_features(workflow):
        _snakemake([*call, "--quiet", "all", "--touch", "--force", *kept])
    summary = _snakemake([*call, "--summary", *targets], capture=True)
    rows = [line.split("\t") for line in summary.splitlines()[1:]]
    # Existing data that Snakemake has no record of may have been made with other settings.
    unknown = [row[0] for row in rows if len(row) == 6 and row[3] == "-" and row[4] != "missing"]
    _snakemake([*call, "--quiet", "rules", *(["--forcerun", *unknown] if unknown else []), "--", *targets])


def _kept_features(workflow: Workflow) -> list[str]:
    """The feature manifests that were extracted, with the same settings, from what the corpora's manifests say now."""
    kept = []
    for corpus, split in workflow.splits():
        files = workflow.corpus_files(corpus)[split]
        paths = [files.manifest, files.features, files.features.replace(".parquet", ".rejects.parquet")]
        paths.append(workflow.split(corpus, split).audio)
        if not followed(workflow, corpus) or files.shards or not all(map(os.path.isfile, paths)):
            continue
        wanted = extraction_record(files.manifest, workflow.features_settings())
        if read_record(record_path(files.features)) == wanted:
            kept.append(files.features)
    return kept


def judge(workflow: Workflow) -> Outcome:
    """Compare the stored recipe of each result with the one that the study asks for, with the data on disk."""
    outcome = Outcome()
    study = workflow.study
    good: set[str] = set()  # up-to-date results: folders of checkpoints, and files

    def accept(outputs: Iterable[str], wanted: Callable[[], Any], found: Any, needs: Iterable[str]) -> bool:
        marker, *rest = outputs
        if not all(os.path.exists(path) for path in (marker, *rest)):
            outcome.missing.append(marker)
            return False
        if worse := [need for need in needs if need not in good]:
            outcome.stale[marker] = f"follows from {worse[0]}, which is out of date or missing"
            return False
        try:
            asked = wanted()
        except HeadstartError as error:
            outcome.stale[marker] = str(error)
            return False
        if found is None:
            outcome.stale[marker] = "does not say what it was made from"
        elif isinstance(asked, dict) and (lines := differences(asked, found)):
            outcome.stale[marker] = "; ".join(lines)
        elif asked != found:
            outcome.stale[marker] = "its settings or its inputs have changed"
        else:
            outcome.good.append(marker)
            return True
        return False

    def accept_training(job: TrainingJob, parent: str | None, *more: str) -> None:
        names = ("model.safetensors", "config.json", "preprocessor_config.json", "curve.parquet", "recipe.json", *more)
        recipe = own_recipe(job.output)
        found = identity(recipe) if recipe else None
        wanted = lambda: _whole(job, identity(wanted_recipe(job), like=recipe))  # noqa: E731
        if accept([f"{job.output}/{name}" for name in names], wanted, found, [parent] if parent else []):
            good.add(job.output)

    trained = {workflow.start_folder(instance) for instance in workflow.ancestors_first()}
    for instance in workflow.ancestors_first():
        job = workflow.start_job(instance)
        accept_training(job, job.parent if job.parent in trained else None)
    for target in study.targets if study.decoding.language_model else ():
        job = workflow.language_model_job(target)
        found = _recorded_language_model(job.recipe)
        if accept([job.output, job.recipe], lambda j=job: _language_model_recipe(j), found, []):
            good.add(job.output)
    for run in study.runs():
        job = workflow.finetune_job(*run)
        accept_training(job, job.parent if job.parent in trained else None, "vocab.json")
        scores = workflow.score_job(*run)
        needs = [job.output, *([scores.language_model.arpa] if scores.language_model else [])]
        if accept([scores.output], lambda s=scores: _score_recipe(s), table_recipe(scores.output), needs):
            good.add(scores.output)
    for cell in workflow.analysed():
        job = workflow.analyse_job(*cell)
        needs = [*job.runs.values(), *(folder for folder in job.starts if folder in trained)]
        recorded = table_recipe(job.output)
        found = decisive(recorded) if recorded else None
        if accept([job.output], lambda j=job, r=recorded: decisive(_analyse_recipe(j), like=r), found, needs):
            good.add(job.output)

    for cell in workflow.probed():
        job = workflow.probe_job(*cell)
        needs = sorted({folder for folder in job.starts.values() if folder in trained})
        if accept([job.output], lambda j=job: _probe_recipe(j), table_recipe(job.output), needs):
            good.add(job.output)

    if compared_languages(study):
        job = workflow.similarity_job()
        recipe = lambda: _similarity_recipe(job)  # noqa: E731
        needs = [job.encoder] if job.encoder in trained else []
        if accept([job.output], recipe, _recorded_similarity(job.output), needs):
            good.add(job.output)

    inputs = workflow.summary_input()
    made = [path for path in inputs["similarities"] if path not in study.similarity.tables.values()]
    needs = [*inputs["scores"], *inputs["representations"], *inputs.get("probes", ()), *made]
    summary = f"{workflow.results}/summary.json"
    outputs = [summary, f"{workflow.results}/metrics.json", f"{workflow.results}/curves.csv"]
    settings, shown = workflow.summary_settings(), workflow.report_settings()
    if accept(outputs, lambda: files_recipe(settings, inputs), _recorded_summary(summary), needs):
        good.add(summary)
    report = f"{workflow.results}/report.html"
    beside = ["utterances", "comparisons", *workflow.cards()]
    pages = [report, *(f"{workflow.results}/{name}" for name in beside)]
    accept(pages, lambda: files_recipe(shown, workflow.report_input()), _recorded_report(report), [summary])
    return outcome


def wanted_recipe(job: TrainingJob) -> dict[str, Any]:
    """The recipe of a training job with the current study, data and parent, as far as it is known before training."""
    if isinstance(job, PretrainJob):
        from headstart import pretrain

        return pretrain.pretrain_recipe(job, pretrain.chosen_clips(job))
    if isinstance(job, FinetuneJob):
        from headstart import finetune

        return finetune.finetune_recipe(job, *finetune.chosen_clips(job))
    from headstart import semisup
    from headstart.text.units import UnitInventory

    sources, others = semisup.chosen_clips(job)
    inventory = UnitInventory.build(job.settings, job.text, sources)
    return semisup.semisup_recipe(job, sources, others, semisup.dev_clips(job), inventory)


def _whole(job: TrainingJob, wanted: dict[str, Any]) -> dict[str, Any]:
    """The wanted identity; raises `CheckpointError` if the weights in the job's output are damaged."""
    checkpoint_content(job.output)
    return wanted


def _score_recipe(job: Any) -> dict[str, Any]:
    from headstart.score.scoring import score_recipe

    return score_recipe(job)


def _analyse_recipe(job: Any) -> dict[str, Any]:
    from headstart.analyse.analysis import analyse_recipe

    return analyse_recipe(job)


def _probe_recipe(job: Any) -> dict[str, Any]:
    from headstart.probe.probing import probe_recipe

    return probe_recipe(job)


def _similarity_recipe(job: Any) -> dict[str, Any]:
    from headstart.languages.acoustic import similarity_recipe

    return similarity_recipe(job)


def _recorded_similarity(path: str) -> dict[str, Any] | None:
    from headstart.languages.acoustic import recorded_recipe

    return recorded_recipe(path)


def _language_model_recipe(job: Any) -> dict[str, Any]:
    from headstart.decode.language_model import language_model_recipe

    return language_model_recipe(job)


def _recorded_language_model(path: str) -> dict[str, Any] | None:
    try:
        recipe = read_json(path)
        return {key: value for key, value in recipe.items() if key != "facts"}
    except (OSError, ValueError, AttributeError):
        return None


def _recorded_summary(path: str) -> str | None:
    try:
        return read_json(path).get("recipe")
    except (OSError, ValueError, AttributeError):
        return None


def _recorded_report(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            head = file.read(4096)
    except (OSError, ValueError):
        return None
    found = re.search(r'<meta name="headstart-recipe" content="(\w+)">', head)
    return found[1] if found else None


def _snakemake(command: list[str], capture: bool = False, check: bool = True) -> str:
    quiet = subprocess.PIPE if capture or not check else None
    run = subprocess.run(command, stdout=quiet, stderr=quiet, text=True)
    if check and run.returncode:
        raise RestoreError(f"Snakemake failed, see its messages above{': ' + run.stderr if run.stderr else ''}")
    return run.stdout or ""
