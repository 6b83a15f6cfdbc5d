"""The smoke study, end to end through Snakemake: every stage, its files, and what runs again after an edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from headstart.analyse.analysis import analyse_start
from headstart.corpora.overview import describe
from headstart.features.clips import Clips
from headstart.files import read_json
from headstart.finetune import finetune_run
from headstart.probe.probing import probe_start
from headstart.report.page import write_report
from headstart.score.scoring import score_run
from headstart.semisup import refine_start
from headstart.study.fields import SPLITS
from headstart.study.reading import load_study
from headstart.summarise.summary import write_summary
from headstart.text.summary import describe_texts
from headstart.training.recipes import files_recipe
from headstart.workflow import Workflow

ROOT = Path(__file__).parent.parent
ALL = ("scratch", "mono", "mono+S", "data2vec", "data2vec+S", "hubert", "hubert+S", "best-rq", "best-rq+S")


def snakemake(folder: Path, *arguments: str, study: str = "study.yaml") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(folder / study), "--cores", "2", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


def planned(folder: Path, *targets: str, **settings: str) -> dict[str, int]:
    """Jobs that Snakemake would run now, by rule."""
    run = snakemake(folder, "--dry-run", "--", *targets, **settings)
    assert run.returncode == 0, run.stderr
    lines = (run.stdout + run.stderr).split("Job stats:")
    if len(lines) == 1:
        assert "Nothing to be done" in run.stdout + run.stderr
        return {}
    counts = {}
    for line in lines[1].splitlines()[3:]:
        if not line.strip():
            break
        rule, count = line.split()
        counts[rule] = int(count)
    counts.pop("all", None)
    counts.pop("total", None)
    return counts


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the smoke study has run."""
    folder = tmp_path_factory.mktemp("smoke")
    shutil.copy(ROOT / "config/studies/smoke.yaml", folder / "study.yaml")
    run = snakemake(folder)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-8000:]
    return folder


def edited(folder: Path, **changes) -> None:
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study.update(changes)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def test_every_run_has_a_model_a_curve_and_scores(finished):
    runs = [(start, seed) for start in ALL for seed in (1, 2)]
    for start, seed in runs:
        folder = finished / f"results/smoke/runs/{start}/en-es/1min/seed{seed}"
        for name in ("model.safetensors", "config.json", "vocab.json", "recipe.json"):
            assert (folder / name).stat().st_size > 0
        curve = pq.read_table(folder / "curve.parquet").to_pydict()
        assert curve["step"][-1] == 40
        assert all(a < b for a, b in zip(curve["flops"], curve["flops"][1:], strict=False))
        scores = finished / f"results/smoke/scores/{start}/en-es/1min/seed{seed}.parquet"
        assert pq.read_metadata(scores).num_rows > 0


def test_summary_holds_every_cell_with_intervals_and_every_contrast(finished):
    summary = json.loads((finished / "results/smoke/summary.json").read_text())
    assert {row["start"] for row in summary["cells"]} == set(ALL)
    for row in summary["cells"]:
        assert row["wer_low"] <= row["wer"] <= row["wer_high"]
        assert row["cer_low"] <= row["cer"] <= row["cer_high"]
    against_scratch = [(start, "scratch") for start in ALL[1:]]
    refined = [(start, start.removesuffix("+S")) for start in ALL if start.endswith("+S")]
    for metric in ("wer", "cer", "wer_raw", "pier", "switch_word", "switch_boundary", "wer[en]", "wer[es]"):
        contrasts = [row for row in summary["contrasts"] if row["metric"] == metric]
        assert [(row["treatment"], row["baseline"]) for row in contrasts] == against_scratch + refined


def test_a_start_with_per_seed_is_trained_anew_for_each_seed(finished):
    starts = finished / "results/smoke/starts"
    weights = [(starts / f"best-rq/seed{seed}/model.safetensors").read_bytes() for seed in (1, 2)]
    assert weights[0] != weights[1]
    recipes = [json.loads((starts / f"best-rq+S/seed{seed}/recipe.json").read_text()) for seed in (1, 2)]
    assert [recipe["seed"] for recipe in recipes] == [1, 2]
    summary = json.loads((finished / "results/smoke/summary.json").read_text())
    selections = [pq.read_table(starts / f"best-rq/seed{seed}/selection.parquet").to_pylist() for seed in (1, 2)]
    assert selections[0] != selections[1] and all(
        0.06 <= sum(row["seconds"] for row in rows) / 3600 < 0.07 for rows in selections
    )
    (stage,) = [row for row in summary["stages"] if row["start"] == "best-rq+S"]
    assert stage["seconds"] == pytest.approx(sum(recipe["wall_s"] for recipe in recipes) / 2)


def test_every_claim_has_a_verdict(finished):
    claims = json.loads((finished / "results/smoke/summary.json").read_text())["claims"]
    assert [row["metric"] for row in claims] == ["cer", "cer", "updates", "gap", "time", "seconds"]
    assert claims[1]["verdict"] == "not tested" and "in-domain" in claims[1]["reason"]
    tested = {"supported", "contradicted", "equal", "inconclusive"}
    assert all(row["verdict"] in tested for row in (claims[0], claims[3], claims[4], claims[5]))
    # On some machines, no run of this small study recognises anything; all error rates are then exactly 1.
    assert all(row["low"] <= row["estimate"] <= row["high"] and 0 <= row["p"] <= 1 for row in (claims[0], claims[3]))
    assert claims[3]["low"] < claims[3]["high"]
    page = (finished / "results/smoke/report.html").read_text()
    assert all(row["statement"] in page for row in claims)


def test_report_is_one_page_with_one_more_for_the_utterances_of_each_start(finished):
    pages = {path.parts[-3] for path in (finished / "results/smoke/utterances").glob("*/en-es/1min.html")}
    assert pages == set(ALL)
    page = (finished / "results/smoke/report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "Smoke study" in page and '<table id="probe-rules">' in page


def test_probes_are_set_beside_what_fine_tuning_found(finished):
    probe = json.loads((finished / "results/smoke/summary.json").read_text())["probe"]
    assert [(cell["start"], len(cell["layers"])) for cell in probe["cells"]] == [(start, 3) for start in ALL]
    assert all(cell["cer"] == min(cell["layers"]) and cell["error"] > 0 for cell in probe["cells"])
    (agreement,), (times,) = probe["agreement"], probe["times"]
    assert agreement["starts"] == 8 and -1 <= agreement["low"] <= agreement["high"] <= 1
    assert times["fine_tuning"] > 0 and times["probing"] > 0


def test_chunked_attention_goes_on_from_start_to_run(finished):
    chunks = {"size": 32, "left": 2, "look_ahead": 8}
    for folder in ("starts/data2vec", "starts/data2vec+S", "runs/data2vec+S/en-es/1min/seed2"):
        config, recipe = (
            read_json(finished / "results/smoke" / folder / f"{name}.json") for name in ("config", "recipe")
        )
        assert config["chunked_attention"] == chunks and recipe["attention"]["look_ahead_s"] == 0.16
    assert "chunked attention" in (finished / "results/smoke/runs/data2vec/en-es/1min/seed1/README.md").read_text()
    assert "chunked_attention" not in read_json(finished / "results/smoke/starts/mono/config.json")


def test_nothing_to_do_a_second_time(finished):
    assert planned(finished) == {}


def test_only_what_reads_a_changed_key_runs_again(finished):
    before = (finished / "study.yaml").read_text()
    try:
        edited(finished, report={"smallest_effect": 0.05})
        assert planned(finished) == {"summarise_study": 1, "write_report": 1}
        (finished / "study.yaml").write_text(before)
        edited(finished, decoding={"language_model": {"order": 2}})
        assert planned(finished) == {
            "train_language_model": 1,
            "score_run": 18,
            "summarise_study": 1,
            "write_report": 1,
        }
        (finished / "study.yaml").write_text(before)
        edited(finished, decoding={"beam": 8})
        assert planned(finished) == {"score_run": 18, "summarise_study": 1, "write_report": 1}
        (finished / "study.yaml").write_text(before)
        edited(finished, text={"lowercase": False})
        assert planned(finished) == {
            "train_language_model": 1,
            "refine_start": 5,
            "finetune_run": 18,
            "score_run": 18,
            "analyse_start": 8,
            "probe_start": 9,
            "summarise_study": 1,
            "write_report": 1,
        }
        (finished / "study.yaml").write_text(before)
        edited(finished, probe={"updates": 30})
        assert planned(finished) == {"probe_start": 9, "summarise_study": 1, "write_report": 1}
        (finished / "study.yaml").write_text(before)
        edited(finished, seeds=[1, 2, 3])
        assert planned(finished) == {
            "draw_subset": 1,
            "pretrain_start": 1,  # of the starts that are trained for each seed
            "refine_start": 1,
            "finetune_run": 9,
            "score_run": 9,
            "analyse_start": 8,
            "summarise_study": 1,
            "write_report": 1,
        }
    finally:
        (finished / "study.yaml").write_text(before)


def hermetic(finished: Path, folder: Path, inputs: dict) -> None:
    """Give a folder the files that a job declares, and no others."""
    for group in inputs.values():
        for path in [group] if isinstance(group, str) else group:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(finished / path, folder / path)


RUN = ("mono+S", "en-es", "1min", 1)


@pytest.mark.parametrize("kind", ["refine", "finetune", "score", "analyse", "probe", "summarise"])
def test_a_job_opens_nothing_but_what_its_rule_declares(kind, finished, tmp_path, monkeypatch, one_thread):
    """With only the declared files, each job writes again what it has written."""
    study = load_study(finished / "study.yaml")
    flow = Workflow(study)
    monkeypatch.chdir(tmp_path)
    if kind == "refine":
        job = flow.start_job(RUN[0])
        hermetic(finished, tmp_path, flow.start_input(RUN[0]))
        refine_start(job)
        outputs = [f"{job.output}/model.safetensors"]
    elif kind == "finetune":
        job = flow.finetune_job(*RUN)
        hermetic(finished, tmp_path, flow.finetune_input(*RUN))
        finetune_run(job)
        outputs = [f"{job.output}/model.safetensors", f"{job.output}/vocab.json"]
    elif kind == "score":
        job = flow.score_job(*RUN)
        hermetic(finished, tmp_path, flow.score_input(*RUN))
        Path(job.output).parent.mkdir(parents=True)
        score_run(job)
        outputs = [job.output]
    elif kind == "analyse":
        job = flow.analyse_job(*RUN[:3])
        hermetic(finished, tmp_path, flow.analyse_input(*RUN[:3]))
        analyse_start(job)
        outputs = [job.output]
    elif kind == "probe":
        job = flow.probe_job(*RUN[:3])
        hermetic(finished, tmp_path, flow.probe_input(*RUN[:3]))
        probe_start(job)
        again, before = (pq.read_table(folder / job.output) for folder in (tmp_path, finished))
        assert again.drop_columns("seconds") == before.drop_columns("seconds")
        outputs = []
    else:
        inputs, settings = flow.summary_input(), flow.summary_settings()
        hermetic(finished, tmp_path, inputs)
        write_summary(study, Path("results"), files_recipe(settings, inputs))
        outputs = [f"{flow.results}/{name}" for name in ("summary.json", "metrics.json", "curves.csv")]
        inputs = flow.report_input()
        hermetic(finished, tmp_path, inputs)
        summary, report = read_json(inputs["summary"]), Path(flow.results) / "report.html"
        recipe = files_recipe(flow.report_settings(), inputs)
        texts = describe_texts(inputs["manifests"], study.text)
        write_report(study, summary, Path("results"), describe(inputs["manifests"]), report, recipe, texts, [])
        outputs.append(str(report))
    for path in outputs:
        assert Path(path).read_bytes() == (finished / path).read_bytes(), path


def clone_of(finished: Path, folder: Path) -> Path:
    """A clone of the repository into which the results were pulled: no records, no data, times of now."""
    for name in ("Snakefile", "rules", "workflow", "src", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(finished / "study.yaml", folder)
    ignored = shutil.ignore_patterns(".state")
    shutil.copytree(finished / "results", folder / "results", ignore=ignored, copy_function=shutil.copyfile)
    return folder


def restore(folder: Path) -> str:
    command = [sys.executable, "-m", "headstart.cli", "restore", "study.yaml", "--cores", "2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    environment["PYTHONPATH"] = str(ROOT / "src")
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_clone_is_restored_and_only_what_an_edit_touches_runs_again(finished, tmp_path):
    clone = clone_of(finished, tmp_path)
    said = restore(clone)
    # 10 starts, a language model, 18 runs and their scores, 8 comparisons of representations, 9 probes, the summary,
    # the report.
    assert "66 results agree" in said and "again" not in said
    assert planned(clone) == {}
    # What an edit touched is not accepted, as `snakemake --touch` would, and stays until it is made again.
    scores = clone / "results/smoke/scores/mono/en-es/1min/seed1.parquet"
    scores.write_bytes(scores.read_bytes()[:-100])
    edited(clone, seeds=[1], contrasts=[{"treatment": "mono+S", "baseline": "data2vec+S"}])
    study = yaml.safe_load((clone / "study.yaml").read_text())
    study["starts"]["best-rq"]["settings"]["learning_rate"] = 0.001
    (clone / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    shutil.rmtree(clone / ".snakemake")
    said = restore(clone)
    best_rq, refined = (f"results/smoke/starts/{name}/seed1" for name in ("best-rq", "best-rq+S"))
    assert f"again: {best_rq}/model.safetensors: settings.learning_rate: 0.001, was 0.003\n" in said
    assert f"again: {refined}/model.safetensors: follows from {best_rq}, which is out of date or missing\n" in said
    assert f"again: {scores.relative_to(clone)}: does not say what it was made from\n" in said
    assert scores.is_file() and (clone / best_rq / "model.safetensors").is_file()
    assert planned(clone) == {
        "pretrain_start": 1,
        "refine_start": 1,
        "finetune_run": 2,
        "score_run": 3,
        "analyse_start": 8,  # which are of fewer seeds
        "probe_start": 2,
        "summarise_study": 1,
        "write_report": 1,
    }


def test_data_made_again_with_equal_content_retrains_nothing(finished):
    """Snakemake runs what follows, because it goes by files. The training job takes what it had trained."""
    weights = finished / "results/smoke/starts/mono/model.safetensors"
    inode = weights.stat().st_ino
    target = str(weights.relative_to(finished))
    run = snakemake(finished, "--forcerun", "data/features/smoke_en/train.arrow", "--", target)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    log = (finished / "logs/pretrain_start/smoke/mono.log").read_text()
    assert "which was trained on the same data and settings" in log and "update 20 of 20" not in log
    assert weights.stat().st_ino == inode


def test_the_exported_model_transcribes_like_the_score_file(finished):
    """`transformers.pipeline` on a run's folder and a clip's audio gives the hypothesis that was scored."""
    import transformers

    from headstart.features.clips import Clips
    from headstart.text.normalisation import normalise_hypothesis

    folder = finished / "results/smoke/runs/mono/en-es/1min/seed1"
    recogniser = transformers.pipeline("automatic-speech-recognition", model=str(folder))
    features = finished / "data/features/smoke_en-es/test"
    clips = Clips.open(f"{features}.parquet", f"{features}.arrow")
    scores = pq.read_table(finished / "results/smoke/scores/mono/en-es/1min/seed1.parquet").to_pylist()
    for i in range(3):
        text = recogniser(clips.audio(i).astype("float32") / 32768)["text"]
        assert normalise_hypothesis(text) == scores[i]["hypothesis"]


FEATURES = [f"data/features/mine/{split}.parquet" for split in ("train", "dev", "test")]


def write_noise(path: Path, seed: int) -> None:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(8000)
    soundfile.write(path, samples, 16000, subtype="PCM_16")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A folder with a recorded corpus, of two clips a split, that has been through the feature stage."""
    folder = tmp_path_factory.mktemp("recorded")
    study = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    study |= {"starts": {"scratch": {"kind": "scratch"}}, "claims": []}
    study |= {"targets": {"mine": {"corpus": "mine", "kind": "in-domain"}}}
    study["corpora"] = {"mine": {"reader": "folder", "path": "mine", "language": "qu", "columns": {"split": "split"}}}
    study["corpora"]["en"] = {"reader": "synthetic", "language": "en", "hours": dict.fromkeys(SPLITS, 0.001)}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    study["finetune"] |= {"updates": 2, "log_every": 1}
    (folder / "quick.yaml").write_text(yaml.safe_dump(study | {"budgets": ["1s"], "seeds": [1]}, sort_keys=False))
    (folder / "mine").mkdir()
    lines = ["id\tpath\tsplit\ttext"]
    for number in range(6):
        write_noise(folder / f"mine/{number}.wav", number)
        lines.append(f"{number}\t{number}.wav\t{SPLITS[number // 2]}\tword{number}")
    (folder / "mine/metadata.tsv").write_text("\n".join(lines))
    run = snakemake(folder, "--", *FEATURES)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return folder


def test_audio_that_changes_under_the_same_table_is_read_again(recorded):
    def hashes() -> list[str]:
        return pq.read_table(recorded / FEATURES[0])["content_hash"].to_pylist()

    assert planned(recorded, *FEATURES) == {}
    before, clip = hashes(), recorded / "mine/1.wav"
    size = clip.stat().st_size
    write_noise(clip, 100)
    assert clip.stat().st_size == size
    assert planned(recorded, *FEATURES) == {"extract_features": 1}
    assert planned(recorded, *FEATURES) == {"extract_features": 1}  # it is not forgotten once it was seen
    assert snakemake(recorded, "--", *FEATURES).returncode == 0
    assert [a == b for a, b in zip(before, hashes(), strict=True)] == [True, False]
    assert planned(recorded, *FEATURES) == {}


def test_synthetic_audio_does_not_count_before_or_after_it_is_made(recorded):
    target = "data/features/en/dev.parquet"
    assert planned(recorded, target) == {"synthesise_corpus": 1, "read_corpus": 1, "extract_features": 1}
    assert snakemake(recorded, "--", target).returncode == 0
    assert planned(recorded, target) == {}


def test_a_broken_feature_file_is_named_and_made_again(recorded):
    store = recorded / "data/features/mine/train.arrow"
    content = bytearray(store.read_bytes())
    content[len(content) // 2] ^= 0xFF
    store.write_bytes(content)
    run = "results/smoke/runs/scratch/mine/1s/seed1/model.safetensors"
    failed = snakemake(recorded, "--", run, study="quick.yaml")
    assert failed.returncode != 0
    log = (recorded / "logs/finetune_run/smoke/scratch/mine/1s/seed1.log").read_text()
    assert "data/features/mine/train.arrow: damaged, the samples of " in log and "Traceback" not in log
    assert planned(recorded, run, study="quick.yaml") == {"extract_features": 1, "draw_subset": 1, "finetune_run": 1}
    assert snakemake(recorded, "--", "data/features/mine/train.arrow").returncode == 0
    content[len(content) // 2] ^= 0xFF
    assert store.read_bytes() == bytes(content)


def test_channels_and_shards_go_through_the_whole_workflow(recorded, tmp_path):
    """Calls on two channels, mixed, one of them, and each as its own; the last in three shards, with a run on them."""
    study = yaml.safe_load((recorded / "quick.yaml").read_text())
    common = {"reader": "folder", "path": "calls", "language": "qu", "columns": {"split": "split"}}
    study["corpora"] = {"mix": common, "left": {**common, "channels": 0}}
    study["corpora"]["each"] = {**common, "channels": "each", "shards": 3}
    study["targets"] = {"mine": {"corpus": "each", "kind": "in-domain"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (tmp_path / "calls").mkdir()
    lines, calls = ["id\tpath\tsplit\ttext"], []
    for number in range(6):
        calls.append((3000 * np.random.default_rng(number).standard_normal((8000, 2))).astype(np.int16))
        soundfile.write(tmp_path / f"calls/{number}.wav", calls[number], 16000)
        lines.append(f"u{number}\t{number}.wav\t{'train' if number < 4 else SPLITS[number - 3]}\tword{number}")
    (tmp_path / "calls/metadata.tsv").write_text("\n".join(lines))
    model = "results/smoke/runs/scratch/mine/1s/seed1/model.safetensors"
    targets = [f"data/features/{name}/train.parquet" for name in study["corpora"]] + [model]
    expected = {"read_corpus": 3, "extract_features": 3, "extract_shard": 3, "join_shards": 1, "draw_subset": 1}
    assert planned(tmp_path, *targets) == {**expected, "finetune_run": 1}
    run = snakemake(tmp_path, "--", *targets)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    found = {}
    for name in study["corpora"]:
        clips = Clips.open(*(tmp_path / f"data/features/{name}/train{suffix}" for suffix in (".parquet", ".arrow")))
        found[name] = {one: clips.audio(i) for i, one in enumerate(clips.column("utterance_id"))}
    assert list(found["mix"]) == list(found["left"]) == [f"u{n}" for n in range(4)]
    assert list(found["each"]) == [f"u{n}-ch{channel}" for n in range(4) for channel in (0, 1)]
    for number, call in enumerate(calls[:4]):
        expected = {
            "mix": {"": call.mean(axis=1)},
            "left": {"": call[:, 0]},
            "each": {"-ch0": call[:, 0], "-ch1": call[:, 1]},
        }
        for name, parts in expected.items():
            for suffix, samples in parts.items():
                assert np.abs(found[name][f"u{number}{suffix}"] - samples).max() <= 1
    recipe = read_json(tmp_path / model.replace("model.safetensors", "recipe.json"))
    assert recipe["data"]["train_utterances"] == 2  # a second of half-second clips
    assert planned(tmp_path, *targets) == {}


@pytest.mark.slow
def test_retries_turn_time_limits_into_continuations(tmp_path, monkeypatch):
    """Each try of a training job saves one update and ends with status 75; three tries make three updates."""
    study = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    study |= {"starts": {"scratch": {"kind": "scratch"}}, "claims": [], "seeds": [1]}
    study["finetune"] |= {"updates": 3, "log_every": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    monkeypatch.setenv("HEADSTART_MAX_MINUTES", "0.0001")
    failed = snakemake(tmp_path, "--retries", "1")
    assert failed.returncode != 0 and "the state after update 2 of 3 is saved" in failed.stdout + failed.stderr
    run = snakemake(tmp_path, "--retries", "1")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    log = (tmp_path / "logs/finetune_run/smoke/scratch/en-es/1min/seed1.log").read_text()
    assert "resumed at update 2 of 3" in log
    curve = pq.read_table(tmp_path / "results/smoke/runs/scratch/en-es/1min/seed1/curve.parquet").to_pydict()
    assert curve["step"] == [1, 2, 3]
