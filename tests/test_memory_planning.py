"""A batch that does not fit into memory is computed in more parts, with the same gradient, in every process."""

import pytest
import torch
from test_semisup import objective_of as semisup_of
from test_training import Killed, best_rq, contrastive, ctc, data2vec, hubert, killed_at

from headstart.errors import TrainingError
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Loss
from headstart.training import loop as training
from headstart.training.batching import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"updates": 6, "log_every": 2, "batch_seconds": 6.0, "dropout": 0.0}


def semisup(tiny_model, clips, **settings):
    """With what may be counted twice: pseudo-labels from a cache, checks of them, and clusters that have been seen."""
    losses = {"pseudo": Loss(begin=0.2), "ssl": Loss(weight=0.5), "min_confidence": 0.0}
    counted = {"cache_updates": 2, "guard_every": 2}
    pretrain = Pretrain(objective="hubert", crop_seconds=1.0, hubert={"clusters": 8})
    return semisup_of(tiny_model, clips, pretrain=pretrain, **losses, **counted, **settings)


def run(objective, folder) -> training.Result:
    settings = objective.settings.model_copy(update={"precision": "float32"})
    options = {"stage": "testing", "recipe": {}, "seed": 3, "state_dir": folder}
    return training.train(objective, objective.batches, settings, **options)


class Memory:
    """Makes an objective run out of memory where a part has more than `clips` clips, in update `first` and later."""

    def __init__(self, objective, where: str, clips: int, first: int):
        self.loss, self.where, self.clips, self.first = objective.loss, where, clips, first
        self.updates: list[int] = []
        objective.loss = self

    def __call__(self, batch: Batch, shared, positions: list[int], update: int):
        lacking = len(positions) > self.clips and update >= self.first
        if lacking:
            self.updates.append(update)
        if lacking and self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        loss, metrics = self.loss(batch, shared, positions, update)
        return (Full.apply(loss) if lacking else loss), metrics


class Full(torch.autograd.Function):
    """The identity, without memory for a backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("make", "where"),
    [
        *((make, "backward") for make in (contrastive, data2vec, best_rq, hubert, ctc)),
        *((semisup, where) for where in ("forward", "backward")),
    ],
)
def test_the_result_is_that_of_a_machine_with_enough_memory(make, where, tiny_model, noise_clips, tmp_path, caplog):
    settings = {**SETTINGS, **({"freeze_quantiser": 0.0} if make is contrastive else {})}
    whole = run(make(tiny_model, noise_clips, **settings), tmp_path / "whole")
    objective = make(tiny_model, noise_clips, **settings)
    memory = Memory(objective, where, 2, 3)
    with caplog.at_level("WARNING"):
        split = run(objective, tmp_path / "split")
    assert memory.updates and split.parts >= 2 and whole.parts == 1
    assert len(set(memory.updates)) < 4  # it learns how many parts it takes
    assert f"update {memory.updates[0]}, a batch of" in caplog.text and "does not fit into memory" in caplog.text
    assert f"`accumulate: {split.parts}` would begin so" in caplog.text
    for name, weight in whole.weights.items():
        torch.testing.assert_close(split.weights[name], weight, rtol=1e-3, atol=2e-5, msg=name)
    for name in whole.curve[0].keys() - {"wall_s", "flops"}:
        assert [row[name] for row in split.curve] == pytest.approx([row[name] for row in whole.curve], rel=1e-3), name


def test_a_job_that_was_split_resumes_with_the_same_bits(tiny_model, noise_clips, tmp_path):
    """Dropout is drawn for each part, so that a resumed job must know how many there were."""

    def made(**settings):
        objective = contrastive(tiny_model, noise_clips, **{**SETTINGS, "dropout": 0.1, **settings})
        Memory(objective, "backward", 2, 2)
        return objective

    whole = run(made(), tmp_path / "whole")
    first = made(save_minutes=1e-9)
    killed_at(first, 5)
    with pytest.raises(Killed):
        run(first, tmp_path / "killed")
    second = made()
    second.loss.first = 99  # the machine that it goes on on has enough
    resumed = run(second, tmp_path / "killed")
    assert whole.parts == resumed.parts > 1
    assert [name for name, value in whole.weights.items() if not torch.equal(resumed.weights[name], value)] == []


def test_a_clip_that_does_not_fit_ends_the_job_and_is_named(tiny_model, noise_clips, tmp_path):
    objective = ctc(tiny_model, noise_clips, **SETTINGS)
    Memory(objective, "forward", 0, 1)
    with pytest.raises(TrainingError, match=r"testing: update 1 does not fit .* every clip .*2.00 GiB.*here clip\d"):
        run(objective, tmp_path)
