"""HuBERT: clusters, targets and loss against plain computations, clip by clip, the second iteration, and learning."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from test_best_rq import plain_log_mel
from transformers import AutoModel

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import save_encoder
from headstart.encoder.front_end import frame_counts, prepared_audio
from headstart.errors import HeadstartError
from headstart.objectives.hubert import ClusterHead
from headstart.pretrain import make_objective, ssl_network
from headstart.study.pretrain import Hubert, Pretrain
from headstart.training import loop as training
from headstart.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"objective": "hubert", "batch_seconds": 6.0, "crop_seconds": 1.0, "mask_length": 4}


def objective_of(tiny_model, clips, parent: str | None = None, hubert: dict | None = None, **settings):
    own = {"clusters": 16, "codebooks": 1, **(hubert or {})}
    options = Pretrain(**{**SETTINGS, "hubert": own, **settings})
    model = None if parent else tiny_model
    return make_objective(ssl_network(parent, model, options, clips, 7), clips, options, True, seed=3)


@pytest.fixture
def parent(tiny_model, noise_clips, tmp_path):
    """A start that was pre-trained for a few updates."""
    objective = objective_of(tiny_model, noise_clips, updates=3)
    result = training.train(
        objective, objective.batches, objective.settings, stage="a", recipe={}, seed=0, state_dir=tmp_path / "state"
    )
    save_encoder(objective.network, result.weights, tmp_path / "parent")
    return str(tmp_path / "parent")


def nearest(features: np.ndarray, mean: np.ndarray, axes: np.ndarray, centres: np.ndarray) -> list[int]:
    """The centre at the least distance from each frame's principal components."""
    z = (features - mean) @ axes
    return [int(np.argmin([np.linalg.norm(row - centre) for centre in centres])) for row in z]


@pytest.mark.parametrize(("codebooks", "layer"), [(1, 0), (3, 0), (1, 2), (2, 1)])
def test_loss_and_metrics_are_those_of_a_plain_loop(codebooks, layer, tiny_model, noise_clips, parent):
    """Log-mel features by hand, layers' outputs by transformers."""
    own = {"codebooks": codebooks, "layer": layer, "temperature": 0.2}
    objective = objective_of(tiny_model, noise_clips, parent if layer else None, own)
    network, config = objective.network, objective.network.config
    teacher = AutoModel.from_pretrained(parent).eval() if layer else None
    batch = next(objective.batches(0))
    positions = list(range(len(batch.clips)))
    torch.manual_seed(1)
    shared = objective.prepare(batch, 1, [positions], Ranks())
    loss, metrics = objective.loss(batch, shared, positions, 1)

    head, encoder = network.clusters, network.base_model.eval()
    total = correct = 0.0
    seen: list[list[int]] = []
    for row, index in enumerate(batch.clips):
        length = int(objective.lengths[index])
        audio, _ = prepared_audio(config, [objective._crop(index, batch.epoch)], length)
        frames = int(frame_counts(config, torch.tensor(length)))
        mask = shared.mask_BT[row : row + 1, :frames]
        with torch.no_grad():
            context = encoder(audio, mask_time_indices=mask).last_hidden_state[0]
            if layer:
                features = teacher(audio, output_hidden_states=True).hidden_states[layer][0].numpy()
            else:
                features = plain_log_mel(audio[0].numpy(), frames)
            projected = head.projection(context).view(frames, codebooks, -1)
        every = [
            nearest(features, head.mean.numpy(), head.axes[g].numpy(), head.centres[g].numpy())
            for g in range(codebooks)
        ]
        for t in mask[0].nonzero()[:, 0].tolist():
            seen.append([codes[t] for codes in every])
            for g in range(codebooks):
                scores = torch.stack([F.cosine_similarity(projected[t, g], e, dim=0) for e in head.embeddings[g]]) / 0.2
                total += F.cross_entropy(scores[None], torch.tensor([every[g][t]])).item() / codebooks
                correct += (int(scores.argmax()) == every[g][t]) / codebooks
    assert shared.masked == len(seen) > 50
    entropies = []
    for g in range(codebooks):
        shares = np.bincount([codes[g] for codes in seen]) / len(seen)
        entropies.append(-sum(p * math.log(p) for p in shares if p))
    assert loss.item() == pytest.approx(total / len(seen), rel=1e-3)
    expected = [total, correct, np.mean(entropies) * len(seen), np.mean(np.exp(entropies)) * len(seen)]
    names = ("cluster_loss", "cluster_accuracy", "trivial_loss", "cluster_perplexity")
    assert [float(metrics[name]) * len(seen) for name in names] == pytest.approx(expected, rel=1e-3)


def test_clusters_are_as_tight_as_scikit_learns():
    """In the principal components of scikit-learn's PCA, each divided by the square root of its standard deviation."""
    torch.manual_seed(0)
    centres = 3 * torch.randn(12, 20)
    features = (centres[:, None] + torch.randn(12, 100, 20)).flatten(0, 1) * torch.linspace(0.5, 2.0, 20)
    head = ClusterHead(8, 20, Hubert(clusters=12, codebooks=2))
    head.fit(features)
    whole = PCA().fit(features.double().numpy())
    scaled = whole.transform(features.double().numpy()) / whole.explained_variance_**0.25
    for group in range(2):
        z = scaled[:, group::2]
        reference = KMeans(12, n_init=10, random_state=0).fit(z).inertia_
        own = ((features - head.mean) @ head.axes[group]).numpy()
        np.testing.assert_allclose(np.abs(own), np.abs(z), rtol=5e-3, atol=5e-3)
        distances = np.linalg.norm(own[:, None] - head.centres[group].numpy(), axis=-1)
        assert (distances.min(1) ** 2).sum() <= 1.3 * reference


def test_the_clusters_stay_in_float32_are_saved_and_go_on(tiny_model, noise_clips, tmp_path):
    objective = objective_of(tiny_model, noise_clips, updates=3)
    before = {name: value.clone() for name, value in objective.network.clusters.state_dict().items()}
    batch = next(objective.batches(0))
    codes = objective.codes(batch, [0, 1])
    settings = objective.settings.model_copy(update={"precision": "bfloat16"})
    result = training.train(objective, objective.batches, settings, stage="a", recipe={}, seed=0, state_dir=tmp_path)
    assert torch.equal(objective.codes(batch, [0, 1]), codes)
    save_encoder(objective.network, result.weights, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    for name in ("mean", "axes", "centres"):
        assert torch.equal(saved[f"clusters.{name}"], before[name])
    assert not torch.equal(saved["clusters.embeddings"], before["embeddings"])
    again = objective_of(None, noise_clips, str(tmp_path))
    assert torch.equal(again.codes(batch, [0, 1]), codes)
    assert torch.equal(again.network.clusters.embeddings, saved["clusters.embeddings"])
    more = objective_of(None, noise_clips, str(tmp_path), {"clusters": 20})
    assert more.network.clusters.centres.shape[1] == 20  # new


def test_a_second_iteration_has_the_parents_weights_or_new_ones(tiny_model, noise_clips, parent):
    weights = load_file(f"{parent}/model.safetensors")

    def encoder_of(restart: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        objective = objective_of(None, noise_clips, parent, {"layer": 1, "restart": restart})
        state = objective.network.state_dict()
        encoder = {name: value for name, value in state.items() if not name.startswith("clusters.")}
        return encoder, objective.codes(next(objective.batches(0)), [0, 1])

    (same, codes), (new, targets) = encoder_of(False), encoder_of(True)
    assert all(torch.equal(weights[name], value) for name, value in same.items())
    name = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
    assert new.keys() == same.keys() and not torch.equal(new[name], weights[name])
    assert torch.equal(codes, targets)  # which are the parent's in either case
    filters = "wav2vec2.feature_extractor.conv_layers.0.conv.weight"
    assert torch.equal(new[filters], weights[filters])  # both begin, and stay, as mel filters


def test_layers_that_do_not_exist_are_named(tiny_model, noise_clips, parent):
    with pytest.raises(CheckpointError, match="hubert.layer is 3, but the encoder has 2 layers"):
        objective_of(tiny_model, noise_clips, parent, {"layer": 3})
    with pytest.raises(CheckpointError, match="hubert.layer is 1, but the start has no parent"):
        objective_of(tiny_model, noise_clips, None, {"layer": 1})
    with pytest.raises(ValueError, match="restart is true, but nothing is taken"):
        Hubert(restart=True)


def test_too_little_audio_says_which_key_to_lower(tiny_model, noise_clips):
    with pytest.raises(HeadstartError, match="too few .* 100 entries.*hubert.clusters lower"):
        objective_of(tiny_model, noise_clips, None, {"clusters": 100})


def test_recipes_of_other_starts_stay_as_they_were():
    """Shipped and finished starts would otherwise be trained again."""
    assert "hubert" not in Pretrain().model_dump() and "hubert" not in Pretrain(objective="hubert").model_dump()
    changed = Pretrain(hubert={"clusters": 50})
    assert Pretrain(**changed.model_dump()) == changed


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"cluster_perplexity": 1.1}, "all frames have the same code .perplexity 1.10.*raise hubert.clusters"),
        ({"cluster_loss": 2.5}, "a network that knows nothing .2.500 of 2.500.; raise learning_rate"),
    ],
)
def test_a_collapsed_run_is_told_what_to_change(row, advice, tiny_model, noise_clips, check_advice):
    objective = objective_of(tiny_model, noise_clips, patience=4)
    healthy = {"cluster_loss": 2.0, "trivial_loss": 2.5, "cluster_accuracy": 0.3, "cluster_perplexity": 12.0}
    check_advice(objective, healthy, row, advice)


def test_it_learns(learner):
    """Slowly: among 128 clusters, one prediction in 30 is right at the end, and one in 128 would be by chance."""
    curve, probe, random_probe = learner(objective="hubert")
    assert curve[0]["cluster_loss"] > 0.98 * curve[0]["trivial_loss"]
    last = curve[-10:]
    assert sum(row["cluster_loss"] for row in last) < 0.98 * sum(row["trivial_loss"] for row in last)
    assert sum(row["cluster_accuracy"] for row in last) / len(last) > 2 / 128
    assert probe < random_probe - 0.02
