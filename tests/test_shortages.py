"""Too little disk or memory: what a job says of it in its log."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from small_disk import remount, small_disk

from headstart.files import UnwritableError, written_whole
from headstart.shortages import shortage

ROOT = Path(__file__).parent.parent


def with_bytes(path: Path) -> None:
    path.write_bytes(bytes(300_000))


def with_pyarrow(path: Path) -> None:
    pq.write_table(pa.table({"a": os.urandom(300_000).hex().split("0")}), path)


def with_arrow(path: Path) -> None:
    schema = pa.schema([("a", pa.int64())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table({"a": range(50_000)}))


def with_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(100_000)}, path)


WRITERS = [with_bytes, with_pyarrow, with_arrow, with_safetensors]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_does_not_fit_on_the_disk_is_named(write, tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=100) as disk:
        (disk / "a").write_text("older")
        with pytest.raises(UnwritableError, match=rf"{disk}/a: cannot be written: the disk is full; free some space"):
            with written_whole(disk / "a") as temporary:
                write(temporary)
        assert [path.name for path in disk.iterdir()] == ["a"]  # no rest takes what space there is
        assert (disk / "a").read_text() == "older"
        remount(disk, "ro")
        with pytest.raises(UnwritableError, match=rf"{disk}/a: cannot be written: the disk is read-only"):
            with written_whole(disk / "a") as temporary:
                write(temporary)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "too little memory (MemoryError). Give the job more memory"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: 99 bytes"), "too little memory"),
        (RuntimeError("can't start new thread"), "too little memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "too little memory (ImportError"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "too little memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "too little memory (OutOfMemoryError"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: the disk is full; free some space, and run again"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "your quota on this disk is used up"),
        (KeyError("memory"), None),
        (OSError(errno.ENOENT, "No such file"), None),
        (ImportError("libfoo.so: cannot open shared object file: No such file or directory"), None),
    ],
)
def test_what_was_lacking_is_said_and_nothing_else_is_taken_for_it(error, words, caplog):
    said = shortage(error)
    assert said is None if words is None else said.startswith(words)


@pytest.mark.parametrize("megabytes", [300, 1500])
def test_a_job_with_too_little_memory_says_so_in_its_log(megabytes, tmp_path):
    """At whatever import or allocation it fails, the log has one line and no traceback."""
    job = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))\n"
    job += f"from headstart.logs import log_to\nlog_to({str(tmp_path / 'log')!r})\n"
    job += "import headstart.training.launch\nimport torch\ntorch.ones(1 << 30)\n"
    run = subprocess.run([sys.executable, "-c", job], capture_output=True, text=True)
    log = (tmp_path / "log").read_text()
    assert run.returncode == 1 and "Traceback" not in log, log
    assert "too little memory (" in log and "mem_mb in the profile" in log


def test_every_script_opens_its_log_before_anything_that_may_not_load():
    scripts = sorted((ROOT / "workflow/scripts").glob("*.py"))
    assert len(scripts) == 18
    for script in scripts:
        assert script.read_text().startswith("from headstart.logs import log_to\n\nlog_to(snakemake.log[0])\n"), script
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys; before = set(sys.modules); import headstart.logs\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"numpy", "torch", "pyarrow", "safetensors"} & set(loaded)


def test_an_interruption_is_one_line(tmp_path):
    job = f"from headstart.logs import log_to\nlog_to({str(tmp_path / 'log')!r})\nraise KeyboardInterrupt"
    subprocess.run([sys.executable, "-c", job], capture_output=True)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("ERROR interrupted (Ctrl-C); run Snakemake again, which goes on")
    logging.shutdown()
