"""Names with spaces, quotes and characters that mean something to a shell, to Snakemake or to HTML."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from headstart.study.reading import StudyError, parse_study
from headstart.workflow import BRACES, Workflow

ROOT = Path(__file__).parent.parent
HOSTILE = 'it\'s "my" $(touch pwned); corpus & `touch pwned`, {x} %s #1'
NAMES = ["a b", "a'b", 'a"b', "$(touch pwned)", "a;b", "../a", "/a", "-a", "a/b", "a{b}", "a*", "<b>", "a\nb", "ä", ""]
STUDY = {
    "study": "tiny",
    "corpora": {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.1, "dev": 0.1, "test": 0.1}}},
    "starts": {"scratch": {"kind": "scratch"}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["2s"],
}


@pytest.mark.parametrize("section", ["study", "corpora", "starts", "targets"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_becomes_a_path_is_letters_and_digits(name, section):
    changed = {**STUDY, section: name if section == "study" else {name: next(iter(STUDY[section].values()))}}
    with pytest.raises(StudyError, match="which is letters, digits, _|should be letters, digits, _"):
        parse_study(changed)


def test_braces_in_the_path_of_an_input_are_refused_before_the_first_job(tmp_path):
    """Snakemake has no way to say that they are not wildcards."""
    folder, text = tmp_path / "a {x}", tmp_path / "more {y}.txt"
    folder.mkdir()
    (folder / "metadata.tsv").write_text("id\tpath\ttext\n1\ta.wav\tx\n")
    text.write_text("words\n")
    corpora = {"mine": {"reader": "folder", "path": str(folder), "language": "qu", "text": [str(text)]}}
    starts = {"scratch": {"kind": "scratch"}, "hub": {"kind": "hub", "path": str(folder)}}
    target = {"corpus": "mine", "kind": "in-domain"}
    study = parse_study({**STUDY, "corpora": corpora, "starts": starts, "targets": {"mine": target}})
    places = [("corpora.mine", folder / "metadata.tsv"), ("corpora.mine.text", text), ("starts.hub", folder)]
    assert Workflow(study).problems() == [f"{key}: {path}: {BRACES}" for key, path in places]


@pytest.mark.slow
def test_a_checkout_and_a_corpus_may_have_any_other_name(tmp_path):
    """The repository, the folder of the corpus and its recordings; only the names in a study are limited further."""
    checkout = tmp_path / HOSTILE
    checkout.mkdir()
    for name in ("rules", "workflow", "src", "profiles"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "Snakefile", checkout)
    corpus = checkout / f"data {HOSTILE}".replace("{x}", "")
    (corpus / HOSTILE).mkdir(parents=True)
    lines = ["id\tpath\tsplit\ttext"]
    for number, split in enumerate(("train", "dev", "test")):
        samples = 0.1 * np.random.default_rng(number).standard_normal(8000)
        soundfile.write(corpus / HOSTILE / f"{HOSTILE}{number}.wav", samples, 16000, subtype="PCM_16")
        lines.append(f"{HOSTILE}{number}\t{HOSTILE}/{HOSTILE}{number}.wav\t{split}\t<script>alert({number})</script>")
    (corpus / "metadata.tsv").write_text("\n".join(lines))
    section = {"reader": "folder", "path": corpus.name, "language": "qu", "columns": {"split": "split"}}
    study = {**STUDY, "corpora": {"mine": section}, "targets": {"mine": {"corpus": "mine", "kind": "in-domain"}}}
    (checkout / f"study {HOSTILE}.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "PYTHONPATH"))}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", f"study {HOSTILE}.yaml"]
    target = "data/features/mine/dev.parquet"
    run = subprocess.run(
        [*command, "--", target], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (row,) = pq.read_table(checkout / target).to_pylist()
    assert row["utterance_id"] == f"{HOSTILE}1" and row["text"] == "<script>alert(1)</script>"
    assert not list(tmp_path.rglob("pwned"))  # no shell has read the names
