"""Which corpora of a study have been read into `data/manifests`, for which study, and whether they are still the same.

The process that plans a study calls `follow_corpora` before anything else; changes.py says what happens then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.changes import RECORD, follow
from headstart.corpora.reader import CorpusError
from headstart.files import read_json, write_json
from headstart.study.reading import StudyError
from headstart.training.recipes import differences

if TYPE_CHECKING:
    from headstart.workflow import Workflow

OWNER = "study.json"  # beside the manifests: whose they are


def manifests_folder(corpus: str) -> Path:
    """The folder of a corpus's manifests."""
    return Path("data/manifests") / corpus


def followed(workflow: Workflow, corpus: str) -> bool:
    """Whether the manifests of a corpus follow its edits. Those of synthetic ones are made by jobs alone."""
    return corpus not in workflow.synthetic() and (manifests_folder(corpus) / RECORD).is_file()


def unread(workflow: Workflow) -> list[str]:
    """The corpora that a job may read: synthetic ones, and those of which a manifest is missing."""

    def there(corpus: str) -> bool:
        files = workflow.corpus_files(corpus).values()
        return all(os.path.isfile(path) for own in files for path in (own.manifest, own.rejects))

    return [name for name in workflow.study.corpora if name in workflow.synthetic() or not there(name)]


def follow_corpora(workflow: Workflow, processes: int) -> list[str]:
    """Let the manifests of recorded corpora follow what was edited since they were read.

    Args:
        processes: that open audio.

    Returns:
        A sentence for each thing that has changed.

    Raises:
        StudyError: a corpus cannot be read any more.
    """
    said = []
    for name in workflow.study.corpora:
        files = workflow.corpus_files(name)
        if name in workflow.synthetic() or not any(os.path.isfile(own.manifest) for own in files.values()):
            continue
        record = manifests_folder(name) / RECORD
        try:
            said += follow(workflow.reader(name), files, workflow.corpus_settings(name), record, processes)
        except (CorpusError, OSError) as error:
            raise StudyError(f"corpora.{name}: {error}") from None
    return said


def clash(workflow: Workflow, corpus: str) -> str | None:
    """Why the files of a corpus are those of another one, which another study has under the same name."""
    try:
        owner = read_json(manifests_folder(corpus) / OWNER)
    except (OSError, ValueError):
        return None
    lines = differences(workflow.recordings(corpus), owner["corpus"])
    if owner["study"] == workflow.study.study or not lines:
        return None
    return (
        f"study {owner['study']!r} has another corpus of this name ({lines[0]} there), and its files are in data/. "
        f"Give one of them another name, or delete {manifests_folder(corpus)} and data/features/{corpus}"
    )


def claim_corpora(workflow: Workflow) -> None:
    """Record that the files of the corpora are those of this study, so that no other overwrites them unasked."""
    for name in workflow.study.corpora:
        owner = {"study": workflow.study.study, "corpus": workflow.recordings(name)}
        path = manifests_folder(name) / OWNER
        if not path.is_file() or read_json(path)["corpus"] != owner["corpus"]:
            write_json(path, owner)
