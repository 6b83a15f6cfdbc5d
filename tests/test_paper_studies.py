"""The studies at the paper's scale name readers, and pass `headstart check` on corpora as they are distributed."""

from pathlib import Path

import pytest
from miniature import recording, write
from pydantic import TypeAdapter

from headstart.cli import main
from headstart.corpora.reader import Utterance
from headstart.corpora.registry import Corpus, open_reader
from headstart.study.reading import load_study
from headstart.study.starts import HubStart
from headstart.workflow import Workflow

STUDIES = sorted((Path(__file__).parents[1] / "config" / "studies" / "paper").glob("*.yaml"))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """A folder in which data/raw has each corpus that the studies name, unpacked as docs/semisup.md says."""
    folder = tmp_path_factory.mktemp("paper")
    raw = folder / "data" / "raw"
    parts = ("train-clean-100", "train-clean-360", "train-other-500")
    for number, part in enumerate((*parts, "dev-clean", "dev-other", "test-clean", "test-other")):
        inner = raw / "librispeech" / "LibriSpeech" / part / f"{number}" / "1"
        recording(inner / f"{number}-1-0000.flac")
        write(inner / f"{number}-1.trans.txt", f"{number}-1-0000 WORDS OF {part.upper()}")
    for language in ("german", "french"):
        for number, split in enumerate(("train", "dev", "test")):
            inner = raw / "mls" / f"mls_{language}" / split
            recording(inner / "audio" / f"{number}" / "2" / f"{number}_2_000000.flac")
            write(inner / "transcripts.txt", f"{number}_2_000000\twords of {language}")
    for split in ("train", "dev", "test"):
        inner = raw / "tedlium" / "TEDLIUM_release-3" / "legacy" / split
        write(inner / "stm" / f"{split}.stm", f"{split} 1 {split} 0 0.5 <o,f0,male> that 's it")
        recording(inner / "sph" / f"{split}.wav").rename(inner / "sph" / f"{split}.sph")
    for split in ("train", "test"):
        inner = raw / "mucs" / split
        recording(inner / f"{split}.wav")
        write(inner / "transcripts" / "wav.scp", f"{split} {split}.wav")
        write(inner / "transcripts" / "segments", f"{split}1 {split} 0 0.5")
        write(inner / "transcripts" / "text", f"{split}1 यह file है")
        write(inner / "transcripts" / "utt2spk", f"{split}1 {split}")
    languages = "ar de en es et fa fr id it ja nl pl pt ru sv-SE th zh-CN tr".split()
    for inner in (raw / "cv-corpus-7.0-2021-07-21" / language for language in languages):
        for split in ("train", "dev", "test"):
            recording(inner / "clips" / f"{split}.wav").rename(inner / "clips" / f"{split}.mp3")
            write(inner / f"{split}.tsv", "client_id\tpath\tsentence", f"{split}\t{split}.mp3\tone two")
    return folder


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_paper_study_finds_its_corpora_as_they_are_distributed(path, corpora, monkeypatch, capsys):
    monkeypatch.chdir(corpora)
    study = load_study(path)
    workflow = Workflow(study)
    # Checkpoints of hubs are not part of the corpora.
    hub = tuple(f"starts.{name}:" for name, start in study.starts.items() if isinstance(start, HubStart))
    assert [line for line in workflow.problems() if not line.startswith(hub or ("-",))] == []
    if not hub:
        assert main(["check", str(path)]) == 0 and "runs" in capsys.readouterr().out
    for name in study.corpora:
        entries = list(workflow.reader(name).utterances())
        # A job gets all settings, with the defaults that the study does not name.
        settings = TypeAdapter(Corpus).validate_python(study.corpora[name].model_dump(mode="json"))
        assert list(open_reader(settings).utterances()) == entries
        assert entries and all(isinstance(entry, Utterance) and entry.text for entry in entries)
        splits = {entry.split for entry in entries}
        assert splits == {"train", "dev", "test"} - ({"dev"} if name.startswith("mucs") else set())
        assert all((corpora / workflow.reader(name).folder / entry.audio.path).is_file() for entry in entries)


def test_the_corpora_that_a_paper_study_does_not_find_are_named(corpora, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (path,) = (path for path in STUDIES if path.stem == "semisup")
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert all(f"corpora.{name}: data/raw" in said for name in load_study(path).corpora)


def test_the_two_parts_of_librispeech_share_no_training_clip(corpora, monkeypatch):
    monkeypatch.chdir(corpora)
    study = load_study(STUDIES[0])
    workflow = Workflow(study)
    clean, rest = (
        {entry.utterance_id for entry in workflow.reader(name).utterances() if entry.split == "train"}
        for name in ("clean100", "rest860")
    )
    assert len(clean) == 1 and len(rest) == 2 and not clean & rest
