"""The models of arXiv 2511.21704 and others, by name: what the package knows of them, and that each can be a start."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCTC,
    AutoModelForPreTraining,
    SeamlessM4TFeatureExtractor,
)

from headstart.encoder.checkpoint_files import check_checkpoint
from headstart.encoder.checkpoints import encoder_model
from headstart.encoder.conversion import converted
from headstart.encoder.front_end import frame_counts, front_end, prepared_audio
from headstart.encoder.model import encode
from headstart.study.facts import Facts, facts_of, families, table
from headstart.study.reading import StudyError, load_study, parse_study
from headstart.study.starts import HubStart
from headstart.workflow import Workflow

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parent.parent
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "conv_dim": (8,) * 7,
    "vocab_size": 6,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
VOXPOPULI = [f"facebook/wav2vec2-large-{name}-voxpopuli" for name in ("100k", "es", "fr", "it", "nl", "sv")]
FIFTEEN = {
    "facebook/wav2vec2-large-lv60": ("wav2vec2", LARGE),
    "facebook/hubert-large-ll60k": ("hubert", LARGE),
    "microsoft/wavlm-large": ("wavlm", {**LARGE, "conv_bias": False}),
    "microsoft/unispeech-large-1500h-cv": ("unispeech", LARGE),
    "microsoft/unispeech-large-multi-lingual-1500h-cv": ("unispeech", LARGE),
    "microsoft/unispeech-sat-large": ("unispeech-sat", LARGE),
    "facebook/wav2vec2-xls-r-300m": ("wav2vec2", LARGE),
    "facebook/wav2vec2-large-xlsr-53": ("wav2vec2", LARGE),
    "facebook/wav2vec2-large-robust": ("wav2vec2", LARGE),
    **dict.fromkeys(VOXPOPULI, ("wav2vec2", LARGE)),
}
OTHERS = {
    "facebook/wav2vec2-base": ("wav2vec2", BASE),
    "facebook/mms-1b-all": ("wav2vec2", {**LARGE, "adapter_attn_dim": 4}),
    "facebook/w2v-bert-2.0": ("wav2vec2-bert", {"conv_depthwise_kernel_size": 7}),
    "utter-project/mHuBERT-147": ("hubert", BASE),
}
# Of those of one shape, one stands for all here.
SHAPES = {
    name: shape
    for name, shape in {**FIFTEEN, **OTHERS}.items()
    if name not in (*VOXPOPULI, "facebook/wav2vec2-large-robust")
}
PRETRAINED = ("wav2vec2", "unispeech", "unispeech-sat")


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_of_the_same_shape_is_a_start_and_computes_what_transformers_does(name, tmp_path):
    """As its repository has it: `.bin`, the old spelling of weight norm, and a pre-training head where it has one."""
    family, shape = SHAPES[name]
    torch.manual_seed(0)
    kind = AutoModelForPreTraining if family in PRETRAINED and "mms" not in name else AutoModel
    kind = AutoModelForCTC if "mms" in name else kind
    theirs = kind.from_config(CONFIG_MAPPING[family](**{**SMALL, **shape})).eval()
    theirs.save_pretrained(tmp_path)
    if family != "wav2vec2-bert":
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        weights = load_file(tmp_path / "model.safetensors")
        for new, spelling in old.items():
            weights = {key.replace(new, spelling): weight for key, weight in weights.items()}
        assert any(key.endswith("weight_g") for key in weights)
        torch.save(weights, tmp_path / "pytorch_model.bin")
        converted([tmp_path / "pytorch_model.bin"], tmp_path / "model.safetensors", name)
    check_checkpoint(tmp_path)
    ours = encoder_model(tmp_path, None, 0.0).base_model.eval()
    if "mms" in name:  # without its adapters
        plain = AutoModel.from_config(CONFIG_MAPPING[family](**{**SMALL, **LARGE})).eval()
        plain.load_state_dict(theirs.base_model.state_dict(), strict=False)
        theirs = plain
    clip = torch.randn(9000, generator=torch.Generator().manual_seed(1)) * 0.1
    audio, samples = prepared_audio(ours.config, [clip], 10_000)
    with torch.no_grad():
        context, _ = encode(ours, front_end(ours, audio, samples), frame_counts(ours.config, samples))
        if family == "wav2vec2-bert":
            inputs = SeamlessM4TFeatureExtractor()(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
        else:
            inputs = {"input_values": ((clip - clip.mean()) / (clip.var(correction=0) + 1e-7).sqrt())[None]}
        expected = theirs.base_model(**inputs).last_hidden_state[0]
    torch.testing.assert_close(context[0, : len(expected)], expected, rtol=1e-3, atol=2e-4)


def test_the_fifteen_are_known_with_their_sources():
    assert len(FIFTEEN) == 15
    for name in (*FIFTEEN, *OTHERS):
        facts = facts_of(HubStart(kind="hub", model=name))
        assert facts.hours and facts.language_count and facts.source.startswith("arXiv 2"), name
        assert facts.languages is None or facts.families, name
    for name, values in table()["models"].items():
        Facts(**values)
        assert set(values) <= set(Facts.model_fields), name
        assert len(values.get("languages", [])) == len(set(values.get("languages", []))), name


def test_what_is_known_of_some_models():
    large = facts_of(HubStart(kind="hub", model="facebook/wav2vec2-large-100k-voxpopuli"))
    assert (large.hours, large.language_count, large.licence) == (100_000, 23, "cc-by-nc-4.0")
    assert set(large.families) == {"Indo-European", "Uralic", "Afro-Asiatic"}
    many = facts_of(HubStart(kind="hub", model="facebook/wav2vec2-xls-r-300m"))
    assert many.language_count == 128 and {"qu", "sw"} & set(many.languages) == {"sw"} and "Dravidian" in many.families
    assert facts_of(HubStart(kind="hub", path="somewhere")) == Facts()


def test_a_study_and_a_models_card_add_to_what_is_known():
    start = HubStart(kind="hub", model="microsoft/wavlm-large", facts={"hours": 5, "languages": ["et", "de-AT"]})
    facts = facts_of(start, {"licence": "mit"})
    assert (facts.hours, facts.language_count, facts.licence) == (5, 2, "mit")
    assert facts.families == ("Uralic", "Indo-European") and facts.source.startswith("arXiv 2110.13900")
    start = HubStart(kind="hub", model="facebook/mms-1b", facts={"licence": "apache-2.0"})
    assert facts_of(start, {"licence": "mit"}).licence == "apache-2.0"
    assert families(["en", "tlh"]) is None


def test_facts_are_about_a_checkpoint_from_outside():
    corpora = {"en": {"reader": "synthetic", "language": "en"}}
    rest = {"corpora": corpora, "targets": {"en": {"corpus": "en", "kind": "in-domain"}}, "budgets": ["1min"]}
    start = {"kind": "ssl", "corpora": {"en": 0.1}, "facts": {"hours": 3}}
    with pytest.raises(StudyError, match="starts.a: facts are given without path or model"):
        parse_study({"study": "a", "baseline": "a", "starts": {"a": start}, **rest})
    start = {"kind": "hub", "path": "a", "facts": {"languages": ["english!"]}}
    with pytest.raises(StudyError, match=r"starts.a.facts.languages.0: should be a BCP 47 tag"):
        parse_study({"study": "a", "baseline": "a", "starts": {"a": start}, **rest})


@pytest.mark.parametrize("file", sorted((ROOT / "config/studies/paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_start_of_a_study_at_the_papers_scale_is_a_problem(file, tmp_path, monkeypatch):
    """Their corpora are not here; what they name of a hub is fetched by the workflow."""
    monkeypatch.chdir(tmp_path)
    problems = Workflow(load_study(file)).problems()
    assert not [problem for problem in problems if problem.startswith("starts.")]
