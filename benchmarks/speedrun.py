"""How much processor time a start takes until it is as good as a given one, by each way of pre-training.

A start is pre-trained from random weights on the untranscribed audio of the default study, and fine-tuned on 3 minutes
of Indonesian, which is not in that audio. Each way, a branch, has several numbers of updates, each a training of its
own with its own schedule, with several seeds. The level is the dev CER that the reference branch reaches with its
longest pre-training. The answer is the time after which another branch reaches it, interpolated between its lengths on
the logarithm of time. Random weights, which are fine-tuned as they are, are the first length of all branches.

Time is processor time of pre-training and fine-tuning, so that other work on the machine matters little. Encoders have
the shape of the shipped starts, and spans of masked frames their length.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from child import call

from headstart.files import write_json
from headstart.study.reading import load_study

HOURS = {"en": 0.3, "es": 0.3}  # of the default study's corpora, whose other languages have little audio
TARGET, MINUTES, DEV_HOURS = "id", 3.0, 0.05
FINETUNE = {"updates": 300, "batch_seconds": 8.0, "learning_rate": 3e-3, "dropout": 0.0, "mask_time_share": 0.05}
MODEL, PRETRAIN = {"conv_stride": [160, 3]}, {"mask_length": 6}
RANDOM = "random weights"
BRANCHES = {
    "wav2vec2": {"objective": "wav2vec2"},
    "wav2vec2, shifts": {"objective": "wav2vec2", "shifts": 16},
    "wav2vec2, muon": {"objective": "wav2vec2", "optimiser": "muon"},
    "hubert": {"objective": "hubert"},
    "hubert, shifts": {"objective": "hubert", "shifts": 16},
    "hubert, one codebook": {"objective": "hubert", "hubert": {"codebooks": 1, "clusters": 100}},
    "best-rq": {"objective": "best-rq"},
    "data2vec": {"objective": "data2vec"},
}


def prepare(folder: str, study: str) -> dict[str, Any]:
    """Make the corpora as the study does, and return the paths of the files of their splits."""
    from headstart.corpora.reading import read_corpus
    from headstart.corpora.registry import open_reader
    from headstart.corpora.synthetic.synthesis import synthesise_corpus
    from headstart.features.extraction import extract_features

    corpora, found = load_study(study).corpora, {}
    for name in (*HOURS, TARGET):
        corpus, place = corpora[name], Path(folder) / name
        hours = {"train": HOURS[name] * 1.02 if name in HOURS else 1.1 * MINUTES / 60}
        hours |= {"dev": 0.003 if name in HOURS else DEV_HOURS, "test": 0.003}
        synthesise_corpus(place / "raw", **{**corpus.synthesis, "hours": hours})
        splits = {split: (str(place / f"{split}.m"), str(place / f"{split}.mr")) for split in hours}
        read_corpus(
            open_reader(corpus.model_copy(update={"hours": type(corpus.hours)(**hours)}), place / "raw"), splits
        )
        found[name] = {}
        for split, (manifest, _) in splits.items():
            files = {"features": str(place / f"{split}.parquet"), "audio": str(place / f"{split}.arrow")}
            extract_features(manifest, **files, rejects=str(place / f"{split}.rejects"))
            found[name][split] = files
    return found


def run(
    files: dict[str, Any],
    settings: dict[str, Any],
    finetune: dict[str, Any],
    model: dict[str, Any],
    updates: int,
    seed: int,
    folder: str,
) -> dict[str, Any]:
    """Pre-train and fine-tune once: processor seconds of both, and dev CER of the fine-tuned run.

    Without updates, the run begins with random weights.
    """
    import time

    import pyarrow.parquet as pq
    import torch

    from headstart.finetune import finetune_run
    from headstart.jobs import FinetuneJob, PretrainJob
    from headstart.pretrain import pretrain_start
    from headstart.study.finetune import Finetune
    from headstart.study.model import Model
    from headstart.study.pretrain import Pretrain
    from headstart.study.text import Text
    from headstart.subsets import draw_subset

    shape, place, seconds = Model(**model), Path(folder), 0.0
    if updates:
        options = Pretrain(**PRETRAIN, **settings, updates=updates, log_every=updates, save_minutes=1e6)
        corpora = [{"name": name, "hours": hours, "train": files[name]["train"]} for name, hours in HOURS.items()]
        paths = {"output": str(place / "start"), "state": str(place / "start.state")}
        job = PretrainJob.of(corpora=corpora, settings=options, model=shape, parent=None, seed=seed, **paths)
        began = time.process_time()
        pretrain_start(job)
        seconds = time.process_time() - began
    subset = str(place / "subset.parquet")
    draw_subset(files[TARGET]["train"]["features"], f"{MINUTES:g}min", seed, subset)
    given = {**FINETUNE, **finetune}
    options = Finetune(**given, log_every=given["updates"], dev_minutes=3.0, save_minutes=1e6)
    paths = {"output": str(place / "run"), "state": str(place / "run.state"), "subset": subset}
    parent = str(place / "start") if updates else None
    began = time.process_time()
    finetune_run(
        FinetuneJob.of(
            train=files[TARGET]["train"], dev=files[TARGET]["dev"], settings=options, text=Text(), parent=parent,
            model=None if updates else shape, seed=seed, **paths,
        )
    )  # fmt: skip
    cer = pq.read_table(place / "run" / "curve.parquet")["dev_cer"].to_pylist()[-1]
    fine_tuning = time.process_time() - began
    return {"cer": cer, "seconds": seconds, "finetune_seconds": fine_tuning, "threads": torch.get_num_threads()}


def seconds_to(level: float, points: list[tuple[float, float]]) -> float | None:
    """The time at which a curve of (seconds, CER) first falls to a level; None if it does not.

    Between two points, CER is taken to change linearly with the logarithm of time. A curve that begins below the level
    gives the time of its first point, which is then the most that it can be.
    """
    before: tuple[float, float] | None = None
    for seconds, cer in sorted(points):
        if cer <= level:
            if before is None:
                return seconds
            share = (before[1] - level) / (before[1] - cer)
            return math.exp(math.log(before[0]) + share * (math.log(seconds) - math.log(before[0])))
        before = (seconds, cer)
    return None


def interval(values: list[float]) -> str:
    """A mean, with the 95 % interval of Student's t where there are two values or more."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3g} (one seed)"
    reach = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3g} ± {reach:.2g}"


def summary(rows: list[dict[str, Any]], reference: str, level: float | None) -> str:
    """A Markdown table: for each branch and length the dev CER, and the time to the level."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["updates"]):
        found.setdefault((row["branch"], row["updates"]), []).append(row)
    if level is None:
        longest = max(updates for branch, updates in found if branch == reference)
        level = statistics.fmean(row["cer"] for row in found[reference, longest])
    lines = ["| branch | updates | CPU s | of fine-tuning | dev CER, % | seeds |", "|---|---|---|---|---|---|"]
    for (branch, updates), runs in found.items():
        seconds, last = (statistics.fmean(row[key] for row in runs) for key in ("seconds", "finetune_seconds"))
        errors = interval([100 * row["cer"] for row in runs])
        lines.append(f"| {branch} | {updates} | {seconds + last:.0f} | {last:.0f} | {errors} | {len(runs)} |")
    lines.append(f"\nLevel: {100 * level:.1f} % dev CER.\n")
    for branch in dict.fromkeys(branch for branch, updates in found if updates):
        times = []
        for seed in dict.fromkeys(row["seed"] for row in rows):
            own = [row for row in rows if row["branch"] in (branch, RANDOM) and row["seed"] == seed]
            times.append(seconds_to(level, [(row["seconds"] + row["finetune_seconds"], row["cer"]) for row in own]))
        reached = [time for time in times if time is not None]
        shown = f"{interval(reached)} CPU s" if reached else "not reached"
        lines.append(f"- {branch}: {shown}; reached with {len(reached)} of {len(times)} seeds")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branches", nargs="+", choices=BRANCHES, default=["wav2vec2", "wav2vec2, shifts", "hubert"])
    parser.add_argument(
        "--updates", nargs="+", type=int, default=[225, 450, 900], help="lengths (default: 225 450 900)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each length (default: 3)")
    parser.add_argument("--reference", default="wav2vec2", help="whose longest pre-training sets the level")
    parser.add_argument("--level", type=float, help="the level itself, as a share")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side (default: 2)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each (default: 1)")
    parser.add_argument("--study", default="config/config.yaml", help="study whose corpora are taken")
    parser.add_argument("--model", type=json.loads, default=MODEL, help="keys of the model that differ, as JSON")
    parser.add_argument("--finetune", type=json.loads, default={}, help="keys of fine-tuning that differ, as JSON")
    parser.add_argument("--output", type=Path, default=Path("results/speedrun.json"), help="default: %(default)s")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = call("speedrun", "prepare", options.threads, folder=folder, study=options.study)
        plan = [(RANDOM, 0)]
        plan += [(branch, updates) for updates in options.updates for branch in options.branches]

        def one(seed: int, branch: str, updates: int) -> dict[str, Any]:
            place = Path(folder) / f"{branch}-{updates}-{seed}".replace(" ", "")
            place.mkdir()
            given = {"settings": BRANCHES.get(branch, {}), "finetune": options.finetune, "model": options.model}
            given |= {"files": files, "updates": updates, "seed": seed, "folder": str(place)}
            found = call("speedrun", "run", options.threads, **given)
            return {"branch": branch, "updates": updates, "seed": seed, "finetune": options.finetune, **found}

        with ThreadPoolExecutor(options.jobs) as pool:
            # All branches with the first seed come first, so that a run that is cut off has all of them.
            waiting = [pool.submit(one, seed, *what) for seed in range(1, options.seeds + 1) for what in plan]
            for job in as_completed(waiting):
                rows.append(job.result())
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                write_json(options.output, rows)
    print(summary(rows, options.reference, options.level))


if __name__ == "__main__":
    main()
