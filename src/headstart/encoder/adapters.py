"""Adapters: small layers for one language in an encoder for many, as in MMS (Pratap et al. 2023, arXiv 2305.13516)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.conversion import check_finite

ADAPTER = ".adapter_layer."  # in the names of their weights
ADAPTER_SIZE = 16  # hidden channels of a new one, as in MMS


def has_adapters(config: Any) -> bool:
    """Whether an encoder has adapters. A start has them only to train them, see `checkpoints.load_config`."""
    return getattr(config, "adapter_attn_dim", None) is not None


def check_adapters(network: Any, start: str | Path | None) -> None:
    """Check that a network that should have adapters has them.

    Raises:
        CheckpointError: transformers has no adapters for this kind of encoder.
    """
    if not any(ADAPTER in name for name in network.state_dict()):
        raise CheckpointError(
            f"{start}: `adapters: train` needs an encoder that can have adapters; transformers has them for wav2vec2, "
            f"hubert, unispeech and unispeech-sat with do_stable_layer_norm, not for this {network.config.model_type}"
        )


def load_adapter(network: Any, path: str | Path) -> None:
    """Load the weights of a network's adapters from a file of MMS, in place. The file's output layer is left out.

    Raises:
        CheckpointError: the file cannot be read, or does not hold the weights of all adapters.
    """
    wanted = {name: weight for name, weight in network.state_dict().items() if ADAPTER in name}
    try:
        weights = {name: weight.float() for name, weight in load_file(path).items() if name in wanted}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the adapter cannot be loaded: {error}") from None
    if lost := [name for name, weight in wanted.items() if name not in weights or weights[name].shape != weight.shape]:
        raise CheckpointError(f"{path}: the file has no adapter for this encoder: no {lost[0]} of its shape")
    check_finite(path, weights)
    network.load_state_dict(weights, strict=False)
