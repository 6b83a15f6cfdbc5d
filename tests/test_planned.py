"""A job that reads the workflow again, as on a cluster, runs the study that was planned and not one edited since."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_study import STUDY, TABLE

from headstart.cli import main
from headstart.files import read_json
from headstart.study.planned import VARIABLE, keep_planned, planned_path, planned_study
from headstart.study.reading import StudyError, load_study, parse_study

ROOT = Path(__file__).parent.parent
STUDIES = [ROOT / "config/config.yaml", *sorted(ROOT.glob("config/studies/**/*.yaml"))]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_job_gets_the_study_as_it_was_planned(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study(path)
    keep_planned(study)
    monkeypatch.setenv(VARIABLE, planned_path(study))
    got = planned_study()
    assert got == study
    # The settings of jobs are dumps, whose order counts as well: the report shows starts in it.
    assert repr(got.model_dump(mode="json")) == repr(study.model_dump(mode="json"))
    for name, start in study.starts.items():
        if start.kind in ("ssl", "semisup"):
            assert repr(got.settings_of(name)) == repr(study.settings_of(name))


def test_a_study_in_another_order_is_another_study():
    starts = {"scratch": {"kind": "scratch"}, "other": {"kind": "ssl", "corpora": {"en": 0.001}}}
    orders = [starts, dict(reversed(starts.items()))]
    assert len({planned_path(parse_study({**STUDY, "starts": order})) for order in orders}) == 2


def test_a_job_that_does_not_find_its_study_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(StudyError, match=f"{VARIABLE} is not set in this job"):
        planned_study()
    monkeypatch.setenv(VARIABLE, "results/.planned/gone.json")
    with pytest.raises(StudyError, match="gone.json: the study that this job was planned with is not in"):
        planned_study()


# ------------------------------------------------------------------------------------------ through Snakemake


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(folder / "study.yaml"), "--cores", "1", *arguments]
    inherited = {key: value for key, value in os.environ.items() if key != VARIABLE and not key.startswith("SNAKEMAKE")}
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment, timeout=120)


def as_job(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """What an executor runs on another machine for the job that synthesises the corpus."""
    job = ["--target-jobs", "synthesise_corpus:corpus=en", "--allowed-rules", "synthesise_corpus", "--mode", "remote"]
    return snakemake(folder, *job, "--force", "--nolock", "--ignore-incomplete", "--no-hooks", **environment)


@pytest.fixture
def planned(tmp_path, monkeypatch) -> Path:
    """A folder with a study whose jobs are planned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    keep_planned(load_study(tmp_path / "study.yaml"))
    return tmp_path


def edit(folder: Path, train: float) -> None:
    corpus = STUDY["corpora"]["en"]
    longer = {**corpus, "hours": {**corpus["hours"], "train": train}}
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "corpora": {"en": longer}}))


def utterances(folder: Path) -> int:
    return (folder / TABLE).read_text().count("clips/en_train_")


def test_a_job_runs_what_was_planned_and_not_what_was_written_since(planned):
    path = planned_path(load_study(planned / "study.yaml"))
    edit(planned, train=0.02)
    run = as_job(planned, **{VARIABLE: path})
    assert run.returncode == 0, run.stdout + run.stderr
    assert 0 < (few := utterances(planned)) < 10
    # The process that plans reads the study file, whatever the variable says, and leaves what it plans for its jobs.
    run = snakemake(planned, TABLE, "--forcerun", "synthesise_corpus", **{VARIABLE: path})
    assert run.returncode == 0, run.stdout + run.stderr
    assert utterances(planned) > 3 * few
    edited = planned / planned_path(load_study(planned / "study.yaml"))
    assert read_json(edited)["corpora"]["en"]["hours"]["train"] == 0.02


def test_a_dry_run_leaves_no_planned_study(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert snakemake(tmp_path, "--dry-run").returncode == 0
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "variable", "message"),
    [
        (yaml.safe_dump(STUDY), None, f"the environment variable {VARIABLE} is not set in this job"),
        (yaml.safe_dump(STUDY), "results/.planned/gone.json", "the study that this job was planned with is not in"),
        # Snakemake reads the file that it was given before it comes to ours.
        ("study: [", "", "Config file is not valid JSON or YAML"),
        (None, "", "No such file or directory"),
    ],
    ids=["no variable", "no planned study", "no YAML", "no study file"],
)
def test_a_job_that_cannot_know_its_study_fails(planned, content, variable, message):
    path = planned_path(load_study(planned / "study.yaml"))
    if content is None:
        (planned / "study.yaml").unlink()
    else:
        (planned / "study.yaml").write_text(content)
    run = as_job(planned, **({} if variable is None else {VARIABLE: variable or path}))
    assert run.returncode != 0 and message in run.stdout + run.stderr, run.stdout + run.stderr
    assert not (planned / TABLE).exists()


def test_headstart_check_and_snakemake_refuse_the_same_in_the_same_words(tmp_path, capsys, monkeypatch):
    """What can be seen before the first job is seen before the first job."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tableless").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/metadata.tsv").write_text("id\tpath\tphrase\n")
    (tmp_path / "hollow").mkdir()
    folder = {"reader": "folder", "language": "de"}
    corpora = {name: {**folder, "path": name} for name in ("nowhere", "tableless", "tables")}
    starts = {"gone": {"kind": "hub", "path": "gone"}, "hollow": {"kind": "hub", "path": "hollow"}}
    study = {**STUDY, "corpora": STUDY["corpora"] | corpora, "starts": STUDY["starts"] | starts}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    assert main(["check", str(tmp_path / "study.yaml")]) == 2
    first, *lines = capsys.readouterr().err.strip().splitlines()
    assert first == f"{tmp_path / 'study.yaml'}: 5 problems"
    expected = [
        "corpora.nowhere: nowhere: no such corpus folder",
        "corpora.tableless: tableless/metadata.tsv: no such table",
        "corpora.tables: tables/metadata.tsv: 1 mapped column(s) not found",
        "columns.text: the table has no column 'text'",
        "starts.gone: gone: no config.json",
        "starts.hollow: hollow: no config.json",
    ]
    assert all(line.strip().startswith(start) for line, start in zip(lines, expected, strict=True)), lines
    run = snakemake(tmp_path, "--dry-run")
    said = run.stdout + run.stderr
    assert run.returncode != 0 and all(line.strip() in said for line in [first, *lines]), said
