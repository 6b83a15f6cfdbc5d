"""A run that transcribes: its network, its labels and its decoder, from a run's folder or an exported one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.decode.decoder import Decoder
from headstart.encoder.checkpoint_files import CheckpointError, check_checkpoint
from headstart.encoder.checkpoints import finetuned_model
from headstart.encoder.front_end import frame_stride
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE
from headstart.files import read_json
from headstart.text.normalisation import BLANK, WORD_BOUNDARY
from headstart.transcribe.language_model import language_model_of


@dataclass
class Run:
    """What transcribes.

    Attributes:
        network: with its CTC output layer, on the device that was asked for.
        vocabulary: label -> column of its logits.
        decoder: with the run's language model where there is one and it is wanted.
    """

    network: Any
    vocabulary: dict[str, int]
    decoder: Decoder


def open_run(folder: str | Path, device: str = "auto", language_model: bool | None = None) -> Run:
    """Load a fine-tuned model.

    Args:
        folder: of a run, or one that `headstart export` has made.
        device: `cpu`, `cuda`, `cuda:1` and the like, or `auto` for a GPU where there is one.
        language_model: whether to decode with the run's language model; None for "if it has one".

    Raises:
        CheckpointError: the folder is no fine-tuned model, or cannot be loaded.
        HeadstartError: there is no such device; or a language model is wanted, and the run has none.
    """
    folder = Path(folder)
    check_finetuned(folder)
    place = torch_device(device)
    vocabulary = labels(folder)
    network = finetuned_model(folder).eval().to(place)
    decoder = Decoder(vocabulary, frame_stride(network.config) / SAMPLE_RATE)
    if language_model is not False:
        own = language_model_of(folder, required=language_model is True)
        if own:
            decoder.weigh_language_model(own.files, own.search, own.weights)
    return Run(network, vocabulary, decoder)


def check_finetuned(folder: Path) -> None:
    """Check that a folder holds a fine-tuned model, as far as can be seen without loading it.

    Raises:
        CheckpointError: it does not.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise CheckpointError(f"{folder}: {what}; name the folder of a finished run, results/STUDY/runs/…/seed1")
    if not (folder / "config.json").is_file() and (runs := sorted(folder.glob("**/vocab.json"))):
        raise CheckpointError(f"{folder}: holds no model itself; name a run in it, such as {runs[0].parent}")
    check_checkpoint(folder)
    if not (folder / "vocab.json").is_file():
        raise CheckpointError(
            f"{folder}: no vocab.json, so this is a start and no fine-tuned model; "
            "name a run, results/STUDY/runs/…/seed1"
        )


def labels(folder: Path) -> dict[str, int]:
    """The labels of a fine-tuned model, from its vocab.json.

    Raises:
        CheckpointError: it is broken, or has no blank or word boundary as Headstart writes them.
    """
    path = folder / "vocab.json"
    try:
        vocabulary = read_json(path)
        if not all(isinstance(index, int) for index in vocabulary.values()):
            raise ValueError("a label has no number")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a vocabulary: {error}") from None
    if missing := [label for label in (BLANK, WORD_BOUNDARY) if label not in vocabulary]:
        raise CheckpointError(
            f"{path}: no label {missing[0]!r}; only models that Headstart fine-tuned are transcribed with"
        )
    return vocabulary


def torch_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        HeadstartError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise HeadstartError(f"--device {name}: not a device; it is auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HeadstartError(f"--device {name}: PyTorch finds {torch.cuda.device_count()} GPUs here; take cpu")
    return device
