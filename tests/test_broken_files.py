"""Files that the workflow made and that are cut short or damaged: named, and set aside to be made again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headstart.analyse.analysis import SIMILARITIES
from headstart.corpora.manifests import FEATURES, OPTIONAL, REJECTS, read_columns, read_table, write_table
from headstart.corpora.overview import describe
from headstart.decode.language_model import language_model_units, train_language_model
from headstart.errors import HeadstartError
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.files import BrokenFileError, derived, read_sealed, sealed, set_aside, write_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob, LanguageModelFiles, LanguageModelJob
from headstart.score.score_file import score_columns, score_schema
from headstart.score.transcription import transcribe
from headstart.study.decoding import LanguageModel
from headstart.study.finetune import Finetune
from headstart.study.text import Text
from headstart.subsets import draw_subset
from headstart.summarise.representation import read_similarities
from headstart.summarise.tables import read_counts
from headstart.training.curve import read_curve, write_curve

FLIPS = 200  # bits of each kind of file

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(noise_clips, tmp_path) -> Path:
    """Every kind of file that a stage reads, as stages lay them out."""
    source = Path(noise_clips.splits[0].features).parent
    for name in ("manifest.parquet", "a.parquet", "a.arrow"):
        shutil.copy(source / name, tmp_path / name)
    draw_subset(str(tmp_path / "a.parquet"), "5s", 1, str(tmp_path / "subset.parquet"))
    for stage in ("manifests", "features"):
        rejects = [{"utterance_id": f"u{i}", "reason": "silent"} for i in range(20)]
        write_table(tmp_path / stage / "en/train.rejects.parquet", rejects, REJECTS)
    shutil.copy(source / "a.parquet", tmp_path / "features/en/train.parquet")
    facts = {"language": "en", "duration_s": 1.0, **score_columns("a", "b")}
    write_table(tmp_path / "scores.parquet", [{"utterance_id": f"u{i}", **facts} for i in range(20)], score_schema())
    facts = {"seed": 1, "measure": "cka", "similarity": 0.5, "replicates": [0.5, 0.5]}
    write_table(tmp_path / "similarities.parquet", [{"layer": i, **facts} for i in range(4)], SIMILARITIES)
    return tmp_path


def finetune(folder: Path, tiny_model) -> None:
    files = {"features": str(folder / "a.parquet"), "audio": str(folder / "a.arrow")}
    settings = Finetune(updates=2, batch_seconds=5.0, log_every=2, dev_minutes=1.0)
    data = {"train": files, "dev": files, "subset": str(folder / "subset.parquet"), "text": Text()}
    shutil.rmtree(folder / "state", ignore_errors=True)  # or a run that is finished would not be trained again
    places = {"output": str(folder / "run"), "state": str(folder / "state")}
    finetune_run(FinetuneJob.of(**data, settings=settings, model=tiny_model, parent=None, seed=1, **places))


def extract(folder: Path, _) -> None:
    extract_features(
        *(str(folder / name) for name in ("manifest.parquet", "b.arrow", "b.parquet", "b.rejects.parquet"))
    )


def draw(folder: Path, _) -> None:
    draw_subset(str(folder / "a.parquet"), "5s", 2, str(folder / "other.parquet"))


def report(folder: Path, _) -> None:
    assert describe([str(folder / "features/en/train.parquet")])[0]["rejected"] == 40


KINDS = {
    "manifest.parquet": extract,
    "a.parquet": draw,
    "a.arrow": finetune,
    "subset.parquet": finetune,
    "features/en/train.parquet": report,
    "features/en/train.rejects.parquet": report,
    "manifests/en/train.rejects.parquet": report,
    "scores.parquet": lambda folder, _: read_counts(folder / "scores.parquet"),
    "similarities.parquet": lambda folder, _: read_similarities(folder / "similarities.parquet", [1]),
}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def flip_data(path: Path) -> None:
    """Another byte in what a reader is after, but not in what says where it lies."""
    if path.suffix == ".arrow":
        return flip(path, path.stat().st_size // 2)
    columns = pq.read_metadata(path).row_group(0)
    for i in range(columns.num_columns):  # the last byte of each column: that of its values
        column = columns.column(i)
        begin = column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
        flip(path, begin + column.total_compressed_size - 1)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "garbled"])
def test_a_broken_file_is_named_and_set_aside(name, damage, folder, tiny_model):
    KINDS[name](folder, tiny_model)
    path = folder / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        flip_data(path)
    else:
        path.write_bytes(content[:-40] + bytes(40))
    broken = path.read_bytes()
    with pytest.raises(HeadstartError, match=f"{path}: .*renamed to {path}.broken; run Snakemake again"):
        KINDS[name](folder, tiny_model)
    assert not path.exists()
    assert Path(f"{path}.broken").read_bytes() == broken  # nothing is lost
    if name != "features/en/train.parquet" and "rejects" not in name:
        with pytest.raises(HeadstartError, match="no s"):  # no such file, no score file, no similarities
            KINDS[name](folder, tiny_model)


def test_changed_samples_are_noticed_at_their_first_reading(folder):
    path = folder / "a.arrow"
    clips = Clips.open(folder / "a.parquet", path)
    start = path.read_bytes().index(clips.audio(6).tobytes())
    flip(path, start + 100)  # clip 6 has been compared, so that it is not looked at again
    assert clips.audio(6) is not None
    clips = Clips.concatenate([Clips.open(folder / "a.parquet", path)]).take([2, 6])
    assert len(clips.audio(0))
    with pytest.raises(
        BrokenFileError, match=f"{path}: damaged, the samples of clip006 .*{path}.broken; run Snakemake"
    ):
        clips.audio(1)
    assert not path.exists()
    assert len(clips.audio(0))  # what is good in it stays readable


def test_an_audio_file_with_other_columns_is_set_aside(folder):
    path = folder / "a.arrow"
    head, _, tail = path.read_bytes().rpartition(b"audio")  # in the footer, which is what a reader goes by
    path.write_bytes(head + b"audiO" + tail)
    with pytest.raises(BrokenFileError, match=f"{path}: .*its columns are audiO.*{path}.broken"):
        Clips.open(folder / "a.parquet", path)


def test_every_reader_of_audio_compares_it(folder, tiny_model):
    from headstart.encoder.checkpoints import ctc_model
    from headstart.text.normalisation import build_vocabulary

    flip_data(folder / "a.arrow")
    clips = Clips.open(folder / "a.parquet", folder / "a.arrow")
    vocabulary = build_vocabulary(["ab"])
    with pytest.raises(BrokenFileError, match="damaged"):
        list(transcribe(ctc_model(None, tiny_model, vocabulary, 0.0).eval(), clips, vocabulary))


def test_the_hashes_of_a_split_take_eight_bytes_a_clip(folder):
    clips = Clips.open(folder / "a.parquet", folder / "a.arrow")
    clips.audio(0)
    expected = [int(value, 16) for value in clips.column("content_hash")]
    assert clips.splits[0]._hashes.dtype == np.uint64 and clips.splits[0]._hashes.tolist() == expected


def test_two_jobs_that_find_the_same_file_broken_both_say_so_and_a_new_file_stays(folder):
    path = folder / "a.parquet"
    found = os.stat(path)
    assert "renamed to" in str(set_aside(path, found, "damaged"))
    assert "renamed to" in str(set_aside(path, found, "damaged"))  # the other job was quicker
    (folder / "new").write_text("made again")
    os.replace(folder / "new", path)
    assert "Another file" in str(set_aside(path, found, "damaged"))
    assert path.read_text() == "made again"


def test_what_the_system_cannot_read_is_not_taken_for_broken(folder):
    path = folder / "a.parquet"
    with pytest.raises(BrokenFileError, match="cannot be read"):
        with derived(path):
            raise PermissionError(13, "Permission denied")
    assert path.exists()
    with pytest.raises(HeadstartError, match="not the expected columns"):  # another stage's table, given by mistake
        read_table(path, REJECTS)
    with pytest.raises(HeadstartError, match="not a file"):
        read_columns(folder, None)
    assert path.exists() and folder.exists()


def test_a_broken_learning_curve_is_named_and_stays(folder):
    path = folder / "curve.parquet"
    write_curve(path, [{"step": 1, "loss": 1.0}])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(HeadstartError, match=f"{path}: the learning curve cannot be read"):
        read_curve(path)
    assert path.exists()


def test_tables_are_written_with_checksums_and_read_by_anyone(folder):
    schema = pa.schema([field for field in FEATURES if field.name not in OPTIONAL])
    assert pq.read_table(folder / "a.parquet").schema.remove_metadata() == schema
    flip_data(folder / "a.parquet")
    with pytest.raises(OSError, match="CRC checksum"):
        pq.read_table(folder / "a.parquet", page_checksum_verification=True)


def contents(path: Path, folder: Path):
    """Everything that stages read of a file."""
    if path.suffix == ".arrow":
        clips = Clips.open(folder / "a.parquet", path)
        return [clips.audio(i).tobytes() for i in range(len(clips))]
    if path.name == "scores.parquet":
        return {name: counts.tolist() for name, counts in read_counts(path).errors.items()}
    return read_table(path, {"a.parquet": FEATURES, "similarities.parquet": SIMILARITIES}[path.name])


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "scores.parquet", "similarities.parquet"])
def test_a_bit_that_flips_anywhere_is_an_error_or_changes_nothing(name, folder):
    """Not all bits of a file mean something; those that do are covered by a checksum or by its structure."""
    path = folder / name
    whole, content = contents(path, folder), path.read_bytes()
    generator, noticed = np.random.default_rng(len(name)), 0
    for _ in range(FLIPS):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        try:
            assert contents(path, folder) == whole
        except HeadstartError as error:
            assert str(path) in str(error)
            noticed += 1
    assert noticed > FLIPS / 4


def test_a_damaged_language_model_is_named_with_the_rule_that_makes_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arpa, recipe = (f"results/s/language_models/en.{suffix}" for suffix in ("arpa", "json"))
    files = LanguageModelFiles(arpa=arpa, recipe=recipe)
    job = {"train": "a.parquet", "dev": "a.parquet", "files": [], "language": "en", "text": Text()}
    train_language_model(LanguageModelJob.of(**job, settings=LanguageModel(), output=arpa, recipe=recipe))
    assert language_model_units(files) in ("words", "characters")
    content = Path(arpa).read_bytes()
    flip(Path(arpa), len(content) // 2)
    with pytest.raises(HeadstartError, match=f"{arpa}: the file is damaged .* whose rule train_language_model makes"):
        language_model_units(files)
    Path(arpa).write_bytes(content)
    flip(Path(recipe), 1)
    with pytest.raises(BrokenFileError, match=f"{recipe}: .*renamed to .* whose rule train_language_model makes"):
        language_model_units(files)


def test_a_damaged_summary_is_set_aside(tmp_path, monkeypatch):
    """A digit that became another one leaves the file as readable as before."""
    monkeypatch.chdir(tmp_path)
    path = Path("results/s/summary.json")
    value = {"runs": [{"start": "mono", "wer": 0.25}], "by_seed": {2: 0.5, 10: 0.75}}
    write_json(path, sealed(value))
    assert read_sealed(path)["runs"] == value["runs"]
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(BrokenFileError, match=f"{path}: .*its hash is not the one in it.*rule summarise_study makes"):
        read_sealed(path)
    assert not path.exists()
