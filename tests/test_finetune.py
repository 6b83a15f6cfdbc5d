"""From a pre-trained start to transcripts and scores, on half a minute of speech, by the calls of the workflow."""

import json
import logging
from pathlib import Path

import jiwer
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCTC,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    pipeline,
)

from headstart.corpora.manifests import FEATURES, read_table, write_table
from headstart.encoder.checkpoint_files import CheckpointError
from headstart.errors import DataError
from headstart.features.clips import Clips
from headstart.files import read_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob, PretrainJob, ScoreJob
from headstart.pretrain import pretrain_start
from headstart.score.alignment import EditCounts
from headstart.score.metrics import METRICS
from headstart.score.score_file import score_schema
from headstart.score.score_table import ScoreTable
from headstart.score.scoring import score_run
from headstart.score.transcription import transcribe
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.text import Text
from headstart.subsets import BudgetError, draw_subset
from headstart.text.normalisation import normalise

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = Model(
    hidden_size=64,
    layers=2,
    heads=2,
    intermediate_size=128,
    conv_dim=(64, 64),
    position_kernel=8,
    position_groups=4,
    codebook_entries=16,
    codevector_size=32,
    projection_size=32,
).model_dump()
QUICK = Finetune(updates=4, batch_seconds=10.0, log_every=2, dev_minutes=1.0).model_dump()
TEXT = Text().model_dump()


def pretrain(folder: Path, english: dict, parent: str | None = None, hours: float = 0.005, **settings) -> str:
    options = Pretrain(updates=4, batch_seconds=10.0, crop_seconds=2.0, log_every=2, **settings)
    corpora = [{"name": "en", "train": english["train"], "hours": hours}]
    job = {"corpora": corpora, "settings": options, "parent": parent, "model": None if parent else MODEL, "seed": 5}
    pretrain_start(PretrainJob.of(**job, output=str(folder), state=str(folder / "state")))
    return str(folder)


def finetune(folder: Path, english: dict, subset: str, start: str | None, settings: dict = QUICK, **paths) -> str:
    splits = {"train": english["train"], "dev": english["dev"], **paths}
    options = {"settings": settings, "text": TEXT, "model": None if start else MODEL, "parent": start, "seed": 1}
    state = str(folder / "state")
    finetune_run(FinetuneJob.of(**splits, subset=subset, **options, output=str(folder), state=state))
    return str(folder)


def score(run: str, test: dict[str, str], output: Path, **options) -> None:
    score_run(ScoreJob.of(run=run, test=test, text=TEXT, output=str(output), **options))


@pytest.fixture(scope="module")
def subset(english, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("subset") / "20s.parquet")
    draw_subset(english["train"]["features"], "20s", 1, path)
    return path


@pytest.fixture(scope="module")
def start(english, tmp_path_factory, one_thread) -> str:
    """A pre-trained start whose front-end was trained too, so that it differs from any new one."""
    return pretrain(tmp_path_factory.mktemp("ssl"), english, freeze_front_end=False)


@pytest.fixture(scope="module")
def overfitted(english, tmp_path_factory, one_thread) -> tuple[str, Clips]:
    """A run that has learnt 12 s of speech by heart, and that speech."""
    folder = tmp_path_factory.mktemp("overfitted")
    draw_subset(english["train"]["features"], "12s", 1, str(folder / "12s.parquet"))
    quick = {"updates": 300, "batch_seconds": 6.0, "learning_rate": 4e-3, "hold": 0.6, "log_every": 300}
    undisturbed = {"dropout": 0.0, "mask_time_share": 0.0, "mask_feature_share": 0.0}
    settings = Finetune(**quick, **undisturbed).model_dump()
    run = finetune(folder, english, str(folder / "12s.parquet"), None, settings)
    return run, Clips.open(**english["train"]).take(pq.read_table(folder / "12s.parquet")["index"].to_pylist())


def test_a_start_is_a_checkpoint_with_its_curve_and_its_recipe(start, english):
    curve = pq.read_table(Path(start) / "curve.parquet")
    columns = {"step", "audio_hours_seen", "wall_s", "flops", "train_loss", "perplexity", "accuracy", "gradient_norm"}
    assert columns <= set(curve.column_names) and curve["step"].to_pylist() == [2, 4]
    recipe = read_json(Path(start) / "recipe.json")
    assert {"stage", "version", "settings", "model", "parent", "seed", "data", "versions", "machine"} <= set(recipe)
    assert (recipe["stage"], recipe["seed"], recipe["parent"]) == ("pretrain", 5, None)
    assert 18 <= recipe["data"]["seconds"] < 24 and recipe["data"]["content"]
    assert recipe["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]

    network, report = Wav2Vec2ForPreTraining.from_pretrained(start, output_loading_info=True)
    assert not any(report.values())
    assert recipe["parameters"] == sum(p.numel() for p in network.parameters())
    modes = {path.stat().st_mode for path in Path(start).iterdir() if path.is_file()}
    assert len(modes) == 1  # who may read the recipe may read the weights


def test_pretraining_goes_on_from_a_parent(start, english, tmp_path):
    child = pretrain(tmp_path, english, parent=start, learning_rate=1e-9)
    old, new = (load_file(Path(folder) / "model.safetensors") for folder in (start, child))
    assert all(torch.allclose(new[name], old[name], atol=1e-6) for name in old)  # at such a rate nothing moves
    recipe = read_json(tmp_path / "recipe.json")
    assert recipe["model"] is None and recipe["parent"] == read_json(Path(start) / "recipe.json")


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (24, 24),
    "conv_kernel": (10, 8),
    "conv_stride": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "layerdrop": 0.0,
}


@pytest.mark.parametrize(
    "network",
    [
        Wav2Vec2ForPreTraining(Wav2Vec2Config(**SMALL, feat_extract_norm="group")),
        Wav2Vec2Model(Wav2Vec2Config(**SMALL, feat_extract_norm="layer", do_stable_layer_norm=True)),
        Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**SMALL)),
    ],
    ids=["base", "encoder only", "conformer"],
)
def test_pretraining_goes_on_from_checkpoints_that_others_made(network, english, tmp_path):
    network.save_pretrained(tmp_path / "theirs")
    ours = pretrain(tmp_path / "ours", english, parent=str(tmp_path / "theirs"), learning_rate=1e-9)
    old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    kept = {name if name in new else f"wav2vec2.{name}": value for name, value in old.items()}
    assert all(torch.allclose(new[name], value, atol=1e-6) for name, value in kept.items())
    losses = pq.read_table(Path(ours) / "curve.parquet")["contrastive_loss"].to_pylist()
    assert all(0 < loss < 20 for loss in losses)


def test_pretraining_does_not_go_on_from_other_families(english, tmp_path):
    HubertModel(HubertConfig(**{k: v for k, v in SMALL.items() if "codevector" not in k})).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="continues wav2vec2 and wav2vec2-conformer checkpoints; this is hubert"):
        pretrain(tmp_path / "ours", english, parent=str(tmp_path))


def test_more_hours_than_a_corpus_has_are_refused_by_name(english, tmp_path):
    with pytest.raises(BudgetError, match="corpus 'en' of a start: 60.0 min"):
        pretrain(tmp_path, english, hours=1.0)


def test_a_run_starts_from_the_encoder_of_its_start_with_a_new_head(start, english, subset, tmp_path):
    run = finetune(tmp_path, english, subset, start)
    parent, weights = load_file(Path(start) / "model.safetensors"), load_file(Path(run) / "model.safetensors")
    front = [name for name in weights if ".feature_extractor." in name]
    assert len(front) >= 8 and all(torch.equal(weights[name], parent[name]) for name in front)  # kept as it was
    layer = "wav2vec2.encoder.layers.0.attention.q_proj.weight"
    moved = (weights[layer] - parent[layer]).abs().max().item()
    assert 0 < moved < 0.01 < parent[layer].abs().max().item()  # loaded, then trained for four updates
    vocabulary = read_json(Path(run) / "vocab.json")
    assert weights["lm_head.weight"].shape == (len(vocabulary), 64) and "lm_head.weight" not in parent
    assert not any("quantizer" in name or "project" in name.split(".")[0] for name in weights)

    recipe = read_json(Path(run) / "recipe.json")
    assert {"stage", "version", "settings", "text", "model", "parent", "seed", "data", "versions"} <= set(recipe)
    assert recipe["parent"] == read_json(Path(start) / "recipe.json") and recipe["model"] is None
    assert recipe["settings"] == json.loads(json.dumps(QUICK))
    curve = pq.read_table(Path(run) / "curve.parquet")
    columns = {"step", "audio_hours_seen", "wall_s", "flops", "train_loss", "dev_wer", "dev_cer"}
    assert columns <= set(curve.column_names) and curve["step"].to_pylist() == [2, 4]
    files = {"config.json", "model.safetensors", "vocab.json", "tokenizer_config.json", "preprocessor_config.json"}
    assert files <= {path.name for path in Path(run).iterdir()}


def test_features_that_are_not_kept_train_as_those_that_are(start, english, subset, tmp_path, monkeypatch):
    """With more audio than memory is for, a frozen front-end runs anew in every update."""
    options = Finetune(updates=4, batch_seconds=10.0, log_every=2, dropout=0.0, precision="float32").model_dump()
    weights = {}
    for limit in (1 << 30, 0):
        monkeypatch.setattr("headstart.objectives.ctc.KEPT_BYTES", limit)
        weights[limit] = load_file(
            Path(finetune(tmp_path / str(limit), english, subset, start, options)) / "model.safetensors"
        )
    assert weights[0].keys() == weights[1 << 30].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1 << 30][name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_run_from_scratch_draws_its_weights_from_the_seed(start, english, subset, tmp_path):
    run = finetune(tmp_path / "a", english, subset, None)
    again = finetune(tmp_path / "b", english, subset, None)
    weights, same, parent = (load_file(Path(folder) / "model.safetensors") for folder in (run, again, start))
    assert all(torch.equal(same[name], value) for name, value in weights.items())
    layer = "wav2vec2.encoder.layers.0.attention.q_proj.weight"
    assert (weights[layer] - parent[layer]).abs().max() > 0.01
    assert read_json(Path(run) / "recipe.json")["parent"] is None


def test_the_transformers_pipeline_writes_what_we_write_and_it_has_learnt(overfitted):
    run, clips = overfitted
    network = AutoModelForCTC.from_pretrained(run).eval()
    ours = transcribe(network, clips, read_json(Path(run) / "vocab.json"))
    assert jiwer.cer([text.lower() for text in clips.column("text")], ours) < 0.25
    recogniser = pipeline("automatic-speech-recognition", model=run, device="cpu")
    for index, text in enumerate(ours):
        array = clips.audio(index).astype("float32") / 32768
        assert recogniser({"raw": array, "sampling_rate": 16_000})["text"] == text


def test_words_without_tags_get_inferred_languages_and_say_so(overfitted, english, tmp_path, caplog):
    """Tags of the corpus come first. "the" is of the English text, "tha" of the other."""
    rows = read_table(english["test"]["features"], FEATURES)
    untagged = [{**row, "tokens": None, "token_languages": None} for row in rows]
    test = {"features": str(tmp_path / "test.parquet"), "audio": english["test"]["audio"]}
    write_table(test["features"], [rows[0], *untagged[1:]], FEATURES)
    taught = {"en": english["train"]["features"], "xx": str(tmp_path / "other.parquet")}
    other = [{**row, "text": "tha zuzu " * 20, "tokens": None, "token_languages": None} for row in rows]
    write_table(taught["xx"], other, FEATURES)
    with caplog.at_level(logging.INFO):
        score(overfitted[0], test, tmp_path / "scores.parquet", languages=taught)
    first, *others = read_table(tmp_path / "scores.parquet", score_schema())
    assert (first["language_source"], set(first["word_languages"])) == ("corpus", {"en"})
    assert {row["language_source"] for row in others} == {"words"}
    assert {tag for row in others for tag in row["word_languages"]} == {"en"}
    assert all(len(row["word_languages"]) == len(row["reference"].split()) for row in others)
    assert any(
        "inferred by words; accuracy 1.000, on the words that the corpus tags" in r.getMessage() for r in caplog.records
    )


def test_scores_are_counts_an_utterance_that_add_up_to_the_corpus_rates(overfitted, english, tmp_path):
    score(overfitted[0], english["test"], tmp_path / "scores.parquet")
    rows = read_table(tmp_path / "scores.parquet", score_schema())
    facts = read_table(english["test"]["features"], FEATURES)
    for key in ("utterance_id", "speaker", "language", "duration_s", "text", "tokens", "token_languages"):
        assert [row[key] for row in rows] == [row[key] for row in facts]
    assert all(row["word_languages"] == ["en"] * len(row["reference"].split()) for row in rows)
    references = [normalise(row["text"], Text(), row["language"]) for row in facts]
    hypotheses = [row["hypothesis"] for row in rows]
    assert [row["reference"] for row in rows] == references and any(hypotheses)
    for name, rate in (("wer", jiwer.wer), ("cer", jiwer.cer)):
        table = ScoreTable({column: [row[column] for row in rows] for column in rows[0]})
        counts = EditCounts(*(int(kind.sum()) for kind in METRICS[name].counts(table)))
        assert counts.errors / counts.reference == pytest.approx(rate(references, hypotheses))
        assert min(counts.hits, counts.substitutions, counts.deletions) > 0 or name == "wer"


def relabelled(split: dict[str, str], folder: Path, **texts: str) -> dict[str, str]:
    """A copy of a split where the clip at place `i<number>` has another transcript."""
    rows = read_table(split["features"], FEATURES)
    for place, text in texts.items():
        rows[int(place.removeprefix("i"))]["text"] = text
    folder.mkdir()
    write_table(folder / "features.parquet", rows, FEATURES)
    return {"features": str(folder / "features.parquet"), "audio": split["audio"]}


def test_what_cannot_be_learnt_from_is_left_out_and_counted(english, subset, tmp_path, caplog):
    first, second = pq.read_table(subset)["index"].to_pylist()[:2]
    train = relabelled(english["train"], tmp_path / "train", **{f"i{first}": "la " * 400, f"i{second}": "?!"})
    dev = relabelled(english["dev"], tmp_path / "dev", i0="žena şa")
    with caplog.at_level(logging.WARNING):
        run = finetune(tmp_path / "run", english, subset, None, train=train, dev=dev)
    data = read_json(Path(run) / "recipe.json")["data"]
    reasons = {reject["utterance_id"]: reject["reason"] for reject in data["rejected"]}
    rows = read_table(train["features"], FEATURES)
    frames = (rows[first]["num_samples"] - 400) // 160 + 1
    frames = (frames - 4) // 2 + 1
    assert reasons == {
        rows[first]["utterance_id"]: f"transcript longer than its frames allow: needs 1199, the clip has {frames}",
        rows[second]["utterance_id"]: "empty transcript after normalisation",
    }
    assert data["train_utterances"] == len(pq.read_table(subset)) - 2
    unseen = set("".join(row["text"] for row in read_table(dev["features"], FEATURES)))
    unseen -= set("".join(rows[i]["text"] for i in pq.read_table(subset)["index"].to_pylist()))
    assert set("şž") <= set(data["unseen_characters"]) == unseen - {" "}
    assert any("ş ž" in record.getMessage() for record in caplog.records)


def test_nothing_to_learn_from_is_an_error(english, subset, tmp_path):
    count = len(read_table(english["train"]["features"], FEATURES))
    train = relabelled(english["train"], tmp_path / "train", **{f"i{i}": "..." for i in range(count)})
    with pytest.raises(DataError, match="no training utterance can be used"):
        finetune(tmp_path / "run", english, subset, None, train=train)


def test_a_reference_that_is_empty_is_not_scored(overfitted, english, tmp_path, caplog):
    test = relabelled(english["test"], tmp_path / "test", i0="—")
    with caplog.at_level(logging.WARNING):
        score(overfitted[0], test, tmp_path / "scores.parquet")
    rows = read_table(tmp_path / "scores.parquet", score_schema())
    assert len(rows) == len(read_table(test["features"], FEATURES)) - 1
    assert any("1 utterances have no reference" in record.getMessage() for record in caplog.records)
    count = len(rows) + 1
    silent = relabelled(english["test"], tmp_path / "silent", **{f"i{i}": "..." for i in range(count)})
    with pytest.raises(DataError, match="no utterance can be scored"):
        score(overfitted[0], silent, tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()
