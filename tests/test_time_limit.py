"""When a job has to stop: what Slurm says, in its environment or by `squeue`, what the user says, and SIGTERM."""

import subprocess
import sys
import time
from datetime import datetime

import pytest

from headstart.training import time_limit as walltime
from headstart.training.time_limit import Limit, slurm_end

END = "2030-01-02T03:04:05"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A function that puts a `squeue` of these lines of shell first on PATH, in job 17 of a Slurm like 22.05."""
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv(walltime.MINUTES, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(script: str) -> None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)

    return write


@pytest.mark.parametrize(
    "lines",
    [f"17 {END}", f"18 2031-01-01T00:00:00\n17 {END}\n19 NONE"],
    ids=["a job", "a job whose number is also that of its array"],
)
def test_the_end_of_a_slurm_job_is_asked_for_where_the_environment_does_not_have_it(lines, squeue, tmp_path):
    squeue(f'echo "$* $SLURM_TIME_FORMAT" > {tmp_path}/asked\ncat <<END\n{lines}\nEND')
    assert slurm_end() == datetime(2030, 1, 2, 3, 4, 5).timestamp()
    assert (tmp_path / "asked").read_text() == "--noheader --jobs=17 --format=%A %e standard\n"


def test_the_environment_comes_first(squeue, monkeypatch):
    squeue("exit 1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1893553445")
    assert slurm_end() == 1893553445


def test_outside_slurm_nothing_is_asked(squeue, monkeypatch, tmp_path):
    squeue(f"touch {tmp_path}/asked")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert slurm_end() is None and not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 17 NONE", "NONE"),
        ("echo 17 N/A", "N/A"),
        ("echo 17 UNLIMITED", "UNLIMITED"),
        ("true", "squeue does not list it"),
        ("echo 17", "Invalid isoformat string: ''"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "Invalid job id specified"),
        ("exec sleep 60", "timed out after 0.2 seconds"),
        (None, "No such file or directory: 'squeue'"),
    ],
    ids=["none", "not applicable", "unlimited", "empty", "no time", "failing", "hanging", "missing"],
)
def test_a_limit_that_cannot_be_found_is_none_and_said_once(script, reason, squeue, monkeypatch, caplog):
    monkeypatch.setattr(walltime, "SQUEUE_S", 0.2 if "sleep" in str(script) else 30.0)
    monkeypatch.setenv("PATH", "/nowhere") if script is None else squeue(script)
    with caplog.at_level("INFO"):
        limit = Limit()
    assert limit.end is None and not limit.near()
    (message,) = caplog.messages
    assert message.startswith("the time limit of Slurm's job 17 could not be found: ") and reason in message


def test_the_sooner_of_two_limits_holds(squeue, monkeypatch):
    squeue(f"echo 17 {END}")
    monkeypatch.setenv(walltime.MINUTES, "10")
    assert Limit().end == pytest.approx(walltime._started + 600)
    monkeypatch.setattr(walltime, "_started", time.time())
    squeue(f"echo 17 {datetime.fromtimestamp(int(time.time()) + 300).isoformat()}")
    assert Limit().end == pytest.approx(time.time() + 300, abs=3)


def ended(*lines: str) -> tuple[int, str]:
    """Exit status and last line of errors of a process that is to save when it is asked to end."""
    script = "import os, signal, sys, time\nfrom headstart.training import time_limit\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background of a script
    run = subprocess.run([sys.executable, "-c", script + "\n".join(lines)], timeout=30, capture_output=True, text=True)
    return run.returncode, (run.stdout + run.stderr).strip().rpartition("\n")[2]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_before_a_job_has_anything_to_save_it_ends_at_once(number):
    kill = f"os.kill(os.getpid(), signal.{number})"
    assert ended("time_limit.save_when_asked()", kill, "time.sleep(60)") == (walltime.EXIT_CODE, "")


def test_a_second_ctrl_c_ends_a_job_at_once_unless_it_is_an_echo_of_the_first():
    lines = ["time_limit.save_when_asked()", "limit = time_limit.Limit()", "os.kill(os.getpid(), signal.SIGINT)"]
    shown = "print(limit.near(), limit.reason)"
    assert ended(*lines, lines[-1], shown) == (0, "True this job was asked to end (Ctrl-C)")
    status, error = ended(*lines, "time_limit.IMPATIENT_S = 0", "time.sleep(0.01)", lines[-1], shown)
    assert error == "KeyboardInterrupt" and status != 0


def test_a_signal_that_was_ignored_stays_so():
    """As of a Snakemake in the background of a script, which a Ctrl-C at the terminal does not mean."""
    lines = ["signal.signal(signal.SIGINT, signal.SIG_IGN)", "time_limit.save_when_asked()"]
    assert ended(*lines, "os.kill(os.getpid(), signal.SIGINT)", "print('still here')") == (0, "still here")
