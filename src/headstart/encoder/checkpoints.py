"""Loading and writing of checkpoint folders in Hugging Face format."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)
from transformers.models.auto import AutoModelForCTC
from transformers.utils import logging as transformers_logging

from headstart.encoder.adapters import ADAPTER_SIZE, check_adapters, load_adapter
from headstart.encoder.checkpoint_files import CheckpointError, check_config, file_hash, own_recipe, read_settings
from headstart.encoder.chunked_attention import limit_attention
from headstart.encoder.conversion import check_finite, unpickling_refused
from headstart.encoder.front_end import MEL_CHANNELS, MEL_STACK, takes_log_mel
from headstart.encoder.lean_imports import import_models, quick_norms
from headstart.encoder.model import EncoderWithHeads, dropouts, initialise, new_config
from headstart.features.audio import SAMPLE_RATE
from headstart.files import sealed, write_json, written_whole
from headstart.study.attention import ChunkedAttention
from headstart.study.model import Model
from headstart.text.normalisation import BLANK, UNKNOWN, WORD_BOUNDARY

log = logging.getLogger(__name__)

import_models()

# Otherwise transformers would warn of weights that a stage drops on purpose (quantiser, old output layer), and write
# progress bars into log files.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


# ---------------------------------------------------------------------------------------------------- loading


def load_config(folder: str | Path, adapters: bool = False) -> Any:
    """The configuration of a local checkpoint, with `do_normalize` added from its feature extractor's settings.

    What it says about how to compute (attention, precision, recomputed activations) is left out: that is ours to say.

    Args:
        adapters: keep MMS's adapters, small layers for one language, if the checkpoint has them. Otherwise the network
            has none, and their weights are not loaded.

    Raises:
        CheckpointError: it is missing or broken, or needs what is not supported: another family, adapter layers,
            another sampling rate or filterbank, quantised weights. The message names the file.
    """
    check_config(folder)
    path = Path(folder) / "config.json"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the configuration cannot be read: {error}") from None
    if takes_log_mel(config) and config.feature_projection_input_dim != MEL_CHANNELS:
        raise CheckpointError(
            f"{path}: feature_projection_input_dim is {config.feature_projection_input_dim}; "
            f"log-mel features have {MEL_CHANNELS} channels"
        )
    # Whether the encoder takes audio with zero mean and unit variance; true where the checkpoint does not say.
    config.do_normalize = bool(read_settings(folder).get("do_normalize", True)) and not takes_log_mel(config)
    config._attn_implementation, config.dtype = None, None
    for name in ("attn_implementation", "gradient_checkpointing"):  # in files of earlier versions of transformers
        if hasattr(config, name):
            delattr(config, name)
    if not adapters and getattr(config, "adapter_attn_dim", None) is not None:
        config.adapter_attn_dim = None
    if not (config.mask_time_prob or config.mask_feature_prob):
        config.mask_time_prob = 0.05  # otherwise transformers makes no embedding for masked frames
    return config


def load_weights(kind: type, folder: str | Path, config: Any) -> tuple[Any, set[str]]:
    """A network with the weights of a local checkpoint, in float32.

    The checkpoint may hold the bare encoder or one with any head, as safetensors or in the old `.bin` format; of the
    latter only weights are unpickled.

    Args:
        kind: class of the network, from transformers.
        config: from `load_config`.

    Returns:
        The network, and the names of its parameters that the checkpoint lacks, which have random values.

    Raises:
        CheckpointError: it cannot be read, lacks weights of the encoder, or has weights that are not finite.
    """
    try:
        with quick_norms():
            network, found = kind.from_pretrained(
                folder, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be loaded, its .bin file: {unpickling_refused(error)}"
        ) from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be loaded: {error}") from None
    missing = set(found["missing_keys"]) | {key[0] for key in found["mismatched_keys"]}
    lost = sorted(name for name in missing if "encoder." in name or "feature_" in name)
    if lost:
        raise CheckpointError(
            f"{folder}: the checkpoint has no weights for {len(lost)} parameters of its encoder, such as {lost[0]}"
        )
    check_finite(folder, {name: w for name, w in network.state_dict().items() if name not in missing})
    return network, missing


def finetuned_model(folder: str | Path) -> Any:
    """The network of a fine-tuned run with its CTC output layer, from the folder that `save_ctc` wrote.

    Raises:
        CheckpointError: it cannot be read, lacks weights, or has weights that are not finite.
    """
    network, missing = load_weights(AutoModelForCTC, folder, load_config(folder, adapters=True))
    if lost := sorted(name for name in missing if name.startswith("lm_head")):
        raise CheckpointError(f"{folder}: the checkpoint has no output layer: no {lost[0]}; fine-tune the run again")
    return network


def config_of(
    start: str | Path | None, model: Model | None, adapters: bool = False, attention: ChunkedAttention | None = None
) -> Any:
    """The configuration of a checkpoint, or that of an encoder with random weights of shape `model`.

    Args:
        adapters: see `load_config`.
        attention: chunked attention; None for that of the checkpoint, which is mostly full attention.

    Raises:
        CheckpointError: see `load_config` and `limit_attention`.
    """
    config = load_config(start, adapters) if start else new_config(model)
    if attention:
        limit_attention(config, attention, new=start is None)
    return config


def encoder_model(
    start: str | Path | None,
    model: Model | None,
    dropout: float,
    adapters: bool = False,
    attention: ChunkedAttention | None = None,
) -> EncoderWithHeads:
    """An encoder without output layers.

    Args:
        start: checkpoint folder, of any family, or None for random weights.
        model: shape of the encoder with random weights.
        adapters, attention: see `config_of`.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    config = config_of(start, model, adapters, attention)
    set_dropout(config, dropout)
    if start:
        return EncoderWithHeads(load_weights(AutoModel, start, config)[0])
    network = EncoderWithHeads(AutoModel.from_config(config))
    initialise(network)
    return network


def load_heads(network: EncoderWithHeads, folder: str | Path) -> None:
    """Load the weights of a network's output layers from a checkpoint of Headstart, in place.

    An output layer that the checkpoint lacks, or has in another shape, keeps its initial weights.

    Raises:
        CheckpointError: the checkpoint's weights of an output layer are not finite.
    """
    path = Path(folder) / "model.safetensors"
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name, head in network.named_children():
            keys = {key: f"{name}.{key}" for key in head.state_dict()}
            if head is network.base_model:
                continue
            if not names.issuperset(keys.values()):
                log.info("%s has no weights of %s, which begins with random ones", folder, name)
                continue
            weights = {key: file.get_tensor(full).float() for key, full in keys.items()}
            check_finite(folder, {keys[key]: weight for key, weight in weights.items()})
            if all(weights[key].shape == value.shape for key, value in head.state_dict().items()):
                head.load_state_dict(weights)


def set_dropout(config: Any, dropout: float) -> None:
    """Set the dropout of an encoder's configuration, see `dropouts`."""
    config.update(dropouts(dropout))
    if hasattr(config, "conformer_conv_dropout"):
        config.conformer_conv_dropout = dropout


def ctc_model(
    start: str | Path | None,
    model: Model | None,
    vocabulary: dict[str, int],
    dropout: float,
    adapters: bool = False,
    adapter: str | Path | None = None,
    attention: ChunkedAttention | None = None,
) -> Any:
    """An encoder with a new CTC output layer over `vocabulary`.

    Args:
        start: checkpoint folder of a pre-trained start (its output layer, if any, is dropped), or None for random
            weights of shape `model`.
        vocabulary: token -> index, with the CTC blank among the tokens.
        adapters: give the encoder new adapters, which are then the only weights that are trained beside the output
            layer. Otherwise it has none.
        adapter: file with the adapters' weights, for those of one language instead of random ones.
        attention: see `config_of`.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    config = config_of(start, model, attention=attention)
    set_dropout(config, dropout)
    config.update({"vocab_size": len(vocabulary), "pad_token_id": vocabulary[BLANK]})
    config.update({"ctc_zero_infinity": True, "tokenizer_class": None})
    bare = copy.deepcopy(config)
    if adapters:
        config.adapter_attn_dim = getattr(load_config(start, adapters=True), "adapter_attn_dim", None) or ADAPTER_SIZE
    network = AutoModelForCTC.from_config(config)
    if adapters:
        check_adapters(network, start)
    if not start:
        initialise(network)
    else:
        encoder, _ = load_weights(type(network.base_model), start, bare)
        network.base_model.load_state_dict(encoder.state_dict(), strict=not adapters)
    if adapter:
        load_adapter(network, adapter)
    return network


# ---------------------------------------------------------------------------------------------------- writing


def save_ctc(network: Any, weights: dict[str, torch.Tensor], vocabulary: dict[str, int], folder: Path) -> None:
    """Write a fine-tuned model with its tokenizer and feature extractor, so that `transformers.pipeline` loads it.

    A pipeline that takes one clip at a time, which is the default, gives the same text as `score.transcription`. In a
    padded batch it may not: transformers lets padding affect the statistics of group-norm front-ends and the
    convolutions of conformers, of data2vec, and of HuBERTs with batch norm, whereas Headstart does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "vocab.json") as temporary:
        write_json(temporary, vocabulary)
        tokenizer = Wav2Vec2CTCTokenizer(
            str(temporary),
            pad_token=BLANK,
            unk_token=UNKNOWN,
            word_delimiter_token=WORD_BOUNDARY,
            bos_token=None,
            eos_token=None,
        )
    tokenizer.save_pretrained(folder)
    save_encoder(network, weights, folder)


def save_encoder(network: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write config.json, preprocessor_config.json and, last and atomically, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    written = network.base_model if isinstance(network, EncoderWithHeads) else network
    config = network.config.to_diff_dict() | {"architectures": [type(written).__name__], "dtype": "float32"}
    write_json(folder / "config.json", {key: value for key, value in config.items() if not key.startswith("_")})
    feature_extractor(network.config).save_pretrained(folder)
    with written_whole(folder / "model.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in weights.items()}, temporary, metadata={"format": "pt"})


def feature_extractor(config: Any) -> Any:
    """transformers' feature extractor that prepares audio as encoder/front_end.py does."""
    if takes_log_mel(config):
        return SeamlessM4TFeatureExtractor(sampling_rate=SAMPLE_RATE, stride=MEL_STACK)
    return Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE,
        padding_value=0.0,
        do_normalize=getattr(config, "do_normalize", True),
        return_attention_mask=True,  # also for group-norm models, which are fine-tuned here with padding masked
    )


def export_start(start: Path, output: Path) -> None:
    """Copy a pre-trained start into the folder `output`, with its weights in float16.

    Raises:
        CheckpointError: it cannot be a start, is not finished, or has weights that are not finite in float16.
    """
    load_config(start)
    if not (start / "model.safetensors").is_file():
        raise CheckpointError(f"{start}: no model.safetensors; the start has not been trained to its end")
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "curve.parquet"):
        if (start / name).is_file():
            shutil.copyfile(start / name, output / name)
    weights = load_file(start / "model.safetensors")
    check_finite(start, weights)
    weights = {name: weight.half() for name, weight in weights.items()}
    check_finite(f"{start}, in float16", weights)
    with written_whole(output / "model.safetensors") as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    if recipe := own_recipe(start):
        write_json(output / "recipe.json", sealed({**recipe, "weights": file_hash(output / "model.safetensors")}))
