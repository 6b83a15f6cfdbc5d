"""Manifests and feature manifests that follow the edits of a corpus, without Snakemake."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dry_runs import CORPUS, write_corpus, write_noise
from pydantic import TypeAdapter

from headstart.changes import RECORD, CorpusFiles, follow, read_recorded
from headstart.corpora.registry import Corpus, open_reader
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.features.shards import join_shards
from headstart.study.fields import SPLITS

SETTINGS = {"version": 1}


class Read:
    """A corpus that was read, with features of its train split in two shards and of the others in one piece."""

    def __init__(self, folder: Path):
        self.folder = folder
        write_corpus(folder / "raw", 1)
        corpus = TypeAdapter(Corpus).validate_python({**CORPUS, "path": str(folder / "raw")})
        self.reader, self.record = open_reader(corpus), folder / RECORD
        self.shards = [folder / f"{k}-of-2" for k in range(2)]
        parts = [tuple(f"{shard}{end}" for end in (".parquet", ".arrow", ".rejects.parquet")) for shard in self.shards]
        self.files = {
            split: CorpusFiles(
                manifest=str(folder / f"{split}.m.parquet"),
                rejects=str(folder / f"{split}.r.parquet"),
                features=str(folder / f"{split}.parquet"),
                shards=tuple(features for features, _, _ in parts) if split == "train" else (),
            )
            for split in SPLITS
        }
        read_recorded(
            self.reader, {s: (f.manifest, f.rejects) for s, f in self.files.items()}, SETTINGS, self.record, 0
        )
        for split, own in self.files.items():
            paths = own.features.replace(".parquet", ".arrow"), own.features, str(folder / f"{split}.fr.parquet")
            if own.shards:
                for k, (features, audio, rejects) in enumerate(parts):
                    extract_features(own.manifest, audio, features, rejects, shard=(k, 2))
                join_shards(parts, *paths)
            else:
                extract_features(own.manifest, *paths)

    def follow(self) -> list[str]:
        said = follow(self.reader, self.files, SETTINGS, self.record, 0)
        return [line.removeprefix(f"{self.reader.source}: ") for line in said]

    def texts(self, split: str) -> list[str]:
        features = self.files[split].features
        return Clips.open(features, features.replace(".parquet", ".arrow")).column("text")

    def times(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.folder.glob("*.parquet")}

    def edit(self, old: str, new: str) -> None:
        table = self.folder / "raw/metadata.tsv"
        text = table.read_text()
        assert text.count(old) == 1
        table.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Read:
    return Read(tmp_path_factory.mktemp("read"))


@pytest.fixture
def corpus(original):
    """The corpus, as it was when a test began."""
    kept = original.folder.with_name("kept")
    shutil.copytree(original.folder, kept)
    yield original
    shutil.rmtree(original.folder)
    kept.rename(original.folder)


def test_nothing_is_written_where_nothing_has_changed(corpus):
    before = corpus.times()
    assert corpus.follow() == []
    os.utime(corpus.folder / "raw/metadata.tsv")
    os.utime(corpus.folder / "raw/1.wav")
    assert corpus.follow() == []
    corpus.record.unlink()  # of an earlier version, which left none
    assert corpus.follow() == [] and corpus.record.is_file()
    assert corpus.times() == before


def test_a_transcript_is_carried_into_features_and_shards(corpus):
    before = corpus.times()
    corpus.edit("word2 ", "zwei ")
    assert corpus.follow() == ["train has other transcripts, 1 of them in its features"]
    assert corpus.texts("train").count("zwei here") == 1
    assert pq.read_table(corpus.files["train"].manifest)["text"].to_pylist().count("zwei here") == 1
    # Only the time of the feature manifest says so: nothing has to be decoded or joined.
    assert [name for name, time in corpus.times().items() if time != before[name]] == ["train.parquet"]


def test_an_interruption_is_made_up_for(corpus):
    """The features may have been written, and neither the manifest nor the record."""
    kept = {path: path.read_bytes() for path in (Path(corpus.files["dev"].manifest), corpus.record)}
    corpus.edit("word9 ", "neun ")
    assert corpus.follow() == ["dev has other transcripts, 1 of them in its features"]
    for path, content in kept.items():
        path.write_bytes(content)
    assert corpus.follow() == ["dev has other transcripts, 0 of them in its features"]
    assert corpus.texts("dev").count("neun here") == 1 and corpus.follow() == []


def test_other_clips_leave_features_to_extraction(corpus):
    before = corpus.times()
    corpus.edit("word11 here", "")  # an empty transcript is rejected
    assert corpus.follow() == ["test has other audio or other utterances", "test has other rejected rows"]
    corpus.edit("word2 ", "zwei ")
    write_noise(corpus.folder / "raw/3.wav", 99)
    assert corpus.follow() == ["train has other audio or other utterances"]
    changed = {name for name, time in corpus.times().items() if time != before[name]}
    assert changed == {"test.m.parquet", "test.r.parquet", "train.m.parquet"}
    assert corpus.follow() == []


def test_audio_that_went_or_came_back_is_noticed(corpus):
    clip = corpus.folder / "raw/1.wav"
    clip.rename(corpus.folder / "away")
    assert corpus.follow() == ["train has other audio or other utterances", "train has other rejected rows"]
    (corpus.folder / "away").rename(clip)
    assert corpus.follow() == ["train has other audio or other utterances", "train has other rejected rows"]
