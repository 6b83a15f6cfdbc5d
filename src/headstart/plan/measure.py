"""Measures what jobs cost on this machine, by running the real stages for a few updates.

    python -m headstart.plan.measure TASK.json

runs one task in a folder of its own and prints what it took as JSON. `measured` starts as many of these side by side as
jobs will run, since jobs on one machine slow one another down.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.errors import HeadstartError
from headstart.files import read_json
from headstart.jobs import TRAINING, CorpusHours, LanguageModelFiles, SplitFiles, TrainingJob
from headstart.study.study import Study

# Updates of a measurement, of which the first half does not count, and seconds of audio in a batch: (fewest, most).
UPDATES, BATCH = (6, 40), (20.0, 60.0)
# Multiplications of the forward passes of a measurement. Larger encoders are measured with less audio: the default
# study's gets the most of both, wav2vec 2.0 Base the fewest, or it would take most of an hour on two cores.
MULTIPLICATIONS = 2.5e11
CORPUS = {"reader": "synthetic", "language": "en", "hours": {"train": 0.04, "dev": 0.005, "test": 0.01}}


def measured(
    study: Study, kinds: dict[str, tuple[TrainingJob, str | None]], copies: int, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """What each kind of training job costs, and its scoring and analysis; and the stages before them, as `data`.

    Args:
        kinds: kind -> a job of it, and the checkpoint folder that its encoder descends from.
        copies: jobs that run side by side.
        say: is called with what is being measured.

    Raises:
        HeadstartError: a measurement failed.
    """
    with tempfile.TemporaryDirectory(prefix="headstart-plan-") as folder:
        say("synthesis and features")
        costs = {"data": _mean(_run([{"folder": f"{folder}/{i}", "task": "data"} for i in range(copies)]))}
        for number, (kind, (job, root)) in enumerate(kinds.items(), 1):
            say(f"{job.stage}, kind {number} of {len(kinds)}")
            language_model = study.decoding.language_model
            task = {
                "task": "training",
                "stage": job.stage,
                "job": job.plain(),
                "root": str(Path(root).resolve()) if root else None,
                "model": study.model.model_dump(mode="json"),
                "language_model": language_model and language_model.model_dump(mode="json"),
                "analyse": study.analyse and study.analyse.model_dump(mode="json"),
                "probe": study.probe and study.probe.model_dump(mode="json"),
                "threads": study.threads,
            }
            costs[kind] = _mean(_run([{**task, "folder": f"{folder}/{i}"} for i in range(copies)]))
        return costs


def _run(tasks: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Run tasks side by side and return what they printed, with `start`: the seconds until the work began."""
    processes = []
    for task in tasks:
        folder = Path(task["folder"])
        folder.mkdir(exist_ok=True)
        file = folder / "task.json"
        file.write_text(json.dumps({**task, "began": time.time()}), encoding="utf-8")
        command = [sys.executable, "-m", "headstart.plan.measure", str(file)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    results = []
    try:
        for process in processes:
            output, errors = process.communicate()
            if process.returncode:
                last = errors.strip().splitlines()[-1] if errors.strip() else f"exit status {process.returncode}"
                raise HeadstartError(
                    f"the time of a job could not be measured: {last}. With --no-calibrate, the plan has no times"
                )
            results.append(json.loads(output.splitlines()[-1]))
    finally:  # the others would go on in a folder that is deleted
        for process in processes:
            process.kill()
            process.wait()
    return results


def _mean(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(result[key] for result in results) / len(results) for key in results[0]}


# ---------------------------------------------------------------------------------------------- one measurement


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.chdir(task["folder"])
    costs = _data(task) if task["task"] == "data" else _training(task)
    print(json.dumps({**costs, "memory": max(costs.get("memory", 0.0), _peak_memory())}))


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _data(task: dict[str, Any]) -> dict[str, float]:
    """Seconds and bytes for each second of audio of synthesis, features and clusters, and seconds of a light job.

    `resampler` is what synthesis takes before its first sentence: resampling imports torch.
    """
    from headstart.corpora.reading import read_corpus
    from headstart.corpora.registry import open_reader
    from headstart.corpora.synthetic.espeak import NATIVE_RATE
    from headstart.corpora.synthetic.resampling import resample
    from headstart.corpora.synthetic.synthesis import synthesise_corpus
    from headstart.features.audio import SAMPLE_RATE
    from headstart.features.clusters import cluster_clips
    from headstart.features.extraction import extract_features

    start = time.time() - task["began"]
    resample(np.zeros(NATIVE_RATE, np.float32), NATIVE_RATE, SAMPLE_RATE)
    began = time.time()
    corpus = SyntheticCorpus(**CORPUS)
    audio = sum(CORPUS["hours"].values()) * 3600
    synthesise_corpus("raw", **corpus.synthesis)
    synthesised = time.time()
    splits = ("train", "dev", "test")
    read_corpus(open_reader(corpus, "raw"), {s: (f"{s}.manifest.parquet", f"{s}.rejects.parquet") for s in splits})
    read = time.time()
    for split in splits:
        files = _files(split)
        extract_features(f"{split}.manifest.parquet", files.audio, files.features, f"{split}.features.rejects.parquet")
    extracted = time.time()
    train = _files("train")
    cluster_clips(train.features, train.audio, 2, "clusters.parquet")
    return {
        "start": start,
        "light": start + read - synthesised,
        "resampler": began - task["began"] - start,
        "synthesis": (synthesised - began) / audio,
        "features": (extracted - read) / audio,
        "clusters": (time.time() - extracted) / (CORPUS["hours"]["train"] * 3600),
        "raw_bytes": sum(path.stat().st_size for path in Path("raw").rglob("*") if path.is_file()) / audio,
        "feature_bytes": sum(os.path.getsize(_files(split).audio) for split in splits) / audio,
    }


def _files(split: str) -> SplitFiles:
    return SplitFiles(features=f"{split}.parquet", audio=f"{split}.arrow")


def _training(task: dict[str, Any]) -> dict[str, float]:
    """Seconds before the first update and for each update, the bytes of a checkpoint and of memory.

    A batch shorter than the job's is taken in proportion. For fine-tuning also what `_after` returns.
    """
    import torch

    from headstart.training.curve import read_curve
    from headstart.training.launch import run

    torch.set_num_threads(task["threads"])
    job = small(task)
    started, before = time.time(), _peak_memory()
    run(job, task["threads"])
    trained = time.time() - started
    curve = read_curve(Path(job.output, "curve.parquet"))
    wall = dict(zip(curve["step"].tolist(), curve["wall_s"].tolist(), strict=True))
    scale = task["job"]["settings"]["batch_seconds"] / job.settings.batch_seconds
    updates, warm = job.settings.updates, job.settings.log_every
    update = (wall[updates] - wall[warm]) / (updates - warm)
    size = float(sum(path.stat().st_size for path in Path(job.output).iterdir()))
    # Weights, gradients, the optimiser's moments (at most two) and the copies for the checkpoint do not grow with the
    # batch; what else training takes does.
    fixed = before + 6 * size
    costs = {
        "start": started - task["began"] + max(0.0, trained - updates * update),
        "updates": update * scale,
        "bytes": size,
        "memory": _peak_memory() + (scale - 1) * max(0.0, _peak_memory() - fixed),
    }
    return {**costs, **(_after(task, job) if task["stage"] == "finetune" else {})}


def small(task: dict[str, Any]) -> TrainingJob:
    """The task's job on the small corpus, for a few updates, in this folder."""
    values = json.loads(json.dumps(task["job"]))
    settings = values["settings"]
    updates, seconds = extent(multiplications(task), settings["batch_seconds"])
    settings |= {"updates": updates, "log_every": updates // 2, "batch_seconds": seconds}
    if "dev_minutes" in settings:
        settings["dev_minutes"] = 0.05
    values |= {"parent": task["root"], "model": None if task["root"] else task["model"]}
    if values.get("adapter"):
        values["adapter"] = None  # random weights cost the same
    values |= {"output": f"{task['stage']}", "state": f"{task['stage']}.state"}
    values.pop("select", None)
    corpus = CorpusHours(name="small", hours=0.016, train=_files("train"), dev=_files("dev")).model_dump(mode="json")
    other = {**corpus, "name": "other", "dev": None}
    if task["stage"] == "finetune":
        from headstart.subsets import draw_subset

        draw_subset("train.parquet", "60s", 0, "subset.parquet")
        values |= {"train": _files("train").model_dump(), "dev": _files("dev").model_dump(), "subset": "subset.parquet"}
    elif task["stage"] == "semisup":
        values |= {"labelled": [corpus], "unlabelled": [other] if values["unlabelled"] else []}
    else:
        values |= {"corpora": [{**corpus, "hours": 0.03}]}
    for name in (values["output"], values["state"]):
        shutil.rmtree(name, ignore_errors=True)
    return TRAINING[task["stage"]](**values)


def multiplications(task: dict[str, Any]) -> float:
    """Multiplications of the encoder's forward pass for each second of 16 kHz audio, without attention scores."""
    model = read_json(Path(task["root"], "config.json")) if task["root"] else task["model"]
    frames, channels, total = 16000.0, 1, 0.0
    convolutions = [model.get(key, ()) for key in ("conv_dim", "conv_kernel", "conv_stride")]
    if not convolutions[0]:  # log-mel features, two of 10 ms in a frame
        frames /= 320
    for width, kernel, stride in zip(*convolutions, strict=True):
        frames /= stride
        total += frames * channels * kernel * width
        channels = width
    layers = model["num_hidden_layers"] if task["root"] else model["layers"]
    return total + frames * layers * model["hidden_size"] * (4 * model["hidden_size"] + 2 * model["intermediate_size"])


def extent(cost: float, batch_seconds: float) -> tuple[int, float]:
    """Updates of a measurement, and seconds of audio in its batches.

    Args:
        cost: multiplications for each second of audio.
        batch_seconds: of the job that is measured.
    """
    audio = MULTIPLICATIONS / cost
    seconds = min(batch_seconds, max(BATCH[0], min(BATCH[1], audio / UPDATES[1])))
    return min(UPDATES[1], max(UPDATES[0], 2 * int(audio / seconds / 2))), seconds


def _after(task: dict[str, Any], job: TrainingJob) -> dict[str, float]:
    """What scoring, analysis and probes cost.

    `audio` and `score` are the seconds that greedy transcription and all of scoring take for each second of audio, and
    `first` what scoring takes before its first utterance. `analysis` is what the analysis takes for each run,
    `probe` what an update of a probe does.
    """
    from headstart.features.clips import Clips
    from headstart.jobs import AnalyseJob, ScoreJob
    from headstart.score.scoring import score_run

    seconds = Clips.open("test.parquet", "test.arrow").seconds
    files = {"text": task["job"]["text"], "run": job.output, "test": _files("test"), "output": "scores.parquet"}
    times = []
    for _ in range(2):  # the first time, there is more to import
        began = time.time()
        score_run(ScoreJob.of(**files))
        times.append(time.time() - began)
    costs = {"audio": times[1] / seconds, "score": times[1] / seconds, "first": max(0.0, times[0] - times[1])}
    if task["language_model"]:
        files |= {"language_model": _language_model(task), "dev": _files("dev")}
        began = time.time()
        score_run(ScoreJob.of(**files))
        costs["score"] = (time.time() - began) / seconds
    scored = time.time()
    if task["analyse"]:
        from headstart.analyse.analysis import analyse_start

        settings = {**task["analyse"], "minutes": seconds / 60}
        files = {"start": job.output, "runs": {1: job.output}, "test": _files("test")}
        analyse_start(AnalyseJob.of(**files, settings=settings, output="representation.parquet"))
        # What is not the encoders' is taken to be the same for each run, whatever the amount of audio.
        costs["analysis"] = max(0.0, time.time() - scored - 2 * seconds * costs["audio"])
    if task["probe"]:
        costs["probe"] = _probe(task, job, costs["audio"])
    return costs


def _probe(task: dict[str, Any], job: TrainingJob, audio: float) -> float:
    """Seconds of an update of the task's probes; `audio` is what the encoder takes for each second of audio."""
    from headstart.jobs import ProbeJob
    from headstart.probe.probing import probe_start

    settings = {**task["probe"], "updates": UPDATES[1], "seeds": 1}
    files = {"train": _files("train"), "dev": _files("dev"), "subsets": {1: "subset.parquet"}}
    start = {"starts": {1: job.output}, "model": None, "seed_offset": 0, "text": task["job"]["text"]}
    began = time.time()
    probe_start(ProbeJob.of(**files, **start, settings=settings, output="probe.parquet"))
    seconds = 60 + CORPUS["hours"]["dev"] * 3600  # of audio, for the budget's is 60 s
    return max(0.0, time.time() - began - seconds * audio) / UPDATES[1]


def _language_model(task: dict[str, Any]) -> LanguageModelFiles:
    """Train the task's language model on the small corpus."""
    from headstart.decode.language_model import train_language_model
    from headstart.jobs import LanguageModelJob

    written = LanguageModelFiles(arpa="language_model.arpa", recipe="language_model.json")
    splits = {split: _files(split).features for split in ("train", "dev")}
    settings = {"settings": task["language_model"], "text": task["job"]["text"], "files": [], "language": "en"}
    train_language_model(LanguageModelJob.of(**splits, **settings, output=written.arpa, recipe=written.recipe))
    return written


if __name__ == "__main__":
    main()
