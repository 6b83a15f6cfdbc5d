"""What is seen of a checkpoint folder without loading it."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headstart.encoder.checkpoint_files import (
    CheckpointError,
    check_checkpoint,
    checkpoint_content,
    checkpoint_files,
    own_recipe,
)
from headstart.files import write_json
from headstart.jobs import FinetuneJob
from headstart.study.finetune import Finetune
from headstart.study.reading import StudyError, parse_study
from headstart.study.text import Text
from headstart.training.finished import finish, place
from headstart.training.recipes import recipe_of
from headstart.workflow import Workflow

RECIPE = {"stage": "pretrain", "version": 3, "settings": {}, "seed": 0, "data": {}}


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "wav2vec2"})
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_only_what_is_loaded_counts(folder):
    """A folder like MMS has 2,200 files of adapters; other tools leave files of their own."""
    content = checkpoint_content(folder)
    for name in ("adapter.abc.safetensors", "pytorch_model.bin", "trainer_state.json", "recipe.json"):
        (folder / name).write_bytes(b"{}")
    assert [path.name for path in checkpoint_files(folder)] == ["config.json", "model.safetensors"]
    assert checkpoint_content(folder) == content
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert checkpoint_content(folder) != content


def test_shards_are_loaded_and_must_be_there(folder):
    (folder / "model.safetensors").unlink()
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": shards})
    (folder / "model-1.safetensors").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors: no such file, though model.*index.* names it"):
        check_checkpoint(folder)
    (folder / "model-2.safetensors").write_bytes(b"2")
    check_checkpoint(folder)
    names = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    assert [path.name for path in checkpoint_files(folder)] == names


@pytest.mark.parametrize(
    ("recipe", "believed"),
    [
        (RECIPE, True),
        ({**RECIPE, "stage": "bake"}, False),
        ({**RECIPE, "settings": 3}, False),
        ({**RECIPE, "data": {"corpora": {"en": 3.5}}, "wall_s": 2.0}, True),
        ({**RECIPE, "data": {"corpora": ["wikipedia"]}}, False),
        ({**RECIPE, "data": {"labelled": {"en": "much"}}}, False),
        ({**RECIPE, "settings": {"updates": "many"}}, False),
        ({"steps": ["flour"]}, False),
        (["flour"], False),
    ],
)
def test_only_a_recipe_of_our_own_form_is_believed(folder, recipe, believed):
    write_json(folder / "recipe.json", recipe)
    assert (own_recipe(folder) == recipe) is believed


def test_weights_that_are_not_those_of_the_recipe_are_an_error(folder):
    write_json(folder / "recipe.json", {**RECIPE, "weights": "0" * 64})
    with pytest.raises(CheckpointError, match="model.safetensors: the file is damaged or was replaced"):
        checkpoint_content(folder)


def same_recipe(content: bytes, other: bytes) -> bool:
    """Whether two files say the same but for white space and the hash of the recipe itself."""
    try:
        one, two = json.loads(content), json.loads(other)
    except ValueError:
        return False
    return all(one.get(key) == value for key, value in two.items() if key != "digest")


FILES = ("model.safetensors", "config.json", "preprocessor_config.json", "vocab.json", "recipe.json", "curve.parquet")


RUN = Path("results/s/runs/a/b/1h/seed1")
KEPT = Path("results/s/.state/runs/a/b/1h/seed1/finished")


@pytest.fixture
def finish_run(tmp_path, monkeypatch, tiny_model):
    """A function that finishes a run with small files, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    split = {"features": "f", "audio": "a"}
    job = FinetuneJob.of(
        **{"train": split, "dev": split, "subset": "s", "settings": Finetune(), "text": Text()},
        **{"parent": None, "model": tiny_model, "seed": 1, "output": str(RUN), "state": str(KEPT.parent)},
    )
    recipe = {**recipe_of(job, {"content": ["x", "y"]}), "wall_s": 12.5}

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        save_file({"weight": torch.linspace(0, 1, 500)}, folder / "model.safetensors")
        for other in set(FILES) - {"model.safetensors", "recipe.json"}:
            write_json(folder / other, {"model_type": "wav2vec2", "number": 1234567})

    return lambda: finish(job, recipe, write)


@pytest.mark.parametrize("name", FILES)
def test_a_bit_that_flips_in_any_file_of_a_checkpoint_is_noticed(name, finish_run):
    """By everything that opens it, with an error that names the file and the rule that makes it."""
    finish_run()
    whole = checkpoint_content(RUN)
    path = RUN / name
    good = path.read_bytes()
    path.unlink()  # otherwise the other link to the same file would be damaged, too
    for position in range(0, len(good), max(1, len(good) // 50)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        if name == "recipe.json" and same_recipe(path.read_bytes(), good):
            continue
        with pytest.raises(CheckpointError, match=rf"{path}: the file is damaged.* whose rule finetune_run makes"):
            checkpoint_content(RUN)
    path.write_bytes(good)
    assert checkpoint_content(RUN) == whole


def test_a_kill_before_any_file_or_folder_has_its_name_leaves_a_whole_checkpoint_or_none(finish_run):
    """At both of its places; a folder is a checkpoint when it has a recipe. The next try makes it whole."""
    finish_run()
    names, whole = sorted(path.name for path in RUN.iterdir()), checkpoint_content(RUN)
    place_of_kill, outcomes = 0, []
    while True:
        shutil.rmtree("results")
        if (child := os.fork()) == 0:  # a process that is killed runs no `finally`
            _die_at_name(place_of_kill)
            finish_run()
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        for folder in (KEPT, RUN):
            if (folder / "recipe.json").exists():
                assert sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp") == names
                assert checkpoint_content(folder) == whole
        outcomes.append([(folder / "recipe.json").exists() for folder in (KEPT, RUN)])
        finish_run()
        assert sorted(path.name for path in RUN.iterdir()) == names and checkpoint_content(RUN) == whole
        place_of_kill += 1
    assert [False, False] in outcomes and [True, False] in outcomes and len(outcomes) == 2 * len(FILES)


def _die_at_name(count: int) -> None:
    """Kill this process when it is about to give a file or folder its name, after having named so many."""
    left, replace, rename = [count], os.replace, Path.rename

    def dying(name):
        def named(*arguments):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return name(*arguments)

        return named

    os.replace, Path.rename = dying(replace), dying(rename)


def test_a_checkpoint_is_placed_again_without_a_rest(tmp_path):
    """The outputs are there already after a job whose Snakemake was killed; a killed job leaves files with pids."""
    kept, output = tmp_path / "finished", tmp_path / "run"
    kept.mkdir()
    for name in ("model.safetensors", "recipe.json"):
        (kept / name).write_text(name)
    place(kept, output)
    (output / ".model.safetensors.1.tmp").touch()
    place(kept, output)  # renaming a link to another one of the same file does nothing
    assert {path.name: path.read_text() for path in output.iterdir()} == {p.name: p.name for p in kept.iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "the weights are quantised"),
        ({"model_type": "bert"}, "model_type is 'bert'; a start is one of wav2vec2, "),
        ({"add_adapter": True}, "add_adapter is true"),
        ({"quantization_config": {"load_in_8bit": True}}, "the weights are quantised"),
        (None, "the configuration cannot be read"),
    ],
)
def test_what_cannot_be_a_start_is_refused_when_the_workflow_is_planned(folder, change, message):
    """And not by the first job, or the last."""
    content = "{" if change is None else json.dumps({"model_type": "wav2vec2", **change})
    (folder / "config.json").write_text(content)
    starts = {"scratch": {"kind": "scratch"}, "there": {"kind": "hub", "path": str(folder)}}
    corpora = {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.1, "dev": 0.1, "test": 0.1}}}
    target = {"corpus": "en", "kind": "in-domain"}
    study = {"study": "a", "corpora": corpora, "starts": starts, "targets": {"en": target}, "budgets": ["1min"]}
    with pytest.raises(StudyError, match=f"study.yaml: 1 problem\n  starts.there: .*{message}"):
        Workflow(parse_study(study)).check("study.yaml")


def test_an_adapter_of_peft_is_refused_with_and_without_a_configuration(folder):
    """With one, transformers would load it and ask for the package peft, or train it unasked."""
    write_json(folder / "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(CheckpointError, match=r"an adapter of PEFT \(adapter_config.json\).*Merge it into that model"):
        check_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="an adapter of PEFT"):
        check_checkpoint(folder)


def test_another_sampling_rate_is_refused_without_loading(folder):
    write_json(folder / "preprocessor_config.json", {"sampling_rate": 8000})
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json: sampling_rate is 8000"):
        check_checkpoint(folder)
