"""Fetching of models from a hub: resolve the revision to a commit, download what is loaded, write a checkpoint folder.

huggingface_hub does the downloads, into the cache that it shares with all other tools of the user (HF_HOME). The
folder in `data/models` takes no further space where links are possible, unless the weights had to be converted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

from headstart.encoder.checkpoint_files import (
    SETTINGS,
    WEIGHTS,
    CheckpointError,
    check_config,
    check_names,
    file_hash,
    read_settings,
)
from headstart.encoder.hub_errors import UNREACHABLE, explained, in_short
from headstart.encoder.hub_folder import FILES, SOURCE, adapter_file, pin_file, source_of
from headstart.files import read_json, write_json, written_whole
from headstart.jobs import FetchJob

log = logging.getLogger(__name__)
for name in ("httpx", "httpx2"):  # of huggingface_hub 1 and 2; their lines have addresses that are signed for the user
    logging.getLogger(name).setLevel(logging.WARNING)

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """One commit of a hub's model.

    Attributes:
        sizes: bytes of each file of the repository; of those in the cache, if the hub was not asked.
        licence: as the model's card says; None if that is not known.
    """

    commit: str
    sizes: dict[str, int]
    licence: str | None


def fetch_model(job: FetchJob, update: bool = False) -> dict[str, Any]:
    """Write the checkpoint folder of one revision of a hub's model, and return its record (see `source_of`).

    A branch or tag is resolved to a commit when it is first fetched. Later calls keep to this commit. A complete folder
    of the right commit is left as it is.

    Args:
        update: resolve the revision again.

    Raises:
        CheckpointError: the model cannot be fetched or cannot be a start. The message says what to do.
    """
    folder = Path(job.output)
    found = source_of(folder) if all((folder / name).is_file() for name in FILES) else None
    if found and found["commit"] == job.revision:
        return found
    pin = _pin(folder)
    with explained(job.model, job.revision):
        snapshot = _snapshot(job, pin, update)
        name = f"{job.model} at {snapshot.commit}"
        _say_moves(job, pin, snapshot, update)
        if found and found["commit"] == snapshot.commit:
            return found
        try:
            check_names(snapshot.sizes)
            settings = [_download(job.model, snapshot, file) for file in SETTINGS if file in snapshot.sizes]
            check_config(settings[0].parent)
            weights = _weights(job.model, snapshot)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {_local(str(error), job, snapshot)}") from None
        log.info("%s: %s", name, ", ".join(_described(file, snapshot.sizes.get(file)) for file in weights))
        paths = [_download(job.model, snapshot, file) for file in weights]
    write_json(pin_file(folder), {"model": job.model, "revision": job.revision, "commit": snapshot.commit})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SOURCE).unlink(missing_ok=True)  # it is written last: a folder that has it is complete
    _write_weights(paths, folder / "model.safetensors", name)
    with written_whole(folder / "config.json") as temporary:
        shutil.copyfile(settings[0], temporary)
    write_json(folder / "preprocessor_config.json", read_settings(settings[0].parent))
    source = {
        "model": job.model,
        "revision": job.revision,
        "commit": snapshot.commit,
        "licence": snapshot.licence,
        "files": {path.name: file_hash(path) for path in [*settings, *paths] if path.name not in WEIGHTS[1::2]},
    }
    write_json(folder / SOURCE, source)
    log.info("%s: complete, in %s", name, folder)
    return source


def fetch_adapter(job: FetchJob, language: str) -> None:
    """Write the adapter of a language of MMS into the folder of the fetched model.

    Raises:
        CheckpointError: the model has no such adapter, or it cannot be fetched.
    """
    source = source_of(job.output)
    file = Path(adapter_file(job.output, language)).name
    snapshot = Snapshot(source["commit"], {}, None)
    with explained(job.model, source["commit"]):
        try:
            _link(_download(job.model, snapshot, file), Path(job.output) / file)
        except RemoteEntryNotFoundError:
            raise CheckpointError(
                f"{job.model} at {source['commit']}: there is no {file}; `adapter` is a code of MMS such as swh, and "
                f"the model's adapters are listed at {constants.ENDPOINT}/{job.model}/tree/main"
            ) from None


# ---------------------------------------------------------------------------------------------- the commit


def _pin(folder: Path) -> dict[str, Any] | None:
    """The recorded commit of a branch or tag; None when it was never fetched."""
    path = pin_file(folder)
    try:
        pin = read_json(path) if path.is_file() else None
        return None if pin is None else {"commit": str(pin["commit"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not the record of a commit: {error!r}; delete it to take the newest") from None


def _snapshot(job: FetchJob, pin: dict[str, Any] | None, update: bool) -> Snapshot:
    """The commit that the job's revision stands for, and its files: from the hub, or from the cache without it."""
    fixed = job.revision if COMMIT.fullmatch(job.revision) else pin["commit"] if pin and not update else None
    try:
        return _asked(job.model, fixed or job.revision)
    except UNREACHABLE as error:
        reached = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        commit = fixed or (None if reached else _cached_commit(job))
        cached = _cached_sizes(job.model, commit) if commit else {}
        if not any(name in cached for name in WEIGHTS):
            raise
        log.info("%s: the hub did not answer (%s); from the cache", job.model, in_short(error))
        return Snapshot(commit, cached, None)


def _asked(model: str, revision: str) -> Snapshot:
    info = huggingface_hub.HfApi().model_info(model, revision=revision, files_metadata=True)
    card = getattr(info, "card_data", None) or {}
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    licence = card.get("license_name") or card.get("license")  # the name is given where the licence is `other`
    return Snapshot(info.sha, sizes, licence if isinstance(licence, str) else None)


def _cached_commit(job: FetchJob) -> str | None:
    """The commit that any tool of the user last resolved the revision to."""
    path = _cache(job.model) / "refs" / job.revision
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _cached_sizes(model: str, commit: str) -> dict[str, int]:
    folder = _cache(model) / "snapshots" / commit
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}


def _cache(model: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"


def _say_moves(job: FetchJob, pin: dict[str, Any] | None, snapshot: Snapshot, update: bool) -> None:
    """Log when a branch or tag is another commit than the recorded one."""
    if pin is None or COMMIT.fullmatch(job.revision):
        return
    was = pin["commit"]
    if update and snapshot.commit != was:
        log.warning("%s: %s was commit %s and is now %s", job.model, job.revision, was, snapshot.commit)
    elif not update:
        with contextlib.suppress(*UNREACHABLE):
            now = _asked(job.model, job.revision).commit
            if now != was:
                log.warning(
                    "%s: %s has moved from commit %s to %s. The recorded commit is used; `headstart fetch --update` "
                    "takes the new one",
                    job.model,
                    job.revision,
                    was,
                    now,
                )


# ---------------------------------------------------------------------------------------------- downloads


def _weights(model: str, snapshot: Snapshot) -> list[str]:
    """The names of the files of weights: one, or an index of shards and the shards."""
    name = next((name for name in WEIGHTS if name in snapshot.sizes), None)
    if name is None:
        raise CheckpointError(f"there are no weights ({WEIGHTS[0]} or {WEIGHTS[2]}) in the repository")
    if not name.endswith(".json"):
        return [name]
    index = _download(model, snapshot, name)
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{name} is not an index of weights: {error}") from None
    if strange := [shard for shard in shards if "/" in shard or "\\" in shard]:
        raise CheckpointError(f"{name} names a file of another folder, {strange[0]}")
    return [name, *shards]


def _download(model: str, snapshot: Snapshot, name: str) -> Path:
    """Path in the cache of one file."""
    return Path(huggingface_hub.hf_hub_download(model, name, revision=snapshot.commit))


def _described(name: str, size: int | None) -> str:
    return f"{name} ({size / 1e6:,.0f} MB)" if size else name


def _local(message: str, job: FetchJob, snapshot: Snapshot) -> str:
    """A message about a file without the path of the cache."""
    return message.replace(f"{_cache(job.model) / 'snapshots' / snapshot.commit}/", "")


def _write_weights(paths: list[Path], output: Path, name: str) -> None:
    """Write the weights as one safetensors file: a link where they are one already."""
    if paths[0].suffix == ".safetensors":
        _link(paths[0], output)
        return
    from headstart.encoder.conversion import converted  # here, because it imports torch

    shards = paths[1:] if paths[0].suffix == ".json" else paths
    with written_whole(output) as temporary:
        converted(shards, temporary, name)


def _link(path: Path, output: Path) -> None:
    """Make `output` a link to a file of the cache; a copy where the file system has no links."""
    real = path.resolve()
    with written_whole(output) as temporary:
        for link in (os.link, os.symlink, shutil.copyfile):
            try:
                link(real, temporary)
                return
            except OSError:
                continue
    raise CheckpointError(f"{output}: cannot be written; is the disk full?")
