"""Training jobs in processes of their own, as the workflow starts them: killed, out of time, together, disk full."""

import json
import logging
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_disk import remount, small_disk
from test_memory_planning import Memory
from test_memory_planning import run as run_alone
from test_training import ctc

from headstart.features.clips import Clips
from headstart.files import read_json, write_json
from headstart.jobs import FinetuneJob, PretrainJob, SemisupJob
from headstart.logs import log_to
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Semisup
from headstart.study.text import Text
from headstart.subsets import draw_subset
from headstart.training import time_limit as walltime
from headstart.training.launch import claim, launch, read_job
from headstart.training.ranks import claim_devices

UPDATES = 120
MODEL = Model(
    hidden_size=32,
    layers=2,
    heads=2,
    intermediate_size=64,
    conv_dim=(32, 32),
    position_kernel=8,
    position_groups=4,
    codebook_entries=8,
    codevector_size=16,
    projection_size=16,
).model_dump()
LOOP = {"updates": UPDATES, "batch_seconds": 8.0, "log_every": 40, "save_minutes": 1e-9}


@pytest.fixture
def job(english, tmp_path):
    """A function that writes the job of a stage, with settings changed, and returns its file."""

    def write(stage: str, name: str, model: dict = MODEL, **settings) -> Path:
        folder = tmp_path / name
        common = {"output": str(folder), "state": str(tmp_path / f"{name}.state"), "seed": 5, "parent": None}
        common |= {"model": model, "text": Text()}
        if stage == "pretrain":
            common.pop("text")
            options = Pretrain(**{**LOOP, "crop_seconds": 1.0, "negatives": 10, **settings})
            corpora = [{"name": "en", "train": english["train"], "hours": 0.005}]
            written = PretrainJob.of(corpora=corpora, settings=options, **common)
        elif stage == "semisup":
            options = Semisup(**{**LOOP, "dev_minutes": 0.05, "min_confidence": 0.0, **settings})
            corpus = {"name": "en", "train": english["train"], "hours": 0.004}
            labelled = [{**corpus, "dev": english["dev"]}]
            written = SemisupJob.of(labelled=labelled, unlabelled=[corpus], settings=options, ssl=None, **common)
        else:
            subset = tmp_path / "subset.parquet"
            draw_subset(english["train"]["features"], "20s", 1, str(subset))
            options = Finetune(**{**LOOP, "dev_minutes": 0.05, **settings})
            splits = {"train": english["train"], "dev": english["dev"], "subset": str(subset)}
            written = FinetuneJob.of(settings=options, **splits, **common)
        write_json(folder.with_suffix(".json"), {"threads": 1, **written.plain()})
        return folder.with_suffix(".json")

    return write


# Processes are forked from one that has imported torch and transformers already, which takes many seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["headstart.pretrain", "headstart.semisup", "headstart.finetune", "transformers.models.wav2vec2.modeling_wav2vec2"]
)


def _launch(stage: str, job: Path, processes: int, environment: dict[str, str], largest_file: int | None) -> None:
    os.environ.update(environment)
    walltime._started = time.time()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    log_to(job.with_suffix(".log"), append=True)
    try:
        launch(*read_job(stage, job), processes, str(job.with_suffix(".log")))
    except Exception:
        sys.excepthook(*sys.exc_info())  # which a process that is not forked would call
        sys.exit(1)


def started(stage: str, job: Path, processes: int = 1, largest_file: int | None = None, **environment: str):
    job.with_suffix(".log").unlink(missing_ok=True)
    process = FORKS.Process(target=_launch, args=(stage, job, processes, environment, largest_file))
    process.start()
    return process


def finished(process, job: Path, status: int = 0) -> str:
    """The log of a job that has ended with this exit status."""
    process.join(300)
    log = job.with_suffix(".log").read_text()
    assert process.exitcode == status, log
    return log


def same(one: Path, other: Path) -> None:
    """Both runs ended with the same bits, and the same learning curve but for time."""
    a, b = (load_file(job.with_suffix("") / "model.safetensors") for job in (one, other))
    assert a.keys() == b.keys() and [name for name in a if not torch.equal(a[name], b[name])] == []
    a, b = (pq.read_table(job.with_suffix("") / "curve.parquet").drop_columns("wall_s") for job in (one, other))
    assert a.equals(b)


def saved_update(job: Path) -> int:
    """The update of the job's saved state; 0 when there is none."""
    try:
        content = (job.with_suffix(".state") / "state.safetensors").read_bytes()
    except FileNotFoundError:
        return 0
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["progress"])["update"]


def killed_at_random(stage: str, job, kills: int, **settings) -> None:
    """Kill a job at so many random moments of its training, let it finish, and compare it with one left in peace."""
    quiet, killed = job(stage, "quiet", **settings, save_minutes=1e9), job(stage, "killed", **settings)
    finished(started(stage, quiet), quiet)
    generator = random.Random(stage)
    for _ in range(kills):
        before = saved_update(killed)
        wanted = before + generator.uniform(0, 0.8 * UPDATES / kills)
        process = started(stage, killed)
        while saved_update(killed) <= wanted:
            assert process.is_alive(), killed.with_suffix(".log").read_text()
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and before < saved_update(killed) < UPDATES
    assert "resumed at update" in finished(started(stage, killed), killed)
    same(quiet, killed)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_job_killed_at_random_moments_ends_with_the_same_bits(stage, job):
    killed_at_random(stage, job, kills=2)


@pytest.mark.parametrize("objective", ["data2vec", "best-rq", "hubert"])
def test_so_does_one_with_a_teacher_or_codes_that_are_counted(objective, job):
    killed_at_random("pretrain", job, kills=1, objective=objective, hubert={"clusters": 16})


def test_so_does_one_with_pseudo_labels_that_are_kept_for_a_while(job):
    killed_at_random("semisup", job, kills=2, pseudo={"begin": 0.2}, cache_updates=7)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_job_killed_at_twenty_random_moments_ends_with_the_same_bits(stage, job, monkeypatch):
    monkeypatch.setattr(f"{__name__}.UPDATES", 1500)
    monkeypatch.setitem(LOOP, "updates", 1500)
    killed_at_random(stage, job, kills=20)


SOON = {walltime.MINUTES: "0.0001"}


def test_a_job_that_runs_out_of_time_says_so_and_goes_on_when_started_again(job):
    quiet, hurried = job("finetune", "quiet", updates=20), job("finetune", "hurried", updates=20)
    finished(started("finetune", quiet), quiet)
    output = finished(started("finetune", hurried, **SOON), hurried, status=walltime.EXIT_CODE)
    assert "the time limit is near; the state after update 1 of 20 is saved" in output
    slurm = started("finetune", hurried, SLURM_JOB_END_TIME=str(int(time.time()) + 1))
    assert "the state after update" in finished(slurm, hurried, status=walltime.EXIT_CODE)
    assert 1 < saved_update(hurried) < 20
    assert "resumed at update" in finished(started("finetune", hurried), hurried)
    same(quiet, hurried)


def asked_to_end(job: Path, processes: int = 1, number: int = signal.SIGTERM, name: str = "SIGTERM") -> None:
    """Send a job a signal when it has saved a state, and see that it saves once more and leaves."""
    before = saved_update(job)
    process = started("finetune", job, processes)
    while saved_update(job) <= before:
        assert process.is_alive(), job.with_suffix(".log").read_text()
        time.sleep(0.005)
    os.kill(process.pid, number)
    output = finished(process, job, status=walltime.EXIT_CODE)
    last = re.search(rf"asked to end \({name}\); the state after update (\d+) of {UPDATES} is saved", output)
    assert last and saved_update(job) == int(last[1]) < UPDATES


SIGNALS = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


def test_a_job_that_is_asked_to_end_saves_and_goes_on_when_started_again(job):
    quiet, asked = job("finetune", "quiet"), job("finetune", "asked")
    finished(started("finetune", quiet), quiet)
    for name, number in SIGNALS.items():
        before = saved_update(asked)
        asked_to_end(asked, number=number, name=name)
        assert before < saved_update(asked)
    saved = saved_update(asked)
    assert f"resumed at update {saved} of {UPDATES}" in finished(started("finetune", asked), asked)
    same(quiet, asked)


@pytest.mark.parametrize("name", SIGNALS)
def test_so_do_the_processes_of_a_job(name, job):
    asked_to_end(job("finetune", "asked"), processes=2, number=SIGNALS[name], name=name)


def test_a_job_that_still_runs_is_waited_for(job):
    """Its Snakemake was killed, and the next one starts the same job."""
    quiet, twice = job("pretrain", "quiet"), job("pretrain", "twice")
    finished(started("pretrain", quiet), quiet)
    first = started("pretrain", twice)
    while not saved_update(twice):
        assert first.is_alive(), twice.with_suffix(".log").read_text()
        time.sleep(0.005)
    second = FORKS.Process(target=_launch, args=("pretrain", twice, 1, {}, None))
    second.start()
    log = finished(second, twice)
    assert not first.is_alive() and first.exitcode == 0
    assert f"waiting for process {first.pid} on " in log and log.count("reused from") == 1
    same(quiet, twice)


def test_going_on_elsewhere_is_said_and_noted_in_the_recipe(job):
    """Here with another number of threads; another CPU, GPU or version of a library counts as much."""
    moved = job("finetune", "moved", updates=20)
    finished(started("finetune", moved, **SOON), moved, status=walltime.EXIT_CODE)
    write_json(moved, {**read_json(moved), "threads": 2})
    log = finished(started("finetune", moved), moved)
    assert "goes on from update 1 under other circumstances: threads 1, now 2. Its weights may differ" in log
    recipe = read_json(moved.with_suffix("") / "recipe.json")
    assert recipe["moved"] == [{"update": 1, "changes": ["threads 1, now 2"]}]
    assert recipe["machine"]["threads"] == 2 and recipe["versions"]["torch"] == torch.__version__.split("+")[0]


def test_a_job_runs_by_hand(job):
    by_hand = job("finetune", "run", updates=20)
    command = [sys.executable, "-m", "headstart.training.launch", "finetune", str(by_hand)]
    run = subprocess.run([*command, "--max-minutes", "0.0001"], capture_output=True, text=True)
    assert run.returncode == walltime.EXIT_CODE and "the state after update 1 of 20 is saved" in run.stderr
    run = subprocess.run([*command, "--max-minutes", "10"], capture_output=True, text=True)
    assert run.returncode == 0 and "resumed at update 1 of 20" in run.stderr
    assert re.search(r"update 20 of 20 \(100%\), .* audio-hours/s, ETA 0:00:00, .*train_loss .*dev_wer", run.stderr)


def test_a_changed_recipe_never_goes_on_from_an_old_state(job):
    old = job("finetune", "run", updates=20)
    finished(started("finetune", old, **SOON), old, status=walltime.EXIT_CODE)
    changed = job("finetune", "run", updates=20, learning_rate=2e-3)
    output = finished(started("finetune", changed), changed)
    assert "was saved by a job with other settings or data" in output and "resumed" not in output


def test_another_checkpoint_in_the_same_place_is_another_start(job, english, tmp_path):
    first = job("pretrain", "first", updates=2)
    finished(started("pretrain", first), first)
    checkpoint = first.with_suffix("")
    (checkpoint / "recipe.json").unlink()  # as of somebody else's
    tuned = job("finetune", "tuned", updates=20)
    write_json(tuned, {**read_json(tuned), "parent": str(checkpoint), "model": None})
    finished(started("finetune", tuned, **SOON), tuned, status=walltime.EXIT_CODE)
    weights = load_file(checkpoint / "model.safetensors")
    save_file({name: 1.01 * weight for name, weight in weights.items()}, checkpoint / "model.safetensors")
    output = finished(started("finetune", tuned), tuned)
    assert "was saved by a job with other settings or data" in output and "resumed" not in output


@pytest.mark.parametrize("stage", ["pretrain", "semisup", "finetune"])
def test_a_job_that_fails_after_its_last_update_has_nothing_to_train_again(stage, job):
    """Snakemake deletes the outputs of a job that has failed, whatever failed, and before it runs it again."""
    run = job(stage, "run", updates=10)
    finished(started(stage, run), run)
    output = run.with_suffix("")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for path in output.iterdir():
        path.unlink()
    log = finished(started(stage, run), run)
    assert "which was trained on the same data and settings" in log and "update" not in log
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    # With other settings, it trains.
    changed = job(stage, "run", updates=11)
    log = finished(started(stage, changed), changed)
    assert "update 11 of 11" in log and "reused from" not in log


def test_a_damaged_result_is_not_used_again(job):
    run = job("finetune", "run", updates=10)
    finished(started("finetune", run), run)
    good = (run.with_suffix("") / "model.safetensors").read_bytes()
    kept = run.with_suffix(".state") / "finished" / "model.safetensors"
    kept.unlink()
    kept.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    log = finished(started("finetune", run), run)
    assert f"{kept}: the file is damaged" in log and "update 10 of 10" in log
    assert (run.with_suffix("") / "model.safetensors").read_bytes() == good


def test_a_damaged_start_is_not_trained_on(job):
    first = job("pretrain", "first", updates=2)
    finished(started("pretrain", first), first)
    weights = first.with_suffix("") / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    tuned = job("finetune", "tuned", updates=20)
    write_json(tuned, {**read_json(tuned), "parent": str(first.with_suffix("")), "model": None})
    log = finished(started("finetune", tuned), tuned, status=1)
    assert f"{weights}: the file is damaged or was replaced" in log and "Traceback" not in log


def test_a_full_disk_leaves_the_last_good_state(job):
    quiet, full = job("pretrain", "quiet", updates=20), job("pretrain", "full", updates=20)
    finished(started("pretrain", quiet), quiet)
    finished(started("pretrain", full, **SOON), full, status=walltime.EXIT_CODE)
    state = full.with_suffix(".state") / "state.safetensors"
    good = state.read_bytes()

    # No file of this process may grow to the size of the state.
    process = started("pretrain", full, largest_file=len(good) - 4096, **SOON)
    output = finished(process, full, status=1)
    assert re.search(
        r"the state of update 2 could not be saved: .*: the file would be larger than .* may write", output
    )
    assert state.read_bytes() == good
    assert sorted(path.name for path in state.parent.iterdir()) == ["job.json", "lock", state.name]
    assert "resumed at update 1 of 20" in finished(started("pretrain", full), full)
    same(quiet, full)


def test_a_disk_that_is_full_at_the_end_of_training_is_said_and_nothing_is_lost(job, tmp_path):
    quiet, full = job("pretrain", "quiet", updates=20), job("pretrain", "full", updates=20, save_minutes=1e9)
    finished(started("pretrain", quiet), quiet)
    size = (quiet.with_suffix("") / "model.safetensors").stat().st_size
    with small_disk(tmp_path / "disk", kilobytes=size // 2048) as disk:
        places = {"output": str(disk / "full"), "state": str(disk / "full.state")}
        write_json(full, {**read_json(full), **places})
        log = finished(started("pretrain", full), full, status=1)
        assert re.search(rf"{disk}/.*/model.safetensors: cannot be written: the disk is full; free some space\n", log)
        assert "update 20 of 20" in log and "Traceback" not in log
        assert sorted(path.name for path in (disk / "full.state").iterdir()) == ["job.json", "lock"]
        remount(disk, "size=4m")
        finished(started("pretrain", full), full)
        shutil.copytree(disk / "full", full.with_suffix(""))
    same(quiet, full)


@pytest.mark.parametrize(
    "objective", ["wav2vec2", "data2vec", "best-rq", "hubert", "ctc", "ctc by muon", "pseudo-labels"]
)
def test_two_processes_train_as_one(objective, job):
    stage = {"ctc": "finetune", "ctc by muon": "finetune", "pseudo-labels": "semisup"}.get(objective, "pretrain")
    settings = {"updates": 8, "log_every": 2, "precision": "float32", "dropout": 0.0}
    if stage == "pretrain":
        settings |= {"freeze_quantiser": 0.0, "objective": objective, "hubert": {"clusters": 16}}
    settings |= {"pseudo": {"begin": 0.25}, "cache_updates": 2, "guard_every": 2} if stage == "semisup" else {}
    settings |= {"optimiser": "muon"} if objective == "ctc by muon" else {}
    one, two = job(stage, "one", **settings), job(stage, "two", **settings)
    finished(started(stage, one), one)
    finished(started(stage, two, processes=2), two)
    assert read_json(two.with_suffix("") / "recipe.json")["machine"]["processes"] == 2
    a, b = (pq.read_table(run.with_suffix("") / "curve.parquet").to_pydict() for run in (one, two))
    assert a.keys() == b.keys()
    for name in a.keys() - {"wall_s"}:
        # Of a part's last frames, a product or two is left out.
        ours, theirs = (np.array(curve[name], dtype=float) for curve in (b, a))  # a value that there is not is NaN
        assert ours == pytest.approx(theirs, rel=1e-2 if name == "flops" else 1e-4, nan_ok=True), name
    a, b = (load_file(run.with_suffix("") / "model.safetensors") for run in (one, two))
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-3, atol=2e-5, msg=name)


def _one_of_two(rank: int, port: int, model: Model, files: tuple[str, str], folder: Path) -> None:
    """Fine-tune as one of two processes; the second runs out of memory in updates 3 and 4, where it has two clips."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    logging.basicConfig(filename=folder / f"{rank}.log", level="INFO", force=True)
    objective = ctc(model, Clips.open(*files), **SPLIT)
    if rank == 1:
        Memory(objective, "backward", 1, 3)
    result = run_alone(objective, folder)
    save_file(result.weights, folder / f"{rank}.safetensors", metadata={"parts": str(result.parts)})


SPLIT = {"updates": 6, "log_every": 2, "batch_seconds": 6.0, "dropout": 0.0}


def test_all_processes_split_a_batch_when_one_of_them_must(tiny_model, noise_clips, tmp_path):
    """They end as a single process with enough memory does."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port = server.getsockname()[1]
    (split,) = noise_clips.splits
    given = (port, tiny_model, (str(split.features), str(split.audio.path)), tmp_path)
    processes = [FORKS.Process(target=_one_of_two, args=(rank, *given)) for rank in (0, 1)]
    for process in processes:
        process.start()
    alone = run_alone(ctc(tiny_model, noise_clips, **SPLIT), tmp_path / "alone").weights
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    logs = [(tmp_path / f"{rank}.log").read_text() for rank in (0, 1)]
    assert "does not fit into memory (in another process)" in logs[0] and "memory (CUDA out of memory" in logs[1]
    for rank in (0, 1):
        with safe_open(tmp_path / f"{rank}.safetensors", framework="pt") as file:
            assert int(file.metadata()["parts"]) > 1
            for name, weight in alone.items():
                torch.testing.assert_close(file.get_tensor(name), weight, rtol=1e-3, atol=2e-5, msg=name)


def test_the_exit_status_of_a_process_is_that_of_the_launcher(job):
    run = job("finetune", "run", updates=20)
    finished(started("finetune", run, processes=2, **SOON), run, status=walltime.EXIT_CODE)
    assert saved_update(run) == 1


def test_a_job_takes_one_of_the_devices_of_an_allocation(monkeypatch):
    """A job of Slurm's own has what it needs; several side by side in one allocation share its devices out."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    claimed = []
    monkeypatch.setattr(
        "headstart.training.ranks.claim_devices", lambda *given: claimed.append(given) or given[1][: given[0]]
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    claim(2)
    assert not claimed and os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    claim(1)
    assert claimed == [(1, ["2", "3"])] and os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def _claim(folder: Path, count: int, got, done) -> None:
    got.put(claim_devices(count, ["0", "1"], folder, poll_s=0.05))
    done.wait()


def test_jobs_side_by_side_take_different_devices_and_wait_for_a_free_one(tmp_path):
    fork = multiprocessing.get_context("fork")
    got = fork.Queue()
    jobs = [(fork.Event(), count) for count in (1, 1, 2)]
    processes = [fork.Process(target=_claim, args=(tmp_path, count, got, done), daemon=True) for done, count in jobs]
    for process in processes[:2]:
        process.start()
    assert sorted(got.get(timeout=30) for _ in range(2)) == [["0"], ["1"]]
    processes[2].start()
    jobs[0][0].set()
    processes[0].join(30)
    time.sleep(0.3)
    assert got.empty()  # one of its two devices is still taken
    os.kill(processes[1].pid, signal.SIGKILL)  # a claim ends with its process, however that ends
    assert got.get(timeout=30) == ["0", "1"]
    jobs[2][0].set()
    processes[2].join(30)
