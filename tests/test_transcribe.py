"""`headstart transcribe`: a recording of any length gives the words of its clips, and a run can be moved."""

import csv
import json
import shutil
import tracemalloc
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

import headstart
from headstart.cli import main
from headstart.corpora.manifests import read_table
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE, load_audio
from headstart.features.clips import Clips
from headstart.features.recordings import recording_blocks, recording_seconds
from headstart.score.score_file import score_schema
from headstart.transcribe.pieces import LONGEST_S, OVERLAP_S, pieces
from headstart.transcribe.recognition import Segment, Word, segments
from headstart.transcribe.run import open_run

ROOT = Path(__file__).parent.parent
KICHWA = ROOT / "../shared/data/kichwa_spanish"


def noise(rng: np.random.Generator, seconds: float, level: float) -> np.ndarray:
    """int16 noise with a level in dBFS."""
    return (
        (32767 * 10 ** (level / 20) * rng.standard_normal(round(seconds * SAMPLE_RATE)))
        .clip(-32767, 32767)
        .astype("i2")
    )


def in_blocks(audio: np.ndarray, size: int = 70_001) -> list[np.ndarray]:
    return [audio[i : i + size] for i in range(0, len(audio), size)]


# ---------------------------------------------------------------------------------------------- reading and cutting


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 44_100), ("flac", 16_000), ("ogg", 48_000), ("wav", 8_000)])
@pytest.mark.parametrize("seconds", [0.3, 10.0, 20.7])
def test_blocks_together_are_the_whole_recording(tmp_path, suffix, rate, seconds):
    rng = np.random.default_rng(0)
    path = str(tmp_path / f"a.{suffix}")
    soundfile.write(path, 0.1 * rng.standard_normal((round(seconds * rate), 2)), rate)
    whole, blocks = load_audio(path), list(recording_blocks(path))
    assert recording_seconds(path) == pytest.approx(seconds, abs=0.01)
    assert np.array_equal(np.concatenate(blocks), whole)
    assert max(map(len, blocks)) <= 12 * SAMPLE_RATE


def test_pieces_are_what_lies_between_pauses():
    rng = np.random.default_rng(1)
    parts, bursts, at = [], [], 0.0
    for seconds in [0.3, 2.0, 7.5, 1.0, 12.0, 4.0, 0.6] * 4:
        pause = float(rng.uniform(0.6, 2.5))
        parts += [noise(rng, pause, -55), noise(rng, seconds, float(rng.uniform(-30, -18)))]
        bursts.append((at + pause, at + pause + seconds))
        at += pause + seconds
    found = list(pieces(in_blocks(np.concatenate([*parts, noise(rng, 1.0, -55)]))))
    assert len(found) == len(bursts)
    for piece, (begin, end) in zip(found, bursts, strict=True):
        assert piece.begin_s == pytest.approx(begin, abs=0.03) and piece.end_s == pytest.approx(end, abs=0.03)
        assert piece.audio_s <= piece.begin_s and piece.audio_s + piece.seconds >= piece.end_s and not piece.joined
        assert piece.seconds <= end - begin + 0.5


def test_pieces_hold_the_samples_of_their_place():
    rng = np.random.default_rng(2)
    audio = np.concatenate([part for s in (3, 9, 25, 2, 50) for part in (noise(rng, 0.8, -60), noise(rng, s, -20))])
    for piece in pieces(in_blocks(audio)):
        at = round(piece.audio_s * SAMPLE_RATE)
        np.testing.assert_array_equal(piece.audio, audio[at : at + len(piece.audio)])


def sentence(rng: np.random.Generator, *spoken: float) -> np.ndarray:
    """A clip as corpora have them: quiet at both ends, and with a pause of 0.8 s after each stretch of speech."""
    parts = [noise(rng, 0.35, -58)]
    for seconds in spoken:
        parts += [noise(rng, seconds, -22), noise(rng, 0.8, -58)]
    clip = np.concatenate(parts)
    clip[[0, -1]] = 1  # no zeros at its ends
    return clip


def test_takes_between_digital_silences_are_pieces_from_their_first_sample_to_their_last():
    rng = np.random.default_rng(8)
    clips = [sentence(rng, *rng.uniform(0.5, 4.0, rng.integers(1, 4))) for _ in range(30)]
    parts, begins, at = [], [], 0
    for clip in clips:
        silence = np.zeros(int(rng.integers(8400, 30_000)), np.int16)
        parts += [silence, clip]
        begins.append(at + len(silence))
        at += len(silence) + len(clip)
    found = list(pieces(in_blocks(np.concatenate(parts))))
    assert [round(piece.audio_s * SAMPLE_RATE) for piece in found] == begins
    for piece, clip in zip(found, clips, strict=True):
        np.testing.assert_array_equal(piece.audio, clip)
        assert piece.begin_s == pytest.approx(piece.audio_s + 0.35, abs=0.04)
        assert piece.end_s == pytest.approx(piece.audio_s + piece.seconds - 0.8, abs=0.04)


def test_a_short_recording_is_one_piece():
    clip = sentence(np.random.default_rng(9), 1.0, 2.0, 3.0)
    clip[:300] = 0
    (piece,) = pieces(in_blocks(clip))
    np.testing.assert_array_equal(piece.audio, clip)


def test_only_long_digital_silence_ends_a_take_and_long_takes_are_cut_at_pauses():
    rng = np.random.default_rng(10)
    gate, silence = np.zeros(4800, np.int16), np.zeros(16_000, np.int16)
    gated = np.concatenate([noise(rng, 2, -22), gate, noise(rng, 3, -22)])
    long = sentence(rng, 6.0, 7.0, 8.0)
    found = list(pieces(in_blocks(np.concatenate([silence, gated, silence, long, silence, gated]))))
    assert [round(piece.end_s - piece.begin_s, 1) for piece in found] == [5.3, 6.0, 7.0, 8.0, 5.3]
    np.testing.assert_array_equal(found[0].audio, gated)
    np.testing.assert_array_equal(found[4].audio, gated)


def test_speech_without_pauses_is_cut_with_an_overlap():
    rng = np.random.default_rng(3)
    found = list(pieces(in_blocks(noise(rng, 75.0, -20))))
    assert len(found) >= 4 and not found[0].joined and all(piece.joined for piece in found[1:])
    assert found[0].begin_s == pytest.approx(0, abs=0.02) and found[-1].end_s == pytest.approx(75, abs=0.02)
    for before, after in zip(found, found[1:], strict=False):
        assert before.end_s == after.begin_s  # nothing is lost
        assert before.audio_s + before.seconds == pytest.approx(before.end_s + OVERLAP_S)
        assert after.audio_s == pytest.approx(after.begin_s - OVERLAP_S)
    assert max(piece.end_s - piece.begin_s for piece in found) <= LONGEST_S + OVERLAP_S


def test_long_speech_is_cut_in_its_longest_short_pause():
    rng = np.random.default_rng(4)
    parts = [(6, 0.2), (7, 0.3), (6, 0.2), (5, 0.0)]
    audio = np.concatenate([one for s, pause in parts for one in (noise(rng, s, -20), noise(rng, pause, -60))])
    first, second = pieces(in_blocks(audio))
    assert first.end_s == pytest.approx(13.2, abs=0.03) and second.begin_s == pytest.approx(13.5, abs=0.03)
    assert not second.joined and first.audio_s + first.seconds <= second.audio_s


@pytest.mark.parametrize("level", [-100, -70])
def test_silence_has_no_pieces(level):
    rng = np.random.default_rng(5)
    assert list(pieces(in_blocks(noise(rng, 40.0, level)))) == []
    assert list(pieces([])) == []


def test_a_constant_offset_is_no_speech():
    rng = np.random.default_rng(6)
    audio = np.concatenate([noise(rng, 3, -75), noise(rng, 2, -20), noise(rng, 3, -75)]) // 2 + 3000
    (piece,) = pieces(in_blocks(audio))
    assert piece.begin_s == pytest.approx(3, abs=0.03) and piece.end_s == pytest.approx(5, abs=0.03)


def test_memory_does_not_grow_with_the_recording():
    def peak(minutes: int) -> int:
        rng = np.random.default_rng(7)
        blocks = (noise(rng, 10, -60 if i % 3 == 2 else -20) for i in range(6 * minutes))
        tracemalloc.start()
        for _ in pieces(blocks):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(12) < 1.1 * peak(4)


# ---------------------------------------------------------------------------------------------- a run that transcribes


TEXTS = [
    "we saw the river", "my sister reads a letter", "nine dogs sleep", "the door is open", "they buy bread and salt",
    "a boat comes back", "he never walks alone", "give me the blue cup", "rain falls on the roof", "who sings at night",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_clips, one_thread) -> Path:
    """The folder of a study with one run, which knows ten sentences by heart, scored with its language model."""
    from headstart.corpora.synthetic.espeak import synthesise
    from headstart.decode.language_model import train_language_model
    from headstart.finetune import finetune_run
    from headstart.jobs import FinetuneJob, LanguageModelFiles, LanguageModelJob, ScoreJob
    from headstart.score.scoring import score_run
    from headstart.study.decoding import LanguageModel
    from headstart.study.finetune import Finetune
    from headstart.study.text import Text
    from headstart.subsets import draw_subset

    folder = tmp_path_factory.mktemp("study")
    hiss = np.random.default_rng(0)  # no recording has samples of zero, as eSpeak's have
    clips = [synthesise(text, "en", words_per_minute=150) for text in TEXTS]
    clips = [clip + 1e-3 * hiss.standard_normal(len(clip)) for clip in clips]
    make_clips(folder, clips, TEXTS, 22050)
    split = {"features": str(folder / "a.parquet"), "audio": str(folder / "a.arrow")}
    draw_subset(split["features"], "10s", 1, str(folder / "subset.parquet"))
    results = folder / "results/tiny"
    run, model = str(results / RUN), {"arpa": "lm/en.arpa", "recipe": "lm/en.json"}
    settings = Finetune(
        updates=150, batch_seconds=20, learning_rate=3e-3, dropout=0.0, mask_time_share=0.0, log_every=150
    )
    common = {"settings": settings, "text": Text(), "model": None, "parent": str(ROOT / "starts/mono"), "seed": 1}
    paths = {"subset": str(folder / "subset.parquet"), "output": run, "state": str(folder / "state")}
    finetune_run(FinetuneJob.of(train=split, dev=split, **common, **paths))
    model = {
        key: str(results / f"language_models/en.{suffix}") for key, suffix in (("arpa", "arpa"), ("recipe", "json"))
    }
    text = {"train": split["features"], "dev": split["features"], "files": [], "language": "en", "text": Text()}
    train_language_model(
        LanguageModelJob.of(**text, settings=LanguageModel(), output=model["arpa"], recipe=model["recipe"])
    )
    scores = str(results / RUN.replace("runs", "scores", 1)) + ".parquet"
    score_run(
        ScoreJob.of(
            run=run, test=split, dev=split, language_model=LanguageModelFiles(**model), text=Text(), output=scores
        )
    )
    return folder


RUN = "runs/mono/en/10s/seed1"


def scored(study: Path) -> list[dict]:
    return read_table(study / "results/tiny" / (RUN.replace("runs", "scores", 1) + ".parquet"), score_schema())


def joined(clips: list[np.ndarray], path: Path, rng: np.random.Generator) -> list[float]:
    """Write clips at 16 kHz with silences between them as one recording; returns where each of them begins."""
    parts, begins, at = [], [], 0
    for clip in clips:
        silence = np.zeros(round(float(rng.uniform(0.6, 1.6)) * SAMPLE_RATE), np.int16)
        begins.append((at + len(silence)) / SAMPLE_RATE)
        parts += [silence, clip]
        at += len(silence) + len(clip)
    soundfile.write(path, np.concatenate([*parts, np.zeros(8000, np.int16)]), SAMPLE_RATE, subtype="PCM_16")
    return begins


def compared(rows: list[dict], begins: list[float], words: list[dict]) -> tuple[int, int, list[float]]:
    """Words of the clips, those of them that the recording has too, and how far apart their times are.

    A word of the recording belongs to the clip in which its middle lies.
    """
    total, same, apart = 0, 0, []
    for row, begin in zip(rows, begins, strict=True):
        expected = row["hypothesis"].split() if row["hypothesis_lm"] is None else row["hypothesis_lm"].split()
        length = row["duration_s"] + 0.25
        found = [w for w in words if begin - 0.25 <= (w["start_s"] + w["end_s"]) / 2 < begin + length]
        total += len(expected)
        steps = (
            jiwer.process_words(" ".join(expected), " ".join(w["text"] for w in found)).alignments[0]
            if expected
            else []
        )
        for step in steps:
            if step.type == "equal":
                same += step.ref_end_idx - step.ref_start_idx
                for i, j in zip(
                    range(step.ref_start_idx, step.ref_end_idx),
                    range(step.hyp_start_idx, step.hyp_end_idx),
                    strict=True,
                ):
                    times = row["word_times"][i]
                    apart += [abs(found[j][key] - begin - times[key]) for key in ("start_s", "end_s")]
    return total, same, apart


def transcribed(capsys, *arguments) -> list[dict]:
    """The words that the command writes as JSON lines."""
    assert main(["transcribe", *map(str, arguments), "--format", "json"]) == 0
    return [word for line in capsys.readouterr().out.splitlines() for word in json.loads(line)["words"]]


def test_a_recording_has_the_words_of_its_clips_at_their_times(study, tmp_path, capsys):
    clips, rows = Clips.open(study / "a.parquet", study / "a.arrow"), scored(study)
    order = np.random.default_rng(0).permutation(30) % len(rows)
    begins = joined([clips.audio(int(i)) for i in order], tmp_path / "long.wav", np.random.default_rng(1))
    words = transcribed(capsys, study / "results/tiny" / RUN, tmp_path / "long.wav")
    total, same, apart = compared([rows[i] for i in order], begins, words)
    assert total > 100 and same == total == len(words)
    assert max(apart) < 0.002  # times are written in milliseconds
    confidences = [word["confidence"] for word in words]
    assert min(confidences) >= 0 and max(confidences) <= 1 and np.median(confidences) > 0.5


def test_short_recordings_share_batches_and_keep_their_order(study, tmp_path, capsys, monkeypatch):
    from headstart.transcribe import recognition

    clips, rows = Clips.open(study / "a.parquet", study / "a.arrow"), scored(study)
    for i in range(len(rows)):
        soundfile.write(tmp_path / f"{i}.wav", clips.audio(i), SAMPLE_RATE)
    soundfile.write(tmp_path / "3a.wav", np.zeros(16000), SAMPLE_RATE)
    (tmp_path / "5a.flac").write_bytes(b"fLaC" + bytes(500))
    together, emissions = [], recognition.emissions

    def counted(network, audio, *rest):
        together.append(len(audio))
        return emissions(network, audio, *rest)

    monkeypatch.setattr(recognition, "emissions", counted)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert main(["transcribe", str(study / "results/tiny" / RUN), *(str(tmp_path / name) for name in names)]) == 1
    heard = capsys.readouterr().out
    expected = []
    for name in names:
        expected += [] if name == "5a.flac" else [f"==> {tmp_path / name} <=="]
        expected += [rows[int(name[:-4])]["hypothesis_lm"]] if name[:-4].isdigit() else []
    assert heard.splitlines() == expected
    assert together == [len(rows)]


def test_a_long_sentence_without_pauses_loses_and_repeats_no_word(study, tmp_path, capsys):
    """The clips without their silences, one after the other: every cut is within speech, with an overlap."""
    clips = Clips.open(study / "a.parquet", study / "a.arrow")
    known = [i for i, row in enumerate(scored(study)) if row["hypothesis_lm"] == row["reference"]]
    texts = [scored(study)[i]["reference"] for i in known] * 3
    audio = [clips.audio(i) for i in known]
    loud = [np.flatnonzero(np.abs(one) > 300) for one in audio]
    frame = 480  # samples of this model: its frames begin where they do in the clips
    spoken = [one[at[0] // frame * frame : at[-1] // frame * frame] for one, at in zip(audio, loud, strict=True)] * 3
    soundfile.write(tmp_path / "dense.wav", np.concatenate(spoken), SAMPLE_RATE, subtype="PCM_16")
    run = open_run(study / "results/tiny" / RUN)
    cut = list(pieces(recording_blocks(tmp_path / "dense.wav")))
    found = [segment for _, segment in segments(run, cut)]
    assert all(a.words[-1].end_s <= b.words[0].end_s for a, b in zip(found, found[1:], strict=False))
    expected, heard = " ".join(texts).split(), [word.text for segment in found for word in segment.words]
    errors = jiwer.process_words(" ".join(expected), " ".join(heard))
    # Where two clips meet without a pause, their words may run together; cuts add no more than a word each.
    assert errors.deletions + errors.insertions + errors.substitutions <= 0.25 * len(expected)
    assert heard == sorted_by_time(found)


def sorted_by_time(found: list[Segment]) -> list[str]:
    return [word.text for word in sorted((w for one in found for w in one.words), key=lambda w: w.start_s)]


class _Fixed:
    """Stands for a run: `segments` is given the words of each piece."""


def test_words_of_an_overlap_are_kept_once(monkeypatch):
    from headstart.transcribe import recognition
    from headstart.transcribe.pieces import Piece

    def word(text: str, start: float) -> Word:
        return Word(text, start, start + 0.3, 0.9)

    first, second = Piece(np.zeros(1), 0.0, 0.0, 10.0), Piece(np.zeros(1), 9.0, 10.0, 18.0, joined=True)
    # The cut at 10 s is within "c"; the pieces place it a little differently, so that a cut there would lose it.
    words = {
        id(first): [word("a", 8.0), word("b", 9.3), word("c", 9.84), word("d", 10.4), word("dr", 10.8)],
        id(second): [word("x", 9.0), word("b", 9.32), word("c", 9.87), word("d", 10.38), word("e", 12.0)],
    }
    monkeypatch.setattr(recognition, "_words", lambda run, cut: ((piece, words[id(piece)]) for piece in cut))
    (_, one), (_, two) = segments(_Fixed(), [first, second])
    assert [w.text for w in one.words] + [w.text for w in two.words] == ["a", "b", "c", "d", "e"]
    assert one.end_s == two.start_s


# ---------------------------------------------------------------------------------------------- the command


def test_the_language_model_of_the_study_is_used_unless_declined(study, tmp_path, capsys):
    clips, rows = Clips.open(study / "a.parquet", study / "a.arrow"), scored(study)
    differing = next(i for i, row in enumerate(rows) if row["hypothesis"] != row["hypothesis_lm"])
    soundfile.write(tmp_path / "one.wav", clips.audio(differing), SAMPLE_RATE)
    run, said = study / "results/tiny" / RUN, {}
    for option in ("--lm", "--no-lm"):
        said[option] = " ".join(word["text"] for word in transcribed(capsys, run, tmp_path / "one.wav", option))
    assert said == {"--lm": rows[differing]["hypothesis_lm"], "--no-lm": rows[differing]["hypothesis"]}


def test_an_exported_run_needs_nothing_else(study, tmp_path, capsys):
    """It transcribes as the run in its study, with its language model, and loads in transformers' pipeline."""
    import transformers

    clips, rows = Clips.open(study / "a.parquet", study / "a.arrow"), scored(study)
    for i in range(len(rows)):
        soundfile.write(tmp_path / f"{i}.wav", clips.audio(i), SAMPLE_RATE)
    files = [tmp_path / f"{i}.wav" for i in range(len(rows))]
    run = study / "results/tiny" / RUN
    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "elsewhere"))
    assert transcribed(capsys, moved, *files, "--lm") == transcribed(capsys, run, *files, "--lm")
    heard = run_example(tmp_path, moved, capsys)
    assert heard == scored(study)[0]["hypothesis"]
    recognise = transformers.pipeline("automatic-speech-recognition", model=str(moved))
    heard = [recognise({"raw": clips.audio(i) / 32768, "sampling_rate": SAMPLE_RATE})["text"] for i in range(len(rows))]
    same = [text == row["hypothesis"] for text, row in zip(heard, rows, strict=True)]
    assert sum(same) >= len(rows) - 1  # transformers computes the layer norms in another order
    with pytest.raises(HeadstartError, match="not empty"):
        from headstart.export import export

        (tmp_path / "full").mkdir()
        (tmp_path / "full/notes").touch()
        export(run, tmp_path / "full")


def run_example(folder: Path, model: Path, capsys) -> str:
    """What the Python of a model card prints for a stereo file of the first clip."""
    template = Path(headstart.__file__).parent / "report/templates/card.md.j2"
    code = template.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    samples, rate = soundfile.read(folder / "0.wav")
    soundfile.write(folder / "clip.wav", np.stack([samples, samples], axis=1), rate)
    code = code.replace("FOLDER OR NAME OF THIS MODEL", str(model)).replace("clip.wav", str(folder / "clip.wav"))
    capsys.readouterr()
    exec(code, {})
    (folder / "clip.wav").unlink()
    return capsys.readouterr().out.strip()


def test_a_bad_recording_is_named_and_the_others_go_on(study, tmp_path, capsys):
    clips = Clips.open(study / "a.parquet", study / "a.arrow")
    soundfile.write(tmp_path / "a.wav", clips.audio(0), SAMPLE_RATE)
    (tmp_path / "broken.flac").write_bytes(b"fLaC" + bytes(500))
    (tmp_path / "empty.mp3").touch()
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), SAMPLE_RATE)
    run, output = str(study / "results/tiny" / RUN), tmp_path / "out"
    formats = [part for name in ("text", "srt", "elan") for part in ("--format", name)]
    assert main(["transcribe", run, str(tmp_path), "--output", str(output), *formats]) == 1
    told = capsys.readouterr().err
    for name in ("broken.flac", "empty.mp3", "nan.wav"):
        assert f"{tmp_path / name}: not transcribed: " in told
    assert f"{tmp_path / 'silent.wav'}: nothing to transcribe" in told and "3 recordings not transcribed" in told
    assert sorted(path.name for path in output.iterdir()) == [
        f"{name}.{suffix}" for name in ("a", "silent") for suffix in ("eaf", "srt", "txt")
    ]
    assert (output / "a.txt").read_text().split() == scored(study)[0]["hypothesis_lm"].split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "nowhere.wav"], "nowhere.wav: no such file"),
        (["{run}", "{empty}"], "no audio file in this folder"),
        (["nowhere", "{clip}"], "nowhere: no such folder; name the folder of a finished run"),
        (["{clip}", "{clip}"], "a file; name the folder"),
        (["{study}", "{clip}"], "holds no model itself; name a run in it, such as"),
        (["{start}", "{clip}"], "no vocab.json, so this is a start"),
        (["{run}", "{clip}", "--device", "tpu"], "--device tpu: "),
        (["{run}", "{clip}", "--device", "cuda:99"], "GPUs here"),
        (["{run}", "{clip}", "--format", "srt", "--format", "vtt"], "give --output FOLDER"),
        (["{run}", "{clip}", "{other}", "--format", "elan"], "give --output FOLDER"),
        (["{bare}", "{clip}", "--lm"], "no language model, because"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(study, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    for name in ("clip", "other"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600), SAMPLE_RATE)
    places = {"run": study / "results/tiny" / RUN, "study": study / "results/tiny", "start": ROOT / "starts/mono"}
    places |= {"clip": tmp_path / "clip.wav", "other": tmp_path / "other.wav", "empty": tmp_path / "empty"}
    places["bare"] = tmp_path / "bare"
    if "{bare}" in arguments:
        shutil.copytree(places["run"], places["bare"])
    assert main(["transcribe", *(argument.format(**places) for argument in arguments)]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and not told.out


# ---------------------------------------------------------------------------------------------- real speech


@pytest.mark.slow
@pytest.mark.skipif(not KICHWA.is_dir(), reason="the Kichwa recordings are not beside the checkout")
def test_ten_minutes_of_kichwa_have_the_words_of_their_clips(study, tmp_path, capsys, make_clips):
    """The run has never met Kichwa, and writes nonsense; but the same nonsense for a clip and for the recording.

    The clips are cut where their sound begins and ends. Zeros of their own at these places could not be told from the
    silence around them, so that frames would begin elsewhere (docs/transcribing.md).
    """
    from headstart.jobs import ScoreJob
    from headstart.score.scoring import score_run
    from headstart.study.text import Text

    with open(KICHWA / "metadata.tsv", encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "dev"]
    clips, seconds = [], 0.0
    while seconds < 500:
        clips.append(np.trim_zeros(load_audio(str(KICHWA / table[len(clips)]["path"]))))
        seconds += len(clips[-1]) / SAMPLE_RATE
    made = make_clips(tmp_path, [clip / 32768 for clip in clips], [row["text"] for row in table[: len(clips)]])
    split = {"features": str(tmp_path / "a.parquet"), "audio": str(tmp_path / "a.arrow")}
    results = study / "results/tiny"
    scores = str(tmp_path / "scores.parquet")
    run = str(results / RUN)
    score_run(ScoreJob.of(run=run, test=split, text=Text(), output=scores))
    rows = read_table(scores, score_schema())
    begins = joined([made.audio(i) for i in range(len(made))], tmp_path / "long.flac", np.random.default_rng(1))
    words = transcribed(capsys, run, tmp_path / "long.flac", "--no-lm")
    total, same, apart = compared(rows, begins, words)
    assert total == same == len(words) > 500
    assert np.mean(np.array(apart) < 0.1) > 0.99
