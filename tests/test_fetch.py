"""Models of a hub, fetched from a hub of the test's own on localhost: no test here needs a network."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants, hf_hub_download
from local_hub import LocalHub
from safetensors.torch import load_file, save_file
from tiny_checkpoint import SHAPE
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from headstart.cli import main
from headstart.encoder.checkpoint_files import CheckpointError, checkpoint_content
from headstart.encoder.checkpoints import ctc_model
from headstart.encoder.hub_folder import FILES, model_folder, source_of
from headstart.fetch import fetch_adapter, fetch_model
from headstart.files import read_json, write_json
from headstart.jobs import FetchJob, FinetuneJob
from headstart.study.reading import parse_study
from headstart.training.recipes import recipe_of
from headstart.workflow import Workflow

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parent.parent
NAME = "ana/small"
VOCABULARY = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}
OLD = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Wav2Vec2ForCTC(Wav2Vec2Config(**SHAPE))


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory) -> Path:
    """A small checkpoint as its authors would push it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    network.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", {"do_normalize": False, "sampling_rate": 16_000})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub, with an empty cache, in a folder of its own."""
    hub = LocalHub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield hub
    hub.close()


def job(model: str = NAME, revision: str = "main") -> FetchJob:
    return FetchJob.of(model=model, revision=revision, output=model_folder(model, revision))


def encoder_of(folder: Path | str) -> dict[str, torch.Tensor]:
    return ctc_model(folder, None, VOCABULARY, 0.0).base_model.state_dict()


def same(ours: dict[str, torch.Tensor], theirs) -> bool:
    theirs = theirs.base_model.state_dict()
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ------------------------------------------------------------------------------------------- what is fetched


def test_a_model_is_fetched_pinned_and_recorded(hub, checkpoint, network):
    commit = hub.push(NAME, checkpoint)
    hub.licences[NAME] = "mit"
    source = fetch_model(job())
    folder = Path("data/models/ana--small/main")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert source == source_of(folder)
    assert {key: source[key] for key in ("model", "revision", "commit", "licence")} == {
        "model": NAME,
        "revision": "main",
        "commit": commit,
        "licence": "mit",
    }
    assert set(source["files"]) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert same(encoder_of(folder), network)
    assert read_json(folder / "preprocessor_config.json")["do_normalize"] is False
    # The weights are those of the cache, where other tools find them too, and take no further space.
    cached = constants.HF_HUB_CACHE + f"/models--ana--small/snapshots/{commit}/model.safetensors"
    assert os.path.samefile(cached, folder / "model.safetensors")


def test_the_log_has_no_addresses(hub, checkpoint, caplog):
    """Those of large files are signed, and let anybody who reads the log download in the user's name."""
    caplog.set_level("INFO")
    hub.push(NAME, checkpoint)
    fetch_model(job())
    assert "model.safetensors" in caplog.text and "http" not in caplog.text.lower()


def test_only_what_is_loaded_is_downloaded(hub, checkpoint):
    """A repository like that of MMS has 2,200 files of adapters, and weights in several formats."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files |= {f"adapter.a{number:04d}.safetensors": b"adapter" for number in range(2200)}
    files |= {"pytorch_model.bin": b"weights", "flax_model.msgpack": b"weights", "vocab.json": b"{}"}
    hub.push(NAME, files)
    fetch_model(job())
    assert hub.files() == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in Path(job().output).iterdir()) == sorted(FILES)


def test_what_the_recipe_of_a_run_says_of_its_start(hub, checkpoint):
    commit = hub.push(NAME, checkpoint)
    fetch_model(job())
    split = {"features": "a", "audio": "b"}
    values = {"train": split, "dev": split, "subset": "c", "settings": {}, "text": {}, "model": None, "seed": 1}
    run = FinetuneJob.of(**values, parent=job().output, output="o", state="s")
    recipe = recipe_of(run, {})
    assert recipe["parent"]["model"] == NAME and recipe["parent"]["commit"] == commit
    assert recipe["parent_content"] == checkpoint_content(job().output)


@pytest.mark.parametrize("spelling", ["new", "old"])
@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_every_form_of_weights(hub, checkpoint, network, form, spelling):
    weights = load_file(checkpoint / "model.safetensors")
    if spelling == "old":
        for new, old in OLD.items():
            weights = {name.replace(new, old): weight for name, weight in weights.items()}
        assert any(name.endswith("weight_g") for name in weights)
    folder = Path("theirs")
    folder.mkdir()
    suffix, stem = ("safetensors", "model") if form.endswith("safetensors") else ("bin", "pytorch_model")
    parts = {f"{stem}.{suffix}": weights}
    if form.startswith("sharded"):
        names = sorted(weights)
        parts = {f"{stem}-{i}-of-2.{suffix}": {n: weights[n] for n in names[i - 1 :: 2]} for i in (1, 2)}
        index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
        write_json(folder / f"{stem}.{suffix}.index.json", index)
    for name, part in parts.items():
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
    (folder / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    hub.push(NAME, folder)
    fetch_model(job())
    assert same(encoder_of(job().output), network)
    content = checkpoint_content(job().output)
    Path(job().output, "source.json").unlink()
    fetch_model(job())  # again: the same files
    assert checkpoint_content(job().output) == content


def test_settings_in_the_file_of_a_processor_count(hub, checkpoint):
    files = {name: (checkpoint / name).read_bytes() for name in ("config.json", "model.safetensors")}
    extractor = {"feature_extractor": {"do_normalize": False, "sampling_rate": 16_000}}
    hub.push(NAME, {**files, "processor_config.json": json.dumps(extractor).encode()})
    fetch_model(job())
    assert ctc_model(job().output, None, VOCABULARY, 0.0).config.do_normalize is False


# --------------------------------------------------------------------------------------------- the revision


def test_a_commit_needs_no_network_once_it_is_cached(hub, checkpoint, monkeypatch):
    commit = hub.push(NAME, checkpoint)
    fetch_model(job(revision=commit))
    hub.close()
    for name in FILES:
        Path(job(revision=commit).output, name).unlink()
    fetch_model(job(revision=commit))  # no answer from the hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_model(job(revision=commit))["commit"] == commit


def test_a_branch_that_another_tool_has_cached_is_found_offline(hub, checkpoint, monkeypatch):
    commit = hub.push(NAME, checkpoint)
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(NAME, name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_model(job())["commit"] == commit


def test_a_branch_stays_at_its_commit_until_it_is_updated(hub, checkpoint, caplog):
    first = hub.push(NAME, checkpoint)
    fetch_model(job())
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    second = hub.push(NAME, {**files, "preprocessor_config.json": b'{"do_normalize": true}'})
    for name in FILES:
        Path(job().output, name).unlink()
    caplog.clear()
    assert fetch_model(job())["commit"] == first  # also when its files are gone
    assert f"main has moved from commit {first} to {second}" in caplog.text
    assert "headstart fetch --update" in caplog.text
    caplog.clear()
    assert fetch_model(job(), update=True)["commit"] == second
    assert f"main was commit {first} and is now {second}" in caplog.text
    caplog.clear()
    fetch_model(job())
    assert "moved" not in caplog.text


@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_there_is_not_written_again(hub, checkpoint, pinned):
    """Otherwise Snakemake would run all jobs again that begin with it."""
    commit = hub.push(NAME, checkpoint)
    wanted = job(revision=commit if pinned else "main")
    source = fetch_model(wanted)
    times = {name: Path(wanted.output, name).stat().st_mtime_ns for name in FILES}
    asked = len(hub.requests)
    assert fetch_model(wanted) == fetch_model(wanted, update=True) == source
    assert times == {name: Path(wanted.output, name).stat().st_mtime_ns for name in FILES}
    if pinned:
        assert len(hub.requests) == asked


def test_a_broken_record_of_a_commit_is_no_reason_to_take_another(hub, checkpoint):
    hub.push(NAME, checkpoint)
    fetch_model(job())
    for broken in ("{", "[]", "{}"):
        Path("data/models/ana--small/main.json").write_text(broken)
        with pytest.raises(CheckpointError, match="ana--small/main.json: not the record of a commit: .*; delete it"):
            fetch_model(job())


def test_branches_and_tags_with_a_slash(hub, checkpoint):
    commit = hub.push(NAME, checkpoint, branch="refs/pr/1")
    assert fetch_model(job(revision="refs/pr/1"))["commit"] == commit
    assert Path("data/models/ana--small/refs--pr--1/model.safetensors").is_file()


# --------------------------------------------------------------------------------------------------- errors


def refused(message: str, model: str = NAME, revision: str = "main") -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch_model(job(model, revision))
    assert "\n" not in str(caught.value)
    assert not Path(model_folder(model, revision)).exists()


def test_what_is_not_on_the_hub_is_refused_with_the_remedy(hub, checkpoint):
    refused("^ana/none: there is no such model at http.*, or it is private. Check the name; .*HF_TOKEN", "ana/none")
    hub.push(NAME, checkpoint)
    refused("^ana/small: there is no revision 'v2'; `revision` is a branch, a tag or a commit", revision="v2")
    refused("^ana/small: there is no revision 'f{40}'", revision="f" * 40)


def test_a_gated_model_needs_a_token(hub, checkpoint, monkeypatch):
    commit = hub.push(NAME, checkpoint)
    hub.gated.add(NAME)
    refused(f"^ana/small: the model is gated. Accept its terms at {hub.url}/ana/small, then .*HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch_model(job())["commit"] == commit


def test_a_hub_that_cannot_be_reached(hub, checkpoint, monkeypatch):
    hub.push(NAME, checkpoint)
    hub.status = 503
    refused("^ana/small: http.* answers with status 503; try again later")
    hub.close()
    refused(r"^ana/small: revision 'main' is not in the cache \(.*\), and http.* cannot be reached .*headstart fetch")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("^ana/small: revision 'main' is not in the cache .*HF_HUB_OFFLINE forbids")


class Payload:
    def __reduce__(self):
        return os.system, ("touch payload-ran",)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda path: torch.save({"a": Payload()}, path), "a call of (posix|nt).system; nothing but weights"),
        (lambda path: path.write_bytes(pickle.dumps({"a": Payload()})), "broken or holds more than weights"),
        (lambda path: torch.save({"a": {"b": 1}}, path), "does not hold weights by name"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "broken"),
    ],
)
def test_nothing_but_weights_is_unpickled(hub, checkpoint, weights, message, recwarn):
    folder = Path("theirs")
    folder.mkdir()
    weights(folder / "pytorch_model.bin")
    (folder / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    commit = hub.push(NAME, folder)
    with pytest.raises(CheckpointError, match=rf"^ana/small at {commit}: pytorch_model.bin: .*{message}"):
        fetch_model(job())
    assert not Path("payload-ran").exists() and not Path(job().output, "source.json").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, r"an adapter of PEFT \(adapter_config"),
        ({"config.json": b'{"model_type": "wav2vec2"}'}, r"there are no weights \(model.safetensors or pytorch_model"),
        ({"README.md": b""}, "no config.json"),
        ({"config.json": b'{"model_type": "bert"}', "model.safetensors": b""}, "config.json: model_type is 'bert'"),
        (
            {"config.json": b'{"model_type": "hubert", "quantization_config": {"load_in_8bit": true}}'},
            "config.json: the weights are quantised",
        ),
        (
            {"config.json": b'{"model_type": "hubert"}', "preprocessor_config.json": b'{"sampling_rate": 8000}'},
            "preprocessor_config.json: sampling_rate is 8000",
        ),
    ],
)
def test_what_cannot_be_a_start_is_refused_before_its_weights_are_downloaded(hub, files, message):
    commit = hub.push(NAME, {"model.safetensors": b"0" * 5000, **files} if "8000" in message else files)
    refused(f"^ana/small at {commit}: {message}")
    assert "model.safetensors" not in hub.files()


# --------------------------------------------------------------------------------------------- in a study


def study_of(**start) -> dict:
    corpora = {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.01, "dev": 0.01, "test": 0.01}}}
    target = {"corpus": "en", "kind": "in-domain"}
    return {
        "study": "hubs",
        "baseline": "theirs",
        "corpora": corpora,
        "starts": {"theirs": {"kind": "hub", "model": NAME, **start}},
        "targets": {"en": target},
        "budgets": ["20s"],
        "seeds": [1],
    }


def test_planning_asks_no_network(hub, capsys):
    """And names what is to be downloaded."""
    Path("study.yaml").write_text(yaml.safe_dump(study_of()))
    assert main(["check", "study.yaml"]) == 0
    assert "to be downloaded first: ana/small (main)" in capsys.readouterr().out
    workflow = Workflow(parse_study(study_of()))
    inputs = workflow.finetune_input("theirs", "en", "20s", 1)
    assert inputs["parent"] == [f"data/models/ana--small/main/{name}" for name in FILES]
    assert workflow.report_input()["recipes"][-1] == "data/models/ana--small/main/source.json"
    assert hub.requests == []


def test_a_start_that_is_trained_from_a_hubs_model_waits_for_it(hub):
    study = study_of()
    more = {"kind": "ssl", "model": NAME, "revision": "v1", "corpora": {"en": 0.005}}
    refined = {"kind": "semisup", "from": "theirs", "labelled": {"en": 0.005}, "unlabelled": {"en": 0.002}}
    study["starts"] |= {"more": more, "refined": refined}
    workflow = Workflow(parse_study(study))
    assert workflow.start_input("more")["parent"] == [f"data/models/ana--small/v1/{name}" for name in FILES]
    assert workflow.start_input("refined")["parent"] == [f"data/models/ana--small/main/{name}" for name in FILES]
    assert workflow.to_fetch() == ["data/models/ana--small/main", "data/models/ana--small/v1"]


def test_the_plan_says_that_a_model_is_missing_when_it_has_to_measure_it(hub, capsys):
    Path("study.yaml").write_text(yaml.safe_dump(study_of()))
    assert main(["plan", "study.yaml", "--cores", "1", "--no-calibrate"]) == 0
    assert "Times, disk and memory were not measured." in capsys.readouterr().out
    assert main(["plan", "study.yaml", "--cores", "1"]) == 2
    assert "main: this model of a hub is not there yet" in capsys.readouterr().err
    assert hub.requests == []


def test_the_inputs_of_a_job_are_the_same_before_and_after_the_download(hub, checkpoint):
    """Otherwise Snakemake would run everything again."""
    hub.push(NAME, checkpoint)
    workflow = Workflow(parse_study(study_of()))
    run = ("theirs", "en", "20s", 1)
    planned = workflow.finetune_input(*run), workflow.finetune_job(*run).plain(), workflow.report_input()
    fetch_model(job())
    assert planned == (workflow.finetune_input(*run), workflow.finetune_job(*run).plain(), workflow.report_input())
    assert workflow.problems() == [] and workflow.to_fetch() == []


def test_a_fetched_model_that_is_damaged_is_found_by_the_check(hub, checkpoint):
    hub.push(NAME, checkpoint)
    fetch_model(job())
    (Path(job().output) / "config.json").write_text("{")
    (problem,) = Workflow(parse_study(study_of())).problems()
    assert problem.startswith("starts.theirs: data/models/ana--small/main/config.json: the configuration cannot be")


def test_the_command_fetches_what_a_study_names(hub, checkpoint, capsys):
    commit = hub.push(NAME, checkpoint)
    Path("study.yaml").write_text(yaml.safe_dump(study_of()))
    assert main(["fetch", "study.yaml"]) == 0
    assert f"ana/small (main) is commit {commit}, in data/models/ana--small/main" in capsys.readouterr().out
    Path("study.yaml").write_text(yaml.safe_dump(study_of(revision="v9")))
    assert main(["fetch", "study.yaml"]) == 2
    assert capsys.readouterr().err.startswith("ana/small: there is no revision 'v9'")


def test_snakemake_fetches_before_the_jobs_that_need_it(hub, checkpoint, tmp_path):
    """In a process of its own, which finds the hub and the cache by the variables that users set."""
    commit = hub.push(NAME, checkpoint)
    Path("study.yaml").write_text(yaml.safe_dump(study_of()))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "study.yaml"]
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    options = {"env": {**os.environ, **variables}, "capture_output": True, "text": True, "timeout": 300}
    planned = subprocess.run([*command, "--cores", "1", "--dry-run"], **options).stdout
    assert re.search(r"fetch_model +1\n", planned) and re.search(r"finetune_run +1\n", planned)
    assert hub.requests == []
    target = "data/models/ana--small/main/model.safetensors"
    ran = subprocess.run([*command, "--cores", "1", "--", target], **options)
    assert ran.returncode == 0, ran.stderr
    assert source_of("data/models/ana--small/main")["commit"] == commit
    assert (tmp_path / f"home/hub/models--ana--small/snapshots/{commit}/config.json").exists()


# ------------------------------------------------------------------------------------------------- adapters


def test_the_adapter_of_a_language_is_fetched_from_the_same_commit(hub, checkpoint):
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    hub.push(NAME, {**files, "adapter.swh.safetensors": b"swahili"})
    fetch_model(job())
    hub.push(NAME, {**files, "adapter.swh.safetensors": b"another"})
    fetch_adapter(job(), "swh")
    assert (Path(job().output) / "adapter.swh.safetensors").read_bytes() == b"swahili"
    with pytest.raises(CheckpointError, match="there is no adapter.xyz.safetensors; `adapter` is a code of MMS"):
        fetch_adapter(job(), "xyz")
