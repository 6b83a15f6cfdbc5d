"""Audio as people have it: containers, channels, headers that lie, and files that break decoders."""

import io
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from damage import CONTAINERS, write_av

from headstart.audio.decoders import AvDecoder, SoundFileDecoder
from headstart.audio.recordings import Recordings, describe_recording
from headstart.audio.sources import AudioError, find_source
from headstart.corpora.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table
from headstart.features import extraction
from headstart.features.audio import load_audio, load_clip
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.features.samples import SampleError, mix
from headstart.features.shards import join_shards

RATE = 16_000
TAG = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)  # ID3v2, as some programs put before any format


def tones(seconds: float = 1.0, rate: int = RATE, frequencies=(300.0, 470.0, 710.0), amplitude: float = 0.2):
    """A sum of sines that changes in level, so that a shift in time is seen."""
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * f * time) for f in frequencies) / len(frequencies)
    return (amplitude * sound * (0.3 + 0.7 * np.abs(np.sin(2 * np.pi * 1.3 * time)))).astype(np.float32)


def likeness(found: np.ndarray, expected: np.ndarray) -> float:
    """Correlation of int16 samples with what was encoded, where they overlap."""
    length = min(len(found), len(expected))
    return float(np.corrcoef(found[:length], expected[:length])[0, 1])


DELAYS = {"aac": 1024}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_is_decoded_to_what_was_encoded(suffix, tmp_path):
    path, rate = tmp_path / f"a.{suffix}", 48_000 if suffix in ("opus", "webm") else 44_100
    CONTAINERS[suffix](path, tones(1.5, rate), rate)
    recording = describe_recording(str(path))
    samples = load_audio(str(path))
    assert recording.channels == 1 and recording.seconds == pytest.approx(1.5, abs=0.13)
    assert len(samples) == pytest.approx(recording.seconds * RATE, abs=2)
    if suffix in DELAYS:  # nothing in such a file says how long the encoder's delay is
        samples = samples[round(DELAYS[suffix] * RATE / rate) :]
    assert likeness(samples, tones(1.5) * 32767) > 0.98


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_stretch_does_not_depend_on_what_was_read_before(suffix, tmp_path):
    path, rate = tmp_path / f"a.{suffix}", 48_000
    CONTAINERS[suffix](path, tones(3.0, rate), rate)
    stretches = [(0.5, 0.25), (1.0, 0.5), (1.25, 0.5), (0.1, 0.3), (2.0, 0.7), (1.0, 0.5)]
    kept = Recordings()
    for begin, length in stretches:
        alone = load_audio(str(path), begin, length)
        assert np.array_equal(load_clip(kept, str(path), begin, length).samples, alone)
        assert len(alone) == pytest.approx(length * RATE, abs=1)
    whole = load_audio(str(path))
    inner = slice(RATE + 400, round(1.5 * RATE) - 400)  # the ends of a stretch are resampled without their neighbours
    assert np.abs(whole[inner].astype(int) - load_audio(str(path), 1.0, 0.5)[400:-400]).max() < 40


def test_both_decoders_agree_on_pcm_of_every_width(tmp_path):
    sound = np.stack([tones(), -0.5 * tones(frequencies=(500.0,))], axis=1)
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"):
        path = str(tmp_path / f"{subtype}.wav")
        soundfile.write(path, sound, RATE, subtype=subtype)
        ours, other = SoundFileDecoder(find_source(path)), AvDecoder(find_source(path))
        assert (ours.rate, ours.channels, ours.is_float) == (other.rate, other.channels, other.is_float)
        assert np.array_equal(ours.read(100, 5000), other.read(100, 5000)), subtype
        assert np.array_equal(other.read(100, 5000), soundfile.read(path, dtype="float32")[0][100:5100])


def patched_wav(path: Path, riff: int, data: int) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b"data")
    content[4:8], content[place + 4 : place + 8] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(content)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_has_the_length_that_is_decoded(size, tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(5.0), RATE)
    expected = load_audio(str(tmp_path / "a.wav"))
    patched_wav(tmp_path / "a.wav", size, size)
    assert describe_recording(str(tmp_path / "a.wav")).seconds == 5.0
    assert np.array_equal(load_audio(str(tmp_path / "a.wav")), expected)


def test_a_flac_from_a_pipe_has_the_length_that_is_decoded(tmp_path):
    soundfile.write(tmp_path / "a.flac", tones(2.0), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    length = int.from_bytes(content[18:26], "big")
    content[18:26] = (length >> 36 << 36).to_bytes(8, "big")  # the total number of samples: unknown
    (tmp_path / "b.flac").write_bytes(content)
    assert describe_recording(str(tmp_path / "b.flac")).seconds == 2.0
    assert np.array_equal(load_audio(str(tmp_path / "b.flac")), load_audio(str(tmp_path / "a.flac")))


def test_all_of_two_joined_mp3_files_is_decoded(tmp_path):
    rate = 44_100
    for name, frequency in (("a", 300.0), ("b", 500.0)):
        soundfile.write(tmp_path / f"{name}.mp3", tones(2.0, rate, (frequency,)), rate)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join((tmp_path / f"{name}.mp3").read_bytes() for name in "ab"))
    assert soundfile.info(joined).duration == pytest.approx(2.0, abs=0.1)  # what libsndfile takes it for
    assert describe_recording(str(joined)).seconds == pytest.approx(4.0, abs=0.15)
    samples = load_audio(str(joined))
    for part, frequency in ((samples[4000:24000], 300), (samples[40000:60000], 500)):
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        assert np.argmax(spectrum) * RATE / len(part) == pytest.approx(frequency, abs=3)


def test_an_mp3_at_44_1_khz_has_the_length_that_was_encoded(tmp_path):
    for seconds in (0.3, 1.0, 2.345):
        soundfile.write(tmp_path / "a.mp3", tones(seconds, 44_100), 44_100)
        assert describe_recording(str(tmp_path / "a.mp3")).seconds == pytest.approx(seconds, abs=1e-3)
        assert len(load_audio(str(tmp_path / "a.mp3"))) == pytest.approx(seconds * RATE, abs=2)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_what_would_not_be_decoded_of_joined_files_is_said(suffix, tmp_path, write_manifest):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tones(2.0), RATE)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(AudioError, match="^two recordings in one file: another begins at byte [0-9]+"):
        load_audio(str(path))


def test_a_flac_header_that_ends_too_early_is_not_believed(tmp_path):
    noise = 0.3 * np.random.default_rng(0).standard_normal(20 * RATE)
    soundfile.write(tmp_path / "a.flac", noise, RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    whole = int.from_bytes(content[18:26], "big")
    content[18:26] = (whole - 8 * RATE).to_bytes(8, "big")  # the lowest bits are the number of samples
    for name, start in (("b", b""), ("c", TAG)):
        (tmp_path / f"{name}.flac").write_bytes(start + content)
        assert soundfile.info(tmp_path / f"{name}.flac").duration == 12.0
        assert describe_recording(str(tmp_path / f"{name}.flac")).seconds == pytest.approx(20.0)


def test_a_file_that_may_not_be_read_is_rejected(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    soundfile.write(tmp_path / "a.wav", tones(), RATE)
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(AudioError, match="^the file cannot be read: Permission denied$"):
        load_audio(str(tmp_path / "a.wav"))


def test_a_flac_file_may_begin_with_a_tag(tmp_path):
    soundfile.write(tmp_path / "a.flac", tones(2.0), RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(TAG + content)
    assert np.array_equal(load_audio(str(tmp_path / "b.flac")), load_audio(str(tmp_path / "a.flac")))
    (tmp_path / "c.flac").write_bytes(TAG + content + content)
    with pytest.raises(AudioError, match=f"another begins at byte {len(TAG + content)};"):
        load_audio(str(tmp_path / "c.flac"))


def test_a_wav_that_was_cut_off_is_rejected_by_its_header(tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(2.0), RATE)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:32044])
    with pytest.raises(AudioError, match=r"^truncated: 1.00 s of 2.00 s"):
        describe_recording(str(tmp_path / "a.wav"))


def test_rows_of_tables_are_audio(tmp_path):
    sounds = [tones(0.5 + 0.1 * i, 22_050, (200.0 + 50 * i,)) for i in range(5)]
    contents = []
    for sound in sounds:
        soundfile.write(file := io.BytesIO(), sound, 22_050, format="FLAC")
        contents.append(file.getvalue())
    write_av(tmp_path / "a.m4a", sounds[0], 44_100, "aac", "ipod")
    contents[4] = (tmp_path / "a.m4a").read_bytes()
    structs = pa.array([{"bytes": content, "path": "x.flac"} for content in contents])
    pq.write_table(pa.table({"audio": structs, "text": list("abcde")}), tmp_path / "s.parquet", row_group_size=2)
    pq.write_table(pa.table({"sound": contents, "text": list("abcde")}), tmp_path / "b.parquet")
    for name, new in (("f.arrow", pa.ipc.new_file), ("t.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, pa.schema({"audio": structs.type})) as writer:
            writer.write_table(pa.table({"audio": structs}))
    for name in ("s.parquet", "b.parquet", "f.arrow", "t.arrow"):
        for row in (3, 0, 1):
            soundfile.write(tmp_path / "row.flac", sounds[row], 22_050)
            path = f"{tmp_path / name}#{row}"
            assert describe_recording(path).seconds == pytest.approx(len(sounds[row]) / 22_050)
            assert np.array_equal(load_audio(path), load_audio(str(tmp_path / "row.flac")))
        assert np.array_equal(load_audio(f"{tmp_path / name}#4"), load_audio(str(tmp_path / "a.m4a")))
        with pytest.raises(AudioError, match="no row 5: the table has 5"):
            load_audio(f"{tmp_path / name}#5")
    with pytest.raises(AudioError, match="no table gone.parquet"):
        load_audio(f"{tmp_path}/gone.parquet#0")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "n.parquet")
    with pytest.raises(AudioError, match="no audio in the table"):
        load_audio(f"{tmp_path / 'n.parquet'}#0")


@pytest.mark.parametrize("form", ["file", "stream"])
def test_a_damaged_offset_in_a_table_is_named_and_ends_no_process(tmp_path, form):
    contents = [bytes([65 + i]) * 50 for i in range(5)]
    path = tmp_path / "t.arrow"
    new = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[form]
    table = pa.table({"audio": pa.array(contents, pa.binary())})
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    offsets = np.arange(0, 300, 50, dtype="<i4").tobytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    for row in (1, 2, 4):
        with pytest.raises(AudioError, match="the table t.arrow cannot be read, copy or download it anew"):
            find_source(f"{path}#{row}")


def test_channels_are_picked_mixed_and_repaired(tmp_path, caplog, write_manifest):
    left, right = tones(frequencies=(300.0,)), tones(frequencies=(510.0,))
    samples, note = mix(np.stack([left, right], axis=1), None)
    assert np.allclose(samples, (left + right) / 2) and note is None
    for channel, expected in enumerate((left, right)):
        samples, note = mix(np.stack([left, right], axis=1), channel)
        assert np.array_equal(samples, expected) and note is None
    samples, note = mix(np.stack([0 * left, right, 1e-5 * left], axis=1), None)
    assert np.array_equal(samples, right) and note == "channels 0, 2 of 3 silent, the others taken"
    samples, note = mix(np.stack([-0.9 * left, left], axis=1), None)
    assert np.array_equal(samples, left) and note.startswith("channels of opposite phase")
    with pytest.raises(SampleError, match="no channel 2: the audio has 2, counted from 0"):
        mix(np.stack([left, right], axis=1), 2)

    manifest = write_manifest(tmp_path, [tones(), tones()])
    soundfile.write(tmp_path / "clip001.wav", np.stack([left, -left], axis=1), RATE)
    clips, _ = extracted(tmp_path, manifest)
    assert np.abs(clips.audio(1) - left * 32767).max() < 2
    assert any("kept clip001: channels of opposite phase" in record.getMessage() for record in caplog.records)


def test_clipped_samples_are_counted(tmp_path, write_manifest, caplog):
    manifest = write_manifest(tmp_path, [np.clip(k * tones(), -1, 1) for k in (1, 6, 60)])
    clips, rejects = extracted(tmp_path, manifest)
    assert clips.column("utterance_id") == ["clip000", "clip001"]
    assert rejects[0]["reason"].startswith("clipped: ") and "of its samples are at full scale" in rejects[0]["reason"]
    share = (np.abs(np.clip(6 * tones(), -1, 1)) >= 0.999).mean()
    assert any(f"kept clip001: clipped: {share:.1%}" in record.getMessage() for record in caplog.records)


# ---------------------------------------------------------------------------------------------- processes


def extracted(folder: Path, manifest: str, name: str = "o", **options) -> tuple[Clips, list[dict]]:
    files = [str(folder / f"{name}{suffix}") for suffix in (".arrow", ".parquet", ".rejects.parquet")]
    extract_features(manifest, *files, **options)
    return Clips.open(files[1], files[0]), read_table(files[2], REJECTS)


def content(folder: Path, name: str) -> list[bytes]:
    return [(folder / f"{name}{suffix}").read_bytes() for suffix in (".arrow", ".parquet", ".rejects.parquet")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, write_manifest) -> tuple[Path, str]:
    """More clips than two record batches hold, some of them rejected, among them the first and the last."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    sounds = [0.1 * rng.standard_normal(rng.integers(800, 2400)) for _ in range(180)]
    for index in (0, 70, 71, 179):
        sounds[index] = np.zeros(1600)
    manifest = write_manifest(folder, sounds)
    (folder / "clip100.wav").write_bytes(b"RIFF no audio")
    extracted(folder, manifest)
    return folder, manifest


def test_processes_do_not_change_the_files(corpus):
    folder, manifest = corpus
    clips, rejects = extracted(folder, manifest, "p", processes=3)
    assert content(folder, "p") == content(folder, "o")
    assert [row["row"] for row in rejects] == [0, 70, 71, 100, 179] and len(clips) == 175


@pytest.mark.parametrize("at", [3, 65, 130, 170])
def test_an_extraction_that_was_stopped_goes_on_to_the_same_files(corpus, at, monkeypatch, tmp_path):
    folder, manifest = corpus
    decoded, decode = [], extraction.decode_clip
    limit = at

    def dying(*task):
        if len(decoded) == limit:
            raise KeyboardInterrupt
        decoded.append(task[0])
        return decode(*task)

    monkeypatch.setattr(extraction, "decode_clip", dying)
    state = str(tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        extracted(folder, manifest, "r", state=state)
    audio = Path(state, "extraction", "audio.arrow")
    audio.write_bytes(audio.read_bytes()[:-100])  # as where nothing was closed
    limit, first = 1000, len(decoded)
    extracted(folder, manifest, "r", state=state)
    assert content(folder, "r") == content(folder, "o")
    again = decoded[:first]
    assert len(set(decoded)) == 180 and len(decoded) - 180 <= 70 and again == decoded[:first]
    assert not Path(state, "extraction").exists()


def test_what_another_job_left_is_not_gone_on_with(corpus, monkeypatch, tmp_path):
    folder, manifest = corpus
    decode, calls = extraction.decode_clip, []

    def dying(*task):
        calls.append(task)
        if len(calls) == 150:
            raise KeyboardInterrupt
        return decode(*task)

    monkeypatch.setattr(extraction, "decode_clip", dying)
    with pytest.raises(KeyboardInterrupt):
        extracted(folder, manifest, "s", state=str(tmp_path), settings={"audio": "old"})
    extracted(folder, manifest, "s", state=str(tmp_path), settings={"audio": "new"})
    assert len(calls) == 150 + 180 and content(folder, "s") == content(folder, "o")


def test_shards_are_read_as_one(corpus):
    folder, manifest = corpus
    whole, parts = Clips.open(folder / "o.parquet", folder / "o.arrow"), []
    for number in range(3):
        extracted(folder, manifest, f"shards-{number}", shard=(number, 3))
        suffixes = (".parquet", ".arrow", ".rejects.parquet")
        parts.append(tuple(str(folder / f"shards-{number}{suffix}") for suffix in suffixes))
    join_shards(parts, *(str(folder / f"j{suffix}") for suffix in (".arrow", ".parquet", ".rejects.parquet")))
    assert content(folder, "j")[1:] == content(folder, "o")[1:]
    assert Path(folder / "j.arrow").stat().st_size < 5000  # no copy of the audio
    clips = Clips.open(folder / "j.parquet", folder / "j.arrow")
    assert clips.content == whole.content and np.array_equal(clips.lengths, whole.lengths)
    for index in (0, 58, 59, 60, 174):
        assert np.array_equal(clips.audio(index), whole.audio(index))
    shutil.copy(folder / "shards-0.parquet", folder / "other.parquet")
    with pytest.raises(ValueError, match="the shards of .* have 175 clips"):
        Clips.open(folder / "other.parquet", folder / "j.arrow")


def test_a_feature_manifest_has_the_channels_of_its_clips(tmp_path):
    stereo = np.stack([tones(frequencies=(300.0,)), tones(frequencies=(510.0,))], axis=1)
    soundfile.write(tmp_path / "call.wav", stereo, RATE, subtype="FLOAT")
    row = {"audio_path": str(tmp_path / "call.wav"), "offset_s": 0.25, "duration_s": 0.5, "language": "qu"}
    rows = [{**row, "utterance_id": f"u{n}", "channel": n} for n in (1, 0)]
    write_table(tmp_path / "m.parquet", rows, MANIFEST)
    clips, _ = extracted(tmp_path, str(tmp_path / "m.parquet"))
    assert [row["channel"] for row in read_table(tmp_path / "o.parquet", FEATURES)] == [1, 0]
    for index, channel in enumerate((1, 0)):
        assert np.abs(clips.audio(index) - stereo[4000:12000, channel] * 32767).max() <= 1
