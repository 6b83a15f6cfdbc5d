"""Damaged audio: each file ends in a row of rejects, or is kept as what it was made from; none stops a job."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import RATE, Damaged, damaged_files, stubborn

from headstart.corpora.manifests import MANIFEST, REJECTS, read_table
from headstart.corpora.reading import read_corpus
from headstart.corpora.registry import open_reader
from headstart.errors import HeadstartError
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.workers import Failure, Result, in_order

FILES = 200
# What these formats have no marks for: a recording could be like that.
UNSEEN = {(kind, suffix) for kind in ("zeros inside", "pieces swapped", "bits flipped") for suffix in ("wav", "sph")}
UNSEEN.add(("bits flipped", "mp3"))


def overlap(found: np.ndarray, sound: np.ndarray) -> float:
    """Share of the 50 ms pieces of a sound that are found, at one shift in time for all of them."""
    size, (found, sound) = max(len(found), len(sound)) * 2, (x.astype(float) for x in (found, sound))
    spectra = np.fft.rfft(found, size), np.fft.rfft(sound, size)
    shift = int(np.argmax(np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)))
    shift -= size if shift > size // 2 else 0
    moved = np.zeros(len(sound))
    begin, end = max(0, -shift), min(len(sound), len(found) - shift)
    moved[begin:end] = found[begin + shift : end + shift]
    pieces = ((moved[i : i + 800], sound[i : i + 800]) for i in range(0, len(sound) - 799, 800))
    return float(np.mean([np.std(a) > 0 and np.corrcoef(a, b)[0, 1] > 0.7 for a, b in pieces]))


def outcomes(folder: Path, files: list[Damaged]) -> dict[str, tuple[str, str]]:
    """For each file, by id: the stage that rejected it or `kept`, and the reason, or what was logged of it."""
    lines = [f"{file.path.name}\ttrain\tari" for file in files]
    (folder / "metadata.tsv").write_text("\n".join(["path\tsplit\ttext", *lines]))
    columns = {"utterance_id": None, "split": "split"}
    settings = {"reader": "folder", "path": str(folder), "language": "qu", "columns": columns}
    from pydantic import TypeAdapter

    from headstart.corpora.registry import Corpus

    reader = open_reader(TypeAdapter(Corpus).validate_python({**settings, "dev_share": 0, "test_share": 0}), "")
    read_corpus(reader, {"train": (str(folder / "m"), str(folder / "r"))}, processes=2)
    extract_features(*(str(folder / name) for name in ("m", "a", "f", "fr")), processes=2)
    found = {row["utterance_id"]: ("reading", row["reason"]) for row in read_table(folder / "r", REJECTS)}
    found |= {row["utterance_id"]: ("features", row["reason"]) for row in read_table(folder / "fr", REJECTS)}
    clips = Clips.open(folder / "f", folder / "a")
    found |= dict.fromkeys(clips.column("utterance_id"), ("kept", ""))
    assert len(read_table(folder / "m", MANIFEST)) + len(read_table(folder / "r", REJECTS)) == len(files)
    return found


def test_200_damaged_files_are_rejected_or_kept_as_what_they_were_made_from(tmp_path, caplog):
    files = list(damaged_files(tmp_path, seed=1, count=FILES))
    found = outcomes(tmp_path, files)
    assert len(found) == FILES
    clips = Clips.open(tmp_path / "f", tmp_path / "a")
    places = {name: index for index, name in enumerate(clips.column("utterance_id"))}
    noted = {
        record.getMessage().split(": ")[0].removeprefix("kept ")
        for record in caplog.records
        if record.getMessage().startswith("kept ")
    }
    wrong, counts = [], Counter()
    for file in files:
        stage, reason = found[file.path.stem]
        counts[f"rejected in {stage}" if stage != "kept" else "kept"] += 1
        if stage != "kept":
            assert reason and "\n" not in reason, (file.kind, reason)
            continue
        samples = clips.audio(places[file.path.stem])
        share = overlap(samples, file.sound)
        copies = 2 if file.kind == "joined" else 1
        whole = share > 0.85 and len(samples) / RATE == pytest.approx(copies * len(file.sound) / RATE, abs=0.25)
        said = file.path.stem in noted
        counts["kept: whole" if whole else "kept: said to be doubtful" if said else "kept: other"] += 1
        if not whole and not said and (file.kind, file.container) not in UNSEEN:
            wrong.append((file.path.name, file.kind, round(share, 2), len(samples) / RATE))
    print(counts, *wrong, sep="\n")
    assert not wrong


def test_a_worker_that_crashes_or_hangs_costs_its_task_only():
    tasks = [f"t{i}" for i in range(40)]
    tasks[0] = tasks[7] = tasks[39] = "crash"
    tasks[20] = "hang"
    results = list(in_order("damage:stubborn", ([task] for task in tasks), 2, timeout_s=3))
    assert len(results) == 40
    for task, result in zip(tasks, results, strict=True):
        if task in ("crash", "hang"):
            how = "the decoder crashed (signal SIGABRT)" if task == "crash" else "the decoder gave no result in 3 s"
            assert result == Failure(f"undecodable audio: {how}")
        else:
            assert result == stubborn(task)


def test_a_worker_that_is_killed_costs_nothing_and_the_job_if_it_never_ends(tmp_path):
    """As the system does when memory runs out: the clip is not to blame, so it is not rejected."""
    tasks = [f"t{i}" for i in range(12)]
    tasks[3] = f"killed 4 {tmp_path / 'few'}"
    assert list(in_order("damage:stubborn", ([task] for task in tasks), 2)) == [Result(t, t.encode()) for t in tasks]
    tasks[3] = f"killed 99 {tmp_path / 'often'}"
    with pytest.raises(
        HeadstartError, match="the process that decodes killed 99 .* was killed 5 times .*memory ran out"
    ):
        list(in_order("damage:stubborn", ([task] for task in tasks), 2))


def test_a_mistake_in_the_program_is_no_fault_of_the_audio():
    with pytest.raises(RuntimeError, match="damage:stubborn failed in a worker(.|\n)*a mistake in the program"):
        list(in_order("damage:stubborn", (["a"], ["fail"]), 1))
    with pytest.raises(RuntimeError, match="did not start"):
        list(in_order("damage:missing", (["a"],), 1))
