"""Readers of general formats, each against a miniature of the real layout with its quirks."""

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from miniature import entries, reader_of, reading, recording, write

from headstart.corpora.reader import AudioReference, CorpusError, Reject
from headstart.study.fields import SPLITS


def test_kaldi_directories_with_segments_become_stretches_by_speaker_and_split(tmp_path):
    train, test = tmp_path / "train", tmp_path / "eval"
    recording(tmp_path / "calls/one.wav", seconds=3, channels=2)
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


# ------------------------------------------------------------------------------------------------- clips


def test_clips_with_text_files_keep_their_folders_apart(tmp_path):
    for folder in ("anna", "ben"):
        recording(tmp_path / folder / "000.wav")
        write(tmp_path / folder / "000.txt", "ari", folder)
    recording(tmp_path / "test/ñan.WAV")
    write(tmp_path / "test/ñan.lab", "ñan")  # composed, where the recording may not be
    (tmp_path / "test/ñan.WAV").rename(tmp_path / "test/n\u0303an.WAV")
    recording(tmp_path / "ben/mute.flac")
    write(tmp_path / "ben/notes.txt", "nothing of a clip")
    write(tmp_path / "ben/._000.wav", "left by a Mac")
    write(tmp_path / "ben/empty.txt")
    recording(tmp_path / "ben/empty.wav")
    result = reading("clips", tmp_path, speaker_pattern="^([^/]+)/")
    rows = {row["utterance_id"]: (row["text"], row["speaker"]) for row in result.rows["train"]}
    assert rows == {"anna/000": ("ari anna", "anna"), "ben/000": ("ari ben", "ben")}
    assert [(row["utterance_id"], row["text"]) for row in result.rows["test"]] == [("test/ñan", "ñan")]
    rejects = [row for split in SPLITS for row in result.rejects[split]]
    assert {row["utterance_id"]: row["reason"] for row in rejects} == {
        "ben/empty": "empty transcript",
        "ben/mute": "no transcript: there is no mute.txt or mute.lab beside it",
        "ben/notes": "transcript without audio: there is no recording beside ben/notes.txt",
    }
    untranscribed = entries("clips", tmp_path, transcripts=False, splits={"ben": None})
    assert [(entry.utterance_id, entry.text) for entry in untranscribed] == [("anna/000", None), ("test/ñan", None)]
    write(tmp_path / "anna/000.txt", "word " * 9000)
    with pytest.raises(CorpusError, match=r"anna/000.txt: \d+ characters, too many"):
        entries("clips", tmp_path)


# ------------------------------------------------------------------------------------------------- manifests


def test_nemo_manifests_are_read_line_by_line(tmp_path):
    recording(tmp_path / "clips/a.wav", seconds=2)
    lines = [
        {"audio_filepath": "clips/a.wav", "duration": 2.0, "text": "uno", "lang": "es", "speaker": 7},
        {"audio_filepath": "clips/a.wav", "offset": 0.5, "duration": 1.0, "text": "dos"},
        {"audio_filepath": "clips/a.wav", "offset": -1, "duration": 1.0, "text": "tres"},
        {"audio_filepath": ["a", "b"], "duration": 1.0, "text": "cuatro"},
        {"duration": 1.0, "text": "cinco"},
    ]
    broken = ["[1, 2]", '{"audio_filepath": "clips/a.w', "", '{"audio_filepath": "clips/a.wav", "duration": "x"}']
    write(tmp_path / "train_manifest.json", *map(json.dumps, lines), *broken)
    write(tmp_path / "val-clean.jsonl", json.dumps({**lines[0], "id": "one", "text": "seis"}))
    splits = {"train": "train", "val-clean": "dev", "val": None}
    result = reading("nemo", tmp_path, language="qu", splits=splits)
    assert [(row["utterance_id"], row["offset_s"], row["duration_s"], row["text"], row["language"], row["speaker"])
            for row in result.rows["train"]] == [
        ("clips/a", 0.0, 2.0, "uno", "es", "7"),
        ("clips/a-0000500-0001500", 0.5, 1.0, "dos", "qu", None),
    ]  # fmt: skip
    assert [row["utterance_id"] for row in result.rows["dev"]] == ["one"]
    reasons = {row["row"]: row["reason"] for row in result.rejects["train"]}
    assert sorted(reasons) == [3, 4, 5, 6, 7, 9]
    assert "malformed times: offset -1.0" in reasons[3] and "no text" in reasons[4] and "not JSON" in reasons[7]
    with pytest.raises(CorpusError, match="train_manifest.json: split 'train_manifest' is not in"):
        entries("nemo", tmp_path, splits={"dev": "dev"})


def lhotse_manifests(folder: Path) -> None:
    """What lhotse writes for a recording with two channels, and for one that is a command."""
    sources = [{"type": "file", "channels": [0, 1], "source": "call.wav"}]
    facts = {"sampling_rate": 16000, "num_samples": 48000, "duration": 3.0, "channel_ids": [0, 1]}
    calls = {"id": "call", "sources": sources, **facts}
    piped = {"id": "piped", "sources": [{"type": "command", "channels": [0], "source": "sox a.sph |"}], **facts}
    common = {"recording_id": "call", "language": "Quechua"}
    supervisions = [
        {"id": "s1", "start": 0.5, "duration": 1.0, "channel": 0, "text": "ari", "speaker": "anna", **common},
        {"id": "s2", "start": 1.5, "duration": 1.0, "channel": 1, "text": "mana", "speaker": "ben", **common},
        {"id": "s3", "start": 0.0, "duration": 1.0, "channel": 0, "text": "ima", **common, "recording_id": "piped"},
        {"id": "s4", "start": 0.0, "duration": 1.0, "channel": 0, "text": "ima", **common, "recording_id": "gone"},
    ]
    for name, rows in (("recordings", [calls, piped]), ("supervisions", supervisions)):
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / f"kichwa_{name}_train.jsonl.gz").write_bytes(gzip.compress(data))


def test_lhotse_recordings_with_supervisions_are_read(tmp_path):
    recording(tmp_path / "call.wav", seconds=3, channels=2)
    lhotse_manifests(tmp_path)
    first, second, piped, gone = entries("lhotse", tmp_path, language="qu")
    assert (first.utterance_id, first.text, first.speaker, first.language) == ("s1", "ari", "anna", "qu")
    assert [entry.audio for entry in (first, second)] == [
        AudioReference("call.wav", 0.5, 1.0, 0),
        AudioReference("call.wav", 1.5, 1.0, 1),
    ]
    assert "no file but of the kind 'command'" in piped.reason and "'gone' is not in kichwa_recordings" in gone.reason
    reader = reader_of("lhotse", tmp_path)
    assert list(reader.audio_files()) == ["call.wav"] and len(reader.inputs()) == 2


@pytest.mark.slow  # imports torch
def test_lhotse_cuts_are_read_as_lhotse_itself_reads_them(tmp_path):
    from lhotse import CutSet, RecordingSet, SupervisionSet

    recording(tmp_path / "call.wav", seconds=3, channels=2)
    lhotse_manifests(tmp_path)
    recordings = RecordingSet.from_jsonl(tmp_path / "kichwa_recordings_train.jsonl.gz").filter(lambda r: r.id == "call")
    supervisions = SupervisionSet.from_jsonl(tmp_path / "kichwa_supervisions_train.jsonl.gz")
    supervisions = supervisions.filter(lambda s: s.recording_id == "call")
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions).trim_to_supervisions().to_eager()
    cuts = CutSet.from_cuts([*cuts, cuts[0].with_id("padded").pad(5.0), cuts[0].perturb_speed(1.1)])
    cuts.to_jsonl(tmp_path / "cuts_train.jsonl.gz")
    found = entries("lhotse", tmp_path)
    assert len(found) == 4
    for entry, cut in zip(found[:2], cuts, strict=False):
        (supervision,) = cut.supervisions
        assert (entry.utterance_id, entry.text, entry.speaker) == (cut.id, supervision.text, supervision.speaker)
        assert entry.audio == AudioReference("call.wav", cut.start, cut.duration, supervision.channel)
    assert found[2].reason == "not a plain cut: MixedCut" and "transforms" in found[3].reason


# ------------------------------------------------------------------------------------------------- hugging face


def dataset(rows: list[dict]) -> pa.Table:
    """Rows as `datasets` lays them out, with the names of classes in the metadata of the schema."""
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = {"id": pa.int64(), "audio": audio, "transcription": pa.string(), "lang": pa.int64(), "who": pa.string()}
    features = {"lang": {"names": ["es", "qu"], "_type": "ClassLabel"}, "audio": {"_type": "Audio"}}
    schema = pa.schema(kinds, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    return pa.Table.from_pylist(rows, schema=schema)


def rows_of(folder: Path, count: int) -> list[dict]:
    content = recording(folder / "x.wav").read_bytes()
    return [
        {"id": i, "audio": {"bytes": content, "path": f"{i}.wav"}, "transcription": f"t{i}", "lang": i % 2, "who": "a"}
        for i in range(count)
    ]


def test_a_saved_dataset_is_read_without_its_audio(tmp_path):
    rows = rows_of(tmp_path / "raw", 5)
    saved = tmp_path / "saved"
    for split, own in {"train": rows[:3], "validation": rows[3:]}.items():
        (saved / split).mkdir(parents=True)
        table = dataset(own)
        with pa.ipc.new_stream(str(saved / split / "data-00000-of-00001.arrow"), table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
        write(saved / split / "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        write(saved / split / "cache-1.arrow", "not ours")
    write(saved / "dataset_dict.json", json.dumps({"splits": ["train", "validation"]}))
    columns = {"speaker": "who", "language": "lang"}
    found = entries("huggingface", saved, columns=columns)
    assert [(e.utterance_id, e.text, e.language, e.speaker, e.split) for e in found] == [
        *((str(i), f"t{i}", ("es", "qu")[i % 2], "a", "train") for i in range(3)),
        *((str(i), f"t{i}", ("es", "qu")[i % 2], "a", "dev") for i in range(3, 5)),
    ]
    assert found[2].audio == AudioReference("train/data-00000-of-00001.arrow#2")
    assert entries("huggingface", saved, columns={"utterance_id": None})[4].utterance_id == (
        "validation/data-00000-of-00001-000001"
    )
    shard = saved / "train/data-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(CorpusError, match="data-00000-of-00001.arrow: cut short"):
        entries("huggingface", saved)
    shard.unlink()
    with pytest.raises(CorpusError, match="no such file, but state.json names it"):
        entries("huggingface", saved)


def test_audio_parquet_is_read_by_rows_or_by_the_paths_that_it_names(tmp_path):
    rows = rows_of(tmp_path, 4)
    (tmp_path / "data").mkdir()
    for name, own in {
        "train-00000-of-00002": rows[:2],
        "train-00001-of-00002": rows[2:3],
        "test-00000-of-00001": rows,
    }.items():
        pq.write_table(dataset(own), tmp_path / f"data/{name}.parquet")
    found = entries("huggingface", tmp_path)
    assert [entry.audio.path for entry in found[-3:]] == [
        "data/train-00000-of-00002.parquet#0",
        "data/train-00000-of-00002.parquet#1",
        "data/train-00001-of-00002.parquet#0",
    ]
    assert [entry.split for entry in found] == ["test"] * 4 + ["train"] * 3
    named = [{**row, "audio": {"bytes": None, "path": "x.wav"}} for row in rows]
    pq.write_table(dataset(named), tmp_path / "data/test-00000-of-00001.parquet")
    assert entries("huggingface", tmp_path)[0].audio == AudioReference("x.wav")
    pq.write_table(dataset(rows).drop_columns(["audio"]), tmp_path / "data/test-00000-of-00001.parquet")
    with pytest.raises(CorpusError, match="0 of its columns hold bytes.*`reader: folder`"):
        entries("huggingface", tmp_path)
    damaged = tmp_path / "data/test-00000-of-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="parquet: cut short or damaged"):
        entries("huggingface", tmp_path)
