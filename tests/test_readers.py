"""Readers of general formats, each against a miniature of the real layout with its quirks."""

import re

import pytest
from miniature import entries, reading, recording, write

from headstart.corpora.reader import AudioReference, CorpusError, Reject


def test_kaldi_directories_with_segments_become_stretches_by_speaker_and_split(tmp_path):
    train, test = tmp_path / "train", tmp_path / "eval"
    recording(tmp_path / "calls/one.wav", seconds=3)
    write(train / "wav.scp", "one calls/one.wav", "two sph2pipe -f wav -p -c 1 two.sph |", "three raw.ark:1234")
    segments = ["anna-1 one 0.5 1.5", "anna-2 one 1.5 -1", "ben-1 two 0 1", "ben-2 three 0 1", "ben-3 four 0 1"]
    write(train / "segments", *segments, "ben-4 one 2.0 1.0", "ben-5 one", "ben-6 one 0 1 1")
    write(train / "text", "anna-1 mana kanchu", "anna-2\tari", "ben-6 ima", "ghost kawsay")
    write(train / "utt2spk", "anna-1 anna", "anna-2 anna", "ben-6 ben")
    recording(test / "t.wav")
    write(test / "wav.scp", "t eval/t.wav", encoding="utf-8")
    write(test / "text", "t ñuka")
    write(test / "utt2spk", "t t")
    write(test / "utt2lang", "t qu")
    result = reading("kaldi", tmp_path, language="es", splits={"train": "train", "eval": "test"})
    rows = [(row["utterance_id"], row["offset_s"], row["duration_s"], row["text"]) for row in result.rows["train"]]
    assert rows == [("anna-1", 0.5, 1.0, "mana kanchu"), ("anna-2", 1.5, 1.5, "ari"), ("ben-6", 0.0, 1.0, "ima")]
    assert [(row["speaker"], row["language"]) for row in result.rows["train"]] == [("anna", "es")] * 2 + [("ben", "es")]
    assert [(row["speaker"], row["language"], row["text"]) for row in result.rows["test"]] == [(None, "qu", "ñuka")]
    reasons = {
        "ben-1": "a command, which is not run: sph2pipe .*; write its output to a file.*",
        "ben-2": "a place in a Kaldi archive: raw.ark:1234; .*",
        "ben-3": "unknown recording: 'four' is not in wav.scp",
        "ben-4": "malformed segment: begins at 2 s and ends at 1 s",
        "ben-5": "malformed segment: .* has no begin and end.*",
        "ghost": "transcript without audio: not in segments",
    }
    rejects = {row["utterance_id"]: row["reason"] for row in result.rejects["train"]}
    assert rejects.keys() == reasons.keys()
    assert all(re.fullmatch(reasons[name], reason) for name, reason in rejects.items())


def test_a_kaldi_directory_names_its_channels_and_refuses_what_it_cannot_know(tmp_path):
    recording(tmp_path / "a.wav", channels=2)
    write(tmp_path / "wav.scp", "a a.wav")
    write(tmp_path / "segments", "left a 0 0.5 0", "right a 0 0.5 1")
    write(tmp_path / "text", "left ari", "right mana")
    assert [entry.audio for entry in entries("kaldi", tmp_path)] == [
        AudioReference("a.wav", 0.0, 0.5, 0),
        AudioReference("a.wav", 0.0, 0.5, 1),
    ]
    write(tmp_path / "text", "left ari", "left mana")
    with pytest.raises(CorpusError, match="text, line 2: 'left' is in line 1 too"):
        entries("kaldi", tmp_path)
    (tmp_path / "text").unlink()
    with pytest.raises(CorpusError, match="text: no such file"):
        entries("kaldi", tmp_path)
    assert [entry.text for entry in entries("kaldi", tmp_path, transcripts=False)] == [None, None]
    assert not any(isinstance(entry, Reject) for entry in entries("kaldi", tmp_path, transcripts=False))
    (tmp_path / "wav.scp").rename(tmp_path / "other.scp")
    with pytest.raises(CorpusError, match="no annotation file .*`reader: kaldi`.*`headstart corpora kaldi`"):
        entries("kaldi", tmp_path)
