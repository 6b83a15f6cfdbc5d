"""The feature stage: audio is decoded once, exactly, and every clip is kept in order or rejected with a reason."""

import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from scipy.signal import firwin, resample_poly

from headstart.corpora.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table
from headstart.corpora.synthetic.resampling import resample as synthetic
from headstart.features import clips as features
from headstart.features import extraction
from headstart.features.audio import SampleError, load_audio, measure, percentile
from headstart.features.clips import CLIPS_A_BATCH, AudioStore, Clips
from headstart.features.extraction import extract_features
from headstart.features.partial import Batch
from headstart.features.resampling import resample


def sine(hz: float, seconds: float, rate: int, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


def extract(folder: Path, manifest: str) -> tuple[Clips, list[dict]]:
    paths = [str(folder / name) for name in ("out.arrow", "out.parquet", "out.rejects.parquet")]
    extract_features(manifest, *paths)
    return Clips.open(paths[1], paths[0]), read_table(paths[2], REJECTS)


def test_stereo_at_another_rate_becomes_16_khz_mono(tmp_path):
    left, right = sine(440, 1.0, 8000), sine(1000, 1.0, 8000, 0.3)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 8000, subtype="PCM_16")
    decoded = load_audio(str(tmp_path / "a.wav"))
    assert decoded.dtype == np.int16 and decoded.shape == (16000,)
    expected = resample_poly((left + right) / 2, 2, 1) * 32767
    inner = slice(400, -400)  # the two filters differ at the ends
    assert np.abs(decoded[inner] - expected[inner]).max() < 0.005 * 32767


def amplitude(samples: np.ndarray, hz: float, rate: int) -> tuple[float, float]:
    """Of the sine at `hz` that fits best, without both ends, and of all the rest: RMS times the square root of two."""
    inner = slice(rate // 10, -rate // 10)
    phase = 2 * np.pi * hz * np.arange(len(samples))[inner] / rate
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    weights, *_ = np.linalg.lstsq(waves, samples[inner], rcond=None)
    rest = samples[inner] - waves @ weights
    return float(np.hypot(*weights)), float(np.sqrt(2 * np.mean(rest**2)))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 32_000, 44_100, 48_000])
def test_resampling_keeps_speech_and_adds_nothing_of_what_16_khz_cannot_hold(rate):
    for hz in (50, 1000, 3000, 7000, 7200):
        if hz < 0.45 * rate:
            kept, rest = amplitude(resample(sine(hz, 1.0, rate).astype(np.float32), rate, 16_000), hz, 16_000)
            assert kept == pytest.approx(0.5, rel=0.001)
            assert rest < 0.5e-4  # -80 dB
    for hz in (8300, 9000, 12_000, 15_900, 20_000):
        if hz < rate / 2:
            folded = resample(sine(hz, 1.0, rate).astype(np.float32), rate, 16_000)
            assert np.abs(folded[1600:-1600]).max() < 0.5e-4


@pytest.mark.parametrize("rate", [15_990, 15_999, 16_001, 16_008, 11_127])
def test_a_rate_without_a_common_divisor_keeps_pitch_and_length(rate):
    resampled = resample(sine(1000, 1.0, rate).astype(np.float32), rate, 16_000)
    assert len(resampled) == 16_000
    kept, rest = amplitude(resampled, 1000, 16_000)
    assert kept == pytest.approx(0.5, rel=0.001) and rest < 0.5e-4


@pytest.mark.parametrize("rate, up, down", [(8000, 2, 1), (22_050, 320, 441), (44_100, 160, 441), (48_000, 1, 3)])
def test_resampled_audio_is_that_of_a_long_filter_of_scipy(rate, up, down):
    rng = np.random.default_rng(0)
    band = firwin(801, min(6500, 0.4 * rate), fs=rate)  # noise without what lies where the two filters fall off
    noise = np.convolve(rng.standard_normal(rate + 1), band, "same")
    most = max(up, down)
    steep = firwin(2 * 200 * most + 1, 0.96 / most, window=("kaiser", 12.0))
    expected = resample_poly(noise, up, down, window=steep)
    inner = slice(1600, 14_400)
    # soxr's gain falls by 0.004 dB up to 6.5 kHz
    for function, tolerance in ((resample, 2e-4), (synthetic, 2e-5)):
        ours = function(noise.astype(np.float32), rate, 16_000)
        assert ours.dtype == np.float32 and abs(len(ours) - (rate + 1) * up / down) < 1
        assert np.abs(ours[inner] - expected[inner]).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 132, 1500])
def test_percentiles_are_numpys_to_the_last_bit(count):
    values = 10 * np.log10(np.random.default_rng(count).random((50, count), np.float32) + 1e-10)
    for row in values:
        assert [percentile(np.sort(row), share) for share in (0.05, 0.95)] == np.percentile(row, [5, 95]).tolist()


def test_a_rate_of_no_standard_needs_no_long_filter(tmp_path):
    # 11,127 and 16,000 have no common divisor: an exact filter for each output sample would take a gigabyte.
    tracemalloc.start()
    soundfile.write(tmp_path / "a.wav", sine(1000, 5.0, 11_127), 11_127)
    decoded = load_audio(str(tmp_path / "a.wav")) / 32767
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert len(decoded) == 5 * 16_000
    kept, rest = amplitude(decoded, 1000, 16_000)  # and the pitch is right: after 5 s both sines are in step
    assert kept == pytest.approx(0.5, rel=0.001) and rest < 0.005


@pytest.mark.parametrize("rate", [1, 40_000_000])
def test_a_damaged_sampling_rate_rejects_the_clip(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", sine(300, 0.5, 16_000), rate)
    with pytest.raises(SampleError, match=f"^sampling rate of {rate} Hz in the header"):
        load_audio(str(tmp_path / "a.wav"))


def test_clips_are_decoded_and_resampled_without_importing_torch(tmp_path, write_manifest):
    manifest = write_manifest(tmp_path, [sine(300, 0.5, 16_000)])
    soundfile.write(tmp_path / "clip000.wav", sine(300, 0.5, 44_100), 44_100)
    outputs = [str(tmp_path / name) for name in ("out.arrow", "out.parquet", "out.rejects.parquet")]
    program = (
        "import sys; from headstart.features.extraction import extract_features\n"
        "extract_features(*sys.argv[1:]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, manifest, *outputs], check=True)


def test_samples_at_16_khz_stay_as_they_are_and_a_part_can_be_cut_out(tmp_path):
    samples = np.random.default_rng(0).integers(-30000, 30000, 16000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    whole = load_audio(str(tmp_path / "a.flac"))
    assert np.abs(whole.astype(int) - samples).max() <= 1  # full scale is 32768 in the file, 32767 in ours
    quiet = np.abs(samples.astype(int)) < 16_000
    assert np.array_equal(whole[quiet], samples[quiet])
    assert np.array_equal(load_audio(str(tmp_path / "a.flac"), 0.25, 0.5), whole[4000:12000])


def test_silent_and_broken_clips_are_rejected_and_the_others_keep_their_order(tmp_path, write_manifest):
    tone = sine(300, 0.5, 16000)
    manifest = write_manifest(tmp_path, [0.1 * tone, 0 * tone, 0.2 * tone, tone, 0.3 * tone, tone, 0.4 * tone])
    truncated = tmp_path / "clip003.wav"
    truncated.write_bytes(truncated.read_bytes()[:9000])
    (tmp_path / "clip005.wav").write_bytes(b"RIFF no audio")
    clips, rejects = extract(tmp_path, manifest)
    assert clips.column("utterance_id") == ["clip000", "clip002", "clip004", "clip006"]
    reasons = {row["utterance_id"]: row["reason"] for row in rejects}
    assert list(reasons) == ["clip001", "clip003", "clip005"]
    assert reasons["clip001"].startswith("silent: -100 dBFS")
    assert reasons["clip003"].startswith("truncated: 0.28 s of 0.50 s")
    assert reasons["clip005"].startswith("undecodable audio: ")
    for index, share in enumerate((0.1, 0.2, 0.3, 0.4)):
        assert np.abs(clips.audio(index)).max() == pytest.approx(share * 0.5 * 32767, rel=0.01)


def test_float_audio_on_the_scale_of_integers_is_rejected(tmp_path, write_manifest):
    tone = sine(300, 0.5, 16000)
    manifest = write_manifest(tmp_path, [0.1 * tone, tone, tone])
    loud = tone.copy()
    loud[:5] = 1.5  # a few peaks are no scale
    for name, samples in (("clip001", 8000 * tone), ("clip002", loud)):
        soundfile.write(tmp_path / f"{name}.wav", samples.astype(np.float32), 16000, subtype="FLOAT")
    # A compressed clip that was too loud decodes to peaks beyond full scale, and is a recording all the same.
    soundfile.write(tmp_path / "clip000.wav", 2.0 * tone, 16000, format="OGG", subtype="VORBIS")
    assert (np.abs(soundfile.read(tmp_path / "clip000.wav")[0]) > 1).mean() > 0.01
    clips, rejects = extract(tmp_path, manifest)
    assert clips.column("utterance_id") == ["clip000", "clip002"]
    assert [row["reason"][:31] for row in rejects] == ["samples beyond full scale (1.0)"]


def test_samples_that_are_no_numbers_reject_their_clip_with_what_they_are(tmp_path, write_manifest, caplog):
    tone = sine(300, 0.5, 16000)
    bad = {
        "clip001": [np.nan],
        "clip002": [np.inf, -np.inf, np.nan],
        "clip003": [1e29, -200.0],
        "clip004": 8000 * [np.nan],
    }
    manifest = write_manifest(tmp_path, [tone] * 6)
    for name, values in bad.items():
        samples = np.stack([tone, tone], axis=1) if name == "clip002" else tone[:, None].copy()
        samples[: len(values), 0] = values
        soundfile.write(tmp_path / f"{name}.wav", samples.astype(np.float32), 16000, subtype="FLOAT")
    clips, rejects = extract(tmp_path, manifest)
    assert clips.column("utterance_id") == ["clip000", "clip005"]
    reasons = {row["utterance_id"]: row["reason"] for row in rejects}
    assert reasons == {
        "clip001": "samples that are no numbers: 1 NaN, of 8000; write the file anew",
        "clip002": "samples that are no numbers: 1 NaN, 2 infinite, of 16000; write the file anew",
        "clip003": "absurd samples: 2 of 8000 beyond 100 times full scale, up to 1e+29; write the file anew",
        "clip004": "samples that are no numbers: 8000 NaN, of 8000; write the file anew",
    }
    assert any("clip003: absurd samples" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("rate", [8000, 16000])  # resampling gives a constant flanks
def test_a_clip_without_sound_around_its_mean_is_rejected(tmp_path, write_manifest, rate):
    noise = np.random.default_rng(0).standard_normal(rate)
    quiet, faint = 10 ** (-70 / 20) * noise, 10 ** (-60 / 20) * noise
    manifest = write_manifest(tmp_path, [np.full(rate, 0.3), 0.3 + quiet, 0.3 + faint, faint, quiet], rate=rate)
    clips, rejects = extract(tmp_path, manifest)
    assert clips.column("utterance_id") == ["clip002", "clip003"]
    assert [row["reason"].split(":")[0] for row in rejects] == ["constant", "constant offset", "silent"]
    assert rejects[0]["reason"] == "constant: every sample is 0.3 of full scale, and there is no sound"
    assert "-70 dBFS" in rejects[1]["reason"]
    # What is measured of a clip that is kept has its offset in it.
    assert clips.column("loudness_dbfs")[0] == pytest.approx(20 * np.log10(0.3), abs=0.2)


def test_a_flac_that_breaks_off_is_rejected(tmp_path, write_manifest):
    manifest = write_manifest(tmp_path, [sine(300, 0.5, 16000)] * 2)
    noise = np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "clip001.wav", 0.1 * noise, 16000, format="FLAC")
    whole = (tmp_path / "clip001.wav").read_bytes()
    (tmp_path / "clip001.wav").write_bytes(whole[: len(whole) // 2])
    clips, rejects = extract(tmp_path, manifest)
    assert len(clips) == 1 and rejects[0]["reason"].startswith("undecodable audio: ")


@pytest.fixture(scope="module")
def many(tmp_path_factory, write_manifest) -> tuple[Clips, list[np.ndarray]]:
    """More clips than two record batches hold, and what soundfile decodes of each."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(1)
    sounds = [0.1 * rng.standard_normal(rng.integers(300, 900)) for _ in range(2 * CLIPS_A_BATCH + 22)]
    manifest = write_manifest(folder, sounds)
    decoded = [load_audio(row["audio_path"]) for row in read_table(manifest, MANIFEST)]
    return extract(folder, manifest)[0], decoded


def test_the_store_returns_exactly_the_decoded_samples(many):
    clips, decoded = many
    assert len(clips) == len(decoded) == 150
    for index in np.random.default_rng(0).permutation(len(decoded)):  # random access, over the record batches
        assert np.array_equal(clips.audio(index), decoded[index])
    assert clips.lengths.tolist() == [len(samples) for samples in decoded]
    assert clips.seconds == pytest.approx(sum(map(len, decoded)) / 16000)


def test_the_store_is_read_only_and_not_a_copy(many):
    samples = many[0].audio(70)
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1
    assert not samples.flags.owndata
    assert many[0].audio(70).ctypes.data == samples.ctypes.data  # the same place of the mapped file each time


def test_selections_and_sums_of_clips_keep_manifest_and_audio_together(many, monkeypatch):
    monkeypatch.setattr(features, "ROWS_A_GROUP", 2)  # the manifest is read in more than one block
    clips, decoded = many
    both = Clips.concatenate([clips.take([140, 3]), clips.take([64]), clips.take([])]).take([2, 0, 1, 0])
    assert both.column("utterance_id") == ["clip064", "clip140", "clip003", "clip140"]
    lengths = [len(decoded[index]) for index in (64, 140, 3, 140)]
    assert list(both.rows("num_samples", "text")) == [(length, None) for length in lengths]
    assert both.lengths.tolist() == lengths and both.seconds == sum(lengths) / 16000
    for position, index in enumerate((64, 140, 3, 140)):
        assert np.array_equal(both.audio(position), decoded[index])


def test_the_hash_of_clips_knows_their_audio_their_texts_and_their_order(noise_clips, make_clips, tmp_path):
    parts = [noise_clips.take([4, 1]), noise_clips.take([7])]
    assert Clips.concatenate(parts).content == noise_clips.take([4, 1, 7]).content
    assert Clips.concatenate(parts[::-1]).content != Clips.concatenate(parts).content
    sound, other = sine(300, 0.1, 16000), sine(400, 0.1, 16000)
    (tmp_path / "b").mkdir()
    first = make_clips(tmp_path, [sound, sound, other], ["ari", "ari", "ari"])
    assert first.content == make_clips(tmp_path, [sound, sound, other], ["ari", "ari", "ari"]).content
    assert first.content != make_clips(tmp_path / "b", [sound, sound, sound], ["ari", "ari", "ari"]).content
    assert first.content != make_clips(tmp_path / "b", [sound, sound, other], ["ari", "mana", "ari"]).content


def test_an_utterance_costs_a_few_bytes_however_long_its_text(tmp_path):
    def peak(copies: int) -> tuple[int, int]:
        """Utterances, and the most bytes that Python and Arrow held at a time while they were put together."""
        gc.collect()
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        clips = Clips.concatenate([Clips.open(tmp_path / "a.parquet", tmp_path / "a.arrow") for _ in range(copies)])
        clips = clips.take(np.arange(len(clips))[::-1])
        assert clips.content
        held = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - arrow
        tracemalloc.stop()
        return len(clips), held

    count = features.ROWS_A_GROUP
    row = {"audio_path": "x", "offset_s": 0.0, "duration_s": 1.0, "language": "qu", "text": "ari " * 100}
    measured = {"num_samples": 1, "loudness_dbfs": -20.0, "snr_db": 20.0, "speech_ratio": 0.8, "content_hash": "x"}
    rows = ({**row, **measured, "utterance_id": f"utterance{i}"} for i in range(count))
    write_table(tmp_path / "a.parquet", rows, FEATURES)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, features.AUDIO) as writer:
        batch = Batch()
        for _ in range(count // CLIPS_A_BATCH):
            for _ in range(CLIPS_A_BATCH):
                batch.add(np.ones(1, np.int16))
            writer.write_batch(batch.taken())
    peak(1)  # so that nothing is imported or first cached while it is measured
    (few, before), (many, after) = peak(1), peak(8)
    assert many == 8 * few
    assert (after - before) / (many - few) < 200  # one text alone takes 400, as a row of Python values kilobytes


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is resident")
def test_audio_that_was_read_does_not_stay_in_memory(make_clips, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (10, 1_000_000))
    make_clips(tmp_path, noise)
    clips = Clips.concatenate([Clips.open(tmp_path / "a.parquet", tmp_path / "a.arrow") for _ in range(3)])
    first = clips.audio(0)
    for index in range(30):
        assert np.array_equal(clips.audio(index), load_audio(str(tmp_path / f"clip{index % 10:03d}.wav")))
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    maps = [next(row for row in lines if row.startswith("Rss")) for line in lines if line.endswith("a.arrow")]
    assert len(maps) >= 3 and sum(int(line.split()[1]) for line in maps) < 12_000  # kB, of three times 20 MB
    assert np.array_equal(first, clips.audio(10))  # what was handed out stays readable


def test_files_of_two_different_runs_are_not_mixed(tmp_path, write_manifest, many):
    extract(tmp_path, write_manifest(tmp_path, [sine(300, 0.1, 16000)] * 3))
    other = tmp_path / "other"
    other.mkdir()
    extract(other, write_manifest(other, [sine(300, 0.1, 16000)] * 2))
    with pytest.raises(ValueError, match="has 2 clips.*3"):
        Clips.open(tmp_path / "out.parquet", other / "out.arrow")


@pytest.mark.parametrize("amplitude", [0.5, 0.05])
def test_the_loudness_of_a_sine_is_that_of_its_effective_value(amplitude):
    samples = (sine(400, 1.0, 16000, amplitude) * 32767).astype(np.int16)
    assert measure(samples)["loudness_dbfs"] == pytest.approx(20 * np.log10(amplitude / np.sqrt(2)), abs=0.02)


def test_the_estimated_snr_grows_with_the_snr_and_speech_is_told_from_pauses():
    rng = np.random.default_rng(0)
    speech = np.concatenate([sine(300, 0.6, 16000, 0.3), np.zeros(6400)] * 3)  # 60 % of it is sound
    noise = rng.standard_normal(len(speech))
    estimates, truths = [], (5, 15, 25, 35)
    for snr_db in truths:
        scaled = noise * np.sqrt(np.mean(speech[:9600] ** 2) / 10 ** (snr_db / 10))
        facts = measure(((speech + scaled) * 32767 / 2).astype(np.int16))
        estimates.append(facts["snr_db"])
        if snr_db > 20:
            assert facts["speech_ratio"] == pytest.approx(0.6, abs=0.05)
    assert estimates == sorted(estimates)
    assert estimates[1:] == pytest.approx(truths[1:], abs=3)


def test_the_content_hash_changes_with_the_audio_and_only_with_it(tmp_path, write_manifest):
    tone = sine(300, 0.1, 16000)
    changed = tone.copy()
    changed[800] += 0.01
    clips, _ = extract(tmp_path, write_manifest(tmp_path, [tone, tone, changed], ["a", "b", "a"]))
    first, second, third = clips.column("content_hash")
    assert first == second != third


def test_a_writer_that_dies_leaves_no_result(tmp_path, write_manifest, monkeypatch):
    manifest = write_manifest(tmp_path, [sine(300, 0.05, 16000)] * (CLIPS_A_BATCH + 10))
    before = {path.name for path in tmp_path.iterdir()}
    decode, calls = extraction.decode_clip, []

    def dying(*task):
        calls.append(task)
        if len(calls) == CLIPS_A_BATCH + 5:  # after a record batch has been written
            raise KeyboardInterrupt
        return decode(*task)

    monkeypatch.setattr(extraction, "decode_clip", dying)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, manifest)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_split_of_rejects_only_is_still_readable(tmp_path, write_manifest):
    clips, rejects = extract(tmp_path, write_manifest(tmp_path, [np.zeros(4000)]))
    assert len(clips) == 0 and len(rejects) == 1
    assert len(AudioStore(tmp_path / "out.arrow")) == 0
    assert read_table(tmp_path / "out.parquet", FEATURES) == []
