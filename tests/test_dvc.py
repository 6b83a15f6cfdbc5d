"""DVC: what dvc.yaml and the .dvc files promise, in a copy of the repository."""

import csv
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headstart.corpora.readers.table import FolderCorpus, TableReader
from headstart.versioning import DEFAULT, dvc_file

ROOT = Path(__file__).parent.parent
DVC = shutil.which("dvc", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
COPIED = ".dvc .dvcignore .gitattributes .gitignore Snakefile config data dvc.yaml rules src workflow".split()

pytestmark = [
    pytest.mark.skipif(DVC is None, reason="dvc is not installed"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]


def call(folder: Path, *command: str) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return call(folder, DVC, *arguments)


def commit(folder: Path) -> None:
    call(folder, "git", "add", "--all")
    call(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "test")


def changed(folder: Path) -> set[str]:
    """The corpora whose folder is not the recorded one, as plain `dvc status` finds them."""
    return {name for name in json.loads(dvc(folder, "status", "--json")) if name.endswith(".dvc")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What a clone of the repository holds: nothing that git or DVC ignores, no corpora, no results."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "cache", "tmp", "config.local")
    for name in COPIED:
        source = ROOT / name
        if name == "data":
            shutil.copytree(source / "store", folder / "data/store")
            (folder / "data/raw").mkdir()
            for file in (source / "raw").glob("*.dvc"):
                shutil.copy(file, folder / "data/raw")
        elif source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    call(folder, "git", "init", "--quiet")
    commit(folder)
    return folder


def test_dvc_reads_every_file(clone):
    tracked = call(clone, "git", "ls-files").split()
    assert {"dvc.yaml", ".dvc/config", ".dvc/plots/learning_curves.json", "data/raw/example.dvc"} <= set(tracked)
    assert dvc(clone, "stage", "list", "--name-only").split() == ["study"]
    status = json.loads(dvc(clone, "status", "--json"))
    assert "always changed" in status["study"]


def test_the_example_corpus_comes_with_the_clone(clone):
    dvc(clone, "pull", "data/raw/example.dvc")
    folder = clone / "data/raw/example"
    columns = {name: name for name in ("speaker", "language", "split", "tokens", "token_languages")}
    TableReader(FolderCorpus(reader="folder", path=str(folder), language="es", columns=columns)).check()
    with (folder / "metadata.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 12
    assert all((folder / row["path"]).is_file() for row in rows)
    assert changed(clone) == set()
    assert call(clone, "git", "status", "--porcelain") == ""
    (folder / "metadata.tsv").write_text("not the table\n")
    assert changed(clone) == {"data/raw/example.dvc"}
    dvc(clone, "checkout", "--force", "data/raw/example.dvc")
    assert changed(clone) == set()


def test_a_corpus_of_the_users_own_is_restored_and_stays_writable(clone, tmp_path):
    corpus = clone / "data/raw/mine"
    corpus.mkdir()
    (corpus / "metadata.tsv").write_text("id\tpath\ttext\n1\tone.wav\teins\n")
    dvc(clone, "remote", "add", "--local", "storage", str(tmp_path))
    dvc(clone, "add", "data/raw/mine")
    # Git sees the hash of the corpus, and neither the corpus nor an ignore file of DVC's.
    assert call(clone, "git", "status", "--porcelain").split() == ["??", "data/raw/mine.dvc"]
    dvc(clone, "push", "--remote", "storage", "data/raw/mine.dvc")
    shutil.rmtree(corpus)
    shutil.rmtree(clone / ".dvc/cache")
    dvc(clone, "pull", "--remote", "storage", "data/raw/mine.dvc")
    table = corpus / "metadata.tsv"
    assert table.read_text().endswith("eins\n")
    assert not table.is_symlink() and table.stat().st_nlink == 1 and table.stat().st_mode & stat.S_IWUSR


@pytest.fixture
def with_corpus(clone, tmp_path) -> Path:
    """A repository with a corpus under DVC, a store for it, and a study that takes no time to run."""
    folder = tmp_path / "repository"
    call(tmp_path, "git", "clone", "--quiet", str(clone), str(folder))
    study = yaml.safe_load((folder / "dvc.yaml").read_text())
    study["stages"]["study"]["cmd"] = "mkdir -p results/${study} && cp data/raw/mine/metadata.tsv results/${study}/seen"
    study["stages"]["study"]["deps"].remove("starts")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (folder / "data/raw/mine/clips").mkdir(parents=True)
    (folder / "data/raw/mine/metadata.tsv").write_text("id\tpath\ttext\n1\tclips/one.wav\teins\n")
    (folder / "data/raw/mine/clips/one.wav").write_bytes(b"one")
    (tmp_path / "store").mkdir()
    dvc(folder, "remote", "add", "--default", "storage", str(tmp_path / "store"))
    dvc(folder, "add", "data/raw/mine")
    dvc(folder, "pull", "data/raw/example.dvc")
    commit(folder)
    return folder


def corpus_of(folder: Path) -> dict[str, bytes]:
    corpus = folder / "data/raw/mine"
    return {str(file.relative_to(corpus)): file.read_bytes() for file in corpus.rglob("*") if file.is_file()}


def test_plain_commands_see_push_pull_and_keep_a_corpus(with_corpus, tmp_path):
    before = corpus_of(with_corpus)
    assert set(before) == {"metadata.tsv", "clips/one.wav"}
    assert changed(with_corpus) == set()
    (with_corpus / "data/raw/mine/clips/one.wav").write_bytes(b"other")
    assert changed(with_corpus) == {"data/raw/mine.dvc"}
    dvc(with_corpus, "checkout", "--force", "--allow-missing")  # no results are recorded yet
    assert corpus_of(with_corpus) == before

    dvc(with_corpus, "repro")
    commit(with_corpus)
    dvc(with_corpus, "push")
    stored = {file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()}
    assert stored.issuperset(before.values())

    other = tmp_path / "other"
    call(tmp_path, "git", "clone", "--quiet", str(with_corpus), str(other))
    dvc(other, "pull")
    assert corpus_of(other) == before
    assert (other / "data/raw/example/metadata.tsv").is_file()
    dvc(other, "checkout")
    assert corpus_of(other) == before and changed(other) == set()


def test_an_experiment_keeps_the_corpora_and_reads_them(with_corpus):
    before = corpus_of(with_corpus)
    dvc(with_corpus, "exp", "run")
    assert corpus_of(with_corpus) == before
    (with_corpus / "data/raw/mine/metadata.tsv").write_text("id\tpath\ttext\n1\tclips/one.wav\tzwei\n")
    dvc(with_corpus, "exp", "run", "--set-param", "config/config.yaml:finetune.updates=300")
    assert corpus_of(with_corpus)["metadata.tsv"].endswith(b"zwei\n")
    name = yaml.safe_load((with_corpus / "config/config.yaml").read_text())["study"]
    assert (with_corpus / f"results/{name}/seen").read_text().endswith("zwei\n")


def test_metrics_params_and_plots_are_compared(clone):
    study = clone / "config/config.yaml"
    name = yaml.safe_load(study.read_text())["study"]
    results = clone / "results" / name
    results.mkdir(parents=True)
    rates = {"scratch": {"en-es": {"3min": {"wer": 0.5, "cer": 0.25, "updates_to_reference": None}}}}
    (results / "metrics.json").write_text(json.dumps(rates))
    header = "start,target,budget,seed,step,dev_wer,dev_cer\n"
    (results / "curves.csv").write_text(header + "scratch,en-es,3min,1,50,0.9,0.8\nscratch,en-es,3min,1,100,0.5,0.4\n")
    study.write_text(re.sub("^title: .*", "title: Changed", study.read_text(), flags=re.MULTILINE))

    shown = json.loads(dvc(clone, "metrics", "show", "--json"))
    assert shown[""]["data"] == {
        f"results/{name}/metrics.json": {"data": {"scratch": {"en-es": {"3min": {"wer": 0.5, "cer": 0.25}}}}}
    }
    changed = json.loads(dvc(clone, "params", "diff", "--json"))["config/config.yaml"]
    assert {key: value["new"] for key, value in changed.items()} == {"title": "Changed"}
    dvc(clone, "plots", "show", "--out", "plots")
    page = (clone / "plots/index.html").read_text()
    assert '"dev_cer"' in page and "0.4" in page and "<DVC_METRIC" not in page


def test_each_study_has_a_file_like_that_of_the_default_study():
    default, own = (yaml.safe_load(dvc_file(*a)) for a in ((DEFAULT, Path(".")), ("my.yaml", Path("versions/mine"))))
    assert yaml.safe_load((ROOT / "dvc.yaml").read_text()) == default
    assert own["stages"]["study"]["outs"] == default["stages"]["study"]["outs"]
    assert own["stages"]["study"]["cmd"].endswith("--configfile my.yaml") and own["params"] == ["../../my.yaml"]
