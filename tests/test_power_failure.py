"""What has its name is on the disk: the order of writing, synchronising and renaming, for every kind of file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from headstart.corpora.manifests import REJECTS, table_writer, write_table
from headstart.features.extraction import extract_features
from headstart.files import place_folder, write_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob
from headstart.study.finetune import Finetune
from headstart.study.text import Text
from headstart.subsets import draw_subset
from headstart.training.curve import write_curve

pytestmark = pytest.mark.usefixtures("one_thread")


class Synchronised(NamedTuple):
    node: int
    size: int


class Named(NamedTuple):
    path: str


@pytest.fixture
def calls(monkeypatch) -> list[Synchronised | Named]:
    """The calls that synchronise and rename, in their order."""
    seen: list[Synchronised | Named] = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename

    def synchronising(descriptor):
        status = os.fstat(descriptor)
        seen.append(Synchronised(status.st_ino, status.st_size))
        return fsync(descriptor)

    def replacing(old, new):
        seen.append(Named(os.path.abspath(new)))
        return replace(old, new)

    def renaming(old, new):
        seen.append(Named(os.path.abspath(new)))
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", synchronising)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(Path, "rename", renaming)
    return seen


def check(path: Path, calls: list[Synchronised | Named]) -> None:
    """All of the file's bytes were on the disk before it had its name, and its name was afterwards."""
    status = path.stat()
    names = [i for i, call in enumerate(calls) if isinstance(call, Named) and Path(call.path) in (path, path.parent)]
    assert names, f"{path} was written in its place"
    named = names[-1]
    folder = Path(calls[named].path).parent.stat().st_ino
    assert Synchronised(status.st_ino, status.st_size) in calls[:named], f"{path}: renamed before it was on the disk"
    assert folder in [call.node for call in calls[named:] if isinstance(call, Synchronised)], f"{path}: nameless"


def json_file(folder: Path) -> None:
    write_json(folder / "a.json", {"a": 1})


def table(folder: Path) -> None:
    write_table(folder / "a.parquet", [{"reason": "silent"}], REJECTS)


def long_table(folder: Path) -> None:
    with table_writer(folder / "a.parquet", REJECTS) as write:
        write({"utterance_id": "a", "audio_path": "b", "row": 1, "reason": "silent"})


def curve(folder: Path) -> None:
    write_curve(folder / "curve.parquet", [{"step": 1, "loss": 1.0}])


def corpus(folder: Path) -> None:
    (folder / "partial/clips").mkdir(parents=True)
    (folder / "partial/metadata.tsv").write_text("id\tpath\n")
    (folder / "partial/clips/a.wav").write_bytes(bytes(1000))
    place_folder(folder / "partial", folder / "corpus")


@pytest.mark.parametrize("write", [json_file, table, long_table, curve])
def test_a_file_has_its_name_after_its_content(write, tmp_path, calls):
    write(tmp_path)
    (written,) = tmp_path.iterdir()
    check(written, calls)


def test_a_folder_has_its_name_after_all_that_is_in_it(tmp_path, calls):
    corpus(tmp_path)
    check(tmp_path / "corpus/metadata.tsv", calls)
    nodes = [call.node if isinstance(call, Synchronised) else call.path for call in calls]
    clip, clips = tmp_path / "corpus/clips/a.wav", tmp_path / "corpus/clips"
    assert max(map(nodes.index, (clip.stat().st_ino, clips.stat().st_ino))) < nodes.index(str(tmp_path / "corpus"))


def test_so_have_the_files_of_stages(noise_clips, tiny_model, tmp_path, calls):
    """Features, a saved state, and a checkpoint at both of its places."""
    source = Path(noise_clips.splits[0].features).parent
    names = [str(tmp_path / name) for name in ("a.arrow", "a.parquet", "a.rejects.parquet")]
    extract_features(str(source / "manifest.parquet"), *names)
    for name in names:
        check(Path(name), calls)
    draw_subset(names[1], "5s", 1, str(tmp_path / "subset.parquet"))
    split = {"features": names[1], "audio": names[0]}
    settings = Finetune(updates=3, batch_seconds=5.0, log_every=3, dev_minutes=1.0, save_minutes=1e-9)
    data = {"train": split, "dev": split, "subset": str(tmp_path / "subset.parquet"), "text": Text(), "parent": None}
    places = {"output": str(tmp_path / "run"), "state": str(tmp_path / "state")}
    finetune_run(FinetuneJob.of(**data, settings=settings, model=tiny_model, seed=1, **places))
    assert str(tmp_path / "state/state.safetensors") in [call.path for call in calls if isinstance(call, Named)]
    for folder in (tmp_path / "state/finished", tmp_path / "run"):
        assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "recipe.json", "vocab.json"}
        for path in folder.iterdir():
            check(path, calls)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace to watch the system calls")
def test_the_system_is_asked_in_this_order(tmp_path):
    script = f"from headstart.files import write_json\nwrite_json({str(tmp_path / 'a.json')!r}, 1)"
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=write,fsync,rename", sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True)
    if not trace.exists() or "ptrace" in run.stderr:
        pytest.skip("strace may not trace here")
    assert run.returncode == 0, run.stderr
    wanted = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if str(tmp_path) in line]
    assert [line.split("(")[0] for line in wanted] == ["write", "fsync", "rename", "fsync"]
    assert ".a.json." in wanted[0] and ".a.json." in wanted[1] and f"<{tmp_path}>" in wanted[3]
