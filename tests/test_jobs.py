"""Jobs: one typed object a stage, which goes through JSON unchanged."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from transfer_tables import study_of

from headstart.jobs import TRAINING, FinetuneJob
from headstart.plan.graph import Graph
from headstart.study.reading import load_study, parse_study
from headstart.training.recipes import differences
from headstart.versions import VERSIONS
from headstart.workflow import Workflow


@pytest.fixture(scope="module")
def workflow() -> Workflow:
    return Workflow(load_study("config/studies/smoke.yaml"))


def jobs_of(workflow: Workflow) -> list:
    run = workflow.study.runs()[0]
    starts = [workflow.start_job(name) for name in workflow.ancestors_first()]
    analyses = [workflow.analyse_job(start, *run[1:3]) for start in ("mono", "best-rq")]
    runs = [workflow.finetune_job(*run), workflow.language_model_job(run[1]), workflow.score_job(*run)]
    probes = [workflow.probe_job(start, *run[1:3]) for start in ("scratch", "best-rq")]
    return [*starts, *runs, *analyses, *probes]


def test_every_job_comes_back_from_json_as_it_was(workflow):
    """Snakemake stores the plain form, a queue of jobs carries it, and `job.json` keeps it to be run by hand."""
    jobs = jobs_of(workflow)
    assert {job.stage for job in jobs} == {*TRAINING, "decode", "score", "analyse", "probe"}
    for job in jobs:
        assert type(job)(**json.loads(json.dumps(job.plain()))) == job


def test_a_job_with_an_unknown_or_a_missing_field_is_refused(workflow):
    plain = workflow.finetune_job(*workflow.study.runs()[0]).plain()
    with pytest.raises(ValidationError, match="start"):
        FinetuneJob(**plain, start="elsewhere")
    with pytest.raises(ValidationError, match="subset"):
        FinetuneJob(**{key: value for key, value in plain.items() if key != "subset"})
    with pytest.raises(ValidationError, match="learning_rat"):
        FinetuneJob(**{**plain, "settings": {**plain["settings"], "learning_rat": 1}})


def test_a_run_begins_with_the_instance_of_its_own_seed(workflow):
    instances = workflow.study.instances("best-rq+S")
    assert instances == {1: "best-rq+S/seed1", 2: "best-rq+S/seed2"}
    jobs = [workflow.start_job(instance) for instance in instances.values()]
    assert [job.seed for job in jobs] == [1, 2]
    assert [job.parent for job in jobs] == [f"results/smoke/starts/best-rq/seed{seed}" for seed in (1, 2)]
    for seed in (1, 2):
        run = ("best-rq+S", "en-es", "1min", seed)
        assert workflow.finetune_job(*run).parent == f"results/smoke/starts/best-rq+S/seed{seed}"
        inputs = workflow.finetune_input(*run)["parent"]
        assert f"results/smoke/starts/best-rq+S/seed{seed}/model.safetensors" in inputs
        assert not any(f"seed{3 - seed}" in path for path in inputs)
    assert workflow.analyse_job(*run[:3]).start == {s: f"results/smoke/starts/best-rq+S/seed{s}" for s in (1, 2)}


def test_instances_may_go_on_from_what_is_trained_once_or_elsewhere(workflow):
    starts = {
        "scratch": {"kind": "scratch"},
        "once": {"kind": "ssl", "corpora": {"smoke_en": 0.1}},
        "anew": {"kind": "ssl", "per_seed": True, "seed": 10, "from": "once", "corpora": {"smoke_en": 0.1}},
        "outside": {"kind": "ssl", "per_seed": True, "path": "models/large", "corpora": {"smoke_en": 0.1}},
    }
    flow = Workflow(parse_study({**workflow.study.model_dump(by_alias=True), "starts": starts, "claims": []}))
    jobs = {instance: flow.start_job(instance) for instance in flow.ancestors_first()}
    results = "results/smoke/starts"
    assert {instance: (job.parent, job.seed, job.output) for instance, job in jobs.items()} == {
        "once": (None, 0, f"{results}/once"),
        "anew/seed1": (f"{results}/once", 11, f"{results}/anew/seed1"),
        "anew/seed2": (f"{results}/once", 12, f"{results}/anew/seed2"),
        "outside/seed1": ("models/large", 1, f"{results}/outside/seed1"),
        "outside/seed2": ("models/large", 2, f"{results}/outside/seed2"),
    }
    assert len({job.state for job in jobs.values()}) == len(jobs)


def test_scoring_opens_the_transcripts_that_teach_the_languages_of_words(workflow):
    study = workflow.study.model_dump(by_alias=True)
    run = workflow.study.runs()[0]
    assert workflow.score_job(*run).languages == {} and workflow.score_input(*run)["languages"] == []
    target = study["targets"][run[1]]
    for languages, taught in (
        ({"en": "smoke_en", "es": "smoke_en-es"}, ["smoke_en", "smoke_en-es"]),
        ({"el": None, "ru": None}, []),
    ):
        flow = Workflow(parse_study({**study, "targets": {run[1]: {**target, "languages": languages}}, "claims": []}))
        files = [f"data/features/{corpus}/train.parquet" for corpus in taught]
        assert flow.score_input(*run)["languages"] == files
        assert [path for path in flow.score_job(*run).languages.values() if path] == files
        assert set(files) <= set(flow.report_input()["manifests"])


def test_the_version_of_normalisation_is_a_part_of_the_jobs_that_normalise(workflow, monkeypatch):
    run = workflow.study.runs()[0]
    makers = (workflow.finetune_job, workflow.score_job)
    before = [make(*run).plain() for make in makers]
    monkeypatch.setitem(VERSIONS, "normalisation", 99)
    for old, make in zip(before, makers, strict=True):
        assert make(*run).plain() == {**old, "normalisation": 99}


def test_a_start_that_is_trained_once_has_the_jobs_that_it_had(workflow):
    """Nothing is made again because of a key that is not used."""
    job = workflow.start_job("mono+S")
    assert (job.seed, job.output) == (0, "results/smoke/starts/mono+S")
    assert workflow.finetune_job("mono+S", "en-es", "1min", 2).parent == "results/smoke/starts/mono+S"
    assert workflow.analyse_job("mono+S", "en-es", "1min").plain()["start"] == "results/smoke/starts/mono+S"
    assert not {"per_seed", "seed_offset"} & set(str(job.plain()).replace("'", " ").split())


def test_starts_are_trained_after_those_that_they_go_on_from(workflow):
    order = workflow.ancestors_first()
    assert order.index("mono") < order.index("mono+S") and "scratch" not in order


def test_text_files_of_a_corpus_are_read_by_its_language_model_only(workflow, tmp_path):
    file = tmp_path / "more.txt"
    plain = workflow.study.model_dump(by_alias=True)
    plain["corpora"]["smoke_en-es"]["text"] = [str(file)]
    flow = Workflow(parse_study(plain))
    assert flow.problems() == [f"corpora.smoke_en-es.text: {file}: no such file"]
    file.write_text("hola\n", encoding="utf-8")
    assert not flow.problems()
    assert flow.language_model_input("en-es")["text"] == [str(file)]
    assert flow.language_model_job("en-es") != workflow.language_model_job("en-es")
    assert flow.corpus_settings("smoke_en-es") == workflow.corpus_settings("smoke_en-es")
    assert flow.synthesis_settings("smoke_en-es") == workflow.synthesis_settings("smoke_en-es")
    run = workflow.study.runs()[0]
    assert flow.finetune_job(*run) == workflow.finetune_job(*run) and flow.score_job(*run) == workflow.score_job(*run)


def test_without_a_language_model_runs_are_decoded_greedily_only(workflow):
    """Scoring then needs neither dev nor a language model."""
    plain = {**workflow.study.model_dump(by_alias=True), "decoding": {"language_model": None}}
    greedy, run = Workflow(parse_study(plain)), workflow.study.runs()[0]
    assert greedy.score_job(*run).language_model is None
    inputs = {flow: flow.score_input(*run) for flow in (workflow, greedy)}
    assert inputs[workflow].keys() - inputs[greedy].keys() == {"dev", "arpa", "recipe"}
    assert not any("language_models" in str(files) or "/dev." in str(files) for files in inputs[greedy].values())


def test_languages_are_compared_by_sound_where_the_summary_asks_what_transfers(workflow):
    starts = {"de": (8, ["de"]), "es": (8, ["es"]), "both": (8, ["de", "es"]), "sw": (8, ["sw"])}
    study = study_of(starts, targets=["de", "fi", "tr"], mixed=[("de", "tr")])
    data = study.model_dump(by_alias=True)
    data["corpora"]["more-fi"] = {"reader": "folder", "path": "data/more", "language": "fi-FI"}
    data["targets"]["more"] = {"corpus": "more-fi", "kind": "cross-lingual"}
    data["similarity"] = {"tables": {"mine": "similarity.tsv"}}
    flow = Workflow(parse_study(data, "study.yaml"))
    job = flow.similarity_job()
    assert type(job)(**json.loads(json.dumps(job.plain()))) == job
    corpora = {tag: [Path(split.features).parent.name for split in splits] for tag, splits in job.languages.items()}
    # The code-switched corpus is in no language alone.
    assert corpora == {"de": ["c-de"], "fi": ["c-fi", "more-fi"], "tr": ["c-tr"], "es": ["c-es"], "sw": ["c-sw"]}
    assert all(split.features.endswith("train.parquet") for splits in job.languages.values() for split in splits)
    assert job.encoder is None and flow.similarity_input()["encoder"] == []
    assert flow.summary_input()["similarities"] == [job.output, "similarity.tsv"]
    assert "similarity.tables.mine: similarity.tsv: no such file" in flow.problems()

    data["starts"]["both"]["per_seed"] = True
    data["similarity"] = {"acoustic": {"start": "both", "layer": 2}}
    flow = Workflow(parse_study(data, "study.yaml"))
    assert flow.similarity_job().encoder == "results/simulated/starts/both/seed1"
    assert "results/simulated/starts/both/seed1/model.safetensors" in flow.similarity_input()["encoder"]
    node = Graph(flow).nodes["similarity"]
    assert {"start both/seed1", "features more-fi train"} <= set(node.needs) and node.kind.startswith("analyse ")
    assert "similarity" in Graph(flow).nodes["summary"].needs

    data["similarity"] = {"acoustic": None}
    assert Workflow(parse_study(data, "study.yaml")).summary_input()["similarities"] == []
    assert workflow.summary_input()["similarities"] == []  # which has too few starts and languages


def test_differences_of_recipes_say_where_a_key_is_left_out():
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b: 1, was 2"]
    assert differences({"a": 1, "c": None}, {"c": 3}) == ["a: 1, was left out", "c: None, was 3"]
    assert differences({}, {"a": 1}) == ["a: left out, was 1"]
