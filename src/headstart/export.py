"""Exporting what a study has trained: folders that can be moved and shared, and their way to a hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from headstart.encoder.checkpoint_files import CheckpointError, checkpoint_content, own_recipe
from headstart.errors import HeadstartError
from headstart.files import place_folder, write_json
from headstart.transcribe.language_model import ARPA, DECODING, FOLDER, RECIPE, language_model_of

CARD = "README.md"
NEEDED = ("model.safetensors", "config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json")
FILES = (*NEEDED, "special_tokens_map.json", "recipe.json", "curve.parquet", CARD)


def export(model: Path, output: Path) -> list[str]:
    """Copy a fine-tuned run, or a pre-trained start in half precision, into a folder that needs no other.

    A run's language model goes with it, into the folder `language_model`, with the weights that were tuned for the run.
    An output folder to which the same run was exported before stays as it is.

    Returns:
        Remarks on what the folder lacks.

    Raises:
        CheckpointError: it is not finished or damaged.
        HeadstartError: the output folder holds something else.
    """
    recipe = own_recipe(model)
    if not (model / "vocab.json").is_file() and (recipe or {}).get("stage") != "finetune":
        from headstart.encoder.checkpoints import export_start

        export_start(model, output)
        return []
    if missing := [name for name in NEEDED if not (model / name).is_file()]:
        raise CheckpointError(f"{model}: no {missing[0]}; the run has not been trained to its end")
    checkpoint_content(model)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        before = own_recipe(output)
        if not before or not recipe or before.get("weights") != recipe.get("weights"):
            raise HeadstartError(f"{output}: not empty; name a new folder, or delete this one")
        return []
    language_model = language_model_of(model)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in FILES:
        if (model / name).is_file():
            shutil.copyfile(model / name, partial / name)
    if language_model:
        files, weights, search = language_model
        (partial / FOLDER).mkdir()
        shutil.copyfile(files.arpa, partial / FOLDER / ARPA)
        shutil.copyfile(files.recipe, partial / FOLDER / RECIPE)
        decoding = {**weights._asdict(), "beam": search.beam, "n_best": search.n_best}
        write_json(partial / FOLDER / DECODING, decoding)
    if output.exists():
        output.rmdir()
    place_folder(partial, output)
    remarks = []
    if not language_model:
        remarks.append("no language model is with it, because the run has none")
    if not (output / CARD).is_file():
        remarks.append(
            f"no model card ({CARD}) is with it, because the study's report, with which cards are written, is not"
        )
    return remarks


def push(folder: Path, name: str, private: bool = False) -> str:
    """Upload a folder to a model repository of the hub, which is made if need be; returns its address.

    The hub is https://huggingface.co, or the one that the environment variable HF_ENDPOINT names.

    Args:
        name: of the repository, such as `user/name`.
        private: whether a new repository can be seen by its owner only.

    Raises:
        HeadstartError: there is no token for the hub, or the hub refuses it or the files, or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    if get_token() is None:
        raise HeadstartError(
            "--push: there is no token for the hub; make one with the right to write, and set HF_TOKEN to it or run "
            "`hf auth login`"
        )
    api = HfApi(library_name="headstart")
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a model fine-tuned with Headstart")
    except HFValidationError as error:
        raise HeadstartError(f"--push {name}: not a name of a repository, which is USER/NAME: {error}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        why = {
            401: "the hub does not accept the token; make a new one, and set HF_TOKEN to it",
            403: "the token may not write there; make one with the right to write, or name a repository of your own",
        }.get(status, " ".join(str(error).split()))
        raise HeadstartError(f"--push {name}: {why}") from None
    except (HTTPError, OSError) as error:
        raise HeadstartError(f"--push {name}: the hub at {api.endpoint} cannot be reached: {error}") from None
    return str(address)
