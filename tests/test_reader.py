"""The contract of readers: a new kind of corpus is one small class, and shared code does what every corpus needs."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import TypeAdapter

from headstart.corpora.manifests import MANIFEST, REJECTS, read_table
from headstart.corpora.reader import AudioReference, CorpusError, Reader, Reject, Utterance
from headstart.corpora.reading import audio_stats, read_corpus, read_utterances
from headstart.corpora.registry import READERS, Corpus, open_reader
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.study.fields import SPLITS


@dataclass
class SegmentSettings:
    """What a section of the study would hold."""

    path: str
    reader: str = "segments"
    dev_share: float = 0.0
    test_share: float = 0.0
    min_seconds: float = 0.2
    max_seconds: float = 30.0


class SegmentReader(Reader):
    """Reads lines of `id recording begin end speaker words`, as segments of long recordings are written."""

    def __init__(self, settings: SegmentSettings, raw: str | Path):
        self.settings, self.folder = settings, Path(settings.path)
        self.source = self.folder / "segments"

    def check(self) -> None:
        if not self.source.is_file():
            raise CorpusError(f"{self.source}: no such file")

    def inputs(self) -> list[str]:
        return [str(self.source)]

    def audio_files(self) -> list[str]:
        return [line.split()[1] for line in self.source.read_text().splitlines()]

    def utterances(self) -> Iterator[Utterance | Reject]:
        for number, line in enumerate(self.source.read_text().splitlines(), start=1):
            name, recording, begin, end, speaker, *words = line.split()
            if float(end) < float(begin):
                yield Reject(line=number, reason="ends before it begins", utterance_id=name)
                continue
            stretch = AudioReference(recording, float(begin), float(end) - float(begin))
            common = {"line": number, "language": "qu", "speaker": speaker}
            yield Utterance(utterance_id=name, audio=stretch, text=" ".join(words), **common)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a recording of two seconds, which the toy reader is registered for."""
    monkeypatch.setitem(READERS, "segments", SegmentReader)
    samples = np.random.default_rng(0).integers(-9000, 9000, 32000).astype(np.int16)
    soundfile.write(tmp_path / "long.wav", samples, 16000)
    return tmp_path


def opened(folder: Path, *lines: str, **settings: float) -> Reader:
    (folder / "segments").write_text("\n".join(lines))
    return open_reader(SegmentSettings(str(folder), **settings), raw="")


def test_a_new_reader_of_stretches_goes_through_manifests_into_features(folder):
    lines = ["one long.wav 0.25 0.75 anna ari", "two long.wav 1.0 2.0 ben mana kanchu", "three long.wav 1 0.5 ben x"]
    reader = opened(folder, *lines)
    paths = {split: (str(folder / f"{split}.m"), str(folder / f"{split}.r")) for split in SPLITS}
    read_corpus(reader, paths)
    rows = read_table(paths["train"][0], MANIFEST)
    assert [(row["audio_path"], row["offset_s"], row["duration_s"]) for row in rows] == [
        (str(folder / "long.wav"), 0.25, 0.5),
        (str(folder / "long.wav"), 1.0, 1.0),
    ]
    assert [(row["utterance_id"], row["text"], row["speaker"]) for row in rows] == [
        ("one", "ari", "anna"),
        ("two", "mana kanchu", "ben"),
    ]
    rejects = read_table(paths["train"][1], REJECTS)
    assert [(row["row"], row["utterance_id"], row["reason"]) for row in rejects] == [
        (3, "three", "ends before it begins")
    ]

    features, audio = str(folder / "f.parquet"), str(folder / "f.arrow")
    extract_features(paths["train"][0], audio, features, str(folder / "f.rejects"))
    clips = Clips.open(features, audio)
    recording = np.rint(soundfile.read(folder / "long.wav")[0] * 32767).astype(int)
    for index, (begin, end) in enumerate([(4000, 12000), (16000, 32000)]):
        assert np.abs(clips.audio(index).astype(int) - recording[begin:end]).max() <= 1
    assert clips.column("offset_s") == [0.25, 1.0]


def test_what_every_corpus_needs_is_checked_for_a_new_reader(folder):
    bad = {
        "one long.wav 1.0 2.0 anna x": "duplicate id: already used in line 1",
        "late long.wav 2.5 3.0 anna x": r"outside the audio: begins at 2\.50 s of 2\.00 s",
        "early long.wav -0.5 1.0 anna x": r"outside the audio: begins at -0\.50 s of 2\.00 s",
        "over long.wav 1.5 2.5 anna x": r"outside the audio: ends at 2\.50 s of 2\.00 s",
        "nan long.wav 0.5 nan anna x": "outside the audio: ends at nan s .*",
        "short long.wav 0.5 0.6 anna x": r"too short: 0\.10 s, min_seconds is 0\.2",
        "whole long.wav 0 1.9 anna x": r"too long: 1\.9 s, max_seconds is 1\.5",
        "silent long.wav 0 1 anna": "empty transcript",
        "gone none.wav 0 1 anna x": "audio file not found",
    }
    # An end that was rounded up is the end of the recording.
    reader = opened(folder, "one long.wav 0.5 1 anna ari", *bad, "last long.wav 1.01 2.02 anna ari", max_seconds=1.5)
    reading = read_utterances(reader)
    assert [(row["utterance_id"], row["duration_s"]) for row in reading.rows["train"]] == [
        ("one", 0.5),
        ("last", pytest.approx(0.99)),
    ]
    rejects = reading.rejects["train"]
    assert [reject["row"] for reject in rejects] == list(range(2, 2 + len(bad)))
    for reject, (line, reason) in zip(rejects, bad.items(), strict=True):
        assert re.fullmatch(reason, reject["reason"]), (line, reject["reason"])
    assert reading.notes == ["dev: no utterance", "test: no utterance"]


def test_splits_are_drawn_by_speaker_for_a_new_reader(folder):
    for i in range(90):
        os.link(folder / "long.wav", folder / f"{i}.wav")
    lines = [f"u{i} {i}.wav 0 1 speaker{i % 30} ari{i}" for i in range(90)]
    rows = read_utterances(opened(folder, *lines, dev_share=0.2, test_share=0.2)).rows
    speakers = [{row["speaker"] for row in rows[split]} for split in SPLITS]
    assert all(speakers) and len(set.union(*speakers)) == sum(map(len, speakers)) == 30
    with pytest.raises(
        CorpusError, match="segments: of its 1 speakers or sentences .*, none was drawn for dev. Raise dev_share"
    ):
        read_utterances(opened(folder, *lines[:1], dev_share=0.2))


def test_drawn_splits_tear_neither_a_speaker_nor_a_recording_apart(folder):
    """60 interviews of two speakers each; every third of the first speakers is in the next interview too."""
    for i in range(60):
        os.link(folder / "long.wav", folder / f"{i}.wav")
    lines = []
    for i in range(60):
        first = f"s{i}" if i % 3 else f"s{max(i - 1, 0)}"
        lines += [
            f"a{i} {i}.wav 0 0.5 {first} ari{i}",
            f"b{i} {i}.wav 0.5 1 t{i} mana{i}",
            f"c{i} {i}.wav 1 1.5 t{i} x",
        ]
    shares = {"dev_share": 0.25, "test_share": 0.25}
    rows = read_utterances(opened(folder, *lines, **shares)).rows
    for column in ("speaker", "audio_path"):
        parts = [{row[column] for row in rows[split]} for split in SPLITS]
        assert all(len(part) > 4 for part in parts) and len(set.union(*parts)) == sum(map(len, parts))
    # An interview that links nothing moves nothing.
    os.link(folder / "long.wav", folder / "new.wav")
    more = read_utterances(opened(folder, "new new.wav 0 1 new ima", *lines, **shares)).rows
    splits = [{row["utterance_id"]: split for split in SPLITS for row in of[split]} for of in (rows, more)]
    assert {name: splits[1][name] for name in splits[0]} == splits[0] and len(splits[1]) == len(splits[0]) + 1


def test_the_audio_of_a_new_reader_is_watched(folder):
    reader = opened(folder, "one long.wav 0 1 anna ari")
    before = audio_stats(reader)
    assert audio_stats(reader) == before
    soundfile.write(folder / "long.wav", np.zeros(100), 16000)
    assert audio_stats(reader) != before


@pytest.mark.parametrize("section", [{"reader": "folder", "path": "gone"}, {"reader": "synthetic"}])
def test_a_corpus_that_is_not_there_has_inputs_and_is_named_when_it_is_read(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = open_reader(TypeAdapter(Corpus).validate_python({"language": "en", **section}), "raw")
    assert reader.inputs() == [str(reader.source)]
    with pytest.raises(CorpusError, match="no such corpus folder"):
        read_utterances(reader)
