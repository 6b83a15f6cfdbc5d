"""MMS's adapters: dropped, or trained as the only weights besides the output layer."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import SHAPE
from transformers import AutoModelForCTC, HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC

from headstart.corpora.manifests import write_table
from headstart.encoder.adapters import ADAPTER, ADAPTER_SIZE
from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import ctc_model, encoder_model, finetuned_model
from headstart.features.extraction import extract_features
from headstart.files import read_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob
from headstart.study.finetune import Finetune
from headstart.study.reading import StudyError, parse_study
from headstart.study.text import Text
from headstart.subsets import SUBSET
from headstart.workflow import Workflow

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}


@pytest.fixture(scope="module")
def mms(tmp_path_factory):
    """A folder like that of MMS: a model with the adapter of one language, and files with those of others."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mms")
    network = Wav2Vec2ForCTC(Wav2Vec2Config(**SHAPE, adapter_attn_dim=4))
    network.save_pretrained(folder)
    weights = {name: torch.randn_like(weight) for name, weight in network.state_dict().items() if ADAPTER in name}
    weights |= {"lm_head.weight": torch.randn(9, 32), "lm_head.bias": torch.randn(9)}
    save_file(weights, folder / "adapter.swh.safetensors")
    save_file({"lm_head.bias": torch.randn(9)}, folder / "adapter.bad.safetensors")
    return folder


def adapters_of(network) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in network.state_dict().items() if ADAPTER in name}


def test_adapters_are_dropped_unless_they_are_to_be_trained(mms):
    for network in (ctc_model(mms, None, VOCABULARY, 0.0), encoder_model(mms, None, 0.0)):
        assert adapters_of(network) == {} and network.config.adapter_attn_dim is None
    theirs = load_file(mms / "model.safetensors")
    ours = ctc_model(mms, None, VOCABULARY, 0.0).state_dict()
    shared = [name for name in ours if not name.startswith("lm_head")]
    assert shared and all(torch.equal(ours[name], theirs[name]) for name in shared)


def test_new_adapters_have_the_size_of_the_checkpoints_and_random_weights(mms, tmp_path):
    theirs = load_file(mms / "model.safetensors")
    network = ctc_model(mms, None, VOCABULARY, 0.0, adapters=True)
    found = adapters_of(network)
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in theirs.items() if ADAPTER in name
    }
    assert not any(torch.equal(found[name], theirs[name]) for name in found if name.endswith("linear_1.weight"))
    assert all(torch.equal(weight, theirs[n]) for n, weight in network.wav2vec2.state_dict().items() if n in theirs)
    # An encoder without adapters gets some, and is otherwise the same.
    Wav2Vec2ForCTC(Wav2Vec2Config(**SHAPE)).save_pretrained(tmp_path)
    network = ctc_model(tmp_path, None, VOCABULARY, 0.0, adapters=True)
    assert len(adapters_of(network)) == 12 and network.config.adapter_attn_dim == ADAPTER_SIZE
    theirs = load_file(tmp_path / "model.safetensors")
    own = {name: weight for name, weight in network.state_dict().items() if name in theirs and "lm_head" not in name}
    assert len(own) > 20 and all(torch.equal(weight, theirs[name]) for name, weight in own.items())


def test_training_begins_with_the_adapter_of_a_language(mms):
    network = ctc_model(mms, None, VOCABULARY, 0.0, adapters=True, adapter=mms / "adapter.swh.safetensors")
    file = load_file(mms / "adapter.swh.safetensors")
    found = adapters_of(network)
    assert len(found) == 12 and all(torch.equal(weight, file[name]) for name, weight in found.items())
    assert network.lm_head.out_features == len(VOCABULARY)
    # transformers computes the same with these weights.
    theirs = Wav2Vec2ForCTC.from_pretrained(mms).eval()
    theirs.load_state_dict(found, strict=False)
    audio = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.eval().wav2vec2(audio)[0], theirs.wav2vec2(audio)[0])
    with pytest.raises(
        CheckpointError, match=r"adapter.bad.safetensors: the file has no adapter for this encoder: no "
    ):
        ctc_model(mms, None, VOCABULARY, 0.0, adapters=True, adapter=mms / "adapter.bad.safetensors")


def test_an_encoder_that_cannot_have_adapters_is_refused(tmp_path):
    HubertForCTC(HubertConfig(**{**SHAPE, "do_stable_layer_norm": False})).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="`adapters: train` needs an encoder that can have adapters"):
        ctc_model(tmp_path, None, VOCABULARY, 0.0, adapters=True)


def test_a_run_trains_nothing_but_adapters_and_the_output_layer(mms, write_manifest, tmp_path):
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(length) for length in (9000, 16_000, 12_000)]
    manifest = write_manifest(tmp_path, clips, ["ab ba", "ab", "a b"])
    split = {"features": str(tmp_path / "a.parquet"), "audio": str(tmp_path / "a.arrow")}
    extract_features(manifest, **split, rejects=str(tmp_path / "r.parquet"))
    write_table(tmp_path / "subset", [{"index": i, "utterance_id": f"clip{i:03d}"} for i in range(3)], SUBSET)
    run = tmp_path / "run"
    settings = Finetune(updates=3, batch_seconds=3.0, log_every=3, learning_rate=1e-2, freeze_encoder=0.0)
    files = {"train": split, "dev": split, "subset": str(tmp_path / "subset"), "output": str(run), "model": None}
    begin = {"parent": str(mms), "adapters": True, "adapter": str(mms / "adapter.swh.safetensors")}
    job = FinetuneJob.of(**files, **begin, settings=settings, text=Text(), seed=1, state=str(tmp_path / "state"))
    assert FinetuneJob(**job.plain()) == job
    finetune_run(job)
    before, after = load_file(mms / "model.safetensors"), load_file(run / "model.safetensors")
    first = load_file(mms / "adapter.swh.safetensors")
    for name, weight in after.items():
        if ADAPTER in name:
            assert not torch.equal(weight, first[name]) and (weight - first[name]).abs().max() < 0.2
        elif not name.startswith("lm_head") and name in before:
            assert torch.equal(weight, before[name]), name
    network, report = AutoModelForCTC.from_pretrained(run, output_loading_info=True)
    assert not any(report.values()) and len(adapters_of(network)) == 12
    assert len(adapters_of(finetuned_model(run))) == 12
    assert read_json(run / "recipe.json")["adapters"] != "new"  # a hash of the file that they began with


def test_jobs_without_adapters_are_what_they_were(tmp_path):
    """Otherwise Snakemake would fine-tune every run of every study again."""
    split = {"features": "a", "audio": "b"}
    job = FinetuneJob.of(
        train=split, dev=split, subset="c", settings={}, text={}, parent=None, model=None, seed=1, output="o", state="s"
    )
    assert not {"adapters", "adapter"} & set(job.plain()) and FinetuneJob(**job.plain()) == job


def study(**start) -> dict:
    corpora = {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.1, "dev": 0.1, "test": 0.1}}}
    targets = {"en": {"corpus": "en", "kind": "in-domain"}}
    starts = {"theirs": {"kind": "hub", **start}}
    return {
        "study": "a",
        "baseline": "theirs",
        "corpora": corpora,
        "starts": starts,
        "targets": targets,
        "budgets": ["1min"],
    }


def test_adapters_are_a_setting_of_a_start(mms):
    local = {"path": str(mms), "adapters": "train", "adapter": "swh"}
    workflow = Workflow(parse_study(study(**local)))
    job = workflow.finetune_job("theirs", "en", "1min", 1)
    assert job.adapters and job.adapter == f"{mms}/adapter.swh.safetensors"
    assert job.adapter in workflow.finetune_input("theirs", "en", "1min", 1)["parent"]
    assert workflow.problems() == []
    (problem,) = Workflow(parse_study(study(**{**local, "adapter": "xyz"}))).problems()
    assert "adapter.xyz.safetensors: no such file" in problem
    for wrong, message in (
        ({"path": "a", "adapter": "swh"}, "adapter is given, but adapters are dropped; set `adapters: train`"),
        ({"path": "a", "adapters": "train", "adapter": "../x"}, "adapter: should be a language code of MMS"),
    ):
        with pytest.raises(StudyError, match=message):
            parse_study(study(**wrong))
