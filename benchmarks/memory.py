"""Memory of a training job against the size of its corpora: 10 h, and 1000 h made by repetition.

Run alone with `python benchmarks/memory.py`; needs 1.2 GB of disk for temporary files, and Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from headstart.corpora.manifests import MANIFEST, write_table
from headstart.features.audio import SAMPLE_RATE
from headstart.features.extraction import extract_features
from headstart.jobs import PretrainJob
from headstart.pretrain import pretrain_start
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain

MODEL = Model(
    hidden_size=64,
    layers=2,
    heads=2,
    intermediate_size=128,
    conv_dim=(64, 64),
    position_kernel=8,
    position_groups=4,
    codebook_entries=16,
    codevector_size=32,
    projection_size=32,
)
RECORDING_SECONDS = 600.0


def make_corpus(folder: Path, hours: float) -> None:
    """Write `features.parquet` and `audio.arrow`: utterances of 2 to 8 s cut out of a recording of noise."""
    rng = np.random.default_rng(0)
    recording = folder / "noise.wav"
    samples = rng.integers(-3000, 3000, int(RECORDING_SECONDS * SAMPLE_RATE), dtype=np.int16)
    soundfile.write(recording, samples, SAMPLE_RATE, subtype="PCM_16")
    rows, seconds = [], 0.0
    while seconds < hours * 3600:
        duration = rng.uniform(2.0, 8.0)
        seconds += duration
        row = {
            "utterance_id": f"speaker{len(rows) % 97:03d}_utterance{len(rows):07d}",
            "audio_path": str(recording),
            "offset_s": rng.uniform(0, RECORDING_SECONDS - duration),
            "duration_s": duration,
            "speaker": f"speaker{len(rows) % 97:03d}",
            "language": "qu",
            "text": "achka runakuna " * round(duration),
        }
        rows.append(row)
    write_table(folder / "manifest.parquet", rows, MANIFEST)
    paths = (str(folder / name) for name in ("manifest.parquet", "audio.arrow", "features.parquet", "rejects.parquet"))
    extract_features(*paths)


def peak_memory(folder: Path, hours: float, copies: int, updates: int, threads: int) -> float:
    """Most resident memory, in MB, of a job that pre-trains on `copies` of the corpus in `folder`."""
    corpora = []
    for number in range(copies):
        paths = {"features": folder / f"{number}.parquet", "audio": folder / f"{number}.arrow"}
        for name, original in (("features", "features.parquet"), ("audio", "audio.arrow")):
            paths[name].unlink(missing_ok=True)
            paths[name].symlink_to(folder / original)
        files = {key: str(path) for key, path in paths.items()}
        corpora.append({"name": f"copy{number}", "hours": hours, "train": files})
    job = {"corpora": corpora, "updates": updates, "threads": threads, "output": str(folder / f"start{copies}")}
    job_output = subprocess.run(
        [sys.executable, __file__, "--job"], input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True
    )
    return float(job_output.stdout.split()[-1])


def run_job(job: dict[str, Any]) -> None:
    """Pre-train, and print the most memory that this process ever had resident, in MB."""
    torch.set_num_threads(job["threads"])
    settings = Pretrain(updates=job["updates"], batch_seconds=30.0, log_every=job["updates"])
    options = {"settings": settings, "model": MODEL, "parent": None, "seed": 0}
    paths = {"output": job["output"], "state": f"{job['output']}.state"}
    pretrain_start(PretrainJob.of(corpora=job["corpora"], **options, **paths))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024)


def rows(
    seconds: float = 0.0, threads: int = 1, hours: float = 10.0, copies: int = 100, updates: int = 30
) -> list[dict[str, Any]]:
    """One row: memory on `copies` times `hours` of audio against memory on `hours`. `seconds` plays no part."""
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder), hours)
        small, large = (peak_memory(Path(folder), hours, count, updates, threads) for count in (1, copies))
    name = f"resident memory, {hours * copies:g} h against {hours:g} h manifest"
    row = {"name": name, "ours": large, "peer": small, "ratio": large / small, "unit": "MB"}
    return [{**row, "peer_name": f"ours, {hours:g} h"}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=10.0, help="hours of the smaller corpus")
    parser.add_argument("--copies", type=int, default=100, help="times that the larger one holds it")
    parser.add_argument("--updates", type=int, default=30, help="updates of each job")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)  # what the two processes run
    arguments = vars(parser.parse_args())
    if arguments.pop("job"):
        run_job(json.load(sys.stdin))
    else:
        for row in rows(**arguments):
            difference = row["ours"] - row["peer"]
            print(f"{row['name']}: {row['ours']:.0f} and {row['peer']:.0f} {row['unit']}, difference {difference:.0f}")
