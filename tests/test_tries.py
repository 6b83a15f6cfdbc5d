"""Jobs that failed are tried again by Snakemake (`retries`), except where no try can end otherwise."""

import logging
import subprocess
import sys

import pytest
import yaml
from dry_runs import CORPUS, snakemake, write_corpus
from miniature import reading
from tiny_study import STUDY

from headstart.corpora.reader import CorpusError, CorpusFileError
from headstart.decode.language_model import sentences
from headstart.errors import DataError, DivergenceError, HeadstartError, TrainingError
from headstart.files import BrokenFileError, UnwritableError
from headstart.logs import CALL, FINAL, log_to_terminal
from headstart.subsets import BudgetError

WORDS = "a further try would end like this one; mend this, and start Snakemake again"
JOB = """
from headstart.logs import log_to
log_to({log!r})
from pathlib import Path
from headstart.errors import {error}
Path({tries!r}).open("a").write("x")
raise {error}("the reason")
"""


def test_errors_of_data_and_settings_are_permanent_and_those_of_machines_are_not():
    assert all(error.permanent for error in (DataError, BudgetError, CorpusError, DivergenceError))
    others = (HeadstartError, TrainingError, CorpusFileError, BrokenFileError, UnwritableError)
    assert not any(error.permanent for error in others)


@pytest.mark.parametrize(("error", "calls", "tries"), [
    ("DataError", ["a", "a", "a"], 1),
    ("DataError", ["a", "b", "b"], 2),  # Snakemake was started again
    ("DataError", [None, None], 2),  # a script that is started by hand
    ("HeadstartError", ["a", "a"], 2),
])  # fmt: skip
def test_a_job_is_tried_again_unless_the_same_call_of_snakemake_has_seen_it_fail_for_good(
    error, calls, tries, tmp_path, monkeypatch
):
    log, counted = tmp_path / "log", tmp_path / "tries"
    for call in calls:
        log.unlink(missing_ok=True)  # as Snakemake does before each try
        monkeypatch.delenv(CALL, raising=False) if call is None else monkeypatch.setenv(CALL, call)
        job = JOB.format(log=str(log), tries=str(counted), error=error)
        assert subprocess.run([sys.executable, "-c", job]).returncode == 1
        first, *rest = log.read_text().splitlines()
        assert first.endswith("ERROR the reason")
        assert [WORDS in line for line in rest] == [True] * (call is not None and error == "DataError")
    assert len(counted.read_text()) == tries


def test_snakemake_tries_a_budget_that_is_too_large_once_in_each_call(tmp_path):
    write_corpus(tmp_path / "mine", 1)
    study = {**STUDY, "corpora": {"mine": {**CORPUS, "path": "mine"}}, "budgets": ["1h", "1s"], "seeds": [1]}
    study["targets"] = {"mine": {"corpus": "mine", "kind": "in-domain"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    log, subset = tmp_path / "logs/draw_subset/mine/1h/seed1.log", "data/subsets/mine/1h/seed1.parquet"
    began = []
    for _ in range(2):
        status, output = snakemake(tmp_path, "--retries", "3", "--", subset)
        assert status == 1 and output.count("Error in rule draw_subset") == 4, output
        first, last = log.read_text().splitlines()
        assert "budget '1h' of data/features/mine/train.parquet: 60.0 min of audio asked for" in first
        assert last.endswith(WORDS)
        final = log.with_name("seed1.log.final")
        assert final.stat().st_mtime < log.stat().st_mtime  # the last try has written the log, and not failed by itself
        began.append(final.read_text().split()[0])
    assert began[0] != began[1]  # the second call has tried again


@pytest.mark.parametrize("turn", ["first", "second"])
def test_no_test_finds_the_log_that_another_has_set_up(turn):
    assert not any(type(handler) is logging.StreamHandler for handler in logging.getLogger().handlers), turn
    log_to_terminal()


def test_what_a_disk_may_refuse_now_is_tried_again(tmp_path):
    missing = str(tmp_path / "none.txt")
    with pytest.raises(HeadstartError, match="cannot be read") as text:
        list(sentences(missing))
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 but no more PAR1")
    (tmp_path / "damaged.TextGrid").write_text("no grid")
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    found = [text.value]
    for reader, folder in (("folder", tmp_path / "none"), ("huggingface", tmp_path)):
        with pytest.raises(CorpusError) as error:
            reading(reader, folder, language="en")
        found.append(error.value)
    assert not any(error.permanent for error in found)
    with pytest.raises(CorpusError) as error:  # a file that can be read, and is none of its kind
        reading("textgrid", tmp_path, language="en")
    assert error.value.permanent


def test_a_torn_note_of_a_failure_is_no_obstacle(tmp_path, monkeypatch):
    log, tries = tmp_path / "log", tmp_path / "tries"
    (tmp_path / f"log{FINAL}").write_bytes("a\nWörter"[:4].encode()[:-1])
    monkeypatch.setenv(CALL, "b")
    job = JOB.format(log=str(log), tries=str(tries), error="DataError")
    assert subprocess.run([sys.executable, "-c", job]).returncode == 1
    assert tries.read_text() == "x" and "the reason" in log.read_text()
