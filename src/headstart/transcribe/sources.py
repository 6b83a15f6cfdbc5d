"""The recordings that a command line names, and the names of their transcripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from headstart.audio.suffixes import AUDIO
from headstart.errors import HeadstartError


@dataclass(frozen=True)
class Source:
    """A recording.

    Attributes:
        path: of the file.
        name: of its transcripts without a suffix, relative to the output folder; no two of them are equal.
    """

    path: Path
    name: str


def sources(named: Sequence[Path]) -> list[Source]:
    """The recordings of files and folders, each once, in the order in which they are named, and in folders by name.

    A folder is searched with all folders in it; its recordings keep their place below it in their names.

    Raises:
        HeadstartError: a name is of no file or folder, a folder has no recording, or the transcripts of two recordings
            would have the same name.
    """
    found: dict[Path, PurePath] = {}
    for path in named:
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO and file.is_file())
            below = [file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if not below:
                raise HeadstartError(f"{path}: no audio file in this folder; name files, or a folder that holds some")
            for file in below:
                found.setdefault(file, file.relative_to(path))
        elif path.exists():
            found.setdefault(path, PurePath(path.name))
        else:
            raise HeadstartError(f"{path}: no such file or folder")
    plain = Counter(name.with_suffix("").as_posix() for name in found.values())
    made: dict[str, Path] = {}
    for path, place in found.items():
        name = place.with_suffix("").as_posix()
        name = name if plain[name] == 1 else place.as_posix()
        if name in made:
            raise HeadstartError(
                f"{made[name]} and {path} would have transcripts of the same name; transcribe the folders that hold "
                "them one after the other, into different output folders, or name a folder above both"
            )
        made[name] = path
    return [Source(path, name) for name, path in made.items()]
