"""HuBERT (Hsu et al. 2021, arXiv 2106.07447): classification of masked frames by the cluster of their features.

The clusters are found by k-means before training, and stay. In the first iteration they are those of log-mel features.
In a second one, they are those of the outputs of a layer of the start that training continues from.

Shape suffixes: B utterances, T frames, N frames (in `logits`: masked frames of an utterance, padded), S samples,
F features, P principal components of a codebook, G codebooks (sets of clusters), V clusters, D dimensions.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from transformers import AutoModel

from headstart.devices import moved
from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.checkpoints import load_config, load_weights
from headstart.encoder.front_end import frame_counts, front_end, prepared_audio
from headstart.encoder.model import layer_outputs
from headstart.features.clips import Clips
from headstart.objectives.best_rq import MEL_BANDS, stacked, stacked_log_mel
from headstart.objectives.clusters import COMPONENTS, check_enough, k_means, principal_axes, sample_frames
from headstart.objectives.codes import CodeObjective
from headstart.study.pretrain import Hubert, Pretrain
from headstart.training.batching import Batch


class Features(Protocol):
    """What is clustered: `size` features of each frame that an encoder of this `config` has."""

    config: Any
    size: int

    def of(self, audio_BS: torch.Tensor, samples: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Features (B, T, F) of audio from `prepared_audio`, on its device; computed in `dtype` by a network."""


class LogMel:
    """Normalised log-mel features: `stacked_log_mel`, as for BEST-RQ."""

    def __init__(self, config: Any):
        self.config, self.size = config, stacked(config) * MEL_BANDS

    def of(self, audio_BS: torch.Tensor, samples: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return stacked_log_mel(self.config, audio_BS, samples)


class LayerOutput:
    """The outputs of a Transformer layer of a frozen encoder; the layers above it are never computed.

    Args:
        folder: of the encoder's checkpoint.
        layer: from 1.

    Raises:
        CheckpointError: it cannot be loaded, or has fewer layers.
    """

    def __init__(self, folder: str, layer: int):
        self.config = load_config(folder)
        self.encoder, _ = load_weights(AutoModel, folder, self.config)
        layers = self.encoder.encoder.layers
        if layer > len(layers):
            raise CheckpointError(f"{folder}: hubert.layer is {layer}, but the encoder has {len(layers)} layers")
        self.encoder.encoder.layers = layers[:layer]
        self.encoder.eval().requires_grad_(False)
        self.size = self.config.hidden_size

    @torch.no_grad()
    def of(self, audio_BS: torch.Tensor, samples: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        self.encoder.to(audio_BS.device, dtype)
        features_BTC = front_end(self.encoder, audio_BS, samples)
        frames = moved(frame_counts(self.config, samples), audio_BS.device)
        return layer_outputs(self.encoder, features_BTC, frames)[-1]


class ClusterHead(torch.nn.Module):
    """The clusters, held as buffers, and the trained output layer over them.

    A frame's score of a cluster is the cosine similarity between a projection of the encoder's output and the cluster's
    embedding, divided by a temperature (equation 3 of the paper). Each codebook has its own projection.

    Each codebook clusters the features in its own subset of their principal components, every G-th, as the default
    quantiser of wav2vec 2.0 does.

    Args:
        hidden: size of the encoder's output.
        features: size of the features that are clustered.
    """

    features: Features  # what the clusters are of; not saved

    def __init__(self, hidden: int, features: int, settings: Hubert):
        super().__init__()
        groups, clusters, size = settings.codebooks, settings.clusters, settings.projection_size
        self.temperature = settings.temperature
        kept = min(COMPONENTS, features) // groups
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("axes", torch.zeros(groups, features, kept))
        self.register_buffer("centres", torch.zeros(groups, clusters, kept))
        self.projection = torch.nn.Linear(hidden, groups * size)
        self.embeddings = torch.nn.Parameter(torch.randn(groups, clusters, size))

    @torch.no_grad()
    def fit(self, features_NF: torch.Tensor) -> None:
        """Find the clusters of features, by k-means in float64."""
        groups, clusters, kept = self.centres.shape
        check_enough(features_NF, clusters, "hubert.clusters")
        x = features_NF.double()
        centred = x - x.mean(0)
        axes_FP = principal_axes(centred)
        self.mean.copy_(x.mean(0))
        for group in range(groups):
            axes = axes_FP[:, group::groups][:, :kept]
            self.axes[group] = axes
            self.centres[group] = k_means(centred @ axes, clusters)

    def logits(self, context_BND: torch.Tensor) -> torch.Tensor:
        """Unnormalised scores of the clusters, in float32: (B, N, G, V)."""
        groups = len(self.embeddings)
        projected = F.normalize(self.projection(context_BND).float().unflatten(-1, (groups, -1)), dim=-1)
        embedded = F.normalize(self.embeddings.float(), dim=-1)
        return torch.einsum("bngd,gvd->bngv", projected, embedded) / self.temperature


def nearest_clusters(
    x_BTF: torch.Tensor, mean_F: torch.Tensor, axes_GFP: torch.Tensor, centres_GVP: torch.Tensor
) -> torch.Tensor:
    """The cluster of each frame whose centre is nearest in the codebook's principal components: (B, T, G)."""
    z_BTGP = torch.einsum("btf,gfp->btgp", x_BTF.float() - mean_F, axes_GFP)
    closeness = torch.einsum("btgp,gvp->btgv", z_BTGP, centres_GVP) - centres_GVP.square().sum(-1) / 2
    return closeness.argmax(-1)


def clustered_features(config: Any, parent: str | None, settings: Hubert) -> Features:
    """The features to cluster.

    Args:
        config: of the encoder that is trained.
        parent: checkpoint folder of the start that training continues from, if any.

    Raises:
        CheckpointError: a layer is to be clustered, and there is no such layer.
    """
    if not settings.layer:
        return LogMel(config)
    if parent is None:
        raise CheckpointError(f"hubert.layer is {settings.layer}, but the start has no parent whose layer it could be")
    return LayerOutput(parent, settings.layer)


def sampled_features(features: Features, clips: Clips, clusters: int, seed: int) -> torch.Tensor:
    """Features of randomly chosen clips, to find clusters of: (N, F)."""

    def describe(audio: torch.Tensor) -> torch.Tensor:
        audio_BS, samples = prepared_audio(features.config, [audio], len(audio))
        return features.of(audio_BS, samples)[0, : int(frame_counts(features.config, samples)[0])]

    return sample_frames(clips, clusters, seed, describe)


class HubertObjective(CodeObjective):
    """HuBERT's objective, for a network with a `ClusterHead` as `clusters`, whose `features` are set.

    It differs from the paper in the features of the first iteration, which are normalised log-mel features and not
    mel-frequency cepstral coefficients, in the principal components, and in that every target is computed when it is
    needed, from the same crop as the encoder's input; so that no labels are stored.
    """

    metrics = ("cluster_loss", "trivial_loss", "cluster_accuracy", "cluster_perplexity")
    loss_name, head_name = "cluster_loss", "clusters"
    same_codes = "raise hubert.clusters, or take another hubert.layer"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        head = network.clusters
        super().__init__(network, clips, settings, freeze_front_end, seed, tuple(head.centres.shape[:2]))
        self.clustered = head.features
        self.prepare_runs_network = settings.hubert.layer > 0
        # Copies in float32: the network may be cast to bfloat16, and rounded clusters would be others.
        self.clusters = [x.detach().float().clone() for x in (head.mean, head.axes, head.centres)]

    def codes(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        weight = self.network.clusters.projection.weight
        self.clusters = [moved(x, weight.device) for x in self.clusters]
        audio_BS, samples = self.audio(batch, positions)
        x_BTF = self.clustered.of(moved(audio_BS, weight.device), samples, weight.dtype)
        return nearest_clusters(x_BTF, *self.clusters)
