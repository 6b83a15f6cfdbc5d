"""Training and evaluation on a simulated GPU: every tensor is where it must be, and little waits for the GPU."""

from functools import partial
from itertools import cycle

import pytest
import torch
from simulated_gpu import DEVICE, OnGpu, simulated_gpu
from test_families import LENGTHS, TEXTS, VARIANTS, VOCABULARY, made, noise
from test_semisup import objective_of as semisup_of
from test_training import Killed, best_rq, contrastive, ctc, data2vec, hubert, killed_at
from transformers import AutoModelForCTC

from headstart.encoder.checkpoint_files import FAMILIES
from headstart.encoder.checkpoints import ctc_model
from headstart.objectives.ctc import CtcObjective
from headstart.pretrain import make_objective, ssl_network
from headstart.score.transcription import transcribe
from headstart.study.finetune import Finetune
from headstart.study.pretrain import Pretrain
from headstart.study.semisup import Loss
from headstart.study.text import Text
from headstart.training import loop as training
from headstart.training.batching import Batch
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

UPDATES = 4
SETTINGS = {"updates": UPDATES, "log_every": 2, "dropout": 0.0, "save_minutes": 1e-9}


def semisup(tiny_model, clips, **settings):
    """All three losses, with pseudo-labels, from the second update on, that have a teacher of their own."""
    losses = {"pseudo": Loss(begin=0.25), "ssl": Loss(weight=0.5), "min_confidence": 0.0, "guard_every": 2}
    pretrain = Pretrain(objective="hubert", crop_seconds=1.0, hubert={"clusters": 8})
    return semisup_of(tiny_model, clips, pretrain=pretrain, **losses, **settings)


STAGES = [contrastive, data2vec, best_rq, hubert, ctc, semisup, partial(ctc, optimiser="muon")]


def run(objective, folder) -> training.Result:
    settings = objective.settings.model_copy(update={"precision": "float32"})
    options = {"stage": "testing", "recipe": {}, "seed": 3, "state_dir": folder}
    return training.train(objective, objective.batches, settings, **options)


@pytest.mark.parametrize("make", STAGES)
def test_a_stage_trains_on_a_gpu_as_on_the_cpu(make, tiny_model, noise_clips, tmp_path, monkeypatch):
    """Forward and backward passes, updates, evaluations; a state is saved, and a job that is killed goes on from it."""
    settings = {**SETTINGS, "accumulate": 2}
    here = run(make(tiny_model, noise_clips, **settings), tmp_path / "cpu")
    with simulated_gpu(monkeypatch):
        assert Ranks().device == DEVICE
        objective = make(tiny_model, noise_clips, **settings)
        killed_at(objective, 3)
        with pytest.raises(Killed):
            run(objective, tmp_path / "gpu")
        assert all(isinstance(p, OnGpu) for p in objective.network.parameters())
        there = run(make(tiny_model, noise_clips, **settings), tmp_path / "gpu")
    for name in here.curve[0].keys() - {"wall_s", "flops"}:
        assert [row.get(name) for row in there.curve] == pytest.approx([row.get(name) for row in here.curve], rel=1e-3)
    for name, weight in here.weights.items():
        assert not isinstance(there.weights[name], OnGpu)
        torch.testing.assert_close(there.weights[name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", STAGES)
def test_an_update_waits_for_the_gpu_only_to_read_its_loss_and_its_gradients_norm(
    make, tiny_model, noise_clips, tmp_path, monkeypatch
):
    """Pseudo-labels are read too, because they are spelt on the CPU, and their teacher's loss where it is checked.

    transformers looks in every forward pass whether there is padding.
    """
    objective = make(tiny_model, noise_clips, **{**SETTINGS, "log_every": UPDATES, "save_minutes": 1e9})
    objective.evaluate = dict
    with simulated_gpu(monkeypatch) as waits:
        run(objective, tmp_path)
    parameters = len(list(objective.network.parameters())) + len(list(objective.network.buffers()))
    assert waits.pop(("a copy", "training/loop.py:train")) == parameters  # once
    assert waits.pop(("a copy back", "training/optimiser.py:<dictcomp>")) == parameters
    assert waits.pop(("a value", "encoder/model.py:encode")) >= UPDATES
    assert waits.pop(("a value", "training/gradients.py:over_ranks")) == UPDATES
    assert waits.pop(("a value", "training/optimiser.py:step")) == UPDATES
    if make is semisup:
        assert waits.pop(("a copy back", "objectives/pseudo_labels.py:<genexpr>")) == 2 * (UPDATES - 1)
        assert waits.pop(("a value", "objectives/semisup.py:_rivals")) == 2
        assert waits.pop(("a value", "objectives/semisup.py:_fit")) == 1
    assert not waits


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_is_fine_tuned_and_transcribes_on_a_gpu(variant, make_clips, tmp_path, monkeypatch):
    """Also a network that has been used on the CPU before."""
    made(AutoModelForCTC, variant).save_pretrained(tmp_path)
    clips = make_clips(tmp_path, [clip / 32768 for clip in noise(*LENGTHS)], TEXTS)
    network = ctc_model(tmp_path, None, VOCABULARY, 0.0, adapters="adapters" in variant)
    positions = [0, 1, 2]
    batch = Batch(0, positions, 1.0, (3, 64))

    def results() -> tuple[float, str, list[str]]:
        network.train().to(Ranks().device)
        objective = CtcObjective(network, VOCABULARY, clips, clips, Text(), Finetune(), False, seed=1)
        torch.manual_seed(0)
        loss, _ = objective.loss(batch, objective.prepare(batch, 1, [positions], Ranks()), positions, 1)
        network.eval()
        return loss.item(), objective.evaluate(), transcribe(network, clips, VOCABULARY)

    here = results()
    with simulated_gpu(monkeypatch):
        there = results()
    assert there[0] == pytest.approx(here[0], rel=1e-4) and there[1:] == here[1:]


@pytest.mark.parametrize(("variant", "name"), [*zip(FAMILIES, cycle(("hubert", "data2vec", "best-rq")), strict=False)])
def test_every_family_is_pre_trained_on_a_gpu(name, variant, noise_clips, tmp_path, monkeypatch):
    made(AutoModelForCTC, variant).save_pretrained(tmp_path)
    own = {"hubert": {"clusters": 8, "layer": 1}, "best_rq": {"entries": 8}, "data2vec": {"average_layers": 1}}
    options = Pretrain(objective=name, batch_seconds=3.0, crop_seconds=1.0, updates=1, log_every=1, **own)
    network = ssl_network(str(tmp_path), None, options, noise_clips, 1)
    objective = make_objective(network, noise_clips, options, True, seed=3)
    with simulated_gpu(monkeypatch):
        result = run(objective, tmp_path / "state")
    assert len(result.curve) == 1 and result.skipped == 0
