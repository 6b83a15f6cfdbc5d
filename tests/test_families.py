"""Every family of encoders: any checkpoint of it is a start, gives transformers' results, and goes back to it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import LAYER, SIZES
from transformers import (
    CONFIG_MAPPING,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCTC,
    AutoModelForPreTraining,
    BertConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    pipeline,
)

from headstart.corpora.manifests import write_table
from headstart.encoder.adapters import ADAPTER
from headstart.encoder.checkpoint_files import FAMILIES, CheckpointError
from headstart.encoder.checkpoints import ctc_model, load_config
from headstart.encoder.front_end import frame_counts, frame_stride, front_end, log_mel, prepared_audio, samples_for
from headstart.encoder.model import encode, layer_outputs, norm_on_top
from headstart.features.clips import Clips
from headstart.features.extraction import extract_features
from headstart.files import read_json, write_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob
from headstart.objectives.ctc import CtcObjective
from headstart.score.transcription import transcribe
from headstart.study.finetune import Finetune
from headstart.study.text import Text
from headstart.subsets import SUBSET
from headstart.text.normalisation import build_vocabulary
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["ab ba", "bad", "a cab", "dab a bad", "abba", "cad"]
LENGTHS = (9000, 16_161, 5200, 7360, 12_000, 8800)  # of 5200 and 16161 the last log-mel frame is half padding
VOCABULARY = build_vocabulary(TEXTS)
SHAPE = {
    **SIZES,
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "mask_feature_prob": 0.0,
    "mask_time_prob": 0.0,  # as most fine-tuned checkpoints: these have no embedding of masked frames
}
SILENT = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout", "layerdrop"), 0.0)
GROUP = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
CONFORMER = {"conv_depthwise_kernel_size": 7, "conformer_conv_dropout": 0.0}
VARIANTS = {
    "wav2vec2": LAYER,
    "wav2vec2 base": GROUP,
    "wav2vec2-conformer": {**LAYER, **CONFORMER},
    "wav2vec2-conformer rotary": {"feat_extract_norm": "group", **CONFORMER, "position_embeddings_type": "rotary"},
    "wav2vec2-bert": CONFORMER,
    "wav2vec2-bert rotary": {**CONFORMER, "position_embeddings_type": "rotary"},
    "hubert": GROUP,
    "hubert large": LAYER,
    "hubert batch norm": {**GROUP, "conv_pos_batch_norm": True, "feat_proj_layer_norm": False},
    "wavlm": GROUP,
    "wavlm large": {**LAYER, "conv_bias": False},
    "unispeech": LAYER,
    "unispeech-sat": GROUP,
    "unispeech-sat large": LAYER,
    "wav2vec2 adapters": {**LAYER, "adapter_attn_dim": 4},
    "data2vec-audio": {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_family = pytest.mark.parametrize("variant", [name for name in VARIANTS if name in FAMILIES])


def config_of(variant: str, **settings):
    return CONFIG_MAPPING[variant.split()[0]](**{**SHAPE, **SILENT, **VARIANTS[variant], **settings})


def made(auto: type, variant: str, **settings) -> torch.nn.Module:
    """A small network of transformers with random values also where a new one has zeros and ones."""
    torch.manual_seed(0)
    network = auto.from_config(config_of(variant, **settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim <= 1:
                parameter += 0.2 * torch.randn_like(parameter)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        if hasattr(network, "lm_head"):
            network.lm_head.weight.normal_()  # so that the best label changes from frame to frame
    return network


def extractor_of(variant: str, do_normalize: bool = True):
    if variant.startswith("wav2vec2-bert"):
        return SeamlessM4TFeatureExtractor(padding_value=1)
    return Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True)


def noise(*lengths: int) -> list[np.ndarray]:
    """Noise whose loudness and mean differ, as int16; from the third clip on with a stretch of digital silence."""
    rng, clips = np.random.default_rng(0), []
    for i, length in enumerate(lengths, start=1):
        swell = np.sin(np.arange(length) / 900) + 1.2
        clip = (600 * i * swell * rng.standard_normal(length) + 500).clip(-32768, 32767).astype(np.int16)
        if i > 2:
            clip[length // 3 : length // 2] = 0
        clips.append(clip)
    return clips


@torch.no_grad()
def logits_of_transformers(network, extractor, samples: np.ndarray) -> torch.Tensor:
    """(T, V) of one clip, without any padding of ours."""
    inputs = extractor(samples.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt")
    return network.eval()(**inputs).logits[0]


def gradients_of_transformers(network, extractor, samples: np.ndarray) -> set[str]:
    """Names of the parameters that the logits of a clip depend on."""
    inputs = extractor(samples.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt")
    network(**inputs).logits.sum().backward()
    names = {name for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return names


def our_logits(network, clips: Sequence[np.ndarray], length: int) -> list[torch.Tensor]:
    """(T_i, V) of each clip of a batch padded to `length` samples."""
    audio, samples = prepared_audio(network.config, [torch.from_numpy(clip) for clip in clips], length)
    frames = frame_counts(network.config, samples)
    context, _ = encode(network.base_model, front_end(network.base_model, audio, samples), frames)
    return [row[:count] for row, count in zip(network.lm_head(context), frames.tolist(), strict=True)]


def test_the_families_are_those_that_the_variants_cover():
    assert {variant.split()[0] for variant in VARIANTS} == set(FAMILIES)


@every_variant
def test_a_clip_in_a_padded_batch_has_the_logits_that_transformers_gives_it_alone(variant):
    """Also while training, where nothing may differ but the dropout, which is off here."""
    network = made(AutoModelForCTC, variant)
    clips = noise(*LENGTHS)
    theirs = [logits_of_transformers(network, extractor_of(variant), clip) for clip in clips]
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    for training in (False, True):
        with torch.no_grad():
            ours = our_logits(network.train(training), clips, 20_000)
        for mine, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-3, atol=2e-4)
    assert all(torch.equal(buffer, kept[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith("wav2vec2-bert")])  # has none
@torch.no_grad()
def test_the_encoders_own_norm_is_on_top_where_we_say_so(variant):
    network, order = made(AutoModel, variant), []
    for module, name in ((network.encoder.layer_norm, "norm"), (network.encoder.layers[0], "layers")):
        module.register_forward_hook(lambda *_, name=name: order.append(name))
    (clip,) = noise(LENGTHS[0])
    network(**extractor_of(variant)(clip.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt"))
    assert order == (["layers", "norm"] if norm_on_top(network.config) else ["norm", "layers"])


@every_variant
@torch.no_grad()
def test_the_layers_of_a_clip_are_those_that_transformers_gives_it_alone(variant):
    network = made(AutoModel, variant)
    clips = noise(*LENGTHS)
    audio, samples = prepared_audio(network.config, [torch.from_numpy(clip) for clip in clips], 20_000)
    frames = frame_counts(network.config, samples)
    states = layer_outputs(network, front_end(network, audio, samples), frames)
    for row, clip in enumerate(clips):
        inputs = extractor_of(variant)(clip.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt")
        theirs = network(**inputs, output_hidden_states=True).hidden_states
        assert len(states) == len(theirs) == SHAPE["num_hidden_layers"] + 1
        for mine, (reference,) in zip(states, theirs, strict=True):
            torch.testing.assert_close(mine[row, : frames[row]], reference, rtol=1e-3, atol=2e-4)


@every_variant
def test_bfloat16_with_plain_attention_gives_about_the_same_and_trains(variant):
    """As training runs where bfloat16 is fast; on a clip of over 256 frames, which bfloat16 cannot count."""
    network = made(AutoModelForCTC, variant)
    clip = noise(128_000)
    theirs = logits_of_transformers(network, extractor_of(variant), clip[0])
    trained = gradients_of_transformers(network, extractor_of(variant), clip[0])
    network.set_attn_implementation("eager")
    network.to(torch.bfloat16).train()
    ours = our_logits(network, [*clip, *noise(9000)], 130_000)
    assert ours[0].dtype == torch.bfloat16
    error = (ours[0].detach().float() - theirs).square().mean() / theirs.var()
    assert error < 0.002
    sum(logits.float().square().sum() for logits in ours).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert set(gradients) == trained and all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("variant", ["wav2vec2-conformer rotary", "wav2vec2-bert rotary"])
def test_rotary_positions_are_exact_in_bfloat16(variant):
    """Rounded frequencies would be off by a whole turn after some seconds, and so would they be in the saved model."""
    network = made(AutoModel, variant)
    hidden = torch.zeros(1, 1500, SHAPE["hidden_size"])
    theirs = network.encoder.embed_positions(hidden)
    network.to(torch.bfloat16)
    our_features = torch.ones(1, 1500, network.feature_projection.projection.in_features, dtype=torch.bfloat16)
    encode(network, our_features, torch.tensor([1500]))
    torch.testing.assert_close(
        network.encoder.embed_positions(hidden.bfloat16()).float(), theirs.float(), rtol=0, atol=0.01
    )


def test_log_mel_frames_are_counted_as_transformers_makes_them():
    config, extractor = config_of("wav2vec2-bert"), SeamlessM4TFeatureExtractor()
    for samples in (560, 719, 720, 879, 880, 1040, 5200, 16_000, 16_161):
        features = extractor(np.ones(samples, np.float32), sampling_rate=16_000, return_tensors="pt")["input_features"]
        assert frame_counts(config, torch.tensor([samples])).tolist() == [features.shape[1]]
    assert frame_counts(config, torch.tensor([0, 399, 400, 559])).tolist() == [0, 0, 0, 0]  # too short to normalise
    for frames in (1, 2, 3, 32, 500):
        samples = samples_for(config, frames)
        assert frame_counts(config, torch.tensor([samples - 1, samples])).tolist() == [frames - 1, frames]
    assert samples_for(config, 33) - samples_for(config, 32) == frame_stride(config)


def test_log_mel_features_are_those_of_transformers():
    config, extractor = config_of("wav2vec2-bert"), SeamlessM4TFeatureExtractor()
    clips = noise(16_000, 5200, 16_161)  # an even and two odd numbers of mel frames; digital silence in the last
    audio, samples = prepared_audio(config, [torch.from_numpy(clip) for clip in clips], 20_000)
    ours = log_mel(config, audio, samples)
    for features, clip, frames in zip(ours, clips, frame_counts(config, samples).tolist(), strict=True):
        made = extractor(clip / np.float32(32768), sampling_rate=16_000, return_tensors="pt")
        theirs = made["input_features"][0] * made["attention_mask"][0, :, None]
        torch.testing.assert_close(features[:frames], theirs, rtol=0, atol=2e-3)
        assert not features[frames:].any()


# ------------------------------------------------------------------------------------------------ checkpoints


def save_checkpoint(folder: Path, variant: str, kind: str, do_normalize: bool = True) -> dict[str, torch.Tensor]:
    """Write a checkpoint as its authors would, and return its encoder's weights."""
    auto = {"pretraining": AutoModelForPreTraining, "bare": AutoModel, "old": AutoModel}.get(kind, AutoModelForCTC)
    network = made(auto, variant, vocab_size=40)
    network.save_pretrained(folder)
    extractor = extractor_of(variant, do_normalize)
    if kind == "fine-tuned":  # with the tokenizer of another language
        write_json(folder / "theirs.json", {c: i for i, c in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", "x"])})
        Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(folder / "theirs.json"))).save_pretrained(folder)
        assert not (folder / "preprocessor_config.json").exists()  # it is in the processor's file
    else:
        extractor.save_pretrained(folder)
    if kind == "old":
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, old in names.items():
            weights = {name.replace(new, old): value for name, value in weights.items()}
        torch.save(weights, folder / "pytorch_model.bin")
    return network.base_model.state_dict() if kind != "bare" else network.state_dict()


def kinds_of(variant: str) -> list[str]:
    pretrained = ("wav2vec2", "wav2vec2-conformer", "unispeech", "unispeech-sat")
    return ["bare", "fine-tuned", "old", *(["pretraining"] if variant in pretrained else [])]


@pytest.mark.parametrize(
    ("variant", "kind"),
    [(variant, kind) for variant in VARIANTS if variant in FAMILIES for kind in kinds_of(variant)],
)
def test_any_checkpoint_gives_its_encoder_and_gets_a_new_head(variant, kind, tmp_path):
    old = save_checkpoint(tmp_path, variant, kind)
    network = ctc_model(tmp_path, None, VOCABULARY, 0.25)
    assert network.config.hidden_dropout == getattr(network.config, "conformer_conv_dropout", 0.25) == 0.25
    assert type(network) is type(AutoModelForCTC.from_config(config_of(variant)))
    assert network.lm_head.out_features == network.config.vocab_size == len(VOCABULARY)
    new = network.base_model.state_dict()
    assert set(old) <= set(new) <= {*old, "masked_spec_embed"} and "masked_spec_embed" in new
    assert all(torch.equal(new[name], old[name]) for name in old)


@every_family
def test_the_training_loss_is_that_of_transformers(variant, make_clips, tmp_path):
    """Of one clip, with the checkpoint's way of normalising audio, whether the front-end is trained or not."""
    do_normalize = variant in ("wav2vec2", "wavlm", "unispeech")
    save_checkpoint(tmp_path, variant, "bare", do_normalize)
    clips = make_clips(tmp_path, [clip / 32768 for clip in noise(8880, 16_000)], ["abba", "cab"])
    network = ctc_model(tmp_path, None, VOCABULARY, 0.0)
    network.config.ctc_loss_reduction = "sum"
    settings = Finetune(mask_time_share=0.0, mask_feature_share=0.0, freeze_encoder=0.0)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    for index, labels in enumerate(([3, 4, 4, 3], [5, 3, 4])):
        raw = clips.audio(index).astype(np.float32) / 32768
        inputs = extractor(raw, sampling_rate=16_000, return_tensors="pt")
        theirs = network.eval()(**inputs, labels=torch.tensor([labels])).loss / len(labels)
        for frozen in (True, False):
            objective = CtcObjective(network.train(), VOCABULARY, clips, clips, Text(), settings, frozen, seed=0)
            batch = Batch(0, [index], 1.0, (1, 64))
            ours, _ = objective.loss(batch, objective.prepare(batch, 1, [[0]], Ranks()), [0], 1)
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)
            assert bool(objective.features) == (frozen or variant == "wav2vec2-bert")  # made once and kept


@pytest.fixture(scope="module")
def corpus(write_manifest, tmp_path_factory) -> dict[str, str]:
    """Labelled noise after the feature stage, and a budget of all of it."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_manifest(folder, [clip / 32768 for clip in noise(*LENGTHS)], TEXTS)
    paths = {"features": str(folder / "a.parquet"), "audio": str(folder / "a.arrow")}
    extract_features(manifest, **paths, rejects=str(folder / "r.parquet"))
    rows = [{"index": i, "utterance_id": f"clip{i:03d}"} for i in range(len(TEXTS))]
    write_table(folder / "subset.parquet", rows, SUBSET)
    return {**paths, "subset": str(folder / "subset.parquet")}


def enliven(run: Path, network, extractor, samples: np.ndarray) -> None:
    """Give a run an output layer whose best label changes from frame to frame, as two updates do not."""
    weights = load_file(run / "model.safetensors")
    with torch.no_grad():
        network.lm_head.weight.normal_()
        network.lm_head.bias.zero_()
        network.lm_head.bias.sub_(logits_of_transformers(network, extractor, samples).mean(0))
    weights |= {f"lm_head.{name}": p.detach() for name, p in network.lm_head.named_parameters()}
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})


@every_variant
def test_a_fine_tuned_start_transcribes_in_the_pipeline_as_here(variant, corpus, tmp_path):
    do_normalize = variant in ("wav2vec2 base", "wavlm", "unispeech", "hubert large")
    kind = "old" if variant in ("hubert", "unispeech") else "fine-tuned"
    parent = save_checkpoint(tmp_path / "start", variant, kind, do_normalize)
    parent = {name: weight for name, weight in parent.items() if ADAPTER not in name}  # which are dropped
    split = {key: corpus[key] for key in ("features", "audio")}
    settings = Finetune(updates=2, batch_seconds=2.0, log_every=2, learning_rate=1e-3, freeze_encoder=0.0)
    run = tmp_path / "run"
    job = {
        "train": split,
        "dev": split,
        "subset": corpus["subset"],
        "settings": settings,
        "text": Text(),
        "model": None,
    }
    job |= {"parent": str(tmp_path / "start"), "seed": 1, "output": str(run), "state": str(tmp_path / "state")}
    finetune_run(FinetuneJob.of(**job))
    assert read_json(run / "vocab.json") == VOCABULARY
    if not variant.startswith("wav2vec2-bert"):
        assert read_json(run / "preprocessor_config.json")["do_normalize"] is do_normalize
    network, report = AutoModelForCTC.from_pretrained(run, output_loading_info=True)
    assert not any(report.values())
    trained = {name: p for name, p in network.base_model.state_dict().items() if name in parent}
    moved = max((p.float() - parent[name].float()).abs().max().item() for name, p in trained.items())
    assert set(trained) == set(parent) and 0 < moved < 0.05  # the encoder of the checkpoint, two updates later

    clips = Clips.open(**split)
    enliven(run, network, extractor_of(variant, do_normalize), clips.audio(0))
    network = AutoModelForCTC.from_pretrained(run)
    ours = transcribe(network.eval(), clips, VOCABULARY)
    recogniser = pipeline("automatic-speech-recognition", model=str(run), device="cpu")
    theirs = [
        recogniser({"raw": clips.audio(i).astype(np.float32) / 32768, "sampling_rate": 16_000})["text"]
        for i in range(len(clips))
    ]
    assert ours == theirs
    assert len(set(ours)) == len(ours) and all(len(text) > 3 for text in ours)  # otherwise this says little


@every_family
def test_a_clip_shorter_than_a_frame_has_the_empty_transcript(variant, make_clips, tmp_path):
    network = made(AutoModelForCTC, variant)
    clips = make_clips(tmp_path, [clip / 32768 for clip in noise(200, 8000)])
    alone = transcribe(network, clips.take([1]), VOCABULARY)
    assert transcribe(network, clips, VOCABULARY) == ["", *alone] and alone != [""]
    assert transcribe(network, clips.take([0]), VOCABULARY) == [""]


# ------------------------------------------------------------------------------------- what cannot be a start


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    save_checkpoint(tmp_path, "wav2vec2", "old")
    file, harm = tmp_path / "pytorch_model.bin", tmp_path / "harm"
    torch.save({**torch.load(file, weights_only=True), "more": Attack(harm)}, file)
    with pytest.raises(
        CheckpointError, match=r"holds more than weights, namely .*; nothing but weights is ever unpickled"
    ):
        ctc_model(tmp_path, None, VOCABULARY, 0.0)
    assert not harm.exists()
    torch.load(file, weights_only=False)
    assert harm.exists()  # the attack is a real one


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_broken_weights_file_is_refused(name, tmp_path):
    save_checkpoint(tmp_path, "hubert", "old")
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ctc_model(tmp_path, None, VOCABULARY, 0.0)


def test_weights_of_another_family_are_refused(tmp_path):
    save_checkpoint(tmp_path, "wav2vec2", "fine-tuned")
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**config, "model_type": "hubert"})
    with pytest.raises(CheckpointError, match=r"no weights for \d+ parameters of its encoder"):
        ctc_model(tmp_path, None, VOCABULARY, 0.0)


@pytest.mark.parametrize("variant", ["wav2vec2", "wav2vec2-conformer", "wav2vec2-bert", "wavlm", "data2vec-audio"])
def test_a_checkpoint_with_convolutional_adapters_is_refused(variant, tmp_path):
    config_of(variant, add_adapter=True).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.json: add_adapter is true"):
        load_config(tmp_path)


def test_another_architecture_is_refused_by_name(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.json: model_type is 'bert'; a start is one of wav2vec2, "):
        load_config(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "nonesuch"})
    with pytest.raises(CheckpointError, match=r"config.json: model_type is 'nonesuch'"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json: the configuration cannot be read"):
        load_config(tmp_path)


def test_another_filterbank_is_refused(tmp_path):
    config_of("wav2vec2-bert", feature_projection_input_dim=80).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.json: feature_projection_input_dim is 80; .* 160 channels"):
        load_config(tmp_path)


def test_another_sampling_rate_is_refused_by_file(tmp_path):
    config_of("wavlm").save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json: sampling_rate is 8000; .*16000"):
        load_config(tmp_path)
    (tmp_path / "preprocessor_config.json").rename(tmp_path / "part.json")
    write_json(tmp_path / "processor_config.json", {"feature_extractor": read_json(tmp_path / "part.json")})
    with pytest.raises(CheckpointError, match=r"processor_config.json: sampling_rate is 8000; .*16000"):
        load_config(tmp_path)
    (tmp_path / "processor_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"processor_config.json: not a feature extractor's settings"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("settings", "normalised"), [({}, True), ({"do_normalize": True}, True), ({"do_normalize": False}, False)]
)
def test_audio_is_normalised_unless_the_checkpoint_says_no(settings, normalised, tmp_path):
    config_of("hubert").save_pretrained(tmp_path)
    assert load_config(tmp_path).do_normalize is True
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000, **settings}))
    assert load_config(tmp_path).do_normalize is normalised


@pytest.mark.parametrize(
    "settings",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation_internal": "flash_attention_3"},
        {"dtype": "bfloat16"},
        {"torch_dtype": "float16"},
        {"gradient_checkpointing": True},
    ],
)
def test_how_to_compute_is_not_for_a_checkpoint_to_say(settings, tmp_path):
    """Attention kernels that are not installed here would be errors; halved precision would round the weights."""
    old = save_checkpoint(tmp_path, "wav2vec2", "bare")
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), **settings})
    network = ctc_model(tmp_path, None, VOCABULARY, 0.0)
    assert network.config._attn_implementation == "sdpa" and not network.is_gradient_checkpointing
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert all(
        torch.equal(weight, old[name]) for name, weight in network.base_model.state_dict().items() if name in old
    )
