"""The training loop: the schedule, and a run that is killed and resumed ends exactly as one that was not."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from transformers import Wav2Vec2ForPreTraining

from headstart.encoder.checkpoints import ctc_model
from headstart.encoder.model import dropouts, initialise, new_config
from headstart.errors import TrainingError
from headstart.objectives.ctc import CtcObjective
from headstart.objectives.masking import MaskedAudio
from headstart.objectives.wav2vec2 import ContrastiveObjective
from headstart.pretrain import make_objective, ssl_network
from headstart.study.finetune import Finetune
from headstart.study.pretrain import Pretrain
from headstart.study.text import Text
from headstart.text.normalisation import build_vocabulary
from headstart.training import loop as training
from headstart.training import machine
from headstart.training import state as saving
from headstart.training.batching import Batch
from headstart.training.curve import write_curve
from headstart.training.optimiser import MasterWeights, learning_rate
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

UPDATES, KILLED_AT = 8, 6
LOOP = {"updates": UPDATES, "batch_seconds": 4.0, "log_every": 3, "warmup": 0.25, "dropout": 0.1}


def contrastive(tiny_model, clips, frozen: bool = False, **settings) -> ContrastiveObjective:
    torch.manual_seed(7)
    options = Pretrain(**{**LOOP, "crop_seconds": 1.0, "negatives": 10, "mask_length": 4, **settings})
    config = new_config(tiny_model)
    config.update(dropouts(options.dropout))
    network = Wav2Vec2ForPreTraining(config)
    initialise(network)
    return ContrastiveObjective(network, clips, options, frozen, seed=3)


def other(name: str, tiny_model, clips, frozen: bool = False, **settings) -> MaskedAudio:
    own = {"data2vec": {"average_layers": 2, "ema_start": 0.8}, "best_rq": {"entries": 16, "codebooks": 2}}
    own |= {"hubert": {"clusters": 16}}
    options = Pretrain(**{**LOOP, "crop_seconds": 1.0, "mask_length": 4, **own, "objective": name, **settings})
    return make_objective(ssl_network(None, tiny_model, options, clips, 7), clips, options, frozen, seed=3)


data2vec, best_rq, hubert = (partial(other, name) for name in ("data2vec", "best-rq", "hubert"))
SELF_SUPERVISED = [contrastive, data2vec, best_rq, hubert]


def ctc(tiny_model, clips, frozen: bool = True, **settings) -> CtcObjective:
    torch.manual_seed(7)
    options = Finetune(**{**LOOP, "freeze_encoder": 0.25, **settings})
    vocabulary = build_vocabulary(["abcd"])
    network = ctc_model(None, tiny_model, vocabulary, options.dropout)
    return CtcObjective(network, vocabulary, clips, clips.take([0, 5]), Text(), options, frozen, seed=3)


SHIFTED = [partial(contrastive, shifts=8), partial(ctc, shifts=8)]
BY_MUON = [partial(contrastive, optimiser="muon"), partial(ctc, optimiser="muon")]


def run(objective, state_dir, precision="float32", recipe=None) -> training.Result:
    return training.train(
        objective,
        objective.batches,
        objective.settings.model_copy(update={"precision": precision}),
        stage="testing",
        recipe=recipe or {"recipe": 1},
        seed=3,
        state_dir=state_dir,
    )


class Killed(Exception):
    pass


def killed_at(objective, update: int) -> None:
    """Make the objective raise at this update, as a walltime limit might."""
    loss = objective.loss

    def dying(batch: Batch, shared, positions: list[int], number: int):
        if number == update:
            raise Killed
        return loss(batch, shared, positions, number)

    objective.loss = dying


def counted(objective) -> list[int]:
    """The updates that the objective is asked for, as they come."""
    loss, updates = objective.loss, []

    def counting(batch: Batch, shared, positions: list[int], number: int):
        updates.append(number)
        return loss(batch, shared, positions, number)

    objective.loss = counting
    return updates


def test_the_learning_rate_rises_holds_and_falls_to_its_last_value():
    settings = Finetune(updates=1000, learning_rate=2e-3, warmup=0.1, hold=0.4, decay_to=0.05)
    rates = [learning_rate(update, settings) for update in range(1, 1001)]
    assert rates[0] == pytest.approx(2e-3 / 100) and rates[49] == pytest.approx(1e-3)
    assert rates[99:500] == [2e-3] * 401
    assert rates[749] == pytest.approx(2e-3 * 0.05**0.5)  # halfway down an exponential
    assert rates[999] == pytest.approx(2e-3 * 0.05)
    assert all(a < b for a, b in zip(rates[:99], rates[1:100], strict=True))
    assert all(a > b for a, b in zip(rates[499:-1], rates[500:], strict=True))


@pytest.mark.parametrize(("warmup", "hold"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_the_schedule_may_lack_any_of_its_parts(warmup, hold):
    settings = Pretrain(updates=10, learning_rate=1.0, warmup=warmup, hold=hold, decay_to=0.1)
    rates = [learning_rate(update, settings) for update in range(1, 11)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(1.0 if warmup + hold == 1 else 0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [*SELF_SUPERVISED, ctc, *SHIFTED, *BY_MUON])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(make, precision, tiny_model, noise_clips, tmp_path):
    whole = run(make(tiny_model, noise_clips, save_minutes=1e9), tmp_path / "a", precision)

    first = make(tiny_model, noise_clips, save_minutes=1e-9)
    killed_at(first, KILLED_AT)
    with pytest.raises(Killed):
        run(first, tmp_path / "b", precision)
    second = make(tiny_model, noise_clips, save_minutes=1e9)
    updates = counted(second)
    resumed = run(second, tmp_path / "b", precision)

    assert updates == list(range(KILLED_AT, UPDATES + 1))  # it continued, and lost one update only
    assert resumed.weights.keys() == whole.weights.keys()
    different = [name for name, value in whole.weights.items() if not torch.equal(resumed.weights[name], value)]
    assert different == []
    assert all(value.dtype == torch.float32 for value in whole.weights.values())
    assert [row["step"] for row in whole.curve] == [3, 6, 8]
    for key in whole.curve[0].keys() - {"wall_s", "flops"}:
        assert [row[key] for row in resumed.curve] == [row[key] for row in whole.curve], key
    wall = [row["wall_s"] for row in resumed.curve]
    assert wall == sorted(wall)


def test_the_first_state_is_saved_after_a_minute_at_most(tiny_model, noise_clips, tmp_path, monkeypatch):
    """A job that is killed before `save_minutes` have passed, again and again, would otherwise never end."""
    saved = []
    monkeypatch.setattr(training, "save_state", lambda *arguments: saved.append(arguments[-1]["update"]))
    run(ctc(tiny_model, noise_clips, save_minutes=1e9), tmp_path)
    assert saved == []
    monkeypatch.setattr(training, "FIRST_SAVE_MINUTES", 1e-9)
    run(ctc(tiny_model, noise_clips, save_minutes=1e9), tmp_path)
    assert saved == [1]


def test_another_recipe_starts_afresh_and_the_same_one_does_not(tiny_model, noise_clips, tmp_path):
    first = ctc(tiny_model, noise_clips, save_minutes=1e-9)
    killed_at(first, KILLED_AT)
    with pytest.raises(Killed):
        run(first, tmp_path, recipe={"learning_rate": 1, "seed": 2})
    for recipe, start in (({"learning_rate": 2, "seed": 1}, 1), ({"seed": 2, "learning_rate": 1}, KILLED_AT)):
        objective = ctc(tiny_model, noise_clips, save_minutes=1e9)
        updates = counted(objective)
        run(objective, tmp_path, recipe=recipe)
        assert updates[0] == start


def saved_state(tiny_model, clips, folder, precision="float32", objective=contrastive) -> Path:
    """The state of a job that was killed after some updates."""
    first = objective(tiny_model, clips, save_minutes=1e-9)
    killed_at(first, KILLED_AT)
    with pytest.raises(Killed):
        run(first, folder, precision)
    return folder / "state.safetensors"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def headless(content: bytes) -> bytes:
    return content[:4]


def empty(content: bytes) -> bytes:
    return b""


def flipped_weight(content: bytes) -> bytes:
    """One bit of the last tensor is another: the file still reads as it should."""
    return content[:-3] + bytes([content[-3] ^ 0x40]) + content[-2:]


def flipped_progress(content: bytes) -> bytes:
    """The update of the state is another one."""
    changed = content.replace(rb"\"update\": %d" % (KILLED_AT - 1), rb"\"update\": %d" % (KILLED_AT - 2))
    assert changed != content
    return changed


@pytest.mark.parametrize("damage", [cut, headless, empty, flipped_weight, flipped_progress])
def test_a_damaged_state_is_set_aside_and_never_trained_on(damage, tiny_model, noise_clips, tmp_path, caplog):
    whole = run(contrastive(tiny_model, noise_clips, save_minutes=1e9), tmp_path / "a")
    state = saved_state(tiny_model, noise_clips, tmp_path / "b")
    state.write_bytes(broken := damage(state.read_bytes()))
    second = contrastive(tiny_model, noise_clips, save_minutes=1e9)
    updates = counted(second)
    with caplog.at_level("WARNING"):
        resumed = run(second, tmp_path / "b")
    assert updates[0] == 1 and f"{state} is damaged" in caplog.text
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
    assert state.with_name("state.safetensors.broken").read_bytes() == broken and not state.exists()


@pytest.mark.parametrize("fast", [False, True])
def test_a_resumed_run_goes_on_in_the_precision_in_which_it_began(
    fast, tiny_model, noise_clips, tmp_path, monkeypatch, caplog
):
    """Mixed nodes: `auto` is another type on the machine where the run goes on (huggingface/transformers#24718)."""
    began = "float32" if fast else "bfloat16"
    monkeypatch.setattr(machine, "bfloat16_is_fast", lambda: not fast)
    whole = run(contrastive(tiny_model, noise_clips, save_minutes=1e9), tmp_path / "a", "auto")
    assert whole.machine["precision"] == began
    saved_state(tiny_model, noise_clips, tmp_path / "b", "auto")
    monkeypatch.setattr(machine, "bfloat16_is_fast", lambda: fast)
    with caplog.at_level("INFO"):
        resumed = run(contrastive(tiny_model, noise_clips, save_minutes=1e9), tmp_path / "b", "auto")
    assert f"continues in {began}, as it was started" in caplog.text and resumed.machine["precision"] == began
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_a_kill_while_saving_leaves_the_older_state(tiny_model, noise_clips, tmp_path, monkeypatch):
    real, calls = saving.save_file, []

    def dying(tensors, path, **options):
        calls.append(path)
        real(tensors, path, **options)
        if len(calls) == 3:
            raise Killed  # after the bytes are written, before the file has its name

    monkeypatch.setattr(saving, "save_file", dying)
    with pytest.raises(Killed):
        run(ctc(tiny_model, noise_clips, save_minutes=1e-9), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    with safe_open(tmp_path / "state.safetensors", framework="pt") as state:
        assert '"update": 2' in state.metadata()["progress"]


def test_the_same_run_twice_gives_the_same_bits(tiny_model, noise_clips, tmp_path):
    objectives = [contrastive(tiny_model, noise_clips, updates=3) for _ in range(2)]
    results = [run(objective, tmp_path / str(i)) for i, objective in enumerate(objectives)]
    assert all(torch.equal(results[0].weights[name], value) for name, value in results[1].weights.items())


def exploding(objective, what: str, when) -> None:
    """Make the loss, or only its gradient, not finite at updates for which `when` holds."""
    loss = objective.loss

    def failing(batch: Batch, shared, positions: list[int], update: int):
        value, metrics = loss(batch, shared, positions, update)
        if not when(update):
            return value, metrics
        if what == "loss":
            return value * float("nan"), metrics
        return value + (objective.network.lm_head.weight * 0).sqrt().sum(), metrics  # finite, its gradient is not

    objective.loss = failing


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_batch_whose_loss_is_not_finite_is_skipped_and_counted(what, tiny_model, noise_clips, tmp_path, caplog):
    objective = ctc(tiny_model, noise_clips, save_minutes=1e-9)
    exploding(objective, what, {4, 6}.__contains__)
    whole = run(objective, tmp_path / "a")
    assert whole.skipped == 2 and [row["skipped"] for row in whole.curve] == [0, 2, 2]
    assert all(torch.isfinite(weight).all() for weight in whole.weights.values())
    assert all(math.isfinite(row["train_loss"]) for row in whole.curve)
    batch = next(ctc(tiny_model, noise_clips).batches(3))
    named = [message for message in caplog.messages if "update 4 is skipped" in message]
    assert named and all(name in named[0] for name in objective.utterance_ids(batch))
    # The count outlives a kill.
    first = ctc(tiny_model, noise_clips, save_minutes=1e-9)
    exploding(first, what, {4, 6}.__contains__)
    killed_at(first, 6)
    with pytest.raises(Killed):
        run(first, tmp_path / "b")
    second = ctc(tiny_model, noise_clips)
    exploding(second, what, {4, 6}.__contains__)
    resumed = run(second, tmp_path / "b")
    assert resumed.skipped == 2
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_ten_batches_in_a_row_that_are_not_finite_stop_the_run_and_are_named(tiny_model, noise_clips, tmp_path):
    objective = ctc(tiny_model, noise_clips, updates=40)
    exploding(objective, "loss", lambda update: update == 3 or update >= 20)
    with pytest.raises(TrainingError, match="testing: .*10 batches in a row, up to update 29 of 40") as caught:
        run(objective, tmp_path)
    assert "lower learning_rate (now 0.001)" in str(caught.value) and "clip000" in str(caught.value)


def gradients(objective, state_dir, monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The gradient of each update, as the optimiser gets it."""
    step, given = MasterWeights.step, []

    def recording(weights, rate):
        given.append({name: p.grad.clone() for name, p in weights.master.items() if p.grad is not None})
        return step(weights, rate)

    monkeypatch.setattr(MasterWeights, "step", recording)
    run(objective, state_dir)
    monkeypatch.undo()
    return given


@pytest.mark.parametrize("make", [*SELF_SUPERVISED, ctc, *SHIFTED])
def test_the_gradient_of_a_batch_is_that_of_its_parts(make, tiny_model, noise_clips, tmp_path, monkeypatch):
    """Masks, negatives, Gumbel noise and what losses are divided by are the whole batch's; so is the diversity loss."""
    settings = {"updates": 2, "dropout": 0.0, "batch_seconds": 6.0}
    settings |= (
        {"freeze_encoder": 0.0} if make in (ctc, SHIFTED[1]) else {"freeze_quantiser": 0.0, "diversity_weight": 5.0}
    )
    whole = make(tiny_model, noise_clips, **settings)
    assert len(next(whole.batches(0)).clips) > 3
    whole = gradients(whole, tmp_path / "1", monkeypatch)
    for parts in (2, 3, 50):  # of the last, most are empty
        objective = make(tiny_model, noise_clips, **settings, accumulate=parts)
        given = gradients(objective, tmp_path / str(parts), monkeypatch)
        assert given[0].keys() == whole[0].keys()
        for name, gradient in whole[0].items():
            assert (given[0][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("make", SELF_SUPERVISED)
def test_the_learning_curve_is_the_whole_batchs_in_whatever_parts(make, tiny_model, noise_clips, tmp_path):
    def row(parts: int) -> dict[str, float]:
        settings = {"updates": 1, "dropout": 0.0, "freeze_quantiser": 0.0, "diversity_weight": 5.0}
        objective = make(tiny_model, noise_clips, **settings, accumulate=parts)
        return run(objective, tmp_path / str(parts)).curve[0]

    parts, whole = row(3), row(1)
    assert parts.keys() == whole.keys()
    for name in whole.keys() - {"wall_s"}:
        assert parts[name] == pytest.approx(whole[name], rel=1e-2 if name == "flops" else 1e-5), name


def uniform_codes(network) -> None:
    """Let the quantiser use one code, whatever it hears."""
    torch.nn.init.zeros_(network.quantizer.weight_proj.weight)
    network.quantizer.weight_proj.bias.data = torch.tensor([50.0] + [0.0] * 7).repeat(2)


def uniform_targets(network) -> None:
    torch.nn.init.zeros_(network.project_q.weight)
    torch.nn.init.ones_(network.project_q.bias)


def uniform_context(network) -> None:
    torch.nn.init.zeros_(network.project_hid.weight)


@pytest.mark.parametrize(
    ("collapse", "advice"),
    [
        (uniform_codes, "uses 2.0 of 16 codes .*diversity_weight"),
        (uniform_targets, "targets of an utterance are alike .cosine 1.000.*learning_rate"),
        (uniform_context, "stays at chance .* for 4 updates; raise learning_rate"),
    ],
)
def test_a_collapsed_run_stops_with_what_to_change(collapse, advice, tiny_model, noise_clips, tmp_path):
    settings = {"updates": 20, "log_every": 2, "learning_rate": 1e-9, "dropout": 0.0}
    objective = contrastive(tiny_model, noise_clips, patience=4, **settings)
    torch.nn.init.normal_(objective.network.quantizer.weight_proj.weight)
    collapse(objective.network)
    with pytest.raises(TrainingError, match=f"testing: collapsed at update 4 of 20: .*{advice}"):
        run(objective, tmp_path)


def test_a_run_that_learns_is_not_taken_for_collapsed(tiny_model, noise_clips):
    objective = contrastive(tiny_model, noise_clips, patience=4)
    healthy = {"contrastive_loss": 2.0, "chance_loss": 2.3, "perplexity": 12.0, "target_similarity": 0.5}
    chance = {**healthy, "contrastive_loss": 2.3}
    rows = [{"step": step, **(healthy if step == 8 else chance)} for step in (2, 4, 6, 8, 10)]
    assert objective.collapse_advice(rows[:1]) is None  # too early to say
    assert objective.collapse_advice(rows) is None
    assert "chance" in objective.collapse_advice(rows[:3])


def test_frozen_parts_do_not_change_and_the_others_do(tiny_model, noise_clips, tmp_path):
    def changed(**settings) -> set[str]:
        objective = ctc(tiny_model, noise_clips, weight_decay=0.1, updates=4, **settings)
        before = {name: value.clone() for name, value in objective.network.state_dict().items()}
        weights = run(objective, tmp_path / str(settings)).weights
        return {name for name, value in weights.items() if not torch.equal(value, before[name])}

    pretrained = contrastive(tiny_model, noise_clips, frozen=True, freeze_quantiser=0.0)
    assert pretrained.trainable(1) == {n for n in pretrained.network.state_dict() if ".feature_extractor." not in n}
    names = set(ctc(tiny_model, noise_clips).network.state_dict())
    front = {name for name in names if ".feature_extractor." in name}
    head = {"lm_head.weight", "lm_head.bias"}
    assert len(front) >= 8
    assert changed(freeze_encoder=1.0) == head
    assert changed(freeze_encoder=0.0) == names - front
    assert changed(freeze_encoder=0.0, frozen=False) == names


def test_a_frozen_quantiser_stays_for_its_share_of_updates(tiny_model, noise_clips, tmp_path):
    objective = contrastive(tiny_model, noise_clips, freeze_quantiser=0.5, save_minutes=1e-9)
    quantiser = {n: v.clone() for n, v in objective.network.state_dict().items() if n.startswith("quantizer.")}
    killed_at(objective, UPDATES // 2 + 1)
    with pytest.raises(Killed):
        run(objective, tmp_path)
    at_half = objective.network.state_dict()
    assert all(torch.equal(at_half[name], value) for name, value in quantiser.items())
    objective = contrastive(tiny_model, noise_clips, freeze_quantiser=0.5)
    weights = run(objective, tmp_path).weights
    assert not any(torch.equal(weights[name], value) for name, value in quantiser.items())


class Linear(torch.nn.Linear):
    def set_attn_implementation(self, name: str) -> None:
        pass  # transformers' networks have it


class Line(training.Objective):
    """The smallest objective: a straight line through points."""

    metrics = ("update_seen",)

    def __init__(self, **settings):
        self.settings = Pretrain(**{"updates": 200, "learning_rate": 0.3, "hold": 0.6, "log_every": 100, **settings})
        self.network = Linear(1, 1)

    def batches(self, start: int) -> Iterator[Batch]:
        while True:
            yield Batch(0, [0], 36.0, (1,))

    def prepare(self, batch: Batch, update: int, own: list[list[int]], ranks: Ranks):
        return torch.rand(16, 1, dtype=self.network.weight.dtype)

    def loss(self, batch: Batch, x: torch.Tensor, positions: list[int], update: int):
        return (self.network(x) - (3 * x + 1)).square().mean(), {"update_seen": float(update)}

    def evaluate(self) -> dict[str, float]:
        return {"training": float(self.network.training)}

    def utterance_ids(self, batch: Batch) -> list[str]:
        return [f"clip{i}" for i in batch.clips]


def test_it_learns_and_the_curve_holds_means_between_its_rows(tmp_path):
    result = run(Line(weight_decay=0.0), tmp_path)
    assert result.weights["weight"].item() == pytest.approx(3, abs=0.05)
    assert result.weights["bias"].item() == pytest.approx(1, abs=0.05)
    assert [row["update_seen"] for row in result.curve] == [50.5, 150.5]
    assert [row["audio_hours_seen"] for row in result.curve] == pytest.approx([1.0, 2.0])
    assert [row["training"] for row in result.curve] == [0.0, 0.0]  # dev metrics see the network in evaluation mode
    assert result.curve[1]["flops"] == 2 * result.curve[0]["flops"] > 0
    assert result.curve[1]["train_loss"] < result.curve[0]["train_loss"]


@pytest.mark.parametrize(("seconds", "fast"), [(0.2, True), (0.7, True), (1.0, False), (1.8, False)])
def test_bfloat16_is_for_machines_that_multiply_it_faster(seconds, fast, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a GPU is asked, and not measured
    monkeypatch.setattr(machine, "product_seconds", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0)
    objective = Line(updates=1, learning_rate=1e-4, warmup=0.0, hold=1.0, weight_decay=0.0)
    assert run(objective, tmp_path, "auto").machine["precision"] == ("bfloat16" if fast else "float32")


def test_bfloat16_keeps_small_updates_in_its_fp32_weights(tmp_path):
    objective = Line(updates=50, learning_rate=1e-4, warmup=0.0, hold=1.0, weight_decay=0.0)
    torch.nn.init.constant_(objective.network.weight, 64.0)  # bfloat16 steps there are 0.5
    weights = run(objective, tmp_path, "bfloat16").weights
    assert 64.0 - weights["weight"].item() == pytest.approx(50 * 1e-4, rel=0.2)


def test_a_curve_is_written_with_its_columns(tmp_path):
    write_curve(tmp_path / "curve.parquet", [{"step": 5, "train_loss": 1.5}, {"step": 10, "train_loss": 1.0}])
    table = pq.read_table(tmp_path / "curve.parquet")
    assert table.to_pydict() == {"step": [5, 10], "train_loss": [1.5, 1.0]}
    assert str(table.schema.field("step").type) == "int64"
