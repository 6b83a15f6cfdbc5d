"""Random kills of the smoke study, unattended: whatever is killed and when, the results are those of a quiet run.

Not part of other runs, because it takes half an hour:

    make test ARGS="-m kills -n 0"          100 kills; HEADSTART_KILLS=10 and HEADSTART_KILLS_SEED=7 change that

Each kill is a SIGKILL for one process of the tree: Snakemake, a job, a shell between them or a decoder. What goes on
without its Snakemake is left alone, so that the next Snakemake meets jobs of the last one that still run. Kills are
some seconds of the processor apart, and not of the clock, so that a study gets on under any load. After the last kill
of a study Snakemake runs to its end, the results are compared with those of a quiet run beside it, and the next study
begins in a new folder.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("HEADSTART_KILLS", "100"))
SEED = int(os.environ.get("HEADSTART_KILLS_SEED", "0"))
KILLS_A_STUDY = 50
SECONDS = (1.0, 12.0)  # of the processor, between two kills
TRIES = 20  # runs of Snakemake after the last kill
TIMES = {  # keys of the summary; `p_adjusted` depends on the claims about seconds, too
    "seconds", "wall_s", "pretraining_seconds", "share_of_pretraining", "times", "p_adjusted", "recipe", "digest"
}  # fmt: skip
# The operations of an update are counted once for each shape of a batch and again after a resumption, where another
# batch of that shape may have a few masked frames more: they differ by less than a thousandth.
TIMED = ("wall_s", "seconds", "flops")  # columns


def command(folder: Path, *arguments: str) -> list[str]:
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*snakemake, "--configfile", str(folder / "study.yaml"), "--cores", "2", *arguments]


def start(folder: Path) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    with (folder / "snakemake.log").open("ab") as log:
        # A lock of a Snakemake that was killed would stop the next one.
        subprocess.run(command(folder, "--unlock"), stdout=log, stderr=log, env=environment, check=True)
        return subprocess.Popen(command(folder), stdout=log, stderr=log, env=environment)


def new_folder(folder: Path) -> Path:
    """A folder with the smoke study, whose training jobs save their states all the time."""
    folder.mkdir()
    study = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    for stage in ("pretrain", "semisup", "finetune"):
        study[stage]["save_minutes"] = 0.001
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder


def stage(process: psutil.Process) -> str:
    """What a process of the tree does: the name of a rule, `snakemake`, `a decoder` or `a shell`."""
    line = " ".join(process.cmdline())
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        if script.name in line:
            return script.stem if "python" in process.name() else f"the shell of {script.stem}"
    return "a decoder" if "headstart.workers" in line else "snakemake" if "snakemake" in line else "another"


def kill_one(snakemake: subprocess.Popen, choice: random.Random) -> str | None:
    """Kill Snakemake or one of its descendants; returns what it did, or None when there was nothing to kill."""
    try:
        root = psutil.Process(snakemake.pid)
        below = [process for process in root.children(recursive=True) if process.status() != psutil.STATUS_ZOMBIE]
        victim = choice.choice(below) if below and choice.random() < 0.7 else root
        what = stage(victim)
        victim.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return None
    return what


def processor_seconds(snakemake: subprocess.Popen) -> float:
    """What Snakemake and its descendants have used of the processor."""
    used = 0.0
    try:
        root = psutil.Process(snakemake.pid)
        for process in (root, *root.children(recursive=True)):
            used += sum(process.cpu_times()[:4])  # its own, and that of the children it has waited for
    except psutil.NoSuchProcess:
        pass
    return used


def ends_before(snakemake: subprocess.Popen, seconds: float) -> bool:
    """Wait until Snakemake ends, or has used so much of the processor; returns which."""
    limit = processor_seconds(snakemake) + seconds
    while snakemake.poll() is None:
        if processor_seconds(snakemake) > limit:
            return False
        time.sleep(0.1)
    return True


def run_with_kills(folder: Path, kills: int, choice: random.Random) -> Counter[str]:
    """Run the study until it is finished, with so many kills; returns what was killed how often."""
    killed: Counter[str] = Counter()
    tries = 0
    snakemake = start(folder)
    while True:
        if killed.total() < kills and not ends_before(snakemake, choice.uniform(*SECONDS)):
            if what := kill_one(snakemake, choice):
                killed[what] += 1
                print(f"{time.strftime('%H:%M:%S')} {folder.name}: kill {killed.total()}: {what}", flush=True)
            continue
        if snakemake.wait() == 0:
            return killed
        tries += killed.total() >= kills
        assert tries <= TRIES, (folder / "snakemake.log").read_text()[-4000:]
        snakemake = start(folder)


def without_times(value):
    """A part of the summary without what depends on how long things took."""
    if isinstance(value, dict):
        if "seconds" in (value.get("metric"), value.get("quantity")) or value.get("metric") == "time":
            return None
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def content(path: Path):
    """What has to be the same in a result, whenever it was made."""
    if path.name == "summary.json":
        return without_times(json.loads(path.read_text()))
    if path.name == "recipe.json":
        recipe = json.loads(path.read_text())
        # With times: the curve, whose hash is among `files`, and what the parent's recipe says of its own training.
        return {key: recipe[key] for key in ("stage", "version", "settings", "seed", "data", "weights")}
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table.drop_columns([name for name in TIMED if name in table.column_names])
    if path.suffix == ".arrow":
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return path.read_bytes()


def compared(folder: Path) -> dict[Path, Path]:
    """The files of a finished study whose content must not depend on interruptions."""
    names = ("*.parquet", "*.arrow", "*.safetensors", "recipe.json", "vocab.json", "config.json", "*.arpa")
    found = [path for top in ("data", "results") for name in names for path in (folder / top).rglob(name)]
    found += [folder / "results/smoke/summary.json", folder / "results/smoke/metrics.json"]
    return {path.relative_to(folder): path for path in found if ".state" not in path.parts}


def differences(folder: Path, quiet: Path) -> list[str]:
    """The files of a study that are not those of the quiet one; also those that were found to be damaged."""
    found, expected = compared(folder), compared(quiet)
    names = sorted(name for name in found.keys() | expected.keys())
    damaged = [str(path) for path in folder.rglob("*.broken")]
    return damaged + [
        str(name)
        for name in names
        if name not in found or name not in expected or content(found[name]) != content(expected[name])
    ]


@pytest.mark.kills
def test_a_hundred_random_kills_change_nothing(tmp_path):
    choice = random.Random(SEED)
    quiet = new_folder(tmp_path / "quiet")
    undisturbed = start(quiet)
    killed: Counter[str] = Counter()
    studies = 0
    while killed.total() < KILLS:
        folder = new_folder(tmp_path / f"study{studies}")
        killed += run_with_kills(folder, min(KILLS_A_STUDY, KILLS - killed.total()), choice)
        studies += 1
        assert undisturbed.wait() == 0, (quiet / "snakemake.log").read_text()[-4000:]
        assert len(compared(quiet)) > 100
        assert differences(folder, quiet) == []
        print(f"{studies} studies, {killed.total()} kills, no difference: {dict(killed)}", flush=True)
        shutil.rmtree(folder)
