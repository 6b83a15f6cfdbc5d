"""The semi-supervised stage: what its losses are, what a batch holds, what is dropped, and that it survives itself."""

from itertools import islice

import numpy as np
import pytest
import torch
from transformers import AutoModelForCTC, Wav2Vec2ForCTC

from headstart.encoder.checkpoints import ctc_model, encoder_model
from headstart.errors import DataError
from headstart.features.clips import Clips
from headstart.jobs import SemisupJob
from headstart.objectives.pseudo_labels import PseudoLabel, greedy_labels
from headstart.objectives.semisup import SemisupObjective
from headstart.semisup import chosen_clips, encoder, kept, new_layers, refine_start, save
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Loss, Semisup
from headstart.study.text import Text
from headstart.subsets import BudgetError
from headstart.text.units import UnitInventory
from headstart.training import loop as training
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

LOOP = {"updates": 12, "batch_seconds": 6.0, "log_every": 4, "dropout": 0.1, "pseudo": Loss(begin=0.25)}


def objective_of(tiny_model, clips, unlabelled=True, pretrain=None, **settings) -> SemisupObjective:
    """The stage on ten clips of noise, four of them labelled, from random weights."""
    torch.manual_seed(7)
    options = Semisup(**{**LOOP, **settings})
    labelled, others = clips.take([0, 2, 4, 6]), clips.take([1, 3, 5, 7, 8, 9]) if unlabelled else None
    inventory = UnitInventory.build(options, Text(), labelled)
    network, own = encoder(None, tiny_model, options, pretrain, others or labelled, 3)
    network.lm_head = torch.nn.Linear(network.config.hidden_size, len(inventory.vocabulary))
    return SemisupObjective(network, inventory, labelled, others, clips.take([0, 5]), options, own, True, 3)


def run(objective, state_dir) -> training.Result:
    settings = objective.settings.model_copy(update={"precision": "float32"})
    return training.train(
        objective, objective.batches, settings, stage="testing", recipe={"recipe": 1}, seed=3, state_dir=state_dir
    )


def prepared(objective, update: int):
    """A batch of this update, with what it shares, from an objective that has begun and no longer drops out."""
    weights = training.MasterWeights(objective.network, objective.settings, torch.float32)
    objective.before_training(weights)
    batch = next(objective.batches(update - 1))
    positions = list(range(len(batch.clips)))
    torch.manual_seed(1)
    return batch, objective.prepare(batch, update, [positions], Ranks()), positions


PLAIN = {"dropout": 0.0, "mask_time_share": 0.0, "mask_feature_share": 0.0, "min_confidence": 0.0}


@pytest.mark.parametrize("teacher", ["ema", "self"])
def test_pseudo_label_loss_is_ctc_on_the_teachers_labels(tiny_model, noise_clips, teacher):
    """transformers' own CTC loss, clip by clip, on labels decoded from its own logits of the teacher's weights."""
    losses = {"supervised": Loss(weight=0.0), "pseudo": Loss()}
    objective = objective_of(tiny_model, noise_clips, teacher=teacher, **losses, **PLAIN)
    student = objective.network
    batch, _, positions = prepared(objective, 6)
    if teacher == "ema":  # a teacher with weights of its own
        with torch.no_grad():
            for average in objective.teacher.average.values():
                average.add_(0.05 * torch.randn_like(average))
        objective.teacher.restore(objective.teacher.state())
    shared = objective.prepare(batch, 7, [positions], Ranks())
    loss, told = objective.loss(batch, shared, positions, 7)

    def peer(weights) -> Wav2Vec2ForCTC:
        config = student.config.to_dict() | {"vocab_size": len(objective.inventory.vocabulary), "pad_token_id": 0}
        network = Wav2Vec2ForCTC(type(student.config)(**config)).eval()
        network.load_state_dict(weights)
        return network

    own = {name: weight.detach().clone() for name, weight in student.state_dict().items()}
    teacher_weights = {**own, **objective.teacher.average} if objective.teacher else own
    teacher_peer, student_peer = peer(teacher_weights), peer(own)
    summed, labels_in_all = 0.0, 0
    assert batch.labelled == 0 and len(positions) > 1
    for i in positions:
        audio = torch.from_numpy(objective.clips.audio(batch.clips[i]).copy()).float() / 32768
        audio = ((audio - audio.mean()) / torch.sqrt(audio.var(correction=0) + 1e-7))[None]
        with torch.no_grad():
            path = teacher_peer(audio).logits.argmax(-1)[0].tolist()
            labels = [a for a, b in zip(path, [None, *path], strict=False) if a != b and a != 0]
            assert shared.pseudo[i].labels == labels
            if labels:
                student_peer.config.ctc_loss_reduction = "sum"
                summed += float(student_peer(audio, labels=torch.tensor([labels])).loss)
                labels_in_all += len(labels)
    assert labels_in_all > 0
    assert loss.item() == pytest.approx(summed / labels_in_all, rel=1e-4)
    assert told["pseudo_loss"] == pytest.approx(loss.item()) and told["labelled_share"] == 0.0


def test_losses_add_up_by_their_weights(tiny_model, noise_clips):
    weights = {"supervised": Loss(weight=0.5), "pseudo": Loss(weight=2.0, begin=0.25, ramp=0.5)}
    objective = objective_of(tiny_model, noise_clips, **PLAIN, **weights)
    batch, shared, positions = prepared(objective, 6)
    loss, told = objective.loss(batch, shared, positions, 6)
    # Update 6 of 12 is half of the ramp from 3 to 9.
    weighted = 0.5 * float(told["supervised_loss"]) + 1.0 * float(told["pseudo_loss"])
    assert loss.item() == pytest.approx(weighted, rel=1e-5)


def test_nothing_is_learnt_from_labels_below_the_confidence_asked_for(tiny_model, noise_clips):
    objective = objective_of(tiny_model, noise_clips, **{**PLAIN, "min_confidence": 1.0})
    batch, shared, positions = prepared(objective, 6)
    loss, told = objective.loss(batch, shared, positions, 6)
    assert shared.pseudo and not shared.kept
    assert told["pseudo_kept"] == 0.0 and "pseudo_loss" not in told
    assert loss.item() == pytest.approx(told["supervised_loss"])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_labelled_audio_is_as_set(tiny_model, noise_clips, share):
    """Summed over batches, the audio of each kind is within a clip of what was asked for."""
    objective = objective_of(tiny_model, noise_clips, labelled_share=share, pseudo=Loss(begin=0.0), updates=200)
    seconds = np.zeros(2)
    for number, batch in enumerate(islice(objective.batches(0), 60), 1):
        lengths = objective.clips.lengths[batch.clips] / 16000
        seconds += [lengths[: batch.labelled].sum(), lengths[batch.labelled :].sum()]
        wanted = number * 6.0 * np.array([share, 1 - share])
        assert np.all(seconds >= wanted - 1e-6) and np.all(seconds <= wanted + 1.5)
        assert batch.seconds == pytest.approx(lengths.sum())
    assert all(i < len(objective.labelled) for i in batch.clips[: batch.labelled])
    assert all(i >= len(objective.labelled) for i in batch.clips[batch.labelled :])


def test_the_share_is_logged_and_batches_are_all_labelled_until_others_have_a_use(tiny_model, noise_clips, tmp_path):
    objective = objective_of(tiny_model, noise_clips, labelled_share=0.25, pseudo=Loss(begin=1 / 3), min_confidence=0.0)
    curve = run(objective, tmp_path).curve
    assert curve[0]["labelled_share"] == 1.0 and "pseudo_loss" not in curve[0]
    assert curve[1]["labelled_share"] == pytest.approx(0.25, abs=0.08)
    assert curve[2]["labelled_share"] == pytest.approx(0.25, abs=0.08)
    assert curve[1]["pseudo_kept"] + curve[1]["pseudo_empty"] == pytest.approx(1.0)
    assert {"supervised_loss", "dev_unit_error"} <= curve[0].keys()


def test_batches_are_the_same_wherever_they_are_resumed(tiny_model, noise_clips):
    objective = objective_of(tiny_model, noise_clips)
    whole = [batch.clips for batch in islice(objective.batches(0), 12)]
    assert [batch.clips for batch in islice(objective.batches(5), 7)] == whole[5:]


@pytest.mark.parametrize(
    ("ssl", "shifts"),
    [(None, 1), (None, 8), ("wav2vec2", 1), ("wav2vec2", 8), ("data2vec", 1), ("best-rq", 1), ("hubert", 1)],
)
def test_a_resumed_run_ends_with_the_same_bits(tiny_model, noise_clips, tmp_path, ssl, shifts):
    """Teacher, cache and guard are part of the state."""
    settings = {"shifts": shifts, "cache_updates": 4, "save_minutes": 1e-9, "min_confidence": 0.0, "guard_every": 3}
    if ssl:
        settings["ssl"] = Loss(weight=0.5)
    own = {"hubert": {"clusters": 8}}
    pretrain = Pretrain(objective=ssl, crop_seconds=1.0, negatives=10, shifts=shifts, **own) if ssl else None

    def make():
        return objective_of(tiny_model, noise_clips, pretrain=pretrain, **settings)

    whole = run(make(), tmp_path / "whole")
    objective = make()
    loss = objective.loss

    def dying(batch, shared, positions, update):
        if update == 9:
            raise InterruptedError
        return loss(batch, shared, positions, update)

    objective.loss = dying
    with pytest.raises(InterruptedError):
        run(objective, tmp_path / "killed")
    again = run(make(), tmp_path / "killed")
    assert again.weights.keys() == whole.weights.keys()
    assert [name for name in whole.weights if not torch.equal(again.weights[name], whole.weights[name])] == []
    for one, other in zip(whole.curve, again.curve, strict=True):
        assert {k: v for k, v in one.items() if k != "wall_s"} == {k: v for k, v in other.items() if k != "wall_s"}
    if ssl:
        assert all(np.isfinite(row["ssl_loss"]) for row in whole.curve)


def test_the_gradient_of_a_batch_is_that_of_its_parts(tiny_model, noise_clips, tmp_path, monkeypatch):
    def gradients(parts: int) -> dict[str, torch.Tensor]:
        given: dict[str, torch.Tensor] = {}

        def step(self, rate: float) -> float:
            given.update({name: p.grad.clone() for name, p in self.master.items() if p.grad is not None})
            self.drop()
            return 1.0

        monkeypatch.setattr(training.MasterWeights, "step", step)
        settings = {"dropout": 0.0, "min_confidence": 0.0, "updates": 2, "pseudo": Loss(), "accumulate": parts}
        settings["shifts"] = 8
        run(objective_of(tiny_model, noise_clips, **settings), tmp_path / str(parts))
        return given

    whole = gradients(1)
    for parts in (2, 50):
        given = gradients(parts)
        assert given.keys() == whole.keys()
        for name, gradient in whole.items():
            assert (given[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


def test_only_what_is_asked_for_is_trained(tiny_model, noise_clips, tmp_path):
    def changed(**settings) -> set[str]:
        objective = objective_of(tiny_model, noise_clips, weight_decay=0.0, **settings)
        before = {name: p.detach().clone() for name, p in objective.network.named_parameters()}
        after = run(objective, tmp_path / str(len(settings)) / "".join(settings)).weights
        return {name for name in before if not torch.equal(before[name], after[name])}

    frozen = changed(freeze_encoder=1.0)
    assert frozen == {"lm_head.weight", "lm_head.bias"}
    above = changed(freeze_layers=1)
    on_top = ("lm_head.", "wav2vec2.encoder.layers.1.", "wav2vec2.encoder.layer_norm.")
    assert all(n.startswith(on_top) for n in above) and all(any(n.startswith(p) for n in above) for p in on_top)
    everything = changed()
    assert any("layers.0" in name for name in everything) and not any("feature_extractor" in n for n in everything)


def test_the_output_layer_has_a_learning_rate_of_its_own(tiny_model, noise_clips, tmp_path):
    objective = objective_of(tiny_model, noise_clips, head_rate=1e-9, weight_decay=0.0)
    before = objective.network.lm_head.weight.detach().clone()
    after = run(objective, tmp_path).weights
    assert torch.allclose(after["lm_head.weight"], before, atol=1e-8)


# ------------------------------------------------------------------------------------------------------ guards


def test_collapsed_pseudo_labels_are_seen_and_survived(tiny_model, noise_clips, tmp_path, monkeypatch, caplog):
    """The network is made to say nothing but one label: pseudo-labels pause, training goes on and ends."""
    objective = objective_of(tiny_model, noise_clips, guard_every=2, pause=0.25, min_confidence=0.0, updates=16)
    monkeypatch.setattr(
        "headstart.objectives.semisup.greedy_labels",
        lambda logits, frames, blank: [PseudoLabel([3, 3, 3], 0.9)] * len(frames),
    )
    result = run(objective, tmp_path)
    assert "one label is 100% of all pseudo-labels" in caplog.text
    assert "none are used up to update" in caplog.text
    assert result.curve[-1]["step"] == 16 and result.skipped == 0
    assert objective.paused_until > 0


def test_pseudo_labels_of_which_none_is_sure_enough_are_told_of_once(tiny_model, noise_clips, tmp_path, caplog):
    objective = objective_of(tiny_model, noise_clips, guard_every=1, min_confidence=1.0)
    result = run(objective, tmp_path)
    assert caplog.text.count("is as sure as min_confidence (1), the surest is 0.") == 1
    assert all(row["pseudo_kept"] == 0.0 for row in result.curve if "pseudo_kept" in row)
    caplog.clear()
    run(objective_of(tiny_model, noise_clips, guard_every=1, min_confidence=0.0), tmp_path / "all")
    assert "min_confidence" not in caplog.text


def test_empty_pseudo_labels_are_logged_and_cost_nothing(tiny_model, noise_clips, tmp_path, monkeypatch, caplog):
    objective = objective_of(tiny_model, noise_clips, guard_every=2, min_confidence=0.0)
    monkeypatch.setattr(
        "headstart.objectives.semisup.greedy_labels", lambda logits, frames, blank: [PseudoLabel([], 0.0)] * len(frames)
    )
    result = run(objective, tmp_path)
    assert "pseudo-labels are empty" in caplog.text
    rows = [row for row in result.curve if "pseudo_empty" in row]
    assert rows and all(row["pseudo_empty"] == 1.0 and "pseudo_loss" not in row for row in rows)
    assert all(torch.isfinite(weight).all() for weight in result.weights.values())


def test_a_teacher_that_diverges_begins_again_as_the_student(tiny_model, noise_clips, caplog):
    objective = objective_of(tiny_model, noise_clips, guard_every=1, cache_updates=9, **PLAIN)
    batch, _, positions = prepared(objective, 6)
    with torch.no_grad():
        for average in objective.teacher.average.values():
            average.mul_(40.0)
    objective.teacher.restore(objective.teacher.state())
    shared = objective.prepare(batch, 7, [positions], Ranks())
    assert "it begins again from the student's weights" in caplog.text
    assert shared.pseudo == {} == objective.cache.kept  # what it made is neither learnt from nor kept
    student = dict(objective.network.named_parameters())
    assert all(torch.equal(average, student[name]) for name, average in objective.teacher.average.items())


# -------------------------------------------------------------------------------------------------- what is kept


def saved(tiny_model, noise_clips, folder, **settings):
    """A refined start in a folder, with the objective that made it."""
    objective = objective_of(tiny_model, noise_clips, **settings)
    options, network = objective.settings, objective.network
    weights = {n: w.detach().clone() for n, w in network.state_dict().items() if kept(n, network, options)}
    weights |= new_layers(network.config, network.base_model_prefix, options.reset_layers, 3)
    save(network, weights, objective.inventory, options, folder)
    return objective


def test_fine_tuning_keeps_the_encoder_and_replaces_the_head(tiny_model, noise_clips, tmp_path):
    for keep_head in (False, True):
        objective = saved(tiny_model, noise_clips, tmp_path / str(keep_head), keep_head=keep_head)
        torch.manual_seed(1)
        tuned = ctc_model(tmp_path / str(keep_head), None, {"<pad>": 0, "<unk>": 1, "|": 2, "x": 3, "y": 4}, 0.0)
        for name, weight in objective.network.base_model.state_dict().items():
            assert torch.equal(tuned.base_model.state_dict()[name], weight), name
        assert tuned.lm_head.weight.shape[0] == 5 != objective.network.lm_head.weight.shape[0]


def test_a_kept_head_makes_the_start_a_recogniser_of_its_source(tiny_model, noise_clips, tmp_path):
    objective = saved(tiny_model, noise_clips, tmp_path, keep_head=True)
    network = AutoModelForCTC.from_pretrained(tmp_path)
    assert torch.equal(network.lm_head.weight, objective.network.lm_head.weight)
    import transformers

    recognise = transformers.pipeline("automatic-speech-recognition", model=str(tmp_path))
    audio = noise_clips.audio(3).astype("float32") / 32768
    objective.network.eval()
    batch = objective._batch(0, 0, [], [len(objective.labelled) + 1])
    with torch.no_grad():
        logits_BTV, frames = objective._logits(batch, [0])
    (label,) = greedy_labels(logits_BTV, frames, 0)
    names = {index: c for c, index in objective.inventory.vocabulary.items()}
    assert recognise(audio)["text"] == "".join(names[i] for i in label.labels).replace("|", " ").strip()


def test_top_layers_get_new_weights_if_asked(tiny_model, noise_clips, tmp_path):
    objective = saved(tiny_model, noise_clips, tmp_path, reset_layers=1)
    own, loaded = objective.network.base_model.state_dict(), encoder_model(tmp_path, None, 0.0).base_model.state_dict()
    different = {name for name in own if not torch.equal(own[name], loaded[name])}
    assert different and all(name.startswith("encoder.layers.1.") for name in different)


def test_an_objective_without_unlabelled_audio_is_supervised(tiny_model, noise_clips, tmp_path):
    result = run(objective_of(tiny_model, noise_clips, unlabelled=False, pseudo=Loss(weight=0.0)), tmp_path)
    assert {row["labelled_share"] for row in result.curve} == {1.0}


def test_without_unlabelled_audio_the_self_supervised_loss_is_of_the_batchs_own_clips(
    make_clips, tiny_model, tmp_path, monkeypatch
):
    """Also where a labelled clip cannot be used, so that the others move up."""
    rng = np.random.default_rng(0)
    texts = ["ab", "ba" * 100, "aa", "bb", "ab ba", "b"]  # a second holds no 200 letters
    make_clips(tmp_path, [0.1 * rng.standard_normal(16000) for _ in texts], texts)
    files = {"features": str(tmp_path / "a.parquet"), "audio": str(tmp_path / "a.arrow")}
    corpus = {"name": "noise", "train": files, "hours": 6 / 3600, "dev": files}
    stages = []
    monkeypatch.setattr(training, "run", lambda objective, *_: stages.append(objective))
    losses = {"pseudo": Loss(weight=0.0), "ssl": Loss()}
    arguments = {
        "labelled": [corpus],
        "unlabelled": [],
        "settings": Semisup(**{**LOOP, **losses}),
        "ssl": Pretrain(crop_seconds=1.0, objective="best-rq"),
        "text": Text(),
        "model": tiny_model,
        "parent": None,
        "seed": 1,
        "output": str(tmp_path / "out"),
        "state": str(tmp_path / "state"),
    }
    refine_start(SemisupJob.of(**arguments))
    (stage,) = stages
    batch, shared, _ = prepared(stage, 1)
    assert len(stage.labelled) == 5 and shared.ssl_batch.clips
    assert stage.ssl.utterance_ids(shared.ssl_batch) == stage.utterance_ids(batch)

    arguments["settings"] = Semisup(**{**LOOP, **losses, "freeze_layers": 3})
    with pytest.raises(DataError, match="freeze_layers is 3, but the encoder has 2 layers"):
        refine_start(SemisupJob.of(**arguments))


def test_what_pre_training_has_warmed_up_stays_so(tiny_model, noise_clips):
    pretrain = Pretrain(objective="data2vec", freeze_quantiser=0.4, crop_seconds=1.0)
    own = objective_of(tiny_model, noise_clips, pretrain=pretrain, ssl=Loss()).ssl.settings
    assert own.data2vec.ema_start == own.data2vec.ema_end == Pretrain().data2vec.ema_end
    assert own.gumbel_start == own.gumbel_end and own.freeze_quantiser == 0.0


def test_operations_are_those_of_what_an_update_does(tiny_model, noise_clips, tmp_path):
    """Batches of one shape have more to do once there are pseudo-labels, and less when a cache holds them."""
    settings = {"supervised": Loss(weight=0.0), "ssl": Loss(), "log_every": 1, "min_confidence": 0.0, "dropout": 0.0}
    pretrain = Pretrain(objective="best-rq", crop_seconds=1.0)

    def flops(**more) -> list[float]:
        objective = objective_of(tiny_model, noise_clips, pretrain=pretrain, **{**settings, **more})
        curve = run(objective, tmp_path / "".join(more)).curve
        return np.diff([0.0, *(row["flops"] for row in curve)]).tolist()

    without = flops(pseudo=Loss(weight=0.0))
    late, cached = flops(), flops(cache_updates=12)
    assert late[:3] == without[:3] and all(a > b for a, b in zip(late[3:], without[3:], strict=True))
    assert sum(cached) < sum(late)


def test_a_batch_without_a_label_to_learn_from_is_survived(tiny_model, noise_clips, tmp_path):
    """Only pseudo-labels count from half-way on, and none is sure enough."""
    losses = {"supervised": Loss(end=0.5), "pseudo": Loss(begin=0.5), "min_confidence": 1.0}
    result = run(objective_of(tiny_model, noise_clips, **losses), tmp_path)
    assert result.curve[-1]["step"] == 12 and result.skipped == 0
    assert result.curve[-1]["pseudo_kept"] == 0.0 and "pseudo_loss" not in result.curve[-1]
    assert all(torch.isfinite(weight).all() for weight in result.weights.values())


def test_labelled_and_unlabelled_hours_may_add_up_to_all_that_a_corpus_holds(make_clips, tmp_path):
    """A labelled draw ends with a whole utterance, so the rest is less than its hours would leave."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((10, 16000))  # of 1 s
    make_clips(tmp_path, list(noise), ["ab"] * 10)
    files = {"features": str(tmp_path / "a.parquet"), "audio": str(tmp_path / "a.arrow")}
    common = {"settings": Semisup(**LOOP), "ssl": None, "text": Text(), "model": None, "parent": None, "seed": 1}

    def drawn(labelled_s: float, unlabelled_s: float) -> tuple[Clips, Clips]:
        corpora = [{"name": "noise", "train": files, "hours": seconds / 3600} for seconds in (labelled_s, unlabelled_s)]
        return chosen_clips(SemisupJob.of(labelled=corpora[:1], unlabelled=corpora[1:], output="", state="", **common))

    labelled, unlabelled = drawn(6.4, 3.6)
    names = [set(clips.column("utterance_id")) for clips in (labelled, unlabelled)]
    assert [len(part) for part in names] == [7, 3] and not names[0] & names[1]
    with pytest.raises(BudgetError, match="unlabelled corpus 'noise' of a start"):
        drawn(6.4, 4.2)
